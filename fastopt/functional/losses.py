"""Losses: value and gradient in one pass."""

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np

from .. import _backends
from .._backends.memory import readable
from .._checks import a_number, positive
from .._conversion import plain_array
from .arrays import alike, disjoint, from_scalar, is_scalar, output, read, targets_like

__all__ = ["huber_loss", "logistic_loss", "mse_loss", "softmax_cross_entropy"]

_REDUCTIONS = "mean", "sum", "none"


def _check_reduction(reduction: str, size: int, shape: tuple[int, ...]) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError(f'reduction must be "mean", "sum" or "none", not {reduction!r}')
    if reduction == "mean" and size == 0:
        raise ValueError(f"z has shape {shape}: the mean of no elements is undefined")


def _of_pairs(
    kernel: Callable[..., float], z: np.ndarray, y: np.ndarray, slope: float, reduction: str, out: np.ndarray | None
) -> tuple[Any, np.ndarray]:
    """A loss of a logit or prediction and a target each: ``slope`` times what ``kernel`` has for it is its gradient."""
    if alike(z, y, z if out is None else out) and z.size and reduction in _REDUCTIONS:
        try:
            return _reduced(kernel, z, y, slope, reduction, np.empty(z.shape, z.dtype) if out is None else out)
        except ValueError:
            pass
    if is_scalar(z) and out is None:
        loss, dz = _of_pairs(kernel, from_scalar(z), y, slope, reduction, None)
        return (loss if reduction != "none" else loss[()]), dz[()]
    z = read(z, "z")
    y = targets_like(y, z)
    _check_reduction(reduction, z.size, z.shape)
    return _reduced(kernel, z, y, slope, reduction, output(out, z, "z", z=z, y=y))


def _reduced(
    kernel: Callable[..., float], z: np.ndarray, y: np.ndarray, slope: float, reduction: str, dz: np.ndarray
) -> tuple[Any, np.ndarray]:
    if reduction == "mean":
        size = z.size
        return kernel(z, y, None, dz, slope / size) / size, dz
    if reduction == "sum":
        return kernel(z, y, None, dz, slope), dz
    losses = np.empty(z.shape, z.dtype)
    kernel(z, y, losses, dz, slope)
    return losses, dz


def _weight(weight: np.ndarray, name: str, z: np.ndarray) -> np.ndarray:
    """``weight`` such that repeating it, element after element, gives z's shape."""
    weight = read(weight, name)
    if weight.dtype != z.dtype:
        raise TypeError(f"{name} is {weight.dtype}, z is {z.dtype}")
    try:
        fits = np.broadcast_shapes(weight.shape, z.shape) == z.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {weight.shape}, which cannot be broadcast to that of z, {z.shape}")
    shape = weight.shape
    while shape and shape[0] == 1:
        shape = shape[1:]
    if shape != z.shape[len(z.shape) - len(shape) :]:
        return np.ascontiguousarray(np.broadcast_to(weight, z.shape))
    return weight


@overload
def logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    *,
    weight: np.ndarray | None = ...,
    pos_weight: np.ndarray | None = ...,
    targets: Literal["0/1", "-1/+1"] = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: np.ndarray | None = ...,
) -> tuple[float, np.ndarray]: ...
@overload
def logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    *,
    weight: np.ndarray | None = ...,
    pos_weight: np.ndarray | None = ...,
    targets: Literal["0/1", "-1/+1"] = ...,
    reduction: Literal["none"],
    out: np.ndarray | None = ...,
) -> tuple[np.ndarray, np.ndarray]: ...
def logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    targets: str = "0/1",
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""The logistic loss (binary cross-entropy) of logits, and its gradient, in one pass.

    .. math::
        \ell_i = -y_i \log \sigma(z_i) - (1 - y_i) \log(1 - \sigma(z_i)), \qquad
        \frac{\partial \ell_i}{\partial z_i} = \sigma(z_i) - y_i

    Computed from :math:`e^{-|z|}`, so that nothing overflows or cancels at any logit; an infinite logit on the
    target's side loses nothing. NaN stays NaN. The sum is taken in double precision, in a fixed order.

    Parameters
    ----------
    z : ndarray of float32 or float64, any shape; or a number
        The logits.
    y : ndarray like ``z``, or of integers or bool
        The targets, from 0 to 1.
    weight : ndarray, optional
        Multiplies the losses: of z's shape, or such that it can be broadcast to it, say one number per class.
    pos_weight : ndarray, optional
        Multiplies the first term; shapes as for ``weight``.
    targets : {"0/1", "-1/+1"}
        The range of the targets; -1 takes the place of 0 in the latter.
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
        As for `sigmoid`; if ``z`` and ``y`` differ in shape or dtype; if a weight cannot be broadcast to z's shape;
        if ``targets`` or ``reduction`` is another word; if the mean of no elements is asked for.

    Notes
    -----
    PyTorch: ``binary_cross_entropy_with_logits``; its mean, too, is over the number of elements, not over the sum of
    the weights. The targets are not looked through: outside of [0, 1] the
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
    if weight is None and pos_weight is None and targets == "0/1":
        return _of_pairs(_backends.active.logistic_loss, z, y, 1.0, reduction, out)
    return _weighted_logistic_loss(z, y, weight, pos_weight, targets, reduction, out)


