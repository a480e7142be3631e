"""Operations on every element: arithmetic and functions. Those for which the library has a kernel use it."""

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np

from .. import _backends
from .._specification.arithmetic import ARITHMETIC
from .._specification.kernels import OF_INPUT
from .binding import arithmetic, elementwise, in_python, of_dense
from .node import Operation, given
from .partials import Partial, diagonal, symmetric

# ---- arithmetic ---------------------------------------------------------------------------------


def _elementwise(
    name: str, function: Callable[..., Any], *partials: Any, bind: Any = in_python, **how: Any
) -> Operation:
    return Operation(name, function, *partials, broadcasts=len(partials) > 1, reuses=True, bind=bind, **how)


def _arithmetic(name: str, *partials: Any, called: str | None = None, **how: Any) -> Operation:
    """An operation of the library's own, which programs have as an instruction."""
    return _elementwise(called or name, ARITHMETIC[name], *partials, bind=elementwise(name), **how)


same = symmetric(lambda v: v, 1.0)
_negated = symmetric(lambda v: -v, -1.0)
add: Operation = _arithmetic("add", lambda y, a, b: same, lambda y, a, b: same, formula="{} + {}", binds=1)
subtract: Operation = _arithmetic(
    "subtract", lambda y, a, b: same, lambda y, a, b: _negated, formula="{} - {}", binds=1
)
multiply: Operation = _arithmetic(
    "multiply", lambda y, a, b: diagonal(b), lambda y, a, b: diagonal(a), formula="{} · {}", binds=2
)
divide: Operation = _arithmetic(
    "divide", lambda y, a, b: diagonal(1.0 / b), lambda y, a, b: diagonal(-y / b), formula="{} / {}", binds=2
)
negative: Operation = _arithmetic("negative", lambda y, x: _negated, formula="-{}", binds=2)
power: Operation = _elementwise(
    "power", np.power,
    lambda y, a, b: diagonal(b * a ** _one_less(b)), lambda y, a, b: diagonal(y * log(a)), formula="{}^{}", binds=3,
)  # fmt: skip
# b - 1, but of 0, where the power's derivative is 0 whatever its base
_one_less: Operation = _arithmetic("one_less", lambda y, b: diagonal(1.0))
square: Operation = _elementwise(  # a power of 2, without the general one's logarithm
    "square", np.square, lambda y, x: diagonal(2.0 * x), formula="{}^2", binds=3,
    bind=lambda x, out: arithmetic("multiply", x, x, out),
)  # fmt: skip
absolute: Operation = _arithmetic(
    "absolute", lambda y, x: diagonal(_sign(x)), called="abs", formula="|{}|",
    doc="""The absolute value of every element, ``abs(node)``; its derivative is the sign of x, 0 at 0.

    >>> from fastopt import graph
    >>> x = graph.variable([-2.0, 0.0, 3.0], name="x")
    >>> graph.backward_mode(graph.sum(graph.absolute(x)))[x]
    array([-1.,  0.,  1.])
    """,
)  # fmt: skip
_sign: Operation = _arithmetic("sign", lambda y, x: diagonal(0.0))
_above: Operation = _arithmetic("above", lambda y, a, b: diagonal(0.0), lambda y, a, b: diagonal(0.0))
maximum: Operation = _arithmetic(
    "maximum", lambda y, a, b: diagonal(_above(a, b)), lambda y, a, b: diagonal(_above(b, a)),
    doc="""The larger of two, element by element; where they are equal, each has half the derivative.

    >>> from fastopt import graph
    >>> x = graph.variable([-2.0, 1.0, 3.0], name="x")
    >>> y = graph.maximum(x, 1.0)
    >>> y.value, graph.backward_mode(graph.sum(y))[x]
    (array([1., 1., 3.]), array([0. , 0.5, 1. ]))
    """,
)  # fmt: skip
minimum: Operation = _arithmetic(
    "minimum", lambda y, a, b: diagonal(_above(b, a)), lambda y, a, b: diagonal(_above(a, b)),
    doc="""The smaller of two, element by element; where they are equal, each has half the derivative.

    >>> from fastopt import graph
    >>> x = graph.variable([-2.0, 1.0, 3.0], name="x")
    >>> y = graph.minimum(x, 1.0)
    >>> y.value, graph.backward_mode(graph.sum(y))[x]
    (array([-2.,  1.,  1.]), array([1. , 0.5, 0. ]))
    """,
)  # fmt: skip

# ---- functions of every element -----------------------------------------------------------------


