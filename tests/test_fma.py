"""The fused multiply-add of the NumPy reference, against exact arithmetic. That of the C core for CPUs without the
instruction is seen wherever test_functions.py compares the bits of instruction sets."""

import mpmath
import numpy as np
import pytest
from helpers import DTYPES

from fastopt import fma


def fused(dtype, *arguments):
    return getattr(fma, np.dtype(dtype).name)(*arguments)


def exact(dtype, a, b, c):
    """a * b + c, rounded once."""
    digits = np.finfo(dtype).nmant + 1
    results = []
    for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True):
        with mpmath.workprec(4000):
            value = mpmath.mpf(x) * mpmath.mpf(y) + mpmath.mpf(z)
        with mpmath.workprec(digits):
            results.append(float(+value))
    return np.array(results, dtype)


def arguments(dtype):
    """Summands of every size against the product, and sums that cancel all digits of the rounded product."""
    rng = np.random.default_rng(7)
    a, b, c = (rng.standard_normal(6000).astype(dtype) for _ in range(3))
    c *= dtype(2) ** rng.integers(-70, 70, c.size).astype(dtype)
    c[:2000] = -(a[:2000] * b[:2000])
    a[2000:3000] = a[2000:3000].round(1)
    return a, b, c


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_rounds_once(dtype):
    a, b, c = arguments(dtype)
    expected = exact(dtype, a, b, c)
    assert np.mean(a * b + c != expected) > 0.3  # the arguments tell the two apart
    np.testing.assert_array_equal(fused(dtype, a, b, c), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beside_a_tie_goes_to_its_own_side(dtype, sign):
    """1 + ulp / 2 + a little: rounded to more digits first, the little is lost, and the tie goes to the even number."""
    digits = np.finfo(dtype).nmant + 1
    a = np.array([sign * (2.0**-digits + 2.0 ** (1 - 2 * digits)), sign * (2.0**-digits - 2.0 ** (-2 * digits))], dtype)
    b = np.array([1 + 2.0 ** (1 - digits), 1 + 2.0 ** (1 - digits)], dtype)
    for one in (1, 1 + 2.0 ** (1 - digits)):
        c = np.full(2, sign * one, dtype)
        np.testing.assert_array_equal(fused(dtype, a, b, c), exact(dtype, a, b, c))


@pytest.mark.parametrize("dtype", DTYPES)
def test_single_numbers_and_mixed_shapes(dtype):
    two, three = dtype(2), dtype(3)
    result = fused(dtype, two, three, dtype(4))
    assert result == 10
    assert result.dtype == dtype
    np.testing.assert_array_equal(
        fused(dtype, np.array([1, 2], dtype), three, np.array([[1], [2]], dtype)), [[4, 7], [5, 8]]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_nan(dtype):
    nan, one = np.array([np.nan], dtype), dtype(1)
    for given in ((nan, one, one), (one, nan, one), (one, one, nan)):
        assert np.isnan(fused(dtype, *given))
