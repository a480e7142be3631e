"""fastopt.init: PyTorch's gains and spreads, the distributions themselves, and what is refused."""

import inspect
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import DTYPES

import fastopt as fo
from fastopt import init

RECORDED = np.load(Path(__file__).parents[1] / "golden" / "torch_init.npz")
RANDOM = {
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "trunc_normal_": init.trunc_normal_,
    "xavier_uniform_": init.xavier_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "orthogonal_": init.orthogonal_,
    "sparse_": partial(init.sparse_, sparsity=0.3),
}
FILLING = {**RANDOM, "constant_": partial(init.constant_, val=0.1), "ones_": init.ones_, "zeros_": init.zeros_}


def recorded(name):
    return json.loads(str(RECORDED[name]))


# -- what PyTorch does --


@pytest.mark.parametrize(("nonlinearity", "param", "gain"), recorded("gains"))
def test_gains_are_those_of_torch(nonlinearity, param, gain):
    assert init.calculate_gain(nonlinearity, param) == gain


@pytest.mark.parametrize("name", ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_and_deviations_are_those_of_torch(name, dtype):
    """For every shape, of up to 5 dimensions: the numbers drawn are those drawn with torch's bounds or deviation."""
    cases = [case for case in recorded("draws") if case["function"] == name]
    assert len(cases) >= 10
    base = init.uniform_ if "uniform" in name else init.normal_
    for case in cases:
        ours = getattr(init, name)(np.empty(case["shape"], dtype), **case["kwargs"], rng=1)
        theirs = base(np.empty(case["shape"], dtype), *case["numbers"], rng=1)
        np.testing.assert_allclose(ours, theirs, rtol=4 * np.finfo(dtype).eps)


def test_the_textbook_names():
    m, n = 30, 50
    fresh = partial(np.empty, (n, m))
    for variance, kwargs in [
        (1 / m, {"nonlinearity": "linear"}),
        (2 / m, {"nonlinearity": "relu"}),
        (2 / m, {}),
        (1 / n, {"nonlinearity": "linear", "mode": "fan_out"}),
    ]:
        expected = init.normal_(fresh(), 0, variance**0.5, rng=0)
        np.testing.assert_allclose(init.kaiming_normal_(fresh(), rng=0, **kwargs), expected, rtol=1e-15)
    bound = math.sqrt(6 / (m + n))
    expected = init.uniform_(fresh(), -bound, bound, rng=0)
    np.testing.assert_allclose(init.xavier_uniform_(fresh(), rng=0), expected, rtol=1e-14)


def test_orthogonal_makes_of_the_same_normal_numbers_what_torch_makes():
    for i in range(sum(name.startswith("normal") for name in RECORDED)):
        normal, theirs = RECORDED[f"normal{i}"], RECORDED[f"orthogonal{i}"]
        assert (np.random.default_rng(i).standard_normal(normal.shape) == normal).all()
        np.testing.assert_allclose(init.orthogonal_(np.empty_like(normal), -1.5, rng=i), theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("rows", "sparsity", "zeros"), recorded("zeros"))
def test_sparse_has_as_many_zeros_in_every_column_as_torch(rows, sparsity, zeros):
    w = init.sparse_(np.empty((rows, 200), np.float32), sparsity, rng=0)
    assert set((w == 0).sum(axis=0).tolist()) == set(zeros)


# -- the distributions --


def kolmogorov_smirnov(values, cdf):
    """The greatest distance between the distribution of the values and ``cdf``, times the root of their number.

    If they come from ``cdf``, it is above 1.95 once in a thousand times.
    """
    values = np.sort(values.ravel().astype(np.float64))
    expected = np.array([cdf(x) for x in values])
    steps = np.arange(len(values) + 1) / len(values)
    return max((steps[1:] - expected).max(), (expected - steps[:-1]).max()) * len(values) ** 0.5


def normal_cdf(x, mean=0.0, std=1.0):
    return math.erfc((mean - x) / std / math.sqrt(2)) / 2


def uniform_cdf(x, low, high):
    return (x - low) / (high - low)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("fill", "cdf"),
    [
        (partial(init.uniform_, a=-3, b=0.5), partial(uniform_cdf, low=-3, high=0.5)),
        (partial(init.normal_, mean=2, std=0.1), partial(normal_cdf, mean=2, std=0.1)),
        (partial(init.xavier_uniform_, gain=2), partial(uniform_cdf, low=-2 * 0.02**0.5, high=2 * 0.02**0.5)),
        (init.xavier_normal_, partial(normal_cdf, std=(2 / 300) ** 0.5)),
        (init.kaiming_uniform_, partial(uniform_cdf, low=-(0.03**0.5), high=0.03**0.5)),
        (partial(init.kaiming_normal_, mode="fan_out"), partial(normal_cdf, std=0.02**0.5)),
        (partial(init.sparse_, sparsity=0.5, std=3), partial(normal_cdf, std=3)),
    ],
)
def test_distributions(fill, cdf, dtype):
    w = fill(np.empty((100, 200), dtype), rng=12)
    values = w[w != 0]
    assert values.size in (w.size, w.size / 2)
    assert kolmogorov_smirnov(values, cdf) < 1.95
    assert kolmogorov_smirnov(values + 0.1 * values.std(), cdf) > 2.5  # the test itself sees a small difference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("low", "high"),
    [(-2, 2), (-0.1, 0.3), (-1e-13, 1e-13), (0, 1), (0.5, math.inf), (-math.inf, -3.0), (4, 4.2), (-3, -2.5),
     (-9, 0.2), (-math.inf, math.inf), (6, 100)],
)  # fmt: skip
def test_truncated_normal_is_the_distribution_within_the_bounds(low, high, dtype):
    mean, std = 10.0, 2.0
    w = init.trunc_normal_(np.empty((40, 100), dtype), mean, std, mean + low * std, mean + high * std, rng=3)
    assert dtype(mean + low * std) <= w.min() <= w.max() <= dtype(mean + high * std)
    if high - low < 1e-6:  # every number is next to the mean
        return

    # by the tail that the interval lies in: the difference of two numbers next to 1 would be rounding
    sign = 1 if low + high >= 0 else -1
    above = (lambda z: math.erfc(z / math.sqrt(2)) / 2) if sign > 0 else (lambda z: math.erfc(-z / math.sqrt(2)) / 2)
    whole = abs(above(low) - above(high))

    def cdf(x):
        return abs(above(low) - above((x - mean) / std)) / whole

    assert kolmogorov_smirnov(w, cdf) < 1.95


