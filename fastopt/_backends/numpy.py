"""The NumPy reference: slow, short, and the specification of the other two."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import functions
from ..rules import RULES, prepare, trust_ratio

BLOCK = 8192  # elements: sums are taken block by block (csrc/internal.h)
LANES = 16  # element i of a block goes to lane i mod LANES (csrc/reduce.inc)


def _silently(function):
    return np.errstate(all="ignore")(function)


def block_sums(x: np.ndarray) -> np.ndarray:
    """The sum of every block of ``x``, in double: lane by lane, then the lanes folded in halves."""
    blocks = -(-x.size // BLOCK)
    padded = np.zeros(blocks * BLOCK)
    padded[: x.size] = x
    lanes = np.zeros((blocks, LANES))
    for row in range(BLOCK // LANES):
        lanes += padded.reshape(blocks, BLOCK // LANES, LANES)[:, row]
    while lanes.shape[1] > 1:
        lanes = lanes[:, : lanes.shape[1] // 2] + lanes[:, lanes.shape[1] // 2 :]
    return lanes[:, 0]


def total(x: np.ndarray) -> float:
    """The sum of ``x``: the blocks' sums in order."""
    result = 0.0
    for block in block_sums(x.reshape(-1)):
        result += float(block)
    return result


def square_sum(x: np.ndarray) -> float:
    """The sum of the squares of ``x``, in double."""
    return total(np.square(x, dtype=np.float64))


class Plan:
    """What one optimizer updates: parameters with their state, each in a group that has a rule."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[np.ndarray],
        states: Sequence[Sequence[np.ndarray]],
        groups: Sequence[int],
    ):
        self._rules = [RULES[name] for name in rules]
        self._params = list(params)
        self._states = list(states)
        self._groups = list(groups)
        self.grads = list(params)
        self.grad_factors = [1.0] * len(self._params)
        self.trust_ratios = [1.0] * len(self._params)

    def bind(self, i: int, grad: np.ndarray) -> None:
        """Use ``grad`` as parameter i's gradient from now on."""
        self.grads[i] = grad

    @_silently
    def update(self, scalars: Sequence[tuple[float, ...]], check_finite: bool) -> bool:
        """One step, with the scalars of every group; False, and nothing written, if a gradient is not finite."""
        if check_finite and any(map(any_nonfinite, self.grads, self._scales(scalars))):
            return False
        scales = self._scales(scalars)
        for i, (p, states, group) in enumerate(zip(self._params, self._states, self._groups, strict=True)):
            rule, real = self._rules[group], p.dtype.type
            exact = rule.scalars(scales[i], *scalars[group][1:])
            h = rule.scalars(*map(real, exact))
            if rule.direction is not None:
                sums = self._measure(group, h, p, self.grads[i], states)
                self.trust_ratios[i] = trust_ratio(exact, *map(math.sqrt, sums))
                h = h._replace(trust_ratio=real(self.trust_ratios[i]))
            self._apply(group, h, p, self.grads[i], states)
        return True

    def _scales(self, scalars: Sequence[tuple[float, ...]]) -> list[float]:
        """What multiplies the gradient of every tensor."""
        return [scalars[group][0] * factor for group, factor in zip(self._groups, self.grad_factors, strict=True)]

    def _measure(self, group, h, p, g, states) -> tuple[float, float]:
        """The sums of the squares of the parameter and of the direction; the states move on."""
        kept, g = prepare(h, p, g)
        direction, *moved = self._rules[group].direction(h, kept, g, *states)
        for array, result in zip(states, moved, strict=True):
            array[...] = result
        return square_sum(kept), square_sum(direction)

    def _apply(self, group, h, p, g, states) -> None:
        results = self._rules[group].update(h, *prepare(h, p, g), *states)
        for array, result in zip((p, *states), results, strict=True):
            array[...] = result

    @_silently
    def grad_square_sums(self) -> list[float]:
        """The sum of the squares of every gradient."""
        return [square_sum(g) for g in self.grads]


@_silently
def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    """Whether ``scale * x`` holds an inf or NaN."""
    return not np.isfinite(x.dtype.type(scale) * x).all()


def _elementwise(name):
    @_silently
    def function(*arrays: np.ndarray) -> None:
        *inputs, out = arrays
        out[...] = getattr(functions.of(out.dtype.name), name)(*inputs)

    return function


# f(x, out) and f(x, y, out); out may be an input
exp = _elementwise("exp")
log1p_unit = _elementwise("log1p_unit")
sigmoid = _elementwise("sigmoid")
sigmoid_backward = _elementwise("sigmoid_backward")


def bias_add(x: np.ndarray, bias: np.ndarray) -> None:
    """x += bias, row by row."""
    x += bias


def bias_sigmoid(x: np.ndarray, bias: np.ndarray) -> None:
    """x = sigmoid(x + bias), row by row."""
    sigmoid(x + bias, x)


def column_sums(x: np.ndarray, out: np.ndarray) -> None:
    """The sum of the rows, one after the other in double, beginning with 0 (so never -0), rounded once."""
    out[...] = np.add.accumulate(x, axis=0, dtype=np.float64)[-1] + 0.0 if len(x) else 0


@_silently
def logistic_loss(z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float) -> float:
    """Every loss into ``losses``, scale times its derivative into ``dz``; returns the sum of the losses."""
    loss, grad = functions.of(z.dtype.name).logistic_loss(z, y, z.dtype.type(scale))
    if losses is not None:
        losses[...] = loss
    dz[...] = grad
    return total(loss)


def bind(kernel: str, *arguments: Any) -> Callable[[], Any]:
    """The function called ``kernel`` with its arrays, then its scalars, fixed: a call that takes no arguments.

    For arrays that stay, as a model's do, it saves looking up their addresses and sizes at every call.
    """
    return partial(globals()[kernel], *arguments)
