"""Nodes: a value, the operation that computed it, and the nodes it was computed from."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from .._backends.environment import isolated
from .._checks import real_dtype
from .partials import Partial

_number = count()


class Operation:
    """How a kind of node is evaluated, and its partial derivative with respect to each input.

    Called with nodes, it makes a node; called with arrays only, it evaluates.

    Parameters
    ----------
    name : str
        What formulas and messages call it.
    evaluate : function
        Of the inputs' values (arrays; and options, by keyword), the node's value.
    *partials : function or None
        For each input, a function of the node, then of all its inputs (and options, by keyword), that returns
        `diagonal`, `symmetric` or `linear`. It is called with arrays, or with nodes where derivatives are to be
        differentiated again: so it is written with operators and the operations of `fastopt.graph`. None: the node
        does not depend on this input smoothly, and there is no derivative.
    formula : str, optional
        ``"{} + {}"``, say; by default ``name(…)``.
    binds : int
        How tightly the formula binds: 1 as a sum, 2 as a product, 3 as a power, 4 as a name. An input that binds less
        tightly is put in brackets.
    broadcasts : bool
        Whether inputs of other shapes are broadcast, as NumPy does, and sums over what was broadcast make their
        derivatives; the partial derivatives need not know.
    reuses : bool
        Whether ``evaluate`` takes the array to write to as ``out``.
    bind : function, optional
        Of the inputs' arrays and the one to write to as ``out`` (and options, by keyword), the instructions of
        `fastopt.graph.compile`, or None where there are none for such arrays. An operation without it is computed, and
        differentiated, by calls of Python.
    doc : str, optional
        The docstring.

    Examples
    --------
    >>> from fastopt import graph
    >>> cube = graph.Operation("cube", lambda x: x**3, lambda y, x: graph.diagonal(3 * x * x))
    >>> x = graph.variable(2.0, name="x")
    >>> graph.backward_mode(cube(x))[x]
    12.0
    >>> graph.check(cube(x))
    """

    def __init__(
        self,
        name: str,
        evaluate: Callable[..., Any],
        *partials: Callable[..., Partial] | None,
        formula: str | None = None,
        binds: int = 4,
        broadcasts: bool = False,
        reuses: bool = False,
        bind: Callable[..., Any] | None = None,
        doc: str | None = None,
    ):
        self.name, self.evaluate, self.partials = name, evaluate, partials
        self.formula, self.binds = formula, binds
        self.broadcasts, self.reuses, self.bind = broadcasts, reuses, bind
        if doc is not None:
            self.__doc__ = doc

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        for given in inputs:
            if isinstance(given, Node):
                return Node(self, as_nodes(self, inputs), options)
        return self.evaluate(*inputs, **options)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


def as_nodes(operation: Operation, inputs: Sequence[Any]) -> tuple["Node", ...]:
    """The inputs as nodes: numbers, and arrays but those of floats, become constants of the dtype of the nodes."""
    dtype = next((x.value.dtype for x in inputs if isinstance(x, Node) and x.value.dtype.kind == "f"), None)
    return tuple([x if isinstance(x, Node) else _operand(operation, i, x, dtype) for i, x in enumerate(inputs)])


def _operand(operation: Operation, i: int, x: Any, dtype: Any) -> "Node":
    if i < len(operation.partials) and operation.partials[i] is None:
        return constant(np.asarray(x))  # labels
    if isinstance(x, np.ndarray) and x.ndim and x.dtype.kind == "f":
        return constant(x)
    return constant(x, dtype=dtype or float)


def given(x: Any) -> Any:
    """A node as it is, and all else as an array."""
    return x if isinstance(x, Node) else np.asarray(x)


class Node:
    """A node of a graph: made by operators and operations on other nodes, by `variable` and by `constant`.

    Attributes
    ----------
    value : ndarray
        What was computed; of a number, an array without axes. `evaluate` computes it anew, in place.
    name : str or None
        What tables and drawings call it.
    inputs : tuple of Node
    operation : Operation or None
        None for variables and constants.
    """

    __slots__ = ("__weakref__", "_before", "_passes", "inputs", "name", "number", "operation", "options", "shapes",
                 "trainable", "value")  # fmt: skip
    latest_shapes = 0  # how often a variable or constant has been given another shape; `shapes`: when a node knew last
    __array_ufunc__ = None  # an array on the left of an operator leaves the work to the node

    shapes: int

    def __init__(self, operation: Operation, inputs: tuple["Node", ...], options: dict[str, Any]):
        if len(inputs) != len(operation.partials):
            raise TypeError(f"{operation.name} takes {len(operation.partials)} inputs, not {len(inputs)}")
        self.operation: Operation | None = operation
        self.inputs, self.options = inputs, options
        self.name: str | None = None
        self.trainable, self.shapes = False, min([x.shapes for x in inputs], default=Node.latest_shapes)
        self._before: list[Node] | None = None
        self._passes: Any = None
        _check_alike(operation, inputs)
        try:
            value = _evaluated(operation, [x.value for x in inputs], options)
        except (ValueError, IndexError) as error:
            raise failed(operation, inputs, error) from error
        self.value: np.ndarray = value if type(value) is np.ndarray else np.asarray(value)
        self.number = next(_number)

    # -- names --

    def named(self, name: str) -> "Node":
        """Give the node a name, under which tables show it; returns the node."""
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        self.name = name
        return self

    def __repr__(self) -> str:
        return f"<{describe(self)}>"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        raise TypeError("a node has no truth value: the graph is fixed when it is made; look at node.value")

    def __iter__(self) -> Iterator["Node"]:
        if not self.value.ndim:
            raise TypeError(f"{describe(self)} is a number: it cannot be iterated over")
        return (self[i] for i in range(len(self.value)))

    # -- operators --

    def __add__(self, other: Any) -> "Node":
        return elementwise.add(self, other)

    def __radd__(self, other: Any) -> "Node":
        return elementwise.add(other, self)

    def __sub__(self, other: Any) -> "Node":
        return elementwise.subtract(self, other)

    def __rsub__(self, other: Any) -> "Node":
        return elementwise.subtract(other, self)

    def __mul__(self, other: Any) -> "Node":
        return elementwise.multiply(self, other)

    def __rmul__(self, other: Any) -> "Node":
        return elementwise.multiply(other, self)

    def __truediv__(self, other: Any) -> "Node":
        return elementwise.divide(self, other)

    def __rtruediv__(self, other: Any) -> "Node":
        return elementwise.divide(other, self)

    def __pow__(self, other: Any) -> "Node":
        if type(other) in (int, float) and other == 2:
            return elementwise.square(self)
        return elementwise.power(self, other)

    def __rpow__(self, other: Any) -> "Node":
        return elementwise.power(other, self)

    def __matmul__(self, other: Any) -> "Node":
        return sums.matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Node":
        return sums.matmul(other, self)

    def __neg__(self) -> "Node":
        return elementwise.negative(self)

    def __abs__(self) -> "Node":
        return elementwise.absolute(self)

    def __getitem__(self, index: Any) -> "Node":
        return shapes.take(self, index=index)

    @property
    def T(self) -> "Node":
        """The node with its axes in reverse."""
        return shapes.transpose(self)


def failed(operation: Operation, inputs: Sequence[Node], error: Exception) -> Exception:
    """The error of an operation, which names the inputs."""
    return type(error)(f"{operation.name} of {' and '.join(map(describe, inputs))}: {error}")


@isolated
def _evaluated(operation: Operation, values: Sequence[np.ndarray], options: dict[str, Any]) -> Any:
    return operation.evaluate(*values, **options)


def _check_alike(operation: Operation, inputs: tuple[Node, ...]) -> None:
    """TypeError unless what there are derivatives with respect to are real numbers of one dtype."""
    first: Node | None = None
    for x, partial in zip(inputs, operation.partials, strict=True):
        dtype = x.value.dtype
        if partial is None:
            continue
        if dtype.kind != "f":
            raise TypeError(f"{operation.name} takes real numbers, and {describe(x)} is {dtype}")
        if first is None:
            first = x
        elif dtype != first.value.dtype:
            raise TypeError(
                f"{operation.name} of {describe(first)}, which is {first.value.dtype}, and {describe(x)}, {dtype}"
            )


def describe(node: Node) -> str:
    """How messages call a node: its name or formula, and its shape."""
    shape = f" of shape {node.value.shape}" if node.value.ndim else ""
    return f"{label(node)}{shape}"


def label(node: Node) -> str:
    """The node's name, or what it is made of, one level deep."""
    if node.name is not None:
        return node.name
    if node.operation is None:
        return f"{node.value.item():.6g}" if node.value.size == 1 else "an array"
    return formula_of(node, [x.name or ("…" if x.operation else label(x)) for x in node.inputs])


