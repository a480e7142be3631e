"""Programs: lists of instructions that are run one after the other, in the C core in one call.

An instruction is a kernel with its arrays and scalars; the scalars may be set anew, and of an array that is `Moving`
every step takes the next part. What a program has beside instructions are calls of Python: each ends a segment.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Moving:
    """An array of which step number i takes ``array[i]``."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray):
        self.array = array


def of_step(x: Any, step: int = 0) -> Any:
    """What an instruction has for an argument in a step."""
    return x.array[step] if isinstance(x, Moving) else x


class Runs(Protocol):
    """An instruction, or a call of Python in its place."""

    result: Any

    def __call__(self, step: int = 0) -> Any: ...


class Call:
    """A call of Python as an instruction."""

    __slots__ = ("_call", "result")

    def __init__(self, call: Callable[[], Any]):
        self._call = call
        self.result: Any = None

    def __call__(self, step: int = 0) -> Any:
        self.result = self._call()
        return self.result


class Instruction:
    """A function with its arrays and scalars: what the backends in Python run."""

    __slots__ = ("_arrays", "_moves", "_scalars", "function", "result")

    def __init__(self, function: Callable[..., Any], arrays: Sequence[Any], scalars: Sequence[Any]):
        self.function, self._arrays = function, tuple(arrays)
        self._moves = any(isinstance(array, Moving) for array in arrays)
        self.set(*scalars)
        self.result: Any = None

    def set(self, *scalars: Any) -> None:
        """Take these scalars from now on."""
        self._scalars = scalars

    def __call__(self, step: int = 0) -> Any:
        """Run it, in this step; what it returns is also kept as ``result``."""
        arrays = [of_step(array, step) for array in self._arrays] if self._moves else self._arrays
        self.result = self.function(*arrays, *self._scalars)
        return self.result


class Program:
    """Instructions and calls of Python, run one by one."""

    # Where many steps can be run in one call: from which one on, how many, and to which number to add the results of
    # which instruction; the answer is how many were run to the program's end, and that sum.
    run_steps: Callable[[int, int, Any, float], tuple[int, float]] | None = None

    def __init__(self, runs: Sequence[Runs]):
        self._runs = tuple(runs)

    def __call__(self, step: int = 0) -> None:
        """Run all of it, as in this step."""
        for run in self._runs:
            run(step)


class Stopped(Exception):
    """An instruction has ended a program before its end, for which its ``result`` stands."""
