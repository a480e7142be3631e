"""States in fewer bytes, seen as arrays of float32."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._backends.environment import isolated
from .._moving import change_all
from .._specification.rules import SIGNED as MAY_BE_NEGATIVE
from .._specification.rules import flush
from .._specification.state_formats import (
    BFLOAT16,
    BLOCK,
    COMPENSATION,
    LEAST,
    MOMENTS,
    PARAMETER,
    SIGNED,
    UNSIGNED,
    Stored,
    codes_of,
    is_bfloat16,
)
from .tensors import state_like


class StateArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An optimizer's state of 16 or 8 bits an element, as `Optimizer.state` gives it: an array of float32 to look at.

    Reading decodes it into a new array; writing, ``state[...] = values``, encodes what has changed, rounded to nearest
    (with 8 bits: of the blocks of 256 elements that have changed).

    Attributes
    ----------
    shape, dtype, ndim, size
        Those of the array of float32.
    nbytes : int
        The bytes that it takes.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, stored: Stored, signed: bool):
        self._stored, self._signed = stored, signed

    shape = property(lambda self: self._stored.codes.shape)
    ndim = property(lambda self: self._stored.codes.ndim)
    size = property(lambda self: self._stored.codes.size)
    nbytes = property(lambda self: sum(array.nbytes for array in self._stored.arrays()))

    def copy(self) -> np.ndarray:
        """The numbers in a new array."""
        return decoded(self._stored)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a state in fewer bytes cannot be seen as an array without a copy")
        now = self.copy()
        return now if dtype is None else now.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        inputs = tuple(x.copy() if isinstance(x, StateArray) else x for x in inputs)
        if out is None:
            return getattr(ufunc, method)(*inputs, **options)
        results = tuple(x.copy() if isinstance(x, StateArray) else x for x in out)
        given = getattr(ufunc, method)(*inputs, out=results, **options)
        for target, result in zip(out, results, strict=True):
            if isinstance(target, StateArray):
                target[...] = result
        return out[0] if len(out) == 1 else given

    def __getitem__(self, key: Any) -> Any:
        now = self.copy()
        now.flags.writeable = False  # what is written there would be lost
        return now[key]

    def __setitem__(self, key: Any, values: Any) -> None:
        before = self.copy()
        after = before.copy()
        after[key] = values
        changed = after.reshape(-1).view(np.uint32) != before.reshape(-1).view(np.uint32)
        checked("a state", after, self._signed)
        change_all(zip(self._stored.arrays(), [...] * 2, encoded(self._stored, after, changed).arrays(), strict=False))

    def __len__(self) -> int:
        return len(self._stored.codes)

    def __iter__(self) -> Any:
        return iter(self[...])

    def __float__(self) -> float:
        return float(self.copy())

    def __getattr__(self, name: str) -> Any:  # what else an array has to be read with: max, mean, reshape, ...
        if name.startswith("_"):
            raise AttributeError(name)
        now = self.copy()
        now.flags.writeable = False
        return getattr(now, name)

    def __repr__(self) -> str:
        return f"StateArray({self.copy()!r}, {self.nbytes} bytes)"


def checked(what: str, x: np.ndarray, signed: bool) -> None:
    """Refuse what no optimizer's state can be."""
    if not np.isfinite(x).all():
        raise ValueError(f"{what} holds inf or NaN")
    if not signed and (x < 0).any():
        raise ValueError(f"{what} holds a negative number, {x.min()}, and never is negative")


@isolated
def decoded(stored: Stored) -> np.ndarray:
    return stored.decoded()


