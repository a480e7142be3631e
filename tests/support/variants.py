"""The ways to compute one thing: every backend, the C core's with every instruction set and 1 and 2 threads."""

import contextlib

import numpy as np

import fastopt as fo

C_VARIANTS = [("c", isa, threads) for isa in fo.instruction_sets() for threads in (1, 2)]
REFERENCE = ("numpy", None, 1)
VARIANTS = [*C_VARIANTS, ("numba", None, 1), REFERENCE]


@contextlib.contextmanager
def using(variant):
    """Compute with (backend, instruction set, threads), and then as before."""
    backend, isa, threads = variant
    before = fo.get_backend(), fo.get_instruction_set(), fo.get_num_threads()
    fo.set_backend(backend)
    try:
        if isa:
            fo.set_instruction_set(isa)
            fo.set_num_threads(threads)
        yield
    finally:
        fo.set_backend(before[0])
        if before[1]:
            fo.set_instruction_set(before[1])
            fo.set_num_threads(before[2])


def misaligned(x, by=1):
    """A copy of ``x`` that begins ``by`` elements off a cache line."""
    buffer = np.empty(x.size + 64 // x.itemsize + by, x.dtype)
    start = (-buffer.__array_interface__["data"][0] % 64) // x.itemsize + by
    copy = buffer[start : start + x.size].reshape(x.shape)
    copy[...] = x
    return copy


def assert_same_bits(actual, expected, what=""):
    """Equal to the last bit, -0.0 unlike 0.0, any NaN like any other."""
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    same = (actual == expected) & (np.signbit(actual) == np.signbit(expected)) | (np.isnan(actual) & np.isnan(expected))
    assert same.all(), f"{what}: {(~same).sum()} of {same.size} differ, first at {np.argwhere(~same)[0]}"


def assert_all_agree(compute, variants=VARIANTS):
    """``compute()`` gives a tuple of arrays, with the same bits in every variant; returns the reference's."""
    with using(REFERENCE):
        expected = compute()
    for variant in variants:
        if variant == REFERENCE:
            continue
        with using(variant):
            for i, (a, e) in enumerate(zip(compute(), expected, strict=True)):
                assert_same_bits(np.asarray(a), np.asarray(e), f"{variant}, result {i}")
    return expected


def numerical_gradient(f, x, step=1e-5):
    """The gradient of the number f(x) by central differences, in float64."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        low, high = x.copy(), x.copy()
        low[i] -= step
        high[i] += step
        gradient[i] = (f(high) - f(low)) / (2 * step)
    return gradient
