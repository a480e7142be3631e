"""What the functions of arrays accept: C-contiguous float32 or float64 arrays of any shape.

What is only read may also be strided or of another layout (it is then copied); what is written may not.
"""

from itertools import combinations
from typing import Any

import numpy as np
from numpy import ndarray  # a look-up less in every call

from .._backends.memory import overlaps_part
from .._conversion import mapped_as_array, plain_array, way_to_array

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


# What is common is found to be fine in little time, by `alike` and by the kernels: these ask themselves whether arrays
# are contiguous, can be written to and do not overlap, and raise ValueError before they write. Which of all this does
# not hold, and for which array, `read`, `read_like` and `output` find out.


def alike(x: ndarray, y: ndarray, z: ndarray) -> bool:
    """Whether they are plain arrays of one shape, and of one dtype that the kernels know."""
    return (
        type(x) is ndarray
        and type(y) is ndarray
        and type(z) is ndarray
        and ((dtype := x.dtype) is FLOAT32 or dtype is FLOAT64)
        and y.dtype is dtype
        and z.dtype is dtype
        and x.shape == y.shape == z.shape
    )


def floats(x: Any, name: str) -> np.ndarray:
    """``x`` as a plain array, if it is of a dtype that the kernels know."""
    if type(x) is not ndarray:
        x = plain_array(name, x)
    if x.dtype is not FLOAT32 and x.dtype is not FLOAT64 and x.dtype != FLOAT32 and x.dtype != FLOAT64:
        way = f": {name}.astype(np.float32) converts it" if x.dtype.kind in "biuf" else ""
        raise TypeError(f"{name} must be float32 or float64, not {x.dtype}{way}")
    return x


def read(x: np.ndarray, name: str) -> np.ndarray:
    """``x`` as the kernels can read it."""
    x = floats(x, name)
    return x if x.flags.c_contiguous and x.flags.aligned else x.copy()


def is_scalar(x: Any) -> bool:
    """Whether ``x`` is a plain number, that is, one of Python's or an integer, float32 or float64 of NumPy's."""
    return isinstance(x, (int, float, np.integer, np.float32)) and not isinstance(x, bool)


def from_scalar(x: Any) -> np.ndarray:
    """An array of no dimensions: of float32 for a float32 of NumPy's, of float64 for all else."""
    return np.array(x, np.float32 if isinstance(x, np.float32) else np.float64)


def read_like(x: np.ndarray, name: str, like: np.ndarray, like_name: str) -> np.ndarray:
    x = read(x, name)
    if x.shape != like.shape:
        raise ValueError(f"{name} has shape {x.shape}, {like_name} has {like.shape}")
    if x.dtype is not like.dtype and x.dtype != like.dtype:
        raise TypeError(
            f"{name} is {x.dtype}, {like_name} is {like.dtype}: {name}.astype({like_name}.dtype) would be alike"
        )
    return x


def targets_like(y: Any, z: np.ndarray) -> np.ndarray:
    """The targets for ``z``; whole numbers, which are exact in any dtype unless huge, may be integers or bool."""
    if (is_scalar(y) or isinstance(y, (bool, np.bool_))) and z.ndim == 0:
        y = from_scalar(y).astype(z.dtype)
    y = mapped_as_array(y)
    if type(y) is ndarray and y.dtype.kind in "biu":
        y = y.astype(z.dtype)
    if type(y) is ndarray and y.shape != z.shape and (*y.shape, 1) == z.shape:
        raise ValueError(f"y has shape {y.shape}, z has {z.shape}: y[..., None] would be alike")
    return read_like(y, "y", z, "z")


def output(out: np.ndarray | None, like: np.ndarray, like_name: str, **inputs: np.ndarray) -> np.ndarray:
    """``out`` if it can be written to, or a new array; it may be one of the inputs, but not a part of one."""
    return output_of(out, like.shape, like.dtype, like_name, **inputs)


def output_of(out: Any, shape: tuple[int, ...], dtype: np.dtype, what: str, **inputs: np.ndarray) -> np.ndarray:
    """The same for a result of this shape and dtype, those of ``what``."""
    if out is None:
        return np.empty(shape, dtype)
    if type(out) is not np.ndarray:
        way = way_to_array("out", out) if isinstance(out, np.ndarray) else ""
        raise TypeError(f"out must be a plain numpy.ndarray, not {type(out).__name__}{way}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, {what} has {shape}")
    if out.dtype != dtype:
        raise TypeError(f"out is {out.dtype}, {what} is {dtype}")
    writeable(out, "out")
    for name, x in inputs.items():
        if overlaps_part(out, x):
            raise ValueError(f"out overlaps a part of {name}: it may be the same array, or another")
    return out


def per_channel(x: np.ndarray, name: str, channels: int, dtype: np.dtype) -> np.ndarray:
    """``x`` if it has one number for each of the channels."""
    x = read(x, name)
    if x.shape != (channels,):
        raise ValueError(f"{name} has shape {x.shape}, for {channels} channels it must be ({channels},)")
    if x.dtype != dtype:
        raise TypeError(f"{name} is {x.dtype}, x is {dtype}")
    return x


def writeable(x: np.ndarray, name: str) -> np.ndarray:
    """``x`` if it can be written to as it is."""
    if not x.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous; its strides are {x.strides} for shape {x.shape}")
    if not x.flags.aligned:
        raise ValueError(f"{name} must be aligned: its elements do not begin at multiples of their size")
    if not x.flags.writeable:
        raise ValueError(f"{name} is read-only")
    return x


def disjoint(written: dict[str, np.ndarray | None], others: dict[str, np.ndarray | None]) -> None:
    """ValueError if an array that is written to shares memory with another; absent ones are None."""
    for name, x in written.items():
        if x is None:
            continue
        for other, y in others.items():
            if y is not None and np.may_share_memory(x, y):
                raise ValueError(f"{name} overlaps {other} in memory")
    for (name, x), (other, y) in combinations(written.items(), 2):
        if x is not None and y is not None and np.may_share_memory(x, y):
            raise ValueError(f"{name} overlaps {other} in memory")
