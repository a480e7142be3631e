"""The Numba fallback: the Python rules and functions, compiled, in loops over the elements."""

# ruff: noqa: F401  a backend has all functions by their names, wherever they are written

from collections import deque
from collections.abc import Sequence
from functools import cache
from itertools import chain, repeat, starmap
from operator import setitem
from typing import Any

import numba.extending
import numpy as np

from .._specification.rules import (
    LARGE,
    RULES,
    SQUARES,
    TINY,
    flush,
    lamb_step,
    plus,
    prepare,
    scalar_limits,
    select,
    with_sign_of,
)
from . import _numba_elementwise, _numba_losses, _numba_matmul
from . import _numba_sums as sums
from . import numpy as reference
from ._jit import compiled as _compiled
from ._jit import kept
from ._numba_dropout import dropout, dropout_backward, dropout_forward
from ._numba_elementwise import bias_add, bias_relu, bias_sigmoid, bias_tanh
from ._numba_layer_norm import layer_norm, layer_norm_backward, layer_norm_scratch
from ._numba_losses import soft_cross_entropy, softmax_cross_entropy, weighted_logistic_loss
from ._numba_matmul import matmul
from ._numba_norm import batch_norm, batch_norm_backward, batch_norm_scratch, column_sums
from ._numba_sums import add_up, any_nonfinite, square_sum
from .environment import isolated
from .numpy import (
    argmax,
    arithmetic,
    bind_average,
    bind_gather,
    copy,
    count_labels,
    gather_rows,
    highway,
    highway_backward,
    move_average,
    row_sums,
    scale_rows,
    softmax,
    store_sum,
    try_matmul,
)
from .program import Instruction, Program

# The kernels of plain functions and losses have their names in the specification.
globals().update(_numba_elementwise.FUNCTIONS | _numba_losses.PLAIN_LOSSES)

numba.extending.overload(select)(lambda condition, x, y: lambda condition, x, y: x if condition else y)
for shared in (plus, lamb_step, with_sign_of):
    numba.extending.register_jitable(shared)
_prepare = _compiled(prepare)


@numba.extending.overload(flush)
def _flush(x):
    smallest_normal = np.finfo(str(x)).smallest_normal

    def flushed(x):
        return type(smallest_normal)(0) if abs(x) < smallest_normal else x

    return flushed


@cache
def _update_loop(rule_name):
    """The loop that applies a rule to every element, with the scalars in order."""
    rule, named = _compiled(RULES[rule_name].update), RULES[rule_name].scalars

    def loop0(scalars, param, grad):
        h = named(*scalars)
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            (param[i],) = rule(h, p, g)

    def loop1(scalars, param, grad, state):
        h = named(*scalars)
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            param[i], s = rule(h, p, g, state[i])
            state[i] = flush(s)

    def loop2(scalars, param, grad, state0, state1):
        h = named(*scalars)
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            param[i], s0, s1 = rule(h, p, g, state0[i], state1[i])
            state0[i], state1[i] = flush(s0), flush(s1)

    def loop3(scalars, param, grad, state0, state1, state2):
        h = named(*scalars)
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            param[i], s0, s1, s2 = rule(h, p, g, state0[i], state1[i], state2[i])
            state0[i], state1[i], state2[i] = flush(s0), flush(s1), flush(s2)

    def loop4(scalars, param, grad, state0, state1, state2, state3):
        h = named(*scalars)
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            param[i], s0, s1, s2, s3 = rule(h, p, g, state0[i], state1[i], state2[i], state3[i])
            state0[i], state1[i], state2[i], state3[i] = flush(s0), flush(s1), flush(s2), flush(s3)

    return kept(f"update_{rule_name}")((loop0, loop1, loop2, loop3, loop4)[len(RULES[rule_name].states)])


