"""What a step works on, and a plan of it for any backend."""

from array import array
from operator import is_
from typing import Any, NamedTuple

import torch

from .. import _backends
from .._backends.numpy import State, codes_of_all
from ._interface import INTERFACE, look
from ._tensors import dense, flat, layout


class Tensors(NamedTuple):
    """All that a step works on; behind the parameters stand the states of each, in order."""

    objects: tuple[torch.Tensor, ...]  # what the optimizer's groups hold
    params: list[torch.Tensor]
    states: list[list[torch.Tensor]]
    counters: list[torch.Tensor]  # numbers in tensors that each step sets ...
    arrays: list[tuple[State, list[State]]]  # parameters and states as a plan takes them
    rules: list[str]
    groups: list[int]
    places: list[int]  # ... and where in `before` and `after` each has its own
    before: "array[float]"
    after: "array[float]"

    @property
    def written(self) -> list[torch.Tensor]:
        return [*self.params, *(state for states in self.states for state in states), *self.counters]

    def plan(self) -> Any:
        """What the backend in use makes of it."""
        params, states = [param for param, _ in self.arrays], [state for _, state in self.arrays]
        backend = _backends.active
        if INTERFACE is not None and backend.__name__.endswith(".c") and (seen := look(self.written)) is not None:
            from ._core_plan import CorePlan  # there is a core

            return CorePlan(self, seen, self.rules, params, states, self.groups)
        return Portable(self, backend.Plan(self.rules, params, states, self.groups))


class Portable:
    """Any backend's plan, and the same looks in Python."""

    now: Any  # the gradients of this step, which the core's plan wants to know
    tells = False  # whether it tells autograd that parameters were changed

    def __init__(self, tensors: Tensors, plan: Any):
        self._tensors, self._plan = tensors, plan
        self._params = codes_of_all(param for param, _ in tensors.arrays)
        self._seen = list(map(_look, tensors.written))
        self.steps = plan.counts.item  # of 0: how many have been done

    def _fits(self, params: tuple[Any, ...], grads: tuple[Any, ...]) -> bool:
        t = self._tensors
        return (
            all(map(is_, params, t.objects))
            and list(map(_look, t.written)) == self._seen
            and all(number.item() == t.before[i] for number, i in zip(t.counters, t.places, strict=True))
            and all(type(g) is torch.Tensor and g.layout == torch.strided and dense(g) for g in grads)
            and all(layout(g) == layout(p) for g, p in zip(grads, t.params, strict=True))
        )

    def update(
        self,
        scalars: Any,
        check: bool | None,
        factors: Any,
        norm: float,
        params: tuple[Any, ...],
        grads: tuple[Any, ...],
    ) -> bool | None:
        if not self._fits(params, grads):
            return None
        self._plan.bind_all(list(map(flat, grads)))
        return self._plan.update(scalars, check, factors, norm)

    def count(self) -> None:
        """A step was done: set the counters."""
        for number, i in zip(self._tensors.counters, self._tensors.places, strict=True):
            number.fill_(self._tensors.after[i])
        self._tensors.before[:] = self._tensors.after

    def grad_square_sums(self, params: tuple[Any, ...], grads: tuple[Any, ...]) -> list[float] | None:
        if not self._fits(params, grads):
            return None
        self._plan.bind_all(list(map(flat, grads)))
        return self._plan.grad_square_sums()

    def release(self) -> None:
        """Keep no gradients alive."""
        self.now = None
        self._plan.bind_all(self._params)


def _look(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), layout(tensor)
