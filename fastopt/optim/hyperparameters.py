"""The hyperparameters: what values each may have, and the groups that hold them."""

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any

from .._checks import a_number, one_of, positive, whole
from .._moving import change_all
from .._specification.state_formats import FORMATS
from ..schedules.base import Schedule


def _fraction(name: str, value: Any) -> float:
    if a_number(name, value, 0) > 1:
        raise ValueError(f"{name} must be in [0, 1], not {value}")
    return float(value)


def numbers(count: int, low: float = 0.0, below: float = 1.0) -> Callable[[str, Any], tuple[float, ...]]:
    """A check of so many numbers in [low, below)."""

    def check(name: str, value: Any) -> tuple[float, ...]:
        if not isinstance(value, (tuple, list)) or len(value) != count:
            what = "a pair of" if count == 2 else f"{count}"
            raise TypeError(f"{name} must be {what} numbers, not {value!r}")
        return tuple(a_number(f"{name}[{i}]", each, low, below) for i, each in enumerate(value))

    return check


def _not_positive(name: str, value: Any) -> float:
    if a_number(name, value) > 0:
        raise ValueError(f"{name} must be at most 0, not {value}")
    return float(value)


def _iterations(name: str, value: Any) -> int:
    if whole(name, value, 0) >= 100:
        raise ValueError(f"{name} must be less than 100, not {value}")
    return int(value)


def _seed(name: str, value: Any) -> int:
    if whole(name, value, 0) >= 2**64:
        raise ValueError(f"{name} must be less than 2**64, not {value}")
    return int(value)


def or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


not_negative = partial(a_number, low=0)
yes_or_no = one_of(False, True)

# Numbers, which may change from step to step, or be given by a schedule (in a pair, each by its own).
_NUMBERS: dict[str, Callable[[str, Any], Any]] = {
    "alpha": _fraction,
    "beta2_decay": _not_positive,
    "betas": numbers(2),
    "d": partial(a_number, low=1.0),
    "dampening": a_number,
    "eps": not_negative,
    "eps_root": not_negative,
    "etas": numbers(2, below=math.inf),
    "lambd": not_negative,
    "lr": not_negative,
    "lr_decay": not_negative,
    "momentum": not_negative,
    "momentum_decay": or_none(not_negative),
    "rho": _fraction,
    "step_sizes": numbers(2, below=math.inf),
    "t0": not_negative,
    "trust_coefficient": not_negative,
    "weight_decay": not_negative,
}

# What chooses a rule, its form or its first state: fixed once the optimizer is made.
FIXED: dict[str, Callable[[str, Any], Any]] = {
    "adjust_lr_fn": one_of(None, "original", "match_rms_adamw"),
    "always_adapt": yes_or_no,
    "amsgrad": one_of(False, True, "corrected"),
    "bias_correction": yes_or_no,
    "centered": yes_or_no,
    "denominator": one_of("separate", "sum"),
    "eps_hat": yes_or_no,
    "eps_outside": yes_or_no,
    "factored": yes_or_no,
    "grad_averaging": yes_or_no,
    "initial_accumulator_value": not_negative,
    "initial_square_avg": not_negative,
    "lr_in_buffer": yes_or_no,
    "maximize": yes_or_no,
    "mu_product": one_of("float32", "float64", "beta1"),
    "nesterov": yes_or_no,
    "ns_coefficients": numbers(3, -math.inf, math.inf),
    "ns_steps": _iterations,
    "param_rounding": one_of("stochastic", "kahan", "nearest"),
    "r": a_number,
    "rectify": yes_or_no,
    "state_format": one_of(*FORMATS),
    "state_rounding": one_of("stochastic", "nearest"),
    "state_seed": _seed,
    "trust_clip": or_none(positive),
    "use_muon": yes_or_no,
    "warmup_steps": partial(whole, least=0),
    "weight_decay_mode": one_of("l2", "decoupled", "independent"),
    "weight_lr_power": not_negative,
}


