"""The data: what it must be, how it is split, and how it is cut into batches."""

import zlib
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._checks import one_dimensional
from .._conversion import as_real_array, converted
from ..losses.arrays import finite, near_one
from ..nn.layer import Layer
from ..nn.passes import Pass

_MOST_IN_FINGERPRINT = 2**22


class Data(NamedTuple):
    """Inputs, targets and the rows' weights, checked; the weights' mean, by what each row counts, is 1."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None


def inputs(name: str, X: Any, dtype: np.dtype) -> np.ndarray:
    """``X`` as batches can be taken from it, of any type of number: each batch is converted to ``dtype`` by itself.

    It is the same array, unless gathering rows would have to copy everything: then a copy, but not of what is on disk.
    """
    given, X = X, as_real_array(name, X)
    if X.ndim < 2:
        raise ValueError(f"{name} has shape {X.shape}: it must have rows and columns{one_dimensional(name, X)}")
    if len(X) == 0:
        raise ValueError(f"{name} has shape {X.shape}: it has no rows")
    if not ((X.flags.c_contiguous and X.flags.aligned) or _is_on_disk(X)):
        X = X.copy()
    _check_finite(name, X, dtype, given)
    return X


def _is_on_disk(X: Any) -> bool:
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


def _check_finite(name: str, X: np.ndarray, dtype: np.dtype, given: Any) -> None:
    """Refuse numbers that are not finite in ``dtype``, without a copy of all of them."""
    if X.dtype.kind in "biu":
        return
    rows = max(1, 2**18 * len(X) // max(X.size, 1))
    for begin in range(0, len(X), rows):
        finite(name, X[begin : begin + rows], dtype, given, begin)


class Gather:
    """As a part of a program: fills ``x`` with the rows of ``X`` that ``order[step]`` names.

    It looks at ``X`` as it is then, and finds rows that are no longer there elsewhere in it, or raises: whatever
    becomes of the caller's array, nothing outside of it is read.
    """

    result = None

    def __init__(self, X: np.ndarray, order: np.ndarray, x: np.ndarray):
        self._X, self._order, self._x = X, order, x
        # `take` would copy everything first of what does not lie in one piece
        self._raw = np.empty(x.shape, X.dtype) if X.flags.c_contiguous and X.flags.aligned else None

    def __call__(self, step: int = 0) -> None:
        rows = self._order[step]
        if self._raw is None:
            self._x[...] = self._X[rows]
        else:
            self._X.take(rows, 0, self._raw, "clip")  # "clip": without it, take fills a copy of the output first
            self._x[...] = self._raw


def fingerprint(array: np.ndarray | None, dtype: Any = None) -> str:
    """What tells arrays from one another in short: of large ones, evenly spread rows."""
    if array is None:
        return "none"
    spread = array[:: -(-array.size // _MOST_IN_FINGERPRINT) or 1]
    with np.errstate(all="ignore"):
        crc = zlib.crc32(np.ascontiguousarray(spread, dtype or spread.dtype).data)
    return f"{array.shape} with checksum {crc:08x}"


def kind_of(array: np.ndarray) -> tuple[Any, tuple[int, ...]]:
    return array.dtype, array.shape


def check_unchanged(name: str, array: np.ndarray, kind: tuple[Any, tuple[int, ...]]) -> None:
    """Refuse an array that was made into one of another type or shape in place."""
    if kind_of(array) != kind:
        before, now = (f"{dtype} of shape {shape}" for dtype, shape in (kind, kind_of(array)))
        raise ValueError(f"{name} was {before} when training began, and is {now} now")


def sample_weights(name: str, weight: Any, rows: int) -> np.ndarray | None:
    """The weights of the rows in double, as they were given."""
    if weight is None:
        return None
    weight = finite(name, as_real_array(name, weight), np.float64, weight)
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
    if counted is not None:
        weight, counted = np.where(counted > 0, weight, 0.0), near_one(counted, counted[rows])[rows]
    weight = near_one(weight, weight[rows])
    mean = np.average(weight[rows], weights=counted)
    if not mean > 0:
        raise ValueError(f"{name} are all 0, of the rows that count")
    return np.asarray(weight / mean, dtype)


class Held(Protocol):
    """What rows a process holds: those from ``first`` on."""

    first: int

    def shuffle(self, rows: np.ndarray, batch_size: int, generator: Any) -> None:
        """Put the rows into the order of an epoch, so that every process has what its shards need."""


class Batches:
    """The training data, in batches bound to the model's buffers.

    The targets and weights of an epoch are gathered once, in its order, and the outputs kept beside them; the inputs
    are taken from the data batch by batch.
    """

    def __init__(
        self,
        passes: list[Pass],
        data: Data,
        rows: np.ndarray,
        sizes: list[int] | None = None,
        held: "Held | None" = None,
    ):
        self.X, self.y, self.weight = data
        self._kinds = kind_of(self.X), kind_of(self.y)
        self.rows = rows
        self.passes = passes
        sizes = [len(bound.x) for bound in passes] if sizes is None else sizes
        self.size = sizes[0]
        self.whole = len(rows) - len(rows) % self.size
        count = len(rows) if len(sizes) > 1 else self.whole  # with a smaller batch, unless it is left out
        self.drops = len(rows) - count
        self._shuffled = rows.copy()
        self.order = self._shuffled[:count]
        self._held = held
        # where the rows of an epoch are in X, of which this process may have a part
        self.places = self.order if held is None else self.order.copy()
        self.targets = np.empty((count, *self.y.shape[1:]), self.y.dtype)
        self.weights = None if self.weight is None else np.empty(count, self.weight.dtype)
        first = passes[0].y
        self.outputs = np.zeros((count, *first.shape[1:]), first.dtype)
        self.shuffle(None)

    def check(self) -> None:
        """Refuse data that was made into something else in place."""
        for name, array, kind in zip("Xy", (self.X, self.y), self._kinds, strict=True):
            check_unchanged(name, array, kind)

    def gather(self) -> None:
        """The targets and weights in the order there is."""
        self.y.take(self.order, 0, self.targets, "clip")  # "clip": without it, take fills a copy of the output first
        if self.weight is not None and self.weights is not None:
            self.weight.take(self.order, 0, self.weights, "clip")

    def shuffle(self, generator: Any) -> None:
        """A new random order; without a generator, that of the rows."""
        self._shuffled[...] = self.rows
        if self._held is not None:
            self._held.shuffle(self._shuffled, self.size, generator)
            np.subtract(self.order, self._held.first, out=self.places)
        elif generator is not None:
            generator.shuffle(self._shuffled)  # the same as a permutation, in less time
        self.gather()


def sizes_of_batches(rows: int, batch_size: int | None, drop_last: bool) -> list[int]:
    """The sizes of whole batches, and of the smaller one that may be left."""
    if drop_last and batch_size is not None and batch_size > rows:
        raise ValueError(f"drop_last leaves nothing to train on: {rows} rows, batch_size={batch_size}")
    size = rows if batch_size is None else min(batch_size, rows)
    return [size] if drop_last or rows % size == 0 else [size, rows % size]


def bound_to_batches(
    model: Layer, X: np.ndarray, rows: int, batch_size: int | None, dtype: np.dtype, drop_last: bool = False
) -> list[Pass]:
    """The model bound to batches of so many rows, and to the smaller one that may be left; or why that cannot be."""
    sizes = sizes_of_batches(rows, batch_size, drop_last)
    try:
        passes = [model.bound_to(converted(X[:each], dtype).copy(), training=False) for each in sizes]
    except ValueError as error:
        raise ValueError(f"X has shape {X.shape}, which the model does not take: {error}") from error
    for bound in passes:
        bound.context.training = True  # from now on: to be bound has not moved the running statistics
        try:
            bound.prepare()
        except ValueError as error:
            raise ValueError(f"{rows} rows in batches of {sizes[0]} give one of {len(bound.x)}: {error}") from error
    return passes
