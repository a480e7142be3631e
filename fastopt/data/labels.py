"""Names of classes as the labels that the losses take, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._checks import some
from .._conversion import as_array


class LabelEncoder:
    """Labels from 0, in the sorted order of the classes, for names, numbers or one-hot rows; and back.

    Attributes
    ----------
    classes : ndarray (classes,)
        After `fit`: the class that each label stands for.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> encoder = fo.data.LabelEncoder()
    >>> y = encoder.fit_transform(["oak", "ash", "oak", "elm"])
    >>> y
    array([2, 0, 2, 1])
    >>> encoder.inverse_transform(y)
    array(['oak', 'ash', 'oak', 'elm'], dtype='<U3')
    >>> encoder.one_hot(["elm"])
    array([[0., 1., 0.]], dtype=float32)
    >>> fo.data.LabelEncoder().fit_transform(np.array([[0, 1], [1, 0]]))
    array([1, 0])
    """

    def __init__(self) -> None:
        self._classes: np.ndarray | None = None

    @property
    def classes(self) -> np.ndarray:
        """The class that each label stands for."""
        return self._fitted().copy()

    def __repr__(self) -> str:
        return "LabelEncoder()" if self._classes is None else f"LabelEncoder(fitted to {len(self._classes)} classes)"

    def fit(self, y: Any) -> "LabelEncoder":
        """Find the classes.

        Parameters
        ----------
        y : array (rows,) of strings, integers or bools, or array (rows, classes) of one-hot rows

        Raises
        ------
        TypeError, ValueError
            If it is something else, or something is missing in it; if there are no rows.
        """
        self._classes = np.unique(_classes(y))
        return self

    def transform(self, y: Any) -> np.ndarray:
        """The labels, int64, of such classes.

        Raises
        ------
        TypeError, ValueError
            As `fit` does; if there is a class that `fit` did not see, or no `fit` before.
        """
        known, values = self._fitted(), _classes(y)
        if (values.dtype.kind == "U") != (known.dtype.kind == "U"):
            raise TypeError(f"y is of {values.dtype}, the classes are of {known.dtype}")
        if unknown := [repr(each) for each in np.setdiff1d(values, known).tolist()]:
            raise ValueError(f"y has classes that fit did not see: {some(unknown)}")
        return np.searchsorted(known, values).astype(np.int64)

    def fit_transform(self, y: Any) -> np.ndarray:
        """`fit` and `transform` at once."""
        return self.fit(y).transform(y)

    def one_hot(self, y: Any, dtype: Any = np.float32) -> np.ndarray:
        """One-hot rows (rows, classes) of such classes: probabilities, as the cross-entropy takes them."""
        return np.eye(len(self._fitted()), dtype=dtype)[self.transform(y)]

    def inverse_transform(self, labels: Any) -> np.ndarray:
        """The classes of labels; of outputs or probabilities (rows, classes), those of the largest.

        Raises
        ------
        TypeError, ValueError
            If there are others than those of the classes, or no `fit` before.
        """
        known, labels = self._fitted(), as_array("labels", labels)
        if labels.ndim == 2 and labels.shape[1] == len(known) and labels.dtype.kind in "biuf":
            labels = labels.argmax(axis=1)
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise TypeError(f"labels must be integers of shape (rows,), not {labels.dtype} of shape {labels.shape}")
        if labels.size and not (labels.min() >= 0 and labels.max() < len(known)):
            raise ValueError(
                f"labels must be from 0 to {len(known) - 1}; they go from {labels.min()} to {labels.max()}"
            )
        return known[labels]

    def state_dict(self) -> dict[str, Any]:
        """What there is to save."""
        return {"classes": self._fitted().tolist()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Become what the encoder was that `state_dict` came from; if that cannot be, nothing has been changed."""
        if not isinstance(state_dict, Mapping) or state_dict.keys() != {"classes"}:
            raise ValueError("the state of a LabelEncoder is a dict with classes")
        classes = _classes(state_dict["classes"])
        if not np.array_equal(np.unique(classes), classes):
            raise ValueError("classes must be sorted, each one once")
        self._classes = classes

    def _fitted(self) -> np.ndarray:
        if self._classes is None:
            raise ValueError("the LabelEncoder has not been fitted: call fit(y)")
        return self._classes


def _classes(y: Any) -> np.ndarray:
    """One class for each row, as strings or whole numbers."""
    values = as_array("y", y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "biuf":
        if not (((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()):
            raise ValueError(f"y has shape {values.shape}: its rows must be one-hot, or y must be (rows,)")
        values = values.argmax(axis=1)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"y has shape {values.shape}: it must be (rows,), or (rows, classes) of one-hot rows")
    if values.dtype.kind == "O":
        kinds = {str if isinstance(each, str) else int if isinstance(each, (int, np.integer)) else type(each)
                 for each in values.tolist()}  # fmt: skip
        if kinds not in ({str}, {int}):
            names = some(sorted(kind.__name__ for kind in kinds))
            raise TypeError(f"y must be all strings or all integers, not {names}: leave out what is missing")
        values = values.astype(str if kinds == {str} else np.int64)
    if values.dtype.kind in "ST":
        values = values.astype(str)
    if values.dtype.kind == "f" and (values == np.trunc(values)).all() and np.isfinite(values).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "biuU":
        raise TypeError(f"y must be strings, integers or one-hot rows, not {values.dtype}")
    return values
