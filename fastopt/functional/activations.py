"""Activations, forward and backward."""

import numpy as np

from .. import _backends
from ._arrays import output, read, read_like


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
    x = read(x, "x")
    y = np.empty(x.shape, x.dtype) if out is None else output(out, x, "x", x)
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
    y = read(y, "y")
    dy = read_like(dy, "dy", y, "y")
    dx = np.empty(y.shape, y.dtype) if out is None else output(out, y, "y", y, dy)
    _backends.active.sigmoid_backward(dy, y, dx)
    return dx
