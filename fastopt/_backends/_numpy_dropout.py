"""Dropout, the specification: an element's random word is that of its position."""

from collections.abc import Callable

import numpy as np

from .._specification import philox
from .._specification.kernels import DROP_ALL, DROP_SOME, EVALUATE
from .environment import isolated


@isolated
def dropout(x: np.ndarray, out: np.ndarray, position: int, seed: int, draw: int, threshold: int, scale: float) -> None:
    """out = scale x, or 0 where the random word of an element's position is below the threshold."""
    at = np.uint64(position) + np.arange(x.size, dtype=np.uint64).reshape(x.shape)
    group, word = at // np.uint64(philox.GROUP), at % np.uint64(philox.GROUP)
    counter = group * np.uint64(philox.COUNTERS) + word % np.uint64(philox.COUNTERS)
    low, high = counter & philox.LOW, counter >> philox.SHIFT
    words = philox.philox4x32(low, high, *philox.halves(draw), *philox.halves(seed))
    drop = np.choose((word // np.uint64(philox.COUNTERS)).astype(np.intp), words) < np.uint64(threshold)
    out[...] = np.where(drop, x.dtype.type(0), x.dtype.type(scale) * x)


def dropout_of_layer(dropout: Callable[..., None]) -> tuple[Callable[..., None], Callable[..., None]]:
    """A layer's dropout, forward and backward, made of a backend's.

    Forward, it takes its masks from ``seed`` and ``draw``, counts them, and leaves in ``used`` what backward needs;
    the last of it, the position of the first element in the mask, is there from the start.
    """

    def dropped(x: np.ndarray, out: np.ndarray, used: np.ndarray) -> None:
        what, seed, draw, threshold, _, position = used.tolist()
        if what == DROP_SOME:
            dropout(x, out, position, seed, draw, threshold, used[4:5].view(np.float64).item())
        else:
            np.copyto(out, x.dtype.type(0) if what == DROP_ALL else x)

    def dropout_forward(
        x: np.ndarray,
        out: np.ndarray,
        seed: np.ndarray,
        draw: np.ndarray,
        used: np.ndarray,
        what: int,
        threshold: int,
        scale: float,
    ) -> None:
        used[:4] = what, seed.item(), draw.item(), threshold
        used[4:5].view(np.float64)[...] = scale
        if what != EVALUATE:
            draw[...] = draw.item() + 1
        dropped(x, out, used)

    def dropout_backward(dy: np.ndarray, dx: np.ndarray, used: np.ndarray) -> None:
        dropped(dy, dx, used)

    return dropout_forward, dropout_backward


dropout_forward, dropout_backward = dropout_of_layer(dropout)
