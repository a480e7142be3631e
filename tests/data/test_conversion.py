"""What is converted to arrays of real numbers, what is refused, and that all that takes data does it alike."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import fastopt as fo
from fastopt import nn
from fastopt._conversion import as_real_array


class Frame:
    """What of a data frame matters here: its columns, and that it makes an array of objects."""

    def __init__(self, columns, dtypes=(), **other):
        self.columns, self.dtypes = list(columns), list(dtypes)
        self.values = np.column_stack([np.asarray(column, object) for column in columns.values()])

    def isna(self):
        raise AssertionError("only its type is looked at")

    def __array__(self, dtype=None, copy=None):
        return self.values if not self.dtypes else self.values.astype(float)


class Tensor:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


class Sparse:
    nnz, shape = 1, (1, 1)

    def toarray(self):
        raise AssertionError("it may not fit into memory")


MIXED = Frame({"a": [1.0, 2.0], "b": [True, False]})
MASKED = np.ma.masked_array([1.0, 2.0], [True, False])
ENDLESS = []
ENDLESS.append(ENDLESS)
REFUSED = [
    (MASKED, TypeError, "X is a masked array, and its mask would be lost"),
    ([[MASKED], [MASKED]], TypeError, "X has a part that is a masked array"),
    ([1.0, np.ma.masked], TypeError, "X has a part that is a masked array"),
    (Sparse(), TypeError, r"X is a sparse Sparse: X\.toarray\(\) makes an array of it"),
    ([Sparse()], TypeError, "X has a part that is a sparse Sparse"),
    (Tensor(), TypeError, r"X makes no array: .* Use tensor\.detach\(\)\.numpy\(\)"),
    ([[1.0, 2.0], [3.0]], ValueError, "X makes no array: .* inhomogeneous"),
    (ENDLESS, (TypeError, ValueError), "X "),
    (Frame({"a": [1.0, 2.0], "b": ["u", "v"]}), TypeError, "in row 0 there is 'u', of column 'b': leave it out, or"),
    (np.array([1, "u"], object), TypeError, "in row 1 there is 'u'; fo.data.LabelEncoder.* makes labels of names"),
    (Frame({"a": [1.0, None]}), TypeError, r"in row 1 a value is missing: .* column 'a': \.fillna\(value\)"),
    (Frame({"a": [1.0, np.nan]}, ["Float64"]), TypeError, r"in row 1 a value is missing: .* column 'a': \.fillna"),
    (np.array([1.0, 2j]), TypeError, r"not complex128; X\.real and X\.imag are"),
    (np.array([1.0, 2j], object), TypeError, "in row 1 there is 2j"),
    (["u", "v"], TypeError, r"not <U1; fo\.data\.LabelEncoder\(\)\.fit_transform\(X\)"),
    ([10**400, 1], ValueError, "X holds a whole number beyond the range of float64"),
    ({"a": 1}, TypeError, "instead of an array there is {'a': 1}"),
    (None, TypeError, "instead of an array a value is missing"),
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (MIXED, np.array([[1.0, 1.0], [2.0, 0.0]])),
        (Frame({"a": [1.0, np.nan]}, [np.dtype(float)]), np.array([[1.0], [np.nan]])),  # NaN is somebody else's matter
        (np.array([True, False], object), np.array([True, False])),
        (np.array([True, 2, np.int8(3)], object), np.array([1, 2, 3])),
        ([Decimal("1.5"), Fraction(1, 2)], np.array([1.5, 0.5])),
        ([2**70, 1], np.array([2.0**70, 1.0])),
        ([[1, 2], (3, 4)], np.array([[1, 2], [3, 4]])),
    ],
)
def test_numbers(values, expected):
    array = as_real_array("X", values)
    np.testing.assert_array_equal(array, expected, strict=True)


def test_arrays_are_not_copied():
    for array in (
        np.arange(3),
        np.arange(3.0),
        np.arange(3, dtype=">f4"),
        np.arange(6.0)[::2],
        np.zeros(2, np.float16),
    ):
        assert as_real_array("X", array) is array


@pytest.mark.parametrize(("values", "error", "message"), REFUSED)
def test_what_is_refused(values, error, message):
    model = nn.Linear(2, 1)
    for of in (lambda values: as_real_array("X", values), model.predict, fo.Standardizer().fit):
        with pytest.raises(error, match=message):
            of(values)


def test_all_that_takes_data():
    X = np.asarray(MIXED).astype(float)
    model = nn.Linear(2, 1, dtype=np.float64, rng=0)
    np.testing.assert_array_equal(model.predict(MIXED), model.predict(X))
    np.testing.assert_array_equal(fo.Standardizer().fit_transform(MIXED), fo.Standardizer().fit_transform(X))
    (batch,) = fo.minibatches(MIXED, shuffle=np.False_, batch_size=np.int8(2))
    np.testing.assert_array_equal(batch, X, strict=True)
    with pytest.raises(TypeError, match=r"array 1 is a masked array"):
        fo.minibatches(X, MASKED)
    names = np.array(["a", None], object)  # of any type otherwise
    assert fo.minibatches(names).arrays[0] is names
    with pytest.raises(TypeError, match="array is a masked array"):
        fo.init.zeros_(MASKED)


def test_numbers_that_are_missing():
    frame = Frame({"a": [1.0, 2.0], "b": [1.0, np.nan]}, [np.dtype(float)] * 2)
    frame.fillna = None
    model = nn.Linear(2, 1, rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    message = (
        r"X holds NaN .*, first in row 1, of column 'b': leave such rows out, or fill in values, as \.fillna\(value\)"
    )
    for call in (
        lambda: fo.fit(model, frame, np.ones(2), loss="mse", optimizer=opt, epochs=1),
        lambda: fo.fit(
            model, np.eye(2), np.ones(2), loss="mse", optimizer=opt, epochs=1, validation=(frame, np.ones(2))
        ),
        lambda: fo.Standardizer().fit(frame),
        lambda: fo.Standardizer().fit(np.eye(2)).transform(frame),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="array 0 must hold real numbers: in row 1 a value is missing"):
        fo.minibatches(Frame({"a": [1.0, np.nan]}, ["Float64"]))
    with pytest.raises(TypeError, match="x has a part that is a masked array"):
        nn.check_gradients(model, [MASKED, MASKED])


def test_the_callers_errstate_does_not_matter(backend):
    model = nn.Linear(2, 1, rng=0)
    tiny, large = np.full((3, 2), 1e-300), np.full((3, 2), 1e300)
    expected = model.predict(np.zeros((3, 2)))
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(model.predict(tiny), expected)
        assert not np.isfinite(model.predict(large)).any()
        assert abs(fo.init.normal_(np.empty(9, np.float32), std=1e-40, rng=0)).max() < 1e-38
        opt = fo.optim.SGD(model.parameters(), lr=0.1)
        history = fo.fit(model, tiny, np.ones(3), loss="mse", optimizer=opt, epochs=1, sample_weight=np.full(3, 1e-310))
    assert np.isfinite(history.loss[0])
