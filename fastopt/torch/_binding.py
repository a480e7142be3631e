"""The tensors of an optimizer that have gradients, bound to a plan: what stays from step to step."""

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from .._specification.rules import RULES
from ._formats import form_of
from ._kinds import EXACT, Kind
from ._places import Place
from ._plans import Tensors
from ._tensors import refuse, refuse_overlap

_grad, _params, _NO_LIMIT = attrgetter("grad"), itemgetter("params"), float("inf")
Groups = Sequence[Mapping[str, Any]]


class Cohort:
    """Tensors of one group and rule that have come equally far, and so share their scalars."""

    def __init__(self, group: int, place: Place, begin: int):
        self.group, self.rule, self.adapts = group, place.rule, RULES[place.rule].direction is not None
        self.reals = [np.float64 if number.dtype == torch.float64 else np.float32 for number in place.numbers]
        self.known: Mapping[str, Any] | None = None  # the hyperparameters that this is for:
        self.by_step: Any = None
        self.t = 1 if place.fresh else 2  # where no steps are counted: the number of the next, or any later one
        self.own = slice(begin, begin + len(place.numbers))  # its part of the numbers of all


class Binding:
    """The parameters that have gradients now; ``before`` is the binding in whose place it comes."""

    def __init__(self, kind: Kind, groups: Groups, state: Mapping[Any, Any], before: "Binding | None"):
        self.kind = kind
        self._lists = [group["params"] for group in groups]
        self._lengths = list(map(len, self._lists))
        self._seen: list[dict[str, Any] | None] = [None] * len(groups)
        self.h = list(map(kind.hyperparameters, groups))
        self._rules = [kind.ours.rule(h) for h in self.h]
        self._forms = list(map(form_of, self.h))
        self._absent: list[torch.Tensor] = []
        self._known: dict[int, Place] = {}  # those that have no gradient now, too
        self.places: list[Place] = []
        self.cohorts: list[Cohort] = []
        self._before = array("d")  # the numbers of every cohort's states, and what this step makes of them
        members: list[int] = []
        cohorts: dict[Any, int] = {}
        end = 0
        for g, group in enumerate(groups):
            for i, param in enumerate(group["params"]):
                position, end = end, end + param.numel()
                place = before._known.get(id(param)) if before else None
                if place:
                    self._known[id(param)] = place
                if param.grad is None:
                    self._absent.append(param)
                    continue
                rule = kind.ours.rule_of_tensor(self.h[g], param.shape)
                if not place or not place.holds(rule, self.h[g], param, state.get(param), position):
                    name = group["param_names"][i] if "param_names" in group else f"{i} of group {g}"
                    refuse(f"parameter {name}", param)
                    if hasattr(param, "to_local"):
                        kind.refuse_part(name, param, self.h[g], None)
                    place = Place(kind, rule, group, self.h[g], param, state.get(param), name, position)
                self._known[id(param)] = place
                self.places.append(place)
                values = [number.item() for number in place.numbers]
                member = cohorts.setdefault((g, rule, place.fresh, *values), len(cohorts))
                if member == len(self.cohorts):
                    self.cohorts.append(Cohort(g, place, len(self._before)))
                    self._before.extend(values)
                members.append(member)
        self.params = [place.param for place in self.places]
        self.count = sum(self._lengths)  # of all parameters
        self._shadows = [place for place in self.places if place.source is not None]
        self.shards = [place for place in self.places if place.is_shard]
        self._told_apart = bool(self._shadows or self.shards)  # what the plan writes to are other tensors
        self._begun = not any(place.pending or place.stale for place in self.places)
        # of those whose elements lie otherwise, and once did, copies are taken
        self._awkward = {i for i, place in enumerate(self.places) if place.gradient() is not place.param.grad}
        if before:
            others = {id(before.params[i]) for i in before._awkward}
            self._awkward |= {i for i, param in enumerate(self.params) if id(param) in others}
        self.plan: Any = self._plan(members) if self.places else None

    def _plan(self, members: list[int]) -> Any:
        named = [(f"parameter {place.name}", place.work) for place in self.places]
        named += [(f"state of parameter {place.name}", state) for place in self.places for state in place.states]
        refuse_overlap(named)
        self._after = self._before[:]
        tensors = Tensors(
            objects=tuple(chain.from_iterable(self._lists)),
            params=[place.work for place in self.places],
            states=[place.states for place in self.places],
            counters=[number for place in self.places for number in place.numbers],
            arrays=[place.arrays() for place in self.places],
            rules=[cohort.rule for cohort in self.cohorts],
            groups=members,
            places=[i for member in members for i in range(len(self._before))[self.cohorts[member].own]],
            before=self._before,
            after=self._after,
        )
        return tensors.plan()

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
                if self.kind.ours.rule(self.h[g]) != self._rules[g] or form_of(self.h[g]) != self._forms[g]:
                    return False
                options = (value for name, value in group.items() if name != "params")
                moving = any(isinstance(v, torch.Tensor) for value in options for v in _each(value))
                self._seen[g] = None if moving else dict(group)
        if self._absent and any(param.grad is not None for param in self._absent):
            return False
        return not any(place.has_moved() for place in self.shards)

    def tensors(self, groups: Groups) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The parameters of all groups, and the gradients of those that are bound, for `plan` to look at."""
        params = tuple(groups[0]["params"] if len(groups) == 1 else chain.from_iterable(map(_params, groups)))
        grads = tuple(map(_grad, self.params))
        if self._awkward:
            grads = tuple(self.places[i].gradient() if i in self._awkward else grad for i, grad in enumerate(grads))
        return params, grads

    def scalars(self, scale: float) -> list[tuple[float, ...]]:
        """Those of every cohort for the next step, which `done` ends."""
        finished, ours, counted = [], self.kind.ours, bool(self.kind.numbers)
        for cohort in self.cohorts:
            h, own = self.h[cohort.group], cohort.own
            t = int(self._before[own.start]) + 1 if cohort.reals else 0
            if len(cohort.reals) == 1 and t <= EXACT:
                self._after[own.start] = t
            elif t:
                then = self.kind.after(h, self._before[own], cohort.reals, t)
                self._after[own] = array("d", then)
                h = self.kind.known(h, self._before[own], then)
            t = t if counted else cohort.t
            if h is not cohort.known:
                cohort.by_step = ours.scalars_by_step(cohort.rule, h)
                cohort.known = h  # afterwards, whatever is raised before
            finished.append(ours.finished_scalars(cohort.by_step(t), cohort.adapts, h, scale, _NO_LIMIT))
        return finished

    def enter(self) -> None:
        """Before a step."""
        for place in self._shadows:
            place.work.copy_(place.source)

    def done(self, state: Any) -> None:
        """What follows from a step that was done; may be done again."""
        self.plan.count()
        for place in self._shadows:
            place.source.copy_(place.work)  # type: ignore[union-attr]
        for cohort in self.cohorts:
            cohort.t = 2
        if not self._begun:
            for place in self.places:
                place.begin(state)
            self._begun = True
        if not self.plan.tells or self._told_apart:
            increment_version(self.params)


def _each(values: Any) -> Any:
    return values if isinstance(values, (tuple, list)) else (values,)


def _same(group: Any, seen: Any) -> bool:
    try:
        return bool(group == seen)
    except Exception:  # of something that cannot be compared
        return False
