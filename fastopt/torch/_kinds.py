"""What fastopt's optimizers are in PyTorch's words: their arguments, and the numbers that stand in their state."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .. import optim
from .._specification.rules import RULES
from ..optim.averaging import rate_and_weight
from ..optim.hyperparameters import Group
from ..optim.momenta import mu
from ..optim.schedule_free import ScheduleFree, to_power, warmed_up
from ._formats import form_of

EXACT = 2**24  # a step count beyond is no float32
# What PyTorch leaves to another optimizer.
_NOT_HERE = {"Muon": {"use_muon", "betas"}}
_OF_FORMATS = {"state_format", "state_rounding"}
# The numbers in the state. PyTorch counts no steps of SGD: the first is that which finds no buffer.
_NUMBERS = {"SGD": (), "Muon": (), "NAdam": ("step", "mu_product"), "ASGD": ("step", "eta", "mu")}
_OF_A_MEAN = ("step", "weight_sum", "lr_max")  # what Schedule-Free optimizers sum up


class Kind:
    """One of fastopt's optimizers, and PyTorch's of the same name, if there is one."""

    def __init__(self, name: str):
        self.name, self.ours = name, getattr(optim, name)
        self.theirs = getattr(torch.optim, name, None)
        parameters = list(inspect.signature(self.ours.__init__).parameters.values())[2:]
        self.defaults = {p.name: p.default for p in parameters}
        shared = {} if self.theirs is None else dict(inspect.signature(self.theirs.__init__).parameters)
        known = {*shared, *_NOT_HERE.get(name, ())}
        self.options = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters if self.theirs and p.name not in known]
        given = [p for n, p in shared.items() if n not in ("self", "params", "kwargs")] or parameters
        self.parameters = [*given, *self.options]
        self.is_mean = issubclass(self.ours, ScheduleFree)
        self.numbers: tuple[str, ...] = _OF_A_MEAN if self.is_mean else _NUMBERS.get(name, ("step",))

    def hyperparameters(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a group, as fastopt knows them."""
        h = {name: _number(group[name]) if name in group else value for name, value in self.defaults.items()}
        if group.get("decoupled_weight_decay") and "weight_decay_mode" not in group:
            h["weight_decay_mode"] = "decoupled"
        return h

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise TypeError or ValueError for a value that an option of fastopt cannot have."""
        if group.get("differentiable"):
            raise ValueError("differentiable=True: a step of fastopt.torch cannot be differentiated")
        h = self.hyperparameters(group)
        for name, value in h.items():
            if callable(value):
                raise TypeError(
                    f"{name} must be a number, not {value!r}: schedules are torch.optim.lr_scheduler's here"
                )
        if unknown := (_OF_FORMATS & group.keys()) - self.defaults.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: {self.name} has no moments that could be stored so")
        given = {option.name for option in self.options} & group.keys()
        if self.theirs is None:
            Group(self.ours, [], h)
        elif given:  # the others are PyTorch's, who lets more through
            usual = Group(self.ours, [], self.defaults)
            for name in given:
                usual.checked(name, h[name])
        self.ours.rule(h)

    def refuse_part(self, name: str, param: Any, h: Mapping[str, Any], clip_norm: float | None) -> None:
        """Raise ValueError if it takes more than a part of a parameter to update that part."""
        whole = elementwise(self.ours.rule(h))
        if not whole or clip_norm is not None:
            raise ValueError(
                f"parameter {name} is a DTensor, of which this process has a part, and {self.name}"
                f"{' with clip_norm' if whole else ''} needs the whole: it works on plain tensors only"
            )
        form = form_of(h)
        if form.rounds_by_chance(param):
            raise ValueError(
                f"parameter {name} is a DTensor of bfloat16, of which this process has a part, and is rounded alike"
                " only with param_rounding='kahan' or 'nearest'"
            )
        if form.name == "8bit" or form.is_random:
            raise ValueError(
                f"parameter {name} is a DTensor, of which this process has a part, and state_format={form.name!r}"
                + (" needs the whole" if form.name == "8bit" else " rounds it alike only with state_rounding='nearest'")
            )

    def first(self, group: Mapping[str, Any], name: str) -> torch.Tensor:
        """A new number of the state."""
        wide = torch.get_default_dtype() == torch.float64 and not group.get("fused")
        value = {"mu_product": 1.0, "mu": 1.0, "eta": _number(group["lr"])}.get(name, 0.0)
        return torch.tensor(value, dtype=torch.float64 if wide else torch.float32)

    def after(self, h: Mapping[str, Any], values: Sequence[float], reals: Sequence[Any], t: int) -> list[float]:
        """What the numbers of the state, each in its type, become in step ``t``."""
        then = [float(t) if t <= EXACT else float(reals[0](values[0]) + reals[0](1))]
        if self.name == "NAdam":
            then.append(float(reals[1](values[1]) * reals[1](mu(h["betas"][0], h["momentum_decay"], t))))
        if self.name == "ASGD":
            then += (float(real(value)) for real, value in zip(reals[1:], rate_and_weight(h, t + 1), strict=True))
        if self.is_mean:
            largest = max(values[2], warmed_up(h["lr"], h["warmup_steps"], t))
            total = values[1] + _weight(h, t, largest)
            then += float(reals[1](total)), float(reals[2](largest))
        return then

    def known(self, h: dict[str, Any], before: Sequence[float], then: Sequence[float]) -> dict[str, Any]:
        """The hyperparameters, and what else the scalars of the step between these numbers look at."""
        if self.name == "NAdam":
            return {**h, "product": then[1]}
        if self.is_mean:
            weight = _weight(h, int(then[0]), then[2])
            return {**h, "average": weight / then[1] if 0.0 < then[1] < math.inf else 0.0}
        return {**h, "rate_and_weight": tuple(before[1:])} if self.name == "ASGD" else h


def _weight(h: Mapping[str, Any], t: int, largest: float) -> float:
    """Of step ``t`` in a mean."""
    return to_power(t, h["r"]) * to_power(largest, h["weight_lr_power"])


def _number(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item()
    if isinstance(value, (tuple, list)):
        return tuple(map(_number, value))
    return value


def elementwise(rule: str) -> bool:
    """Whether a rule looks at one element at a time, and so may be given a part of a tensor."""
    return RULES[rule].direction is None and not RULES[rule].of_tensor
