"""The Numba fallback: the Python rules and functions, compiled, in loops over the elements."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, repeat, starmap
from operator import setitem
from typing import Any

import numba.extending
import numpy as np

from .._specification import order as _order
from .._specification import philox, transcendental
from .._specification.kernels import ELEMENTWISE, NUMBERED, OF_PAIRS, UNARY, WITH_NUMBER
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
from . import _numba_matmul
from . import memory as _memory
from . import numpy as reference
from ._jit import compiled as _compiled
from ._jit import fma as _fma
from ._jit import kept
from ._jit import select as _select
from ._numba_layer_norm import layer_norm, layer_norm_backward, layer_norm_scratch  # noqa: F401
from ._numba_norm import batch_norm, batch_norm_backward, batch_norm_scratch, column_sums  # noqa: F401
from .environment import isolated
from .program import Instruction, Program  # noqa: F401

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


@_compiled
def _reaches(x, limit):
    return not abs(x) < limit


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
        large = LARGE[p.dtype]
        keys = RULES[self._names[group]].states
        limits = (large**2 if key in SQUARES else large for key in keys)
        ones, now = repeat(1.0), reference.decoded(states)
        return not (
            _any_beyond(g, scale, large) or _any_beyond(p, 1.0, large) or any(map(_any_beyond, now, ones, limits))
        )

    @staticmethod
    def _tensor_rule(rule, exact, p, g, *states) -> tuple[np.ndarray, ...]:
        return reference.update_of_tensor(rule, exact, p, g, states, _numba_matmul.product)

    def _measured(self, group, h, p, g, states) -> tuple[Any, ...]:
        params, directions, moved = np.empty_like(p), np.empty_like(p), [s.copy() for s in states]
        _measure_loop(self._names[group])(tuple(h), p, g, params, directions, *moved)
        return _sum(params, True), _sum(directions, True), moved

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
        return [_sum(g, True) for g in self.grads] if self.fits(params, grads) else None


BLOCK, LANES, NARROW = _order.BLOCK, _order.LANES, _order.NARROW


@kept("sum")
def _sum(x, squared, block=BLOCK):
    """The sum of x, or of its squares, in the reference's order."""
    total = 0.0
    for begin in range(0, x.size, block):
        lanes = np.zeros(LANES)
        for i in range(begin, min(begin + block, x.size)):
            value = np.float64(x[i])
            lanes[(i - begin) % LANES] += value * value if squared else value
        half = LANES // 2
        while half > 0:
            for lane in range(half):
                lanes[lane] += lanes[lane + half]
            half //= 2
        total += lanes[0]
    return total


@isolated
def square_sum(x: np.ndarray) -> float:
    return float(_sum(x.reshape(-1), True))


@kept("beyond")
def _beyond(x, scale, limit):
    result = False
    for value in x:
        result |= _reaches(scale * value, limit)
    return result


@isolated
def _any_beyond(x: np.ndarray, scale: float, limit: float) -> bool:
    """Whether ``scale * x`` has an element of at least ``limit``, or NaN."""
    return _beyond(x.reshape(-1), x.dtype.type(scale), x.dtype.type(limit))


def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    return _any_beyond(x, scale, np.inf)


@cache
def _loop(name, dtype):
    """The loop that applies a function of one or two arrays to every element."""
    function = getattr(transcendental.of(dtype, _compiled, _select, _fma), name)

    def unary(x, out):
        for i in range(out.size):
            out[i] = function(x[i])

    def binary(x, y, out):
        for i in range(out.size):
            out[i] = function(x[i], y[i])

    def unary_with(x, out, number):
        for i in range(out.size):
            out[i] = function(x[i], number)

    def binary_with(x, y, out, number):
        for i in range(out.size):
            out[i] = function(x[i], y[i], number)

    forms = (unary_with, binary_with) if name in NUMBERED else (unary, binary)
    return kept(f"{name}_{dtype}")(forms[name not in UNARY])


def _elementwise(name):
    @isolated
    def function(*arrays: Any) -> None:
        arrays, number = arrays[:count], arrays[count:]
        *inputs, out = arrays
        _memory.check_written(out, *inputs)
        _loop(name, out.dtype.name)(*(array.reshape(-1) for array in arrays), *map(out.dtype.type, number))

    count = 2 if name in UNARY else 3

    return function


_ELEMENTWISE = {name: _elementwise(name) for name in ELEMENTWISE}
globals().update(_ELEMENTWISE)


@kept("bias_add")
def _bias_add(x, bias):
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            x[row, column] += bias[column]


@isolated
def bias_add(x: np.ndarray, bias: np.ndarray) -> None:
    _bias_add(x, bias)


def _with_bias(name: str) -> Callable[[np.ndarray, np.ndarray], None]:
    activate = _ELEMENTWISE[name]

    def biased(x: np.ndarray, bias: np.ndarray) -> None:
        """x = f(x + bias), row by row."""
        bias_add(x, bias)
        activate(x, x)

    return biased


