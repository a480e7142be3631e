"""The arrays an optimizer works on: their names, their addresses, and what is wrong with them."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from weakref import ref

import numpy as np


def named_arrays(arrays: Any, what: str) -> Iterator[tuple[str, Any]]:
    if isinstance(arrays, Mapping):
        yield from ((str(name), array) for name, array in arrays.items())
    elif isinstance(arrays, (list, tuple)):
        yield from ((str(i), array) for i, array in enumerate(arrays))
    elif isinstance(arrays, np.ndarray):
        yield "0", arrays
    else:
        raise TypeError(f"{what} must be an array, or a list or dict of arrays, not {type(arrays).__name__}")


def span(x: np.ndarray) -> tuple[int, int]:
    """The addresses from the first byte of a contiguous array to behind its last."""
    first = x.__array_interface__["data"][0]
    return first, first + x.nbytes


def check_array(what: str, name: str, array: Any) -> None:
    """Refuse what is not an array of float32 or float64."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} {name!r} must be a numpy.ndarray, not {type(array).__name__}")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{what} {name!r} must be float32 or float64, not {array.dtype}")


def check_writeable(what: str, name: str, array: np.ndarray) -> None:
    """Refuse an array that cannot be updated in place."""
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{what} {name!r} must be C-contiguous to be updated in place;"
            f" its shape is {array.shape}, its strides are {array.strides}"
        )
    if not array.flags.writeable:
        raise ValueError(f"{what} {name!r} is read-only, and would be updated in place")


def check_disjoint(spans: list[tuple[int, int, str]]) -> None:
    for (_, end, name), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise ValueError(
                f"parameters {name!r} and {other!r} overlap in memory: each element can be updated only once"
            )


def hold(array: np.ndarray) -> tuple[Any, ...]:
    """What keeps an array's memory where it is for as long as it is kept.

    NumPy refuses to resize an array in place that has weak references, even with ``refcheck=False``. A view's memory is
    that of its base.
    """
    return (ref(array), ref(array.base)) if isinstance(array.base, np.ndarray) else (ref(array),)


def state_like(param: np.ndarray, fill: float) -> np.ndarray:
    """A new array like ``param``, in phase with it: the same address modulo a cache line."""
    buffer = np.zeros(param.nbytes + 64, np.uint8)
    start = (span(param)[0] - span(buffer)[0]) % 64
    state = buffer[start : start + param.nbytes].view(param.dtype).reshape(param.shape)
    if fill:
        state.fill(fill)
    return state


def same_arrays(now: list[Any], before: list[Any], single: list[int]) -> bool:
    """Whether two lists hold the very same arrays; ``single`` are the places of those with one element or none.

    List equality tries identity first, element by element, in C: a quarter of the time of ``all(map(is_, ...))``.
    Only two different arrays of one element can pass for equal in it. Others have no truth value and raise; those in
    the first place are told apart beforehand, so that fresh gradients are not compared number by number.
    """
    if len(now) != len(before) or (now and now[0] is not before[0]):
        return False
    try:
        if now != before:
            return False
    except Exception:
        return False
    for i in single:  # noqa: SIM110 - all() takes several times as long
        if now[i] is not before[i]:
            return False
    return True