@isolated
def encoded(stored: Stored, x: np.ndarray, changed: np.ndarray) -> Stored:
    """What stores these numbers, of which those that have not changed stay what they are."""
    new = stored.moved(np.asarray(flush(x)), None)
    size = changed.size
    if stored.scales is None or new.scales is None:
        return new._replace(codes=np.where(changed.reshape(x.shape), new.codes, stored.codes).reshape(x.shape))
    padded = np.zeros(-(-size // BLOCK) * BLOCK, bool)
    padded[:size] = changed
    of_block = padded.reshape(-1, BLOCK).any(axis=1)
    of_each = np.repeat(of_block, BLOCK)[:size].reshape(x.shape)
    return new._replace(
        codes=np.where(of_each, new.codes, stored.codes), scales=np.where(of_block, new.scales, stored.scales)
    )


def kind_of(form: str, key: str, is_like_param: bool, size: int) -> int | None:
    """How a state of a parameter of so many elements is stored in this format; None: as it is."""
    if form == "float32" or key not in MOMENTS or not is_like_param or (form == "8bit" and size < LEAST):
        return None
    if form == "bfloat16":
        return BFLOAT16
    return SIGNED if key in MAY_BE_NEGATIVE else UNSIGNED


@isolated
def encode(kind: int, x: np.ndarray) -> Stored:
    """Numbers stored as codes in new arrays, rounded to nearest."""
    return Stored(kind, x, None if kind == BFLOAT16 else x, None, 0, 0).moved(np.asarray(flush(x)), None)


def in_fewer_bytes(
    state: Mapping[str, np.ndarray], param: np.ndarray, h: Mapping[str, Any], position: int
) -> dict[str, np.ndarray | StateArray]:
    """A new state, its moments in the format that the group asks for, and the compensation of a parameter."""
    form = h.get("state_format", "float32")
    found: dict[str, np.ndarray | StateArray] = {}
    for stream, (key, array) in enumerate(state.items()):
        if (kind := kind_of(form, key, array.shape == param.shape, param.size)) is None:
            found[key] = array
            continue
        signed = key in MAY_BE_NEGATIVE
        seed = h["state_seed"] if h["state_rounding"] == "stochastic" else None
        if kind == BFLOAT16:
            codes, scales = state_like(param, 0, param.shape, np.uint16), None
        else:
            codes, scales = state_like(param, 0, param.shape, np.uint8), np.zeros(-(-param.size // BLOCK), np.float32)
        new = Stored(kind, codes, scales, seed, stream, position)
        first = encoded(new, array, np.ones(array.size, bool))
        for target, values in zip(new.arrays(), first.arrays(), strict=True):
            target[...] = values
        found[key] = StateArray(new, signed)
    if is_bfloat16(param.dtype) and h.get("param_rounding") == "kahan":
        codes = state_like(param, 0, param.shape, np.uint16)
        found[COMPENSATION] = StateArray(Stored(BFLOAT16, codes, None, None, PARAMETER, position), True)
    return found


def stored(state: Mapping[str, Any]) -> tuple[np.ndarray | Stored, ...]:
    """As a plan takes a state."""
    return tuple(s._stored if isinstance(s, StateArray) else s for key, s in state.items() if key != COMPENSATION)


def stored_parameter(
    param: np.ndarray, state: Mapping[str, Any], h: Mapping[str, Any], position: int
) -> np.ndarray | Stored:
    """As a plan takes a parameter."""
    if not is_bfloat16(param.dtype):
        return param
    seed = h.get("state_seed", 0) if h.get("param_rounding", "stochastic") == "stochastic" else None
    rest = state[COMPENSATION]._stored.codes if COMPENSATION in state else None
    return Stored(BFLOAT16, codes_of(param), None, seed, PARAMETER, position, rest=rest)


def delayed(states: tuple[np.ndarray | Stored, ...], missed: int) -> tuple[np.ndarray | Stored, ...]:
    """The same of a tensor that has missed so many of the steps that its plan counts."""
    return tuple(s._replace(before=-missed) if isinstance(s, Stored) else s for s in states)


def arrays_in(state: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """The arrays in which a state is kept, each with its key."""
    return [(key, a) for key, s in state.items() for a in (s._stored.arrays() if isinstance(s, StateArray) else (s,))]


# ---- what is saved ----------------------------------------------------------------------------------------------


def saved(state: Any) -> Any:
    """A copy of a state for a state dict: of an array, or of codes."""
    if not isinstance(state, StateArray):
        return state.copy()
    kept = state._stored
    if kept.scales is None:
        return {"format": "bfloat16", "codes": kept.codes.copy()}
    return {"format": "8bit", "codes": kept.codes.copy(), "scales": kept.scales.copy()}


def numbers_saved(what: str, given: Mapping[str, Any], shape: tuple[int, ...], signed: bool) -> Stored:
    """A saved state of fewer bytes, checked; or an error."""
    form = given.get("format")
    keys = {"bfloat16": {"format", "codes"}, "8bit": {"format", "codes", "scales"}}.get(form) if form else None
    if keys is None or given.keys() != keys:
        raise ValueError(f"{what} is of format {form!r} with {', '.join(map(str, given))}: no state of fewer bytes")
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {"codes": (np.uint16 if form == "bfloat16" else np.uint8, shape)}
    if form == "8bit":
        wanted["scales"] = np.float32, (-(-math.prod(shape) // BLOCK),)
    arrays = {}
    for key, (dtype, lengths) in wanted.items():
        if isinstance(given[key], np.ma.MaskedArray):
            raise TypeError(f"{key} of {what} is a masked array, whose mask would be lost")
        array = np.asarray(given[key])
        if array.dtype != dtype or array.shape != lengths:
            raise ValueError(
                f"{key} of {what} are {array.dtype} of shape {array.shape},"
                f" and should be {np.dtype(dtype)} of {lengths}"
            )
        arrays[key] = array.copy()
    kind = BFLOAT16 if form == "bfloat16" else SIGNED if signed else UNSIGNED
    scales = arrays.get("scales")
    if scales is not None and not ((scales >= 0) & np.isfinite(scales)).all():
        raise ValueError(f"scales of {what} hold a negative number, inf or NaN")
    return Stored(kind, arrays["codes"], scales, None, 0, 0)
