"""The activations: their accuracy, their derivatives, and themselves in every backend."""

import csv
import json
from pathlib import Path

import mpmath
import numpy as np
import pytest
from activation_truth import TRUTH, special_arguments
from helpers import BACKENDS
from variants import assert_all_agree, misaligned, numerical_gradient, using

import fastopt as fo
from fastopt._specification.kernels import ACTIVATIONS, OF_INPUT
from fastopt.nn.activations import Activation

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "torch_layers.npz"))
CASES = json.loads(str(GOLDEN["cases"]))["activation"]
DTYPES = [np.float32, np.float64]
NAMES, FROM_INPUT = ACTIVATIONS, OF_INPUT  # whose gradients are computed from x, the others' from y


def ulp_errors(result, exact):
    """How far ``result`` is from ``exact``, in float64, when that is rounded to the result's type."""
    rounded = exact.astype(result.dtype)
    return np.abs(result.astype(np.float64) - rounded) / np.spacing(np.abs(rounded)).astype(np.float64)


def check(name, x, errors):
    errors = np.where(TRUTH[name].ordinary(x), errors, 0)
    worst = np.nanargmax(errors)
    assert errors[worst] <= TRUTH[name].ulp, f"{name} is {errors[worst]} ulp off at {x[worst]!r}"


def every_float32(step):
    """Every step-th of the finite numbers."""
    bits = np.arange(0, 0x7F800000, step, dtype=np.uint32)
    return np.concatenate([bits.view(np.float32), (bits | np.uint32(0x80000000)).view(np.float32)])


def test_every_activation_has_its_truth_and_its_layer():
    assert set(TRUTH) == set(NAMES)
    assert {kind.function for kind in Activation.__subclasses__()} == set(NAMES) - {"gelu_tanh"}  # an option of GELU
    assert {kind.__name__ for kind in Activation.__subclasses__()} <= set(fo.nn.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_in_float32(name):
    """On a sample; test_float32_sweeps.py looks at all of them."""
    x = every_float32(4099)
    with np.errstate(all="ignore"):
        exact = TRUTH[name].exact(x.astype(np.float64))
        check(name, x, ulp_errors(getattr(fo, name)(x), exact))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [600, pytest.param(100_000, marks=pytest.mark.slow)])
def test_accuracy_in_float64(name, count):
    rng = np.random.default_rng(0)
    wide = rng.choice([-1, 1], count) * 10 ** rng.uniform(-300, 2.8, count)
    x = np.concatenate([rng.uniform(-40, 40, count), rng.normal(size=count), wide])
    y = getattr(fo, name)(x)
    errors = np.empty(x.size)
    with mpmath.workdps(60):
        for i, (xi, yi) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
            exact = float(TRUTH[name].precise(mpmath.mpf(xi)))
            errors[i] = abs(yi - exact) / np.spacing(abs(exact))
    check(name, x, errors)


def umath_rows(name):
    core = Path(np.__file__).parent / ("_core" if hasattr(np, "_core") else "core")
    path = core / "tests" / "data" / f"umath-validation-set-{name}.csv"
    if not path.exists():
        pytest.skip("this NumPy comes without its tests")
    with path.open(encoding="utf-8") as file:
        for row in csv.reader(line for line in file if not line.startswith(("#", "dtype"))):
            integer, dtype = (np.uint32, np.float32) if row[0].endswith("32") else (np.uint64, np.float64)
            if row[0] in ("np.float32", "np.float64"):
                yield dtype, *(np.array(int(value, 16), integer).view(dtype)[()] for value in row[1:3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "tolerance"), [("exp", 1), ("log1p", 3), ("tanh", 4)])
def test_numpys_own_hard_arguments(name, tolerance, dtype):
    """Its results are themselves off by up to 0.63 ulp: of log1p and tanh, one more than ours may be."""
    pairs = [(x, y) for t, x, y in umath_rows(name) if t is dtype and (name != "log1p" or 0 <= x <= 1)]
    x, expected = np.array(pairs, dtype).T.copy()
    result = np.empty_like(x)
    getattr(fo._backends.active, {"log1p": "log1p_unit"}.get(name, name))(x, result)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(result[~finite], expected[~finite])
    # exp of the smallest subnormals: an ulp there is the number itself
    errors = np.abs(result[finite].astype(np.float64) - expected[finite]) / np.spacing(np.abs(expected[finite]))
    assert errors.max() <= tolerance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(backend, dtype):
    x = special_arguments(dtype)
    with using((backend, None, 1)):
        for name in NAMES:
            expected = np.array(TRUTH[name].special(x[5], x[7]), dtype)
            np.testing.assert_array_max_ulp(getattr(fo, name)(x), expected, 1)
        np.testing.assert_array_equal(np.signbit(fo.tanh(x[3:7])), [False, True, False, True])
        np.testing.assert_array_equal(fo.relu_backward(np.full(3, 2.0), np.array([0.0, 3.0, np.nan])), [0, 2, 2])


