"""One parameter and its state, as the kernels work on them."""

from collections.abc import Mapping
from operator import is_
from typing import Any

import torch

from .._specification.rules import RULES, state_shape
from ._kinds import Kind
from ._tensors import alike, dense, flat, like, local

Options = Mapping[str, Any]


class Place:
    """Made once, and kept for as long as parameter and state are the same tensors in the same memory."""

    def __init__(self, kind: Kind, rule: str, group: Options, h: Options, param: torch.Tensor, found: Any, name: str):
        self.kind, self.rule, self.param, self.name = kind, rule, param, name
        self.pending: dict[str, torch.Tensor] = {}  # what begins with the step, or takes another's place
        self.is_shard = hasattr(param, "to_local")
        own = local(param.detach()) if self.is_shard else param
        fits = own.is_contiguous() if RULES[rule].of_tensor else True
        self.source = None if fits and dense(own) else own.detach()  # is computed elsewhere
        form = torch.preserve_format if fits else torch.contiguous_format
        self.work = own if self.source is None else torch.empty_like(self.source, memory_format=form)
        found = found or {}
        self.numbers = [self._number(key, group, found.get(key)) for key in kind.numbers]
        self.fresh = not self.numbers and all(found.get(key) is None for key in RULES[rule].states)
        self.states = [self._state(key, h, found.get(key)) for key in RULES[rule].states]
        self.flat = flat(self.work), list(map(flat, self.states))
        self._hold(found)

    def _hold(self, found: Any) -> None:
        self._found = list(found.values())
        self._look = _look(self)

    def holds(self, rule: str, param: torch.Tensor, found: Any) -> bool:
        """Whether all is as it was."""
        values = (found or {}).values()
        same = rule == self.rule and param is self.param and len(values) == len(self._found)
        return same and all(map(is_, values, self._found)) and _look(self) == self._look

    def begin(self, state: Any) -> None:
        """A step was done: what was pending is the state's."""
        state[self.param].update(self.pending)
        self.pending, self.fresh = {}, False
        self._hold(state[self.param])

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

    def _state(self, key: str, h: Options, given: Any) -> torch.Tensor:
        shape, fill = state_shape(key, self.param.shape), self.kind.ours.initial_state(h, key)
        like_param = shape == self.param.shape
        if given is None:
            if like_param:
                new = torch.full_like(self.param, fill, requires_grad=False, memory_format=torch.preserve_format)
            else:
                new = self.param.new_full(shape, fill, requires_grad=False)
            self.pending[key] = given = new
        elif given.shape != shape:
            raise ValueError(f"{key} of parameter {self.name} has shape {given.shape}, it should be {shape}")
        own = local(given) if self.is_shard else given
        if not like_param:
            if not (own.dtype == self.work.dtype and own.is_contiguous() and dense(own)):
                self.pending[key] = own = own.detach().to(self.work.dtype, copy=True).contiguous()
        elif not alike(own, self.work):
            if self.is_shard:
                raise ValueError(f"{key} of parameter {self.name} is laid out otherwise than the parameter, in shards")
            self.pending[key] = own = like(self.work, given)
        return own

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
