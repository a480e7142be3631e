"""What losses are given - outputs, targets, weights, the place of the gradient - checked before a kernel reads it."""

from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.memory import overlaps_part, readable
from .._checks import a_number, not_masked
from .._conversion import as_real_array, refuse_not_finite, way_to_array


@isolated
def finite(name: str, values: np.ndarray, dtype: Any, given: Any = None, begin: int = 0) -> np.ndarray:
    """``values`` as a contiguous array of ``dtype``, the same if it is one, if all of them are finite.

    They are rows from ``begin`` on of what was ``given``, whose columns may have names.
    """
    values = readable(values, dtype)
    if _backends.active.any_nonfinite(values):
        refuse_not_finite(name, values, begin, given)
    return values


def near_one(values: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """``values``, at least 0, times the power of two that brings the largest of them, or of ``of``, to 1/2 or above.

    Their ratios, and so their shares, stay the same to the bit, and their sum does not overflow.
    """
    largest = float((values if of is None else of).max(initial=0.0))
    with np.errstate(all="ignore"):  # what is lost in the smallest is nothing beside the largest
        return np.ldexp(values, -int(np.frexp(largest)[1]))


def argmax(x: np.ndarray) -> np.ndarray:
    """The place of the first largest number of every row, or of its first NaN."""
    if type(x) is np.ndarray and x.dtype in (np.float32, np.float64) and x.flags.c_contiguous and x.flags.aligned:
        return _backends.active.argmax(x)
    return x.argmax(axis=1)


def refuse_subclass(name: str, x: Any) -> None:
    """Refuse arrays of a class that may say another shape or dtype than its memory has."""
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        raise TypeError(f"{name} must be a plain numpy.ndarray, not {type(x).__name__}{way_to_array(name, x)}")


def check_arrays(z: Any, y: Any, dz: Any, targets: tuple[tuple[int, ...], Any] | None) -> None:
    """Raise what a kernel cannot, if these are not outputs, targets of this shape and dtype, and a gradient."""
    real = z.dtype if isinstance(z, np.ndarray) and z.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    arrays = [("z", z, np.shape(z), real), ("dz", dz, np.shape(z), real)]
    if targets is not None:
        arrays.insert(1, ("y", y, *targets))
    for name, x, shape, dtype in arrays:
        refuse_subclass(name, not_masked(name, x))
        if not isinstance(x, np.ndarray) or x.dtype != dtype:
            given = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, not {given}")
        if x.shape != shape:
            raise ValueError(f"{name} has shape {x.shape}, for z of shape {z.shape} it must have {shape}")
        if not (x.flags.c_contiguous and x.flags.aligned) or (x is dz and not x.flags.writeable):
            raise ValueError(f"{name} must be C-contiguous and aligned, and dz writeable")
        if x.ndim == 0:
            raise ValueError(f"{name} is a single number: it must have rows")
        if overlaps_part(dz, x):
            raise ValueError(f"dz overlaps a part of {name}")


def check_weight(weight: Any, z: np.ndarray) -> None:
    """Refuse weights that are not an array of a number for each row."""
    if weight is None:
        return
    refuse_subclass("weight", not_masked("weight", weight))
    if not isinstance(weight, np.ndarray) or weight.dtype.kind not in "biuf":
        given = weight.dtype if isinstance(weight, np.ndarray) else type(weight).__name__
        raise TypeError(f"weight must be an array of real numbers, not {given}")
    if weight.shape != z.shape[:1]:
        raise ValueError(f"weight has shape {weight.shape}, for z of shape {z.shape} it must have {z.shape[:1]}")


@isolated
def weights_of_rows(weight: Any, z: Any) -> np.ndarray | None:
    """``weight`` as an array, if it holds a finite number of at least 0 for each row."""
    if weight is None:
        return None
    weight = as_real_array("weight", weight)
    if isinstance(z, np.ndarray):
        check_weight(weight, z)
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError("weight must hold finite numbers of at least 0")
    return weight


def checked_scale(scale: Any, z: np.ndarray) -> float | None:
    """``scale``, if it is a number of the gradient's type."""
    return None if scale is None else a_number("scale", scale, -(most := float(np.finfo(z.dtype).max)), most)


def check_rows(z: Any, y: Any, shape: tuple[int, ...]) -> None:
    """Refuse outputs and targets that do not belong together."""
    for name, x in (("z", z), ("y", y)):
        if not isinstance(not_masked(name, x), np.ndarray):
            raise TypeError(f"{name} must be an array, not {type(x).__name__}")
    if y.shape != shape:
        raise ValueError(f"y has shape {y.shape}, for z of shape {z.shape} it must have {shape}")