@pytest.mark.parametrize("case", range(len(CASES)))
def test_results_are_pytorchs(backend, case):
    name, options = CASES[case]
    x, forward, backward = GOLDEN["x"], getattr(fo, name), getattr(fo, f"{name}_backward")
    layer = {kind.function: kind for kind in Activation.__subclasses__()}[name](*options.values())
    y, dx = GOLDEN[f"activation{case}_y"], GOLDEN[f"activation{case}_dx"]
    for found in (forward(x, **options), layer(x[None])[0]):
        np.testing.assert_allclose(found, y, rtol=1e-9, atol=1e-15)  # PyTorch's 1 + erf and 1 + tanh cancel
    for found in (backward(np.ones_like(x), x, **options), layer.backward(np.ones((1, x.size)))[0]):
        np.testing.assert_allclose(found, dx, rtol=1e-13, atol=1e-15)


def test_options_are_checked_and_take_effect_in_the_next_pass(backend):
    x = np.array([[-1.0, 2.0]], np.float32)
    for layer, option, value in [(fo.nn.LeakyReLU(), "negative_slope", 0.5), (fo.nn.ELU(), "alpha", 2.0)]:
        model = fo.nn.Sequential(layer)
        function = getattr(fo, layer.function)
        for again in (getattr(layer, option), value):
            setattr(layer, option, again)
            for found in (layer(x), model(x), model.predict(x)):
                np.testing.assert_array_equal(found, function(x, **{option: again}))
            expected = getattr(fo, f"{layer.function}_backward")(x, x, **{option: again})
            np.testing.assert_array_equal(model.backward(x), expected)
        assert repr(layer) == f"{type(layer).__name__}({value})"
        for bad, error in (("1", TypeError), (np.nan, ValueError), (np.inf, ValueError), (True, TypeError)):
            with pytest.raises(error, match=f"{option} must be a"):
                setattr(layer, option, bad)
            with pytest.raises(error, match=f"{option} must be a"):
                function(x, **{option: bad})
    assert repr(fo.nn.GELU("tanh")) == "GELU(approximate='tanh')"
    for bad in ("erf", None, 1):
        with pytest.raises(ValueError, match="approximate must be"):
            fo.nn.GELU(bad)
        with pytest.raises(ValueError, match="approximate must be"):
            fo.gelu(x, approximate=bad)
    with pytest.raises(AttributeError, match="approximate of GELU"):
        fo.nn.GELU().approximate = "tanh"