def _weighted_logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    pos_weight: np.ndarray | None,
    targets: str,
    reduction: str,
    out: np.ndarray | None,
) -> tuple[Any, np.ndarray]:
    if is_scalar(z) and out is None:
        z = from_scalar(z)
        loss, dz = _weighted_logistic_loss(z, y, weight, pos_weight, targets, reduction, None)
        return (loss if reduction != "none" else loss[()]), dz[()]
    z = read(z, "z")
    y = targets_like(y, z)
    _check_reduction(reduction, z.size, z.shape)
    if targets != "0/1" and targets != "-1/+1":
        raise ValueError(f'targets must be "0/1" or "-1/+1", not {targets!r}')
    weight = None if weight is None else _weight(weight, "weight", z)
    pos_weight = None if pos_weight is None else _weight(pos_weight, "pos_weight", z)
    dz = output(out, z, "z", z=z, y=y)
    if out is not None:
        disjoint({"out": out}, {"weight": weight, "pos_weight": pos_weight})
    of_target = (1.0, 0.0) if targets == "0/1" else (0.5, 0.5)

    def weighted(z: Any, y: Any, losses: Any, dz: Any, scale: float) -> float:
        return _backends.active.weighted_logistic_loss(z, y, weight, pos_weight, losses, dz, scale, *of_target)

    return _reduced(weighted, z, y, 1.0, reduction, dz)


@overload
def mse_loss(
    z: np.ndarray, y: np.ndarray, *, reduction: Literal["mean", "sum"] = ..., out: np.ndarray | None = ...
) -> tuple[float, np.ndarray]: ...
@overload
def mse_loss(
    z: np.ndarray, y: np.ndarray, *, reduction: Literal["none"], out: np.ndarray | None = ...
) -> tuple[np.ndarray, np.ndarray]: ...
def mse_loss(
    z: np.ndarray, y: np.ndarray, *, reduction: str = "mean", out: np.ndarray | None = None
) -> tuple[Any, np.ndarray]:
    r"""The squared error of predictions, and its gradient, in one pass.

    .. math:: \ell_i = (z_i - y_i)^2, \qquad \frac{\partial \ell_i}{\partial z_i} = 2 (z_i - y_i)

    Parameters
    ----------
    z : ndarray of float32 or float64, any shape; or a number
        The predictions.
    y : ndarray like ``z``, or of integers or bool
        The targets.
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
        As for `logistic_loss`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (2.0, array([ 0., -2.]))
    """
    return _of_pairs(_backends.active.mse_loss, z, y, 2.0, reduction, out)