def test_truncated_normal_far_out_is_exponential():
    """Beyond 30 standard deviations: z - 30 is next to exponential with rate 30."""
    z = init.trunc_normal_(np.empty(5000), a=30, b=math.inf, rng=0) - 30
    assert kolmogorov_smirnov(z, lambda x: -math.expm1(-30 * x - x * x / 2)) < 1.95
    assert (init.trunc_normal_(np.empty(9), std=1e-320, a=1, b=2) == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 5), (3, 40), (40, 3), (8, 3, 2, 2), (1, 7)])
def test_orthogonal(shape, dtype):
    w = init.orthogonal_(np.empty(shape, dtype), 2.0, rng=0).reshape(shape[0], -1).astype(np.float64)
    product = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), rtol=0, atol=16 * np.finfo(dtype).eps)


def test_orthogonal_matrices_are_evenly_spread():
    """A single entry of a random rotation of the circle is cos of an even angle; and both signs of det occur."""
    rng = np.random.default_rng(0)
    matrices = np.stack([init.orthogonal_(np.empty((2, 2)), rng=rng) for _ in range(2000)])
    for entry in matrices.reshape(-1, 4).T:
        assert kolmogorov_smirnov(entry, lambda x: 1 - math.acos(max(-1, min(1, x))) / math.pi) < 1.95
    assert 900 < (np.linalg.det(matrices) > 0).sum() < 1100


