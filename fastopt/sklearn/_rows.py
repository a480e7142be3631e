"""The rows of the training data: in which order, how often, and dense."""

from typing import Any

import numpy as np
from scipy import sparse

MOST_DENSE = 2**31  # bytes that sparse data may take when it is made dense
MOST_COPIES = 16  # times as many rows as were given, where weights stand for copies


def dense(X: Any, dtype: Any) -> np.ndarray:
    """All rows of X in one contiguous array."""
    if not sparse.issparse(X):
        return np.ascontiguousarray(X, dtype)
    size = X.shape[0] * X.shape[1] * np.dtype(dtype).itemsize
    if size > MOST_DENSE:
        raise ValueError(
            f"X, sparse, of shape {X.shape}, would take {size / 2**30:.1f} GiB when made dense, and at most"
            f" {MOST_DENSE / 2**30:.0f} GiB are: call partial_fit with some rows at a time, as in"
            " `for rows in gen_batches(X.shape[0], 1000): model.partial_fit(X[rows], y[rows])`,"
            " or reduce the columns first, by TruncatedSVD or SelectKBest"
        )
    return X.astype(dtype).toarray(order="C")


class RowOrder(np.random.Generator):
    """Shuffles the rows for `fastopt.fit` in the orders that scikit-learn's networks take them in."""

    def __new__(cls, random: Any, rows: int) -> "RowOrder":
        return super().__new__(cls)

    def __init__(self, random: Any, rows: int):
        super().__init__(np.random.PCG64(0))
        self._random, self._order = random, np.arange(rows)

    def shuffle(self, x: Any, axis: int = 0) -> None:
        drawn = np.arange(len(self._order))
        self._random.shuffle(drawn)
        self._order = self._order[drawn]
        x[...] = self._order


def repeated(weight: np.ndarray | None) -> np.ndarray | None:
    """The rows, each as often as its weight says, if weights are whole numbers and the rows do not become too many."""
    if weight is None or not (weight == np.floor(weight)).all() or weight.sum() > MOST_COPIES * len(weight):
        return None
    return np.repeat(np.arange(len(weight)), weight.astype(np.int64))


def in_order(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An order of the rows that depends on what is in them, and not on the order that they came in."""
    keys = [np.ascontiguousarray(part.reshape(len(part), -1)).view(np.uint8).reshape(len(part), -1) for part in (X, y)]
    both = np.ascontiguousarray(np.hstack(keys))
    return np.argsort(both.view(np.dtype((np.void, both.shape[1])))[:, 0], kind="stable")
