"""The hyperparameters: what values each may have, and the groups that hold them."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np


def a_number(name: str, value: Any, low: float = -math.inf, below: float = math.inf) -> float:
    """``value`` as a float, if it is a number, finite, at least ``low`` and less than ``below``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not low <= value < below or math.isinf(value):
        raise ValueError(f"{name} must be a finite number in [{low:g}, {below:g}), not {value}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """``value`` as a float, if it is a number above 0; it may be inf."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value}")
    return float(value)


def _betas(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers, not {value!r}")
    return a_number(f"{name}[0]", value[0], 0, 1), a_number(f"{name}[1]", value[1], 0, 1)


_not_negative = partial(a_number, low=0)

_NUMBERS: dict[str, Callable[[str, Any], Any]] = {
    "lr": _not_negative,
    "weight_decay": _not_negative,
    "momentum": _not_negative,
    "dampening": a_number,
    "betas": _betas,
    "eps": _not_negative,
}

# What chooses a rule or its form: fixed once the optimizer is made.
SWITCHES: dict[str, tuple[Any, ...]] = {
    "maximize": (False, True),
    "nesterov": (False, True),
    "weight_decay_mode": ("l2", "decoupled", "independent"),
}


def checked(name: str, value: Any) -> Any:
    """The value of hyperparameter ``name``, or the error that it calls for; a schedule is checked when it is called."""
    if name in SWITCHES:
        if not any(type(value) is type(choice) and value == choice for choice in SWITCHES[name]):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, SWITCHES[name]))}, not {value!r}")
        return value
    return value if callable(value) else _NUMBERS[name](name, value)


class Group(dict[str, Any]):
    """The hyperparameters of a group of tensors; setting one checks it."""

    def __init__(self, optimizer: Any, names: list[str], hyperparameters: Mapping[str, Any]):
        super().__init__({name: checked(name, value) for name, value in hyperparameters.items()})
        self.names = names
        self._optimizer = optimizer
        self.rule: str = optimizer.rule(self)
        self._scheduled = any(map(callable, self.values()))

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            raise KeyError(f"{self._optimizer.__name__} has no hyperparameter {name!r}, only {', '.join(self)}")
        changed = {**self, name: checked(name, value)}
        if name in SWITCHES or self._optimizer.rule(changed) != self.rule:
            raise ValueError(
                f"{name} cannot become {value!r} now, since it decides what state there is; make a new optimizer"
            )
        self.replace(changed)

    def replace(self, changed: Mapping[str, Any]) -> None:
        """Take over hyperparameters that have been checked."""
        super().update(changed)
        self._scheduled = any(map(callable, self.values()))

    def at(self, step: int) -> Mapping[str, Any]:
        """The hyperparameters after ``step`` steps, schedules evaluated."""
        if not self._scheduled:
            return self
        return {n: _NUMBERS[n](f"{n} at step {step}", v(step)) if callable(v) else v for n, v in self.items()}
