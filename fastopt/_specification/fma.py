"""``a * b + c`` rounded once, a fused multiply-add, which NumPy does not have: the bits that a CPU's instruction gives.

It rounds to odd first: of the two neighbours of an inexact sum, that whose last bit is 1. Rounded again, to fewer
digits, this gives what the exact sum would have given.

References
----------
S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
Transactions on Computers 57(4), 2008, Fig. 3. The exact product is Dekker's (1971), the exact sum Knuth's (The Art of
Computer Programming 2, 4.2.2).
"""

from typing import Any

import numpy as np


def _sum(a, b):
    """a + b, and what the rounded sum lacks."""
    rounded = a + b
    b_part = rounded - a
    return rounded, (a - (rounded - b_part)) + (b - b_part)


def _halves(a):
    """``a`` as the sum of two numbers of 26 bits at most."""
    t = a * 134217729.0
    high = t - (t - a)
    return high, a - high


def _product(a, b):
    """a * b, and what the rounded product lacks."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    rounded = a * b
    return rounded, ((a_high * b_high - rounded) + a_high * b_low + a_low * b_high) + a_low * b_low


def _round_to_odd(rounded, rest):
    """The results of `_sum` as one number."""
    bits = np.asarray(rounded).view(np.int64)
    step = np.where((rest > 0) == (rounded > 0), 1, -1)
    wrong = ((rest < 0) | (rest > 0)) & (bits & 1 == 0)
    return np.where(wrong, bits + step, bits).view(np.float64)


def float32(a: Any, b: Any, c: Any) -> Any:
    """Of float32 arrays or scalars: the product is exact in double."""
    return _round_to_odd(*_sum(np.multiply(a, b, dtype=np.float64), np.float64(c))).astype(np.float32)


def float64(a: Any, b: Any, c: Any) -> Any:
    """Of float64 arrays or scalars below 2**995; their product is 0, at least 2**-969, or nothing beside ``c``."""
    product, product_rest = _product(a, b)
    low, low_rest = _sum(c, product_rest)
    high, high_rest = _sum(product, low)
    return high + _round_to_odd(*_sum(high_rest, low_rest))
