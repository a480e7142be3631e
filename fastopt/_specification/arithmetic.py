"""Operations on elements with broadcasting, by name, as functions of arrays that may be given ``out``.

What graphs evaluate and programs run; csrc/kernels/arithmetic.inc says the same, its numbers being their order here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def one_less(x: Any, out: np.ndarray | None = None) -> Any:
    """x - 1, but of 0."""
    return np.subtract(x, x != 0, out=out)


def maximum(x: Any, y: Any, out: np.ndarray | None = None) -> Any:
    """The larger; of zeros of either sign, +0: which of them NumPy gives depends on the CPU."""
    return np.add(np.maximum(x, y, out=out), 0, out=out)


def minimum(x: Any, y: Any, out: np.ndarray | None = None) -> Any:
    """The smaller; of zeros of either sign, +0."""
    return np.add(np.minimum(x, y, out=out), 0, out=out)


def above(x: Any, y: Any, out: np.ndarray | None = None) -> Any:
    """1 where x is larger, a half where they are equal, and else 0."""
    share = np.asarray(np.greater(x, y), x.dtype) + np.greater_equal(x, y)
    return np.multiply(share, x.dtype.type(0.5), out=out)


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "assign": np.positive,
    "negative": np.negative,
    "absolute": np.absolute,
    "sqrt": np.sqrt,
    "sign": np.sign,
    "one_less": one_less,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": maximum,
    "minimum": minimum,
    "above": above,
}
NUMBER = {name: number for number, name in enumerate(ARITHMETIC)}