def _kernel(name: str) -> Callable[..., np.ndarray]:
    def evaluate(*arrays: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        value = arrays[-1]
        dtype = value.dtype if isinstance(value, np.ndarray) and value.dtype.kind == "f" else np.dtype(float)
        inputs = [_dense(x, np.shape(value), dtype) for x in arrays]
        y = np.empty(np.shape(value), dtype) if out is None else out
        getattr(_backends.active, name)(*inputs, y)
        return y

    return evaluate


def _dense(x: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if type(x) is np.ndarray and x.shape == shape and x.dtype == dtype and (f := x.flags).c_contiguous and f.aligned:
        return x
    return np.array(np.broadcast_to(x, shape), dtype, order="C")


def _of_kernel(name: str, *partials: Any, **how: Any) -> Operation:
    """A function of the library's."""
    return _elementwise(name, _kernel(name), *partials, bind=of_dense(name), **how)


def _activation(name: str, slope: Callable[[Any], Any], curvature: Callable[[Any], Any], **how: Any) -> Operation:
    """A function whose kernel for the backward pass takes the gradient and what the function gave, or was given.

    ``slope`` is the derivative as a function of that, and ``curvature`` the derivative of ``slope``.
    """
    back = _of_kernel(
        f"{name}_backward", lambda dx, dy, v: diagonal(slope(v)), lambda dx, dy, v: diagonal(dy * curvature(v))
    )

    def partial(y: Any, x: Any) -> Any:
        value = x if name in OF_INPUT else y

        def scale(v: Any) -> Any:
            return back(v, value)

        return Partial(scale, scale, lambda: slope(value))

    return _of_kernel(name, partial, **how)


exp: Operation = _of_kernel(
    "exp", lambda y, x: diagonal(y),
    doc="""y = exp(x) of every element, of the same bits on every backend; dy/dx = y.

    >>> from fastopt import graph
    >>> graph.exp(graph.variable([0.0, 1.0])).value.round(4)
    array([1.    , 2.7183])
    """,
)  # fmt: skip
log: Operation = _elementwise(
    "log", np.log, lambda y, x: diagonal(1.0 / x),
    doc="""The natural logarithm y = ln x of every element, NumPy's; dy/dx = 1 / x. That of 0 is -inf, below it NaN.

    >>> from fastopt import graph
    >>> graph.log(graph.variable([1.0, 4.0])).value.round(4)
    array([0.    , 1.3863])
    """,
)  # fmt: skip
log1p: Operation = _elementwise(
    "log1p", np.log1p, lambda y, x: diagonal(1.0 / (1.0 + x)),
    doc="""y = ln(1 + x) of every element, NumPy's, without a loss for small x; dy/dx = 1 / (1 + x).

    >>> from fastopt import graph
    >>> graph.log1p(graph.variable(1e-20)).value
    array(1.e-20)
    """,
)  # fmt: skip
sqrt: Operation = _arithmetic(
    "sqrt", lambda y, x: diagonal(0.5 / y), formula="√{}",
    doc="""The square root y of every element; dy/dx = 1 / (2 y), which is inf at 0.

    >>> from fastopt import graph
    >>> x = graph.variable([1.0, 16.0], name="x")
    >>> y = graph.sqrt(x)
    >>> y.value, graph.backward_mode(graph.sum(y))[x]
    (array([1., 4.]), array([0.5  , 0.125]))
    """,
)  # fmt: skip
sigmoid: Operation = _activation(
    "sigmoid", lambda y: y * (1.0 - y), lambda y: 1.0 - 2.0 * y,
    formula="σ({})", doc="""y = 1 / (1 + exp(-x)), by the kernel of `fastopt.sigmoid`; dy/dx = y (1 - y).

    >>> from fastopt import graph
    >>> graph.sigmoid(graph.variable([-1.0, 0.0, 1.0])).value.round(4)
    array([0.2689, 0.5   , 0.7311])
    """,
)  # fmt: skip
tanh: Operation = _activation(
    "tanh", lambda y: 1.0 - y * y, lambda y: -2.0 * y,
    doc="""The hyperbolic tangent y of every element, by the kernel of `fastopt.tanh`; dy/dx = 1 - y².

    >>> from fastopt import graph
    >>> graph.tanh(graph.variable([-1.0, 0.0, 1.0])).value.round(4)
    array([-0.7616,  0.    ,  0.7616])
    """,
)  # fmt: skip
relu: Operation = _activation(
    "relu", lambda y: _sign(y), lambda y: 0.0,
    doc="""y = max(x, 0), by the kernel of `fastopt.relu`; dy/dx is 1 where x > 0, and 0 elsewhere, at 0 too.

    >>> from fastopt import graph
    >>> x = graph.variable([-1.0, 0.0, 2.0], name="x")
    >>> y = graph.relu(x)
    >>> y.value, graph.backward_mode(graph.sum(y))[x]
    (array([0., 0., 2.]), array([0., 0., 1.]))
    """,
)  # fmt: skip
softplus: Operation = _activation(
    "softplus", lambda x: sigmoid(x), lambda x: sigmoid(x) * sigmoid(-x),
    doc="""y = ln(1 + exp(x)), by the kernel of `fastopt.softplus`; dy/dx = σ(x).

    >>> from fastopt import graph
    >>> graph.softplus(graph.variable([-1.0, 0.0, 1.0])).value.round(4)
    array([0.3133, 0.6931, 1.3133])
    """,
)  # fmt: skip
log_sigmoid: Operation = _activation(
    "log_sigmoid", lambda x: sigmoid(-x), lambda x: -(sigmoid(x) * sigmoid(-x)),
    doc="""y = ln σ(x) = -ln(1 + exp(-x)), by the kernel of `fastopt.log_sigmoid`; dy/dx = σ(-x).

    >>> from fastopt import graph
    >>> graph.log_sigmoid(graph.variable([-1.0, 0.0, 1.0])).value.round(4)
    array([-1.3133, -0.6931, -0.3133])
    """,
)  # fmt: skip


def _silu_slope(x: Any) -> Any:
    s = sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


def _silu_curvature(x: Any) -> Any:
    s = sigmoid(x)
    return s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))


silu: Operation = _activation(
    "silu", _silu_slope, _silu_curvature,
    doc="""y = x σ(x), by the kernel of `fastopt.silu`, also called swish; dy/dx = σ(x) (1 + x (1 - σ(x))).

    Ramachandran, Zoph and Le, "Searching for activation functions" (2017).

    >>> from fastopt import graph
    >>> graph.silu(graph.variable([-1.0, 0.0, 1.0])).value.round(4)
    array([-0.2689,  0.    ,  0.7311])
    """,
)  # fmt: skip


def gelu(x: Any) -> Any:
    """The form of the Gaussian error linear unit with tanh: x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    It is that of `fastopt.gelu_tanh`; the exact one, of `fastopt.gelu`, comes by ``apply(fastopt.nn.GELU(), x)``.

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
