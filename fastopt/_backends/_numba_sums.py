"""Sums of the Numba fallback, in the reference's order, and the search for what is too large or not finite."""

import numpy as np

from .._specification.order import BLOCK, LANES
from ._jit import compiled, kept
from .environment import isolated


@compiled
def _reaches(x, limit):
    return not abs(x) < limit


@kept("sum")
def total(x, squared, block=BLOCK):
    """The sum of x, or of its squares, in the reference's order."""
    result = 0.0
    for begin in range(0, x.size, block):
        lanes = np.zeros(LANES)
        for i in range(begin, min(begin + block, x.size)):
            value = np.float64(x[i])
            lanes[(i - begin) % LANES] += value * value if squared else value
        half = LANES // 2
        while half > 0:
            for lane in range(half):
                lanes[lane] += lanes[lane + half]
            half //= 2
        result += lanes[0]
    return result


@isolated
def square_sum(x: np.ndarray) -> float:
    return float(total(x.reshape(-1), True))


@kept("beyond")
def _beyond(x, scale, limit):
    result = False
    for value in x:
        result |= _reaches(scale * value, limit)
    return result


@isolated
def any_beyond(x: np.ndarray, scale: float, limit: float) -> bool:
    """Whether ``scale * x`` has an element of at least ``limit``, or NaN."""
    return _beyond(x.reshape(-1), x.dtype.type(scale), x.dtype.type(limit))


def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    return any_beyond(x, scale, np.inf)


@isolated
def add_up(x: np.ndarray) -> float:
    return float(total(x.reshape(-1), False))
