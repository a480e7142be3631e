"""The training step: bound once to the buffers of the model, and then only repeated."""

from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from .. import _backends
from .._moving import copy_all, surely
from ..losses import Loss
from ..nn.layer import Layer
from ..nn.passes import Pass
from ..optim import Optimizer
from .average import WeightAverage
from .data import Batches, gathering

Step = Callable[..., float]  # on rows, targets, weights and outputs: the sum of the losses
Update = Callable[[float], bool]  # with what scales the gradients: whether the optimizer did its step
Arrays = dict[str, np.ndarray]


class Part(NamedTuple):
    """A part of an epoch: ``step`` for each entry of ``arrays`` in turn, each of them of ``rows`` rows."""

    step: Step
    rows: int
    arrays: tuple[Any, ...]


class Undo:
    """What a step changes beside the optimizer's own, so that it is done wholly or not at all, whatever is raised.

    The optimizer's count of steps, which it commits together with the weights, tells which: with a step that it has not
    done, running statistics and counters are put back; to one that it has done, what comes after it is added.
    """

    def __init__(self, model: Layer, optimizer: Optimizer, average: WeightAverage | None):
        self._optimizer, self._average = optimizer, average
        self._buffers = list(model.buffers.values())
        self._kept = [buffer.copy() for buffer in self._buffers]
        self._open: int | None = None  # the optimizer's count of steps, within one
        self._averaged = 0  # the average's

    def guard(self, step: Step) -> Step:
        """``step``, undone or completed if it raises."""
        optimizer, average, kept, buffers = self._optimizer, self._average, self._kept, self._buffers

        def guarded(rows: Any, targets: Any, weights: Any, outputs: Any) -> float:
            if kept:
                copy_all(kept, buffers)
            if average is not None:
                self._averaged = average.steps
            self._open = optimizer.step_count
            try:
                value = step(rows, targets, weights, outputs)
                self._open = None
                return value
            except FloatingPointError as error:
                surely(self.settle)
                raise FloatingPointError(
                    f"the gradients are not finite any more: lower the learning rate, {optimizer.lr:g}, or clip"
                    f" them by clip_norm, if data and loss are in order ({error})"
                ) from error
            except BaseException:
                surely(self.settle)
                raise

        return guarded

    @property
    def changes_buffers(self) -> bool:
        """Whether there is anything that a forward pass in training changes."""
        return bool(self._kept)

    def after_refusal(self) -> None:
        """Put back what the forward pass of a step that is left out has changed."""
        copy_all(self._buffers, self._kept)

    def settle(self) -> None:
        """Undo or complete the step that was going on, if there was one."""
        if self._open is None:
            return
        if self._optimizer.step_count == self._open:
            copy_all(self._buffers, self._kept)
        elif self._average is not None and self._average.steps == self._averaged:
            self._average.update()
        self._open = None


def parts_of_an_epoch(
    undo: Undo, batches: Batches, criterion: Loss, update: Update, accumulate: int, grads: Arrays, sums: Arrays
) -> list[Part]:
    """An epoch of steps on ``accumulate`` batches each, the last one on what is left.

    With ``accumulate`` of 1, ``update`` is to use ``grads``, the model's own; else ``sums``, where they are added up.
    """
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
            parts.append(Part(undo.guard(step), rows, arrays))
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
        step = undo.guard(lambda *blocks: accumulated([(computations[0], blocks)]))
        parts.append(Part(step, group, arrays))
    if rest:
        parts.append(Part(undo.guard(lambda *_: accumulated(rest)), count - grouped, ((None,),) * 4))
    return parts


def _computation(bound: Pass, batches: Batches, criterion: Loss, scale: float | None) -> Step:
    """Forward and backward: the gradients, of ``scale`` times the sum of the losses, are then the model's."""
    x = bound.x
    output = bound.y
    backward = bound.backward(input_gradient=False)
    take, gather, target = batches.X.take, gathering(batches.X, x), batches.targets[: len(x)].copy()
    weight = None if batches.weights is None else np.ones(len(x), batches.weights.dtype)
    loss = criterion.calls(output, target, bound.dy, weight, scale)
    program, last = _backends.active.Program([*bound.forward, *loss, *backward]), loss[-1]

    def compute(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, outputs: np.ndarray | None) -> float:
        bound.prepare()
        if gather is None:
            take(rows, 0, x, "clip")  # "clip": without it, take fills a copy of the output first
        else:
            gather(rows)
        target[...] = targets
        if weight is not None:
            weight[...] = weights
        program()
        if outputs is not None:
            outputs[...] = output
        return last.result

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
