"""Arrays whose addresses are kept, and whether they are still what they were.

Whoever has an array can change its shape, dtype, flags and memory in place (``a.shape = ...``, ``__setstate__``);
what works with addresses has to notice that before it uses them.
"""

import sys
from collections.abc import Iterable
from operator import is_
from typing import Any
from weakref import ref

import numpy as np

try:
    from ._interface import ffi, lib
except ImportError:  # installed without a compiler
    ffi = lib = None


def _words(address: int) -> Any:
    return ffi.cast("uintptr_t *", address)


def _header_size() -> int:
    """How far behind an object's address NumPy's part of an array begins; 0 if that is not as pins.c has it."""
    size, items = object.__basicsize__, tuple.__basicsize__
    if lib is None or sys.implementation.name != "cpython" or np.ndarray.__basicsize__ < size + ffi.sizeof("void *[7]"):
        return 0
    wide = np.zeros((3, 14), np.float32)
    for array in (wide, wide[1:, ::2], np.zeros(()), np.frombuffer(b"12345678", np.float64)):
        data, dimensions, lengths, _, base, dtype, flags = _words(id(array) + size)[0:7]
        if (data, dtype) != (array.__array_interface__["data"][0], id(array.dtype)):
            return 0
        if base != (0 if array.base is None else id(array.base)):
            return 0
        if (dimensions & 0xFFFFFFFF, flags & 0xFFFFFFFF) != (array.ndim, array.flags.num):
            return 0
        if tuple(_words(lengths)[0 : array.ndim]) != array.shape:
            return 0
    objects = wide, size
    return size if list(_words(id(objects) + items)[0:2]) == [id(wide), id(size)] else 0


HEADER = _header_size()
ITEMS = tuple.__basicsize__  # how far behind a tuple's address those of its items begin


def _look(array: np.ndarray) -> tuple[Any, ...]:
    """What csrc/drivers/pins.c looks at."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype, array.flags.num & 0x501


class Pins:
    """Arrays, and what they are views of, kept alive and where they are.

    NumPy refuses to resize an array in place that has weak references, even with ``refcheck=False``. What else can
    happen to one is noticed by `hold`.
    """

    def __init__(self, arrays: Iterable[np.ndarray]):
        found = list(arrays)
        bases: dict[int, np.ndarray] = {}
        for array in found:
            while isinstance(array.base, np.ndarray) and id(array.base) not in bases:
                array = bases[id(array.base)] = array.base
        self.arrays = [*found, *bases.values()]
        self._kept = list(map(ref, self.arrays)), [array.dtype for array in self.arrays]
        if HEADER:
            self.table = ffi.new("fastopt_pin[]", len(self.arrays))
            lib.fastopt_pins_take(self.table, [id(a) + HEADER for a in self.arrays], len(self.arrays))
        else:
            self.seen = list(map(_look, self.arrays))

    def hold(self) -> bool:
        """Whether all arrays have the address, shape, dtype and flags that they were pinned with."""
        if HEADER:
            return bool(lib.fastopt_pins_hold(self.table, len(self.arrays)))
        return list(map(_look, self.arrays)) == self.seen


def fit(own: Pins, given: Pins, params: tuple[Any, ...] | None, grads: tuple[Any, ...] | None) -> bool:
    """Whether these objects, unless None, are the first that are pinned, and all pinned arrays are as they were."""
    same = all(all(map(is_, objects, pins.arrays)) for objects, pins in ((params, own), (grads, given)) if objects)
    return same and own.hold() and given.hold()
