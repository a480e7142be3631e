"""Activations as layers."""

from typing import ClassVar

import numpy as np

from .. import _backends
from .._checks import a_number, one_of
from .._specification.kernels import OF_INPUT
from .attributes import Check
from .layer import Layer
from .passes import Bound, Calls, Context, run

__all__ = ["ELU", "GELU", "LeakyReLU", "LogSigmoid", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh"]


class Activation(Layer):
    """A function of every element, whose gradient follows from its output, or else from its input."""

    function: str  # the name of the kernel
    option: str | None = None  # the attribute that holds the number which the kernel takes, if it takes one

    _attributes: ClassVar[dict[str, Check | None]] = {**Layer._attributes, "function": None, "option": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        backend, function = _backends.active, self.function
        y = context.array(x.shape, x.dtype)

        def numbers() -> tuple[float, ...]:
            return () if self.option is None else (getattr(self, self.option),)

        bound = [backend.bind(function, (x, y), numbers())]
        forward = list(bound)

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            if dx is None:
                return []
            value = x if function in OF_INPUT else y
            bound.append(backend.bind(f"{function}_backward", (dy, value, dx), numbers()))
            return bound[-1:]

        def prepare() -> None:
            for instruction in bound:
                instruction.set(*numbers())

        return Bound(y, run(forward), backward, [] if self.option is None else [prepare])


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


class GELU(Activation):
    r"""The Gaussian error linear unit as a layer: :math:`y = x \, \Phi(x)`, element by element.

    See `fastopt.gelu`.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        The form: that, or `fastopt.gelu_tanh`.

    Raises
    ------
    ValueError
        If ``approximate`` is another word.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.GELU()(np.array([[-1.0, 0.0, 1.0]]))
    array([[-0.15865525,  0.        ,  0.84134475]])
    """

    function = "gelu"

    _attributes: ClassVar[dict[str, Check | None]] = {**Activation._attributes, "approximate": None}

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = one_of("none", "tanh")("approximate", approximate)
        if approximate == "tanh":
            object.__setattr__(self, "function", "gelu_tanh")

    def __repr__(self) -> str:
        return "GELU()" if self.approximate == "none" else f"GELU(approximate={self.approximate!r})"


class LeakyReLU(Activation):
    r"""The rectified linear unit with a slope below 0 as a layer: :math:`y = \max(x, 0) + a \min(x, 0)`.

    See `fastopt.leaky_relu`.

    Parameters
    ----------
    negative_slope : float
        a; a new one, set later, is that of the next forward pass.

    Raises
    ------
    TypeError, ValueError
        If ``negative_slope`` is no finite number.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.LeakyReLU(0.1)(np.array([[-2.0, 0.0, 2.0]]))
    array([[-0.2,  0. ,  2. ]])
    """

    function, option = "leaky_relu", "negative_slope"

    _attributes: ClassVar[dict[str, Check | None]] = {**Activation._attributes, "negative_slope": a_number}

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = negative_slope

    def __repr__(self) -> str:
        return f"LeakyReLU({'' if self.negative_slope == 0.01 else self.negative_slope})"


class ELU(Activation):
    r"""The exponential linear unit as a layer: :math:`y = \max(x, 0) + \alpha (e^{\min(x, 0)} - 1)`.

    See `fastopt.elu`.

    Parameters
    ----------
    alpha : float
        A new one, set later, is that of the next forward pass.

    Raises
    ------
    TypeError, ValueError
        If ``alpha`` is no finite number.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.ELU()(np.array([[-1.0, 0.0, 2.0]]))
    array([[-0.63212056,  0.        ,  2.        ]])
    """

    function, option = "elu", "alpha"

    _attributes: ClassVar[dict[str, Check | None]] = {**Activation._attributes, "alpha": a_number}

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def __repr__(self) -> str:
        return f"ELU({'' if self.alpha == 1.0 else self.alpha})"
