"""The scalars of a step, of tensors that share them: what hyperparameters alone decide is found once."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._specification.rules import RULES
from .hyperparameters import Group

if TYPE_CHECKING:
    from .base import Optimizer

Scalars = tuple[float, ...]


class GroupOfPlan:
    """A group of a plan: tensors of one rule that have missed as many steps."""

    __slots__ = (
        "_adapts", "_by_step", "_h", "_limit", "_missed", "_more", "_of_driver", "_scale", "_trust", "group", "rule",
    )  # fmt: skip

    _by_step: Callable[[int], Scalars]
    _of_driver: Scalars
    _trust: Scalars

    def __init__(self, of: "type[Optimizer]", group: Group, rule: str, missed: int):
        from .base import Optimizer

        self.group, self.rule, self._missed = group, rule, missed
        self._adapts = RULES[rule].direction is not None
        self._more = of._at is not Optimizer._at  # whether the scalars follow from more than hyperparameters
        self._h: Any = None  # the hyperparameters, scale and limit that the rest was made of
        self._scale = self._limit = math.nan

    @property
    def is_constant(self) -> bool:
        """Whether nothing but the number of the step tells two steps apart."""
        return not (self._more or self.group.is_scheduled)

    def scalars(self, of: "Optimizer", done: int, grad_scale: float, limit: float) -> Scalars:
        """All of them, for the step after ``done`` steps."""
        missed = self._missed
        h = of._at(self.group, done, missed) if self._more else self.group.at(done)
        t = done - missed + 1 if done > missed else 1
        if h is self._h and grad_scale == self._scale and limit == self._limit:
            return self._of_driver + self._by_step(t) + self._trust
        if not self.is_constant:
            trust = of.trust(h) if self._adapts else ()
            return of._of_driver(h, grad_scale, limit) + of.scalars(self.rule, h, t) + trust
        return self.scalars_of_steps(of, done, 1, grad_scale, limit)[0]

    def scalars_of_steps(
        self, of: "Optimizer", done: int, count: int, grad_scale: float, limit: float
    ) -> list[Scalars]:
        """The same for so many steps, where they are constant."""
        self._h, self._scale, self._limit = self.group.at(done), grad_scale, limit
        self._of_driver = of._of_driver(self._h, grad_scale, limit)
        self._by_step = of.scalars_by_step(self.rule, self._h)
        self._trust = of.trust(self._h) if self._adapts else ()
        of_driver, by_step, trust, first = self._of_driver, self._by_step, self._trust, done - self._missed + 1
        return [of_driver + by_step(t if t > 1 else 1) + trust for t in range(first, first + count)]
