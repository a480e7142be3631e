"""A check of a node's partial derivatives: against each other, and against differences."""

import numpy as np

from .._backends.environment import isolated
from .modes import pull_back, push_forward
from .node import Node, Operation, constant, describe


@isolated
def check(node: Node, *, rtol: float = 1e-5, atol: float = 1e-7, eps: float = 1e-6) -> None:
    r"""Check the partial derivatives of one node: both directions of each, and differences of its evaluation.

    For random t and g of each input's and of the node's shape, in double:

    .. math:: \langle g, J t \rangle = \langle J^\top g, t \rangle, \qquad
        J t \approx \frac{f(x + h t) - f(x - h t)}{2 h}

    Parameters
    ----------
    node : Node
        Made by any operation, one's own or the library's.
    rtol, atol : float
        What is tolerated.
    eps : float
        h.

    Raises
    ------
    AssertionError
        If a partial derivative is wrong: it names the operation and the input, and gives both numbers.
    TypeError
        If it is no node, or one that was not computed.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable(2.0, name="x")
    >>> wrong = graph.Operation("square", lambda x: x * x, lambda y, x: graph.diagonal(x))
    >>> graph.check(wrong(x))
    Traceback (most recent call last):
    AssertionError: square, partial derivative with respect to x: J t is -0.0332191, and differences give -0.0664383
    """
    if not isinstance(node, Node) or node.operation is None:
        raise TypeError(f"check takes a node that an operation made, not {node!r}")
    rng = np.random.default_rng(0)
    values = [x.value.astype(np.float64) if x.value.dtype.kind == "f" else x.value for x in node.inputs]
    operation = node.operation
    for i, (x, partial) in enumerate(zip(node.inputs, operation.partials, strict=True)):
        if partial is None:
            continue
        where = f"{operation.name}, partial derivative with respect to {describe(x)}"
        g, t = rng.standard_normal(node.value.shape), rng.standard_normal(x.value.shape)
        alone = _alone(operation, values, i, node)
        forward = np.broadcast_to(push_forward([alone.inputs[i], alone], {alone.inputs[i]: t})[alone], g.shape)
        backward = np.asarray(pull_back([alone.inputs[i], alone], g, {alone, alone.inputs[i]})[alone.inputs[i]])
        if backward.shape != t.shape:
            raise AssertionError(f"{where}: Jᵀ g has shape {backward.shape}, the input has {t.shape}")
        ahead, back = float((g * forward).sum()), float((backward * t).sum())
        if not abs(ahead - back) <= atol + rtol * max(abs(ahead), abs(back)):
            raise AssertionError(f"{where}: <g, J t> is {ahead:.6g}, and <Jᵀ g, t> is {back:.6g}")
        h = eps * max(1.0, float(abs(values[i]).max(initial=0.0)))
        ends = [
            operation.evaluate(*values[:i], values[i] + sign * h * t, *values[i + 1 :], **node.options)
            for sign in (1, -1)
        ]
        difference = float((g * ((np.asarray(ends[0]) - ends[1]) / (2 * h))).sum())
        if not abs(ahead - difference) <= atol + max(rtol, 1e-5) * max(abs(ahead), abs(difference)):
            raise AssertionError(f"{where}: J t is {ahead:.6g}, and differences give {difference:.6g}")


def _alone(operation: Operation, values: list[np.ndarray], i: int, node: Node) -> Node:
    """The node once more, in double, its inputs being constants."""
    return Node(operation, tuple(constant(value) for value in values), node.options)
