"""Operations that move elements and compute nothing: shapes, parts, joined arrays; and sums over what was broadcast."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .binding import arithmetic, as_view, join, put, total, total_into
from .node import Operation, given
from .partials import Partial, linear


def _summed_axes(x: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    new = x.ndim - len(shape)
    return (*range(new), *(new + i for i, n in enumerate(shape) if n == 1 and x.shape[new + i] != 1))


def _sum_to(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    x = np.asarray(x)
    return x if x.shape == shape else total(x, _summed_axes(x, shape)).reshape(shape)


def _bind_sum_to(x: np.ndarray, *, shape: tuple[int, ...], out: np.ndarray) -> Any:
    return arithmetic("assign", x, None, out) if x.shape == shape else total_into(x, _summed_axes(x, shape), out)


def _spread(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(x, shape)


broadcast_to: Operation = Operation(
    "broadcast_to", _spread,
    lambda y, x, shape: linear(
        lambda t: broadcast_to(t, shape=shape), lambda g: sum_to(g, shape=x.shape), "broadcast"
    ),
    bind=as_view(_spread),
    doc="""The array repeated along new axes, and along axes of length 1, to the ``shape`` given by keyword.

    Its transpose, which takes derivatives back, is the sum over these axes.

    >>> from fastopt import graph
    >>> x = graph.variable([[1.0], [2.0]], name="x")
    >>> y = graph.broadcast_to(x, shape=(2, 3))
    >>> y.value.tolist(), graph.backward_mode(graph.sum(y))[x].tolist()
    ([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], [[3.0], [3.0]])
    """,
)  # fmt: skip
sum_to: Operation = Operation(
    "sum_to", _sum_to,
    lambda y, x, shape: linear(
        lambda t: sum_to(t, shape=shape), lambda g: broadcast_to(g, shape=x.shape), "sum"
    ),
    bind=_bind_sum_to,
)  # fmt: skip


def _reshaped(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return x.reshape(shape)


def _transposed(x: np.ndarray, axes: Any) -> np.ndarray:
    return np.transpose(x, axes)


def _part(x: np.ndarray, index: Any) -> Any:
    return x[index]


_reshape: Operation = Operation(
    "reshape", _reshaped,
    lambda y, x, shape: linear(
        lambda t: _reshape(t, shape=shape), lambda g: _reshape(g, shape=x.shape), "reshape"
    ),
    bind=as_view(_reshaped),
)  # fmt: skip
transposition: Operation = Operation(
    "transpose", _transposed,
    lambda y, x, axes: linear(
        lambda t: transposition(t, axes=axes),
        lambda g: transposition(g, axes=None if axes is None else tuple(np.argsort(axes).tolist())), "transpose",
    ),
    formula="{}ᵀ", bind=as_view(_transposed),
)  # fmt: skip


def _put(g: np.ndarray, *, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    x = np.zeros(shape, g.dtype)
    np.add.at(x, index, g)  # an index may take an element more than once
    return x


take: Operation = Operation(
    "take", _part,
    lambda y, x, index: linear(
        lambda t: take(t, index=index), lambda g: _put_back(g, index=index, shape=x.shape), "slice"
    ),
    formula="{}[…]", bind=as_view(_part),
)  # fmt: skip
_put_back: Operation = Operation(
    "put", _put,
    lambda y, g, index, shape: linear(
        lambda t: _put_back(t, index=index, shape=shape), lambda v: take(v, index=index), "zeros around"
    ),
    bind=put,
)  # fmt: skip


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """The same elements in another shape, in which one length may be -1: what is left for it.

    Examples
    --------
    >>> from fastopt import graph
    >>> graph.reshape(graph.variable([[1.0, 2.0], [3.0, 4.0]]), (-1,)).value
    array([1., 2., 3., 4.])
    """
    return _reshape(given(x), shape=shape)


def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Any:
    """The axes in reverse, or in the order of ``axes``; ``node.T`` is the former.

    Examples
    --------
    >>> from fastopt import graph
    >>> graph.transpose(graph.variable([[1.0, 2.0]])).shape
    (2, 1)
    """
    x = given(x)
    return transposition(x, axes=axes if axes is None else tuple(i % x.ndim for i in axes))


def concatenate(nodes: Any, axis: int = 0) -> Any:
    """Arrays joined along an axis they have.

    Examples
    --------
    >>> from fastopt import graph
    >>> a, b = graph.variable([1.0, 2.0]), graph.variable([3.0])
    >>> graph.concatenate([a, b]).value
    array([1., 2., 3.])
    """
    nodes = tuple(nodes)
    count = len(nodes)
    if count not in _concatenations:
        _concatenations[count] = Operation("concatenate", _join, *(_piece(i) for i in range(count)), bind=join)
    return _concatenations[count](*nodes, axis=axis)


_concatenations: dict[int, Operation] = {}  # by the number of inputs


def _join(*arrays: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(arrays, axis)


def _piece(i: int) -> Callable[..., Any]:
    def partial(y: Any, *inputs: Any, axis: int) -> Partial:
        begin = sum(x.shape[axis] for x in inputs[:i])
        here = (slice(None),) * (axis % y.ndim) + (slice(begin, begin + inputs[i].shape[axis]),)
        return linear(
            lambda t: _put_back(t, index=here, shape=y.shape), lambda g: take(g, index=here), "a part of the result"
        )

    return partial
