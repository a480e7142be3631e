"""What a program of training does beside layers, loss and step: gathering a batch, and averaging the weights."""

from collections.abc import Sequence
from itertools import repeat

import numpy as np

from .._moving import change_all
from .environment import isolated
from .program import Call, Moving, Runs


def copy(x: np.ndarray, out: np.ndarray) -> None:
    """out = x, of whatever type."""
    np.copyto(out, x)


@isolated
def gather_rows(X: np.ndarray, rows: np.ndarray, x: np.ndarray) -> None:
    """x = X[rows]."""
    x[...] = X[rows]


def _moved(average: np.ndarray, x: np.ndarray, steps: np.ndarray, share: float) -> np.ndarray:
    return average + average.dtype.type(share) * (x - average) if steps[0] else x


@isolated
def move_average(average: np.ndarray, x: np.ndarray, steps: np.ndarray, counted: int, share: float) -> None:
    """average += share (x - average), or x itself before any of the ``steps``, to which ``counted`` is added."""
    average[...] = _moved(average, x, steps, share)
    steps += counted


def bind_average(
    averages: Sequence[np.ndarray], arrays: Sequence[np.ndarray], steps: np.ndarray, share: float
) -> list[Runs]:
    """Instructions by which all ``averages`` take in their arrays, and the step is counted."""

    @isolated
    def average() -> None:
        after = [_moved(a, x, steps, share) for a, x in zip(averages, arrays, strict=True)]
        change_all([*zip(averages, repeat(...), after), (steps, 0, steps[0] + 1)])

    return [Call(average)]


@isolated
def store_sum(out: np.ndarray, run: Runs, factor: float, divisor: float) -> None:
    """out = factor times what another instruction of the program has returned, divided by ``divisor``."""
    out[...] = run.result * factor / divisor


def bind_gather(X: np.ndarray, order: Moving, x: np.ndarray) -> list[Runs]:
    """Instructions by which ``x`` gets the rows of ``X`` that the step's ``order`` names.

    The first one ends the program if the caller's array is not as it was. Empty, if `Gather` is to do it.
    """
    return []
