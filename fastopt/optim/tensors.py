"""The arrays an optimizer works on: their names, their addresses, and what is wrong with them."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from .._specification.state_formats import is_bfloat16


def named_arrays(arrays: Any, what: str) -> Iterator[tuple[str, Any]]:
    if isinstance(arrays, Mapping):
        yield from ((str(name), array) for name, array in arrays.items())
    elif isinstance(arrays, (list, tuple)):
        yield from ((str(i), array) for i, array in enumerate(arrays))
    elif isinstance(arrays, np.ndarray):
        yield "0", arrays
    else:
        hint = ""
        if isinstance(arrays, Iterator):
            hint = ": an iterator is used up after one pass, so give a list"
            hint += " (of PyTorch's parameters: {name: p.detach().numpy() for name, p in net.named_parameters()})"
        if callable(getattr(arrays, "parameters", None)):
            hint = ": give it model.parameters()" if what == "params" else ": give it model.gradients()"
        raise TypeError(f"{what} must be an array, or a list or dict of arrays, not {type(arrays).__name__}{hint}")


def plain(array: np.ndarray) -> np.ndarray:
    """The array as NumPy has it: a subclass may say otherwise of its shape, dtype or flags, or compute otherwise."""
    return array if type(array) is np.ndarray else np.ndarray.view(array, np.ndarray)


def span(x: np.ndarray) -> tuple[int, int]:
    """The addresses from the first byte of a contiguous array to behind its last."""
    x = plain(x)
    first = x.__array_interface__["data"][0]
    return first, first + x.nbytes


def check_array(what: str, name: str, array: Any, *, any_dtype: bool = False, bfloat16: bool = False) -> None:
    """Refuse what is not an array of float32 or float64 or, with ``bfloat16``, of that."""
    if not isinstance(array, np.ndarray):
        hint = " (a tensor of PyTorch shares its memory with tensor.detach().numpy())" if _of_torch(array) else ""
        raise TypeError(f"{what} {name!r} must be a numpy.ndarray, not {type(array).__name__}{hint}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what} {name!r} is a masked array, whose mask would be ignored: fill it, or give its data")
    dtype = plain(array).dtype
    if not (any_dtype or dtype in (np.float32, np.float64) or (bfloat16 and is_bfloat16(dtype))):
        raise TypeError(f"{what} {name!r} must be float32 or float64, not {dtype}")


def _of_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def check_writeable(what: str, name: str, array: np.ndarray) -> None:
    """Refuse an array that cannot be updated in place."""
    array = plain(array)
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{what} {name!r} must be C-contiguous to be updated in place;"
            f" its shape is {array.shape}, its strides are {array.strides}"
        )
    if not array.flags.aligned:
        raise ValueError(f"{what} {name!r} begins at an address that is no multiple of {array.itemsize} bytes")
    if not array.flags.writeable:
        hint = "; a model made anew of its layers has others: make the optimizer from its parameters()"
        hint = hint if what == "parameter" else ""
        raise ValueError(f"{what} {name!r} is read-only, and would be updated in place{hint}")


def readable(array: np.ndarray) -> np.ndarray:
    """The array, or a copy if it is not C-contiguous or not aligned."""
    return array if array.flags.c_contiguous and array.flags.aligned else np.array(array, order="C", subok=False)


def _bounds(array: np.ndarray) -> tuple[int, int]:
    """The addresses from the lowest byte of an array's elements to behind the highest."""
    array = plain(array)
    first = array.__array_interface__["data"][0]
    if not array.size:
        return first, first
    ends = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    return first + sum(end for end in ends if end < 0), first + sum(end for end in ends if end > 0) + array.itemsize


def check_within_base(what: str, name: str, array: np.ndarray) -> None:
    """Refuse a view of an array whose memory has been exchanged since, and so perhaps freed."""
    base = array.base
    if isinstance(base, np.ndarray) and array.size:
        (low, high), (begin, end) = _bounds(base), _bounds(array)
        if low == high or begin < low or end > high:
            raise ValueError(f"{what} {name!r} is a view of an array whose memory was exchanged or has moved")


def refuse_changed(what: str, name: str, array: np.ndarray, made_as: tuple[Any, tuple[int, ...], Any]) -> None:
    """Refuse an array that was changed in place, otherwise than in its elements, since an optimizer was made."""
    check_array(what, name, array, any_dtype=True)
    array = plain(array)
    memory, shape, dtype = made_as
    if (array.shape, array.dtype) != (shape, dtype):
        raise ValueError(
            f"{what} {name!r} was {dtype} of shape {shape} when the optimizer was made,"
            f" and is {array.dtype} of shape {array.shape} now"
        )
    check_writeable(what, name, array)
    if span(array) != memory:
        raise ValueError(f"{what} {name!r} has other memory than when the optimizer was made: make a new optimizer")
    check_within_base(what, name, array)


def check_disjoint(spans: list[tuple[int, int, str]]) -> None:
    for (_, end, name), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise ValueError(
                f"parameters {name!r} and {other!r} overlap in memory: each element can be updated only once"
            )


def state_like(param: np.ndarray, fill: float, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
    """A new array of ``param``'s type, or another, in phase with it: the same address modulo a cache line."""
    kind = param.dtype if dtype is None else np.dtype(dtype)
    buffer = np.zeros(math.prod(shape) * kind.itemsize + 64 + kind.itemsize, np.uint8)
    start = (span(param)[0] - span(buffer)[0]) % 64
    start -= (span(buffer)[0] + start) % kind.itemsize  # of wider elements than the parameter's
    # behind a memoryview: whoever has the state does not have the buffer, and cannot move or free it
    state: np.ndarray = np.ndarray(shape, kind, memoryview(buffer.data), start)
    if fill:
        state.fill(fill)
    return state