@overload
def huber_loss(
    z: np.ndarray,
    y: np.ndarray,
    *,
    delta: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: np.ndarray | None = ...,
) -> tuple[float, np.ndarray]: ...
@overload
def huber_loss(
    z: np.ndarray, y: np.ndarray, *, delta: float = ..., reduction: Literal["none"], out: np.ndarray | None = ...
) -> tuple[np.ndarray, np.ndarray]: ...
def huber_loss(
    z: np.ndarray, y: np.ndarray, *, delta: float = 1.0, reduction: str = "mean", out: np.ndarray | None = None
) -> tuple[Any, np.ndarray]:
    r"""The Huber loss of predictions, and its gradient, in one pass: outliers count by their distance, not its square.

    .. math::
        \ell_i = \begin{cases} d_i^2 / 2 & |d_i| \le \delta \\ \delta (|d_i| - \delta / 2) & |d_i| > \delta \end{cases},
        \qquad \frac{\partial \ell_i}{\partial z_i} = \max(-\delta, \min(d_i, \delta)), \qquad d_i = z_i - y_i

    Parameters
    ----------
    z : ndarray of float32 or float64, any shape; or a number
        The predictions.
    y : ndarray like ``z``, or of integers or bool
        The targets.
    delta : float
        The distance, above 0, from which on the loss is a line.
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
        As for `logistic_loss`, and if ``delta`` is no finite number above 0.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964.
    PyTorch: ``huber_loss``; ``smooth_l1_loss`` with beta is this with delta = beta, divided by beta.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.huber_loss(np.array([0.5, 4.0]), np.array([0.0, 1.0]))
    (1.3125, array([0.25, 0.5 ]))
    """
    delta = a_number("delta", positive("delta", delta))

    def kernel(z: Any, y: Any, losses: Any, dz: Any, scale: float) -> float:
        return _backends.active.huber_loss(z, y, losses, dz, scale, delta)

    return _of_pairs(kernel, z, y, 1.0, reduction, out)


