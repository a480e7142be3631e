"""What is true of every activation: the one table to extend for a new one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np

# Arguments at which results are written out: in the order of `Truth.special`; tiny is the smallest subnormal.
INF, NAN = np.inf, np.nan


def special_arguments(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    return np.array([-INF, INF, NAN, 0.0, -0.0, tiny, -tiny, np.finfo(dtype).max], dtype)


class Truth(NamedTuple):
    exact: Callable[[Any], Any]  # by NumPy, in float64
    precise: Callable[[Any], Any]  # of a number, by mpmath
    special: Callable[[Any, Any], list[Any]]  # at special_arguments, by the tiny one and the largest
    ulp: int = 3  # from the correctly rounded value
    float32: float = 2.5  # from the true value, over all numbers of float32
    ordinary: Callable[[Any], Any] = np.isfinite  # where results have all their digits


def has_normal_exponential(x):
    """Below, a factor of the result is subnormal, whose digits are few."""
    return x > np.log(np.finfo(x.dtype).tiny) + 1


LOG2 = np.log(2)
TRUTH = {
    "sigmoid": Truth(
        lambda x: 1 / (1 + np.exp(-x)),
        lambda x: 1 / (1 + mpmath.exp(-x)),
        lambda tiny, big: [0, 1, NAN, 0.5, 0.5, 0.5, 0.5, 1],
        ulp=2,
    ),
    "tanh": Truth(np.tanh, mpmath.tanh, lambda tiny, big: [-1, 1, NAN, 0, -0.0, tiny, -tiny, 1]),
    "relu": Truth(
        lambda x: np.maximum(x, 0),
        lambda x: max(x, 0),
        lambda tiny, big: [0, INF, NAN, 0, -0.0, tiny, 0, big],
        ulp=0,
        float32=0.0,
    ),
    "softplus": Truth(
        lambda x: np.logaddexp(0, x),
        lambda x: mpmath.log1p(mpmath.exp(x)),
        lambda tiny, big: [0, INF, NAN, LOG2, LOG2, LOG2, LOG2, big],
        float32=2.0,
    ),
    "log_sigmoid": Truth(
        lambda x: -np.logaddexp(0, -x),
        lambda x: -mpmath.log1p(mpmath.exp(-x)),
        lambda tiny, big: [-INF, 0, NAN, -LOG2, -LOG2, -LOG2, -LOG2, 0],
        float32=2.0,
    ),
    "silu": Truth(
        lambda x: x / (1 + np.exp(-x)),
        lambda x: x / (1 + mpmath.exp(-x)),
        lambda tiny, big: [NAN, INF, NAN, 0, -0.0, 0.5 * tiny, -0.5 * tiny, big],
        float32=3.0,
        ordinary=has_normal_exponential,
    ),
}