bias_sigmoid, bias_tanh, bias_relu = map(_with_bias, ("sigmoid", "tanh", "relu"))


def try_matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> bool:
    """Only the C core does this, without asking Python for what it needs to know."""
    return False


@isolated
def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> None:
    out[...] = _numba_matmul.product(a, b)
    if bias is not None:
        bias_add(out, bias)
    if activation:
        _ELEMENTWISE[_order.ACTIVATIONS[activation]](out, out)


@cache
def _loss_loop(name, dtype):
    function = getattr(transcendental.of(dtype, _compiled, _select, _fma), name)

    def plain(z, y, losses, dz, scale):
        for i in range(dz.size):
            losses[i], dz[i] = function(z[i], y[i], scale)
        return _sum(losses, False)

    def weighted(z, y, weight, pos_weight, losses, dz, scale, y_scale, y_shift):
        for i in range(dz.size):
            w, p = weight[i % weight.size], pos_weight[i % pos_weight.size]
            losses[i], dz[i] = function(z[i], y[i] * y_scale + y_shift, w, p, scale)
        return _sum(losses, False)

    def with_number(z, y, losses, dz, scale, number):
        for i in range(dz.size):
            losses[i], dz[i] = function(z[i], y[i], scale, number)
        return _sum(losses, False)

    form = with_number if name in WITH_NUMBER else weighted if name == "weighted_logistic_loss" else plain
    return kept(f"{name}_{dtype}")(form)


def _plain_loss(name):
    @isolated
    def loss(
        z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float, *number: float
    ) -> float:
        _memory.check_written(dz, z, y)
        losses = np.empty_like(z) if losses is None else losses
        flat = (array.reshape(-1) for array in (z, y, losses, dz))
        return float(_loss_loop(name, z.dtype.name)(*flat, *map(z.dtype.type, (scale, *number))))

    return loss


globals().update((name, _plain_loss(name)) for name in OF_PAIRS)


@isolated
def weighted_logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    pos_weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    y_scale: float,
    y_shift: float,
) -> float:
    losses = np.empty_like(z) if losses is None else losses
    one = np.ones(1, z.dtype)
    arrays = z, y, one if weight is None else weight, one if pos_weight is None else pos_weight, losses, dz
    flat = (array.reshape(-1) for array in arrays)
    scalars = map(z.dtype.type, (scale, y_scale, y_shift))
    return float(_loss_loop("weighted_logistic_loss", z.dtype.name)(*flat, *scalars))


@cache
def _softmax_loop(dtype):
    f = transcendental.of(dtype, _compiled, _select, _fma)
    exp_nonpositive, log_of_sum, real = f.exp_nonpositive, f.log_of_sum, np.dtype(dtype).type

    def loop(z, labels, weight, losses, dz, scale, total_weight, smoothing, ignore_index):
        rows, classes = z.shape
        keep, share = 1 - smoothing, smoothing / classes
        real_share = real(scale * share)
        lanes = LANES if classes >= NARROW else 1
        e_sum, below_sum = np.zeros(LANES), np.zeros(LANES)
        for r in range(rows):
            label = labels[r]
            if label == ignore_index:
                losses[r] = 0
                dz[r] = 0
                continue
            if label < 0 or label >= classes:
                losses[r] = np.nan
                dz[r] = np.nan
                continue
            largest = z[r, 0]
            for j in range(1, classes):
                largest = z[r, j] if z[r, j] > largest else largest
            zero = real(np.nan) if largest == -np.inf else real(0)
            e_sum[:] = 0
            below_sum[:] = 0
            label_below = real(0)
            for j in range(classes):
                below = zero if z[r, j] == largest else z[r, j] - largest
                dz[r, j] = exp_nonpositive(below)
                e_sum[j % lanes] += np.float64(dz[r, j])
                below_sum[j % lanes] -= np.float64(weight[j]) * np.float64(below)
                label_below = below if j == label else label_below
            half = lanes // 2
            while half > 0:
                for i in range(half):
                    e_sum[i] += e_sum[i + half]
                    below_sum[i] += below_sum[i + half]
                half //= 2
            s = e_sum[0]
            log_sum = np.float64(log_of_sum(s))
            label_weight, label_e = np.float64(weight[label]), np.float64(dz[r, label])
            loss = label_weight * (-np.float64(label_below) + log_sum)
            if share != 0:
                loss = keep * loss + share * (total_weight * log_sum + below_sum[0])
            losses[r] = loss
            factor = real(scale * (keep * label_weight + share * total_weight) / s)
            for j in range(classes):
                dz[r, j] = dz[r, j] * factor - weight[j] * real_share
            gradient = keep * label_weight * ((label_e - s) / s)
            if share != 0:
                gradient += share * (total_weight * (label_e / s) - label_weight)
            dz[r, label] = scale * gradient
        return _sum(losses, False, softmax_block(classes))

    softmax_block = _compiled(_order.softmax_block)
    return kept(f"softmax_cross_entropy_{dtype}")(loop)


