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


def has_normal_tail(x):
    """Below, the normal distribution function is subnormal."""
    return x > -np.sqrt(-2 * np.log(np.finfo(x.dtype).tiny)) + 0.5


def erfc(x):
    """As NumPy has none: by the continued fraction where x is large, else by the series."""
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    fraction = np.zeros_like(size)
    for k in range(80, 0, -1):
        fraction = k / 2 / (np.maximum(size, 1.5) + fraction)
    tail = np.exp(-size * size) / (np.sqrt(np.pi) * (size + fraction))
    small = np.where(size < 1.5, size, 0.0)
    term, series = small.copy(), small.copy()
    for k in range(1, 40):
        term = term * 2 * small * small / (2 * k + 1)
        series += term
    tail = np.where(size < 1.5, 1 - 2 / np.sqrt(np.pi) * np.exp(-small * small) * series, tail)
    return np.where(x < 0, 2 - tail, tail)


def of_cubic(x):
    """The sigmoid's argument that stands for the normal distribution in the form with tanh."""
    return 2 * (2 / mpmath.pi) ** 0.5 * (x + mpmath.mpf("0.044715") * x**3)


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
    "gelu": Truth(
        lambda x: x * erfc(-x / np.sqrt(2)) / 2,
        lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        lambda tiny, big: [NAN, INF, NAN, 0, -0.0, 0.5 * tiny, -0.5 * tiny, big],
        ulp=4,
        float32=5.0,
        ordinary=has_normal_tail,
    ),
    "gelu_tanh": Truth(
        lambda x: x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        lambda x: x / (1 + mpmath.exp(-of_cubic(x))),
        lambda tiny, big: [NAN, INF, NAN, 0, -0.0, 0.5 * tiny, -0.5 * tiny, big],
        ulp=4,
        float32=4.0,
        ordinary=lambda x: x >= -1,
    ),
    "leaky_relu": Truth(
        lambda x: np.where(x > 0, x, np.float64(np.float32(0.01)) * x),
        lambda x: x if x > 0 else mpmath.mpf(0.01) * x,
        lambda tiny, big: [-INF, INF, NAN, 0, -0.0, tiny, -0.01 * tiny, big],
        ulp=0,
        float32=0.5,
    ),
    "elu": Truth(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: x if x > 0 else mpmath.expm1(x),
        lambda tiny, big: [-1, INF, NAN, 0, 0, tiny, -tiny, big],
        ulp=2,
        float32=2.0,
    ),
}
