"""The fused multiply-adds of the NumPy reference, and of the C core for CPUs without the instruction, against exact
arithmetic. A wrong one is seen nowhere else: it differs from the right one in one sum of many millions."""

import ctypes
import subprocess

import mpmath
import numpy as np
import pytest
from helpers import DTYPES
from instrumented import COMPILER, ROOT

from fastopt._specification import fma

IN_C = r"""
#include "platform/fma.h"
#define LOOP(real)                                                                              \
    void loop_##real(const real *a, const real *b, const real *c, real *out, size_t n)          \
    {                                                                                           \
        for (size_t i = 0; i < n; i++)                                                          \
            out[i] = fma_##real(a[i], b[i], c[i]);                                              \
    }
LOOP(float)
LOOP(double)
"""


def fused(dtype, *arguments):
    return getattr(fma, np.dtype(dtype).name)(*arguments)


@pytest.fixture(scope="module", params=["numpy", "c"])
def multiply_add(request, tmp_path_factory):
    """Of three arrays of one length."""
    if request.param == "numpy":
        return fused
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("fma")
    (folder / "loop.c").write_text(IN_C)
    library = folder / "loop.so"
    flags = ["-std=c11", "-O3", "-ffp-contract=off", "-shared", "-fPIC", "-I", str(ROOT / "csrc")]
    subprocess.run([COMPILER, *flags, str(folder / "loop.c"), "-o", str(library), "-lm"], check=True)
    loops = ctypes.CDLL(str(library))

    def multiply_add(dtype, *arrays):
        out = np.empty_like(arrays[0])
        loop = loops.loop_double if dtype is np.float64 else loops.loop_float
        loop(*(ctypes.c_void_p(x.ctypes.data) for x in (*arrays, out)), ctypes.c_size_t(out.size))
        return out

    return multiply_add


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
def test_it_rounds_once(multiply_add, dtype):
    a, b, c = arguments(dtype)
    expected = exact(dtype, a, b, c)
    assert np.mean(a * b + c != expected) > 0.3  # the arguments tell the two apart
    np.testing.assert_array_equal(multiply_add(dtype, a, b, c), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beside_a_tie_goes_to_its_own_side(multiply_add, dtype, sign):
    """1 + ulp / 2 + a little: rounded to more digits first, the little is lost, and the tie goes to the even number."""
    digits = np.finfo(dtype).nmant + 1
    a = np.array([sign * (2.0**-digits + 2.0 ** (1 - 2 * digits)), sign * (2.0**-digits - 2.0 ** (-2 * digits))], dtype)
    b = np.array([1 + 2.0 ** (1 - digits), 1 + 2.0 ** (1 - digits)], dtype)
    for one in (1, 1 + 2.0 ** (1 - digits)):
        c = np.full(2, sign * one, dtype)
        np.testing.assert_array_equal(multiply_add(dtype, a, b, c), exact(dtype, a, b, c))


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
def test_nan_stays_nan(multiply_add, dtype):
    nan, one = np.array([np.nan], dtype), np.ones(1, dtype)
    for given in ((nan, one, one), (one, nan, one), (one, one, nan)):
        assert np.isnan(multiply_add(dtype, *given))
