"""Data of which every process holds the rows of its shards."""

from typing import Any

import numpy as np

from .._checks import whole
from .._conversion import as_real_array
from .shards import Company, cuts


class RowsHeld:
    """All rows are cut into shards, and every process has those of its own.

    A batch then takes from every shard as many rows; they are put into a new order shard by shard.
    """

    def __init__(self, rows: int, company: Company):
        self.rows, self._company = rows, company
        self._begins = cuts(rows, company.shards)
        self._of_ranks = [self._begins[company.range_of(rank)[0]] for rank in range(company.size)] + [rows]
        self.first, self.last = self._of_ranks[company.rank : company.rank + 2]

    def completed(self, X: np.ndarray, y: Any, weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The data, with the targets and weights of all processes' rows."""
        given = {"y": as_real_array("y", y)}
        if weight is not None:
            given["sample_weight"] = as_real_array("sample_weight", weight)
        for name, array in {"X": X, **given}.items():
            if array.shape[:1] != (self.last - self.first,):
                raise ValueError(
                    f"{name} has shape {array.shape}: of total_rows={self.rows}, this process has those from"
                    f" {self.first} to before {self.last}, which fastopt.parallel.local_rows names"
                )
        kinds = {name: f"{array.dtype} {array.shape[1:]}" for name, array in {"X": X, **given}.items()}
        self._company.compare({**kinds, "total_rows": self.rows})
        self._company.committed = True
        found = [self._of_all(array) for array in given.values()]
        self._company.committed = False
        return X, found[0], found[1] if len(found) > 1 else None

    def _of_all(self, array: np.ndarray) -> np.ndarray:
        all_rows = np.zeros((self.rows, *array.shape[1:]), array.dtype)
        all_rows[self.first : self.last] = array
        width = all_rows[:1].size
        self._company.share([(all_rows, [width * begin for begin in self._of_ranks])])
        return all_rows

    def shuffle(self, rows: np.ndarray, batch_size: int, generator: Any) -> None:
        """Put the rows into the order of an epoch: batch by batch, and within a batch shard by shard."""
        if generator is not None:
            for begin, end in zip(self._begins[:-1], self._begins[1:], strict=True):
                generator.shuffle(rows[begin:end])
        shards = self._company.shards
        batches, each = len(rows) // batch_size, batch_size // shards
        if batches == 1 and batch_size == len(rows):
            return
        if each * shards != batch_size:
            raise ValueError(
                f"batch_size={batch_size} must be a multiple of shards={shards}, over which rows are spread"
            )
        starts = np.array(self._begins[:-1])
        in_batches = starts[:, None] + np.arange(each) + each * np.arange(batches)[:, None, None]
        left = [
            np.arange(begin + batches * each, end)
            for begin, end in zip(self._begins[:-1], self._begins[1:], strict=True)
        ]
        rows[...] = rows[np.concatenate([in_batches.reshape(-1), *left])]


def rows_held(total_rows: int | None, company: Company | None, held: int) -> RowsHeld | None:
    """Which rows are held here, where these are a part."""
    if total_rows is None:
        return None
    total_rows = whole("total_rows", total_rows, 1)
    if company is not None:
        return RowsHeld(total_rows, company)
    if held != total_rows:
        raise ValueError(f"X has {held} rows: a single process has all total_rows={total_rows}")
    return None
