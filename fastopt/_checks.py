"""Checks of single values that several parts share."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def _as_float(value: Any) -> float:
    """A number as a float; an int beyond all floats is inf."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number(name: str, value: Any) -> Any:
    """``value``, if it is a number, finite or not."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return value


def yes_or_no(name: str, value: Any) -> bool:
    """``value`` as a bool, if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def a_number(name: str, value: Any, low: float = -math.inf, below: float = math.inf) -> float:
    """``value`` as a float, if it is a number, finite, at least ``low`` and less than ``below``."""
    result = _as_float(number(name, value))
    if not low <= result < below or math.isinf(result):
        raise ValueError(f"{name} must be a finite number in [{low:g}, {below:g}), not {value}")
    return result


def positive(name: str, value: Any) -> float:
    """``value`` as a float, if it is a number above 0; it may be inf."""
    if not number(name, value) > 0:
        raise ValueError(f"{name} must be above 0, not {value}")
    return _as_float(value)


def whole(name: str, value: Any, least: int) -> int:
    """``value`` as an int, if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool, if it is one, or 0 or 1."""
    if not isinstance(value, (bool, np.bool_, int, np.integer)) or value not in (0, 1):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def not_masked(name: str, values: Any) -> Any:
    """``values``, unless they have a mask, of which nothing here would know."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, and its mask would be lost: leave the masked rows out,"
            f" or fill in values by {name}.filled(value)"
        )
    return values


def generator_of(rng: Any) -> "np.random.Generator":
    """What ``rng`` stands for: a seed or None for a generator of its own, or a generator."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        message = f"rng must be None, an int of at least 0 or a numpy.random.Generator, not {rng!r} ({error})"
        raise type(error)(message) from None


def one_dimensional(name: str, x: np.ndarray) -> str:
    """How an array without columns gets some, at the end of a message."""
    if x.ndim != 1:
        return ""
    name = name.rpartition(" ")[2]
    return f"; {name}[None] is one row, {name}[:, None] one column"


def one_of(*choices: Any) -> Callable[[str, Any], Any]:
    """A check that the value is one of ``choices``, type and all; NumPy's True and False are Python's."""

    def check(name: str, value: Any) -> Any:
        value = bool(value) if isinstance(value, np.bool_) else value
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
        return value

    return check


def some(names: Sequence[Any], most: int = 4) -> str:
    """The first few of ``names``, and how many there are beside them."""
    rest = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {rest} more" if rest > 0 else "")


def real_dtype(dtype: Any) -> np.dtype:
    """``dtype`` as a NumPy dtype, if it is float32 or float64."""
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, not {dtype}")
    return dtype