@cache
def _measure_loop(rule_name):
    """The loop that fills in the parameters and directions whose norms make the trust ratio."""
    direction, named = _compiled(RULES[rule_name].direction), RULES[rule_name].scalars

    def loop1(scalars, param, grad, params, directions, state):
        h = named(*scalars)
        for i in range(param.size):
            params[i], g = _prepare(h, param[i], grad[i])
            directions[i], s = direction(h, params[i], g, state[i])
            state[i] = flush(s)

    def loop2(scalars, param, grad, params, directions, state0, state1):
        h = named(*scalars)
        for i in range(param.size):
            params[i], g = _prepare(h, param[i], grad[i])
            directions[i], s0, s1 = direction(h, params[i], g, state0[i], state1[i])
            state0[i], state1[i] = flush(s0), flush(s1)

    return kept(f"measure_{rule_name}")((None, loop1, loop2)[len(RULES[rule_name].states)])


_called: set[Any] = set()  # for what arrays update loops have been called, and so compiled


class Plan(reference.Plan):
    """As the reference's, on flat views of the arrays."""

    @staticmethod
    def _view(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1)

    def _refuse_overflow(self, scales, scalars) -> None:
        """Only where numbers are not ordinary (fastopt/_specification/rules.py) is the step computed beforehand."""
        arrays = zip(self._params, self.grads, self._states, self._groups, scales, strict=True)
        if not (
            all(map(self._are_ordinary, self._names, self._dtypes, scalars)) and all(starmap(self._is_safe, arrays))
        ):
            super()._refuse_overflow(scales, scalars)

    @staticmethod
    def _are_ordinary(name: str, dtypes: set[Any], scalars: tuple[float, ...]) -> bool:
        rule = RULES[name]
        h, tiny = rule.scalars(*scalars), max((TINY[dtype] for dtype in dtypes), default=0.0)
        if hasattr(h, "eps") and not (h.eps >= tiny or getattr(h, "eps_root", 0.0) >= tiny * tiny):
            return False
        return all(low <= abs(s) <= high for s, low, high in zip(scalars, *scalar_limits(rule), strict=True))

    def _is_safe(self, p, g, states, group: int, scale: float) -> bool:
        p, g = reference.decoded((p, g))
        large = LARGE[p.dtype]
        keys = RULES[self._names[group]].states
        limits = (large**2 if key in SQUARES else large for key in keys)
        ones, now = repeat(1.0), reference.decoded(states)
        return not (
            sums.any_beyond(g, scale, large)
            or sums.any_beyond(p, 1.0, large)
            or any(map(sums.any_beyond, now, ones, limits))
        )

    @staticmethod
    def _tensor_rule(rule, exact, p, g, *states) -> tuple[np.ndarray, ...]:
        return reference.update_of_tensor(rule, exact, p, g, states, _numba_matmul.product)

    def _measured(self, group, h, p, g, states) -> tuple[Any, ...]:
        params, directions, moved = np.empty_like(p), np.empty_like(p), [s.copy() for s in states]
        _measure_loop(self._names[group])(tuple(h), p, g, params, directions, *moved)
        return sums.total(params, True), sums.total(directions, True), moved

    def _updated(self, group, h, p, g, states) -> list[np.ndarray]:
        new = [x.copy() for x in (p, *states)]
        _update_loop(self._names[group])(tuple(h), new[0], g, *new[1:])
        return new

    def _commit(self, ready, counted) -> None:
        """All loops as one call: each is compiled for its arguments before, so that no Python runs between them."""
        calls: list[Any] = []
        changes = list(counted)
        for group, h, p, g, states, moved in ready:
            loop = _update_loop(self._names[group])
            if (kind := (self._names[group], p.dtype, g.flags.writeable)) not in _called:
                loop(tuple(h), *(array[:0] for array in (p, g, *states)))
                _called.add(kind)
            calls.append(starmap(loop, [(tuple(h), p, g, *states)]))
            changes += ((state, ..., new) for state, new in zip(states, moved, strict=True) if new is not state)
        deque(chain(starmap(setitem, changes), *calls), 0)

    @isolated
    def grad_square_sums(self, params: reference.Objects = None, grads: reference.Objects = None) -> list[float] | None:
        return [sums.total(g, True) for g in reference.decoded(self.grads)] if self.fits(params, grads) else None


def bind(kernel: str, arrays: Sequence[Any], scalars: Sequence[Any] = ()) -> Instruction:
    return Instruction(globals()[kernel], arrays, scalars)
