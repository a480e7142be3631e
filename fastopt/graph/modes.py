"""Forward and backward: derivatives by one walk through the graph, in either direction.

Forward, every node's derivative with respect to a variable is the sum, over its inputs, of partial derivative times the
input's derivative. Backward, the result's derivative with respect to every node is handed on to its inputs through the
same partial derivatives, transposed.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from .._backends.environment import isolated
from .node import Node, Operation, constant, describe, failed, order_of
from .partials import Partial
from .passes import Passes
from .shapes import broadcast_to, sum_to


def evaluate(node: Node, inputs: Mapping[Node, Any] | None = None) -> np.ndarray:
    """Compute the values of a node and of all it depends on anew, in place.

    Parameters
    ----------
    node : Node
    inputs : dict, optional
        New values of variables and constants, by node. These arrays, which are not copied, replace the values those
        have; other shapes are allowed if the operations allow them.

    Returns
    -------
    ndarray
        The node's value. As long as shapes stay, operations on elements write into the arrays they wrote into before.

    Raises
    ------
    TypeError, ValueError
        If a node of ``inputs`` is no variable or constant, or is not given real numbers; if shapes do not fit. All
        values are then as before.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable(2.0, name="x")
    >>> y = x * x
    >>> graph.evaluate(y, {x: 5.0})
    array(25.)
    """
    if not isinstance(node, Node):
        raise TypeError(f"evaluate takes a node, not {type(node).__name__}")
    given = {} if inputs is None else {x: new_value(x, value) for x, value in inputs.items()}
    passes = node._passes
    if passes is None:
        passes = node._passes = Passes()
    if (bound := passes.bound_for(given)) is not None:
        bound.evaluate(given)
    else:
        _evaluate(node, given)
        passes.count(order_of(node), given)
    return node.value


@isolated
def _evaluate(node: Node, given: Mapping[Node, np.ndarray]) -> None:
    """`evaluate`, node by node."""
    order = order_of(node)
    changed = [x for x, value in given.items() if value.shape != x.value.shape]
    fresh = bool(changed) or node.shapes != Node.latest_shapes
    before = [(x, x.value) for x in (*given, *order)]
    for x, value in given.items():
        x.value = value
    try:
        _compute(order, fresh)
    except BaseException:
        _put_back(before)
        if not fresh:
            with suppress(Exception):
                _compute(order, fresh)  # what has been written over
            _put_back(before)
        raise
    if changed:
        Node.latest_shapes += 1  # the buffers of other nodes, which depend on the same, may no longer fit
    if fresh:
        for each in order:
            each.shapes = Node.latest_shapes


def _put_back(values: Sequence[tuple[Node, np.ndarray]]) -> None:
    for x, value in values:
        x.value = value


def _compute(order: Sequence[Node], fresh: bool) -> None:
    """The values of nodes, inputs first: into new arrays, or, where the operations can, into those there are."""
    for node in order:
        operation = node.operation
        if operation is None:
            continue
        values = [x.value for x in node.inputs]
        if operation.reuses and not fresh:
            operation.evaluate(*values, out=node.value, **node.options)
            continue
        try:
            node.value = np.asarray(operation.evaluate(*values, **node.options))
        except (ValueError, IndexError) as error:
            raise failed(operation, node.inputs, error) from error


def new_value(x: Node, value: Any) -> np.ndarray:
    """What a variable or constant is given, as an array of its dtype."""
    if not isinstance(x, Node) or x.operation is not None:
        raise TypeError(f"only variables and constants can be given values, not {x!r}")
    if type(value) is np.ndarray and value.dtype is x.value.dtype:
        return value
    return _converted(value, x.value.dtype)


@isolated
def _converted(value: Any, dtype: np.dtype) -> np.ndarray:
    return constant(np.asarray(value) if dtype.kind != "f" else value, dtype=dtype if dtype.kind == "f" else None).value


def depends(order: Sequence[Node], on: Any) -> set[Node]:
    """Which nodes depend on one of ``on``."""
    found = set(on)
    for node in order:
        if node.inputs and node not in found and not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def partials(
    node: Node, of: Container[Node], symbolic: bool = False, trusted: bool = True
) -> Iterator[tuple[Node, Partial]]:
    """The node's partial derivative with respect to each of its inputs that are ``of`` interest, input by input.

    ``symbolic``, they are of nodes; unless ``trusted``, those of the user's operations are only asked with arrays.
    """
    operation = node.operation
    assert operation is not None
    values = node.inputs if symbolic else [x.value for x in node.inputs]
    y = node if symbolic else node.value
    for x, partial in zip(node.inputs, operation.partials, strict=True):
        if partial is None or x not in of:
            continue
        if symbolic and not trusted and operation.bind is None:
            yield x, _by_arrays(node, x, partial)
        else:
            yield x, partial(y, *values, **node.options)


def _by_arrays(node: Node, x: Node, partial: Callable[..., Partial]) -> Partial:
    """A partial derivative, backward, as a node that is computed from arrays whatever it is made of."""

    def evaluate(g: np.ndarray, y: np.ndarray, *values: np.ndarray) -> np.ndarray:
        return np.asarray(partial(y, *values, **node.options).backward(g), x.value.dtype)

    assert node.operation is not None
    inputs = node, *node.inputs
    name = f"the derivative of {node.operation.name} with respect to {describe(x)}"
    operation = Operation(name, evaluate, *[None] * (len(inputs) + 1))
    return Partial(lambda t: t, lambda g: operation(g, *inputs), name)


def push_forward(order: Sequence[Node], tangents: dict[Node, Any], symbolic: bool = False) -> dict[Node, Any]:
    """The derivative of every node, from those of some (J t): forward mode."""
    t = dict(tangents)
    for node in order:
        if node in t or not node.inputs or t.keys().isdisjoint(node.inputs):
            continue
        broadcasts, total = node.operation is not None and node.operation.broadcasts, None
        for x, partial in partials(node, t, symbolic):
            term = partial.forward(t[x])
            if broadcasts and np.shape(term) != node.value.shape:
                term = broadcast_to(term, shape=node.value.shape)
            total = term if total is None else total + term
        if total is not None:
            t[node] = total
    return t


def pull_back(
    order: Sequence[Node], seed: Any, wanted: set[Node], symbolic: bool = False, trusted: bool = True
) -> dict[Node, Any]:
    """The derivative of the last node with respect to every node that is wanted (Jᵀ g): backward mode."""
    gradients: dict[Node, Any] = {order[-1]: seed}
    for node in reversed(order):
        if not node.inputs or node not in gradients or node not in wanted:
            continue
        broadcasts, g = node.operation is not None and node.operation.broadcasts, gradients[node]
        for x, partial in partials(node, wanted, symbolic, trusted):
            term = partial.backward(g)
            if broadcasts and x.value.shape != node.value.shape:
                term = sum_to(term, shape=x.value.shape)
            before = gradients.get(x)
            gradients[x] = term if before is None else before + term
    return gradients


def scalar(node: Node, what: str) -> Node:
    """The node, if it is one number."""
    if not isinstance(node, Node):
        raise TypeError(f"{what} takes a node, not {type(node).__name__}")
    if node.value.size != 1:
        raise ValueError(f"{what} takes one number, and {describe(node)} is {node.value.size}: sum it, or average it")
    return node


def variables(node: Node) -> list[Node]:
    """The variables that a node depends on, in the order in which they were made."""
    if not isinstance(node, Node):
        raise TypeError(f"variables are those of a node, not of {type(node).__name__}")
    return [x for x in order_of(node) if x.trainable]


def parameters(node: Node) -> dict[str, np.ndarray]:
    """The arrays of the variables that a node depends on, by name: what an optimizer takes, and updates in place.

    Parameters
    ----------
    node : Node

    Returns
    -------
    dict of ndarray

    Raises
    ------
    ValueError
        If a variable has no name, or two have the same.

    Examples
    --------
    >>> import fastopt as fo
    >>> from fastopt import graph
    >>> w = graph.variable([1.0, -2.0], name="w")
    >>> loss = graph.sum(w * w)
    >>> opt = fo.optim.SGD(graph.parameters(loss), lr=0.25)
    >>> opt.step(graph.gradients(loss))
    >>> graph.evaluate(loss)
    array(1.25)
    """
    return {name: x.value for name, x in named_nodes(variables(node)).items()}


def named_nodes(nodes: Iterable[Node]) -> dict[str, Node]:
    """The nodes by name, if each has one of its own."""
    named: dict[str, Node] = {}
    for x in nodes:
        if not isinstance(x, Node):
            raise TypeError(f"derivatives are taken with respect to nodes, not {type(x).__name__}")
        if x.name is None:
            raise ValueError(f"{describe(x)} has no name: give it one with named(...)")
        if named.setdefault(x.name, x) is not x:
            raise ValueError(f"two nodes have the name {x.name!r}")
    return named


def gradients(loss: Node, wrt: Sequence[Node] | None = None) -> dict[str, np.ndarray]:
    """The derivatives of a number with respect to the variables it depends on, by name, by one backward pass.

    Parameters
    ----------
    loss : Node
        One number, whose value is up to date (`evaluate` brings it there).
    wrt : list of Node, optional
        Other nodes than the variables.

    Returns
    -------
    dict of ndarray
        What `fastopt.optim.Optimizer.step` takes.

    Raises
    ------
    TypeError, ValueError
        If ``loss`` is no node of one number; if a node has no name, or two have the same.

    Examples
    --------
    >>> from fastopt import graph
    >>> a, b = graph.variable(2.0, name="a"), graph.variable(3.0, name="b")
    >>> graph.gradients(a * b)
    {'a': array(3.), 'b': array(2.)}
    """
    scalar(loss, "gradients")
    passes = loss._passes
    if wrt is None and passes is not None and (bound := passes.standing()) is not None:
        if bound.backward is None or not bound.backward.fits():
            _bind_gradients(loss, bound)
        return bound.gradients()
    return _gradients(loss, named_nodes(variables(loss) if wrt is None else wrt))


@isolated
def _bind_gradients(loss: Node, bound: Any) -> None:
    """Bind the backward pass to the values that the forward pass is bound to."""
    order, named = order_of(loss), named_nodes(variables(loss))
    seed = constant(np.ones(loss.value.shape, loss.value.dtype))
    found = pull_back(order, seed, depends(order, named.values()), symbolic=True, trusted=False)
    bound.bind_backward(order, named, found, seed)


@isolated
def _gradients(loss: Node, named: Mapping[str, Node]) -> dict[str, np.ndarray]:
    """`gradients`, node by node."""
    order = order_of(loss)
    wanted = depends(order, named.values())
    found = pull_back(order, np.ones(loss.value.shape, loss.value.dtype), wanted)
    result = {name: as_derivative(found.get(x), x) for name, x in named.items()}
    if len({id(g) for g in result.values()}) < len(result):  # of a + b, both derivatives are the same array
        result = {name: g.copy() for name, g in result.items()}
    return result


def as_derivative(g: Any, x: Node) -> np.ndarray:
    """A derivative as an array of its node's shape and dtype, zeros where there is none."""
    if g is None:
        return np.zeros(x.value.shape, x.value.dtype)
    g = np.asarray(g, x.value.dtype)
    if g.shape == x.value.shape and g.flags.c_contiguous and g.flags.owndata:
        return g  # and no view of another node's derivative
    return np.array(np.broadcast_to(g, x.value.shape), order="C")


