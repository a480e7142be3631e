"""Activations, forward and backward."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import _backends
from .._checks import a_number
from .arrays import FLOAT32, FLOAT64, alike, from_scalar, is_scalar, output, read, read_like

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_sigmoid",
    "log_sigmoid_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]


def _forward(kernel: Callable[..., None], x: ndarray, out: ndarray | None) -> ndarray:
    if (
        type(x) is ndarray
        and ((dtype := x.dtype) is FLOAT32 or dtype is FLOAT64)
        and (out is None or (type(out) is ndarray and out.dtype is dtype and out.shape == x.shape))
    ):  # as `alike`, of two
        try:
            y = np.empty(x.shape, dtype) if out is None else out
            kernel(x, y)
            return y
        except ValueError:
            pass
    if is_scalar(x) and out is None:
        return _forward(kernel, from_scalar(x), None)[()]
    x = read(x, "x")
    y = output(out, x, "x", x=x)
    kernel(x, y)
    return y


def _backward(kernel: Callable[..., None], dy: ndarray, value: ndarray, name: str, out: ndarray | None) -> ndarray:
    if alike(dy, value, value if out is None else out):
        try:
            dx = np.empty(value.shape, value.dtype) if out is None else out
            kernel(dy, value, dx)
            return dx
        except ValueError:
            pass
    if is_scalar(value) and is_scalar(dy) and out is None:
        of_value = from_scalar(value)
        return _backward(kernel, from_scalar(dy).astype(of_value.dtype), of_value, name, None)[()]
    value = read(value, name)
    dy = read_like(dy, "dy", value, name)
    dx = output(out, value, name, dy=dy, **{name: value})
    kernel(dy, value, dx)
    return dx


def sigmoid(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The logistic function :math:`\sigma(x) = 1 / (1 + e^{-x})`, element by element.

    Neither overflows nor warns at any x, infinities included; NaN stays NaN. Within 2 ulp of the correctly rounded
    value, and the same bits in every backend, on every instruction set and with any number of threads.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape; or a number
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Returns
    -------
    ndarray
        ``out``, or a new array of x's shape and dtype. For a number, a float64 of NumPy's, or a float32 if it is one.

    Raises
    ------
    TypeError
        If ``x`` or ``out`` is no array, or of another dtype.
    ValueError
        If ``out`` has another shape, is not C-contiguous, read-only, or overlaps a part of ``x``.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.sigmoid(np.array([-np.inf, 0.0, np.inf]))
    array([0. , 0.5, 1. ])
    """
    return _forward(_backends.active.sigmoid, x, out)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The gradient of a sigmoid's input, from that of its output: :math:`dx = dy \cdot y (1 - y)`.

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    y : ndarray like ``dy``
        The output, as `sigmoid` gave it.
    out : ndarray, optional
        Where to put the result: an array like ``y``, which may be ``dy`` or ``y``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`, and if ``dy`` and ``y`` differ in shape or dtype.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> y = fo.sigmoid(np.zeros(3))
    >>> fo.sigmoid_backward(np.ones(3), y)
    array([0.25, 0.25, 0.25])
    """
    return _backward(_backends.active.sigmoid_backward, dy, y, "y", out)


def softmax(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The softmax of every row: what `softmax_cross_entropy` takes logits for, as probabilities.

    .. math:: y_{j} = \frac{e^{x_{j}}}{\sum_k e^{x_{k}}}

    A row is the last axis. Neither overflows nor warns at any x: -inf has probability 0, inf takes all of it, shared
    among those of a row. A row with NaN, or of nothing but -inf, is NaN. Sums are taken in double, in a fixed order:
    the bits are the same in every backend, on every instruction set and with any number of threads.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., classes)
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`; if ``x`` has no axis, or the last one is empty.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    x = read(x, "x")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x has shape {x.shape}: softmax is over the last axis, which must hold at least one class")
    y = output(out, x, "x", x=x)
    if x.size:
        rows = -1, x.shape[-1]
        _backends.active.softmax(x.reshape(rows), y.reshape(rows))
    return y


