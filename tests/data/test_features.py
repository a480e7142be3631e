"""fastopt.Standardizer: its formula, scikit-learn's values, shapes and axes, saving, and what is refused."""

import doctest
import math
from pathlib import Path

import numpy as np
import pytest

import fastopt as fo
from fastopt.data import features

DTYPES = (np.float32, np.float64)
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "sklearn_standardizer.npz")


def data(dtype=np.float64, rows=1000, width=5):
    return (np.random.default_rng(0).standard_normal((rows, width)) * 3 + 7).astype(dtype)


def exact(X, axis=0):
    """Mean and deviation with sums that do not round."""
    X = np.moveaxis(X.astype(np.float64), axis, range(len(axis) if axis else 1))
    columns = X.reshape(-1, *X.shape[len(axis) if axis else 1 :])
    flat = columns.reshape(len(columns), -1)
    mean = [math.fsum(column) / len(column) for column in flat.T]
    deviation = [math.sqrt(math.fsum((column - m) ** 2) / len(column)) for column, m in zip(flat.T, mean, strict=True)]
    return np.reshape(mean, columns.shape[1:]), np.reshape(deviation, columns.shape[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_formula(dtype):
    X = data(dtype)
    standardizer = fo.Standardizer().fit(X)
    mean, deviation = exact(X)
    np.testing.assert_allclose(standardizer.mean, mean, rtol=1e-14)
    np.testing.assert_allclose(standardizer.scale, deviation, rtol=1e-14)
    new = data(dtype, rows=33) * 2
    Z = standardizer.transform(new)
    assert Z.dtype == dtype
    np.testing.assert_array_equal(Z, ((new - standardizer.mean) / standardizer.scale).astype(dtype))
    inverse = standardizer.inverse_transform(Z)
    assert inverse.dtype == dtype
    np.testing.assert_allclose(inverse, new, rtol=0, atol=np.abs(new).max() * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_those_of_scikit_learn(dtype):
    """In float32 it loses digits of the second feature, whose mean is 10^4 times its deviation."""
    X = GOLDEN["X"].astype(dtype)
    standardizer = fo.Standardizer()
    Z = standardizer.fit_transform(X)
    np.testing.assert_allclose(standardizer.mean, GOLDEN[f"{dtype}_mean"], rtol=1e-14)
    np.testing.assert_allclose(standardizer.scale, GOLDEN[f"{dtype}_scale"], rtol=1e-14)
    atol = np.where(np.arange(7) == 1, 2e4, 10) * np.finfo(dtype).eps
    assert (np.abs(Z - GOLDEN[f"{dtype}_Z"]) <= atol).all()
    inverse = standardizer.inverse_transform(GOLDEN[f"{dtype}_Z"][:5] + 1)
    np.testing.assert_allclose(inverse, GOLDEN[f"{dtype}_inverse"], rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_a_mean_that_dwarfs_the_deviation_in_float32(scale, rng):
    X = ((1e4 + rng.standard_normal((100_000, 3))) * scale).astype(np.float32)
    Z = fo.Standardizer().fit_transform(X)
    mean, deviation = exact(X)
    np.testing.assert_allclose(Z, (X.astype(np.float64) - mean) / deviation, rtol=1e-6, atol=1e-9)
    assert abs(Z.mean(dtype=np.float64)) < 1e-7
    assert Z.std(axis=0, dtype=np.float64) == pytest.approx(1, abs=1e-7)


def test_a_first_row_that_is_far_from_all_others(rng):
    X = rng.standard_normal((100_000, 3))
    X[0] = 1e3, 1e6, -1e12
    mean, deviation = exact(X)
    standardizer = fo.Standardizer().fit(X)
    np.testing.assert_allclose(standardizer.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(standardizer.scale, deviation, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e4, 1e30])
def test_constant_features_become_zero(dtype, value, rng):
    X = data(dtype, rows=777, width=3)
    X[:, 1] = value
    standardizer = fo.Standardizer().fit(X)
    assert standardizer.scale[1] == 1
    assert standardizer.mean[1] == X[0, 1]
    assert (standardizer.transform(X)[:, 1] == 0).all()
    assert (standardizer.inverse_transform(np.zeros_like(X))[:, 1] == X[:, 1]).all()
    if value:  # differences of the last bit are none
        X[:, 1] = np.where(rng.random(777) < 0.5, X[:, 1], np.nextafter(X[:, 1], dtype(0)))
        assert np.abs(fo.Standardizer().fit_transform(X)[:, 1]).max() <= abs(value) * np.finfo(dtype).eps


def test_one_row():
    X = data(rows=1)
    standardizer = fo.Standardizer()
    assert (standardizer.fit_transform(X) == 0).all()
    np.testing.assert_array_equal(standardizer.mean, X[0])


# -- shapes and kinds --


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, (0, 2, 3), (0, 1), (0, 1, 2, 3)])
def test_other_axes(axis, dtype, rng):
    X = (rng.standard_normal((50, 3, 8, 5)) * rng.random((3, 1, 1)) + rng.random((3, 1, 1))).astype(dtype)
    axes = (axis,) if axis == 0 else axis
    standardizer = fo.Standardizer(axis=axis)
    Z = standardizer.fit_transform(X)
    mean, deviation = exact(X, axes)
    assert standardizer.mean.shape == tuple(1 if a in axes else X.shape[a] for a in (1, 2, 3))
    np.testing.assert_allclose(standardizer.mean.ravel(), mean.ravel(), rtol=1e-12)
    np.testing.assert_allclose(standardizer.scale.ravel(), deviation.ravel(), rtol=1e-12)
    np.testing.assert_allclose(Z.mean(axes, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(Z.std(axes, dtype=np.float64), 1, rtol=1e-6)
    np.testing.assert_allclose(standardizer.inverse_transform(Z), X, rtol=1e-5, atol=1e-6)


def test_axes_that_the_mean_is_taken_over_may_be_longer(rng):
    standardizer = fo.Standardizer(axis=(0, 2)).fit(rng.standard_normal((4, 3, 10)))
    assert standardizer.transform(rng.standard_normal((2, 3, 20))).shape == (2, 3, 20)
    with pytest.raises(ValueError, match=r"X has shape \(2, 4, 10\), .* fitted to \(rows, 3, any\)"):
        standardizer.transform(rng.standard_normal((2, 4, 10)))


def test_one_feature_without_an_axis():
    """Such as the targets of a regression."""
    y = data(rows=50)[:, 0]
    standardizer = fo.Standardizer().fit(y)
    assert isinstance(standardizer.mean, np.ndarray)
    np.testing.assert_allclose(standardizer.transform(y), (y - y.mean()) / y.std(), rtol=1e-14, atol=1e-14)
    again = fo.Standardizer()
    again.load_state_dict(standardizer.state_dict())
    np.testing.assert_array_equal(again.inverse_transform(y), standardizer.inverse_transform(y))
    with pytest.raises(ValueError, match=r"X has shape \(50, 1\), the Standardizer was fitted to \(rows\)"):
        standardizer.transform(y[:, None])


def test_no_features_and_no_rows():
    assert fo.Standardizer().fit_transform(np.empty((5, 0))).shape == (5, 0)
    assert fo.Standardizer().fit(data()).transform(np.empty((0, 5))).shape == (0, 5)


def test_data_of_all_kinds_is_the_same_and_not_changed():
    X = np.round(data(rows=300))
    before = X.copy()
    expected = fo.Standardizer().fit_transform(X)
    X.flags.writeable = False
    wide = np.zeros((300, 10))
    wide[:, ::2] = X
    for given in (X, X.astype(int), X.astype(np.int8), np.asfortranarray(X), wide[:, ::2], X.tolist(), X.astype(">f8")):
        Z = fo.Standardizer().fit_transform(given)
        assert Z.dtype == np.float64
        assert Z.dtype.isnative
        np.testing.assert_array_equal(Z, expected)
    np.testing.assert_array_equal(X, before)
    bits = X > 7
    np.testing.assert_allclose(fo.Standardizer().fit_transform(bits), (bits - bits.mean(0)) / bits.std(0), rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_into_another_array_and_in_place(dtype):
    X = data(dtype, rows=5000)
    standardizer = fo.Standardizer()
    expected = standardizer.fit_transform(X)
    out = np.empty_like(X)
    assert standardizer.transform(X, out=out) is out
    np.testing.assert_array_equal(out, expected)
    inverse = standardizer.inverse_transform(out)
    assert standardizer.inverse_transform(out, out=out) is out
    np.testing.assert_array_equal(out, inverse)
    assert fo.Standardizer().fit_transform(X, out=X) is X
    np.testing.assert_array_equal(X, expected)


def test_nothing_as_large_as_the_data_is_made(rng):
    import tracemalloc

    X = rng.standard_normal((100_000, 8)).astype(np.float32)
    standardizer = fo.Standardizer()
    standardizer.fit_transform(X[:10])
    tracemalloc.start()
    try:
        standardizer.fit_transform(X, out=X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 4 if fo.get_backend() == "c" else peak < 3 * X.nbytes  # the others look for NaN on a copy


# -- saving --


@pytest.mark.parametrize("axis", [0, (0, 1)])
def test_saved_and_loaded_it_is_the_same(tmp_path, axis):
    X = data()
    standardizer = fo.Standardizer(axis=axis).fit(X)
    model = fo.nn.Linear(5, 1, rng=0)
    fo.save(tmp_path / "all.npz", {"model": model.state_dict(), "standardizer": standardizer.state_dict()})
    again = fo.Standardizer(axis=axis)
    again.load_state_dict(fo.load(tmp_path / "all.npz")["standardizer"])
    np.testing.assert_array_equal(again.transform(X), standardizer.transform(X))
    assert repr(again) == repr(standardizer)


def test_a_state_dict_is_a_copy():
    standardizer = fo.Standardizer().fit(data())
    saved = standardizer.state_dict()
    again = fo.Standardizer()
    again.load_state_dict(saved)
    saved["mean"][:] = 0
    assert standardizer.mean[0] != 0
    assert again.mean[0] != 0


STATE = fo.Standardizer().fit(data()).state_dict()


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (None, TypeError, "the state dict must be a dict, not NoneType"),
        ({}, ValueError, "the state dict must have axis, mean and scale, not nothing"),
        ({**STATE, "std": 1}, ValueError, "must have axis, mean and scale, not axis, .*, std"),
        ({**STATE, "axis": [0, 1]}, ValueError, r"axis=\[0, 1\], this Standardizer \[0\]"),
        ({**STATE, "mean": STATE["mean"][:4]}, ValueError, r"mean has shape \(4,\), scale has \(5,\)"),
        ({**STATE, "mean": STATE["mean"] * np.nan}, ValueError, "mean must be finite"),
        ({**STATE, "scale": STATE["scale"] * 0}, ValueError, "scale finite and above 0"),
        ({**STATE, "scale": STATE["scale"] * np.inf}, ValueError, "scale finite and above 0"),
        ({**STATE, "scale": STATE["scale"].astype(str)}, TypeError, "scale must hold real numbers"),
    ],
)
def test_a_state_dict_that_does_not_fit(state, error, message):
    standardizer = fo.Standardizer().fit(data() * 2)
    before = standardizer.state_dict()
    with pytest.raises(error, match=message):
        standardizer.load_state_dict(state)
    np.testing.assert_equal(standardizer.state_dict(), before)


def test_repr_and_docstrings():
    assert repr(fo.Standardizer()) == "Standardizer(not fitted)"
    assert repr(fo.Standardizer(axis=[0, 2]).fit(np.ones((2, 3, 4)))) == (
        "Standardizer(axis=(0, 2), fitted to (rows, 3, any))"
    )
    done = doctest.testmod(features)
    assert done.attempted > 0
    assert done.failed == 0


# -- what is refused --


def with_one(value, dtype=np.float64):
    X = data(dtype)
    X[3, 2] = value
    return X


@pytest.mark.parametrize("method", ["fit", "fit_transform", "transform", "inverse_transform"])
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (with_one(np.nan), ValueError, r"X holds NaN or infinity \(as float64\), first in row 3"),
        (with_one(np.inf, np.float32), ValueError, r"X holds NaN or infinity \(as float32\), first in row 3"),
        (data().astype(str), TypeError, "X must hold real numbers, not <U"),
        (data().astype(complex), TypeError, "X must hold real numbers, not complex128"),
        (np.array([[None]]), TypeError, "X must hold real numbers, not object"),
        (1.0, ValueError, "X is a single number"),
    ],
)
def test_data_that_cannot_be_standardized(method, X, error, message):
    standardizer = fo.Standardizer().fit(data())
    before = standardizer.state_dict()
    with pytest.raises(error, match=message):
        getattr(standardizer, method)(X)
    np.testing.assert_equal(standardizer.state_dict(), before)


def test_nothing_to_take_a_mean_of():
    with pytest.raises(ValueError, match=r"X has shape \(0, 5\): there is nothing"):
        fo.Standardizer().fit(np.empty((0, 5)))
    with pytest.raises(ValueError, match=r"X has shape \(5, 3, 0\): there is nothing"):
        fo.Standardizer(axis=(0, 2)).fit(np.empty((5, 3, 0)))
    with pytest.raises(ValueError, match=r"X has shape \(5, 3\), mean and deviation are to be taken over axis 2"):
        fo.Standardizer(axis=(0, 2)).fit(np.ones((5, 3)))
    with pytest.raises(ValueError, match="variance overflows float64"):
        fo.Standardizer().fit(np.array([[1e300], [-1e300]]))


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_features_of_another_width_and_use_before_fit(method):
    standardizer = fo.Standardizer()
    for use in (lambda: getattr(standardizer, method)(data()), standardizer.state_dict):
        with pytest.raises(ValueError, match="the Standardizer has not been fitted: call fit"):
            use()
    standardizer.fit(data())
    for X, shape in ((data()[:, :4], r"\(1000, 4\)"), (data()[0], r"\(5,\)"), (data()[:, :, None], r"\(1000, 5, 1\)")):
        with pytest.raises(ValueError, match=rf"X has shape {shape}, the Standardizer was fitted to \(rows, 5\)"):
            getattr(standardizer, method)(X)
    standardizer.fit(data()[:, :1])
    with pytest.raises(ValueError, match=r"X has shape \(1000, 5\), the Standardizer was fitted to \(rows, 1\)"):
        getattr(standardizer, method)(data())


def frozen(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("method", ["transform", "fit_transform", "inverse_transform"])
@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((999, 5)), ValueError, r"out has shape \(999, 5\), X has \(1000, 5\)"),
        (np.zeros((1000, 5), np.float32), TypeError, "out is float32, X is float64"),
        (np.zeros((5, 1000)).T, ValueError, "out must be C-contiguous"),
        (frozen(np.zeros((1000, 5))), ValueError, "out is read-only"),
        ([[0.0]], TypeError, "out must be a plain numpy.ndarray, not list"),
    ],
)
def test_an_output_that_does_not_fit(method, out, error, message):
    standardizer = fo.Standardizer().fit(data() * 2)
    before = standardizer.state_dict()
    with pytest.raises(error, match=message):
        getattr(standardizer, method)(data(), out=out)
    np.testing.assert_equal(standardizer.state_dict(), before)
    assert not np.any(out)


