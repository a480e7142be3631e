"""The training step: bound once to the buffers of the model, and then only repeated."""

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from .._layer import Layer
from .._passes import Pass
from ..losses import Loss
from .data import Batches

Step = Callable[..., float]  # on rows, targets, weights and outputs: the sum of the losses
Update = Callable[[float], bool]  # with what scales the gradients: whether the optimizer did its step
Arrays = dict[str, np.ndarray]


class Part(NamedTuple):
    """A part of an epoch: ``step`` for each entry of ``arrays`` in turn, each of them of ``rows`` rows."""

    step: Step
    rows: int
    arrays: tuple[Any, ...]


def parts_of_an_epoch(
    model: Layer, batches: Batches, criterion: Loss, update: Update, accumulate: int, grads: Arrays, sums: Arrays
) -> list[Part]:
    """An epoch of steps on ``accumulate`` batches each, the last one on what is left.

    With ``accumulate`` of 1, ``update`` is to use ``grads``, the model's own; else ``sums``, where they are added up.
    """
    buffers = _Buffers(model)
    update = buffers.put_back_after_refusal(update)
    keeps = criterion.accuracy(batches.outputs, batches.targets) is not None
    size, whole, count = batches.size, batches.whole, len(batches.order)
    ends = [(0, whole), (whole, count)][: len(batches.passes)]
    parts = []
    if accumulate == 1:
        varies = criterion.row_weights(batches.targets) is not None  # then every batch's mean has its own denominator
        for bound, (begin, end) in zip(batches.passes, ends, strict=True):
            rows = len(bound.x)
            scale = None if varies else 1.0 / (rows * criterion.per_row(bound.y))
            step = _step(_computation(bound, batches, criterion, scale), update)
            arrays = batches.arrays(begin, end, ((end - begin) // rows, rows), keeps)
            parts.append(Part(buffers.guard(step), rows, arrays))
        return parts

    # The gradients are those of the sum of all losses; the step divides them by the number of these.
    computations = [_computation(bound, batches, criterion, 1.0) for bound in batches.passes]
    group = size * accumulate
    grouped = whole - whole % group
    rest = []
    if grouped < whole:
        rest.append((computations[0], batches.arrays(grouped, whole, ((whole - grouped) // size, size), keeps)))
    if whole < count:
        rest.append((computations[1], batches.arrays(whole, count, (1, count - whole), keeps)))
    accumulated = _accumulated(criterion, batches, update, grads, sums)
    if grouped:
        arrays = batches.arrays(0, grouped, (grouped // group, accumulate, size), keeps)
        step = buffers.guard(lambda *blocks: accumulated([(computations[0], blocks)]))
        parts.append(Part(step, group, arrays))
    if rest:
        parts.append(Part(buffers.guard(lambda *_: accumulated(rest)), count - grouped, ((None,),) * 4))
    return parts


def _computation(bound: Pass, batches: Batches, criterion: Loss, scale: float | None) -> Step:
    """Forward and backward: the gradients, of ``scale`` times the sum of the losses, are then the model's."""
    x, output = bound.x, bound.y
    forward, backward = bound.forward, bound.backward(input_gradient=False)
    take, target = batches.X.take, batches.targets[: len(x)].copy()
    weight = None if batches.weights is None else np.ones(len(x), batches.weights.dtype)
    loss = criterion.bind(output, target, bound.dy, weight, scale)

    def compute(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, outputs: np.ndarray | None) -> float:
        take(rows, 0, x, "clip")
        target[...] = targets
        if weight is not None:
            weight[...] = weights
        for call in forward:
            call()
        value = loss()
        for call in backward:
            call()
        if outputs is not None:
            outputs[...] = output
        return value

    return compute


def _step(compute: Step, update: Update) -> Step:
    def step(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, outputs: np.ndarray | None) -> float:
        value = compute(rows, targets, weights, outputs)
        update(1.0)
        return value

    return step


def _accumulated(
    criterion: Loss, batches: Batches, update: Update, grads: Arrays, sums: Arrays
) -> Callable[[list[tuple[Step, Any]]], float]:
    """A step on all batches of some blocks: each a computation, and arrays with its arguments."""
    z = batches.outputs[:1]
    pairs = [(sums[name], grad) for name, grad in grads.items()]

    def step(blocks: list[tuple[Step, Any]]) -> float:
        value, total, add = 0.0, 0.0, False
        for compute, arrays in blocks:
            for batch in zip(*(repeat(None) if array is None else array for array in arrays), strict=False):
                value += compute(*batch)
                total += criterion.sum_of_weights(z, batch[1])
                for sum_of_gradients, grad in pairs:
                    if add:
                        np.add(sum_of_gradients, grad, out=sum_of_gradients)
                    else:
                        np.copyto(sum_of_gradients, grad)
                add = True
        update(1.0 / total if total else 1.0)
        return value

    return step


class _Buffers:
    """The model's running statistics and counters, which a step that is not done leaves as they were."""

    def __init__(self, model: Layer):
        pairs = [(buffer, buffer.copy()) for buffer in model.buffers.values()]
        self._save = [partial(np.copyto, kept, buffer) for buffer, kept in pairs]
        self._restore = [partial(np.copyto, buffer, kept) for buffer, kept in pairs]

    def _put_back(self) -> None:
        for copy in self._restore:
            copy()

    def put_back_after_refusal(self, update: Update) -> Update:
        if not self._restore:
            return update

        def guarded(scale: float) -> bool:
            done = update(scale)
            if not done:
                self._put_back()
            return done

        return guarded

    def guard(self, step: Step) -> Step:
        """``step``, with what the buffers are before it kept, and put back if it raises."""
        if not self._restore:
            return step
        save = self._save

        def guarded(*arrays: Any) -> float:
            for copy in save:
                copy()
            try:
                return step(*arrays)
            except BaseException:
                self._put_back()
                raise

        return guarded