def test_sparse_leaves_k_weights_to_every_unit():
    for inputs in (7, 30, 64, 100):
        for k in range(inputs + 1):  # 1 - k / inputs is seldom exact
            w = init.sparse_(np.empty((20, inputs)).T, 1 - k / inputs, rng=k).T
            assert (np.count_nonzero(w, axis=1) == k).all()
    places = (init.sparse_(np.empty((10, 5000)), 0.3, rng=0) == 0).mean(axis=1)
    np.testing.assert_allclose(places, 0.3, atol=0.03)  # every place is as often 0


# -- in place --


@pytest.mark.parametrize("name", FILLING)
def test_in_place_whatever_the_strides(name):
    fill = partial(FILLING[name], rng=3) if name in RANDOM else FILLING[name]
    plain = np.full((6, 4), np.nan)
    assert fill(plain) is plain
    around = np.full((12, 5), -7.0)
    strided = around[::2, :4]
    assert fill(strided) is strided
    np.testing.assert_array_equal(strided, plain)
    assert (around[1::2] == -7).all()
    assert (around[:, 4] == -7).all()
    single = fill(np.empty((6, 4), np.float32))
    np.testing.assert_array_equal(single, plain.astype(np.float32))
    for shape in ((0, 3), (3, 0), (0, 0)):
        assert fill(np.empty(shape)).shape == shape


@pytest.mark.parametrize("name", RANDOM)
def test_rng(name):
    fill, fresh = RANDOM[name], partial(np.empty, (6, 4))
    np.testing.assert_array_equal(fill(fresh(), rng=1), fill(fresh(), rng=np.random.default_rng(1)))
    rng = np.random.default_rng(1)
    assert (fill(fresh(), rng=rng) != fill(fresh(), rng=rng)).any()
    assert (fill(fresh()) != fill(fresh())).any()


def test_linear_draws_through_init():
    layer, rng = fo.nn.Linear(16, 3, rng=5), np.random.default_rng(5)
    for param in layer.parameters().values():
        np.testing.assert_array_equal(param, init.uniform_(np.empty_like(param), -0.25, 0.25, rng=rng))
    weight = init.kaiming_uniform_(np.empty((3, 16)), a=math.sqrt(5), rng=5)  # what torch writes for the same
    np.testing.assert_allclose(layer.weight, weight, rtol=1e-6)


# -- what is refused --


def frozen(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("name", FILLING)
@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        ([[1.0]], TypeError, "array must be a numpy.ndarray, not list"),
        (np.zeros((2, 2), int), TypeError, "array must be float32 or float64, not int"),
        (np.zeros((2, 2), np.float16), TypeError, "array must be float32 or float64, not float16"),
        (np.zeros((2, 2), np.dtype("f8").newbyteorder()), TypeError, "array must be float32 or float64, not [<>]f8"),
        (frozen(np.zeros((2, 3))), ValueError, r"array, of shape \(2, 3\), is read-only"),
    ],
)
def test_arrays_that_are_refused(name, array, error, message):
    with pytest.raises(error, match=message):
        FILLING[name](array)


@pytest.mark.parametrize("name", [name for name in FILLING if name.startswith(("xavier", "kaiming", "orth", "sparse"))])
def test_fans_need_two_dimensions(name):
    with pytest.raises(ValueError, match=r"array has shape \(3,\)"):
        FILLING[name](np.zeros(3))