class Pair(tuple[Any, ...]):
    """A pair, or three numbers, of which some are schedules, as a schedule of pairs."""

    def __call__(self, step: int) -> tuple[Any, ...]:
        return tuple(v(step) if callable(v) else v for v in self)


class Group(MutableMapping[str, Any]):
    """The hyperparameters of a group of tensors; setting one checks it."""

    names: tuple[str, ...]
    rule: str
    _values: dict[str, Any]
    _scheduled: tuple[str, ...]

    def __init__(self, optimizer: Any, names: list[str], hyperparameters: Mapping[str, Any]):
        self._optimizer = optimizer
        self.replace({name: self.checked(name, value) for name, value in hyperparameters.items()})
        optimizer.check(self)
        self.__dict__.update(names=tuple(names), rule=optimizer.rule(self))

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"a group has no attribute {name!r} to set; hyperparameters: group[{name!r}] = ...")
        super().__setattr__(name, value)

    def _check(self, name: str) -> Callable[[str, Any], Any]:
        own = self._optimizer.checks.get(name)
        return own or FIXED.get(name) or _NUMBERS[name]

    def checked(self, name: str, value: Any) -> Any:
        """``value`` if ``name`` may have it, or an error; a schedule's values are checked when it is called."""
        if name in FIXED:
            return self._check(name)(name, value)
        for each in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(each, type):
                raise TypeError(f"{name} must be a number or a schedule: {each.__name__}(...), not the class")
        if isinstance(value, (tuple, list)) and any(map(callable, value)):
            self._check(name)(name, [0.0 if callable(v) else v for v in value])
            return Pair(value)
        return value if callable(value) else self._check(name)(name, value)

    def replace(self, changed: dict[str, Any]) -> None:
        """Take over hyperparameters that have been checked."""
        change_all(self.taking(changed))

    def taking(self, changed: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
        """What takes over hyperparameters that have been checked, for `change_all`."""
        scheduled = tuple(name for name, value in changed.items() if callable(value))
        return [(self.__dict__, "_values", changed), (self.__dict__, "_scheduled", scheduled)]

    @property
    def is_scheduled(self) -> bool:
        """Whether a hyperparameter may be another one in the next step."""
        return bool(self._scheduled)

    @property
    def foreseeable(self) -> bool:
        """Whether the hyperparameters of later steps can be asked for: those that change are `Schedule` objects.

        A function of the user's may do more than to answer, or answer something else later.
        """
        if not self._scheduled:
            return True
        given = (self._values[name] for name in self._scheduled)
        each = (v for value in given for v in (value if isinstance(value, tuple) else (value,)) if callable(v))
        return all(isinstance(v, Schedule) for v in each)

    def at(self, step: int) -> Mapping[str, Any]:
        """The hyperparameters after ``step`` steps, schedules evaluated."""
        if not self._scheduled:
            return self._values
        given = self._values
        now = given | {n: self._check(n)(f"{n} at step {step}", given[n](step)) for n in self._scheduled}
        self._optimizer.check(now)
        return now

    def one_at(self, name: str, step: int) -> Any:
        """One hyperparameter after ``step`` steps."""
        value = self._values[name]
        return self._check(name)(f"{name} at step {step}", value(step)) if callable(value) else value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.replace(self.changed(name, value))

    def changed(self, name: str, value: Any) -> dict[str, Any]:
        """All hyperparameters after setting one, or an error."""
        if name not in self:
            raise KeyError(f"{self._optimizer.__name__} has no hyperparameter {name!r}, only {', '.join(self)}")
        changed = {**self, name: self.checked(name, value)}
        self._optimizer.check(changed)
        if self._optimizer.rule(changed) != self.rule or (name in FIXED and changed[name] != self[name]):
            raise ValueError(f"{name} cannot become {value!r} any more: make a new optimizer")
        return changed

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} cannot be removed from the hyperparameters of {self._optimizer.__name__}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Group({list(self.names)}, {self._values})"
