"""What comes from elsewhere - lists, frames, arrays of objects - as arrays of real numbers."""

from numbers import Real
from typing import Any

import numpy as np

from ._checks import not_masked


def as_real_array(name: str, values: Any) -> np.ndarray:
    """``values`` as an array, if they are real numbers: the same array if it is one.

    Arrays of objects, which data frames with columns of several types make, are converted if every object is a number.

    Raises
    ------
    TypeError
        If they are not; the error says which is the first, and what can be done.
    """
    not_masked(name, values)
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(f"{name} is a sparse {type(values).__name__}: {name}.toarray() makes an array of it")
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind == "O":
        return _of_objects(name, array)
    names = f"; np.unique({name}, return_inverse=True)[1] makes labels of names" if array.dtype.kind in "US" else ""
    raise TypeError(f"{name} must hold real numbers, not {array.dtype}{names}")


def _of_objects(name: str, array: np.ndarray) -> np.ndarray:
    kinds = set(map(type, array.flat))
    if all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return array.astype(bool)
    if all(issubclass(kind, (int, np.integer, np.bool_)) for kind in kinds):
        try:
            return array.astype(np.int64)
        except OverflowError:
            return array.astype(np.float64)
    if all(issubclass(kind, (Real, np.bool_)) for kind in kinds):
        return array.astype(np.float64)
    place, value = next((i, v) for i, v in enumerate(array.flat) if not isinstance(v, (Real, np.bool_)))
    where = f"in row {np.unravel_index(place, array.shape)[0]}" if array.ndim else "there"
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        what = f"{where} a value is missing: fill it in, or leave such rows out"
    else:
        what = f"{where} there is {value!r}"
    raise TypeError(f"{name} must hold real numbers, not {array.dtype}: {what}")
