"""Checks of single numbers that several parts share."""

import math
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
