"""What the backends agree on: the order in which sums are taken, which depends on shapes alone, and the numbers of the
activations that may follow batch norm (csrc: internal.h, reduce.inc, functions.h, matmul.inc; fastopt.h)."""

from collections.abc import Iterable
from functools import reduce
from operator import add

BLOCK = 8192  # elements: sums are taken block by block
LANES = 16  # element i of a block goes to lane i mod LANES
COLUMN_LANES = 64  # so many columns fill vectors; fewer are spread over lanes
ROWS_OF_BLOCK = 128  # rows, at least
LEAST_ROWS = 64  # in layer norm


def column_order(columns: int) -> tuple[int, int]:
    """How columns are summed: the lanes that rows are dealt to in turn, and the rows of a block."""
    lanes = 1
    while lanes * columns < COLUMN_LANES:
        lanes *= 2
    return lanes, max(BLOCK // (lanes * columns) * lanes, ROWS_OF_BLOCK)


def plane_order(inner: int) -> tuple[int, int]:
    """How the planes of a channel are summed: the planes of a block, and the blocks of a plane."""
    return max(BLOCK // inner, 1), -(-inner // BLOCK)


def rows_of_sums(columns: int) -> int:
    """The rows of a block, whose columns are summed, of layer norm's backward pass."""
    return max(BLOCK // columns, LEAST_ROWS)


def in_order(numbers: Iterable[float]) -> float:
    """Their sum, added one after the other: Python's `sum` has other bits from 3.12 on."""
    return reduce(add, numbers, 0.0)


CHAIN = 4096  # links of a chain of multiply-adds in a matrix product, at most

NARROW = (
    64  # with fewer classes than this, softmax adds them up in order, else in LANES; so Adafactor the squares of a row
)
CHUNK = 8 * BLOCK  # elements, or one row: Adafactor's sums of columns are taken chunk by chunk


def softmax_block(classes: int) -> int:
    """The rows of a block, whose losses are summed."""
    return min(max(BLOCK // classes, 1), 1024)


ACTIVATIONS = "identity", "relu", "sigmoid", "tanh"
