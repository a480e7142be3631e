"""The scalars of a step, of tensors that share them: what hyperparameters alone decide is found once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._specification.rules import RULES
from .hyperparameters import Group

if TYPE_CHECKING:
    from .base import Optimizer

Scalars = tuple[float, ...]


class GroupOfPlan:
    """A group of a plan: tensors of one rule that have missed as many steps."""

    __slots__ = ("_adapts", "_known", "_missed", "_more", "group", "rule")

    def __init__(self, of: "type[Optimizer]", group: Group, rule: str, missed: int):
        from .base import Optimizer

        self.group, self.rule, self._missed = group, rule, missed
        self._adapts = RULES[rule].direction is not None
        self._more = of._at is not Optimizer._at  # whether the scalars follow from more than hyperparameters
        # hyperparameters, scale and limit, and what was made of them; one object, which is there wholly or not at all
        self._known: tuple[Any, float, float, Scalars, Callable[[int], Scalars], Scalars] | None = None

    @property
    def is_constant(self) -> bool:
        """Whether nothing but the number of the step tells two steps apart."""
        return not (self._more or self.group.is_scheduled)

    def scalars(self, of: "Optimizer", done: int, grad_scale: float, limit: float) -> Scalars:
        """All of them, for the step after ``done`` steps."""
        missed = self._missed
        h = of._at(self.group, done, missed) if self._more else self.group.at(done)
        t = done - missed + 1 if done > missed else 1
        if (known := self._known) and known[0] is h and known[1] == grad_scale and known[2] == limit:
            return known[3] + known[4](t) + known[5]
        if not self.is_constant:
            trust = of.trust(h) if self._adapts else ()
            return of._of_driver(h, grad_scale, limit) + of.scalars(self.rule, h, t) + trust
        return self.scalars_of_steps(of, done, 1, grad_scale, limit)[0]

    def scalars_of_steps(
        self, of: "Optimizer", done: int, count: int, grad_scale: float, limit: float
    ) -> list[Scalars]:
        """The same for so many steps, where they are constant."""
        h, first = self.group.at(done), done - self._missed + 1
        of_driver, by_step = of._of_driver(h, grad_scale, limit), of.scalars_by_step(self.rule, h)
        trust = of.trust(h) if self._adapts else ()
        self._known = h, grad_scale, limit, of_driver, by_step, trust
        return [of_driver + by_step(t if t > 1 else 1) + trust for t in range(first, first + count)]
