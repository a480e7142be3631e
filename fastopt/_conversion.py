"""What comes from elsewhere - lists, frames, tensors, arrays of objects - as arrays of real numbers."""

from numbers import Complex, Number, Real
from typing import Any, NoReturn

import numpy as np

from ._checks import not_masked


def as_real_array(name: str, values: Any) -> np.ndarray:
    """``values`` as an array, if they are real numbers: the same array if it is one.

    Arrays of objects, which data frames with columns of several types make, are converted if every object is a number.

    Raises
    ------
    TypeError, ValueError
        If they are not; the error says which is the first, and what can be done.
    """
    array = as_array(name, values)
    if array.dtype.kind in "biuf":
        if array.dtype.kind == "f" and _has_types_of_its_own(values) and np.isnan(array).any():
            place = int(np.isnan(array).argmax())
            raise TypeError(f"{name} must hold real numbers: {_what_is_wrong(array, place, None, values)}")
        return array
    if array.dtype.kind == "O":
        return _of_objects(name, array, values)
    what = "; fo.data.LabelEncoder().fit_transform({0}) makes labels of names" if array.dtype.kind in "UST" else ""
    what = "; {0}.real and {0}.imag are" if array.dtype.kind == "c" else what
    raise TypeError(f"{name} must hold real numbers, not {array.dtype}{what.format(name)}")


def as_array(name: str, values: Any) -> np.ndarray:
    """``values`` as an array of anything, the same if it is one.

    Raises
    ------
    TypeError, ValueError
        If something would be lost of them, or they make no array.
    """
    not_masked(name, values)
    if _is_sparse(values):
        raise TypeError(
            f"{name} is a sparse {type(values).__name__}: {name}.toarray() makes an array of it, of a batch at a time"
            " where all of it would be too large"
        )
    if isinstance(values, (list, tuple)):
        _check_parts(name, values)
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{name} makes no array: {error}") from error
    except (TypeError, RuntimeError) as error:  # tensors on another device, or that require a gradient
        raise TypeError(f"{name} makes no array: {error}") from error


def converted(array: np.ndarray, dtype: Any) -> np.ndarray:
    """``array`` in another type, or itself: what overflows is inf, whatever the caller's ``np.errstate``."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def mapped_as_array(x: Any) -> Any:
    """``x``, of which a memory map becomes the array that it is."""
    return x.view(np.ndarray) if type(x) is np.memmap else x


def plain_array(name: str, x: Any, dtype: Any = np.float32) -> np.ndarray:
    """``x``, or the array that a memory map is; other classes may mean something else, or say another shape."""
    if type(x) is not np.ndarray and type(x) is not np.memmap:
        raise TypeError(f"{name} must be a plain numpy.ndarray, not {type(x).__name__}{way_to_array(name, x, dtype)}")
    return mapped_as_array(x)


def way_to_array(name: str, x: Any, dtype: Any = np.float32) -> str:
    """What makes an array of ``x``, of this dtype if it has none, at the end of a message."""
    if isinstance(x, np.ma.MaskedArray):
        return f": {name}.filled(value) makes one of it"
    if isinstance(x, np.ndarray):
        return f": np.asarray({name}) is one"
    if _is_sparse(x):
        return f": {name}.toarray() makes one of it"
    if isinstance(x, (list, tuple)) or (hasattr(x, "__array__") and not isinstance(x, np.generic)):
        return f": np.asarray({name}, np.{np.dtype(dtype)}) makes one of it"
    return ""


def refuse_not_finite(name: str, block: np.ndarray, begin: int, values: Any) -> NoReturn:
    """Say where ``block``, ``values`` from the row ``begin`` on in the type that is wanted, is first not finite."""
    place = np.unravel_index(int(np.isfinite(block).argmin()), block.shape)
    where = f"first in row {begin + place[0]}"
    if hasattr(values, "columns") and block.ndim == 2:
        where += f", of column {values.columns[place[1]]!r}"
    way = ""
    if np.isnan(block[place]):
        way = ": leave such rows out, or fill in values"
        way += ", as .fillna(value) does" if hasattr(values, "fillna") else ""
    raise ValueError(f"{name} holds NaN or infinity (as {block.dtype}), {where}{way}")


def _is_sparse(values: Any) -> bool:
    return hasattr(values, "toarray") and hasattr(values, "nnz")


def _has_types_of_its_own(values: Any) -> bool:
    """Whether a frame or a column has a type that is not NumPy's, of which missing values become NaN."""
    if not hasattr(values, "isna"):
        return False
    dtypes = values.dtypes if hasattr(values, "columns") else [values.dtype]
    return any(not isinstance(dtype, np.dtype) for dtype in dtypes)


def _check_parts(name: str, values: list[Any] | tuple[Any, ...], depth: int = 0) -> None:
    """Refuse what NumPy would take for something else where it stands in a list."""
    for value in values:
        if isinstance(value, (list, tuple)):
            if depth < 64:  # deeper than any array
                _check_parts(name, value, depth + 1)
        elif isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name} has a part that is a masked array, and its mask would be lost: fill in its values")
        elif _is_sparse(value):
            raise TypeError(
                f"{name} has a part that is a sparse {type(value).__name__}: toarray() makes an array of it"
            )


def all_are_numbers(array: np.ndarray) -> bool:
    """Whether every object of an array is a real number."""
    return all(map(_is_real, set(map(type, array.flat))))


def _is_real(kind: type) -> bool:
    if issubclass(kind, (Real, np.bool_)):
        return True
    return issubclass(kind, Number) and not issubclass(kind, Complex)  # decimal.Decimal


def _of_objects(name: str, array: np.ndarray, values: Any) -> np.ndarray:
    kinds = set(map(type, array.flat))
    if kinds and all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return array.astype(bool)
    try:
        if kinds and all(issubclass(kind, (int, np.integer, np.bool_)) for kind in kinds):
            try:
                return array.astype(np.int64)
            except OverflowError:
                return array.astype(np.float64)
        if all(map(_is_real, kinds)):
            return array.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} holds a whole number beyond the range of float64") from error
    place, value = next((i, v) for i, v in enumerate(array.flat) if not _is_real(type(v)))
    what = _what_is_wrong(array, place, value, values)
    raise TypeError(f"{name} must hold real numbers, not {array.dtype}: {what}")


def _what_is_wrong(array: np.ndarray, place: int, value: Any, values: Any) -> str:
    """Where the object is that is no number, what it is, and what to do about it."""
    where = f"in row {np.unravel_index(place, array.shape)[0]}" if array.ndim else "instead of an array"
    columns = list(values.columns) if hasattr(values, "columns") and array.ndim == 2 else None
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        column = (
            "" if columns is None else f" (of column {columns[place % len(columns)]!r}: .fillna(value) fills it in)"
        )
        return f"{where} a value is missing: fill it in, or leave such rows out{column}"
    column = "" if columns is None else f", of column {columns[place % len(columns)]!r}: leave it out, or encode it"
    labels = "; fo.data.LabelEncoder().fit_transform(...) makes labels of names"
    return f"{where} there is {_short(value)}{labels if isinstance(value, str) and array.ndim == 1 else column}"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 and "\n" not in shown else f"a {type(value).__name__}"
