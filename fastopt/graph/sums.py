"""Sums and means over axes, and products of matrices and vectors."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import functional
from .node import Node, Operation, as_nodes, describe, given
from .partials import linear
from .shapes import broadcast_to, reshape, transpose


def _ones(x: Any, axis: Any) -> tuple[int, ...]:
    """The shape with axes of length 1 where they are summed over."""
    return tuple(1 if axis is None or i in axis else n for i, n in enumerate(x.shape))


def _total(factor: Callable[[Any, Any], float], name: str) -> Callable[..., Any]:
    """The partial derivative of ``factor`` times a sum over axes."""

    def partial(y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
        scale = factor(y, x)
        return linear(
            lambda t: scale * _sum_over(t, axis=axis, keepdims=keepdims),
            lambda g: broadcast_to(reshape(scale * g, _ones(x, axis)), shape=x.shape),
            name,
        )

    return partial


def _mean(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    if not x.size and prod(x.shape[i] for i in (range(x.ndim) if axis is None else axis)) == 0:
        raise ValueError("the mean of no elements is undefined")
    return x.mean(axis=axis, keepdims=keepdims)


_sum_over: Operation = Operation(
    "sum", lambda x, axis, keepdims: x.sum(axis=axis, keepdims=keepdims), _total(lambda y, x: 1.0, "sum")
)
_mean_over: Operation = Operation(
    "mean", _mean, _total(lambda y, x: max(prod(y.shape), 1) / max(prod(x.shape), 1), "mean")
)


def _axes(x: Any, axis: Any) -> tuple[int, ...] | None:
    if axis is None:
        return None
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for i in axes:
        if not -x.ndim <= i < x.ndim:
            raise ValueError(f"axis is {i}, and {_called(x)} has {x.ndim} axes")
    return tuple(i % x.ndim for i in axes)


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum of all elements, or over an axis or several.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable([1.0, 2.0])
    >>> graph.backward_mode(graph.sum(x * x))[x]
    array([2., 4.])
    """
    x = given(x)
    return _sum_over(x, axis=_axes(x, axis), keepdims=keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean of all elements, or over an axis or several.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable([1.0, 2.0])
    >>> graph.backward_mode(graph.mean(x * x))[x]
    array([1., 2.])
    """
    x = given(x)
    return _mean_over(x, axis=_axes(x, axis), keepdims=keepdims)


def _outer(u: Any, v: Any) -> Any:
    return _matmul(reshape(u, (-1, 1)), reshape(v, (1, -1)))


def _of_left(y: Any, a: Any, b: Any) -> Any:
    def backward(g: Any) -> Any:
        if b.ndim == 1:
            return g * b if a.ndim == 1 else _outer(g, b)
        return _matmul(b, g) if a.ndim == 1 else _matmul(g, transpose(b))

    return linear(lambda t: _matmul(t, b), backward, f"· {_shown(b)}")


def _of_right(y: Any, a: Any, b: Any) -> Any:
    def backward(g: Any) -> Any:
        if a.ndim == 1:
            return a * g if b.ndim == 1 else _outer(a, g)
        return _matmul(transpose(a), g)

    return linear(lambda t: _matmul(a, t), backward, f"{_shown(a)} ·")


def _shown(x: Any) -> str:
    return f"a {'vector' if x.ndim == 1 else 'matrix'} {x.shape}"


_matmul: Operation = Operation(
    "matmul", lambda a, b, out=None: functional.matmul(a, b, out), _of_left, _of_right,
    formula="{} @ {}", binds=2, reuses=True,
)  # fmt: skip


def matmul(a: Any, b: Any) -> Any:
    """The product of two matrices, of a matrix and a vector, or of two vectors, by `fastopt.matmul`; ``a @ b``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import graph
    >>> W, x = graph.variable(np.eye(2), name="W"), graph.variable([3.0, 4.0], name="x")
    >>> (W @ x).value
    array([3., 4.])
    """
    if isinstance(a, Node) or isinstance(b, Node):
        a, b = as_nodes(_matmul, (a, b))
    if a.ndim not in (1, 2) or b.ndim not in (1, 2):
        raise ValueError(f"matmul takes vectors and matrices, not {_called(a)} and {_called(b)}")
    if a.shape[-1] != b.shape[0]:
        raise ValueError(f"matmul of {_called(a)} and {_called(b)}: the lengths {a.shape[-1]} and {b.shape[0]} differ")
    return _matmul(a, b)


def _called(x: Any) -> str:
    return describe(x) if isinstance(x, Node) else f"an array of shape {x.shape}"
