"""Bad input of functions: refused with both sides named, and nothing written."""

import numpy as np
import pytest

import fastopt as fo

FLAT = np.linspace(-1, 1, 6)
X = FLAT.reshape(2, 3)
READ_ONLY = np.empty((2, 3))
READ_ONLY.flags.writeable = False

BAD_CALLS = [
    (lambda: fo.sigmoid([1.0]), TypeError, "x must be a plain numpy.ndarray, not list"),
    (lambda: fo.sigmoid(np.arange(3)), TypeError, "x must be float32 or float64, not int64"),
    (lambda: fo.sigmoid(X.astype(">f8")), TypeError, "x must be float32 or float64, not >f8"),
    (lambda: fo.sigmoid(X, out=[0.0]), TypeError, "out must be a plain numpy.ndarray, not list"),
    (lambda: fo.sigmoid(X, out=np.empty((3, 2))), ValueError, r"out has shape \(3, 2\), x has \(2, 3\)"),
    (lambda: fo.sigmoid(X, out=np.empty((2, 3), np.float32)), TypeError, "out is float32, x is float64"),
    (lambda: fo.sigmoid(X, out=np.empty((3, 2)).T), ValueError, "out must be C-contiguous.*strides"),
    (lambda: fo.sigmoid(X, out=READ_ONLY), ValueError, "out is read-only"),
    (lambda: fo.sigmoid(FLAT[1:], out=FLAT[:-1]), ValueError, "out overlaps a part of x"),
    (lambda: fo.sigmoid_backward([1.0], X), TypeError, "dy must be a plain numpy.ndarray, not list"),
    (lambda: fo.sigmoid_backward(X[0], X), ValueError, r"dy has shape \(3,\), y has \(2, 3\)"),
    (lambda: fo.sigmoid_backward(X.astype(np.float32), X), TypeError, "dy is float32, y is float64"),
    (lambda: fo.sigmoid_backward(X, None), TypeError, "y must be a plain numpy.ndarray, not NoneType"),
    (
        lambda: fo.sigmoid_backward(X.ravel()[1:], np.ones(5), out=X.ravel()[:-1]),
        ValueError,
        "out overlaps a part of dy",
    ),
    (lambda: fo.logistic_loss(X, X[0]), ValueError, r"y has shape \(3,\), z has \(2, 3\)"),
    (lambda: fo.logistic_loss(X, X.astype(np.float32)), TypeError, "y is float32, z is float64"),
    (lambda: fo.logistic_loss(X, np.ones((2, 3), complex)), TypeError, "y must be float32 or float64, not complex128"),
    (lambda: fo.logistic_loss(X.tolist(), X), TypeError, "z must be a plain numpy.ndarray, not list"),
    (lambda: fo.logistic_loss(X, X, reduction="average"), ValueError, "reduction must be .*, not 'average'"),
    (lambda: fo.logistic_loss(X[:0], X[:0]), ValueError, r"z has shape \(0, 3\): the mean of no elements"),
    (lambda: fo.logistic_loss(X, X, out=np.empty(6)), ValueError, r"out has shape \(6,\), z has \(2, 3\)"),
    (lambda: fo.logistic_loss(np.ones(5), FLAT[1:], out=FLAT[:-1]), ValueError, "out overlaps a part of y"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS, ids=[message for _, _, message in BAD_CALLS])
def test_bad_arguments_of_functions(call, error, message):
    before = X.copy()
    with pytest.raises(error, match=message):
        call()
    assert X.tobytes() == before.tobytes()


def test_a_bad_reduction_writes_nothing():
    out = np.full((2, 3), 7.0)
    with pytest.raises(ValueError, match="reduction"):
        fo.logistic_loss(X, X, reduction="max", out=out)
    assert (out == 7).all()


def test_a_masked_array_is_not_taken_for_a_plain_one():
    with pytest.raises(TypeError, match=r"x must be a plain numpy.ndarray, not MaskedArray"):
        fo.sigmoid(np.ma.masked_array([1.0, 2.0], mask=[True, False]))
