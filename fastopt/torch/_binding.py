"""The tensors of an optimizer that have gradients, bound to a plan: what stays from step to step."""

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import torch

from .._specification.rules import RULES
from ._kinds import Kind, elementwise
from ._plans import Tensors
from ._tensors import dense, layout, like, local, refuse_overlap

_grad, _params, _NO_LIMIT = attrgetter("grad"), itemgetter("params"), float("inf")
Groups = Sequence[Mapping[str, Any]]


class Cohort:
    """Tensors of one group that have come equally far, and so share their scalars."""

    def __init__(self, group: int, rule: str, numbers: Sequence[torch.Tensor], fresh: bool):
        self.group, self.rule, self.adapts = group, rule, not elementwise(rule)
        self.reals = [np.float64 if number.dtype == torch.float64 else np.float32 for number in numbers]
        # the number of the next step, counted from 1; where no steps are counted, 1 or more than that
        self.t = int(numbers[0].item()) + 1 if numbers else 1 if fresh else 2


class Binding:
    def __init__(self, kind: Kind, groups: Groups, state: Mapping[Any, Any], awkward: set[int]):
        self.kind = kind
        self._lists = [group["params"] for group in groups]
        self._lengths = list(map(len, self._lists))
        self._seen: list[dict[str, Any] | None] = [None] * len(groups)
        self.h = list(map(kind.hyperparameters, groups))
        self._rules = [kind.ours.rule(h) for h in self.h]
        self.params: list[torch.Tensor] = []
        self.names: list[str] = []
        self._absent: list[torch.Tensor] = []
        self._work: list[torch.Tensor] = []  # what the kernels write to
        self._shadows: list[tuple[torch.Tensor, torch.Tensor]] = []  # with gaps, and what they are computed in
        self._shards: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._pending: list[tuple[torch.Tensor, str, torch.Tensor]] = []  # states that begin with this step
        self.cohorts: list[Cohort] = []
        self._before = array("d")  # the numbers of every cohort's states, and what this step makes of them
        self.plan: Any = None
        states: list[list[torch.Tensor]] = []
        members: list[int] = []
        counters: list[torch.Tensor] = []
        cohorts: dict[Any, int] = {}
        for g, group in enumerate(groups):
            for i, param in enumerate(group["params"]):
                if param.grad is None:
                    self._absent.append(param)
                    continue
                name = group["param_names"][i] if "param_names" in group else f"{i} of group {g}"
                self.names.append(name)
                self.params.append(param)
                self._work.append(self._workplace(param, name))
                found = state.get(param) or {}
                numbers = self._numbers(group, param, found)
                states.append(self._states(g, param, name, found))
                fresh = not numbers and all(found.get(key) is None for key in RULES[self._rules[g]].states)
                values = [(number.item(), number.dtype) for number in numbers]
                members.append(cohorts.setdefault((g, fresh, *values), len(cohorts)))
                if len(cohorts) > len(self.cohorts):
                    self.cohorts.append(Cohort(g, self._rules[g], numbers, fresh))
                    self._before.extend(value for value, _ in values)
                counters += numbers
        if not self.params:
            return
        named = [(f"parameter {n}", p) for n, p in zip(self.names, self._work, strict=True)]
        named += [(f"state of parameter {n}", s) for n, of in zip(self.names, states, strict=True) for s in of]
        refuse_overlap(named)
        count, self._after = len(kind.numbers), self._before[:]
        tensors = Tensors(
            objects=tuple(chain.from_iterable(self._lists)),
            params=self._work,
            states=states,
            rules=[cohort.rule for cohort in self.cohorts],
            groups=members,
            counters=counters,
            places=[member * count + k for member in members for k in range(count)],
            before=self._before,
            after=self._after,
        )
        self._count = len(tensors.objects)
        self._awkward = {
            i for i in range(len(self.params)) if i in awkward or self._conforming(i) is not self.params[i].grad
        }
        self.plan = tensors.plan()

    # -- what the kernels work on --

    def _workplace(self, param: torch.Tensor, name: str) -> torch.Tensor:
        own = local(param.detach())
        if own is not param and hasattr(param, "to_local"):
            self._shards.append((param, own))
        if dense(own):
            return own if hasattr(param, "to_local") else param
        work = torch.empty_like(own)
        self._shadows.append((own, work))
        return work

    def _states(self, g: int, param: torch.Tensor, name: str, found: Mapping[str, Any]) -> list[torch.Tensor]:
        work, states = self._work[-1], []
        for key in RULES[self._rules[g]].states:
            given = found.get(key)
            if given is None:
                fill = self.kind.ours.initial_state(self.h[g], key)
                given = torch.full_like(param, fill, requires_grad=False, memory_format=torch.preserve_format)
                self._pending.append((param, key, given))
            elif given.shape != param.shape:
                raise ValueError(f"{key} of parameter {name} has shape {given.shape}, the parameter {param.shape}")
            own = local(given)
            if layout(own) != layout(work) or not dense(own):
                if own is not given:
                    raise ValueError(f"{key} of parameter {name} is laid out otherwise than the parameter, in shards")
                own = like(work, given)
                self._pending.append((param, key, own))
            states.append(own)
        return states

    def _numbers(self, group: Mapping[str, Any], param: torch.Tensor, found: Mapping[str, Any]) -> list[torch.Tensor]:
        numbers = []
        for name in self.kind.numbers:
            first = self.kind.first(group, name)
            number = found.get(name, first)
            if not isinstance(number, torch.Tensor) or number.dtype != first.dtype:
                # loading makes them the parameter's type
                value, wide = float(number), isinstance(number, torch.Tensor) and number.dtype == torch.float64
                number = first.fill_(value) if first.fill_(value).item() == value or not wide else number
            if number is not found.get(name):
                self._pending.append((param, name, number))
            numbers.append(number)
        return numbers

    def _conforming(self, i: int) -> Any:
        """The gradient of parameter i, its elements in the order of the parameter's; a copy, if need be."""
        grad, work = self.params[i].grad, self._work[i]
        if grad is None:
            return None
        if grad.layout != torch.strided:
            raise RuntimeError(
                f"{self.kind.name} of fastopt.torch does not support sparse gradients, as parameter {self.names[i]} has"
            )
        if (own := local(grad)).shape != work.shape:
            raise ValueError(
                f"the gradient of parameter {self.names[i]} has shape {grad.shape}, the parameter {work.shape}"
            )
        own = own if type(own) is torch.Tensor else own.detach().as_subclass(torch.Tensor)
        return own if layout(own) == layout(work) and dense(own) else like(work, own)

    # -- a step --

    def current(self, groups: Groups) -> bool:
        """Whether these are still the groups' parameters, and those that have gradients; takes over hyperparameters."""
        if len(groups) != len(self._lists):
            return False
        for g, group in enumerate(groups):
            params = group["params"]
            if params is not self._lists[g] or len(params) != self._lengths[g]:
                return False
            if not _same(group, self._seen[g]):
                self.h[g] = self.kind.hyperparameters(group)
                if self.kind.ours.rule(self.h[g]) != self._rules[g]:
                    return False
                options = (value for name, value in group.items() if name != "params")
                moving = any(isinstance(v, torch.Tensor) for value in options for v in _each(value))
                self._seen[g] = None if moving else dict(group)
        if self._absent and any(param.grad is not None for param in self._absent):
            return False
        return not self._shards or all(local(param.detach()) is own for param, own in self._shards)

    def awkward(self) -> set[int]:
        return self._awkward if self.plan else set()

    def tensors(self, groups: Groups) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The parameters of all groups, and the gradients of those that are bound, for `plan` to look at."""
        params = tuple(chain.from_iterable(map(_params, groups)))
        grads = tuple(map(_grad, self.params))
        if self._awkward:
            grads = tuple(self._conforming(i) if i in self._awkward else grad for i, grad in enumerate(grads))
        return params, grads

    def scalars(self, scale: float) -> list[tuple[float, ...]]:
        """Those of every cohort for the next step, which `done` ends."""
        finished, of, count = [], self.kind.ours._finished, len(self.kind.numbers)
        for i, cohort in enumerate(self.cohorts):
            h, t = self.h[cohort.group], cohort.t
            if count:
                first, end = i * count, (i + 1) * count
                then = self.kind.after(h, self._before[first:end], cohort.reals, t)
                self._after[first:end] = array("d", then)
                if count > 1:
                    h = {**h, "product": then[1]}
            finished.append(of(cohort.rule, cohort.adapts, h, t, scale, _NO_LIMIT))
        return finished

    def enter(self) -> None:
        for own, work in self._shadows:
            work.copy_(own)

    def done(self, state: Any) -> None:
        """What follows from a step that was done."""
        for own, work in self._shadows:
            own.copy_(work)
        for cohort in self.cohorts:
            cohort.t += 1
        for param, key, tensor in self._pending:
            state[param][key] = tensor
        self._pending.clear()
        torch.autograd.graph.increment_version(self.params)


def _each(values: Any) -> Any:
    return values if isinstance(values, (tuple, list)) else (values,)


def _same(group: Any, seen: Any) -> bool:
    try:
        return bool(group == seen)
    except Exception:  # of something that cannot be compared
        return False
