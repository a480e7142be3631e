"""Dropout of the Numba fallback."""

import numpy as np

from .._specification import philox
from . import _numpy_dropout as reference
from ._jit import compiled, kept
from .environment import isolated

_philox = compiled(philox.philox4x32)
_COUNTERS, _GROUP, _LOW, _SHIFT = philox.COUNTERS, philox.GROUP, philox.LOW, philox.SHIFT


@kept("dropout")
def _dropout_loop(x, out, group, skip, d0, d1, k0, k1, threshold, scale):
    """Elements of the group begin at -skip."""
    for begin in range(-skip, x.size, _GROUP):
        for i in range(_COUNTERS):
            counter = group * np.uint64(_COUNTERS) + np.uint64(i)
            words = _philox(counter & _LOW, counter >> _SHIFT, d0, d1, k0, k1)
            for w in range(4):
                at = begin + w * _COUNTERS + i
                if 0 <= at < x.size:
                    out[at] = x[at] * scale if words[w] >= threshold else x.dtype.type(0)
        group += np.uint64(1)


@isolated
def dropout(x: np.ndarray, out: np.ndarray, position: int, seed: int, draw: int, threshold: int, scale: float) -> None:
    group, skip = divmod(position, _GROUP)
    words = (*philox.halves(draw), *philox.halves(seed), np.uint64(threshold))
    _dropout_loop(x.reshape(-1), out.reshape(-1), np.uint64(group), skip, *words, x.dtype.type(scale))


dropout_forward, dropout_backward = reference.dropout_of_layer(dropout)
