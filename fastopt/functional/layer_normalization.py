"""Layer norm, forward and backward."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _backends
from .._backends.memory import Header, first_changed, header
from .._checks import a_number, whole
from .arrays import disjoint, output, read, read_like, writeable


class _Forward(NamedTuple):
    """What a backward pass needs of its forward pass: x and gamma as they were given, and how x was cut into rows."""

    x: np.ndarray | None
    gamma: np.ndarray | None
    shifted: bool
    headers: list[Header]
    layout: tuple[int, int]
    shape: tuple[int, ...]  # of gamma and beta


class LayerNormSaved:
    """What `layer_norm` leaves for `layer_norm_backward`: the statistics, and x and gamma themselves, not copies.

    Handed back to `layer_norm` as ``saved``, its buffers are used again.
    """

    __slots__ = ("_forward", "_scratch", "_statistics")

    def __init__(self, statistics: np.ndarray, forward: _Forward):
        self._statistics, self._forward, self._scratch = statistics, forward, np.empty(0)

    @property
    def statistics(self) -> np.ndarray:
        """Mean, the part of the mean that one number of x's dtype cannot hold, and 1 / sqrt(variance + eps): a copy."""
        return self._statistics.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._statistics, self._forward._replace(headers=[]))


def _restored(statistics: np.ndarray, forward: _Forward) -> LayerNormSaved:
    """A copy: addresses are those of its own arrays."""
    needed = [array for array in (forward.x, forward.gamma) if array is not None]
    return LayerNormSaved(statistics, forward._replace(headers=list(map(header, needed))))


def normalized_shape_of(shape: Any) -> tuple[int, ...]:
    """``shape``, a whole number or several, as a tuple."""
    if isinstance(shape, (int, np.integer)) and not isinstance(shape, bool):
        shape = (shape,)
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        raise TypeError(f"normalized_shape must be an int or a tuple of int, not {type(shape).__name__}")
    if len(shape) == 0:
        raise ValueError("normalized_shape is empty: layer norm is over at least one axis")
    return tuple(int(whole("normalized_shape", length, 1)) for length in shape)


def row_layout(x: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int]:
    """x as (rows, columns), if its last axes are of this shape."""
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"x has shape {x.shape}: its last axes must be of normalized_shape, which is {shape}")
    return math.prod(x.shape[: x.ndim - len(shape)]), math.prod(shape)


