"""States in fewer bytes as tensors: codes of 16 bits under the state's own name, or codes of 8 bits and scales."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from .._specification.rules import SIGNED as MAY_BE_NEGATIVE
from .._specification.rules import state_shape
from .._specification.state_formats import BFLOAT16, BLOCK, LEAST, PARAMETER, Stored
from ..optim.encoded import decoded, encode, kind_of
from ..optim.hyperparameters import FIXED
from ._tensors import dense, flat, in_order_of, local, real_of

CODES, _SCALES = "_codes", "_scales"  # behind the names of states of 8 bits
Found = Mapping[str, Any]


class Form(NamedTuple):
    """What a group asks for."""

    name: str = "float32"
    rounding: str = "stochastic"
    seed: int = 0
    of_param: str = "stochastic"  # how a parameter of bfloat16 is rounded

    @property
    def is_random(self) -> bool:
        """Whether states are rounded so."""
        return self.name == "bfloat16" and self.rounding == "stochastic"

    def rounds_by_chance(self, param: torch.Tensor) -> bool:
        return param.dtype == torch.bfloat16 and self.of_param == "stochastic"

    def kind(self, key: str, param: torch.Tensor) -> int | None:
        """How this state of a parameter is stored; None: as numbers of the parameter's type."""
        return kind_of(self.name, key, state_shape(key, param.shape) == param.shape, param.numel())

    def refuse(self, what: str, param: torch.Tensor) -> None:
        """Raise ValueError for a parameter whose state cannot be stored so."""
        if self.name != "float32" and param.dtype == torch.float64:
            raise ValueError(f"state_format={self.name!r} is for parameters of float32, and {what} is {param.dtype}")


PLAIN, _OPTIONS = Form(), ("state_format", "state_rounding", "state_seed", "param_rounding")


def form_of(h: Mapping[str, Any]) -> Form:
    """The one that hyperparameters ask for, checked: a group's can be changed at any time."""
    return _checked(*(h.get(name, usual) for name, usual in zip(_OPTIONS, PLAIN, strict=True)))


@cache
def _checked(*values: Any) -> Form:
    return Form(*(FIXED[name](name, value) for name, value in zip(_OPTIONS, values, strict=True)))


class Kept(NamedTuple):
    """One state as it is kept: numbers; or codes, of what kind, and their scales."""

    tensor: torch.Tensor
    kind: int | None = None
    scales: torch.Tensor | None = None

    def tensors(self) -> list[torch.Tensor]:
        return [self.tensor] if self.scales is None else [self.tensor, self.scales]

    def named(self, key: str) -> dict[str, torch.Tensor]:
        """What of it stands in the optimizer's state, by the names that it has there."""
        return {key: self.tensor} if self.scales is None else {key + CODES: self.tensor, key + _SCALES: self.scales}

    def array(self, form: Form, stream: int, position: int) -> np.ndarray | Stored:
        """As a plan takes it, in the same memory."""
        numbers = flat(self.tensor)
        if self.kind is None:
            return numbers
        scales = None if self.scales is None else self.scales.numpy()
        return Stored(self.kind, numbers, scales, form.seed if form.is_random else None, stream, position)


def parameter(work: torch.Tensor, rest: torch.Tensor | None, form: Form, position: int) -> np.ndarray | Stored:
    """A parameter as a plan takes it, and what rounding to bfloat16 has cut off."""
    numbers = flat(work)
    if work.dtype != torch.bfloat16:
        return numbers
    seed = form.seed if form.rounds_by_chance(work) else None
    return Stored(BFLOAT16, numbers, None, seed, PARAMETER, position, rest=None if rest is None else flat(rest))


def names_in(found: Found, key: str) -> list[str]:
    """Under which names there is something of a state."""
    return [name for name in (key, key + CODES, key + _SCALES) if found.get(name) is not None]


def full(kind: int | None, value: float, param: torch.Tensor) -> Kept:
    """A new state, all of whose numbers are the same."""
    if kind is None:
        return Kept(_new(param, real_of(param), value))
    one = _block_of(kind, value)
    if one.scales is None:
        return Kept(_new(param, torch.bfloat16, decoded(one)[0].item()), kind)
    scales = torch.full((_blocks(param),), one.scales[0].item(), dtype=torch.float32)
    return Kept(_new(param, torch.uint8, one.codes[0].item()), kind, scales)


@cache
def _block_of(kind: int, value: float) -> Stored:
    return encode(kind, np.full(BLOCK, value, np.float32))


def _new(param: torch.Tensor, dtype: torch.dtype, value: float) -> torch.Tensor:
    return torch.full_like(param, value, dtype=dtype, requires_grad=False, memory_format=torch.preserve_format)


def _blocks(tensor: torch.Tensor) -> int:
    return -(-tensor.numel() // BLOCK)


def of_8bit(found: Found, key: str, shape: Any, what: str) -> Kept | None:
    """The codes and scales that are found, if there are any and no numbers; loading may have made them float32."""
    codes, scales = found.get(key + CODES), found.get(key + _SCALES)
    if found.get(key) is not None or codes is None:
        return None
    for name, value in (("codes", codes), ("scales", scales)):
        if value is not None and not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} of {what} are {type(value).__name__}, they should be a tensor")
    if codes.shape != shape or not dense(codes):
        raise ValueError(f"codes of {what} have shape {codes.shape}, they should have {shape}, in one piece")
    if scales is None or scales.shape != (_blocks(codes),):
        has = "are not there" if scales is None else f"have shape {scales.shape}"
        raise ValueError(f"scales of {what} {has}, they should have {(_blocks(codes),)}")
    if codes.dtype != torch.uint8:
        if not torch.equal(whole := codes.to(torch.uint8), codes):
            raise ValueError(f"codes of {what} are not whole numbers from 0 to 255")
        codes = whole
    scales = scales.detach().to(torch.float32).contiguous()
    if (scales < 0).any():
        raise ValueError(f"scales of {what} hold a negative number")
    return Kept(codes.detach(), kind_of("8bit", key, True, LEAST), scales)


def numbers_of(kept: Kept) -> torch.Tensor:
    """The numbers that codes stand for, in their order."""
    numbers = torch.empty_like(kept.tensor, dtype=torch.float32)
    flat(numbers).reshape(-1)[:] = decoded(kept.array(PLAIN, 0, 0)).reshape(-1)
    return numbers


def stored(kind: int, key: str, numbers: torch.Tensor, work: torch.Tensor, what: str) -> Kept:
    """Numbers stored as codes that lie in the order of the parameter's elements, rounded to nearest."""
    own = in_order_of(work, local(numbers).detach().to(torch.float32))
    if key not in MAY_BE_NEGATIVE and (own < 0).any():
        raise ValueError(f"{what} holds a negative number, {own.min()}, and never is negative")
    new = encode(kind, flat(own).reshape(-1))
    if new.scales is None:
        codes = torch.empty_like(own, dtype=torch.bfloat16)
        if hasattr(numbers, "to_local"):  # of a shard
            codes = torch.empty_like(numbers, dtype=torch.bfloat16)
        flat(local(codes)).reshape(-1)[:] = new.codes
        return Kept(codes, kind)
    codes = torch.empty_like(own, dtype=torch.uint8)
    flat(codes).reshape(-1)[:] = new.codes
    return Kept(codes, kind, torch.from_numpy(new.scales))
