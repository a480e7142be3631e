"""The NumPy reference: slow, short, and the specification of the other two."""

# ruff: noqa: F401  a backend has all functions by their names, wherever they are written

import math
from collections.abc import Iterable, Sequence
from itertools import repeat, starmap
from typing import Any

import numpy as np

from .._moving import change_all
from .._pins import Pins, fit
from .._specification.clipping import ALL as CLIP_ALL
from .._specification.clipping import MODERATE, norm_and_factors
from .._specification.rules import RULES, Overflow, Whole, flush, prepare, refuse_scalars, trust_ratio
from .._specification.state_formats import Stored, codes_of, from_bfloat16
from . import _numpy_elementwise, _numpy_losses, _numpy_matmul
from ._numpy_dropout import dropout, dropout_backward, dropout_forward, dropout_of_layer
from ._numpy_elementwise import (
    arithmetic,
    bias_add,
    bias_relu,
    bias_sigmoid,
    bias_tanh,
    highway,
    highway_backward,
    scale_rows,
)
from ._numpy_layer_norm import layer_norm, layer_norm_backward, layer_norm_scratch
from ._numpy_losses import (
    argmax,
    count_labels,
    soft_cross_entropy,
    softmax,
    softmax_cross_entropy,
    weighted_logistic_loss,
)
from ._numpy_matmul import matmul, try_matmul
from ._numpy_norm import batch_norm, batch_norm_backward, batch_norm_scratch, column_sums
from ._numpy_sums import add_up, any_nonfinite, row_and_column_square_sums, row_sums, square_sum
from ._numpy_training import bind_average, bind_gather, copy, gather_rows, move_average, store_sum
from .environment import isolated
from .program import Instruction, Program, Runs, Stopped

# The kernels of plain functions and losses have their names in the specification.
globals().update(_numpy_elementwise.FUNCTIONS | _numpy_losses.PLAIN_LOSSES)
NO_NORM = -1.0
Objects = tuple[Any, ...] | None


def _dtypes_of_groups(params: "Sequence[State]", groups: Sequence[int], count: int) -> list[set[Any]]:
    """The types of the tensors in every group."""
    return [{p.dtype for p, group in zip(params, groups, strict=True) if group == i} for i in range(count)]


@isolated
def _step_results(
    rules: Sequence[str],
    params: Sequence[np.ndarray],
    grads: Sequence[np.ndarray],
    states: Sequence[Sequence[np.ndarray]],
    groups: Sequence[int],
    scales: Sequence[float],
    scalars: Sequence[tuple[float, ...]],
) -> list[tuple[tuple[np.ndarray, ...], float]] | None:
    """What a step makes of every parameter and its states, and the trust ratio; None if something finite overflows."""
    results = []
    for p, g, before, group, scale in zip(params, grads, states, groups, scales, strict=True):
        rule, real = RULES[rules[group]], p.dtype.type
        exact = rule.scalars(scale, *scalars[group][1:])
        h, moved, ratio = rule.scalars(*map(real, exact)), before, 1.0
        if rule.direction is not None:
            kept, prepared = prepare(h, p, g)
            direction, *moved = rule.direction(h, kept, prepared, *before)
            moved = list(map(flush, moved))
            norms = [math.sqrt(square_sum(kept)), math.sqrt(square_sum(direction))]
            if not all(map(math.isfinite, norms)) and np.isfinite(p).all():
                return None
            ratio = trust_ratio(exact._replace(trust_cap=min(exact.trust_cap, float(np.finfo(real).max))), *norms)
            h = h._replace(trust_ratio=real(ratio))
        if rule.of_tensor:
            after = update_of_tensor(rule, exact, p, g, before, np.matmul)  # fast, as only its size matters here
        else:
            after = rule.update(h, *prepare(h, p, g), *moved)
        if any((np.isfinite(a) & ~np.isfinite(b)).any() for a, b in zip((p, *before), after, strict=True)):
            return None
        results.append((after, ratio))
    return results


def update_of_tensor(rule, exact, p, g, states, product) -> tuple[np.ndarray, ...]:
    """What a rule that is given a whole tensor makes of a parameter and its states."""
    h, whole = rule.scalars(*map(p.dtype.type, exact)), Whole(p, square_sum, row_and_column_square_sums, product)
    return rule.update(exact, *prepare(h, p, g), *states, whole=whole)


State = np.ndarray | Stored  # as a parameter may be, too


def numbers(x: State) -> np.ndarray:
    """Those of a state, a parameter or a gradient, of which the latter may be codes: the array itself, or a new one."""
    if isinstance(x, Stored):
        return x.decoded()
    return from_bfloat16(x) if x.dtype == np.uint16 else x


def decoded(stored: Iterable[State]) -> list[np.ndarray]:
    """The numbers of several."""
    return list(map(numbers, stored))


def arrays_of(states: Sequence[Sequence[State]]) -> list[np.ndarray]:
    """All arrays in which states are stored."""
    return [a for state in states for s in state for a in (s.arrays() if isinstance(s, Stored) else (s,))]


