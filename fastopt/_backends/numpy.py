"""The NumPy reference: slow, short, and the specification of the other two."""

from collections.abc import Sequence

import numpy as np

from .. import functions
from ..rules import RULES, prepare
from ._numpy_norm import batch_norm, batch_norm_backward, batch_norm_scratch, column_sums  # noqa: F401
from ._order import BLOCK, LANES


def _silently(function):
    return np.errstate(all="ignore")(function)


def block_sums(x: np.ndarray) -> np.ndarray:
    """The sum of every block of ``x``, in double: lane by lane, then the lanes folded in halves."""
    blocks = -(-x.size // BLOCK)
    padded = np.zeros(blocks * BLOCK)
    padded[: x.size] = x
    lanes = np.zeros((blocks, LANES))
    for row in range(BLOCK // LANES):
        lanes += padded.reshape(blocks, -1, LANES)[:, row]
    while lanes.shape[1] > 1:
        lanes = lanes[:, : lanes.shape[1] // 2] + lanes[:, lanes.shape[1] // 2 :]
    return lanes[:, 0]


def total(x: np.ndarray) -> float:
    """The sum of ``x``: the blocks' sums in order."""
    result = 0.0
    for block in block_sums(x.reshape(-1)):
        result += float(block)
    return result


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

    def bind(self, i: int, grad: np.ndarray) -> None:
        """Use ``grad`` as parameter i's gradient from now on."""
        self.grads[i] = grad

    @_silently
    def update(self, scalars: Sequence[tuple[float, ...]], check_finite: bool) -> bool:
        """One step, with the scalars of every group; False, and nothing written, if a gradient is not finite."""
        if check_finite and any(any_nonfinite(grad) for grad in self.grads):
            return False
        for p, g, states, group, factor in zip(
            self._params, self.grads, self._states, self._groups, self.grad_factors, strict=True
        ):
            rule = self._rules[group]
            h = rule.scalars(scalars[group][0] * factor, *scalars[group][1:])
            h = rule.scalars(*map(p.dtype.type, h))
            results = rule.update(h, *prepare(h, p, g), *states)
            for array, result in zip((p, *states), results, strict=True):
                array[...] = result
        return True

    @_silently
    def grad_square_sums(self) -> list[float]:
        """The sum of the squares of every gradient."""
        return [total(np.square(g, dtype=np.float64)) for g in self.grads]


def any_nonfinite(x: np.ndarray) -> bool:
    return not np.isfinite(x).all()


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


@_silently
def logistic_loss(z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float) -> float:
    """Every loss into ``losses``, scale times its derivative into ``dz``; returns the sum of the losses."""
    loss, grad = functions.of(z.dtype.name).logistic_loss(z, y, z.dtype.type(scale))
    if losses is not None:
        losses[...] = loss
    dz[...] = grad
    return total(loss)