def _affine(array: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """``array``, if it is of the normalized shape."""
    if array is None:
        return None
    array = read(array, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, for a normalized_shape of {shape} it must have that")
    if array.dtype != dtype:
        raise TypeError(f"{name} is {array.dtype}, x is {dtype}")
    return array


def layer_norm(
    x: np.ndarray,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    *,
    normalized_shape: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
    saved: LayerNormSaved | None = None,
) -> tuple[np.ndarray, LayerNormSaved]:
    r"""Layer normalization: every row with mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \, \gamma + \beta

    Mean and variance are those of each row; nothing depends on the rest of the batch, and training and evaluation are
    the same. Sums are taken in double, in an order that depends on the shape alone, of differences from an element of
    the row: the variance is right however large the mean. A row with NaN or infinity becomes NaN.

    Parameters
    ----------
    x : ndarray of float32 or float64, whose last dimensions are those of normalized_shape
        It is needed again by the backward pass, and not copied: leave it as it is until then.
    gamma, beta : ndarray of shape normalized_shape, optional
        Scale and shift; None is 1 and 0. gamma is needed again, too, and not copied.
    normalized_shape : int or tuple of int, optional
        The last axes, which make a row. By default those that gamma or beta has, or else the last one.
    eps : float
        Added to the variance.
    out : ndarray like ``x``, optional
        Where to put y; it may be ``x``, if there is to be no backward pass.
    saved : LayerNormSaved, optional
        That of an earlier call, whose buffers are used again.

    Returns
    -------
    y : ndarray
    saved : LayerNormSaved
        For `layer_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type, dtype or shape, cannot be written to, or overlaps another; if ``eps`` is
        below 0, or a row is empty. Nothing has been written then.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization" (2016), equation 4.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> y, saved = fo.layer_norm(np.array([[1.0, 2.0, 3.0], [10.0, 30.0, 50.0]]))
    >>> y.round(3)
    array([[-1.225,  0.   ,  1.225],
           [-1.225,  0.   ,  1.225]])
    """
    if saved is not None and type(saved) is not LayerNormSaved:
        raise TypeError(f"saved must be a LayerNormSaved, not {type(saved).__name__}")
    x = read(x, "x")
    if normalized_shape is None:
        given = next((array for array in (gamma, beta) if isinstance(array, np.ndarray)), None)
        shape = x.shape[-1:] if given is None else given.shape
    else:
        shape = normalized_shape_of(normalized_shape)
    if math.prod(shape) == 0 or not shape:
        raise ValueError(f"x has shape {x.shape}, a row the shape {shape}: layer norm needs at least one value per row")
    layout = row_layout(x, shape)
    gamma, beta = _affine(gamma, "gamma", shape, x.dtype), _affine(beta, "beta", shape, x.dtype)
    eps = a_number("eps", eps, low=0)
    y = output(out, x, "x", x=x)
    if out is not None:
        disjoint({"out": y}, {"gamma": gamma, "beta": beta})
    kept = None if out is not None and np.may_share_memory(x, y) else x
    needed = [array for array in (kept, gamma) if array is not None]
    forward = _Forward(kept, gamma, beta is not None, list(map(header, needed)), layout, shape)
    if saved is None or saved._statistics.shape[1] != layout[0] or saved._statistics.dtype != x.dtype:
        saved = LayerNormSaved(np.empty((3, layout[0]), x.dtype), forward)
    saved._forward = forward
    flat = [None if array is None else array.reshape(-1) for array in (gamma, beta)]
    _backends.active.layer_norm(x.reshape(layout), *flat, y.reshape(layout), saved._statistics, eps)
    return y, saved


def layer_norm_backward(
    dy: np.ndarray,
    saved: LayerNormSaved,
    out: np.ndarray | None = None,
    *,
    dgamma: np.ndarray | None = None,
    dbeta: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    r"""The gradients of `layer_norm` with respect to x, gamma and beta.

    .. math::
        d\beta = \sum dy, \qquad d\gamma = \sum dy \, \hat x, \qquad
        dx = \frac{1}{\sqrt{\mathrm{Var}[x] + \epsilon}}
             \left( g - \frac{1}{n} \sum g - \frac{\hat x}{n} \sum g \hat x \right), \quad g = \gamma \, dy

    with :math:`\hat x = (x - \mathrm{E}[x]) / \sqrt{\mathrm{Var}[x] + \epsilon}`, the sums of the first two over the
    rows, and those of the third over the n elements of a row.

    Parameters
    ----------
    dy : ndarray like ``x``
    saved : LayerNormSaved
        What `layer_norm` gave. The arrays it was given must still hold what they did then.
    out : ndarray like ``x``, optional
        Where to put dx; it may be ``dy``.
    dgamma, dbeta : ndarray of shape normalized_shape, optional
        Where to put those.

    Returns
    -------
    dx : ndarray
    dgamma, dbeta : ndarray, or None where there was no gamma or no beta

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type, dtype or shape, cannot be written to, or overlaps another; if the forward pass
        wrote y over x, or one of its arrays has had its shape, dtype or memory changed in place since. Nothing has
        been written then.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> y, saved = fo.layer_norm(np.array([[0.0, 1.0, 5.0]]), np.ones(3), np.zeros(3))
    >>> dx, dgamma, dbeta = fo.layer_norm_backward(np.array([[1.0, 0.0, 0.0]]), saved)
    >>> dx.round(4), dgamma.round(4), dbeta
    (array([[ 0.1763, -0.2204,  0.0441]]), array([-0.9258,  0.    ,  0.    ]), array([1., 0., 0.]))
    """
    if type(saved) is not LayerNormSaved:
        raise TypeError(f"saved must be a LayerNormSaved, not {type(saved).__name__}")
    forward = saved._forward
    if (changed := first_changed(forward.headers)) is not None:
        name = "x" if changed is forward.x else "gamma"
        raise ValueError(f"{name} was changed in place (its shape, dtype or memory) since the forward pass")
    x, gamma, shape = forward.x, forward.gamma, forward.shape
    if x is None:
        raise ValueError("the forward pass wrote its result over x (out=x), which the backward pass needs")
    dy = read_like(dy, "dy", x, "x")
    dx = output(out, x, "x", dy=dy)
    given = {"dgamma": _affine(dgamma, "dgamma", shape, x.dtype), "dbeta": _affine(dbeta, "dbeta", shape, x.dtype)}
    for name, array in (("dgamma", dgamma), ("dbeta", dbeta)):
        if array is not None:
            writeable(array, name)
    disjoint({**given, "out": out}, {"x": x, "gamma": gamma})
    disjoint(given, {"dy": dy})
    if gamma is None:
        dgamma = None
    elif dgamma is None:
        dgamma = np.empty(shape, x.dtype)
    if not forward.shifted:
        dbeta = None
    elif dbeta is None:
        dbeta = np.empty(shape, x.dtype)
    backend, layout = _backends.active, forward.layout
    if saved._scratch.size < (needed := backend.layer_norm_scratch(*layout)):
        saved._scratch = np.empty(needed)
    flat = [None if array is None else array.reshape(-1) for array in (gamma, dgamma, dbeta)]
    arrays = dy.reshape(layout), x.reshape(layout), flat[0], saved._statistics, dx.reshape(layout), *flat[1:]
    backend.layer_norm_backward(*arrays, saved._scratch)
    return dx, dgamma, dbeta
