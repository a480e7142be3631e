"""Instructions for softmax, losses, batch norm and dropout."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _backends
from .._backends.program import Runs
from ..functional.masking import in_training, probability, word
from ..functional.normalization import channel_layout
from ..nn.passes import Calls
from .binding import Before, dense, of_dense

IGNORED = -100  # the label that `fastopt.softmax_cross_entropy` leaves out

# Of a loss, the operation that is its gradient, and what binds both to one kernel: of z, y, loss and gradient.
pairs: dict[Any, tuple[Any, Callable[..., Calls | None]]] = {}


def _stored(run: Runs, out: np.ndarray, factor: float = 1.0, divisor: float = 1.0) -> Any:
    """The number that an instruction has returned, as an element."""
    return _backends.active.bind("store_sum", (out.reshape(1), run), (factor, divisor))


def bind_softmax(x: np.ndarray, *, out: np.ndarray) -> Calls | None:
    if x.ndim != 2:
        return None
    return of_dense("softmax")(x, out=out)


def bind_loss(kernel: str, slope: float) -> Callable[..., Calls | None]:
    """Of a loss of pairs, ``slope`` times what the kernel has for its derivative being its gradient."""

    def bind(z: np.ndarray, y: np.ndarray, loss: np.ndarray, gradient: np.ndarray) -> Calls | None:
        if z.shape != y.shape or not z.size:
            return None
        values, targets = dense(z), dense(y)
        if values is None or targets is None:
            return None
        arrays = values[0], targets[0], None, gradient
        run = _backends.active.bind(kernel, arrays, (slope / z.size,))
        return [*values[1], *targets[1], run, _stored(run, loss, divisor=z.size)]

    return bind


def bind_cross_entropy(z: np.ndarray, labels: np.ndarray, loss: np.ndarray, gradient: np.ndarray) -> Calls | None:
    """The labels, which C reads, are a copy that is looked through before every run."""
    if (values := dense(z)) is None:
        return None
    copy, classes = np.empty(labels.shape, np.int64), z.shape[1]
    run = _backends.active.bind("softmax_cross_entropy", (values[0], copy, None, None, gradient))
    store = _stored(run, loss)
    count_labels = _backends.active.count_labels

    def prepare() -> None:
        np.copyto(copy, labels, casting="same_kind" if labels.dtype.kind == "i" else "unsafe")
        used = count_labels(copy, classes, IGNORED)
        if used < 0:
            raise ValueError(f"labels[{-1 - used}] is {labels[-1 - used]}: not one of the {classes} classes of z")
        if used == 0:
            raise ValueError("all labels are ignored: their mean is undefined")
        scale = 1.0 / used
        run.set(IGNORED, scale, float(classes), 0.0)
        store.set(scale, 1.0)

    return [Before(prepare), *values[1], run, store]


def bind_batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, eps: float, mean: Any, var: Any, out: np.ndarray
) -> Calls | None:
    arrays = [x, gamma, beta, *([] if mean is None else [mean, var])]
    if not all(type(a) is np.ndarray and a.flags.c_contiguous and a.flags.aligned for a in arrays):
        return None
    layout = channel_layout(x, 1)
    statistics = np.empty((3, x.shape[1]), x.dtype)
    scratch = np.empty(_backends.active.batch_norm_scratch(*layout))
    given = x.reshape(layout), gamma, beta, mean, var, out.reshape(layout), statistics, scratch, None, None
    return [_backends.active.bind("batch_norm", given, (mean is None, 0, eps, 0.0, 1.0, 1.0))]


def bind_dropout(x: np.ndarray, draw: np.ndarray, *, p: float, seed: int, out: np.ndarray) -> Calls | None:
    """Which mask it is, is looked up before every run."""
    if (found := dense(x)) is None:
        return None
    key, mask, used = np.array(word("seed", seed), np.uint64), np.zeros((), np.uint64), np.zeros(6, np.uint64)
    run = _backends.active.bind("dropout_forward", (found[0], out, key, mask, used), in_training(probability(p)))

    def prepare() -> None:
        mask[...] = word("draw", int(draw.item()))

    return [Before(prepare), *found[1], run]