@isolated
def hessian_vector(loss: Node, vectors: Mapping[Node, Any]) -> dict[Node, np.ndarray]:
    """The Hessian of a number times a vector, by forward mode over backward mode.

    Parameters
    ----------
    loss : Node
        One number.
    vectors : dict
        For some variables, by node, an array of the variable's shape: the vector v.

    Returns
    -------
    dict
        For each of these variables, its part of H v, all of them together being the variables of H.

    Raises
    ------
    TypeError, ValueError
        If ``loss`` is no node of one number, or a vector has another shape than its variable.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable([1.0, 2.0], name="x")
    >>> graph.hessian_vector(graph.sum(x * x * x), {x: [1.0, 0.0]})[x]  # the Hessian is diag(6 x)
    array([6., 0.])

    References
    ----------
    Pearlmutter, "Fast exact multiplication by the Hessian" (1994).
    """
    scalar(loss, "hessian_vector")
    tangents: dict[Node, Any] = {}
    for x, v in vectors.items():
        if not isinstance(x, Node) or x.value.dtype.kind != "f":
            raise TypeError(f"hessian_vector takes vectors by variables, not by {x!r}")
        vector = np.asarray(v, x.value.dtype)
        if vector.shape != x.value.shape:
            raise ValueError(f"the vector for {describe(x)} has shape {vector.shape}")
        tangents[x] = vector
    order = order_of(loss)
    wanted = depends(order, vectors)
    seed = constant(np.ones(loss.value.shape, loss.value.dtype))
    found = pull_back(order, seed, wanted, symbolic=True)
    result: dict[Node, np.ndarray] = {}
    for x in vectors:
        g = found.get(x)
        moved = push_forward(order_of(g), tangents).get(g) if isinstance(g, Node) else None
        result[x] = as_derivative(moved, x)
    return result
