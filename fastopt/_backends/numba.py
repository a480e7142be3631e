"""The Numba fallback: the Python rules and functions, compiled, in loops over the elements."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numba
import numba.extending
import numpy as np

from .. import functions
from ..rules import RULES, lamb_step, prepare
from . import numpy as reference

# error_model="numpy" divides as the hardware does; without fastmath nothing is reordered or contracted.
_compiled: Any = numba.njit(error_model="numpy", nogil=True)
_prepare = _compiled(prepare)
numba.extending.register_jitable(lamb_step)


@_compiled
def _select(condition, x, y):  # np.where would make an array of every scalar
    return x if condition else y


@cache
def _update_loop(rule_name):
    """The loop that applies a rule to every element."""
    rule = _compiled(RULES[rule_name].update)

    def loop0(h, param, grad):
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            (param[i],) = rule(h, p, g)

    def loop1(h, param, grad, state):
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            param[i], state[i] = rule(h, p, g, state[i])

    def loop2(h, param, grad, state0, state1):
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            param[i], state0[i], state1[i] = rule(h, p, g, state0[i], state1[i])

    def loop3(h, param, grad, state0, state1, state2):
        for i in range(param.size):
            p, g = _prepare(h, param[i], grad[i])
            param[i], state0[i], state1[i], state2[i] = rule(h, p, g, state0[i], state1[i], state2[i])

    return _compiled((loop0, loop1, loop2, loop3)[len(RULES[rule_name].states)])


@cache
def _measure_loop(rule_name):
    """The loop that fills in the parameters and directions whose norms make the trust ratio."""
    direction = _compiled(RULES[rule_name].direction)

    def loop1(h, param, grad, params, directions, state):
        for i in range(param.size):
            params[i], g = _prepare(h, param[i], grad[i])
            directions[i], state[i] = direction(h, params[i], g, state[i])

    def loop2(h, param, grad, params, directions, state0, state1):
        for i in range(param.size):
            params[i], g = _prepare(h, param[i], grad[i])
            directions[i], state0[i], state1[i] = direction(h, params[i], g, state0[i], state1[i])

    return _compiled((None, loop1, loop2)[len(RULES[rule_name].states)])


class Plan(reference.Plan):
    """As the reference's, on flat views of the arrays."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[np.ndarray],
        states: Sequence[Sequence[np.ndarray]],
        groups: Sequence[int],
    ):
        flat = [tuple(s.reshape(-1) for s in state) for state in states]
        super().__init__(rules, [p.reshape(-1) for p in params], flat, groups)
        self._names = list(rules)

    def bind(self, i: int, grad: np.ndarray) -> None:
        self.grads[i] = grad.reshape(-1)

    def _measure(self, group, h, p, g, states) -> tuple[float, float]:
        params, directions = np.empty_like(p), np.empty_like(p)
        _measure_loop(self._names[group])(h, p, g, params, directions, *states)
        return _sum(params, True), _sum(directions, True)

    def _apply(self, group, h, p, g, states) -> None:
        _update_loop(self._names[group])(h, p, g, *states)

    def grad_square_sums(self) -> list[float]:
        return [_sum(g, True) for g in self.grads]


BLOCK, LANES = reference.BLOCK, reference.LANES


@_compiled
def _sum(x, squared):
    """The sum of x, or of its squares, in the reference's order."""
    total = 0.0
    for begin in range(0, x.size, BLOCK):
        lanes = np.zeros(LANES)
        for i in range(begin, min(begin + BLOCK, x.size)):
            value = np.float64(x[i])
            lanes[i % LANES] += value * value if squared else value
        half = LANES // 2
        while half > 0:
            for lane in range(half):
                lanes[lane] += lanes[lane + half]
            half //= 2
        total += lanes[0]
    return total


def square_sum(x: np.ndarray) -> float:
    return float(_sum(x.reshape(-1), True))


@_compiled
def _all_finite(x, scale):
    result = True
    for value in x:
        result &= np.isfinite(scale * value)
    return result


def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    return not _all_finite(x.reshape(-1), x.dtype.type(scale))


@cache
def _loop(name, dtype):
    """The loop that applies a function of one or two arrays to every element."""
    function = getattr(functions.of(dtype, _compiled, _select), name)

    def unary(x, out):
        for i in range(out.size):
            out[i] = function(x[i])

    def binary(x, y, out):
        for i in range(out.size):
            out[i] = function(x[i], y[i])

    return _compiled(binary if name == "sigmoid_backward" else unary)


def _elementwise(name):
    def function(*arrays: np.ndarray) -> None:
        _loop(name, arrays[-1].dtype.name)(*(array.reshape(-1) for array in arrays))

    return function


exp = _elementwise("exp")
log1p_unit = _elementwise("log1p_unit")
sigmoid = _elementwise("sigmoid")
sigmoid_backward = _elementwise("sigmoid_backward")


@_compiled
def bias_add(x, bias):
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            x[row, column] += bias[column]


def bias_sigmoid(x: np.ndarray, bias: np.ndarray) -> None:
    bias_add(x, bias)
    sigmoid(x, x)


@_compiled
def column_sums(x, out):
    sums = np.zeros(out.size)
    for row in range(x.shape[0]):
        for column in range(out.size):
            sums[column] += np.float64(x[row, column])
    for column in range(out.size):  # out[:] = sums takes 3 s to compile
        out[column] = sums[column]


@cache
def _logistic_loop(dtype):
    function = functions.of(dtype, _compiled, _select).logistic_loss

    def loop(z, y, losses, dz, scale):
        for i in range(dz.size):
            losses[i], dz[i] = function(z[i], y[i], scale)
        return _sum(losses, False)

    return _compiled(loop)


def logistic_loss(z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float) -> float:
    losses = np.empty_like(z) if losses is None else losses
    flat = (array.reshape(-1) for array in (z, y, losses, dz))
    return float(_logistic_loop(z.dtype.name)(*flat, z.dtype.type(scale)))


def bind(kernel: str, *arguments: Any) -> Callable[[], Any]:
    return partial(globals()[kernel], *arguments)