@overload
def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    *,
    weight: np.ndarray | None = ...,
    label_smoothing: float = ...,
    ignore_index: int = ...,
    reduction: Literal["mean", "sum"] = ...,
    out: np.ndarray | None = ...,
) -> tuple[float, np.ndarray]: ...
@overload
def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    *,
    weight: np.ndarray | None = ...,
    label_smoothing: float = ...,
    ignore_index: int = ...,
    reduction: Literal["none"],
    out: np.ndarray | None = ...,
) -> tuple[np.ndarray, np.ndarray]: ...
def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    *,
    weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""The cross-entropy of softmax with integer labels, and its gradient, in one pass over the rows.

    .. math::
        \ell_i = -w_{y_i} \log p_{i y_i}, \qquad p_{ij} = \frac{e^{z_{ij}}}{\sum_k e^{z_{ik}}}, \qquad
        \frac{\partial \ell_i}{\partial z_{ij}} = w_{y_i} (p_{ij} - [j = y_i])

    With ``label_smoothing`` :math:`a`, the loss is :math:`(1 - a)` times this and :math:`a / C` times
    :math:`-\sum_j w_j \log p_{ij}`. Nothing overflows at any logit: -inf has probability 0, inf takes all of it, shared
    among those of a row. A row with NaN, or of nothing but -inf, is NaN.

    Parameters
    ----------
    z : ndarray of float32 or float64, shape (N, C)
        The logits.
    labels : ndarray of integers, shape (N,), or ndarray of the type and shape of ``z``
        The classes, from 0 to C - 1, or ``ignore_index``. Or of every row the probabilities :math:`q_{ij}` of the
        classes, which add up to 1: the loss is then :math:`-\sum_j w_j q_{ij} \log p_{ij}`, and the mean is over N.
    weight : ndarray of shape (C,), optional
        The weights of the classes.
    label_smoothing : float from 0 to 1
    ignore_index : int
        Rows with this label count for nothing, and have gradient 0.
    reduction : {"mean", "sum", "none"}
        Of the losses; the mean is over the sum of the labels' weights, as in PyTorch. The gradient is that of the
        mean, or of the sum.
    out : ndarray, optional
        Where to put the gradient: an array like ``z``, or ``z`` itself.

    Returns
    -------
    loss : float, or ndarray of shape (N,) for reduction="none"
    dz : ndarray of shape (N, C)
        The gradient with respect to ``z``.

    Raises
    ------
    TypeError, ValueError
        As for `logistic_loss`; if there is no class; if a label is not one of the classes, or labels are no integers;
        if ``label_smoothing`` is out of range; for the mean, if all rows are ignored.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> loss, dz = fo.softmax_cross_entropy(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    >>> round(loss, 6)
    0.410038
    >>> dz.round(6)
    array([[-0.059601,  0.059601],
           [ 0.25    , -0.25    ]])
    """
    z = read(z, "z")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"z has shape {z.shape}; it must be (rows, classes), with at least one class")
    rows, classes = z.shape
    _check_reduction(reduction, rows, z.shape)
    if type(labels) is not np.ndarray:
        labels = plain_array("labels", labels, np.int64)
    soft = labels.ndim == 2 and labels.dtype == z.dtype and labels.shape == z.shape and classes > 1
    if not soft and labels.dtype.kind not in "iu":
        way = ": labels.astype(np.int64) converts it" if labels.dtype.kind in "bf" else ""
        raise TypeError(f"labels must be integers, not {labels.dtype}{way}")
    if not soft and labels.shape != (rows,):
        raise ValueError(f"labels has shape {labels.shape}, for z of shape {z.shape} it must be ({rows},)")
    if weight is not None:
        weight = read(weight, "weight")
        if weight.shape != (classes,):
            raise ValueError(f"weight has shape {weight.shape}, for z of shape {z.shape} it must be ({classes},)")
        if weight.dtype != z.dtype:
            raise TypeError(f"weight is {weight.dtype}, z is {z.dtype}")
    smoothing = a_number("label_smoothing", label_smoothing, low=0)
    if smoothing > 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, not {label_smoothing}")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index must be an int, not {type(ignore_index).__name__}")
    if not -(2**63) <= ignore_index < 2**63:
        raise ValueError(f"ignore_index must be a whole number of 64 bits, not {ignore_index}")
    if soft:
        return _of_probabilities(z, labels, weight, smoothing, reduction, out)
    if labels.dtype == np.uint64 and labels.size and labels.max() >= 2**63:  # which as int64 would be below 0
        wrong = f"labels[{labels.argmax()}] is {labels.max()}"
        raise ValueError(f"{wrong}: not one of the {classes} classes of z, nor ignore_index={ignore_index}")
    labels = np.ascontiguousarray(labels, np.int64)
    used = _backends.active.count_labels(labels, classes, int(ignore_index))
    if used < 0:
        wrong = f"labels[{-1 - used}] is {labels[-1 - used]}"
        raise ValueError(f"{wrong}: not one of the {classes} classes of z, nor ignore_index={ignore_index}")
    denominator, total_weight = float(used), float(classes)
    if weight is not None:
        counts = np.bincount(labels[labels != ignore_index], minlength=classes)
        denominator = math.fsum((counts * weight.astype(np.float64)).tolist())
        total_weight = math.fsum(weight.tolist())
    if reduction == "mean" and denominator == 0:
        raise ValueError("the labels' weights add up to 0, or all labels are ignore_index: their mean is undefined")
    if out is None:
        dz = np.empty(z.shape, z.dtype)
    else:
        dz = out if alike(z, z, out) else output(out, z, "z", z=z)
        if weight is not None or not (out.flags.owndata and labels.flags.owndata):  # else two arrays share no memory
            disjoint({"out": out}, {"labels": labels, "weight": weight})
    losses = np.empty(rows, z.dtype) if reduction == "none" else None
    scale = 1.0 / denominator if reduction == "mean" else 1.0
    scalars = int(ignore_index), scale, total_weight, smoothing
    try:
        total = _backends.active.softmax_cross_entropy(z, labels, weight, losses, dz, *scalars)
    except ValueError:
        output(out, z, "z", z=z)
        raise
    return (total * scale if losses is None else losses), dz


def _of_probabilities(
    z: np.ndarray, q: np.ndarray, weight: np.ndarray | None, smoothing: float, reduction: str, out: np.ndarray | None
) -> tuple[Any, np.ndarray]:
    """The cross-entropy with a row of probabilities for each row."""
    q = readable(q, z.dtype)
    if not ((q >= 0) & (q <= 1)).all() or (abs(q.sum(axis=1, dtype=np.float64) - 1) > 1e-3).any():
        raise ValueError("labels, of the shape of z, must be probabilities from 0 to 1 that add up to 1 in every row")
    if out is not None:
        output(out, z, "z", z=z)
        disjoint({"out": out}, {"labels": q, "weight": weight})
    dz = np.empty(z.shape, z.dtype) if out is None else out
    losses = np.empty(len(z), z.dtype) if reduction == "none" else None
    scale = 1.0 / len(z) if reduction == "mean" else 1.0
    total = _backends.active.soft_cross_entropy(z, q, weight, losses, dz, scale, smoothing)
    return (total * scale if losses is None else losses), dz