def formula_of(node: Node, shown: Sequence[str]) -> str:
    """The node's formula, with its inputs shown as they are given."""
    operation = node.operation
    assert operation is not None
    options = ", ".join(f"{k}={v}" for k, v in node.options.items() if isinstance(v, (int, float, tuple, str)))
    if operation.formula is None:
        return f"{operation.name}({', '.join([*shown, options] if options else shown)})"
    return operation.formula.format(*shown, **node.options)


def variable(value: Any, *, name: str | None = None, dtype: Any = None) -> Node:
    """A node with respect to which derivatives are taken, and which an optimizer may update.

    Parameters
    ----------
    value : number or array of float32 or float64
        An array of either dtype is not copied: what is written into it, by an optimizer say, is the node's value when
        the graph is evaluated again. Numbers, lists and integers become an array of ``dtype``.
    name : str, optional
    dtype : numpy.float32 or numpy.float64, optional
        By default float64 for what is no array of either.

    Raises
    ------
    TypeError
        If ``value`` does not hold real numbers.

    Examples
    --------
    >>> from fastopt import graph
    >>> W = graph.variable(3.0, name="W")
    >>> graph.backward_mode(W * W)[W]
    6.0
    """
    return _leaf(value, name, dtype, True)


def constant(value: Any, *, name: str | None = None, dtype: Any = None) -> Node:
    """A node that is only read: inputs, targets, numbers. Integer arrays, as labels are, stay integers.

    Parameters
    ----------
    value, name, dtype
        See `variable`; integer arrays with a ``dtype`` are converted.

    Examples
    --------
    >>> from fastopt import graph
    >>> X = graph.constant([1.0, 2.0], name="X")
    >>> (2 * X).value
    array([2., 4.])
    """
    return _leaf(value, name, dtype, False)


