"""Sums, the specification: blocks in order, each in lanes."""

import numpy as np

from .._specification.order import BLOCK, CHUNK, LANES, NARROW
from .environment import isolated


def lane_sums(x: np.ndarray) -> np.ndarray:
    """The sum of every row of ``x``, in double: lane by lane, then the lanes folded in halves."""
    rows, columns = x.shape
    steps = -(-columns // LANES)
    padded = np.zeros((rows, steps * LANES))
    padded[:, :columns] = x
    lanes = np.zeros((rows, LANES))
    for i in range(steps):
        lanes += padded[:, i * LANES : (i + 1) * LANES]
    while lanes.shape[1] > 1:
        lanes = lanes[:, : lanes.shape[1] // 2] + lanes[:, lanes.shape[1] // 2 :]
    return lanes[:, 0]


def total(x: np.ndarray, block: int = BLOCK) -> float:
    """The sum of ``x``: the sums of its blocks, in order."""
    block = min(block, max(x.size, 1))  # zeros behind the last number change no bit
    blocks = np.zeros((-(-x.size // block), block))
    blocks.reshape(-1)[: x.size] = x.reshape(-1)
    result = 0.0
    for block_sum in lane_sums(blocks):
        result += float(block_sum)
    return result


@isolated
def square_sum(x: np.ndarray) -> float:
    """The sum of the squares of ``x``, in double."""
    return total(np.square(x, dtype=np.float64))


def row_and_column_square_sums(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of the squares of rows and of columns, in double, of the matrices of the last two dimensions.

    Narrow rows are added up in order, others in lanes; columns row by row in chunks, which are then added in order.
    """
    rows, columns = x.shape[-2:]
    squares = np.square(x, dtype=np.float64).reshape(-1, rows, columns)
    each = squares.reshape(-1, columns)
    of_rows = np.add.accumulate(each, axis=1)[:, -1] if columns < NARROW else lane_sums(each)
    size, of_columns = max(CHUNK // columns, 1), np.zeros((len(squares), columns))
    for begin in range(0, rows, size):
        of_columns += np.add.accumulate(squares[:, begin : begin + size], axis=1)[:, -1]
    return of_rows.reshape(*x.shape[:-1], 1), of_columns.reshape(*x.shape[:-2], 1, columns)


@isolated
def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    """Whether ``scale * x`` holds an inf or NaN."""
    return not np.isfinite(x.dtype.type(scale) * x).all()


@isolated
def add_up(x: np.ndarray) -> float:
    """The sum of ``x``, in double."""
    return total(x)


@isolated
def row_sums(x: np.ndarray, sums: np.ndarray) -> None:
    """sums = the sum of every row of ``x``, rounded once."""
    sums[...] = lane_sums(x) if x.shape[1] <= BLOCK else [total(row) for row in x]
