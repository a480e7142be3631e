"""The functions of arrays: activations and losses, forward and backward.

All take C-contiguous float32 or float64 arrays of any shape. What is only read may also be strided or of
another layout (it is then copied); what is written may not.
"""

from typing import Literal, overload

import numpy as np

from . import _backends

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def _read(x: np.ndarray, name: str) -> np.ndarray:
    """``x`` as the kernels can read it."""
    if type(x) is not np.ndarray:
        raise TypeError(f"{name} must be a plain numpy.ndarray, not {type(x).__name__}")
    if x.dtype is not _FLOAT32 and x.dtype is not _FLOAT64 and x.dtype != _FLOAT32 and x.dtype != _FLOAT64:
        raise TypeError(f"{name} must be float32 or float64, not {x.dtype}")
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def _read_like(x: np.ndarray, name: str, like: np.ndarray, like_name: str) -> np.ndarray:
    x = _read(x, name)
    if x.shape != like.shape:
        raise ValueError(f"{name} has shape {x.shape}, {like_name} has {like.shape}")
    if x.dtype != like.dtype:
        raise TypeError(f"{name} is {x.dtype}, {like_name} is {like.dtype}")
    return x


def _output(out: np.ndarray | None, like: np.ndarray, like_name: str, **inputs: np.ndarray) -> np.ndarray:
    """``out`` if it can be written to, or a new array; it may be one of the inputs, but not a part of one."""
    if out is None:
        return np.empty(like.shape, like.dtype)
    if type(out) is not np.ndarray:
        raise TypeError(f"out must be a plain numpy.ndarray, not {type(out).__name__}")
    if out.shape != like.shape:
        raise ValueError(f"out has shape {out.shape}, {like_name} has {like.shape}")
    if out.dtype != like.dtype:
        raise TypeError(f"out is {out.dtype}, {like_name} is {like.dtype}")
    if not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous; its strides are {out.strides} for shape {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    for name, x in inputs.items():
        if out is not x and np.may_share_memory(out, x) and _address(out) != _address(x):
            raise ValueError(f"out overlaps a part of {name}: it may be the same array, or another")
    return out


def _address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


def sigmoid(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    r"""The logistic function :math:`\sigma(x) = 1 / (1 + e^{-x})`, element by element.

    Neither overflows nor warns at any x, infinities included; NaN stays NaN. Within 2 ulp of the true value,
    and the same bits in every backend, on every instruction set and with any number of threads.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Returns
    -------
    ndarray
        ``out``, or a new array of x's shape and dtype.

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
    x = _read(x, "x")
    y = np.empty(x.shape, x.dtype) if out is None else _output(out, x, "x", x=x)
    _backends.active.sigmoid(x, y)
    return y


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
    y = _read(y, "y")
    dy = _read_like(dy, "dy", y, "y")
    dx = np.empty(y.shape, y.dtype) if out is None else _output(out, y, "y", dy=dy, y=y)
    _backends.active.sigmoid_backward(dy, y, dx)
    return dx


@overload
def logistic_loss(
    z: np.ndarray, y: np.ndarray, *, reduction: Literal["mean", "sum"] = ..., out: np.ndarray | None = ...
) -> tuple[float, np.ndarray]: ...
@overload
def logistic_loss(
    z: np.ndarray, y: np.ndarray, *, reduction: Literal["none"], out: np.ndarray | None = ...
) -> tuple[np.ndarray, np.ndarray]: ...
def logistic_loss(z, y, *, reduction="mean", out=None):
    r"""The logistic loss (binary cross-entropy) of logits, and its gradient, in one pass.

    .. math::
        \ell_i = -y_i \log \sigma(z_i) - (1 - y_i) \log(1 - \sigma(z_i)), \qquad
        \frac{\partial \ell_i}{\partial z_i} = \sigma(z_i) - y_i

    Computed from :math:`e^{-|z|}`, so that nothing overflows or cancels at any logit; an infinite logit on the
    target's side loses nothing. NaN stays NaN. The sum is taken in double precision, in a fixed order.

    Parameters
    ----------
    z : ndarray of float32 or float64, any shape
        The logits.
    y : ndarray like ``z``
        The targets, from 0 to 1.
    reduction : {"mean", "sum", "none"}
        Of the losses; the gradient is that of the mean, or of the sum.
    out : ndarray, optional
        Where to put the gradient: an array like ``z``, or ``z`` itself.

    Returns
    -------
    loss : float, or ndarray for reduction="none"
    dz : ndarray
        The gradient with respect to ``z``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`; if ``z`` and ``y`` differ in shape or dtype; if ``reduction`` is another word; if the
        mean of no elements is asked for.

    Notes
    -----
    PyTorch: ``binary_cross_entropy_with_logits``. The targets are not looked through: outside of [0, 1] the
    formula still holds for the gradient, but the loss is no longer a cross-entropy.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> loss, dz = fo.logistic_loss(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    >>> round(loss, 6)
    0.410038
    >>> dz.round(6)
    array([-0.25    , -0.059601])
    """
    z = _read(z, "z")
    y = _read_like(y, "y", z, "z")
    dz = np.empty(z.shape, z.dtype) if out is None else _output(out, z, "z", z=z, y=y)
    if reduction == "mean":
        if z.size == 0:
            raise ValueError(f"z has shape {z.shape}: the mean of no elements is undefined")
        return _backends.active.logistic_loss(z, y, None, dz, 1.0 / z.size) / z.size, dz
    if reduction == "sum":
        return _backends.active.logistic_loss(z, y, None, dz, 1.0), dz
    if reduction == "none":
        losses = np.empty(z.shape, z.dtype)
        _backends.active.logistic_loss(z, y, losses, dz, 1.0)
        return losses, dz
    raise ValueError(f'reduction must be "mean", "sum" or "none", not {reduction!r}')
