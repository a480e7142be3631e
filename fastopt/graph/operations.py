"""The operations: of each, how it is evaluated and its partial derivatives, and nothing else.

Evaluations work on arrays; partial derivatives are written with operators and operations, and so work on arrays and on
nodes. Elementwise functions for which the library has a kernel use it.
"""

import builtins
from collections.abc import Callable
from math import pi, prod
from typing import Any

import numpy as np

from .. import _backends, functional
from .node import Node, Operation, as_nodes, describe
from .partials import Partial, diagonal, linear, symmetric

# ---- shapes -------------------------------------------------------------------------------------


def _sum_to(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    if x.shape == shape:
        return x
    if x.ndim > len(shape):
        x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    kept = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return x.sum(axis=kept, keepdims=True) if kept else x


def _spread(x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(x, shape)


broadcast_to: Operation = Operation(
    "broadcast_to", _spread,
    lambda y, x, shape: linear(
        lambda t: broadcast_to(t, shape=shape), lambda g: sum_to(g, shape=x.shape), "broadcast"
    ),
    doc="""The array repeated along new axes, and along axes of length 1, to the ``shape`` given by keyword.""",
)  # fmt: skip
sum_to: Operation = Operation(
    "sum_to", _sum_to,
    lambda y, x, shape: linear(
        lambda t: sum_to(t, shape=shape), lambda g: broadcast_to(g, shape=x.shape), "sum"
    ),
)  # fmt: skip
_reshape: Operation = Operation(
    "reshape", lambda x, shape: x.reshape(shape),
    lambda y, x, shape: linear(
        lambda t: _reshape(t, shape=shape), lambda g: _reshape(g, shape=x.shape), "reshape"
    ),
)  # fmt: skip
_transpose: Operation = Operation(
    "transpose", lambda x, axes: np.transpose(x, axes),
    lambda y, x, axes: linear(
        lambda t: _transpose(t, axes=axes),
        lambda g: _transpose(g, axes=None if axes is None else tuple(np.argsort(axes).tolist())), "transpose",
    ),
    formula="{}ᵀ",
)  # fmt: skip


def _put(g: np.ndarray, *, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    x = np.zeros(shape, g.dtype)
    np.add.at(x, index, g)  # an index may take an element more than once
    return x


take: Operation = Operation(
    "take", lambda x, index: x[index],
    lambda y, x, index: linear(
        lambda t: take(t, index=index), lambda g: _put_back(g, index=index, shape=x.shape), "slice"
    ),
    formula="{}[…]",
)  # fmt: skip
_put_back: Operation = Operation(
    "put", _put,
    lambda y, g, index, shape: linear(
        lambda t: _put_back(t, index=index, shape=shape), lambda v: take(v, index=index), "zeros around"
    ),
)  # fmt: skip


def given(x: Any) -> Any:
    """A node as it is, and all else as an array."""
    return x if isinstance(x, Node) else np.asarray(x)


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
        begin = builtins.sum(x.shape[axis] for x in inputs[:i])
        here = (slice(None),) * (axis % y.ndim) + (slice(begin, begin + inputs[i].shape[axis]),)
        return linear(
            lambda t: _put_back(t, index=here, shape=y.shape), lambda g: take(g, index=here), "a part of the result"
        )

    return partial


# ---- arithmetic ---------------------------------------------------------------------------------


def _elementwise(name: str, function: Callable[..., Any], *partials: Any, **how: Any) -> Operation:
    return Operation(name, function, *partials, broadcasts=len(partials) > 1, reuses=True, **how)


_same = symmetric(lambda v: v, 1.0)
_negated = symmetric(lambda v: -v, -1.0)
add: Operation = _elementwise("add", np.add, lambda y, a, b: _same, lambda y, a, b: _same, formula="{} + {}", binds=1)
subtract: Operation = _elementwise(
    "subtract", np.subtract, lambda y, a, b: _same, lambda y, a, b: _negated, formula="{} - {}", binds=1
)
multiply: Operation = _elementwise(
    "multiply", np.multiply, lambda y, a, b: diagonal(b), lambda y, a, b: diagonal(a), formula="{} · {}", binds=2
)
divide: Operation = _elementwise(
    "divide", np.divide, lambda y, a, b: diagonal(1.0 / b), lambda y, a, b: diagonal(-y / b),
    formula="{} / {}", binds=2,
)  # fmt: skip
negative: Operation = _elementwise("negative", np.negative, lambda y, x: _negated, formula="-{}", binds=2)
power: Operation = _elementwise(
    "power", np.power,
    lambda y, a, b: diagonal(b * a ** _one_less(b)), lambda y, a, b: diagonal(y * log(a)), formula="{}^{}", binds=3,
)  # fmt: skip
_one_less: Operation = _elementwise(  # b - 1, but of 0, where the power's derivative is 0 whatever its base
    "one_less", lambda b, out=None: np.subtract(b, b != 0, out=out), lambda y, b: diagonal(1.0)
)  # fmt: skip
absolute: Operation = _elementwise(
    "abs", np.absolute, lambda y, x: diagonal(_sign(x)), formula="|{}|",
    doc="""The absolute value, whose derivative at 0 is 0; ``abs(node)`` is the same.""",
)  # fmt: skip
_sign: Operation = _elementwise("sign", np.sign, lambda y, x: diagonal(0.0))


def _half_where_equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.greater(a, b) + np.greater_equal(a, b).astype(a.dtype)) * a.dtype.type(0.5)


_above: Operation = Operation(
    "above", _half_where_equal, lambda y, a, b: diagonal(0.0), lambda y, a, b: diagonal(0.0), broadcasts=True
)
maximum: Operation = _elementwise(
    "maximum", np.maximum, lambda y, a, b: diagonal(_above(a, b)), lambda y, a, b: diagonal(_above(b, a)),
    doc="""The larger of two, element by element; where they are equal, each has half the derivative.""",
)  # fmt: skip
minimum: Operation = _elementwise(
    "minimum", np.minimum, lambda y, a, b: diagonal(_above(b, a)), lambda y, a, b: diagonal(_above(a, b)),
    doc="""The smaller of two, element by element; where they are equal, each has half the derivative.""",
)  # fmt: skip

# ---- functions of every element -----------------------------------------------------------------


def _kernel(name: str) -> Callable[..., np.ndarray]:
    def evaluate(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        x = np.asarray(x)
        if not (x.flags.c_contiguous and x.flags.aligned and x.dtype.kind == "f"):
            x = x.astype(x.dtype if x.dtype.kind == "f" else float, "C")
        y = np.empty(x.shape, x.dtype) if out is None else out
        getattr(_backends.active, name)(x, y)
        return y

    return evaluate


def _through(kernel: str, factor: Callable[[], Any], y: Any) -> Any:
    """Diagonal: by the kernel, which takes v and y to factor v, or, of nodes, by the factor itself."""
    if isinstance(y, Node):
        return diagonal(factor())

    def scale(v: Any) -> Any:
        alike = type(v) is np.ndarray and v.shape == y.shape and v.dtype == y.dtype
        if not (alike and v.flags.c_contiguous and v.flags.aligned and y.flags.c_contiguous):
            return factor() * v
        x = np.empty(y.shape, y.dtype)
        getattr(_backends.active, kernel)(v, y, x)
        return x

    return Partial(scale, scale, factor)


exp: Operation = _elementwise(
    "exp", _kernel("exp"), lambda y, x: diagonal(y), doc="""e to the power of every element."""
)
log: Operation = _elementwise(
    "log", np.log, lambda y, x: diagonal(1.0 / x), doc="""The natural logarithm of every element."""
)
log1p: Operation = _elementwise(
    "log1p", np.log1p, lambda y, x: diagonal(1.0 / (1.0 + x)), doc="""log(1 + x), which is exact for small x, too."""
)
sqrt: Operation = _elementwise(
    "sqrt", np.sqrt, lambda y, x: diagonal(0.5 / y), formula="√{}", doc="""The square root of every element."""
)
sigmoid: Operation = _elementwise(
    "sigmoid", _kernel("sigmoid"), lambda y, x: _through("sigmoid_backward", lambda: y * (1.0 - y), y),
    formula="σ({})", doc="""1 / (1 + exp(-x)), by the kernel of `fastopt.sigmoid`.""",
)  # fmt: skip
tanh: Operation = _elementwise(
    "tanh", _kernel("tanh"), lambda y, x: _through("tanh_backward", lambda: 1.0 - y * y, y),
    doc="""The hyperbolic tangent, by the kernel of `fastopt.tanh`.""",
)  # fmt: skip
relu: Operation = _elementwise(
    "relu", _kernel("relu"), lambda y, x: diagonal(_positive(x)),
    doc="""max(x, 0), by the kernel of `fastopt.relu`; the derivative at 0 is 0.""",
)  # fmt: skip
_positive: Operation = _elementwise(
    "positive", lambda x, out=None: np.heaviside(x, x.dtype.type(0), out=out), lambda y, x: diagonal(0.0)
)
softplus: Operation = _elementwise(
    "softplus", _kernel("softplus"), lambda y, x: diagonal(sigmoid(x)),
    doc="""log(1 + exp(x)), by the kernel of `fastopt.softplus`.""",
)  # fmt: skip
log_sigmoid: Operation = _elementwise(
    "log_sigmoid", _kernel("log_sigmoid"), lambda y, x: diagonal(sigmoid(-x)),
    doc="""log(σ(x)), by the kernel of `fastopt.log_sigmoid`.""",
)  # fmt: skip


def silu(x: Any) -> Any:
    """x σ(x) (Elfwing, Uchibe and Doya, 2018; also called swish)."""
    x = given(x)
    return x * sigmoid(x)


def gelu(x: Any) -> Any:
    """The form of the Gaussian error linear unit with tanh: x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    Examples
    --------
    >>> from fastopt import graph
    >>> graph.gelu(graph.variable([-1.0, 0.0, 1.0])).value.round(4)
    array([-0.1588,  0.    ,  0.8412])

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units (GELUs)" (2016).
    """
    x = given(x)
    return 0.5 * x * (1.0 + tanh((2.0 / pi) ** 0.5 * (x + 0.044715 * (x * x * x))))


# ---- sums and products --------------------------------------------------------------------------


def _ones(x: Any, axis: Any) -> tuple[int, ...]:
    """The shape with axes of length 1 where they are summed over."""
    return tuple(1 if axis is None or i in axis else n for i, n in enumerate(x.shape))


def _total(factor: Callable[[Any, Any], float], name: str) -> Callable[..., Any]:
    """The partial derivative of ``factor`` times a sum over axes."""

    def partial(y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
        scale = factor(y, x)
        return linear(
            lambda t: scale * _sum_over(t, axis=axis, keepdims=keepdims),
            lambda g: broadcast_to(_reshape(scale * g, shape=_ones(x, axis)), shape=x.shape),
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
    return _matmul(_reshape(u, shape=(-1, 1)), _reshape(v, shape=(1, -1)))


def _of_left(y: Any, a: Any, b: Any) -> Any:
    def backward(g: Any) -> Any:
        if b.ndim == 1:
            return g * b if a.ndim == 1 else _outer(g, b)
        return _matmul(b, g) if a.ndim == 1 else _matmul(g, _transpose(b, axes=None))

    return linear(lambda t: _matmul(t, b), backward, f"· {_shown(b)}")


def _of_right(y: Any, a: Any, b: Any) -> Any:
    def backward(g: Any) -> Any:
        if a.ndim == 1:
            return a * g if b.ndim == 1 else _outer(a, g)
        return _matmul(_transpose(a, axes=None), g)

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


# ---- what a network ends in ---------------------------------------------------------------------


def _softmax_of(z: np.ndarray) -> np.ndarray:
    return functional.softmax(z)


def _softmax_jacobian(y, z):
    return symmetric(lambda v: y * (v - sum(y * v, axis=-1, keepdims=True)), "diag(p) - p pᵀ")


softmax: Operation = Operation(
    "softmax", _softmax_of, _softmax_jacobian, doc="""exp(z) / sum(exp(z)) along the last axis."""
)


def _row(gradient: Callable[[], Any]) -> Any:
    """The partial derivative of a number: t to the sum of gradient times t, and g to g times the gradient."""
    return linear(lambda t: sum(gradient() * t), lambda g: g * gradient(), "the loss's gradient")


def _loss(
    name: str, slope: Callable[..., Any], of_target: Callable[..., Any] | None, doc: str | None = None
) -> Operation:
    """A loss of the library's, averaged, and its gradient with respect to logits or predictions, and to targets."""
    function = getattr(functional, name)

    def evaluate(z: np.ndarray, y: np.ndarray) -> Any:
        return z.dtype.type(function(z, y)[0])

    def of_z(loss: Any, z: Any, y: Any) -> Any:
        return _row(lambda: slope(z, y))

    def of_y(loss: Any, z: Any, y: Any) -> Any:
        assert of_target is not None
        return _row(lambda: of_target(z, y))

    return Operation(name, evaluate, of_z, None if of_target is None else of_y, doc=doc)


logistic_loss: Operation = _loss(
    "logistic_loss", lambda z, y: (sigmoid(z) - y) / float(z.size), lambda z, y: z / -float(z.size),
    """The logistic loss of logits z and targets y from 0 to 1, averaged over all: `fastopt.logistic_loss`.""",
)  # fmt: skip
mse_loss: Operation = _loss(
    "mse_loss", lambda z, y: (2.0 / z.size) * (z - y), lambda z, y: (2.0 / z.size) * (y - z),
    """The mean squared error of predictions z and targets y: `fastopt.mse_loss`.""",
)  # fmt: skip


def _cross_entropy_slope(z: Any, labels: Any) -> Any:
    at = labels.value if isinstance(labels, Node) else labels
    counted = np.flatnonzero(at != -100)  # what `fastopt.softmax_cross_entropy` ignores
    chosen, weight = np.zeros(z.shape, z.dtype), np.zeros((len(at), 1), z.dtype)
    chosen[counted, at[counted]] = 1
    weight[counted] = 1 / len(counted)
    return (softmax(z) - chosen) * weight


_cross_entropy: Operation = _loss("softmax_cross_entropy", _cross_entropy_slope, None)


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
    return functional.batch_norm(x, gamma, beta, mean, var, training=mean is None, eps=eps)[0]


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


_batch_norm: Operation = Operation(
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


_dropout: Operation = Operation(
    "dropout", lambda x, **draw: functional.dropout(x, **draw),
    lambda y, x, **draw: diagonal(functional.dropout(np.ones(x.shape, x.dtype), **draw)),
)  # fmt: skip


def dropout(x: Any, p: float = 0.5, *, seed: int, draw: int = 0) -> Any:
    """Dropout with the mask of ``seed`` and ``draw``, as `fastopt.dropout` has it."""
    return _dropout(x, p=p, seed=seed, draw=draw)
