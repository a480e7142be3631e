"""An optimizer's step on a slice of all elements, for several processes that share it out."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _backends
from .._pins import HEADER
from .._specification.rules import RULES, trust_ratio
from .base import Optimizer

Scalars = list[tuple[float, ...]]


def complete_state(optimizer: Optimizer) -> None:
    """Where processes train together, and each has its slice of the state: exchange them; all have to call this."""
    optimizer._complete_state()


def can_be_sliced(optimizer: Optimizer) -> bool:
    """Whether a step is made of elements and of sums of blocks, in this backend, and changes nothing else."""
    own_steps: list[Callable[[], Any]] = [getattr(optimizer, name) for name in ("step", "eval", "train")]
    return (
        getattr(_backends.active.Plan, "piecewise", None) is not None
        and bool(HEADER)
        and all(getattr(f, "__func__", None) is getattr(Optimizer, f.__name__) for f in own_steps)
        and not any(RULES[group.rule].of_tensor for group in optimizer._plan.groups)
        and all(
            isinstance(state, np.ndarray) and (state.shape, state.dtype) == (param.shape, param.dtype)
            for param, of in zip(optimizer._plain, optimizer._states, strict=True)
            for state in of
        )
        and len(optimizer._plan.tensors) == len(optimizer._plain)
        and all(isinstance(param, np.ndarray) for param in optimizer._stored)
    )


class Slice:
    """What one of several processes updates: the elements from ``first`` to ``last`` of all parameters in a row.

    A step is `look`, `measure` where `adapts`, and `finish`; the caller exchanges the sums that come in between.

    Parameters
    ----------
    optimizer : Optimizer
        One that `can_be_sliced`.
    grads : array (n,)
        The gradients of all parameters, in a row.
    offsets : sequence of int
        Where each parameter begins in that row.
    first, last : int
    gather : callable
        Exchanges the slices of the state, and then calls `gathered`.

    Attributes
    ----------
    params : list of arrays
        All parameters of the optimizer, flat.
    parts : dict
        Of each parameter that the slice meets, by its number, which part is in it.
    adapts : bool
        Whether there are trust ratios, which are of sums over whole parameters.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        grads: np.ndarray,
        offsets: Sequence[int],
        first: int,
        last: int,
        gather: Callable[[], None],
    ):
        self._optimizer, self._plan, self._gather = optimizer, optimizer._plan, gather
        self.params = [param.reshape(-1) for param in optimizer._plain]
        self.parts: dict[int, slice] = {}
        for i, (offset, param) in enumerate(zip(offsets, self.params, strict=True)):
            begin, end = max(first - offset, 0), min(last - offset, param.size)
            if begin < end:
                self.parts[i] = slice(begin, end)
        states, self._groups = self.states(), self._plan.group_of_tensor
        self._rules = [RULES[group.rule] for group in self._plan.groups]
        self.adapts = any(rule.direction is not None for rule in self._rules)
        self._own = _backends.active.Plan(
            [group.rule for group in self._plan.groups],
            [self.params[i][part] for i, part in self.parts.items()],
            [[state[part] for state in states[i]] for i, part in self.parts.items()],
            [self._groups[i] for i in self.parts],
            self._plan.counts,
        )
        self._own.bind_all([grads[offsets[i] :][part] for i, part in self.parts.items()])

    def states(self) -> list[list[np.ndarray]]:
        """The state's arrays of every parameter, flat."""
        return [[state.reshape(-1) for state in of] for of in self._optimizer._states]  # type: ignore[union-attr]

    def check(self) -> None:
        """Refuse arrays that were replaced, or changed in place."""
        self._optimizer._look_for_changes(tuple(self._optimizer._arrays_now()))

    @property
    def is_current(self) -> bool:
        """Whether the optimizer has not, in between, done a step of other parameters."""
        return self._optimizer._plan is self._plan

    def scalars(self, grad_scale: float, limit: float) -> Scalars:
        """All scalars of the next step."""
        return self._optimizer._scalars(self._optimizer._done(0), grad_scale, limit)

    def grad_square_sums(self) -> np.ndarray:
        """Of the slice's blocks the sum of the squares of the gradients, (blocks, 1)."""
        self._own.grad_square_sums()
        return self._own.block_sums(1)

    def look(self, scalars: Scalars, check: bool | None, factors: Sequence[float] | None) -> bool:
        """Whether a step of the slice would go well; ``factors`` are of all parameters."""
        return self._own.piecewise("LOOK", scalars, check, self._mine(factors))

    def measure(self, scalars: Scalars, check: bool | None, factors: Sequence[float] | None) -> np.ndarray:
        """Of the slice's blocks the sums of the squares of the parameters and of their directions, (blocks, 2)."""
        if self.parts:
            self._own.piecewise("MEASURE", scalars, check, self._mine(factors))
        return self._own.block_sums(2)

    def take_sums(self, scalars: Scalars, sums: np.ndarray) -> None:
        """Let trust ratios follow from the sums of what all have measured, of all parameters: (parameters, 2)."""
        ratios = []
        for param, group, squares in zip(self.params, self._groups, sums.tolist(), strict=True):
            ratio = 1.0
            if self._rules[group].direction is not None:
                exact = self._rules[group].scalars(*scalars[group])
                most = min(exact.trust_cap, float(np.finfo(param.dtype).max))
                ratio = trust_ratio(exact._replace(trust_cap=most), *map(math.sqrt, squares))
            ratios.append(ratio)
        self._plan.trust_ratios = ratios
        self._own.trust_ratios = [ratios[i] for i in self.parts]

    def finish(self, scalars: Scalars, check: bool | None, factors: Sequence[float] | None, norm: float) -> None:
        """Update the slice, and count the step."""
        self._own.piecewise("FINISH", scalars, check, self._mine(factors))
        self._plan.grad_norm = norm

    def _mine(self, factors: Sequence[float] | None) -> list[float] | None:
        return None if factors is None else [factors[i] for i in self.parts]

    def spread(self) -> None:
        """From now on, every process has its slice of the state: what needs all of it calls ``gather`` before."""
        if self._optimizer._spread is not self._gather:
            self._optimizer._complete_state()  # of other slices
            self._optimizer._spread, self._optimizer._copies = self._gather, True

    def gathered(self) -> None:
        """From now on, all processes have the whole state."""
        self._optimizer._spread = None
        self.look_again()

    def look_again(self) -> None:
        """States have been written to: nothing is known any more of how large they are."""
        self._optimizer._plan.look_again()
        self._own.look_again()
