"""Matrix products, against a triple loop of the C library's fma, and by what the order of a sum shows."""

import ctypes
import subprocess

import numpy as np
import pytest
from helpers import BACKENDS, DTYPES, HAVE_C, bits, run_python, special_values, use
from instrumented import COMPILER
from variants import VARIANTS, assert_same_bits, misaligned, using

import fastopt as fo
from fastopt import _backends
from fastopt._specification import order
from fastopt.functional import products

CHAIN = 4096
SINGLE = [variant for variant in VARIANTS if variant[2] == 1]  # small products do not go to other threads

# The contract, written down once more: nothing of the library's is used.
TRIPLE_LOOP = r"""
#include <math.h>
#include <stddef.h>
#define LOOP(real, fma)                                                                                     \
    void loop_##real(const real *a, const real *b, real *c, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k)          \
    {                                                                                                       \
        for (ptrdiff_t i = 0; i < m; i++)                                                                   \
            for (ptrdiff_t j = 0; j < n; j++) {                                                             \
                real sum = 0;                                                                               \
                for (ptrdiff_t first = 0; first < k; first += 4096) {                                       \
                    real chain = 0;                                                                         \
                    for (ptrdiff_t l = first; l < k && l < first + 4096; l++)                               \
                        chain = fma(a[i * k + l], b[l * n + j], chain);                                     \
                    sum = first ? sum + chain : chain;                                                      \
                }                                                                                           \
                c[i * n + j] = sum;                                                                         \
            }                                                                                               \
    }
LOOP(float, fmaf)
LOOP(double, fma)
"""

