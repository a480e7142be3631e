"""Layers of `fastopt.nn` as nodes, made of the operations: both modes and second derivatives go through them."""

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from .. import nn
from ..nn.layer import arrays_of
from .elementwise import relu, sigmoid, tanh
from .network import batch_norm, dropout
from .node import Node, Operation, constant, variable
from .partials import linear
from .shapes import transpose

_ACTIVATIONS = ((nn.Sigmoid, sigmoid), (nn.Tanh, tanh), (nn.ReLU, relu))
_variables: WeakValueDictionary[int, Node] = WeakValueDictionary()  # of parameters, by the ids of their arrays


def apply(layer: Any, x: Any, *, training: bool = True, name: str = "") -> Any:
    """A layer or a whole model, as nodes; its parameters become variables, the same ones however often it is applied.

    Parameters
    ----------
    layer : Layer, or any object with ``forward(x)`` and ``backward(dy)``
        The latter can be gone through backward only, and not be differentiated twice.
    x : node or array (rows, ...)
    training : bool
        Whether batch norm takes the batch's statistics, and dropout drops. Running statistics are not moved; dropout
        has the mask that the layer would draw next, and does not count it as drawn.
    name : str
        What the names of the variables begin with, as "0.weight", when a layer is first applied.

    Raises
    ------
    TypeError, ValueError
        If it is no layer, or the shape or dtype of ``x`` is not one that it takes.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> from fastopt import graph
    >>> encoder = fo.nn.Sequential(fo.nn.Linear(3, 2, dtype=np.float64), fo.nn.Tanh(), rng=0)
    >>> a, b = graph.constant(np.ones((1, 3))), graph.constant(np.zeros((1, 3)))
    >>> difference = graph.apply(encoder, a) - graph.apply(encoder, b)  # two inputs, one set of weights
    >>> sorted(graph.gradients(graph.sum(difference * difference)))
    ['0.bias', '0.weight']
    """
    x = x if isinstance(x, Node) else constant(x)
    for kind, activation in _ACTIVATIONS:
        if _is(layer, kind):
            return activation(x)
    if _is(layer, nn.Sequential):
        for key, child in layer.named_children():
            x = apply(child, x, training=training, name=f"{name}{key}.")
        return x
    if _is(layer, nn.Residual):
        past = x if layer.shortcut is None else apply(layer.shortcut, x, training=training, name=f"{name}shortcut.")
        return past + apply(layer.body, x, training=training, name=f"{name}body.")
    if _is(layer, nn.Highway):
        gate = sigmoid(apply(layer.gate, x, training=training, name=f"{name}gate."))
        return gate * apply(layer.transform, x, training=training, name=f"{name}transform.") + (1.0 - gate) * x
    if _is(layer, nn.Dropout):
        if not training or layer.p == 0:
            return x
        return dropout(x, layer.p, seed=int(layer.buffers["seed"]), draw=layer.buffers["draw"].reshape(1))
    params = {key: _variable(array, f"{name}{key}") for key, array in arrays_of(layer, "params").items()}
    if _is(layer, nn.Linear):
        y = x @ transpose(params["weight"])
        return y + params["bias"] if "bias" in params else y
    if _is(layer, nn.BatchNorm):
        ones = np.ones(layer.num_features, x.dtype)
        running = {} if training else {"mean": layer.running_mean, "var": layer.running_var}
        return batch_norm(
            x, params.get("weight", constant(ones)), params.get("bias", constant(0 * ones)), eps=layer.eps, **running
        )
    if not callable(getattr(layer, "forward", None)) or not callable(getattr(layer, "backward", None)):
        raise TypeError(f"a layer has the methods forward and backward, and {layer!r} does not")
    return _custom(layer, x, params)


def _is(layer: Any, kind: type) -> bool:
    """Whether it is such a layer and computes as it does: a class made of it may have methods of its own."""
    methods = ("forward", "backward", "bind")
    return isinstance(layer, kind) and all(getattr(type(layer), m) is getattr(kind, m) for m in methods)


def _variable(array: np.ndarray, name: str) -> Node:
    """The variable of a parameter: the one there is, as long as a graph has it."""
    known = _variables.get(id(array))
    if known is None or known.value is not array:
        known = _variables[id(array)] = variable(array, name=name)
    return known


def _custom(layer: Any, x: Node, params: dict[str, Node]) -> Node:
    """A layer of which only ``forward`` and ``backward`` are known: the gradients of all inputs come from one call."""
    kind, keys = type(layer).__name__, [None, *params]
    last: tuple[Any, list[np.ndarray]] | None = None

    def gradients(value: np.ndarray, g: Any) -> list[np.ndarray]:
        nonlocal last
        if isinstance(g, Node):
            raise TypeError(f"{kind} has only a backward method, and cannot be differentiated twice")
        if last is None or last[0] is not g:
            layer.forward(value)  # of another batch, it may have kept what belongs to that
            dx = layer.backward(np.array(g))
            last = g, [dx, *(arrays_of(layer, "grads")[key].copy() for key in params)]
        return last[1]

    def forward(t: Any) -> Any:
        raise TypeError(f"{kind} has only a backward method: there is no forward mode through it")

    def partial(i: int) -> Callable[..., Any]:
        return lambda y, value, *_: linear(forward, lambda g: gradients(value, g)[i], f"{kind}'s backward")

    def evaluate(value: np.ndarray, *_: np.ndarray) -> np.ndarray:
        nonlocal last
        last = None
        return np.array(layer.forward(value))

    return Operation(kind, evaluate, *map(partial, range(len(keys))))(x, *params.values())
