"""What is true of every loss of an output and a target each: the one table to extend for a new one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Truth(NamedTuple):
    loss: Callable[[Any, Any], Any]  # of z and y, by NumPy in float64
    gradient: Callable[[Any, Any], Any]
    name: str  # of the class, and of what `fit` calls it
    called: str


TRUTH = {
    "logistic_loss": Truth(
        lambda z, y: np.logaddexp(0, z) - y * z, lambda z, y: 1 / (1 + np.exp(-z)) - y, "LogisticLoss", "logistic"
    ),
    "mse_loss": Truth(lambda z, y: (z - y) ** 2, lambda z, y: 2 * (z - y), "SquaredError", "mse"),
    "huber_loss": Truth(
        lambda z, y: np.where(abs(z - y) < 1, (z - y) ** 2 / 2, abs(z - y) - 0.5),
        lambda z, y: np.clip(z - y, -1, 1),
        "Huber",
        "huber",
    ),
}
