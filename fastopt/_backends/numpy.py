"""The NumPy reference: slow, short, and the specification of the other two."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat, starmap
from typing import Any

import numpy as np

from .._moving import change_all
from .._pins import Pins, fit
from .._specification import philox, transcendental
from .._specification.arithmetic import ARITHMETIC
from .._specification.clipping import ALL as CLIP_ALL
from .._specification.clipping import MODERATE, norm_and_factors
from .._specification.kernels import DROP_ALL, DROP_SOME, ELEMENTWISE, EVALUATE, OF_PAIRS, UNARY
from .._specification.order import ACTIVATIONS as FUSED
from .._specification.order import BLOCK, CHUNK, NARROW, softmax_block
from .._specification.rules import RULES, Overflow, Whole, flush, prepare, refuse_scalars, trust_ratio
from .._specification.state_formats import Stored
from . import _numpy_matmul
from . import memory as _memory
from ._numpy_layer_norm import lane_sums, layer_norm, layer_norm_backward, layer_norm_scratch  # noqa: F401
from ._numpy_norm import batch_norm, batch_norm_backward, batch_norm_scratch, column_sums  # noqa: F401
from .environment import isolated
from .program import Call, Instruction, Moving, Program, Runs, Stopped  # noqa: F401


def total(x: np.ndarray, block: int = BLOCK) -> float:
    """The sum of ``x``: the sums of its blocks, in order."""
    blocks = np.zeros((-(-x.size // block), block))
    blocks.reshape(-1)[: x.size] = x.reshape(-1)
    result = 0.0
    for block_sum in lane_sums(blocks):
        result += float(block_sum)
    return result


@isolated
def square_sum(x: np.ndarray) -> float:
    """The sum of the squares of ``x``, in double."""
    return total(np.square(x, dtype=np.float64))


def row_and_column_square_sums(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of the squares of rows and of columns, in double, of the matrices of the last two dimensions.

    Narrow rows are added up in order, others in lanes; columns row by row in chunks, which are then added in order.
    """
    rows, columns = x.shape[-2:]
    squares = np.square(x, dtype=np.float64).reshape(-1, rows, columns)
    each = squares.reshape(-1, columns)
    of_rows = np.add.accumulate(each, axis=1)[:, -1] if columns < NARROW else lane_sums(each)
    size, of_columns = max(CHUNK // columns, 1), np.zeros((len(squares), columns))
    for begin in range(0, rows, size):
        of_columns += np.add.accumulate(squares[:, begin : begin + size], axis=1)[:, -1]
    return of_rows.reshape(*x.shape[:-1], 1), of_columns.reshape(*x.shape[:-2], 1, columns)


NO_NORM = -1.0
Objects = tuple[Any, ...] | None


def _dtypes_of_groups(params: Sequence[np.ndarray], groups: Sequence[int], count: int) -> list[set[Any]]:
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


def update_of_tensor(rule, exact, p, g, states, matmul) -> tuple[np.ndarray, ...]:
    """What a rule that is given a whole tensor makes of a parameter and its states."""
    h, whole = rule.scalars(*map(p.dtype.type, exact)), Whole(p, square_sum, row_and_column_square_sums, matmul)
    return rule.update(exact, *prepare(h, p, g), *states, whole=whole)


State = np.ndarray | Stored


def decoded(states: Sequence[State]) -> list[np.ndarray]:
    """The numbers of a tensor's states: the arrays themselves, or new ones."""
    return [s.decoded() if isinstance(s, Stored) else s for s in states]


def arrays_of(states: Sequence[Sequence[State]]) -> list[np.ndarray]:
    """All arrays in which states are stored."""
    return [a for state in states for s in state for a in (s.arrays() if isinstance(s, Stored) else (s,))]


class Plan:
    """What one optimizer updates: parameters with their state, each in a group that has a rule."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[np.ndarray],
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
        self._shapes = [
            (p.shape, [(s.codes if isinstance(s, Stored) else s).shape for s in of])
            for p, of in zip(params, states, strict=True)
        ]
        self._params = list(map(self._view, params))
        self._states: list[tuple[State, ...]] = [
            tuple(s._replace(codes=self._view(s.codes)) if isinstance(s, Stored) else self._view(s) for s in state)
            for state in states
        ]
        self._groups = list(groups)
        self._dtypes = _dtypes_of_groups(params, groups, len(rules))
        self._given: Pins | None = None
        self._own_states = arrays_of(states)
        self.pin(params)
        self.bind_all(params)

    @staticmethod
    def _view(array: np.ndarray) -> np.ndarray:
        """What to compute with."""
        return np.asarray(array)

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
        self.grads = list(map(self._view, grads))
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
        if check_finite and any(map(any_nonfinite, self.grads, scales)):
            return False
        if check_finite is not None:
            self._refuse_overflow(scales, scalars)
        ratios, ready = list(self.trust_ratios), []
        whole: list[tuple[np.ndarray, np.ndarray]] = []  # arrays, and what rules of whole tensors make of them
        stored: list[tuple[Any, Any, Any]] = []  # the changes of tensors whose states are in fewer bytes
        for i, (p, kept, group) in enumerate(zip(self._params, self._states, self._groups, strict=True)):
            rule, real = self._rules[group], p.dtype.type
            exact = rule.scalars(scales[i], *scalars[group][1:])
            states = decoded(kept)
            if rule.of_tensor:
                given = self._in_shape(i, p, self.grads[i], states)
                after = self._tensor_rule(rule, exact, *given[:2], *given[2])
                whole.append((p, after[0]))
                stored += self._stored(kept, map(flush, after[1:]))
                continue
            h = rule.scalars(*map(real, exact))
            moved: Sequence[np.ndarray] = states
            if rule.direction is not None:
                *sums, moved = self._measured(group, h, p, self.grads[i], states)
                exact = exact._replace(trust_cap=min(exact.trust_cap, float(np.finfo(real).max)))
                ratios[i] = trust_ratio(exact, *map(math.sqrt, sums))
                h = h._replace(trust_ratio=real(ratios[i]))
            if not any(isinstance(s, Stored) for s in kept):
                ready.append((group, h, p, self.grads[i], states, moved))
                continue
            if rule.moves_when_measured:
                now = [
                    s.moved(m, self._next_step()) if isinstance(s, Stored) else m
                    for s, m in zip(kept, moved, strict=True)
                ]
                updated, *_ = self._updated(group, h, p, self.grads[i], decoded(now))
                stored += zip(arrays_of([kept]), repeat(...), arrays_of([now]))
            else:
                updated, *moved = self._updated(group, h, p, self.grads[i], moved)
                stored += self._stored(kept, moved)
            stored.append((p, ..., updated))
        counted: list[Any] = [
            *stored,
            *((array, ..., new.reshape(array.shape)) for array, new in whole),
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
        """What stores a tensor's states, for `change_all`."""
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
        each = zip(range(len(self._params)), self._params, self.grads, map(decoded, self._states), strict=True)
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
        return [square_sum(g) for g in self.grads] if self.fits(params, grads) else None


@isolated
def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    """Whether ``scale * x`` holds an inf or NaN."""
    return not np.isfinite(x.dtype.type(scale) * x).all()


def _elementwise(name):
    @isolated
    def function(*arrays: Any) -> None:
        arrays, number = arrays[:count], arrays[count:]
        *inputs, out = arrays
        _memory.check_written(out, *inputs)
        out[...] = getattr(transcendental.of(out.dtype.name), name)(*inputs, *map(out.dtype.type, number))

    count = 2 if name in UNARY else 3

    return function


# f(x, out) and f(x, y, out), and of some a number at the end; they raise ValueError, before anything is written, if out
# cannot be written to as it is, or overlaps a part of an input. So do the losses without weights for the elements, for
# dz, z and y.
_ELEMENTWISE = {name: _elementwise(name) for name in ELEMENTWISE}
globals().update(_ELEMENTWISE)


@isolated
def bias_add(x: np.ndarray, bias: np.ndarray) -> None:
    """x += bias, row by row."""
    x += bias


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
    """out = activation(a b + bias), of matrices; ``out`` is C-contiguous and shares no memory with another."""
    out[...] = _numpy_matmul.product(a, b)
    if bias is not None:
        bias_add(out, bias)
    if activation:
        _ELEMENTWISE[FUSED[activation]](out, out)


def _plain_loss(name: str) -> Callable[..., float]:
    @isolated
    def loss(
        z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float, *number: float
    ) -> float:
        """Every loss into ``losses``, scale times its derivative into ``dz``; returns the sum of the losses."""
        _memory.check_written(dz, z, y)
        scalars = map(z.dtype.type, (scale, *number))
        return _store(getattr(transcendental.of(z.dtype.name), name)(z, y, *scalars), losses, dz)

    return loss


globals().update((name, _plain_loss(name)) for name in OF_PAIRS)


def _store(results: tuple[np.ndarray, np.ndarray], losses: np.ndarray | None, dz: np.ndarray) -> float:
    if losses is not None:
        losses[...] = results[0]
    dz[...] = results[1]
    return total(results[0])


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
    """The same with weights, repeated until every element has one, and targets y * y_scale + y_shift."""
    real = z.dtype.type
    w, p = (real(1) if a is None else np.resize(a, z.size).reshape(z.shape) for a in (weight, pos_weight))
    target = y * real(y_scale) + real(y_shift)
    return _store(transcendental.of(z.dtype.name).weighted_logistic_loss(z, target, w, p, real(scale)), losses, dz)


def _class_sums(x: np.ndarray) -> np.ndarray:
    """The sum over the classes, for every row."""
    if x.shape[1] >= NARROW:
        return lane_sums(x)
    sums = np.zeros(len(x))
    for column in x.T:
        sums += column
    return sums


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
    """Every row's loss into ``losses``, scale times its gradient into ``dz``; returns the sum (softmax.inc)."""
    _memory.check_written(dz, z)
    f, real = transcendental.of(z.dtype.name), z.dtype.type
    rows, classes = np.arange(len(z)), z.shape[1]
    labels = labels.copy()
    ignored = labels == ignore_index
    none = ~ignored & ((labels < 0) | (labels >= classes))  # not one of the classes
    label = np.where(ignored | none, 0, labels)
    w = np.ones(classes, z.dtype) if weight is None else weight
    exact_w = w.astype(np.float64)
    keep, share = 1 - smoothing, smoothing / classes

    below = _below_largest(z)
    e = f.exp_nonpositive(below)
    s = _class_sums(e)
    log_sum = f.log_of_sum(s).astype(np.float64)

    label_weight, label_e = exact_w[label], e[rows, label].astype(np.float64)
    loss = label_weight * (-below[rows, label].astype(np.float64) + log_sum)
    if share != 0:
        all_below = _class_sums(-(exact_w * below.astype(np.float64)))
        loss = keep * loss + share * (total_weight * log_sum + all_below)
    factor = (scale * (keep * label_weight + share * total_weight) / s).astype(z.dtype)
    label_gradient = keep * label_weight * ((label_e - s) / s)
    if share != 0:
        label_gradient = label_gradient + share * (total_weight * (label_e / s) - label_weight)
    gradient = e * factor[:, None] - w * real(scale * share)
    gradient[rows, label] = scale * label_gradient
    gradient[ignored] = 0
    gradient[none] = np.nan
    loss = np.where(none, np.nan, np.where(ignored, 0, loss)).astype(z.dtype)
    dz[...] = gradient
    if losses is not None:
        losses[...] = loss
    return total(loss, softmax_block(classes))


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
    """The same with how much of a row each class is, for labels (softmax.inc)."""
    f, double = transcendental.of(z.dtype.name), np.float64
    w = np.ones(z.shape[1], z.dtype) if weight is None else weight
    part = w.astype(double) * ((1 - smoothing) * targets.astype(double) + smoothing / z.shape[1])
    below = _below_largest(z)
    e = f.exp_nonpositive(below)
    s, parts = lane_sums(e), lane_sums(part)
    log_sum = f.log_of_sum(s).astype(double)
    loss = (parts * log_sum - lane_sums(np.where(part == 0, 0, part * below.astype(double)))).astype(z.dtype)
    gradient = (parts[:, None] * e.astype(double) - part * s[:, None]) * (1 / s)[:, None]
    dz[...] = (scale * gradient).astype(z.dtype)
    if losses is not None:
        losses[...] = loss
    return total(loss, softmax_block(z.shape[1]))


@isolated
def softmax(x: np.ndarray, out: np.ndarray) -> None:
    """out = softmax of every row of ``x``."""
    _memory.check_written(out, x)
    below = _below_largest(x)
    e = transcendental.of(x.dtype.name).exp_nonpositive(below)
    out[...] = e * (1.0 / _class_sums(e)).astype(x.dtype)[:, None]


def _below_largest(z: np.ndarray) -> np.ndarray:
    """z minus the largest of its row, where inf - inf is 0."""
    real, largest = z.dtype.type, z.max(axis=1, keepdims=True)
    return np.where(z == largest, np.where(largest == -np.inf, real(np.nan), real(0)), z - largest)


def count_labels(labels: np.ndarray, classes: int, ignore_index: int) -> int:
    """How many labels are not ``ignore_index``; if one of them is no class, -1 - its position."""
    used = labels != ignore_index
    wrong = np.flatnonzero(used & ((labels < 0) | (labels >= classes)))
    return -1 - int(wrong[0]) if wrong.size else int(used.sum())


@isolated
def dropout(x: np.ndarray, out: np.ndarray, position: int, seed: int, draw: int, threshold: int, scale: float) -> None:
    """out = scale x, or 0 where the random word of an element's position is below the threshold."""
    at = np.uint64(position) + np.arange(x.size, dtype=np.uint64).reshape(x.shape)
    group, word = at // np.uint64(philox.GROUP), at % np.uint64(philox.GROUP)
    counter = group * np.uint64(philox.COUNTERS) + word % np.uint64(philox.COUNTERS)
    low, high = counter & philox.LOW, counter >> philox.SHIFT
    words = philox.philox4x32(low, high, *philox.halves(draw), *philox.halves(seed))
    drop = np.choose((word // np.uint64(philox.COUNTERS)).astype(np.intp), words) < np.uint64(threshold)
    out[...] = np.where(drop, x.dtype.type(0), x.dtype.type(scale) * x)


def dropout_of_layer(dropout: Callable[..., None]) -> tuple[Callable[..., None], Callable[..., None]]:
    """A layer's dropout, forward and backward, made of a backend's.

    Forward, it takes its masks from ``seed`` and ``draw``, counts them, and leaves in ``used`` what backward needs;
    the last of it, the position of the first element in the mask, is there from the start.
    """

    def dropped(x: np.ndarray, out: np.ndarray, used: np.ndarray) -> None:
        what, seed, draw, threshold, _, position = used.tolist()
        if what == DROP_SOME:
            dropout(x, out, position, seed, draw, threshold, used[4:5].view(np.float64).item())
        else:
            np.copyto(out, x.dtype.type(0) if what == DROP_ALL else x)

    def dropout_forward(
        x: np.ndarray,
        out: np.ndarray,
        seed: np.ndarray,
        draw: np.ndarray,
        used: np.ndarray,
        what: int,
        threshold: int,
        scale: float,
    ) -> None:
        used[:4] = what, seed.item(), draw.item(), threshold
        used[4:5].view(np.float64)[...] = scale
        if what != EVALUATE:
            draw[...] = draw.item() + 1
        dropped(x, out, used)

    def dropout_backward(dy: np.ndarray, dx: np.ndarray, used: np.ndarray) -> None:
        dropped(dy, dx, used)

    return dropout_forward, dropout_backward


dropout_forward, dropout_backward = dropout_of_layer(dropout)


@isolated
def scale_rows(x: np.ndarray, weight: np.ndarray) -> None:
    """Every row of ``x`` times its weight."""
    np.multiply(x, weight.reshape(-1, *(1,) * (x.ndim - 1)), out=x)


@isolated
def highway(h: np.ndarray, t: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """y = h t + x (1 - t)."""
    y[...] = h * t + x * (x.dtype.type(1) - t)


@isolated
def highway_backward(
    dy: np.ndarray, h: np.ndarray, t: np.ndarray, x: np.ndarray, dh: np.ndarray, dt: np.ndarray, dx: np.ndarray
) -> None:
    """dt = (h - x) dy, dx = dy (1 - t), dh = dy t."""
    dt[...] = (h - x) * dy
    dx[...] = dy * (x.dtype.type(1) - t)
    dh[...] = dy * t


def copy(x: np.ndarray, out: np.ndarray) -> None:
    """out = x, of whatever type."""
    np.copyto(out, x)


@isolated
def gather_rows(X: np.ndarray, rows: np.ndarray, x: np.ndarray) -> None:
    """x = X[rows]."""
    x[...] = X[rows]


@isolated
def add_up(x: np.ndarray) -> float:
    """The sum of ``x``, in double."""
    return total(x)


def _moved(average: np.ndarray, x: np.ndarray, steps: np.ndarray, share: float) -> np.ndarray:
    return average + average.dtype.type(share) * (x - average) if steps[0] else x


@isolated
def move_average(average: np.ndarray, x: np.ndarray, steps: np.ndarray, counted: int, share: float) -> None:
    """average += share (x - average), or x itself before any of the ``steps``, to which ``counted`` is added."""
    average[...] = _moved(average, x, steps, share)
    steps += counted


def bind_average(
    averages: Sequence[np.ndarray], arrays: Sequence[np.ndarray], steps: np.ndarray, share: float
) -> list[Runs]:
    """Instructions by which all ``averages`` take in their arrays, and the step is counted."""

    @isolated
    def average() -> None:
        after = [_moved(a, x, steps, share) for a, x in zip(averages, arrays, strict=True)]
        change_all([*zip(averages, repeat(...), after), (steps, 0, steps[0] + 1)])

    return [Call(average)]


_OPERATIONS = tuple(ARITHMETIC.values())


@isolated
def arithmetic(a: np.ndarray, b: np.ndarray | None, out: np.ndarray, operation: int) -> None:
    """out = the operation of this number on the elements of ``a`` and, unless it is None, ``b``, with broadcasting."""
    out[...] = _OPERATIONS[operation](a) if b is None else _OPERATIONS[operation](a, b)


@isolated
def row_sums(x: np.ndarray, sums: np.ndarray) -> None:
    """sums = the sum of every row of ``x``, rounded once."""
    sums[...] = lane_sums(x) if x.shape[1] <= BLOCK else [total(row) for row in x]


@isolated
def store_sum(out: np.ndarray, run: Runs, factor: float, divisor: float) -> None:
    """out = factor times what another instruction of the program has returned, divided by ``divisor``."""
    out[...] = run.result * factor / divisor


def bind_gather(X: np.ndarray, order: Moving, x: np.ndarray) -> list[Runs]:
    """Instructions by which ``x`` gets the rows of ``X`` that the step's ``order`` names.

    The first one ends the program if the caller's array is not as it was. Empty, if `Gather` is to do it.
    """
    return []


def bind(kernel: str, arrays: Sequence[Any], scalars: Sequence[Any] = ()) -> Instruction:
    """The kernel with its arrays and scalars, as an instruction."""
    return Instruction(globals()[kernel], arrays, scalars)