def test_an_output_that_overlaps():
    buffer = data(rows=1001)
    before = buffer.copy()
    with pytest.raises(ValueError, match="out overlaps a part of X"):
        fo.Standardizer().fit_transform(buffer[:-1], out=buffer[1:])
    np.testing.assert_array_equal(buffer, before)


@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (1, ValueError, "axis must contain 0, that of the rows; it is 1"),
        ((), ValueError, r"axis must contain 0, that of the rows; it is \(\)"),
        ((0, -1), ValueError, "axis must be at least 0, not -1"),
        (None, TypeError, "axis must be an int, not NoneType"),
        ((0, 1.0), TypeError, "axis must be an int, not float"),
    ],
)
def test_axes_that_cannot_be(axis, error, message):
    with pytest.raises(error, match=message):
        fo.Standardizer(axis=axis)


def test_in_a_pipeline_the_targets_stay():
    """fit_transform(X, y), as every Pipeline calls it, once took y for the output."""
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn's pipelines are what is tried")
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline

    X = data()
    y = X[:, 0].copy()
    kept = y.copy()
    pipeline = make_pipeline(fo.Standardizer(), linear.Ridge(alpha=1e-6))
    assert cross_val_score(pipeline, X, y).min() > 0.999
    search = GridSearchCV(pipeline, {"standardizer__axis": [0, (0,), (0, 1)]}).fit(X, y)
    assert search.best_score_ > 0.999
    np.testing.assert_array_equal(y, kept)
    for axis in (0, (0, 1), [1, 0]):
        assert clone(fo.Standardizer(axis)).get_params() == fo.Standardizer(axis).get_params()
    assert list(pipeline[:-1].fit(X, y).get_feature_names_out()) == ["x0", "x1", "x2", "x3", "x4"]
    with pytest.raises(TypeError, match="positional"):
        fo.Standardizer().fit(X).transform(X, X)


