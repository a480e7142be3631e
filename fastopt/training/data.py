"""The data: what it must be, how it is split, and how it is cut into batches."""

from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from .._checks import a_number
from .._layer import Layer
from .._passes import Pass
from ..losses import finite, real


class Data(NamedTuple):
    """Inputs, targets and the rows' weights, checked; the weights' mean, by what each row counts, is 1."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None

    def of(self, rows: np.ndarray) -> "Data":
        return Data(self.X[rows], self.y[rows], None if self.weight is None else self.weight[rows])


def inputs(name: str, X: Any, dtype: np.dtype) -> np.ndarray:
    """``X`` as batches can be taken from it: the same array if it is of the right kind, or else a copy."""
    X = real(name, X)
    if X.ndim < 2:
        raise ValueError(f"{name} has shape {X.shape}: it must have rows and columns")
    if len(X) == 0:
        raise ValueError(f"{name} has shape {X.shape}: it has no rows")
    return finite(name, X, dtype)


def sample_weights(name: str, weight: Any, rows: int) -> np.ndarray | None:
    """The weights of the rows in double, as they were given."""
    if weight is None:
        return None
    weight = finite(name, real(name, weight), np.float64)
    if weight.shape != (rows,):
        raise ValueError(f"{name} has shape {weight.shape}, for {rows} rows it is ({rows},)")
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise ValueError(f"{name} must be at least 0; in row {row} it is {weight[row]}")
    return weight


def with_mean_one(
    name: str, weight: np.ndarray | None, rows: np.ndarray, counted: np.ndarray | None, dtype: np.dtype
) -> np.ndarray | None:
    """The weights divided by their mean over ``rows``, which count as ``counted`` says."""
    if weight is None:
        return None
    mean = np.average(weight[rows], weights=None if counted is None else counted[rows])
    if not mean > 0:
        raise ValueError(f"{name} are all 0, of the rows that count")
    return np.asarray(weight / mean, dtype)


def split(validation: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on, and those to validate with, for a fraction of them."""
    fraction = a_number("validation", validation)
    if not 0 < fraction < 1:
        raise ValueError(f"validation must be a fraction between 0 and 1, or data, not {validation}")
    count = round(fraction * rows)
    if not 0 < count < rows:
        raise ValueError(f"validation={validation} of {rows} rows: {count} to validate, {rows - count} to train on")
    held_out = np.zeros(rows, bool)
    held_out[(np.arange(1, count + 1) * rows) // count - 1] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


class Batches:
    """The training data, in batches bound to the model's buffers.

    The targets and weights of an epoch are gathered once, in its order, and the outputs kept beside them; the inputs
    are taken from the data batch by batch.
    """

    def __init__(self, passes: list[Pass], data: Data, rows: np.ndarray):
        self.X, self._y, self._weight = data
        self._rows = rows
        self.passes = passes
        count = len(rows)
        self.size = len(passes[0].x)
        self.whole = count - count % self.size
        self.order = rows.copy()
        self.targets = np.empty((count, *self._y.shape[1:]), self._y.dtype)
        self.weights = None if self._weight is None else np.empty(count, self._weight.dtype)
        first = passes[0].y
        self.outputs = np.zeros((count, *first.shape[1:]), first.dtype)
        self.gather()

    def gather(self) -> None:
        """The targets and weights in the order there is."""
        self._y.take(self.order, 0, self.targets, "clip")  # "clip": without it, take fills a copy of the output first
        if self._weight is not None and self.weights is not None:
            self._weight.take(self.order, 0, self.weights, "clip")

    def shuffle(self, generator: Any) -> None:
        """A new random order."""
        self.order[...] = self._rows
        generator.shuffle(self.order)  # the same as a permutation, in less time
        self.gather()

    def arrays(self, begin: int, end: int, shape: tuple[int, ...], keep_outputs: bool) -> tuple[Any, ...]:
        """The order, targets, weights and outputs from one row to another, their first axis made into ``shape``."""

        def cut(x: np.ndarray | None) -> Any:
            return repeat(None) if x is None else x[begin:end].reshape(*shape, *x.shape[1:])

        return cut(self.order), cut(self.targets), cut(self.weights), cut(self.outputs if keep_outputs else None)


def bound_to_batches(model: Layer, X: np.ndarray, rows: int, batch_size: int | None) -> list[Pass]:
    """The model bound to batches of so many rows, and to the smaller one that may be left; or why that cannot be."""
    size = rows if batch_size is None else min(batch_size, rows)
    try:
        passes = [model.bound_to(X[:each], training=False) for each in (size, rows % size) if each]
    except ValueError as error:
        raise ValueError(f"X has shape {X.shape}, which the model does not take: {error}") from error
    for bound in passes:
        bound.context.training = True  # from now on: to be bound has not moved the running statistics
        try:
            bound.check()
        except ValueError as error:
            raise ValueError(f"{rows} rows in batches of {size} give one of {len(bound.x)}: {error}") from error
    return passes
