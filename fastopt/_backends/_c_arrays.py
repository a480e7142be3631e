"""What the C core is told of arrays: where they begin, their type, and the sizes that a kernel takes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .._interface import ffi, lib
from . import memory
from .layout import layout

address, WRITTEN, NULL = ffi.from_buffer, ffi.typeof("char[]"), ffi.NULL
DTYPES = {np.dtype(np.float32): lib.FASTOPT_FLOAT32, np.dtype(np.float64): lib.FASTOPT_FLOAT64}


def operand(x: np.ndarray) -> tuple[int, int]:
    """The strides of a matrix in elements, which has neighbours in memory along one of them."""
    (rows, columns), (row, column), item = x.shape, x.strides, x.itemsize
    if (row % item and rows > 1) or (column % item and columns > 1) or (item not in (row, column) and 1 not in x.shape):
        raise ValueError("neither rows nor columns lie in one piece")
    return row // item, column // item


def first(x: np.ndarray) -> Any:
    """Where a matrix begins, however it lies."""
    flags = x.flags
    if flags.c_contiguous:
        return address(x)
    return address(x.T) if flags.f_contiguous else ffi.cast("char *", memory.address(x))


def _size(x: np.ndarray, *_: Any) -> tuple[int, ...]:
    return (x.size,)


def _shape(x: np.ndarray, *_: Any) -> tuple[int, ...]:
    return x.shape


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None) -> tuple[int, ...]:
    (rows, columns), inner = out.shape, a.shape[1]
    left = (inner, 1) if a.flags.c_contiguous else operand(a)
    right = (columns, 1) if b.flags.c_contiguous else operand(b)
    return rows, columns, inner, *left, *right


def layout_of(a: np.ndarray, b: np.ndarray | None, out: np.ndarray) -> tuple[int, ...]:
    found = layout(a, b, out)
    if found is None:
        raise ValueError(f"arrays of shape {out.shape} do not lie as planes, rows and columns")
    return found


def _periods(
    z: np.ndarray, y: Any, weight: np.ndarray | None, pos_weight: np.ndarray | None, *_: Any
) -> tuple[int, ...]:
    return z.size, 1 if weight is None else weight.size, 1 if pos_weight is None else pos_weight.size


# The whole numbers that follow from the arrays, where they are not the size of the first.
_SIZES: dict[str, Callable[..., tuple[int, ...]]] = {
    **dict.fromkeys(
        ["batch_norm", "batch_norm_backward", "bias_add", "bias_relu", "bias_sigmoid", "bias_tanh", "column_sums",
         "layer_norm", "layer_norm_backward", "row_sums", "scale_rows", "softmax", "softmax_cross_entropy",
         "soft_cross_entropy"],
        _shape,
    ),
    "arithmetic": layout_of,
    "copy": lambda x, *_: (x.nbytes,),
    "gather_rows": lambda X, rows, x: (*x.reshape(len(x), -1).shape, DTYPES[X.dtype]),
    "matmul": _product,
    "move_average": lambda average, *_: (average.size,),
    "step": lambda *_: (),
    "pins_unchanged": lambda *_: (),
    "weighted_logistic_loss": _periods,
}  # fmt: skip


def sizes_of(kernel: str) -> Callable[..., tuple[int, ...]]:
    """The function that makes a kernel's whole numbers of its arrays."""
    return _SIZES.get(kernel, _size)