def test_gelu_keeps_its_digits_where_it_is_flat(backend):
    """Where the derivative is 1 or 0, infinities included, and where 1 + erf has none left."""
    x = np.array([-np.inf, -40.0, -9.0, 9.0, 50.0, np.inf])
    for name in ("gelu", "gelu_tanh"):
        slopes = getattr(fo, f"{name}_backward")(np.ones(6), x)
        np.testing.assert_allclose(slopes, [0, 0, 0, 1, 1, 1], atol=1e-15)
    with mpmath.workdps(30):
        np.testing.assert_allclose(fo.gelu(x[1:3])[1], float(-9 * mpmath.ncdf(-9)), rtol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name):
    x = np.linspace(-4, 4, 40).reshape(5, 8)
    forward, backward = getattr(fo, name), getattr(fo, f"{name}_backward")
    dy = np.random.default_rng(1).standard_normal(x.shape)
    dx = backward(dy, x if name in FROM_INPUT else forward(x))
    np.testing.assert_allclose(dx, numerical_gradient(lambda v: (dy * forward(v)).sum(), x), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_bits_are_the_same_everywhere(name, dtype):
    forward, backward = getattr(fo, name), getattr(fo, f"{name}_backward")
    rng = np.random.default_rng(2)
    arrays = [(20 * rng.standard_normal((2, size))).astype(dtype) for size in (0, 1, 33, 8193, 20001)]
    arrays[3][0, :3] = np.inf, -np.inf, np.nan

    def compute(place=np.copy):
        results = []
        for x, dy in arrays:
            y = forward(place(x))
            results += [y, forward(x, out=place(x)), backward(place(dy), y), backward(dy, y, out=place(dy))]
        return results

    expected = assert_all_agree(compute)
    for result, again in zip(expected, compute(misaligned), strict=True):
        np.testing.assert_array_equal(result, again)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["add", "sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (33, 10), (300, 100), (2, 9001)], ids=str)
def test_with_a_bias(name, shape, dtype):
    rng = np.random.default_rng(3)
    x, bias = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[1]).astype(dtype)

    def compute():
        y = x.copy()
        getattr(fo._backends.active, f"bias_{name}")(y, bias)
        return (y,)

    (y,) = assert_all_agree(compute)
    np.testing.assert_array_equal(y, x + bias if name == "add" else getattr(fo, name)(x + bias))


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused_before_anything_is_written(name):
    forward, backward = getattr(fo, name), getattr(fo, f"{name}_backward")
    value = "x" if name in FROM_INPUT else "y"
    x, read_only, large = np.zeros((4, 3)), np.zeros((4, 3)), np.full((5, 3), 7.0)
    read_only.flags.writeable = False
    for bad, error, message in [
        ([1.0], TypeError, "x must be a plain numpy.ndarray, not list"),
        (np.zeros(3, np.float16), TypeError, "x must be float32 or float64, not float16"),
    ]:
        with pytest.raises(error, match=message):
            forward(bad)
    for out, error, message in [
        (np.zeros((3, 4)), ValueError, r"out has shape \(3, 4\), {} has \(4, 3\)"),
        (np.zeros((4, 3), np.float32), TypeError, "out is float32, {} is float64"),
        (read_only, ValueError, "out is read-only"),
        (np.zeros((3, 4)).T, ValueError, "out must be C-contiguous"),
        ([0.0], TypeError, "out must be a plain numpy.ndarray, not list"),
    ]:
        with pytest.raises(error, match=message.format("x")):
            forward(x, out=out)
        with pytest.raises(error, match=message.format(value)):
            backward(x, x, out=out)
    with pytest.raises(ValueError, match="out overlaps a part of x"):
        forward(large[:4], out=large[1:])
    with pytest.raises(ValueError, match=rf"dy has shape \(3, 4\), {value} has \(4, 3\)"):
        backward(np.zeros((3, 4)), x)
    with pytest.raises(TypeError, match=f"dy is float32, {value} is float64"):
        backward(np.zeros((4, 3), np.float32), x)
    assert (large == 7).all()


def test_strided_input_is_read_as_it_is():
    x = np.linspace(-3, 3, 24).reshape(4, 6)
    np.testing.assert_array_equal(fo.tanh(x[:, ::2]), fo.tanh(x)[:, ::2])
    np.testing.assert_array_equal(fo.tanh(x.T), fo.tanh(x).T)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_taken_as_arrays_of_one(backend, name):
    function, derivative = getattr(fo, name), getattr(fo, f"{name}_backward")
    for x, kind in [(0.5, np.float64), (2, np.float64), (np.float32(0.5), np.float32), (np.int64(2), np.float64)]:
        y, expected = function(x), function(np.array([x], kind))
        assert type(y) is kind
        assert y == expected[0]
        assert type(derivative(1, y)) is kind
        assert derivative(0.5, y) == derivative(np.array([0.5], kind), expected)[0]
    for wrong in (True, None, 1j, "1"):
        with pytest.raises(TypeError, match=r"x must be a plain numpy\.ndarray, not"):
            function(wrong)


# -- softmax --


@pytest.mark.parametrize("shape", [(1, 1), (33, 63), (40, 64), (7, 100), (2000, 10), (0, 4), (2, 3, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_softmax_are_the_same_everywhere(shape, dtype, rng):
    x = (10 * rng.standard_normal(shape)).astype(dtype)
    (y,) = assert_all_agree(lambda: (fo.softmax(x),))
    e = np.exp((x - x.max(axis=-1, keepdims=True, initial=-np.inf)).astype(np.float64))
    np.testing.assert_allclose(y, e / e.sum(axis=-1, keepdims=True), rtol=8 * np.finfo(dtype).eps)
    (again,) = assert_all_agree(lambda: (fo.softmax(misaligned(x)),))
    np.testing.assert_array_equal(again, y)
    written = x.copy()
    assert fo.softmax(written, written) is written
    np.testing.assert_array_equal(written, y)


@pytest.mark.parametrize("classes", [3, 70])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_at_extreme_numbers(classes, dtype):
    x = np.zeros((5, classes), dtype)
    x[0, 0], x[1, :2], x[2, 0], x[3, 1] = -np.inf, np.inf, np.finfo(dtype).max, np.nan
    x[4] = -np.inf
    (y,) = assert_all_agree(lambda: (fo.softmax(x),))
    np.testing.assert_array_equal(y[0, :2], [0, dtype(1) / (classes - 1)])
    np.testing.assert_array_equal(y[1, :3], [0.5, 0.5, 0])
    np.testing.assert_array_equal(y[2, :2], [1, 0])
    assert np.isnan(y[3:]).all()


def test_what_softmax_refuses(backend):
    x = np.arange(24.0).reshape(6, 4)
    for wrong, error, message in [
        (np.zeros(()), ValueError, r"x has shape \(\): softmax is over the last axis"),
        (np.zeros((2, 0)), ValueError, "at least one class"),
        (np.zeros((2, 2), int), TypeError, r"x must be float32 or float64, not int64: x\.astype\(np\.float32\)"),
        ([[1.0]], TypeError, "x must be a plain numpy.ndarray, not list: np.asarray"),
        (np.ma.masked_array(x), TypeError, "x must be a plain numpy.ndarray, not MaskedArray"),
    ]:
        with pytest.raises(error, match=message):
            fo.softmax(wrong)
    with pytest.raises(ValueError, match="out overlaps a part of x"):
        fo.softmax(x[:4], x[1:5])
    with pytest.raises(ValueError, match="overlaps a part of an input"):
        fo._backends.active.softmax(x[:4], x[1:5])  # which others may rely on, as on that of the other kernels
    np.testing.assert_array_equal(x, np.arange(24.0).reshape(6, 4))
