"""Mini-batches for training loops written by hand."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checks import generator_of, one_of, whole
from .._conversion import all_are_numbers, as_array, as_real_array

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator

_yes_or_no = one_of(False, True)


class Minibatches:
    """One epoch of mini-batches each time it is iterated over: see `minibatches`."""

    def __init__(
        self, arrays: tuple[np.ndarray, ...], batch_size: int | None, rng: "Generator | None", drop_last: bool
    ):
        self.arrays = arrays
        self.batch_size = batch_size
        self.rng = rng
        self.drop_last = drop_last

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        rows = len(self.arrays[0])
        if self.batch_size is None:
            return 1 if rows else 0
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        rows = len(self.arrays[0])
        size = self.batch_size or max(rows, 1)
        begins = range(0, len(self) * size, size)
        batches = self._slices(begins) if self.rng is None else self._gathered(begins, self.rng.permutation(rows))
        return batches if len(self.arrays) > 1 else (batch for (batch,) in batches)

    def _slices(self, begins: range) -> Iterator[tuple[np.ndarray, ...]]:
        views = tuple(array.view() for array in self.arrays)
        for view in views:
            view.flags.writeable = False
        for begin in begins:
            yield tuple(view[begin : begin + begins.step] for view in views)

    def _gathered(self, begins: range, order: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        buffers = tuple(np.empty((begins.step, *array.shape[1:]), array.dtype) for array in self.arrays)
        for begin in begins:
            rows = order[begin : begin + begins.step]
            batch = tuple(buffer[: len(rows)] for buffer in buffers)
            for array, part in zip(self.arrays, batch, strict=True):
                if array.flags.c_contiguous:
                    array.take(rows, 0, part, "clip")  # "clip": without it, take fills a copy of the output first
                else:  # of which take would copy everything first
                    part[...] = array[rows]
            yield batch

    def __repr__(self) -> str:
        shapes = ", ".join(str(array.shape) for array in self.arrays)
        return f"Minibatches({len(self)} of {self.batch_size or 'all'} rows: {shapes})"


def minibatches(
    *arrays: Any,
    batch_size: int | None = 32,
    rng: "int | Generator | None" = None,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Minibatches:
    """The rows of some arrays in mini-batches, for a training loop written by hand.

    What it returns is iterated over once in every epoch, each time in a new random order: that of `fastopt.fit` with
    the same ``rng``. The rows of a batch are gathered into arrays which the next batch overwrites: copy what is to
    be kept. The data itself is never copied, and may be larger than memory (`numpy.memmap`).

    Parameters
    ----------
    *arrays : array (rows, ...)
        For instance X and y: of as many rows, of any shape and dtype otherwise. Objects that are all numbers, which
        data frames with columns of several types hold, become numbers.
    batch_size : int or None
        The number of rows; 1 for stochastic gradient descent on single examples, None for gradient descent on the
        whole data, in the order it has.
    rng : int or numpy.random.Generator, optional
        Where the order comes from; without it, every run has another.
    shuffle : bool
        Whether the order is random. If not, batches are views of the data, which cannot be written to.
    drop_last : bool
        Leave out the last batch where it is smaller than the others.

    Returns
    -------
    Minibatches
        Iterable, over tuples of one array for each of ``arrays``, or over arrays if there is but one. Its ``len()``
        is the number of batches.

    Raises
    ------
    TypeError, ValueError
        If there are no arrays, their numbers of rows differ, an option is out of range, or all batches are left out;
        if an array is masked or sparse, or a data frame whose columns hold something else than numbers.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> X = np.arange(10.0).reshape(5, 2)
    >>> batches = fo.minibatches(X, X.sum(axis=1), batch_size=2, rng=0)
    >>> for epoch in range(2):
    ...     for x, y in batches:
    ...         print(epoch, x.shape, (x.sum(axis=1) == y).all())
    0 (2, 2) True
    0 (2, 2) True
    0 (1, 2) True
    1 (2, 2) True
    1 (2, 2) True
    1 (1, 2) True
    >>> batches
    Minibatches(3 of 2 rows: (5, 2), (5,))
    """
    if not arrays:
        raise TypeError("minibatches needs at least one array")
    given = tuple(_as_rows(f"array {i}", array) for i, array in enumerate(arrays))
    if any(array.ndim == 0 for array in given):
        raise ValueError(f"every array must have rows; the shapes are {', '.join(str(a.shape) for a in given)}")
    if len({len(array) for array in given}) > 1:
        raise ValueError(f"the arrays have {', '.join(str(len(array)) for array in given)} rows: as many are needed")
    shuffle, drop_last = _yes_or_no("shuffle", shuffle), _yes_or_no("drop_last", drop_last)
    rows = len(given[0])
    if batch_size is not None:
        batch_size = whole("batch_size", batch_size, 1)
        if drop_last and 0 < rows < batch_size:
            raise ValueError(f"{rows} rows give no batch of batch_size={batch_size}, and drop_last leaves out the rest")
        batch_size = min(batch_size, max(rows, 1))
    generator = generator_of(rng)
    return Minibatches(given, batch_size, generator if shuffle and batch_size is not None else None, drop_last)


def _as_rows(name: str, values: Any) -> np.ndarray:
    array = as_array(name, values)
    if array.dtype.kind == "O":
        numbers = hasattr(values, "columns") or (array.size and all_are_numbers(array))
    else:
        numbers = array.dtype.kind == "f"  # which of a frame's own types may have been made of missing values
    return as_real_array(name, values) if numbers else array
