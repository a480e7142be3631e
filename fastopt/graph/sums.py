"""Sums and means over axes, and products of matrices and vectors."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import functional
from .binding import arithmetic, product_into, total, total_into
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


def _in_order(x: np.ndarray, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else tuple(sorted(set(axis)))


def _sum(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    x = np.asarray(x)
    sums = total(x, _in_order(x, axis))
    return sums.reshape(_ones(x, axis)) if keepdims else sums


def _mean(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    count = prod(np.shape(x)[i] for i in _in_order(x, axis))
    if count == 0 and not np.size(x):
        raise ValueError("the mean of no elements is undefined")
    return _sum(x, axis, keepdims) / count


def _bind_sum(x: np.ndarray, axis: Any, keepdims: bool, out: np.ndarray) -> Any:
    return total_into(x, _in_order(x, axis), out)


def _bind_mean(x: np.ndarray, axis: Any, keepdims: bool, out: np.ndarray) -> Any:
    count = np.array(prod(x.shape[i] for i in _in_order(x, axis)), x.dtype)
    if (calls := total_into(x, _in_order(x, axis), out)) is None:
        return None
    return [*calls, *(arithmetic("divide", out, count, out) or [])]


_sum_over: Operation = Operation("sum", _sum, _total(lambda y, x: 1.0, "sum"), bind=_bind_sum)
_mean_over: Operation = Operation(
    "mean", _mean, _total(lambda y, x: max(prod(y.shape), 1) / max(prod(x.shape), 1), "mean"), bind=_bind_mean
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

    Parameters
    ----------
    x : node or array
    axis : int or tuple of int, optional
        By default, all.
    keepdims : bool
        Whether these axes stay, with length 1.

    Raises
    ------
    ValueError
        If there is no such axis.

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

    Parameters
    ----------
    x, axis, keepdims
        As for `sum`.

    Raises
    ------
    ValueError
        If there is no such axis, or there are no elements.

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
    return product(reshape(u, (-1, 1)), reshape(v, (1, -1)))


def _of_left(y: Any, a: Any, b: Any) -> Any:
    def backward(g: Any) -> Any:
        if b.ndim == 1:
            return g * b if a.ndim == 1 else _outer(g, b)
        return product(b, g) if a.ndim == 1 else product(g, transpose(b))

    return linear(lambda t: product(t, b), backward, f"· {_shown(b)}")


def _of_right(y: Any, a: Any, b: Any) -> Any:
    def backward(g: Any) -> Any:
        if a.ndim == 1:
            return a * g if b.ndim == 1 else _outer(a, g)
        return product(transpose(a), g)

    return linear(lambda t: product(a, t), backward, f"{_shown(a)} ·")


def _shown(x: Any) -> str:
    return f"a {'vector' if x.ndim == 1 else 'matrix'} {x.shape}"


def _bind_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Any:
    return product_into(a, b, out)


product: Operation = Operation(
    "matmul", lambda a, b, out=None: functional.matmul(a, b, out), _of_left, _of_right,
    formula="{} @ {}", binds=2, reuses=True, bind=_bind_product,
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
        a, b = as_nodes(product, (a, b))
    if a.ndim not in (1, 2) or b.ndim not in (1, 2):
        raise ValueError(f"matmul takes vectors and matrices, not {_called(a)} and {_called(b)}")
    if a.shape[-1] != b.shape[0]:
        raise ValueError(f"matmul of {_called(a)} and {_called(b)}: the lengths {a.shape[-1]} and {b.shape[0]} differ")
    return product(a, b)


def _called(x: Any) -> str:
    return describe(x) if isinstance(x, Node) else f"an array of shape {x.shape}"
