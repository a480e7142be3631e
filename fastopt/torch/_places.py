"""One parameter and its state, as the kernels work on them."""

from collections.abc import Mapping
from operator import is_
from typing import Any

import torch

from .._specification.rules import RULES, state_shape
from .._specification.state_formats import BFLOAT16, COMPENSATION, Stored
from . import _formats as formats
from ._kinds import Kind
from ._tensors import alike, dense, like, local, real_of

Options = Mapping[str, Any]


class Place:
    """Made once, and kept for as long as parameter and state are the same tensors in the same memory."""

    def __init__(
        self,
        kind: Kind,
        rule: str,
        group: Options,
        h: Options,
        param: torch.Tensor,
        found: Any,
        name: str,
        position: int,
    ):
        self.kind, self.rule, self.param, self.name = kind, rule, param, name
        self.form, self._position = formats.form_of(h), position  # of its first element among those of all
        self.form.refuse(f"parameter {name}", param)
        self.pending: dict[str, torch.Tensor] = {}  # what begins with the step, or takes another's place
        self._instead: dict[str, torch.Tensor] = {}  # of these, what takes another's place
        self.stale: list[str] = []  # what goes then
        self.is_shard = hasattr(param, "to_local")
        own = local(param.detach()) if self.is_shard else param
        fits = own.is_contiguous() if RULES[rule].of_tensor else True
        self.source = None if fits and dense(own) else own.detach()  # is computed elsewhere
        form = torch.preserve_format if fits else torch.contiguous_format
        self.work = own if self.source is None else torch.empty_like(self.source, memory_format=form)
        found = found or {}
        keys = RULES[rule].states
        self.fresh = not kind.numbers and not any(formats.names_in(found, key) for key in keys)
        self.draws = self.form.rounds_by_chance(param) or (
            self.form.is_random and any(self.form.kind(key, param) is not None for key in keys)
        )
        # of random bits every step has others; where PyTorch counts no steps, they are counted for that
        numbers = kind.numbers or (("step",) if self.draws else ())
        self.numbers = [self._number(key, group, found.get(key)) for key in numbers]
        kept = [self._state(key, h, found) for key in keys]
        self.states = [tensor for state in kept for tensor in state.tensors()]
        rest = self._compensation(found)
        self.states += [] if rest is None else [rest]
        param_array = formats.parameter(self.work, rest, self.form, position)
        self.flat = param_array, [s.array(self.form, k, position) for k, s in enumerate(kept)]
        self._hold(found)

    def _hold(self, found: Any) -> None:
        self._found = list(found.values())
        self._look = _look(self)

    def arrays(self) -> tuple[Any, list[Any]]:
        """Parameter and states, as the plan of the next steps takes them."""
        param, states = self.flat
        done = int(self.numbers[0].item()) if self.draws else 0
        param, *states = (s._replace(before=done) if isinstance(s, Stored) else s for s in (param, *states))
        return param, states

    def holds(self, rule: str, h: Options, param: torch.Tensor, found: Any, position: int) -> bool:
        """Whether all is as it was."""
        values = (found or {}).values()
        same = rule == self.rule and param is self.param and len(values) == len(self._found)
        same = same and formats.form_of(h) == self.form and (position == self._position or not self.draws)
        return same and all(map(is_, values, self._found)) and _look(self) == self._look

    def begin(self, state: Any) -> None:
        """A step was done: what was pending is the state's."""
        own = state[self.param]
        own.update(self.pending)
        for name in self.stale:
            own.pop(name, None)
        self.pending, self.stale, self.fresh = {}, [], False
        self._hold(own)

    def converted(self, found: Any) -> dict[str, Any]:
        """What was found, in the format that the state now has, and nothing that was not there."""
        return {**{name: value for name, value in found.items() if name not in self.stale}, **self._instead}

    def _number(self, key: str, group: Options, given: Any) -> torch.Tensor:
        first = self.kind.first(group, key)
        number = first if given is None else given
        if not isinstance(number, torch.Tensor) or number.dtype != first.dtype:  # loading makes it the parameter's type
            first.fill_(float(number))
            loses = getattr(number, "dtype", None) == torch.float64 and first.item() != float(number)
            number = number if loses else first
        if number is not given:
            self.pending[key] = number
        return number

    def _compensation(self, found: Any) -> torch.Tensor | None:
        """What rounding to nearest has cut off from the parameter, if that is to be kept."""
        given = found.get(COMPENSATION)
        if self.param.dtype != torch.bfloat16 or self.form.of_param != "kahan":
            self.stale += [] if given is None else [COMPENSATION]
            return None
        if given is None:
            rest = torch.zeros_like(self.param if self.is_shard else self.work, requires_grad=False)
        elif given.shape != self.param.shape:
            raise ValueError(
                f"{COMPENSATION} of parameter {self.name} has shape {given.shape}, it should be {self.param.shape}"
            )
        elif alike(local(given), self.work):
            rest = given
        else:
            rest = like(self.work, given)
        if rest is not given:
            self.pending[COMPENSATION] = rest
            if given is not None:
                self._instead[COMPENSATION] = rest
        return local(rest)

    def _state(self, key: str, h: Options, found: Any) -> formats.Kept:
        kept = self._found_state(key, h, found)
        named = kept.named(key)
        new = {name: tensor for name, tensor in named.items() if found.get(name) is not tensor}
        self.pending.update(new)
        if there := formats.names_in(found, key):
            self._instead.update(new)
            self.stale += [name for name in there if name not in named]
        return kept._replace(tensor=local(kept.tensor)) if self.is_shard else kept

    def _found_state(self, key: str, h: Options, found: Any) -> formats.Kept:
        """One state as it will stand in the optimizer's: what is found, as it is if it can be."""
        shape, kind = state_shape(key, self.param.shape), self.form.kind(key, self.param)
        what = f"{key} of parameter {self.name}"
        if not formats.names_in(found, key):
            return self._new_state(shape, kind, self.kind.ours.initial_state(h, key))
        if coded := formats.of_8bit(found, key, shape, what):
            if coded.kind == kind and alike(coded.tensor, self.work, torch.uint8):
                return coded
            given = formats.numbers_of(coded)
        else:
            given = found[key]
        if given.shape != shape:
            raise ValueError(f"{what} has shape {given.shape}, it should be {shape}")
        own, like_param = local(given) if self.is_shard else given, shape == self.param.shape
        if not like_param:
            if not (own.dtype == real_of(self.work) and own.is_contiguous() and dense(own)):
                own = own.detach().to(real_of(self.work), copy=True).contiguous()
            return formats.Kept(own)
        wanted = real_of(self.work) if kind is None else torch.bfloat16 if kind == BFLOAT16 else None
        if wanted and alike(own, self.work, wanted):
            return formats.Kept(given, kind)
        if self.is_shard and not alike(own, self.work, own.dtype):
            raise ValueError(f"{what} is laid out otherwise than the parameter, in shards")
        if kind is not None:
            return formats.stored(kind, key, given, self.work, what)
        real = real_of(self.work)
        return formats.Kept(given.to(real) if self.is_shard else like(self.work, given, real))

    def _new_state(self, shape: Any, kind: int | None, fill: float) -> formats.Kept:
        if shape != self.param.shape:
            return formats.Kept(self.param.new_full(shape, fill, dtype=real_of(self.param), requires_grad=False))
        like_this = self.param if self.is_shard else self.work
        return formats.full(kind, fill, like_this)

    def gradient(self) -> Any:
        """The parameter's gradient, its elements in the order of the parameter's: itself, or a copy, or None."""
        grad, work = self.param.grad, self.work
        if grad is None or (type(grad) is torch.Tensor and alike(grad, work)):
            return grad
        if grad.layout != torch.strided:
            raise RuntimeError(
                f"{self.kind.name} of fastopt.torch does not support sparse gradients, as parameter {self.name} has"
            )
        if (own := local(grad)).shape != work.shape:
            raise ValueError(
                f"the gradient of parameter {self.name} has shape {grad.shape}, the parameter {self.param.shape}"
            )
        own = own if type(own) is torch.Tensor else own.detach().as_subclass(torch.Tensor)
        return own if alike(own, work) else like(work, own)

    def has_moved(self) -> bool:
        """Whether another tensor has become this process's part."""
        return self.is_shard and local(self.param.detach()).data_ptr() != self.work.data_ptr()


def _look(place: Place) -> list[Any]:
    looks: list[Any] = [t.data_ptr() for t in (place.work, *place.states, *place.numbers)]
    if place.source is not None:
        looks += place.source.data_ptr(), place.param.data_ptr()
    return [*looks, place.work.shape, place.param.shape, place.param.stride(), place.param.dtype]
