"""An optimizer's step on arrays that stay: one instruction of a program."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _backends
from .._backends.program import Runs, Stopped
from .._checks import positive
from .clip import clip_limit

if TYPE_CHECKING:
    from .base import Optimizer


def parameters_of(optimizer: "Optimizer") -> dict[str, np.ndarray]:
    """What an optimizer updates, by its names."""
    return dict(zip(optimizer._names, optimizer._params, strict=True))


def steps_of(optimizer: "Optimizer") -> np.ndarray:
    """How many steps it has done, in an array (1,) that stays."""
    return optimizer._plan.counts[:1]


def scalars_of(optimizer: "Optimizer", done: int) -> dict[str, tuple[float, ...]]:
    """Of each rule all scalars of the step after so many, where there is one group of parameters."""
    rules = [group.rule for group in optimizer._plan.groups]
    return dict(zip(rules, optimizer._scalars(done, 1.0, math.inf), strict=True))


class BoundStep:
    """`Optimizer.step` on these gradients, with these options, as often as it is asked for.

    A program that holds ``instructions`` does a step: `prepare` comes before it, and `settle` after it if that ended
    it, all within ``lock``. `check` looks, once for many steps, for other arrays in the place of those that were bound.

    Attributes
    ----------
    optimizer : Optimizer
    then : program
        What follows every step that is done.
    """

    def __init__(self, optimizer: "Optimizer", grads: Any, options: Mapping[str, Any], then: Sequence[Runs] = ()):
        self.optimizer, self._grads, self._options = optimizer, grads, options
        self._clip, self._most = clip_limit(options.get("clip_norm"), options.get("clip_norm_per_tensor"))
        self._limit = math.inf if (most := options.get("clip_value")) is None else positive("clip_value", most)
        self._plan, self._done, self.lock = optimizer._plan, optimizer._done, optimizer._lock
        self._step, self.then = self._plan.instruction(), _backends.active.Program(then)
        self.instructions: list[Runs] = [self._step, *then]
        self._program = _backends.active.Program(self.instructions)
        self._scale = math.nan
        self.check()

    def check(self) -> None:
        """Refuse arrays that were replaced, or changed in place."""
        self.optimizer._check_arrays(self._grads)
        if (plan := self.optimizer._plan) is not self._plan:
            plan.take_over(self._step)
            self._plan = plan
        self._bound = plan.grads

    @property
    def is_current(self) -> bool:
        """Whether the optimizer has not, in between, done a step of other parameters."""
        return self.optimizer._plan is self._plan

    def prepare(self, grad_scale: float = 1.0) -> None:
        """Finish the scalars of the next step."""
        self._look(grad_scale)
        self._plan.prepare(self.optimizer._scalars(self._done(0), grad_scale, self._limit))

    def prepare_steps(self, most: int, grad_scale: float = 1.0) -> int:
        """Finish the scalars of the next steps, for a program that runs many: how many, and at most so many."""
        self._look(grad_scale)
        scalars = self.optimizer._scalars_of_steps(self._done(0), most, grad_scale, self._limit)
        self._plan.queue(scalars)
        return len(scalars)

    def norms(self, steps: int) -> list[float]:
        """The norms of the gradients, where clipping has computed them, of the first steps that were prepared last."""
        norms: list[float] = self._plan.queued_norms(steps)
        return norms if self._clip else []

    def _look(self, grad_scale: float) -> None:
        plan = self.optimizer._plan
        if plan is not self._plan or plan.grads is not self._bound:  # a step on others has been done meanwhile
            self.check()
        if grad_scale != self._scale:
            unchecked, eps = self._options.get("on_nonfinite") == "ignore", self._options.get("clip_eps", 0.0)
            self._step.set(self._clip, unchecked, grad_scale, self._most, eps)
            self._scale = grad_scale

    def settle(self) -> bool:
        """After the step's instruction has ended its program: whether the step is done after all, by the long way."""
        before = self.optimizer.step_count
        self.optimizer.step(self._grads, grad_scale=self._scale, **self._options)
        done = self.optimizer.step_count > before
        if done:
            self.then()
        return done

    def __call__(self, grad_scale: float = 1.0) -> bool:
        """A step by itself; whether it was done."""
        with self.lock:
            self.prepare(grad_scale)
            try:
                self._program()
            except Stopped:
                return self.settle()
            return True
