"""Activations as layers."""

from typing import ClassVar

import numpy as np

from .. import _backends
from .._attributes import Check
from .._specification.kernels import OF_INPUT
from .layer import Layer
from .passes import Bound, Calls, Context, run

__all__ = ["LogSigmoid", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh"]


class Activation(Layer):
    """A function of every element, whose gradient follows from its output, or else from its input."""

    function: str  # the name of the kernel

    _attributes: ClassVar[dict[str, Check | None]] = {**Layer._attributes, "function": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        backend = _backends.active
        y = context.array(x.shape, x.dtype)

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            value = x if self.function in OF_INPUT else y
            return [] if dx is None else [backend.bind(f"{self.function}_backward", (dy, value, dx))]

        return Bound(y, run([backend.bind(self.function, (x, y))]), backward)


class Sigmoid(Activation):
    r"""The logistic function as a layer: :math:`y = 1 / (1 + e^{-x})`, element by element.

    See `fastopt.sigmoid`. In a `Sequential`, directly after a `Linear` or `BatchNorm`, the two run as one: the sigmoid
    costs no pass over memory of its own.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.Sigmoid()(np.zeros((1, 2)))
    array([[0.5, 0.5]])
    """

    function = "sigmoid"


class Tanh(Activation):
    r"""The hyperbolic tangent as a layer: :math:`y = \tanh(x)`, element by element.

    See `fastopt.tanh`. In a `Sequential`, directly after a `Linear` or `BatchNorm`, the two run as one.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.Tanh()(np.array([[0.0, np.inf]]))
    array([[0., 1.]])
    """

    function = "tanh"


class ReLU(Activation):
    r"""The rectified linear unit as a layer: :math:`y = \max(x, 0)`, element by element.

    See `fastopt.relu`. In a `Sequential`, directly after a `Linear` or `BatchNorm`, the two run as one.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.ReLU()(np.array([[-2.0, 0.0, 2.0]]))
    array([[0., 0., 2.]])
    """

    function = "relu"


class Softplus(Activation):
    r"""The softplus as a layer: :math:`y = \log(1 + e^x)`, element by element.

    See `fastopt.softplus`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.Softplus()(np.array([[0.0, 1000.0]]))
    array([[6.93147181e-01, 1.00000000e+03]])
    """

    function = "softplus"


class LogSigmoid(Activation):
    r"""The logarithm of the logistic function as a layer: :math:`y = -\log(1 + e^{-x})`, element by element.

    See `fastopt.log_sigmoid`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.LogSigmoid()(np.array([[-1000.0, 0.0]]))
    array([[-1.00000000e+03, -6.93147181e-01]])
    """

    function = "log_sigmoid"


class SiLU(Activation):
    r"""The sigmoid-weighted linear unit as a layer: :math:`y = x \, \sigma(x)`, element by element; also called swish.

    See `fastopt.silu`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.SiLU()(np.array([[-1.0, 0.0, 1.0]]))
    array([[-0.26894142,  0.        ,  0.73105858]])
    """

    function = "silu"