def codes_of_all(params: Iterable[State]) -> list[np.ndarray]:
    """What of parameters a pin can look at, and what can stand for their gradients."""
    return [p.codes if isinstance(p, Stored) else p for p in params]


class Plan:
    """What one optimizer updates: parameters with their state, each in a group that has a rule."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[State],
        states: Sequence[Sequence[State]],
        groups: Sequence[int],
        counts: np.ndarray | None = None,
    ):
        # of the steps done, and of those left out; the plans of one optimizer share them
        self.counts = np.zeros(2, np.int64) if counts is None else counts
        self.grad_norm = NO_NORM
        self.trust_ratios = [1.0] * len(params)
        self._rules = [RULES[name] for name in rules]
        self._names = list(rules)
        self._shapes = [(p.shape, [s.shape for s in of]) for p, of in zip(params, states, strict=True)]
        self._params = list(map(self._seen, params))
        self._states = [tuple(map(self._seen, state)) for state in states]
        self._groups = list(groups)
        self._dtypes = _dtypes_of_groups(params, groups, len(rules))
        self._given: Pins | None = None
        self._own_states = arrays_of(states)
        self.pin(codes_of_all(params))
        self.bind_all(codes_of_all(params))

    @staticmethod
    def _view(array: np.ndarray) -> np.ndarray:
        """What to compute with."""
        return np.asarray(array)

    def _seen(self, stored: State) -> State:
        return stored.viewed(self._view) if isinstance(stored, Stored) else self._view(stored)

    def pin(self, params: Sequence[np.ndarray]) -> None:
        """Take parameters and states as they now are; gradients are to be bound after that."""
        self._given = None
        self.own = Pins([*params, *self._own_states])

    def bind(self, i: int, grad: np.ndarray) -> None:
        """Use ``grad`` as parameter i's gradient from now on."""
        self.bind_all([grad if k == i else before for k, before in enumerate(self.grads)])

    def bind_all(self, grads: Sequence[np.ndarray]) -> None:
        """Use these gradients from now on."""
        self._given = None  # until all of them are bound
        self.grads = [self._view(codes_of(grad)) for grad in grads]
        self._given = Pins(grads)

    def fits(self, params: Objects, grads: Objects) -> bool:
        """Whether these are the arrays that are bound, and all are as they were."""
        return self._given is not None and fit(self.own, self._given, params, grads)

    @isolated
    def update(
        self,
        scalars: Sequence[tuple[float, ...]],
        check_finite: bool | None,
        factors: Sequence[float] | None = None,
        norm: float = NO_NORM,
        params: Objects = None,
        grads: Objects = None,
    ) -> bool | None:
        """One step, with every group's scalars and a factor for every gradient: all of it or, if not True, nothing.

        False: a gradient is not finite; ``check_finite`` looks for that, and lets everything through if it is None.
        None: an array is not as it was, or ``params`` or ``grads`` are not the objects that were bound. Raises
        `Overflow`, and ValueError for a scalar that is not finite in the type of its arrays.
        """
        if not self.fits(params, grads):
            return None
        for name, values, dtypes in zip(self._names, scalars, self._dtypes, strict=True):
            refuse_scalars(RULES[name], values, dtypes)
        factors = [1.0] * len(self._params) if factors is None else factors
        scales = [scalars[group][0] * factor for group, factor in zip(self._groups, factors, strict=True)]
        gradients = decoded(self.grads)
        if check_finite and any(map(any_nonfinite, gradients, scales)):
            return False
        if check_finite is not None:
            self._refuse_overflow(scales, scalars)
        ratios, ready = list(self.trust_ratios), []
        stored: list[tuple[Any, Any, Any]] = []  # the changes of tensors of which something is in fewer bytes
        each = zip(self._params, gradients, self._states, self._groups, strict=True)
        for i, (param, g, kept, group) in enumerate(each):
            p = numbers(param)
            rule, real = self._rules[group], p.dtype.type
            exact = rule.scalars(scales[i], *scalars[group][1:])
            states = decoded(kept)
            if rule.of_tensor:
                given = self._in_shape(i, p, g, states)
                after = self._tensor_rule(rule, exact, *given[:2], *given[2])
                stored += self._stored((param, *kept), (after[0], *map(flush, after[1:])))
                continue
            h = rule.scalars(*map(real, exact))
            moved: Sequence[np.ndarray] = states
            if rule.direction is not None:
                *sums, moved = self._measured(group, h, p, g, states)
                exact = exact._replace(trust_cap=min(exact.trust_cap, float(np.finfo(real).max)))
                ratios[i] = trust_ratio(exact, *map(math.sqrt, sums))
                h = h._replace(trust_ratio=real(ratios[i]))
            if not any(isinstance(s, Stored) for s in (param, *kept)):
                ready.append((group, h, p, g, states, moved))
                continue
            if rule.moves_when_measured:
                now = [
                    s.moved(m, self._next_step()) if isinstance(s, Stored) else m
                    for s, m in zip(kept, moved, strict=True)
                ]
                updated, *_ = self._updated(group, h, p, g, decoded(now))
                stored += zip(arrays_of([kept]), repeat(...), arrays_of([now]))
                stored += self._stored([param], [updated])
            else:
                stored += self._stored((param, *kept), self._updated(group, h, p, g, moved))
        counted: list[Any] = [
            *stored,
            (self.counts, 0, self.counts[0] + 1),
            (self.__dict__, "grad_norm", norm),
            (self.__dict__, "trust_ratios", ratios),
        ]
        self._commit(ready, counted)
        return True

    def _next_step(self) -> int:
        """The number of the next step."""
        return int(self.counts[0]) + 1

    def _stored(self, kept: Sequence[State], moved: Iterable[np.ndarray]) -> list[tuple[Any, Any, Any]]:
        """What stores a tensor's parameter and states, for `change_all`."""
        now = [
            s.moved(m, self._next_step()) if isinstance(s, Stored) else np.reshape(m, s.shape)
            for s, m in zip(kept, moved, strict=True)
        ]
        return list(zip(arrays_of([kept]), repeat(...), arrays_of([now])))

    def _updated(self, group, h, p, g, states) -> list[np.ndarray]:
        """What a rule makes of a parameter and its states, all in new arrays."""
        updated, *moved = self._rules[group].update(h, *prepare(h, p, g), *states)
        return [updated, *map(flush, moved)]

    @staticmethod
    def _tensor_rule(rule, exact, p, g, *states) -> tuple[np.ndarray, ...]:
        return update_of_tensor(rule, exact, p, g, states, _numpy_matmul.product)

    def instruction(self) -> Instruction:
        """A step of the scalars that `prepare` is given, clipped; one that is not done ends the program."""
        return Instruction(self._step, (), ())

    def take_over(self, instruction: Instruction) -> None:
        """Let another plan's instruction be this one's."""
        instruction.function = self._step

    def _step(self, clip: int, unchecked: bool, scale: float, limit: float, eps: float) -> None:
        scalars, factors, norm, check = self._next, None, NO_NORM, None if unchecked else True
        if clip:
            if (sums := self.grad_square_sums()) is None:
                raise Stopped
            norm, factors = norm_and_factors(sums, scale, clip, limit, eps)
            if clip == CLIP_ALL and norm == norm:  # all factors are the same number
                scalars, factors = [(values[0] * factors[0], *values[1:]) for values in scalars], None
            if not unchecked:
                if not norm < math.inf:
                    raise Stopped
                check = norm >= MODERATE
        try:
            done = self.update(scalars, check, factors, norm)
        except Overflow:
            raise Stopped from None
        if not done:
            raise Stopped

    def prepare(self, scalars: Sequence[tuple[float, ...]]) -> None:
        """Take these scalars for the next step."""
        self._next = scalars

    def _refuse_overflow(self, scales: Sequence[float], scalars: Sequence[tuple[float, ...]]) -> None:
        now = decoded(self._params), decoded(self.grads), map(decoded, self._states)
        each = zip(range(len(self._params)), *now, strict=True)
        params, grads, states = zip(*starmap(self._in_shape, each), strict=True)
        if _step_results(self._names, params, grads, states, self._groups, scales, scalars) is None:
            raise Overflow

    def _in_shape(self, i: int, p: np.ndarray, g: np.ndarray, states: Sequence[np.ndarray]) -> tuple[Any, Any, Any]:
        """The arrays of tensor i as they were given."""
        shape, of_states = self._shapes[i]
        return p.reshape(shape), g.reshape(shape), [s.reshape(as_) for s, as_ in zip(states, of_states, strict=True)]

    def look_again(self) -> None:
        """States have been written to: nothing is known any more of how large they are."""

    def _measured(self, group, h, p, g, states) -> tuple[Any, ...]:
        """The sums of the squares of the parameter and of the direction, and the states, moved on."""
        kept, g = prepare(h, p, g)
        direction, *moved = self._rules[group].direction(h, kept, g, *states)
        return square_sum(kept), square_sum(direction), list(map(flush, moved))

    def _commit(self, ready, counted) -> None:
        """Compute everything, then write everything."""
        for group, h, p, g, states, moved in ready:
            updated, *moved = self._rules[group].update(h, *prepare(h, p, g), *moved)
            counted.append((p, ..., updated))
            counted += ((state, ..., flush(new)) for state, new in zip(states, moved, strict=True))
        change_all(counted)

    @isolated
    def grad_square_sums(self, params: Objects = None, grads: Objects = None) -> list[float] | None:
        """The sum of the squares of every gradient; None if the arrays are not those that were bound."""
        return list(map(square_sum, decoded(self.grads))) if self.fits(params, grads) else None


def bind(kernel: str, arrays: Sequence[Any], scalars: Sequence[Any] = ()) -> Instruction:
    """The kernel with its arrays and scalars, as an instruction."""
    return Instruction(globals()[kernel], arrays, scalars)
