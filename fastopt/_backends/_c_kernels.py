"""The kernels of the C core as functions: their arrays, then their scalars."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .._interface import ffi, lib
from .._pins import HEADER
from .._specification.kernels import ELEMENTWISE, KERNELS, NUMBERED, OF_PAIRS, UNARY
from .._specification.order import NARROW
from . import memory as _memory
from . import numpy as reference
from ._c_arrays import DTYPES, NULL, WRITTEN, address, first, layout_of, operand, sizes_of
from ._c_program import pointer


def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    return bool(lib.fastopt_any_nonfinite(DTYPES[x.dtype], address(x), x.size, scale))


def square_sum(x: np.ndarray) -> float:
    return lib.fastopt_square_sum(DTYPES[x.dtype], address(x), x.size)


def _elementwise(name: str) -> Callable[..., None]:
    kernel = getattr(lib, f"fastopt_{name}")

    def unary(x: np.ndarray, out: np.ndarray) -> None:
        if kernel(DTYPES[x.dtype], address(x), address(WRITTEN, out, True), x.size):
            raise ValueError("out overlaps a part of an input")

    def binary(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        if kernel(DTYPES[x.dtype], address(x), address(y), address(WRITTEN, out, True), x.size):
            raise ValueError("out overlaps a part of an input")

    def unary_with(x: np.ndarray, out: np.ndarray, number: float) -> None:
        if kernel(DTYPES[x.dtype], address(x), address(WRITTEN, out, True), x.size, number):
            raise ValueError("out overlaps a part of an input")

    def binary_with(x: np.ndarray, y: np.ndarray, out: np.ndarray, number: float) -> None:
        if kernel(DTYPES[x.dtype], address(x), address(y), address(WRITTEN, out, True), x.size, number):
            raise ValueError("out overlaps a part of an input")

    forms = (unary_with, binary_with) if name in NUMBERED else (unary, binary)
    return wraps(getattr(reference, name))(forms[name not in UNARY])


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> None:
    (rows, columns), inner = out.shape, a.shape[1]
    left, a_row, a_k = (address(a), inner, 1) if a.flags.c_contiguous else (first(a), *operand(a))
    right, b_k, b_column = (address(b), columns, 1) if b.flags.c_contiguous else (first(b), *operand(b))
    to, added = address(WRITTEN, out, True), NULL if bias is None else address(bias)
    sizes = rows, columns, inner, a_row, a_k, b_k, b_column
    if _matmul(DTYPES[out.dtype], left, right, to, added, *sizes, activation):
        raise ValueError("an array is not aligned")


def arithmetic(a: np.ndarray, b: np.ndarray | None, out: np.ndarray, operation: int) -> None:
    arrays = pointer(a), pointer(b), pointer(out)
    lib.fastopt_arithmetic(DTYPES[out.dtype], *arrays, *layout_of(a, b, out), operation)


def dropout(x: np.ndarray, out: np.ndarray, position: int, seed: int, draw: int, threshold: int, scale: float) -> None:
    lib.fastopt_dropout(DTYPES[x.dtype], address(x), address(out), x.size, position, seed, draw, threshold, scale)


_matmul = lib.fastopt_matmul


def try_matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> bool:
    """`matmul` of plain arrays, if C sees that they fit together and can be taken as they lie; else nothing is done."""
    if not HEADER:
        return False
    added = 0 if bias is None else id(bias) + HEADER
    return _matmul_arrays(_OF_NUMPY, id(a) + HEADER, id(b) + HEADER, id(out) + HEADER, added, activation) == 1


_matmul_arrays = lib.fastopt_matmul_arrays
_OF_NUMPY = ffi.new("fastopt_dtypes *", [id(dtype) for dtype in DTYPES])


def _loss(name: str) -> Callable[..., float]:
    kernel = getattr(lib, f"fastopt_{name}")

    def loss(
        z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float, *number: float
    ) -> float:
        each, to = NULL if losses is None else address(losses), address(WRITTEN, dz, True)
        total = kernel(DTYPES[z.dtype], address(z), address(y), each, to, z.size, scale, *number)
        if total != total:  # of NaN, or refused
            _memory.check_written(dz, z, y)
        return total

    return wraps(getattr(reference, name))(loss)


def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    ignore_index: int,
    scale: float,
    total_weight: float,
    smoothing: float,
) -> float:
    total = _softmax_cross_entropy(
        DTYPES[z.dtype],
        address(z),
        address(_LABELS, labels),
        NULL if weight is None else address(weight),
        NULL if losses is None else address(losses),
        address(WRITTEN, dz, True),
        *z.shape,
        ignore_index,
        scale,
        total_weight,
        smoothing,
    )
    if total != total:  # of NaN, or refused
        _memory.check_written(dz, z)
    return total


_softmax_cross_entropy, _LABELS = lib.fastopt_softmax_cross_entropy, ffi.typeof("int64_t[]")


def softmax(x: np.ndarray, out: np.ndarray) -> None:
    if lib.fastopt_softmax(DTYPES[x.dtype], address(x), address(WRITTEN, out, True), *x.shape):
        raise ValueError("out overlaps a part of an input, or an array is not aligned")


def argmax(x: np.ndarray) -> np.ndarray:
    if not 0 < x.shape[1] < NARROW:  # of more columns NumPy finds it as fast
        return reference.argmax(x)
    places = np.empty(len(x), np.int64)
    lib.fastopt_argmax(DTYPES[x.dtype], address(x), address("int64_t[]", places, True), *x.shape)
    return places


def count_labels(labels: np.ndarray, classes: int, ignore_index: int) -> int:
    return lib.fastopt_count_labels(address("int64_t[]", labels), labels.size, classes, ignore_index)


def batch_norm_scratch(outer: int, channels: int, inner: int) -> int:
    return lib.fastopt_batch_norm_scratch(outer, channels, inner)


def layer_norm_scratch(rows: int, columns: int) -> int:
    return lib.fastopt_layer_norm_scratch(rows, columns)


def _wrapper(kernel: str) -> Callable[..., Any]:
    """A call of the kernel: its arrays, then its scalars."""
    function, sizes = getattr(lib, f"fastopt_{kernel}"), sizes_of(kernel)
    items = [argument.item for argument in ffi.typeof(function).args if argument.kind == "pointer"]
    types = [ffi.typeof("char[]" if item.kind == "void" else f"{item.cname}[]") for item in items]
    count, typed = len(types), 2 if kernel == "gather_rows" else 0

    def call(*arguments: Any) -> Any:
        arrays = arguments[:count]
        pointers = [NULL if x is None else address(kind, x) for kind, x in zip(types, arrays)]  # noqa: B905  in less time
        return function(DTYPES.get(arrays[typed].dtype, 0), *pointers, *sizes(*arrays), *arguments[count:])

    return wraps(getattr(reference, kernel))(call)


# A function for every kernel of the table: its arrays, then its scalars.
for _kernel in KERNELS:
    if _kernel in ELEMENTWISE:
        globals()[_kernel] = _elementwise(_kernel)
    elif _kernel in OF_PAIRS:
        globals()[_kernel] = _loss(_kernel)
    elif _kernel not in globals():
        globals()[_kernel] = _wrapper(_kernel)