def tanh(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The hyperbolic tangent, element by element.

    .. math:: \tanh(x) = \frac{1 - e^{-2x}}{1 + e^{-2x}}

    Within 3 ulp of the correctly rounded value at any x; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.tanh(np.array([-np.inf, 0.0, 0.5]))
    array([-1.        ,  0.        ,  0.46211716])
    """
    return _forward(_backends.active.tanh, x, out)


def tanh_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The gradient of the hyperbolic tangent's input, from that of its output.

    .. math:: dx = dy \, (1 - y) (1 + y)

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    y : ndarray like ``dy``
        The output, as `tanh` gave it.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``y``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.tanh_backward(np.ones(3), np.array([-1.0, 0.0, 0.5]))
    array([0.  , 1.  , 0.75])
    """
    return _backward(_backends.active.tanh_backward, dy, y, "y", out)


def relu(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The rectified linear unit, element by element.

    .. math:: \mathrm{relu}(x) = \max(x, 0)

    NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.relu(np.array([-2.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _forward(_backends.active.relu, x, out)


def relu_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The gradient of the rectified linear unit's input, from that of its output.

    .. math:: dx = dy \, [y > 0]

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    y : ndarray like ``dy``
        The output, as `relu` gave it, or the input.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``y``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.relu_backward(np.ones(3), np.array([0.0, 1.0, 2.0]))
    array([0., 1., 1.])
    """
    return _backward(_backends.active.relu_backward, dy, y, "y", out)


def softplus(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The softplus, a smooth maximum of x and 0, element by element.

    .. math:: \mathrm{softplus}(x) = \log(1 + e^x) = \max(x, 0) + \log(1 + e^{-|x|})

    Within 3 ulp of the correctly rounded value at any x; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.softplus(np.array([-np.inf, 0.0, 1000.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    return _forward(_backends.active.softplus, x, out)


def softplus_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The gradient of the softplus's input, from that of its output.

    .. math:: dx = dy \, \sigma(x)

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    x : ndarray like ``dy``
        The input of `softplus`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``x``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.softplus_backward(np.ones(3), np.array([-1.0, 0.0, np.inf]))
    array([0.26894142, 0.5       , 1.        ])
    """
    return _backward(_backends.active.softplus_backward, dy, x, "x", out)


def log_sigmoid(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The logarithm of the sigmoid, element by element.

    .. math:: \log \sigma(x) = -\log(1 + e^{-x}) = -\mathrm{softplus}(-x)

    Within 3 ulp of the correctly rounded value at any x; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.log_sigmoid(np.array([-1000.0, 0.0, np.inf]))
    array([-1.00000000e+03, -6.93147181e-01, -0.00000000e+00])
    """
    return _forward(_backends.active.log_sigmoid, x, out)


def log_sigmoid_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The gradient of the log-sigmoid's input, from that of its output.

    .. math:: dx = dy \, \sigma(-x)

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    x : ndarray like ``dy``
        The input of `log_sigmoid`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``x``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.log_sigmoid_backward(np.ones(3), np.array([-1.0, 0.0, np.inf]))
    array([0.73105858, 0.5       , 0.        ])
    """
    return _backward(_backends.active.log_sigmoid_backward, dy, x, "x", out)


def silu(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The input times its sigmoid, element by element; also called swish.

    .. math:: \mathrm{silu}(x) = x \, \sigma(x)

    Within 3 ulp of the correctly rounded value where σ(x) is a normal number; NaN stays NaN, and -inf becomes NaN, as
    in PyTorch.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`.

    References
    ----------
    S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning", Neural Networks 107, 2018, equation 2.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.silu(np.array([-1.0, 0.0, 1.0, 100.0]))
    array([ -0.26894142,   0.        ,   0.73105858, 100.        ])
    """
    return _forward(_backends.active.silu, x, out)


def silu_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The gradient of the input of `silu`, from that of its output.

    .. math:: dx = dy \, \sigma(x) \left( 1 + x (1 - \sigma(x)) \right)

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    x : ndarray like ``dy``
        The input of `silu`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``x``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.silu_backward(np.ones(3), np.array([-1.0, 0.0, 100.0]))
    array([0.07232949, 0.5       , 1.        ])
    """
    return _backward(_backends.active.silu_backward, dy, x, "x", out)


def gelu(x: np.ndarray, out: np.ndarray | None = None, *, approximate: str = "none") -> np.ndarray:
    r"""The Gaussian error linear unit, element by element.

    .. math::
        \mathrm{gelu}(x) = x \, \Phi(x), \qquad \Phi(x) = \frac{1}{2} \left( 1 + \mathrm{erf}(x / \sqrt{2}) \right)

    Within 5 ulp of the correctly rounded value where Φ(x) is a normal number: negative x, where 1 + erf has hardly a
    digit left, included. NaN stays NaN, and -inf becomes NaN, as in PyTorch.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.
    approximate : {"none", "tanh"}
        The form: as above, or that of `gelu_tanh`.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`; if ``approximate`` is another word.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)" (2016).

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.gelu(np.array([-10.0, -1.0, 0.0, 1.0]))
    array([-7.61985302e-23, -1.58655254e-01,  0.00000000e+00,  8.41344746e-01])
    """
    return _forward(_gelu(approximate, "gelu"), x, out)


def gelu_backward(
    dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None, *, approximate: str = "none"
) -> np.ndarray:
    r"""The gradient of the input of `gelu`, from that of its output.

    .. math:: dx = dy \left( \Phi(x) + \frac{x}{\sqrt{2 \pi}} e^{-x^2/2} \right)

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    x : ndarray like ``dy``
        The input of `gelu`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``x``.
    approximate : {"none", "tanh"}
        That of the forward pass: the form: as above, or that of `gelu_tanh`.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`; if ``approximate`` is another word.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.gelu_backward(np.ones(3), np.array([-1.0, 0.0, 1.0]))
    array([-0.08331547,  0.5       ,  1.08331547])
    """
    return _backward(_gelu(approximate, "gelu", "_backward"), dy, x, "x", out)


def _gelu(approximate: str, name: str, kind: str = "") -> Any:
    """The kernel of that form."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh", not {approximate!r}')
    return getattr(_backends.active, name + ("_tanh" if approximate == "tanh" else "") + kind)


def gelu_tanh(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The form of `gelu` with tanh, element by element: ``gelu(x, approximate="tanh")``.

    .. math:: y = \frac{x}{2} \left( 1 + \tanh\left( \sqrt{2/\pi} \, (x + 0.044715 \, x^3) \right) \right)

    It is computed as x times a sigmoid, so that no digits cancel: within 4 ulp of the correctly rounded value where
    x ≥ -1; further down the relative error grows with the exponent. NaN stays NaN, and -inf becomes NaN, as in PyTorch.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)" (2016).

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.gelu_tanh(np.array([-1.0, 0.0, 1.0]))
    array([-0.15880801,  0.        ,  0.84119199])
    """
    return _forward(_backends.active.gelu_tanh, x, out)


def gelu_tanh_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The gradient of the input of `gelu_tanh`, from that of its output.

    .. math::
        dx = dy \, s \left( 1 + x (1 - s) \, 2 v' \right), \qquad s = \sigma(2 v), \qquad
        v = \sqrt{2/\pi} \, (x + 0.044715 \, x^3)

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    x : ndarray like ``dy``
        The input of `gelu_tanh`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``x``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.gelu_tanh_backward(np.ones(3), np.array([-1.0, 0.0, 1.0]))
    array([-0.08296408,  0.5       ,  1.08296408])
    """
    return _backward(_backends.active.gelu_tanh_backward, dy, x, "x", out)


def leaky_relu(x: np.ndarray, out: np.ndarray | None = None, *, negative_slope: float = 0.01) -> np.ndarray:
    r"""The rectified linear unit with a slope below 0, too, element by element.

    .. math:: \mathrm{leaky\_relu}(x) = \begin{cases} x & x > 0 \\ a x & x \le 0 \end{cases}

    NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.
    negative_slope : float
        The factor a below 0.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`, and if ``negative_slope`` is no finite number.

    References
    ----------
    A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.leaky_relu(np.array([-2.0, 0.0, 2.0]))
    array([-0.02,  0.  ,  2.  ])
    """
    negative_slope = a_number("negative_slope", negative_slope)

    def kernel(x: np.ndarray, y: np.ndarray) -> None:
        _backends.active.leaky_relu(x, y, negative_slope)

    return _forward(kernel, x, out)


def leaky_relu_backward(
    dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None, *, negative_slope: float = 0.01
) -> np.ndarray:
    r"""The gradient of the input of `leaky_relu`, from that of its output.

    .. math:: dx = dy \begin{cases} 1 & x > 0 \\ a & x \le 0 \end{cases}

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    x : ndarray like ``dy``
        The input of `leaky_relu`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``x``.
    negative_slope : float
        That of the forward pass: the factor a below 0.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`, and if ``negative_slope`` is no finite number.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.leaky_relu_backward(np.ones(3), np.array([-2.0, 0.0, 2.0]))
    array([0.01, 0.01, 1.  ])
    """
    negative_slope = a_number("negative_slope", negative_slope)

    def kernel(dy: np.ndarray, x: np.ndarray, dx: np.ndarray) -> None:
        _backends.active.leaky_relu_backward(dy, x, dx, negative_slope)

    return _backward(kernel, dy, x, "x", out)


def elu(x: np.ndarray, out: np.ndarray | None = None, *, alpha: float = 1.0) -> np.ndarray:
    r"""The exponential linear unit, element by element.

    .. math:: \mathrm{elu}(x) = \begin{cases} x & x > 0 \\ \alpha (e^x - 1) & x \le 0 \end{cases}

    Within 3 ulp of the correctly rounded value at any x; NaN stays NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.
    alpha : float
        The factor below 0.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`, and if ``alpha`` is no finite number.

    References
    ----------
    D.-A. Clevert, T. Unterthiner and S. Hochreiter, "Fast and accurate deep network learning by exponential linear
    units (ELUs)", ICLR 2016, equation 16.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.elu(np.array([-np.inf, -1.0, 0.0, 2.0]))
    array([-1.        , -0.63212056,  0.        ,  2.        ])
    """
    alpha = a_number("alpha", alpha)

    def kernel(x: np.ndarray, y: np.ndarray) -> None:
        _backends.active.elu(x, y, alpha)

    return _forward(kernel, x, out)


def elu_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray | None = None, *, alpha: float = 1.0) -> np.ndarray:
    r"""The gradient of the input of `elu`, from that of its output.

    .. math:: dx = dy \begin{cases} 1 & x > 0 \\ \alpha e^x & x \le 0 \end{cases}

    Parameters
    ----------
    dy : ndarray of float32 or float64
        The gradient with respect to the output.
    x : ndarray like ``dy``
        The input of `elu`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, which may be ``dy`` or ``x``.
    alpha : float
        That of the forward pass: the factor below 0.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_backward`, and if ``alpha`` is no finite number.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.elu_backward(np.ones(3), np.array([-1.0, 0.0, 2.0]))
    array([0.36787944, 1.        , 1.        ])
    """
    alpha = a_number("alpha", alpha)

    def kernel(dy: np.ndarray, x: np.ndarray, dx: np.ndarray) -> None:
        _backends.active.elu_backward(dy, x, dx, alpha)

    return _backward(kernel, dy, x, "x", out)