@isolated
def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    ignore_index: int,
    scale: float,
    total_weight: float,
    smoothing: float,
) -> float:
    _memory.check_written(dz, z)
    losses = np.empty(len(z), z.dtype) if losses is None else losses
    weight = np.ones(z.shape[1], z.dtype) if weight is None else weight
    return float(
        _softmax_loop(z.dtype.name)(
            z, labels, weight, losses, dz, float(scale), float(total_weight), float(smoothing), ignore_index
        )
    )


@cache
def _soft_loop(dtype):
    f = transcendental.of(dtype, _compiled, _select, _fma)
    exp_nonpositive, log_of_sum, real = f.exp_nonpositive, f.log_of_sum, np.dtype(dtype).type
    softmax_block = _compiled(_order.softmax_block)

    def loop(z, targets, weight, losses, dz, scale, smoothing):
        rows, classes = z.shape
        keep, share = 1 - smoothing, smoothing / classes
        e_sum, part_sum, below_sum = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
        for r in range(rows):
            largest = z[r, 0]
            for j in range(1, classes):
                largest = z[r, j] if z[r, j] > largest else largest
            zero = real(np.nan) if largest == -np.inf else real(0)
            e_sum[:] = 0
            part_sum[:] = 0
            below_sum[:] = 0
            for j in range(classes):
                part = np.float64(weight[j]) * (keep * np.float64(targets[r, j]) + share)
                below = zero if z[r, j] == largest else z[r, j] - largest
                dz[r, j] = exp_nonpositive(below)
                e_sum[j % LANES] += np.float64(dz[r, j])
                part_sum[j % LANES] += part
                below_sum[j % LANES] += 0.0 if part == 0 else part * np.float64(below)
            half = LANES // 2
            while half > 0:
                for i in range(half):
                    e_sum[i] += e_sum[i + half]
                    part_sum[i] += part_sum[i + half]
                    below_sum[i] += below_sum[i + half]
                half //= 2
            s, parts = e_sum[0], part_sum[0]
            inverse = 1 / s
            losses[r] = parts * np.float64(log_of_sum(s)) - below_sum[0]
            for j in range(classes):
                part = np.float64(weight[j]) * (keep * np.float64(targets[r, j]) + share)
                dz[r, j] = scale * ((parts * np.float64(dz[r, j]) - part * s) * inverse)
        return _sum(losses, False, softmax_block(classes))

    return kept(f"soft_cross_entropy_{dtype}")(loop)


@isolated
def soft_cross_entropy(
    z: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    smoothing: float,
) -> float:
    losses = np.empty(len(z), z.dtype) if losses is None else losses
    weight = np.ones(z.shape[1], z.dtype) if weight is None else weight
    return float(_soft_loop(z.dtype.name)(z, targets, weight, losses, dz, float(scale), float(smoothing)))


softmax, count_labels = reference.softmax, reference.count_labels
scale_rows, highway, highway_backward = reference.scale_rows, reference.highway, reference.highway_backward
copy, gather_rows, move_average = reference.copy, reference.gather_rows, reference.move_average
arithmetic, row_sums, store_sum = reference.arithmetic, reference.row_sums, reference.store_sum


_philox = _compiled(philox.philox4x32)
_COUNTERS, _GROUP, _LOW, _SHIFT = philox.COUNTERS, philox.GROUP, philox.LOW, philox.SHIFT


@kept("dropout")
def _dropout_loop(x, out, group, skip, d0, d1, k0, k1, threshold, scale):
    """Elements of the group begin at -skip."""
    for begin in range(-skip, x.size, _GROUP):
        for i in range(_COUNTERS):
            counter = group * np.uint64(_COUNTERS) + np.uint64(i)
            words = _philox(counter & _LOW, counter >> _SHIFT, d0, d1, k0, k1)
            for w in range(4):
                at = begin + w * _COUNTERS + i
                if 0 <= at < x.size:
                    out[at] = x[at] * scale if words[w] >= threshold else x.dtype.type(0)
        group += np.uint64(1)


@isolated
def dropout(x: np.ndarray, out: np.ndarray, position: int, seed: int, draw: int, threshold: int, scale: float) -> None:
    group, skip = divmod(position, _GROUP)
    words = (*philox.halves(draw), *philox.halves(seed), np.uint64(threshold))
    _dropout_loop(x.reshape(-1), out.reshape(-1), np.uint64(group), skip, *words, x.dtype.type(scale))


dropout_forward, dropout_backward = reference.dropout_of_layer(dropout)


@isolated
def add_up(x: np.ndarray) -> float:
    return float(_sum(x.reshape(-1), False))


bind_average, bind_gather = reference.bind_average, reference.bind_gather


def bind(kernel: str, arrays: Sequence[Any], scalars: Sequence[Any] = ()) -> Instruction:
    return Instruction(globals()[kernel], arrays, scalars)
