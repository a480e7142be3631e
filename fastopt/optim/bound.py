"""An optimizer's step on arrays that stay: one instruction of a program."""

import math
from typing import TYPE_CHECKING, Any

from .. import _backends
from .._backends.program import Stopped
from .._specification.rules import Overflow

if TYPE_CHECKING:
    from .base import Optimizer

OVERFLOW = "gradients or weights are so large that a weight or a state would become inf or NaN"


class BoundStep:
    """`Optimizer.step` on these gradients, as often as it is asked for.

    A program that holds ``instruction`` does a step: `prepare` comes before it, and `settle` after it if that ended it,
    all within ``lock``. `check` looks, once for many steps, for other arrays in the place of those that were bound.
    """

    def __init__(self, optimizer: "Optimizer", grads: Any, on_nonfinite: str):
        optimizer._check_arrays(grads)
        self._optimizer, self._grads, self._on_nonfinite = optimizer, grads, on_nonfinite
        self._check = None if on_nonfinite == "ignore" else True
        self._plan, self._done, self._scale = optimizer._plan, optimizer._done, 1.0
        self.lock = optimizer._lock
        self.instruction = self._plan.instruction(self._check)
        self._program = _backends.active.Program([self.instruction])

    def check(self) -> None:
        """Refuse arrays that were replaced, or changed in place."""
        self._optimizer._check_arrays(self._grads)

    @property
    def is_current(self) -> bool:
        """Whether the optimizer has not, in between, done a step of other parameters."""
        return self._optimizer._plan is self._plan

    def prepare(self, grad_scale: float = 1.0) -> None:
        """Finish the scalars of the next step."""
        if self._optimizer._plan is not self._plan:
            raise RuntimeError("the optimizer was given other parameters, or gradients of others, in between")
        self._scale = grad_scale
        self._scalars = self._optimizer._scalars(self._done(0), grad_scale, math.inf)
        self._plan.prepare(self._scalars)

    def settle(self) -> bool:
        """After the instruction has ended its program: whether the step is done after all."""
        optimizer = self._optimizer
        try:
            answer = self._plan.settle()
            if answer is None:
                optimizer._check_arrays(self._grads)
                if optimizer._plan is not self._plan:
                    raise optimizer._changing()
                answer = self._plan.update(self._scalars, self._check)
        except Overflow:
            optimizer._refuse(self._on_nonfinite, OVERFLOW)
            return False
        if answer is None:
            raise optimizer._changing()
        if not answer:
            optimizer._refuse(self._on_nonfinite, f"the gradients overflow when scaled by {self._scale}")
        return answer

    def __call__(self, grad_scale: float = 1.0) -> bool:
        """A step by itself; whether it was done."""
        with self.lock:
            self.prepare(grad_scale)
            try:
                self._program()
            except Stopped:
                return self.settle()
            return True