pytestmark = pytest.mark.usefixtures("exact_products")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The product as the contract has it."""
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("products")
    (folder / "loop.c").write_text(TRIPLE_LOOP)
    library = folder / "loop.so"
    flags = ["-std=c11", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, str(folder / "loop.c"), "-o", str(library), "-lm"], check=True)
    loops = ctypes.CDLL(str(library))

    def product(a, b):
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        c = np.full((len(a), b.shape[1]), np.nan, a.dtype)
        loop = loops.loop_double if a.dtype == np.float64 else loops.loop_float
        sizes = len(a), b.shape[1], len(b)
        loop(*(ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)), *map(ctypes.c_ssize_t, sizes))
        return c

    return product


def layouts(x):
    """The same matrix, lying in memory in every way that is read as it is, and in some that are copied."""
    rows, columns = x.shape
    wide = np.zeros((rows, columns + 3), x.dtype)
    wide[:, 2 : 2 + columns] = x
    every_other = np.zeros((2 * rows, 2 * columns), x.dtype)
    every_other[::2, ::2] = x
    packed = np.zeros(x.size * x.itemsize + 1, np.uint8)[1:].view(x.dtype)  # at an odd address
    packed[:] = x.ravel()
    return {
        "C": x,
        "Fortran": np.asfortranarray(x),
        "columns of a wider one": wide[:, 2 : 2 + columns],
        "rows of a taller one": np.asfortranarray(wide.T)[2 : 2 + columns].T,
        "backwards": x[::-1].copy()[::-1],
        "every other": every_other[::2, ::2],
        "unaligned": packed.reshape(x.shape),
        "off a cache line": misaligned(x),
    }


def test_the_chain_is_as_long_as_documented():
    assert order.CHAIN == CHAIN


@pytest.mark.parametrize("variant", SINGLE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_some_shapes_to_40(truth, dtype, variant, rng):
    shapes = [tuple(rng.integers(1, 41, 3)) for _ in range(60 if variant[0] == "c" else 12)]
    check_shapes(truth, dtype, variant, rng, [*shapes, (1, 1, 1), (40, 40, 40), (1, 40, 7), (13, 1, 33), (29, 30, 1)])


@pytest.mark.slow
@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
@pytest.mark.parametrize("isa", fo.instruction_sets())
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_shapes_to_40(truth, dtype, isa, rng):
    shapes = ((m, k, n) for m in range(1, 41) for k in range(1, 41) for n in range(1, 41))
    check_shapes(truth, dtype, ("c", isa, 1), rng, shapes)


def check_shapes(truth, dtype, variant, rng, shapes):
    numbers = rng.standard_normal(10_000).astype(dtype)
    with using(variant):
        for m, k, n in shapes:
            a, b = numbers[: m * k].reshape(m, k), numbers[-k * n :].reshape(k, n)
            expected = truth(a, b)
            for left in (a, np.asfortranarray(a)):
                for right in (b, np.asfortranarray(b)):
                    c = np.full((m, n), np.nan, dtype)
                    assert fo.matmul(left, right, c) is c
                    assert_same_bits(c, expected, f"{(m, k, n)}, {left.strides}, {right.strides}")


@pytest.mark.parametrize("variant", SINGLE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(13, 21, 35), (1, 19, 70), (9, 40, 1), (70, 5, 3)], ids=str)
def test_every_layout(truth, dtype, shape, variant, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    expected = truth(a, b)
    with using(variant):
        for name, left in layouts(a).items():
            assert_same_bits(fo.matmul(left, b), expected, f"a: {name}")
        for name, right in layouts(b).items():
            assert_same_bits(fo.matmul(a, right), expected, f"b: {name}")


# Beyond a block of k, the rows of a part, the size that goes to the pool; by rows, by columns, a single one of either;
# and so large that columns of a are packed, in one chain and in two; of so few elements that threads share out the
# chains.
LARGE = [(70, 600, 130), (400, 280, 90), (600, 90, 100), (9, 700, 1100)]
LARGE += [(1, 3000, 1500), (1, 64, 4200), (2100, 2100, 1)]
LARGE += [(450, 300, 260), (35, 4200, 270)]
LARGE += [(16, 2 * CHAIN + 300, 24)]


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
@pytest.mark.parametrize("isa", fo.instruction_sets())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_blocks_and_threads(truth, dtype, shape, isa, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    bias = rng.standard_normal(n).astype(dtype)
    expected = truth(a, b)
    with_bias = fo.sigmoid(expected + bias)
    for threads in (1, 2, 7):
        with using(("c", isa, threads)):
            assert_same_bits(fo.matmul(a, b), expected, f"{threads} threads")
            for orders in ("CF", "FC", "FF"):
                left, right = (np.asarray(x, order=order) for x, order in zip((a, b), orders, strict=True))
                assert_same_bits(fo.matmul(left, right), expected, f"{threads} threads, {orders}")
            assert_same_bits(fo.matmul(a, b, bias=bias, activation="sigmoid"), with_bias, f"{threads} threads, bias")


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
def test_chains_whose_sums_are_too_large_to_be_shared_out_all_at_once(truth, rng):
    a, b = rng.standard_normal((40, 6 * CHAIN)), rng.standard_normal((6 * CHAIN, 40))
    expected, bias = truth(a, b), rng.standard_normal(40)
    for threads in (1, 2, 4):
        with using(("c", None, threads)):
            fo.set_num_threads(threads)
            assert_same_bits(fo.matmul(a, b), expected, f"{threads} threads")
            assert_same_bits(
                fo.matmul(a, b, bias=bias, activation="tanh"), fo.tanh(expected + bias), f"{threads} threads"
            )


# One chain of full length, and three; few rows and columns, and, in C, more than are summed or packed at once. The
# reference has one way for all of them, and a slow one.
FEW = [(m, k, n) for k in (CHAIN, 2 * CHAIN + 300) for m, n in ((3, 5), (1, 20), (7, 1))]
OF_CHAINS = {
    "numpy": [(3, CHAIN + 8, 40)],
    "numba": FEW,
    "c": [*FEW, (98, CHAIN + 300, 70), (1, CHAIN, 300), (1, 2 * CHAIN + 300, 300)],
}


@pytest.mark.parametrize("variant", SINGLE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chain_ends_and_another_begins(truth, dtype, variant, rng):
    for m, k, n in OF_CHAINS[variant[0]]:
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        expected = truth(a, b)
        with using(variant):
            for order in "CF" if variant[0] != "numpy" else "C":
                c = fo.matmul(np.asarray(a, order=order), np.asarray(b, order=order))
                assert_same_bits(c, expected, f"{m}, {k}, {n}, {order}")


@pytest.mark.parametrize("variant", SINGLE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_order_of_the_sum_shows(dtype, variant):
    """Ones with a large number at place i and its negative at place j: of the ones, those between the two are lost, and
    how many that is says in which order they were added, for all pairs of places."""
    k = 40
    large = dtype(2.0 ** (np.finfo(dtype).nmant + 8))
    first, second = np.triu_indices(k, 1)
    a = np.ones((len(first), k), dtype)
    a[np.arange(len(first)), first] = large
    a[np.arange(len(first)), second] = -large
    kept = k - 1 - second  # the ones before the large number are lost in it too
    with using(variant):
        for n in (1, 3):
            result = fo.matmul(a, np.ones((k, n), dtype))
            np.testing.assert_array_equal(result, np.repeat(kept[:, None], n, axis=1).astype(dtype))


@pytest.mark.parametrize("variant", SINGLE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(truth, dtype, variant, rng):
    """Zeros of both signs, subnormals, sums that cancel, overflow and lose everything below; inf and NaN in between."""
    values = special_values(dtype)
    for extra in ([], [np.inf, -np.inf], [np.inf, np.nan]):
        a = rng.choice(np.concatenate([values, np.array(extra, dtype)]), (30, 3))
        b = rng.choice(np.concatenate([values, np.array(extra, dtype)]), (3, 17))
        with using(variant):
            for left, right in ((a, b), (a, b[:, :1]), (a[:1], b)):
                for f in (np.ascontiguousarray, np.asfortranarray):
                    result = fo.matmul(f(left), f(right))
                    assert bits(result) == bits(truth(left, right))


@pytest.mark.parametrize("variant", SINGLE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_factor_is_left_out(dtype, variant):
    for value in (np.inf, -np.inf, np.nan):
        a, b = np.zeros((5, 9), dtype), np.ones((9, 21), dtype)
        b[4, 7] = value
        with using(variant):
            c = fo.matmul(a, b)
            assert np.isnan(c[:, 7]).all()
            assert (np.delete(c, 7, axis=1) == 0).all()
            assert np.isnan(fo.matmul(a, b[:, 7:8].copy())).all()
            assert np.isnan(fo.matmul(b.T.copy(), a.T.copy())[7]).all()


@pytest.mark.parametrize("variant", SINGLE, ids=str)
def test_sums_begin_at_plus_zero(variant):
    with using(variant):
        for shape in ((4, 3), (1, 20), (20, 1)):
            a, b = np.full((shape[0], 2), -0.0), np.ones((2, shape[1]))
            assert not np.signbit(fo.matmul(a, b)).any()
            assert not np.signbit(fo.matmul(a[:, :0], b[:0])).any()


@pytest.mark.parametrize("variant", SINGLE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
def test_bias_and_activation_are_those_of_separate_calls(dtype, activation, variant, rng):
    after = getattr(fo, activation) if activation else np.copy
    with using(variant):
        for m, k, n in ((7, 5, 70), (33, 3, 1), (1, 8, 100), (250, 4, 3), (5, 0, 6)):
            a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
            bias = rng.standard_normal(n).astype(dtype)
            c = fo.matmul(a, b)
            assert_same_bits(fo.matmul(a, b, activation=activation), after(c))
            assert_same_bits(fo.matmul(a, b, bias=bias, activation=activation), after(c + bias))


@pytest.mark.parametrize("name", BACKENDS)
def test_nothing_to_multiply(name):
    use(name)
    for m, k, n in ((0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (1, 0, 1)):
        c = fo.matmul(np.ones((m, k)), np.ones((k, n)))
        assert c.shape == (m, n)
        assert (c == 0).all()
    np.testing.assert_array_equal(fo.matmul(np.ones((2, 0)), np.ones((0, 3)), bias=np.arange(3.0)), [[0, 1, 2]] * 2)


def test_vectors():
    a, v, w = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 3.0]), np.array([1.0, -1.0])
    for given in ((a, v), (w, a), (v, v)):
        result = fo.matmul(*given)
        np.testing.assert_array_equal(result, given[0] @ given[1])
        out = np.full(result.shape, np.nan)
        assert fo.matmul(*given, out) is out
        np.testing.assert_array_equal(out, result)


def test_the_error_of_long_sums(rng):
    """Rounding errors of a chain grow with its length, and no more once chains end. (BLAS begins a new one every few
    hundred links, and has a third of this error from some thousands on.)"""
    for k, most in ((30, 1e-7), (1000, 6e-7), (10_000, 1.2e-6), (100_000, 1.2e-6)):
        a, b = (rng.standard_normal(shape, np.float32) for shape in ((8, k), (k, 8)))
        exact = a.astype(np.float64) @ b.astype(np.float64)
        assert np.abs(fo.matmul(a, b) - exact).mean() < most * np.sqrt(k)


@pytest.mark.parametrize("name", BACKENDS)
def test_an_output_that_overlaps_is_refused(name):
    use(name)
    a, b, store = np.ones((4, 4)), np.ones((4, 4)), np.ones((5, 4))
    for given, out, which in (
        ((a, b), a, "a"),
        ((a, b), b, "b"),
        ((a.T, b), a, "a"),
        ((store[:4], b), store[1:], "a"),
        ((a, store[1:]), store[:4], "b"),
    ):
        with pytest.raises(ValueError, match=f"out overlaps {which} in memory"):
            fo.matmul(*given, out)
    with pytest.raises(ValueError, match="out overlaps bias in memory"):
        fo.matmul(a, b, store[:4], bias=store[0])
    assert (store == 1).all()
    assert (a == 1).all()


X, W, B = np.ones((2, 3)), np.ones((3, 4)), np.ones(4)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, W[:2]), {}, ValueError, r"a has shape \(2, 3\), b has \(2, 4\)"),
        ((X, np.ones((3, 4, 1))), {}, ValueError, r"b must be a matrix or a vector; it has shape \(3, 4, 1\)"),
        ((np.array(1.0), W), {}, ValueError, "a must be a matrix or a vector"),
        ((X.astype(np.float32), W), {}, TypeError, "b is float64, a is float32"),
        ((X.astype(int), W), {}, TypeError, "a must be float32 or float64, not int"),
        ((X.astype(">f8"), W), {}, TypeError, "a must be float32 or float64, not >f8"),
        ((X, W.astype(complex)), {}, TypeError, "b must be float32 or float64, not complex128"),
        ((X.tolist(), W), {}, TypeError, "a must be a plain numpy.ndarray, not list"),
        ((np.ma.masked_array(X), W), {}, TypeError, "a must be a plain numpy.ndarray, not MaskedArray"),
        ((X, W.view(np.recarray)), {}, TypeError, "b must be a plain numpy.ndarray, not recarray"),
        ((X, W, np.ones((4, 2))), {}, ValueError, r"out has shape \(4, 2\), the product has \(2, 4\)"),
        ((X, W, np.ones((2, 4), np.float32)), {}, TypeError, "out is float32, the product is float64"),
        ((X, W, np.ones((4, 2)).T), {}, ValueError, "out must be C-contiguous"),
        (
            (X, W, np.ma.masked_array(np.ones((2, 4)))),
            {},
            TypeError,
            "out must be a plain numpy.ndarray, not MaskedArray",
        ),
        ((X, W), {"bias": np.ones(3)}, ValueError, r"bias has shape \(3,\), the product has 4 columns"),
        ((X, W), {"bias": np.ones((1, 4))}, ValueError, r"bias has shape \(1, 4\), the product has 4 columns"),
        ((X, W), {"bias": B.astype(np.float32)}, TypeError, "bias is float32, a is float64"),
        ((X, W), {"bias": 1.0}, TypeError, "bias must be a plain numpy.ndarray, not float"),
        (
            (X, W),
            {"activation": "gelu"},
            ValueError,
            "activation must be 'relu', 'sigmoid', 'tanh' or None, not 'gelu'",
        ),
        ((X, W), {"activation": 1}, TypeError, "activation must be a str or None, not int"),
    ],
)
def test_bad_input(name, arguments, options, error, message):
    use(name)
    with pytest.raises(error, match=message):
        fo.matmul(*arguments, **options)


def test_a_read_only_output_is_refused():
    out = np.zeros((2, 4))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        fo.matmul(X, W, out)


def test_read_only_operands_and_a_strided_bias_serve():
    x, w, b = X.copy(), W.copy(), np.arange(8.0)[::2]
    x.flags.writeable = w.flags.writeable = False
    np.testing.assert_array_equal(fo.matmul(x, w, bias=b), X @ W + b)


class TestChoice:
    def test_blas(self, rng):
        a, b, bias = rng.standard_normal((20, 3000)), rng.standard_normal((3000, 9)), rng.standard_normal(9)
        exact = fo.matmul(a, b)
        fo.set_matmul("blas")
        assert fo.get_matmul() == "blas"
        np.testing.assert_array_equal(fo.matmul(a, b), a @ b)
        np.testing.assert_array_equal(fo.matmul(a, b, activation="tanh"), fo.tanh(a @ b))
        np.testing.assert_array_equal(fo.matmul(a, b, bias=bias, activation="relu"), fo.relu(a @ b + bias))
        np.testing.assert_allclose(exact, a @ b, rtol=1e-10)
        assert np.isnan(fo.matmul(np.zeros((2, 2)), np.full((2, 2), np.inf))).all()  # without a warning

    @pytest.mark.parametrize("kind", ["fast", None, 1])
    def test_another_is_refused(self, kind):
        with pytest.raises(ValueError, match="matrix products are 'exact' or 'blas', not"):
            fo.set_matmul(kind)

    def test_from_the_environment(self):
        program = "import fastopt as fo; print(fo.get_matmul()); fo.show_config()"
        output = run_python("-c", program, FASTOPT_MATMUL="blas").stdout
        assert output.startswith("blas\n")
        assert "matrix products  blas (FASTOPT_MATMUL)" in output
        refused = run_python("-c", program, FASTOPT_MATMUL="quick").stderr
        assert "FASTOPT_MATMUL must be 'exact' or 'blas', not 'quick'" in refused

    @pytest.mark.parametrize(("has", "kind"), [(True, "exact"), (False, "blas")])
    def test_the_default_follows_the_processor(self, monkeypatch, has, kind):
        monkeypatch.setattr(products, "_kind", None)
        monkeypatch.setattr(products, "_has_multiply_add", lambda: has)
        assert fo.get_matmul() == kind
        assert "fused multiply-add" in products.reason()


def test_the_processor_is_asked():
    assert products._has_multiply_add() == (not HAVE_C or fo.instruction_sets() != ["baseline"])


def test_the_backend_that_serves_multiplies(monkeypatch):
    """Also where all is as it should be, which takes another path through Python."""
    calls = []
    monkeypatch.setattr(_backends.active, "try_matmul", lambda *arguments: calls.append("tried"))
    monkeypatch.setattr(_backends.active, "matmul", lambda *arguments: calls.append("done"))
    fo.matmul(X, W)
    fo.matmul(X, W[:, ::2], bias=B[::2])
    assert calls == ["tried", "done"] * 2


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
def test_what_is_plain_is_seen_to_be_so(monkeypatch, rng):
    """In C, which is a third of the time; so that nothing else is taken for it, each condition is broken by itself."""
    use("c")
    monkeypatch.setattr(_backends.active, "matmul", lambda *arguments: pytest.fail("not seen"))
    a, b, bias = rng.standard_normal((6, 5)), rng.standard_normal((5, 4)), rng.standard_normal(4)
    for dtype in DTYPES:
        x, w = a.astype(dtype), b.astype(dtype)
        for left in (x, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
            for right in (w, np.asfortranarray(w)):
                np.testing.assert_allclose(fo.matmul(left, right, bias=bias.astype(dtype)), a @ b + bias, rtol=1e-4)
    try_matmul, out = _backends.active.try_matmul, np.zeros((6, 4))
    read_only, store = out.copy(), np.zeros(64)
    read_only.flags.writeable = False
    unaligned = np.zeros(1 + 6 * 5 * 8, np.uint8)[1:].view(np.float64).reshape(6, 5)
    for arguments in (
        (a.astype(">f8"), b, out, None),
        (a, b.astype(np.float32), out, None),
        (a, b, out.astype(np.float32), None),
        (a.astype(int), b.astype(int), out.astype(int), None),
        (a[:, :4], b, out, None),
        (a[:5], b, out, None),
        (a, b[:, :3], out, None),
        (a, b, out[:5], None),
        (a[:0], b, out[:0], None),
        (a[:, :0], b[:0], out, None),
        (a[None], b, out, None),
        (a, b, out.ravel(), None),
        (a[::-1], b, out, None),
        (np.broadcast_to(a[:1], a.shape), b, out, None),
        (np.repeat(np.repeat(a, 2, axis=0), 2, axis=1)[::2, ::2], b, out, None),
        (unaligned, b, out, None),
        (a, b, np.zeros((4, 6)).T, None),
        (a, b, read_only, None),
        (store[:30].reshape(6, 5), b, store[29:53].reshape(6, 4), None),
        (a, store[30:50].reshape(5, 4), store[7:31].reshape(6, 4), None),
        (a, b, store[:24].reshape(6, 4), store[23:27]),
        (a, b, out, bias[:3]),
        (a, b, out, bias[None]),
        (a, b, out, np.repeat(bias, 2)[::2]),
        (a, b, out, bias.astype(np.float32)),
    ):
        before = arguments[2].copy()
        assert not try_matmul(*arguments, 0)
        assert_same_bits(arguments[2], before)
    assert try_matmul(a, b, out, bias, 0)
