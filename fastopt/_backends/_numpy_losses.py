"""Losses and softmax, the specification."""

from collections.abc import Callable

import numpy as np

from .._specification import transcendental
from .._specification.kernels import OF_PAIRS
from .._specification.order import NARROW, softmax_block
from . import memory as _memory
from ._numpy_layer_norm import lane_sums
from ._numpy_sums import total
from .environment import isolated


def _plain_loss(name: str) -> Callable[..., float]:
    @isolated
    def loss(
        z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float, *number: float
    ) -> float:
        """Every loss into ``losses``, scale times its derivative into ``dz``; returns the sum of the losses."""
        _memory.check_written(dz, z, y)
        scalars = map(z.dtype.type, (scale, *number))
        return _store(getattr(transcendental.of(z.dtype.name), name)(z, y, *scalars), losses, dz)

    return loss


PLAIN_LOSSES = {name: _plain_loss(name) for name in OF_PAIRS}


def _store(results: tuple[np.ndarray, np.ndarray], losses: np.ndarray | None, dz: np.ndarray) -> float:
    if losses is not None:
        losses[...] = results[0]
    dz[...] = results[1]
    return total(results[0])


@isolated
def weighted_logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    pos_weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    y_scale: float,
    y_shift: float,
) -> float:
    """The same with weights, repeated until every element has one, and targets y * y_scale + y_shift."""
    real = z.dtype.type
    w, p = (real(1) if a is None else np.resize(a, z.size).reshape(z.shape) for a in (weight, pos_weight))
    target = y * real(y_scale) + real(y_shift)
    return _store(transcendental.of(z.dtype.name).weighted_logistic_loss(z, target, w, p, real(scale)), losses, dz)


def _class_sums(x: np.ndarray) -> np.ndarray:
    """The sum over the classes, for every row."""
    if x.shape[1] >= NARROW:
        return lane_sums(x)
    sums = np.zeros(len(x))
    for column in x.T:
        sums += column
    return sums


@isolated
def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    ignore_index: int,
    scale: float,
    total_weight: float,
    smoothing: float,
) -> float:
    """Every row's loss into ``losses``, scale times its gradient into ``dz``; returns the sum (softmax.inc)."""
    _memory.check_written(dz, z)
    f, real = transcendental.of(z.dtype.name), z.dtype.type
    rows, classes = np.arange(len(z)), z.shape[1]
    labels = labels.copy()
    ignored = labels == ignore_index
    none = ~ignored & ((labels < 0) | (labels >= classes))  # not one of the classes
    label = np.where(ignored | none, 0, labels)
    w = np.ones(classes, z.dtype) if weight is None else weight
    exact_w = w.astype(np.float64)
    keep, share = 1 - smoothing, smoothing / classes

    below = _below_largest(z)
    e = f.exp_nonpositive(below)
    s = _class_sums(e)
    log_sum = f.log_of_sum(s).astype(np.float64)

    label_weight, label_e = exact_w[label], e[rows, label].astype(np.float64)
    loss = label_weight * (-below[rows, label].astype(np.float64) + log_sum)
    if share != 0:
        all_below = _class_sums(-(exact_w * below.astype(np.float64)))
        loss = keep * loss + share * (total_weight * log_sum + all_below)
    factor = (scale * (keep * label_weight + share * total_weight) / s).astype(z.dtype)
    label_gradient = keep * label_weight * ((label_e - s) / s)
    if share != 0:
        label_gradient = label_gradient + share * (total_weight * (label_e / s) - label_weight)
    gradient = e * factor[:, None] - w * real(scale * share)
    gradient[rows, label] = scale * label_gradient
    gradient[ignored] = 0
    gradient[none] = np.nan
    loss = np.where(none, np.nan, np.where(ignored, 0, loss)).astype(z.dtype)
    dz[...] = gradient
    if losses is not None:
        losses[...] = loss
    return total(loss, softmax_block(classes))


@isolated
def soft_cross_entropy(
    z: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    smoothing: float,
) -> float:
    """The same with how much of a row each class is, for labels (softmax.inc)."""
    f, double = transcendental.of(z.dtype.name), np.float64
    w = np.ones(z.shape[1], z.dtype) if weight is None else weight
    part = w.astype(double) * ((1 - smoothing) * targets.astype(double) + smoothing / z.shape[1])
    below = _below_largest(z)
    e = f.exp_nonpositive(below)
    s, parts = lane_sums(e), lane_sums(part)
    log_sum = f.log_of_sum(s).astype(double)
    loss = (parts * log_sum - lane_sums(np.where(part == 0, 0, part * below.astype(double)))).astype(z.dtype)
    gradient = (parts[:, None] * e.astype(double) - part * s[:, None]) * (1 / s)[:, None]
    dz[...] = (scale * gradient).astype(z.dtype)
    if losses is not None:
        losses[...] = loss
    return total(loss, softmax_block(z.shape[1]))


@isolated
def softmax(x: np.ndarray, out: np.ndarray) -> None:
    """out = softmax of every row of ``x``."""
    _memory.check_written(out, x)
    below = _below_largest(x)
    e = transcendental.of(x.dtype.name).exp_nonpositive(below)
    out[...] = e * (1.0 / _class_sums(e)).astype(x.dtype)[:, None]


def _below_largest(z: np.ndarray) -> np.ndarray:
    """z minus the largest of its row, where inf - inf is 0."""
    real, largest = z.dtype.type, z.max(axis=1, keepdims=True)
    return np.where(z == largest, np.where(largest == -np.inf, real(np.nan), real(0)), z - largest)


def argmax(x: np.ndarray) -> np.ndarray:
    """The place of every row's first NaN or, if it has none, of the first of its largest numbers."""
    return x.argmax(axis=1)


def count_labels(labels: np.ndarray, classes: int, ignore_index: int) -> int:
    """How many labels are not ``ignore_index``; if one of them is no class, -1 - its position."""
    used = labels != ignore_index
    wrong = np.flatnonzero(used & ((labels < 0) | (labels >= classes)))
    return -1 - int(wrong[0]) if wrong.size else int(used.sum())
