"""The functions: how accurate they are, and that their bits are the same in every configuration."""

import mpmath
import numpy as np
import pytest
from helpers import CONFIGURATIONS, DTYPES, bits, shifted, special_values, use

import fastopt as fo
from fastopt import _backends

EVERY_CONFIGURATION = pytest.mark.parametrize(
    ("backend", "isa", "threads"), CONFIGURATIONS, ids=[f"{b}{i and '-'}{i}-{n}" for b, i, n in CONFIGURATIONS]
)
SIZES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 65, 511, 513, 8191, 8192, 8193, 2 * 8192, 5 * 8192 + 3)
EVERY_FLOAT32 = 2**32


def ordered(x):
    """Integers in the order of the floats: the distance of two is their distance in ulp."""
    integer = np.int64 if x.dtype == np.float64 else np.int32
    i = x.view(integer).astype(np.int64)
    return np.where(i < 0, np.iinfo(integer).min - i, i)


def ulps(found, expected):
    """By how many floats ``found`` is away from the correctly rounded ``expected``; 0 where both are NaN."""
    found, expected = np.ascontiguousarray(found), np.ascontiguousarray(expected)
    assert found.dtype == expected.dtype
    distance = np.abs(ordered(found) - ordered(expected))
    nan = np.isnan(found) | np.isnan(expected)
    return np.where(nan, np.where(np.isnan(found) & np.isnan(expected), 0, 2**31), distance)


# ---- accuracy in float32 --------------------------------------------------------------------------


def test_float32_accuracy_of_exp():
    """Every 4099th float32, and every 61st of those where it is neither 0, 1 nor inf, against double's.

    On all of them: test_float32_sweeps.py. What is made of it, such as sigmoid: test_activations.py.
    """
    few = np.arange(0, EVERY_FLOAT32, 4099, dtype=np.uint32)
    middle = np.arange(0x3C000000, 0x42E00000, 61, dtype=np.uint32)  # from 0.0078 to 112
    for patterns in (few, middle, middle | np.uint32(0x80000000)):
        x = patterns.view(np.float32)
        y = np.empty_like(x)
        _backends.active.exp(x, y)
        with np.errstate(all="ignore"):
            error = ulps(y, np.exp(x.astype(np.float64)).astype(np.float32))
        assert error.max() <= 1, x[np.argmax(error)]


def test_float32_accuracy_of_log1p_unit():
    patterns = np.arange(0, 0x3F800001, 997, dtype=np.uint32)  # from 0 to 1
    x = np.append(patterns, np.uint32(0x3F800000)).view(np.float32)
    y = np.empty_like(x)
    _backends.active.log1p_unit(x, y)
    error = ulps(y, np.log1p(x.astype(np.float64)).astype(np.float32))
    assert error.max() <= 2, x[np.argmax(error)]


# ---- accuracy in float64 --------------------------------------------------------------------------

# The function at high precision, its limit in ulp, and where it is looked at.
FLOAT64 = {
    "exp": (mpmath.exp, 1, (-746.0, 710.0)),
    "log1p_unit": (mpmath.log1p, 2, (0.0, 1.0)),
}


def hard_arguments(low, high, rng):
    """Random ones, tiny ones, and the neighbours of the multiples of log(2)/2, where the reduction is at its limit."""
    near = np.arange(low, high, np.log(2) / 2)
    edges = np.array([low, high, 0.0, -0.0, -708.4, -745.1, -745.13, -745.14, 709.7, 709.78, 709.79])
    x = np.concatenate(
        [
            rng.uniform(low, high, 1500),
            rng.uniform(-1, 1, 500),
            10.0 ** rng.uniform(-320, 0, 300) * rng.choice([-1, 1], 300),
            near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf),
            edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf),
        ]
    )  # fmt: skip
    return x[(x >= low) & (x <= high)]


@pytest.mark.parametrize("name", FLOAT64)
def test_float64_accuracy(name, rng):
    function, limit, (low, high) = FLOAT64[name]
    x = hard_arguments(low, high, rng)
    y = np.empty_like(x)
    getattr(_backends.active, name)(x, y)
    with mpmath.workdps(60):
        # float(mpf) rounds twice where the result is subnormal; that costs less than half an ulp more
        expected = np.array([float(function(mpmath.mpf(v))) for v in x.tolist()])
    error = ulps(y, expected)
    worst = np.argmax(error)
    assert error[worst] <= limit, f"{name}({x[worst]!r}) is off by {error[worst]} ulp"


