"""The network of an estimator: its layers, their initial values, and its weights as scikit-learn shows them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import fastopt as fo

from ..nn.activations import Activation


def activations() -> dict[str, Callable[[], Any] | None]:
    """What makes the layer of an activation, by scikit-learn's name and by that of fastopt's function."""
    own = {kind.function: kind for kind in Activation.__subclasses__()}
    return {"identity": None, "logistic": fo.nn.Sigmoid, **own, "gelu_tanh": lambda: fo.nn.GELU("tanh")}


def network(
    widths: Sequence[int], activation: str, batch_norm: bool, dropout: Sequence[float], dtype: Any, random: Any
) -> fo.nn.Sequential:
    """The layers, with the initial values that scikit-learn draws from ``random``, in its order.

    A hidden layer is linear, then batch norm, activation, dropout: those that are asked for.
    """
    layers: list[Any] = []
    linear: list[fo.nn.Linear] = []
    made, last = activations()[activation], len(widths) - 2
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        linear.append(fo.nn.Linear(fan_in, fan_out, rng=0))
        layers.append(linear[-1])
        if i == last:
            break
        if batch_norm:
            layers.append(fo.nn.BatchNorm(fan_out))
        if made is not None:
            layers.append(made())
        if dropout[i]:
            layers.append(fo.nn.Dropout(dropout[i], rng=0))
    model = fo.nn.Sequential(*layers, dtype=dtype)
    factor = 2.0 if activation in ("logistic", "sigmoid") else 6.0
    for layer in linear:
        bound = np.sqrt(factor / (layer.in_features + layer.out_features))
        layer.weight.T[...] = random.uniform(-bound, bound, (layer.in_features, layer.out_features))
        layer.params["bias"][...] = random.uniform(-bound, bound, layer.out_features)
    for layer in layers:  # after the weights, which are then those of a network without dropout
        if isinstance(layer, fo.nn.Dropout):
            layer.reset_parameters(np.random.default_rng(random.randint(2**31)))
    return model


def linear_layers(model: fo.nn.Sequential) -> list[fo.nn.Linear]:
    return [layer for layer in model if isinstance(layer, fo.nn.Linear)]


def widths_of(model: fo.nn.Sequential) -> list[int]:
    layers = linear_layers(model)
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def shown(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A weight in the type of X: the array itself, or a copy that cannot be written to, as nobody would notice."""
    if array.dtype == dtype:
        return array
    copy = array.astype(dtype)
    copy.flags.writeable = False
    return copy


def take_over(arrays: Sequence[np.ndarray], values: Any, name: str) -> None:
    """Write what a user assigns to ``coefs_`` or ``intercepts_`` into the network."""
    if len(values) != len(arrays):
        raise ValueError(f"{name} must hold {len(arrays)} arrays, not {len(values)}")
    given = [np.array(value, array.dtype) for array, value in zip(arrays, values, strict=True)]
    for i, (array, value) in enumerate(zip(arrays, given, strict=True)):
        if value.shape != array.shape:
            raise ValueError(f"{name}[{i}] must have shape {array.shape}, not {value.shape}")
    for array, value in zip(arrays, given, strict=True):
        array[...] = value
