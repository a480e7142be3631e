"""Layers of `fastopt.nn` as nodes: made of the operations, so that both modes and second derivatives go through them."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .. import nn
from . import operations as op
from .node import Node, Operation, constant, variable
from .partials import linear

_ACTIVATIONS: dict[type, Callable[[Any], Any]] = {nn.Sigmoid: op.sigmoid, nn.Tanh: op.tanh, nn.ReLU: op.relu}
_parameters: WeakKeyDictionary[Any, dict[str, Node]] = WeakKeyDictionary()


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
        What the names of the variables begin with, as "0.weight".

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
    kind = type(layer)
    if kind in _ACTIVATIONS:
        return _ACTIVATIONS[kind](x)
    if isinstance(layer, nn.Sequential):
        for key, child in layer.named_children():
            x = apply(child, x, training=training, name=f"{name}{key}.")
        return x
    if isinstance(layer, nn.Residual):
        past = x if layer.shortcut is None else apply(layer.shortcut, x, training=training, name=f"{name}shortcut.")
        return past + apply(layer.body, x, training=training, name=f"{name}body.")
    if isinstance(layer, nn.Highway):
        gate = op.sigmoid(apply(layer.gate, x, training=training, name=f"{name}gate."))
        return gate * apply(layer.transform, x, training=training, name=f"{name}transform.") + (1.0 - gate) * x
    if isinstance(layer, nn.Dropout):
        if not training or layer.p == 0:
            return x
        return op.dropout(x, layer.p, seed=int(layer.buffers["seed"]), draw=int(layer.buffers["draw"]))
    params = _variables(layer, name)
    if isinstance(layer, nn.Linear):
        y = x @ op.transpose(params["weight"])
        return y + params["bias"] if "bias" in params else y
    if isinstance(layer, nn.BatchNorm):
        ones = np.ones(x.shape[1], x.dtype)
        running = {} if training else {"mean": layer.running_mean, "var": layer.running_var}
        return op.batch_norm(
            x, params.get("weight", constant(ones)), params.get("bias", constant(0 * ones)), eps=layer.eps, **running
        )
    return _custom(layer, x, params)


def _variables(layer: Any, name: str) -> dict[str, Node]:
    """The layer's parameters as variables, made when it is first applied."""
    params = getattr(layer, "params", None) or {}
    known = _parameters.setdefault(layer, {})
    for key, array in params.items():
        if key not in known or known[key].value is not array:
            known[key] = variable(array, name=f"{name}{key}")
    return {key: known[key] for key in params}


def _custom(layer: Any, x: Node, params: dict[str, Node]) -> Node:
    """A layer of which only ``forward`` and ``backward`` are known."""
    kind = type(layer).__name__

    def partial(key: str | None) -> Callable[..., Any]:
        def backward(g: Any) -> Any:
            if isinstance(g, Node):
                raise TypeError(f"{kind} has only a backward method, and cannot be differentiated twice")
            layer.forward(values[0])
            dx = layer.backward(np.array(g))
            return dx if key is None else layer.grads[key].copy()

        def forward(t: Any) -> Any:
            raise TypeError(f"{kind} has only a backward method: there is no forward mode through it")

        values: tuple[Any, ...] = ()

        def of(y: Any, *inputs: Any) -> Any:
            nonlocal values
            values = inputs
            return linear(forward, backward, f"{kind}'s backward")

        return of

    keys = [None, *params]
    operation = Operation(kind, lambda value, *_: np.array(layer.forward(value)), *map(partial, keys))
    return operation(x, *params.values())