# ---- special values -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(backend, dtype):
    info = np.finfo(dtype)
    x = np.array([-np.inf, -info.max, -0.0, 0.0, info.max, np.inf, np.nan], dtype)
    y = np.empty_like(x)
    _backends.active.exp(x, y)
    np.testing.assert_array_equal(y, [0, 0, 1, 1, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(fo.sigmoid(x), [0, 0, 0.5, 0.5, 1, 1, np.nan])
    one = np.array([0.0, 1.0], dtype)
    _backends.active.log1p_unit(one, y[:2])
    np.testing.assert_array_equal(y[:2], np.array([0, np.log(2)], dtype))


# ---- the same bits everywhere ---------------------------------------------------------------------


def arguments(size, dtype, rng):
    """Numbers of every size that the functions distinguish, the special ones among them."""
    wide = 800 if dtype == np.float64 else 110
    x = rng.choice([1, 30, wide], size) * rng.uniform(-1, 1, size)
    x = x.astype(dtype)
    special = np.concatenate([special_values(dtype), np.array([np.inf, -np.inf, np.nan], dtype)])
    if size > 200:
        x[rng.integers(0, size, len(special))] = special
    return x


_expected = {}


def compare(key, function):
    """``function()``, a list of arrays and numbers, against what it gives on the reference."""
    if key not in _expected:
        now = fo.get_backend()
        fo.set_backend("numpy")
        _expected[key] = list(map(bits, function()))
        fo.set_backend(now)
    for i, (found, expected) in enumerate(zip(map(bits, function()), _expected[key], strict=True)):
        assert found == expected, f"{key}: result {i} differs"


@EVERY_CONFIGURATION
@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise_bits(dtype, backend, isa, threads):
    use(backend, isa, threads)
    for name in ("exp", "sigmoid", "log1p_unit", "sigmoid_backward"):
        for size in SIZES:
            for offset in (0, 1) if size < 8191 else (1,):
                rng = np.random.default_rng(size)
                x, dy = arguments(size, dtype, rng), rng.standard_normal(size).astype(dtype)
                if name == "log1p_unit":
                    x = np.clip(np.nan_to_num(np.abs(x)), 0, 1)
                inputs = [shifted(dy, 2 * offset), shifted(x, offset)] if name == "sigmoid_backward" else [x]

                def run(name=name, inputs=inputs, offset=offset):
                    function = getattr(_backends.active, name)
                    out = shifted(inputs[0], 3 * offset)
                    function(*inputs, out)
                    in_place = [shifted(x, offset) for x in inputs]
                    function(*in_place, in_place[-1])
                    assert bits(in_place[-1]) == bits(out), "in place gives other bits"
                    return [out]

                before = [bits(x) for x in inputs]
                compare((name, dtype, size, offset), run)
                assert [bits(x) for x in inputs] == before


@EVERY_CONFIGURATION
@pytest.mark.parametrize("dtype", DTYPES)
def test_logistic_loss_bits(dtype, backend, isa, threads):
    """Losses, their sum and the gradient, around the blocks of 8192 elements of which the sum is made."""
    use(backend, isa, threads)
    for size in SIZES:
        rng = np.random.default_rng(size)
        z, y = arguments(size, dtype, rng), rng.uniform(0, 1, size).astype(dtype)
        y[: size // 2] = rng.integers(0, 2, size // 2)
        finite = np.clip(np.nan_to_num(z), -1e4, 1e4)  # for a sum that is neither inf nor NaN

        def run(z=z, y=y, finite=finite):
            losses, dz = fo.logistic_loss(shifted(z, 1), y, reduction="none")
            total, gradient = fo.logistic_loss(finite, shifted(y, 3), reduction="sum")
            in_place = finite.copy()
            assert fo.logistic_loss(in_place, y, reduction="sum", out=in_place)[0] == total
            assert bits(in_place) == bits(gradient)
            return [losses, dz, np.float64(total), gradient]

        compare(("logistic_loss", dtype, size), run)


@EVERY_CONFIGURATION
def test_logistic_loss_bits_of_more_than_256_blocks(backend, isa, threads):
    use(backend, isa, threads)
    rng = np.random.default_rng(5)
    z, y = (rng.standard_normal(256 * 8192 + 8192 + 77).astype(np.float32) for _ in range(2))
    compare("many blocks", lambda: [np.float64(fo.logistic_loss(z, y)[0])])


@EVERY_CONFIGURATION
@pytest.mark.parametrize("dtype", DTYPES)
def test_row_functions_bits(dtype, backend, isa, threads):
    """What a layer does with its bias, on matrices of every form."""
    use(backend, isa, threads)
    for rows, columns in (
        (0, 3),
        (3, 0),
        (1, 1),
        (2, 7),
        (33, 17),
        (1, 64),
        (5, 65),
        (300, 130),
        (3, 20_001),
        (20_001, 3),
    ):
        rng = np.random.default_rng(rows)
        x, bias = rng.standard_normal((rows, columns)).astype(dtype), rng.standard_normal(columns).astype(dtype)
        x[:, : columns // 4] = -0.0

        def run(x=x, bias=bias):
            added, activated, sums = shifted(x, 1), x.copy(), np.empty_like(bias)
            _backends.active.bias_add(added, bias)
            _backends.active.bias_sigmoid(activated, bias)
            _backends.active.column_sums(x, sums)
            return [added, activated, sums]

        compare(("rows", dtype, rows, columns), run)


@pytest.mark.parametrize("dtype", DTYPES)
@EVERY_CONFIGURATION
def test_argmax(dtype, backend, isa, threads, rng):
    """NumPy's own, with ties, infinities and NaNs; of many columns, too, where it is NumPy's."""
    use(backend, isa, threads)
    for columns in (1, 2, 3, 7, 8, 9, 16, 31, 63, 64, 100):
        for rows in (0, 1, 31, 32, 33, 5000):
            x = rng.integers(-3, 4, (rows, columns)).astype(dtype)
            for special in (np.nan, np.inf, -np.inf):
                x[rng.random(x.shape) < 0.05] = special
            np.testing.assert_array_equal(_backends.active.argmax(x), x.argmax(axis=1), f"{x.shape}")


def test_row_functions_are_right(backend, rng):
    x, bias = rng.standard_normal((300, 130)), rng.standard_normal(130)
    sums, added, activated = np.empty(130), x.copy(), x.copy()
    _backends.active.column_sums(x, sums)
    _backends.active.bias_add(added, bias)
    _backends.active.bias_sigmoid(activated, bias)
    np.testing.assert_allclose(sums, x.sum(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(added, x + bias)
    np.testing.assert_allclose(activated, 1 / (1 + np.exp(-(x + bias))), rtol=1e-14)


# ---- the logistic loss ----------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 3e-7), (np.float64, 5e-16)])
def test_logistic_loss_against_mpmath(backend, dtype, rtol, rng):
    z = np.concatenate([rng.uniform(-5, 5, 100), rng.uniform(-80, 80, 100), [0, 1e-30, -1e-30]]).astype(dtype)
    y = rng.choice([0.0, 1.0, 0.25, 0.9], len(z)).astype(dtype)
    losses, dz = fo.logistic_loss(z, y, reduction="none")
    with mpmath.workdps(60):
        exact = [(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(z, y, strict=True)]
        expected = np.array([float((1 - b) * a + mpmath.log1p(mpmath.exp(-a))) for a, b in exact])
        gradient = np.array([float(1 / (1 + mpmath.exp(-a)) - b) for a, b in exact])
    np.testing.assert_allclose(losses, expected, rtol=rtol)
    # where the target is between 0 and 1 the difference may cancel: relative to the larger of the two numbers
    np.testing.assert_allclose(dz, gradient, rtol=rtol, atol=np.finfo(dtype).eps / 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logistic_loss_where_the_target_is_certain(backend, dtype):
    """On the target's side the loss and its gradient keep their relative accuracy down to nothing."""
    z = np.array([-80.0, -40.0, 40.0, 80.0], dtype)
    losses, dz = fo.logistic_loss(z, np.array([0.0, 0.0, 1.0, 1.0], dtype), reduction="none")
    expected = np.exp(-np.abs(z.astype(np.float64)))
    np.testing.assert_allclose(losses, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(dz, expected * [1, 1, -1, -1], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logistic_loss_of_infinite_and_huge_logits(backend, dtype):
    huge = np.finfo(dtype).max
    z = np.array([np.inf, -np.inf, np.inf, -np.inf, huge, -huge, huge, -huge, np.nan, 1.0], dtype)
    y = np.array([1, 0, 0, 1, 1, 0, 0, 1, 1, np.nan], dtype)
    losses, dz = fo.logistic_loss(z, y, reduction="none")
    np.testing.assert_array_equal(losses, np.array([0, 0, np.inf, np.inf, 0, 0, huge, huge, np.nan, np.nan], dtype))
    np.testing.assert_array_equal(dz, np.array([0, 0, 1, -1, 0, 0, 1, -1, np.nan, np.nan], dtype))
    assert fo.logistic_loss(z[:2], y[:2])[0] == 0.0
    assert np.isnan(fo.logistic_loss(z, y)[0])


def test_logistic_loss_reductions(backend, rng):
    z, y = rng.standard_normal((7, 11)), rng.integers(0, 2, (7, 11)).astype(np.float64)
    losses, dz = fo.logistic_loss(z, y, reduction="none")
    assert losses.shape == dz.shape == z.shape
    total, dz_sum = fo.logistic_loss(z, y, reduction="sum")
    mean, dz_mean = fo.logistic_loss(z, y)
    assert isinstance(total, float)
    assert isinstance(mean, float)
    np.testing.assert_allclose(total, losses.sum(), rtol=1e-14)
    assert mean == total / z.size
    assert dz_sum.tobytes() == dz.tobytes()
    np.testing.assert_allclose(dz_mean, dz / z.size, rtol=1e-15)


def test_empty_arrays(backend):
    for dtype in DTYPES:
        empty = np.empty((0, 3), dtype)
        assert fo.sigmoid(empty).shape == (0, 3)
        assert fo.sigmoid_backward(empty, empty).shape == (0, 3)
        assert fo.logistic_loss(empty, empty, reduction="sum")[0] == 0.0
        losses, dz = fo.logistic_loss(empty, empty, reduction="none")
        assert losses.shape == dz.shape == (0, 3)


def test_any_shape_and_layout(backend, rng):
    """What is read may be strided, transposed, read-only or of no dimensions."""
    x = rng.standard_normal((6, 8))
    expected = fo.sigmoid(x)
    frozen = x.copy()
    frozen.flags.writeable = False
    assert fo.sigmoid(frozen).tobytes() == expected.tobytes()
    assert fo.sigmoid(np.asfortranarray(x)).tobytes() == expected.tobytes()
    np.testing.assert_array_equal(fo.sigmoid(x[::2, ::3]), expected[::2, ::3])
    np.testing.assert_array_equal(fo.sigmoid(x.T), expected.T)
    np.testing.assert_array_equal(fo.sigmoid(x[0, :1].reshape(())), expected[0, 0])
    np.testing.assert_array_equal(
        fo.logistic_loss(x.T, x.T, reduction="none")[0], fo.logistic_loss(x, x, reduction="none")[0].T
    )


# ---- gradients against finite differences ---------------------------------------------------------


def test_sigmoid_backward_is_the_derivative(backend, rng):
    x, dy, h = rng.uniform(-8, 8, 50), rng.standard_normal(50), 1e-5
    numeric = dy * (1 / (1 + np.exp(-(x + h))) - 1 / (1 + np.exp(-(x - h)))) / (2 * h)
    np.testing.assert_allclose(fo.sigmoid_backward(dy, fo.sigmoid(x)), numeric, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_logistic_loss_gradient_is_the_derivative(backend, reduction, rng):
    z, y, h = rng.uniform(-6, 6, 20), rng.uniform(0, 1, 20), 1e-5

    def loss(z):
        each = np.logaddexp(0, z) - y * z
        return each.mean() if reduction == "mean" else each.sum()

    numeric = [(loss(z + h * unit) - loss(z - h * unit)) / (2 * h) for unit in np.eye(20)]
    value, dz = fo.logistic_loss(z, y, reduction=reduction)
    np.testing.assert_allclose(value, loss(z), rtol=1e-14)
    np.testing.assert_allclose(dz, numeric, rtol=1e-6, atol=1e-9)