def _leaf(value: Any, name: str | None, dtype: Any, trainable: bool) -> Node:
    if isinstance(value, Node):
        raise TypeError(f"{describe(value)} is a node already")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a masked array has no place in a graph: fill it first (value.filled(...))")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        given = repr(value) if array.dtype == object else array.dtype
        raise TypeError(f"a node's value must be real numbers, not {given}")
    labels = isinstance(value, np.ndarray) and array.dtype.kind in "iu" and array.ndim > 0
    labels = labels and not trainable and dtype is None
    if not labels:
        is_real = array.dtype in (np.float32, np.float64)
        array = array.astype(real_dtype(dtype if dtype is not None else array.dtype if is_real else float), copy=False)
    node = object.__new__(Node)
    node.operation, node.inputs, node.options = None, (), {}
    node.name, node.trainable, node._before, node._passes = None, trainable, None, None
    node.value, node.shapes = array, Node.latest_shapes
    node.number = next(_number)
    return node if name is None else node.named(name)


def order_of(node: Node) -> list[Node]:
    """The node and all it depends on, inputs before what is made of them."""
    if node._before is None:
        seen = {node}
        pending = [node]
        while pending:
            for x in pending.pop().inputs:
                if x not in seen:
                    seen.add(x)
                    pending.append(x)
        seen.remove(node)  # a node that referred to itself would outlive its last use
        node._before = sorted(seen, key=lambda each: each.number)  # inputs were made first
    return [*node._before, node]


from . import elementwise, shapes, sums  # noqa: E402  operators are operations, which are made of what is above
