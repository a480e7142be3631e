"""Validation data that is held out of the data given."""

from typing import Any

import numpy as np

from .._checks import a_number, one_of, some
from .._warning import warn

_HOW = one_of(None, "shuffled", "stratified", "even", "last")
_SEED = 0  # of the split alone: which rows are held out does not depend on ``rng``


def check_split(fraction: Any, how: Any, rows: int) -> int:
    """How many rows are to be held out."""
    share = a_number("validation", fraction)
    if not 0 < share < 1:
        raise ValueError(f"validation must be a fraction between 0 and 1, or data, not {fraction}")
    _HOW("split", how)
    count = round(share * rows)
    if not 0 < count < rows:
        raise ValueError(f"validation={fraction} of {rows} rows: {count} to validate, {rows - count} to train on")
    return count


def split(
    count: int, how: str | None, y: np.ndarray, classifies: bool, counted: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on, and the ``count`` ones to validate with; ``y`` are the targets, checked.

    Where they are those of a loss that ``classifies``, a class that is missing on one side is warned of, unless its
    rows count for nothing.
    """
    rows = len(y)
    classes = _classes(y) if classifies else None
    if how == "stratified" and classes is None:
        raise ValueError('split="stratified" needs labels, or targets of 0 and 1 in one column, and a loss for them')
    held_out = np.zeros(rows, bool)
    if how == "even":
        held_out[(np.arange(1, count + 1) * rows) // count - 1] = True
    elif how == "last":
        held_out[rows - count :] = True
    else:
        shuffled = np.random.default_rng(_SEED).permutation(rows)
        if classes is None or how == "shuffled":
            held_out[shuffled[:count]] = True
        else:
            _, class_of_row, sizes = np.unique(classes, return_inverse=True, return_counts=True)
            by_class = shuffled[np.argsort(class_of_row[shuffled], kind="stable")]
            firsts = np.cumsum(sizes) - sizes
            for first, share in zip(firsts, _shares(sizes, count), strict=True):
                held_out[by_class[first : first + share]] = True
    if classes is not None:
        those = np.ones(rows, bool) if counted is None else counted > 0
        missing = [
            f"class{'es' * (len(absent) > 1)} {some(absent.tolist())} in the rows to {what}"
            for there, what in ((~held_out, "train on"), (held_out, "validate with"))
            if len(absent := np.setdiff1d(classes[those], classes[those & there]))
        ]
        if missing:
            warn(f"of {rows} rows {count} are held out for validation; there is no {', and no '.join(missing)}")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _classes(y: np.ndarray) -> np.ndarray | None:
    """What the rows are to be spread by: labels, or targets of 0 and 1 in one column."""
    column = y.reshape(-1)
    if column.size != len(y) or (column.dtype.kind == "f" and not ((column == 0) | (column == 1)).all()):
        return None
    return column.astype(np.int64) if column.dtype.kind == "f" else column


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of each class to hold out, ``count`` in all: in proportion, and where it can be, some on each side."""
    exact = sizes * (count / sizes.sum())
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    least, most = np.minimum(sizes // 2, 1), sizes - np.minimum(sizes // 2, 1)
    shares = np.clip(shares, least, np.maximum(most, least))
    while (excess := int(shares.sum()) - count) != 0:
        free = shares - least if excess > 0 else most - shares
        if free.max() <= 0:  # more classes than there are to hold out, or to train on: some do without
            least, most = np.zeros_like(sizes), sizes
            continue
        shares[free.argmax()] -= np.sign(excess)
    return shares
