"""fastopt.LabelEncoder: names, numbers and one-hot rows as labels, back, saved, and what is refused."""

import numpy as np
import pytest

import fastopt as fo


@pytest.mark.parametrize(
    ("y", "labels", "classes"),
    [
        (["b", "a", "b"], [1, 0, 1], ["a", "b"]),
        (np.array(["b", "a", "c"], object), [1, 0, 2], ["a", "b", "c"]),
        ([7, -1, 7], [1, 0, 1], [-1, 7]),
        ([7.0, -1.0], [1, 0], [-1, 7]),
        ([True, False], [1, 0], [False, True]),
        ([["x"], ["y"]], [0, 1], ["x", "y"]),
        (np.eye(3)[[2, 0, 1]], [2, 0, 1], [0, 1, 2]),
        (np.eye(2, dtype=bool), [0, 1], [0, 1]),
    ],
    ids=range(8),
)
def test_there_and_back(y, labels, classes, tmp_path):
    encoder = fo.LabelEncoder()
    assert encoder.fit_transform(y).dtype == np.int64
    assert encoder.transform(y).tolist() == labels
    assert encoder.classes.tolist() == classes
    assert encoder.inverse_transform(labels).tolist() == [classes[i] for i in labels]
    assert encoder.inverse_transform(encoder.one_hot(y)).tolist() == [classes[i] for i in labels]
    fo.save(tmp_path / "labels.npz", encoder.state_dict())
    again = fo.data.LabelEncoder()
    again.load_state_dict(fo.load(tmp_path / "labels.npz"))
    assert again.transform(y).tolist() == labels
    assert again.classes.dtype.kind == encoder.classes.dtype.kind


def test_what_cannot_be_is_refused():
    encoder = fo.LabelEncoder()
    with pytest.raises(ValueError, match=r"has not been fitted: call fit\(y\)"):
        encoder.transform(["a"])
    for y, error, message in (
        (["a", None], TypeError, "y must be all strings or all integers, not NoneType, str: leave out what is missing"),
        ([1.5, 2.0], TypeError, "y must be strings, integers or one-hot rows, not float64"),
        ([np.nan, 1.0], TypeError, "y must be strings, integers or one-hot rows"),
        ([[0, 2], [1, 0]], ValueError, "its rows must be one-hot"),
        ([], ValueError, r"y has shape \(0,\)"),
    ):
        with pytest.raises(error, match=message):
            encoder.fit(y)
    encoder.fit(["a", "b"])
    with pytest.raises(ValueError, match="y has classes that fit did not see: 'c'"):
        encoder.transform(["a", "c"])
    with pytest.raises(TypeError, match="y is of int64, the classes are of <U1"):
        encoder.transform([0, 1])
    with pytest.raises(ValueError, match="labels must be from 0 to 1; they go from 0 to 2"):
        encoder.inverse_transform([0, 2])
    with pytest.raises(ValueError, match="classes must be sorted, each one once"):
        encoder.load_state_dict({"classes": ["b", "a"]})
    assert encoder.classes.tolist() == ["a", "b"]
