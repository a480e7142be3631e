"""The operations: of each, how it is evaluated and its partial derivatives, and nothing else.

Evaluations work on arrays; partial derivatives are written with operators and operations, and so work on arrays and on
nodes. Elementwise functions for which the library has a kernel use it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _backends, functional
from .node import Node, Operation, as_nodes
from .partials import Partial, diagonal, linear, symmetric

# ---- shapes -------------------------------------------------------------------------------------


def _sum_to(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    if x.shape == shape:
        return x
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    kept = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return x.sum(axis=kept, keepdims=True) if kept else x


def _spread(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(x, shape)


broadcast_to = Operation(
    "broadcast_to", _spread,
    lambda y, x, shape: linear(
        lambda t: broadcast_to(t, shape=shape), lambda g: sum_to(g, shape=x.shape), "broadcast"
    ),
)  # fmt: skip
sum_to = Operation(
    "sum_to", _sum_to,
    lambda y, x, shape: linear(
        lambda t: sum_to(t, shape=shape), lambda g: broadcast_to(g, shape=x.shape), "sum"
    ),
)  # fmt: skip
_reshape = Operation(
    "reshape", lambda x, shape: x.reshape(shape),
    lambda y, x, shape: linear(
        lambda t: _reshape(t, shape=shape), lambda g: _reshape(g, shape=x.shape), "reshape"
    ),
)  # fmt: skip
_transpose = Operation(
    "transpose", lambda x, axes: x.transpose(axes),
    lambda y, x, axes: linear(
        lambda t: _transpose(t, axes=axes),
        lambda g: _transpose(g, axes=None if axes is None else tuple(np.argsort(axes).tolist())), "transpose",
    ),
    formula="{}ᵀ", binds=4,
)  # fmt: skip


def _put(g: np.ndarray, *, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    x = np.zeros(shape, g.dtype)
    np.add.at(x, index, g)  # an index may take an element more than once
    return x


_take = Operation(
    "take", lambda x, index: x[index],
    lambda y, x, index: linear(
        lambda t: _take(t, index=index), lambda g: _put_back(g, index=index, shape=x.shape), "slice"
    ),
    formula="{}[…]",
)  # fmt: skip
_put_back = Operation(
    "put", _put,
    lambda y, g, index, shape: linear(
        lambda t: _put_back(t, index=index, shape=shape), lambda v: _take(v, index=index), "zeros around"
    ),
)  # fmt: skip


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """The same elements in another shape."""
    return _reshape(x, shape=tuple(np.reshape(np.empty(x.shape, bool), shape).shape))


def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Any:
    """The axes in reverse, or in the order of ``axes``."""
    return _transpose(x, axes=axes if axes is None else tuple(i % x.ndim for i in axes))


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
    kinds = len(nodes)
    if kinds not in _concatenations:
        _concatenations[kinds] = Operation("concatenate", _join, *(_piece(i) for i in range(kinds)))
    return _concatenations[kinds](*nodes, axis=axis)


_concatenations: dict[int, Operation] = {}  # by the number of inputs


def _join(*arrays: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(arrays, axis)


def _piece(i: int) -> Callable[..., Any]:
    def partial(y, *inputs, axis):
        begin = sum(x.shape[axis] for x in inputs[:i])
        here = (slice(None),) * (axis % y.ndim) + (slice(begin, begin + inputs[i].shape[axis]),)
        return linear(
            lambda t: _put_back(t, index=here, shape=y.shape), lambda g: _take(g, index=here), "a part of the result"
        )

    return partial


# ---- arithmetic ---------------------------------------------------------------------------------


def _elementwise(name: str, function: Callable[..., Any], *partials: Any, **how: Any) -> Operation:
    return Operation(name, function, *partials, broadcasts=len(partials) > 1, reuses=True, **how)


_same = symmetric(lambda v: v, 1.0)
_negated = symmetric(lambda v: -v, -1.0)
add = _elementwise(
    "add", np.add, lambda y, a, b: _same, lambda y, a, b: _same, formula="{} + {}", binds=1
)
subtract = _elementwise(
    "subtract", np.subtract, lambda y, a, b: _same, lambda y, a, b: _negated, formula="{} - {}", binds=1
)
multiply = _elementwise(
    "multiply", np.multiply, lambda y, a, b: diagonal(b), lambda y, a, b: diagonal(a), formula="{} · {}", binds=2
)
divide = _elementwise(
    "divide", np.divide, lambda y, a, b: diagonal(1.0 / b), lambda y, a, b: diagonal(-y / b),
    formula="{} / {}", binds=2,
)  # fmt: skip
negative = _elementwise("negative", np.negative, lambda y, x: _negated, formula="-{}", binds=2)
power = _elementwise(
    "power", np.power,
    lambda y, a, b: diagonal(b * a ** (b - 1.0)), lambda y, a, b: diagonal(y * log(a)), formula="{}^{}", binds=3,
)  # fmt: skip
absolute = _elementwise("abs", np.absolute, lambda y, x: diagonal(_sign(x)), formula="|{}|")
_sign = _elementwise("sign", np.sign, lambda y, x: diagonal(0.0))
_above = _elementwise(  # 1 where a > b, 1/2 where they are equal
    "above", lambda a, b, out=None: np.heaviside(np.subtract(a, b), a.dtype.type(0.5), out=out),
    lambda y, a, b: diagonal(0.0), lambda y, a, b: diagonal(0.0),
)  # fmt: skip
maximum = _elementwise(
    "maximum", np.maximum, lambda y, a, b: diagonal(_above(a, b)), lambda y, a, b: diagonal(_above(b, a))
)
minimum = _elementwise(
    "minimum", np.minimum, lambda y, a, b: diagonal(_above(b, a)), lambda y, a, b: diagonal(_above(a, b))
)

# ---- functions of every element -----------------------------------------------------------------


def _kernel(name: str) -> Callable[..., np.ndarray]:
    def evaluate(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        x = x if x.flags.c_contiguous else np.ascontiguousarray(x)
        y = np.empty(x.shape, x.dtype) if out is None else out
        getattr(_backends.active, name)(x, y)
        return y

    return evaluate


def _through(kernel: str, factor: Callable[[], Any], y: Any) -> Any:
    """Diagonal: by the kernel, which takes v and y to factor v, or, of nodes, by the factor itself."""
    if isinstance(y, Node):
        return diagonal(factor())

    def scale(v: Any) -> Any:
        if isinstance(v, Node) or np.shape(v) != y.shape or not (v.flags.c_contiguous and y.flags.c_contiguous):
            return factor() * v
        x = np.empty(y.shape, y.dtype)
        getattr(_backends.active, kernel)(v, y, x)
        return x

    return Partial(scale, scale, factor)


exp = _elementwise("exp", _kernel("exp"), lambda y, x: diagonal(y))
log = _elementwise("log", np.log, lambda y, x: diagonal(1.0 / x))
log1p = _elementwise("log1p", np.log1p, lambda y, x: diagonal(1.0 / (1.0 + x)))
sqrt = _elementwise("sqrt", np.sqrt, lambda y, x: diagonal(0.5 / y), formula="√{}")
sigmoid = _elementwise(
    "sigmoid", _kernel("sigmoid"), lambda y, x: _through("sigmoid_backward", lambda: y * (1.0 - y), y), formula="σ({})"
)
tanh = _elementwise("tanh", _kernel("tanh"), lambda y, x: _through("tanh_backward", lambda: 1.0 - y * y, y))
relu = _elementwise("relu", _kernel("relu"), lambda y, x: diagonal(_positive(x)))
_positive = _elementwise(
    "positive", lambda x, out=None: np.heaviside(x, x.dtype.type(0), out=out), lambda y, x: diagonal(0.0)
)
softplus = _elementwise("softplus", _kernel("softplus"), lambda y, x: diagonal(sigmoid(x)))
log_sigmoid = _elementwise("log_sigmoid", _kernel("log_sigmoid"), lambda y, x: diagonal(1.0 - sigmoid(x)))


def silu(x: Any) -> Any:
    """x σ(x) (Elfwing et al. 2018; also called swish)."""
    return x * sigmoid(x)


# ---- sums and products --------------------------------------------------------------------------


def _sum(x: np.ndarray, *, axis: Any, keepdims: bool) -> np.ndarray:
    return x.sum(axis=axis, keepdims=keepdims)


def _summed(y, x, axis, keepdims):
    ones = tuple(
        1 if axis is None or i in axis else n for i, n in enumerate(x.shape)
    )  # the shape with axes of length 1 where they were summed over
    return linear(
        lambda t: _sum_over(t, axis=axis, keepdims=keepdims),
        lambda g: broadcast_to(_reshape(g, shape=ones), shape=x.shape),
        "sum",
    )


_sum_over = Operation("sum", _sum, _summed)


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum of all elements, or over an axis or several.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable([1.0, 2.0])
    >>> graph.backward_mode(graph.sum(x * x))[x]
    array([2., 4.])
    """
    if axis is not None:
        axis = tuple(i % x.ndim for i in ((axis,) if isinstance(axis, (int, np.integer)) else axis))
    return _sum_over(x, axis=axis, keepdims=keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean of all elements, or over an axis or several."""
    total = sum(x, axis, keepdims)
    return total * (total.size / x.size)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.matmul(a, b)


_matmul = Operation(
    "matmul", _product,
    lambda y, a, b: linear(lambda t: _matmul(t, b), lambda g: _matmul(g, transpose(b)), f"· {_shown(b)}"),
    lambda y, a, b: linear(lambda t: _matmul(a, t), lambda g: _matmul(transpose(a), g), f"{_shown(a)} ·"),
    formula="{} @ {}", binds=2,
)  # fmt: skip


def _shown(x: Any) -> str:
    return f"a matrix {x.shape}"


def matmul(a: Any, b: Any) -> Any:
    """The product of two matrices, of a matrix and a vector, or of two vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import graph
    >>> W, x = graph.variable(np.eye(2), name="W"), graph.variable([3.0, 4.0], name="x")
    >>> (W @ x).value
    array([3., 4.])
    """
    if a.ndim not in (1, 2) or b.ndim not in (1, 2):
        raise ValueError(f"matmul takes vectors and matrices, not shapes {a.shape} and {b.shape}")
    row = _reshape(a, shape=(1, *a.shape)) if a.ndim == 1 else a
    column = _reshape(b, shape=(*b.shape, 1)) if b.ndim == 1 else b
    y = _matmul(row, column)
    return y if row is a and column is b else _reshape(y, shape=a.shape[:-1] + b.shape[1:])


# ---- what a network ends in ---------------------------------------------------------------------


def _softmax_of(z: np.ndarray) -> np.ndarray:
    e = exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_jacobian(y, z):
    return symmetric(lambda v: y * (v - sum(y * v, axis=-1, keepdims=True)), "diag(p) - p pᵀ")


softmax = Operation("softmax", _softmax_of, _softmax_jacobian)


def _row(gradient: Callable[[], Any]) -> Any:
    """The partial derivative of a number: t to the sum of gradient times t, and g to g times the gradient."""
    return linear(lambda t: sum(gradient() * t), lambda g: g * gradient(), "the loss's gradient")


logistic_loss = Operation(
    "logistic_loss",
    lambda z, y: functional.logistic_loss(np.ascontiguousarray(z), np.ascontiguousarray(y))[0],
    lambda loss, z, y: _row(lambda: (sigmoid(z) - y) / z.size),
    lambda loss, z, y: _row(lambda: -z / z.size),
)
mse_loss = Operation(
    "mse_loss",
    lambda z, y: functional.mse_loss(np.ascontiguousarray(z), np.ascontiguousarray(y))[0],
    lambda loss, z, y: _row(lambda: (2.0 / z.size) * (z - y)),
    lambda loss, z, y: _row(lambda: (2.0 / z.size) * (y - z)),
)


def _chosen(z: Any, labels: Any) -> np.ndarray:
    """1 at every row's label."""
    at = labels.value if isinstance(labels, Node) else labels
    one = np.zeros(z.shape, z.dtype)
    one[np.arange(len(at)), at] = 1
    return one


_cross_entropy = Operation(
    "cross_entropy",
    lambda z, labels: functional.softmax_cross_entropy(np.ascontiguousarray(z), labels)[0],
    lambda loss, z, labels: _row(lambda: (softmax(z) - _chosen(z, labels)) / z.shape[0]),
    None,
)


def cross_entropy(z: Any, labels: Any) -> Any:
    """The cross-entropy of softmax(z) with integer labels, averaged over the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import graph
    >>> z = graph.variable(np.zeros((1, 2)), name="z")
    >>> graph.backward_mode(graph.cross_entropy(z, np.array([1])))[z]
    array([[ 0.5, -0.5]])
    """
    return _cross_entropy(z, labels)


# ---- layers -------------------------------------------------------------------------------------


def _normalized(x, gamma, beta, *, eps, mean, var):
    y, _ = functional.batch_norm(
        np.ascontiguousarray(x), gamma, beta, mean, var, training=mean is None, eps=eps
    )
    return y


def _batch_norm_of_x(y, x, gamma, beta, *, eps, mean, var):
    if mean is not None:
        return diagonal(gamma / np.sqrt(var + var.dtype.type(eps)))
    center, scale = _center_and_scale(x, eps)

    def apply(v):  # gamma and both means belong to a column, and so may change places
        unit = (x - center) * scale
        return gamma * scale * (v - _column_mean(v) - unit * _column_mean(unit * v))

    return symmetric(apply, "batch norm's")


def _batch_norm_of_gamma(y, x, gamma, beta, *, eps, mean, var):
    if mean is not None:
        return diagonal((x - mean) / np.sqrt(var + var.dtype.type(eps)))
    center, scale = _center_and_scale(x, eps)
    return diagonal((x - center) * scale)


def _column_mean(x):
    return mean(x, axis=0, keepdims=True)


def _center_and_scale(x, eps):
    center = _column_mean(x)
    difference = x - center
    return center, 1.0 / sqrt(_column_mean(difference * difference) + eps)


_batch_norm = Operation(
    "batch_norm", _normalized, _batch_norm_of_x, _batch_norm_of_gamma, lambda y, *_, **__: _same,
    broadcasts=True,
)  # fmt: skip


def batch_norm(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5, mean: Any = None, var: Any = None) -> Any:
    """Batch norm of the columns of ``x`` (rows, channels): by the batch's statistics, or by those that are given.

    Parameters
    ----------
    x : node (rows, channels)
    gamma, beta : node (channels,)
    eps : float
    mean, var : ndarray (channels,), optional
        Running statistics, for evaluation.
    """
    if (mean is None) != (var is None):
        raise ValueError(f"batch_norm takes mean and var, or neither; {'mean' if mean is None else 'var'} is missing")
    return _batch_norm(x, gamma, beta, eps=eps, mean=mean, var=var)


_dropout = Operation(
    "dropout", lambda x, **draw: functional.dropout(np.ascontiguousarray(x), **draw),
    lambda y, x, **draw: diagonal(functional.dropout(np.ones(x.shape, x.dtype), **draw)),
)  # fmt: skip


def dropout(x: Any, p: float = 0.5, *, seed: int, draw: int = 0) -> Any:
    """Dropout with the mask of ``seed`` and ``draw``, as `fastopt.dropout` has it."""
    return _dropout(x, p=p, seed=seed, draw=draw)


# ---- operators ----------------------------------------------------------------------------------


def _reflected(operation: Operation) -> Callable[[Any, Any], Any]:
    return lambda b, a: operation(a, b)


def _install() -> None:
    for name, operation in (("add", add), ("sub", subtract), ("mul", multiply), ("truediv", divide), ("pow", power)):
        setattr(Node, f"__{name}__", lambda a, b, operation=operation: operation(a, b))
        setattr(Node, f"__r{name}__", _reflected(operation))
    Node.__matmul__ = lambda a, b: matmul(*as_nodes(_matmul, (a, b)))
    Node.__rmatmul__ = lambda b, a: matmul(*as_nodes(_matmul, (a, b)))
    Node.__neg__ = lambda x: negative(x)
    Node.__abs__ = lambda x: absolute(x)
    Node.__getitem__ = lambda x, index: _take(x, index=index)
    Node.T = property(transpose)


_install()
