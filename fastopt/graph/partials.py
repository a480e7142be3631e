"""The partial derivative of a node with respect to one input: one object that can be applied forward and backward.

Forward it takes the input's derivative t to J t, backward the node's derivative g to Jᵀ g, J being the Jacobian. What
it is made of may be arrays or nodes: of nodes, the derivatives are nodes themselves and can be differentiated again.
"""

from collections.abc import Callable
from typing import Any


class Partial:
    """A partial derivative: its two directions, and what a table shows of it."""

    __slots__ = ("_shown", "backward", "forward")

    def __init__(self, forward: Callable[[Any], Any], backward: Callable[[Any], Any], shown: Any):
        self.forward, self.backward, self._shown = forward, backward, shown

    @property
    def shown(self) -> Any:
        """A number, an array, or the name of a map; it may be computed only when it is looked at."""
        return self._shown() if callable(self._shown) else self._shown


def diagonal(factor: Any) -> Partial:
    """Of an elementwise function: element i of the node depends on element i of the input alone.

    Parameters
    ----------
    factor : number, array or node
        The derivative of every element; what can be broadcast to the node's shape.

    Examples
    --------
    >>> from fastopt import graph
    >>> graph.diagonal(2.0).forward(3.0), graph.diagonal(2.0).backward(5.0)
    (6.0, 10.0)
    """

    def scale(v: Any) -> Any:
        return factor * v

    return Partial(scale, scale, factor)


def symmetric(apply: Callable[[Any], Any], shown: Any = "symmetric") -> Partial:
    """Of a function whose Jacobian is symmetric, so that both directions are the same map.

    Parameters
    ----------
    apply : function
        v to J v.
    shown : str
        What a table shows in place of a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import graph
    >>> mean_over = graph.symmetric(lambda v: v.mean(), "mean")
    >>> mean_over.backward(np.array([1.0, 3.0]))
    np.float64(2.0)
    """
    return Partial(apply, apply, shown)


def linear(forward: Callable[[Any], Any], backward: Callable[[Any], Any], shown: str = "linear map") -> Partial:
    """Of a map that is linear in the input: the map itself, and its transpose.

    Parameters
    ----------
    forward, backward : function
        t to J t, and g to Jᵀ g.
    shown : str
        What a table shows in place of a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import graph
    >>> A = np.array([[1.0, 2.0, 3.0]])
    >>> times_A = graph.linear(lambda t: A @ t, lambda g: A.T @ g, "A @")
    >>> times_A.backward(np.ones(1))
    array([1., 2., 3.])
    """
    return Partial(forward, backward, shown)
