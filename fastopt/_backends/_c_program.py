"""Instructions of the C core, and programs of them: one call from one call of Python to the next."""

import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby
from typing import Any

import numpy as np

from .._interface import ffi, lib
from .._pins import HEADER, Pins
from ._c_arrays import DTYPES, NULL, first, sizes_of
from .program import Moving, Stopped, of_step


def pointer(x: Any) -> Any:
    """What an instruction holds for an array, or for what else C is to find."""
    if isinstance(x, np.ndarray):
        return ffi.cast("void *", first(x))
    if isinstance(x, Instruction):
        return ffi.addressof(x.c, "result")
    return NULL if x is None else ffi.cast("void *", x.table if isinstance(x, Pins) else x)


def _real(kernel: str, arrays: Sequence[Any]) -> int:
    """The number of the type that a kernel works in: that of its first array, but for rows that are converted."""
    return DTYPES.get(getattr(arrays[2 if kernel == "gather_rows" else 0], "dtype", None), 0)


@cache
def _form(kernel: str) -> tuple[int, int, Callable[..., tuple[int, ...]], dict[int, tuple[Callable[..., None], int]]]:
    """Of a kernel its number, how many arrays it takes, and their sizes; by how many these are, what packs scalars."""
    index = lib.fastopt_kernel_index(kernel.encode())
    whole, reals = lib.fastopt_kernel_whole(index), lib.fastopt_kernel_reals(index)
    unused, begin = 8 * (lib.FASTOPT_MAX_WHOLE - whole), ffi.offsetof("fastopt_instruction", "whole")
    packs = {n: (struct.Struct(f"{whole - n}q{unused}x{reals}d").pack_into, begin + 8 * n) for n in range(whole + 1)}
    return index, lib.fastopt_kernel_arrays(index), sizes_of(kernel), packs


class Instruction:
    """A kernel of the core with its arrays and scalars."""

    __slots__ = ("_arrays", "_pack", "_table", "c", "moving")

    def __init__(self, kernel: str, arrays: Sequence[Any], scalars: Sequence[Any]):
        index, count, sizes, packs = _form(kernel)
        if len(arrays) != count:
            raise ValueError(f"{kernel} takes {count} arrays, not {len(arrays)}")
        given = [of_step(array) for array in arrays]
        self._arrays = arrays  # they are not to be collected
        self.c = c = ffi.new("fastopt_instruction *")
        c.kernel, c.dtype = index, _real(kernel, given)
        c.array[0:count] = pointers = [pointer(x) for x in given]
        self.moving = [
            (c, pointers[k], array.array.strides[0], k) for k, array in enumerate(arrays) if isinstance(array, Moving)
        ]
        whole = sizes(*given)
        c.whole[0 : len(whole)] = whole
        pack, begin = packs[len(whole)]
        self._pack = partial(pack, ffi.buffer(c), begin)
        self._table: Any = None
        if scalars:
            self.set(*scalars)

    def set(self, *scalars: Any) -> None:
        """Take these scalars from now on."""
        self._pack(*scalars)

    def replace(self, arrays: Sequence[Any]) -> None:
        """Take these arrays from now on, of the same sizes, in the place of some that do not move."""
        self._arrays = arrays
        self.c.array[0 : len(arrays)] = list(map(pointer, arrays))

    @property
    def result(self) -> float:
        return self.c.result

    def __call__(self, step: int = 0) -> float:
        if self.moving:
            Program([self])(step)
            return self.c.result
        if self._table is None:
            self._table = ffi.new("fastopt_instruction *[]", [self.c])
        if not lib.fastopt_run(self._table, 1, NULL, 0, 0):
            raise Stopped
        return self.c.result


class Program:
    """Instructions and calls of Python: what lies between two of the latter is one call into C.

    What C takes for that is made when it is first run: of many programs only a larger one is, of which they are a part.
    """

    def __init__(self, runs: Sequence[Any]):
        self._runs = tuple(runs)
        self._segments: list[Any] | None = None
        self._steps: Callable[..., tuple[int, float]] | None = None

    def __call__(self, step: int = 0) -> None:
        """Run all of it, as in this step."""
        if self._segments is None:
            segments: list[Any] = []
            for in_c, group in groupby(self._runs, lambda run: isinstance(run, Instruction)):
                runs = list(group)
                segments += [_segment(runs)] if in_c else runs
            self._segments = segments
        for run in self._segments:
            run(step)

    @property
    def run_steps(self) -> Callable[..., tuple[int, float]] | None:
        """Many steps in one call, where all are instructions; see `fastopt._backends.program.Program`."""
        if self._steps is None and all(isinstance(run, Instruction) for run in self._runs):
            self._steps = _steps_of(self._runs)
        return self._steps


def _tables(instructions: Sequence[Instruction]) -> tuple[Any, int, Any, int]:
    """What C takes for a program: the instructions and the operands that move, each with their number."""
    table = ffi.new("fastopt_instruction *[]", [instruction.c for instruction in instructions])
    operands = [operand for instruction in instructions for operand in instruction.moving]
    moving = ffi.new("fastopt_operand[]", operands)
    return table, len(instructions), moving, len(operands)


def _segment(instructions: Sequence[Instruction]) -> Callable[[int], None]:
    """A call that runs them."""
    table, count, moving, moves = _tables(instructions)
    run = lib.fastopt_run

    def call(step: int = 0) -> None:
        if run(table, count, moving, moves, step) != count:
            raise Stopped

    return call


def _steps_of(instructions: Sequence[Instruction]) -> Callable[[int, int, Instruction, float], tuple[int, float]]:
    """A call that runs them for many steps, and adds up the results of one of them."""
    tables = _tables(instructions)
    total = ffi.new("double *")

    def call(first: int, steps: int, valued: Instruction, begin: float) -> tuple[int, float]:
        total[0] = begin
        return lib.fastopt_run_steps(*tables, first, steps, valued.c, total), total[0]

    return call


def bind_average(
    averages: Sequence[np.ndarray], arrays: Sequence[np.ndarray], steps: np.ndarray, share: float
) -> list[Instruction]:
    last = len(averages) - 1
    pairs = enumerate(zip(averages, arrays, strict=True))
    return [bind("move_average", (average, x, steps), (i == last, share)) for i, (average, x) in pairs]


def bind_gather(X: np.ndarray, order: Moving, x: np.ndarray) -> list[Instruction]:
    if not (HEADER and X.dtype in DTYPES and X.flags.c_contiguous and X.flags.aligned):
        return []
    pins = Pins([X])
    return [bind("pins_unchanged", (pins,), (len(pins.arrays),)), bind("gather_rows", (X, order, x))]


def bind(kernel: str, arrays: Sequence[Any], scalars: Sequence[Any] = ()) -> Instruction:
    return Instruction(kernel, arrays, scalars)
