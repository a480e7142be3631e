"""What a kernel may write to, so that it never writes over what it has yet to read."""

import numpy as np


def address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


def overlaps_part(out: np.ndarray, x: np.ndarray) -> bool:
    """Whether ``out`` shares memory with ``x`` otherwise than from its first element on."""
    return out is not x and np.may_share_memory(out, x) and address(out) != address(x)


def check_written(out: np.ndarray, *inputs: np.ndarray) -> None:
    """ValueError if ``out`` cannot be written to as it is, or overlaps a part of one of ``inputs``."""
    if not out.flags.c_contiguous or not out.flags.writeable or any(overlaps_part(out, x) for x in inputs):
        raise ValueError("out is not C-contiguous, is read-only, or overlaps a part of an input")
