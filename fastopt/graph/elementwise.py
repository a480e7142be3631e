"""Operations on every element: arithmetic and functions. Those for which the library has a kernel use it."""

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np

from .. import _backends
from .node import Node, Operation, given
from .partials import Partial, diagonal, symmetric

# ---- arithmetic ---------------------------------------------------------------------------------


def _elementwise(name: str, function: Callable[..., Any], *partials: Any, **how: Any) -> Operation:
    return Operation(name, function, *partials, broadcasts=len(partials) > 1, reuses=True, **how)


same = symmetric(lambda v: v, 1.0)
_negated = symmetric(lambda v: -v, -1.0)
add: Operation = _elementwise("add", np.add, lambda y, a, b: same, lambda y, a, b: same, formula="{} + {}", binds=1)
subtract: Operation = _elementwise(
    "subtract", np.subtract, lambda y, a, b: same, lambda y, a, b: _negated, formula="{} - {}", binds=1
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