BAD_ARGUMENTS = [
    ("uniform_", {"a": 2, "b": 1}, ValueError, "a must be at most b, and a is 2, b is 1"),
    ("uniform_", {"a": math.nan}, ValueError, "a must be a finite number"),
    ("uniform_", {"b": math.inf}, ValueError, "b must be a finite number"),
    ("uniform_", {"a": "0"}, TypeError, "a must be a number, not str"),
    ("uniform_", {"a": -1e308, "b": 1e308}, ValueError, "b - a must be finite"),
    ("normal_", {"std": -1}, ValueError, "std must be a finite number in"),
    ("normal_", {"mean": math.inf}, ValueError, "mean must be a finite number"),
    ("normal_", {"std": True}, TypeError, "std must be a number, not bool"),
    ("trunc_normal_", {"a": 2, "b": 2}, ValueError, "a must be below b, and a is 2, b is 2"),
    ("trunc_normal_", {"a": math.nan}, ValueError, "a must be a finite number"),
    ("trunc_normal_", {"b": None}, TypeError, "b must be a number, not NoneType"),
    ("trunc_normal_", {"std": 0}, ValueError, "std must be above 0, not 0"),
    ("constant_", {"val": math.nan}, ValueError, "val must be a finite number"),
    ("constant_", {"val": None}, TypeError, "val must be a number, not NoneType"),
    ("xavier_uniform_", {"gain": -1}, ValueError, "gain must be a finite number in"),
    ("xavier_normal_", {"gain": "tanh"}, TypeError, "gain must be a number, not str"),
    ("kaiming_uniform_", {"mode": "fan"}, ValueError, "mode must be 'fan_in' or 'fan_out', not 'fan'"),
    ("kaiming_normal_", {"mode": 1}, ValueError, "mode must be 'fan_in' or 'fan_out', not 1"),
    ("kaiming_normal_", {"nonlinearity": "gelu"}, ValueError, "nonlinearity must be one of 'linear', .*, not 'gelu'"),
    ("kaiming_uniform_", {"a": math.inf}, ValueError, "a must be a finite number"),
    ("orthogonal_", {"gain": math.nan}, ValueError, "gain must be a finite number"),
    ("sparse_", {"sparsity": 1.5}, ValueError, "sparsity must be from 0 to 1, not 1.5"),
    ("sparse_", {"sparsity": -0.5}, ValueError, "sparsity must be a finite number"),
    ("sparse_", {"std": -1}, ValueError, "std must be a finite number"),
    *((name, {"rng": -1}, ValueError, "non-negative") for name in RANDOM),
    *((name, {"rng": "seed"}, TypeError, "seed") for name in RANDOM),
]


@pytest.mark.parametrize(("name", "arguments", "error", "message"), BAD_ARGUMENTS)
def test_arguments_that_are_refused(name, arguments, error, message):
    w, rng = np.full((4, 4), 0.5), np.random.default_rng(0)
    before = rng.bit_generator.state
    with pytest.raises(error, match=message):
        FILLING[name](w, **{**({"rng": rng} if name in RANDOM else {}), **arguments})
    assert (w == 0.5).all()
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
    "fill",
    [partial(init.constant_, val=1e39), partial(init.normal_, std=1e39), partial(init.uniform_, b=1e300),
     partial(init.orthogonal_, gain=1e40), partial(init.trunc_normal_, a=1e200, b=1e300)],
)  # fmt: skip
def test_values_beyond_the_type_are_refused(fill):
    w = np.full((4, 4), 0.5, np.float32)
    with pytest.raises(ValueError, match="beyond the range of float32"):
        fill(w)
    assert (w == 0.5).all()
    assert np.isfinite(fill(w.astype(np.float64))).all()


def test_gains_that_are_refused():
    for arguments, error, message in [
        (("swish",), ValueError, "not 'swish'"),
        ((["relu"],), ValueError, r"nonlinearity must be one of .*, not \['relu'\]"),
        (("leaky_relu", "0.1"), TypeError, "param must be a number, not str"),
        (("leaky_relu", True), TypeError, "param must be a number, not bool"),
        (("leaky_relu", math.nan), ValueError, "param must be a finite number"),
    ]:
        with pytest.raises(error, match=message):
            init.calculate_gain(*arguments)


def test_every_function_is_tested_here():
    assert set(init.__all__) == {*FILLING, "calculate_gain"}
    for name in RANDOM:
        assert "rng" in inspect.signature(getattr(init, name)).parameters
