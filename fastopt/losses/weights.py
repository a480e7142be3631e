"""Weights of classes: given as numbers, by class, or to be found in the training data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._checks import number
from .._conversion import as_real_array

BALANCED = "balanced"


def nonnegative(name: str, values: Any) -> np.ndarray:
    """``values`` as an array, if they are finite and at least 0."""
    values = as_real_array(name, values).astype(np.float64)
    if values.size == 0 or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{name} must hold finite numbers of at least 0, not {values.tolist()}")
    return values


def class_weights(name: str, given: Any) -> Any:
    """``given`` as weights of classes: an array, a dict by class, or "balanced"; or the error that it calls for."""
    if isinstance(given, str):
        if given != BALANCED:
            raise ValueError(f'{name} must be "balanced", a dict by class, or an array, not {given!r}')
        return given
    if isinstance(given, Mapping):
        for label, weight in given.items():
            if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or label < 0:
                raise TypeError(f"{name} must be by class, a whole number from 0, not by {label!r}")
            number(f"{name}[{label}]", weight)
        values: Any = nonnegative(name, list(given.values())) if given else []
        return {int(label): float(weight) for label, weight in zip(given, values, strict=True)}
    weights = nonnegative(name, given)
    if weights.ndim != 1:
        raise ValueError(f"{name} has shape {weights.shape}; it must be (classes,)")
    return weights


def weights_for(name: str, given: Any, classes: int, counts: np.ndarray | None) -> Any:
    """As an array (classes,): classes that a dict does not have weigh 1, as do those that the data does not have.

    "balanced" stays what it is as long as there are no ``counts`` of the classes' rows; with them, a class weighs the
    number of rows by that of the classes and its own rows, as in scikit-learn.
    """
    if isinstance(given, str):
        if counts is None:
            return given
        there = counts > 0
        balanced = counts.sum() / (max(there.sum(), 1) * np.where(there, counts, 1.0))
        return np.where(there, balanced, 1.0)
    if isinstance(given, dict):
        if given and max(given) >= classes:
            raise ValueError(f"{name} has class {max(given)}, the model {classes} classes")
        return np.array([given.get(label, 1.0) for label in range(classes)])
    if given.shape != (classes,):
        raise ValueError(f"{name} has shape {given.shape}, the model has {classes} classes")
    return given


def refuse_unknown(loss: Any, weight: Any) -> None:
    """Refuse weights of classes that are not known yet."""
    if weight is not None and not isinstance(weight, np.ndarray):
        raise ValueError(f"{loss!r} is for fastopt.fit, which knows the classes and their rows: give an array")


def shown(weight: Any) -> str:
    """Weights in the text of a loss."""
    return repr(weight.tolist() if isinstance(weight, np.ndarray) else weight)
