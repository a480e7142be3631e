"""Instructions for operations: what of a graph runs in the core when it is compiled."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import _backends
from .._backends.layout import layout
from .._specification.arithmetic import NUMBER
from ..functional.products import bind_matmul, get_matmul
from ..nn.passes import Calls, aligned


class Before:
    """What is done before every run of a program, outside of it: a look at what is given."""

    def __init__(self, prepare: Callable[[], None]):
        self.prepare = prepare


def in_python(*arrays: np.ndarray, **options: Any) -> Calls | None:
    """There are no instructions: the operation's `evaluate` is called."""
    return None


def arithmetic(name: str, a: np.ndarray, b: np.ndarray | None, out: np.ndarray) -> Calls | None:
    """An operation on elements, with broadcasting."""
    if not all(x.flags.aligned for x in (a, out)) or (b is not None and not b.flags.aligned):
        return None
    if layout(a, b, out) is None:
        return None
    return [_backends.active.bind("arithmetic", (a, b, out), (NUMBER[name],))]


def elementwise(name: str) -> Callable[..., Calls | None]:
    """`Operation.bind` of such an operation."""

    def bind(a: np.ndarray, b: np.ndarray | None = None, *, out: np.ndarray) -> Calls | None:
        return arithmetic(name, a, b, out)

    return bind


def dense(x: np.ndarray) -> tuple[np.ndarray, Calls] | None:
    """The same elements in one piece, and what copies them there."""
    if x.flags.c_contiguous and x.flags.aligned:
        return x, []
    copy = aligned(x.shape, x.dtype)
    calls = arithmetic("assign", x, None, copy)
    return None if calls is None else (copy, calls)


def of_dense(kernel: str) -> Callable[..., Calls | None]:
    """`Operation.bind` of a kernel of arrays in one piece."""

    def bind(*arrays: np.ndarray, out: np.ndarray) -> Calls | None:
        calls: Calls = []
        inputs = []
        for x in arrays:
            if x.shape != out.shape or (found := dense(x)) is None:
                return None
            inputs.append(found[0])
            calls += found[1]
        return [*calls, _backends.active.bind(kernel, (*inputs, out))]

    return bind


# ---- views --------------------------------------------------------------------------------------


def as_view(function: Callable[..., np.ndarray]) -> Callable[..., Calls | None]:
    """`Operation.bind` of what moves no elements where it need not: copies of them."""

    def bind(x: np.ndarray, *, out: np.ndarray, **options: Any) -> Calls | None:
        found = function(x, **options)
        if np.may_share_memory(found, x):
            return arithmetic("assign", found, None, out)
        if (moved := dense(x)) is None:  # it is a shape that no view has
            return None
        found = function(moved[0], **options)
        calls = arithmetic("assign", found, None, out)
        return None if calls is None or not np.may_share_memory(found, moved[0]) else [*moved[1], *calls]

    bind.views = True  # type: ignore[attr-defined]
    return bind


def put(g: np.ndarray, *, index: Any, shape: tuple[int, ...], out: np.ndarray) -> Calls | None:
    """Into a part of zeros."""
    part = out[index]
    if not isinstance(part, np.ndarray) or not np.may_share_memory(part, out):
        return None  # an index that may take an element more than once
    zero = np.zeros((), g.dtype)
    calls, more = arithmetic("assign", zero, None, out), arithmetic("add", g, zero, part)
    return None if calls is None or more is None else [*calls, *more]


def join(*arrays: np.ndarray, axis: int, out: np.ndarray) -> Calls | None:
    """Into parts of a result."""
    calls: Calls = []
    begin = 0
    for x in arrays:
        part = np.moveaxis(np.moveaxis(out, axis, 0)[begin : begin + x.shape[axis]], 0, axis)
        begin += x.shape[axis]
        if x.size:
            if (copies := arithmetic("assign", x, None, part)) is None:
                return None
            calls += copies
    return calls


# ---- sums ---------------------------------------------------------------------------------------


def matrix_of(x: np.ndarray, axes: tuple[int, ...]) -> tuple[str, np.ndarray, tuple[int, int]]:
    """How a sum over axes is taken: over rows or columns of which matrix, and from which array, which may lie apart."""
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    length, width = prod(x.shape[i] for i in axes), prod(x.shape[i] for i in kept)
    if axes == tuple(range(x.ndim - len(axes), x.ndim)):
        return "row_sums", x, (width, length)
    return "column_sums", x.transpose(*axes, *kept), (length, width)


def total(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over these axes, which are in order."""
    kernel, moved, shape = matrix_of(x, axes)
    if not (moved.flags.c_contiguous and moved.flags.aligned):
        moved = moved.copy()
    sums = np.empty(tuple(n for i, n in enumerate(x.shape) if i not in axes), x.dtype)
    getattr(_backends.active, kernel)(moved.reshape(shape), sums.reshape(-1))
    return sums


def total_into(x: np.ndarray, axes: tuple[int, ...], out: np.ndarray) -> Calls | None:
    """Instructions that do so."""
    kernel, moved, shape = matrix_of(x, axes)
    if (found := dense(moved)) is None:
        return None
    return [*found[1], _backends.active.bind(kernel, (found[0].reshape(shape), out.reshape(-1)))]


# ---- products -----------------------------------------------------------------------------------


def product_into(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None = None, activation: str | None = None
) -> Calls | None:
    """A product of matrices or vectors; of matrices, with a bias and an activation on request."""
    if get_matmul() != "exact":
        return None
    left, right = a if a.ndim == 2 else a[None, :], b if b.ndim == 2 else b[:, None]
    operands = [_operand(left), _operand(right)]
    if operands[0] is None or operands[1] is None:
        return None
    (left, calls), (right, more) = operands[0], operands[1]
    shaped = out.reshape(len(left), right.shape[1])
    return [*calls, *more, *bind_matmul(left, right, shaped, bias, activation)]


def _operand(x: np.ndarray) -> tuple[np.ndarray, Calls] | None:
    """A factor as the kernel reads it."""
    whole = x.flags.aligned and (x.flags.c_contiguous or x.flags.f_contiguous)
    return (x, []) if whole else dense(x)