def test_the_columns_of_a_frame_have_names():
    pandas = pytest.importorskip("pandas", reason="a data frame is what is tried")
    frame = pandas.DataFrame({"a": [1.0, 2.0, 4.0], "b": [True, False, True]})
    standardizer = fo.Standardizer().fit(frame)
    assert (standardizer.n_features_in_, list(standardizer.feature_names_in_)) == (2, ["a", "b"])
    assert list(standardizer.get_feature_names_out()) == ["a", "b"]
    np.testing.assert_allclose(standardizer.transform(frame).std(axis=0), 1)
    with pytest.raises(ValueError, match=r"columns \['b', 'a'\], the Standardizer was fitted to \['a', 'b'\]"):
        standardizer.transform(frame[["b", "a"]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_fitted_part_by_part(dtype):
    X = (data() * 10).astype(dtype)
    whole, parts = fo.Standardizer().fit(X), fo.Standardizer()
    for begin in range(0, len(X), 300):
        parts.partial_fit(X[begin : begin + 300])
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(parts.scale, whole.scale, rtol=1e-12)
    np.testing.assert_allclose(whole.mean, X.astype(float).mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(whole.scale, X.astype(float).std(axis=0), rtol=1e-12)
    again = fo.Standardizer()
    again.load_state_dict(parts.state_dict())
    np.testing.assert_array_equal(again.partial_fit(X).mean, parts.partial_fit(X).mean)
    before = parts.state_dict()
    with pytest.raises(ValueError, match="was fitted to"):
        parts.partial_fit(X[:, :2])
    assert str(parts.state_dict()) == str(before)


def test_of_parts_of_several_types_the_coarsest_says_what_is_constant():
    double = np.full((10, 1), 0.1)
    for first, second in ((double, double.astype(np.float32)), (double.astype(np.float32), double)):
        assert fo.Standardizer().partial_fit(first).partial_fit(second).scale == 1


def test_a_memory_map_of_bytes_is_not_copied(tmp_path):
    import tracemalloc

    X = np.memmap(tmp_path / "X", np.uint8, "w+", shape=(100_000, 40))
    X[:] = np.arange(40)
    X[0] = 0
    tracemalloc.start()
    standardizer = fo.Standardizer().fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 4
    assert standardizer.transform(X[:10]).dtype == np.float64
