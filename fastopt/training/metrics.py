"""Metrics: functions of the user's own, of targets and outputs, that are recorded after every epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._checks import number
from .history import RECORDED


class Metrics:
    """The functions by name."""

    def __init__(self, given: Any):
        self._of = _by_name(given)
        for name, function in self._of.items():
            if isinstance(function, type) or not callable(function):
                raise TypeError(f"the metric {name!r} must be a function of targets and outputs, not {function!r}")
            if name in (*RECORDED, "epoch", "") or name.startswith(("val_", "trust_ratio ")) or not name.isprintable():
                raise ValueError(f"a metric cannot be called {name!r}: the history means something else by it")

    @property
    def names(self) -> list[str]:
        return list(self._of)

    def measured(self, y: np.ndarray, z: np.ndarray, prefix: str = "") -> dict[str, float]:
        """What the functions say of these targets and outputs, of which each is given copies."""
        one = z.shape[1:] == (1,)
        values = {}
        for name, function in self._of.items():
            given = [array.reshape(-1).copy() if one else array.copy() for array in (y, z)]
            value = function(*given)
            if isinstance(value, np.ndarray) and value.ndim == 0:
                value = value[()]
            try:
                values[f"{prefix}{name}"] = float(number(f"the metric {name!r}", value))
            except TypeError as error:
                raise TypeError(f"{error}: it must return one") from None
        return values


def _by_name(given: Any) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        if wrong := [name for name in given if not isinstance(name, str)]:
            raise TypeError(f"the names of metrics must be str, not {type(wrong[0]).__name__}")
        return dict(given)
    functions = [given] if callable(given) else given
    if isinstance(functions, (str, bytes)) or not isinstance(functions, Sequence):
        raise TypeError(
            f"metrics must be functions of targets and outputs: a dict of them by name, or a list, not {given!r}"
        )
    found: dict[str, Any] = {}
    for function in functions:
        name = getattr(function, "__name__", None)
        if not callable(function) or name is None or name == "<lambda>":
            raise TypeError(f"a metric without a name needs one: metrics={{'name': function}}, not {function!r}")
        if name in found:
            raise ValueError(f"two metrics are called {name!r}: give a dict with a name for each")
        found[name] = function
    return found
