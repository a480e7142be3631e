"""What a kernel may write to, so that it never writes over what it has yet to read, and what it may read."""

from typing import Any

import numpy as np

try:
    from .._interface import ffi

    _address = ffi.from_buffer
except ImportError:

    def _address(x: np.ndarray) -> Any:
        if not x.flags.c_contiguous:
            raise ValueError("ndarray is not C-contiguous")
        return x.__array_interface__["data"]


def readable(x: Any, dtype: Any = None) -> np.ndarray:
    """``x`` as C can read it, C-contiguous and aligned: itself, or else a copy."""
    return np.require(x, dtype, ("C_CONTIGUOUS", "ALIGNED"))


Header = tuple[np.ndarray, np.dtype, tuple[int, ...], Any]


def header(x: np.ndarray) -> Header:
    """A contiguous array, and what of it can be changed in place besides its elements.

    It is for arrays that their owner may go on resizing, as `Pins` does not let them: then it is told which one it was.
    """
    return x, x.dtype, x.shape, _address(x)


def first_changed(headers: list[Header]) -> np.ndarray | None:
    """The first array that is no longer what `header` has found."""
    for x, dtype, shape, address in headers:
        try:
            if x.dtype is not dtype or x.shape != shape or _address(x) != address:
                return x
        except ValueError:  # it is no longer contiguous
            return x
    return None


def address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


def overlaps_part(out: np.ndarray, x: np.ndarray) -> bool:
    """Whether ``out`` shares memory with ``x`` otherwise than from its first element on."""
    return out is not x and np.may_share_memory(out, x) and address(out) != address(x)


def check_written(out: np.ndarray, *inputs: np.ndarray) -> None:
    """ValueError if ``out`` cannot be written to as it is, or overlaps a part of an input, or one is not aligned."""
    if not out.flags.carray or not all(x.flags.aligned for x in inputs) or any(overlaps_part(out, x) for x in inputs):
        raise ValueError("out is not C-contiguous, is read-only, or overlaps a part of an input; or one is not aligned")
