"""The training step: bound once to the buffers of the model, as a program that is then only repeated."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import _backends
from .._backends.program import Moving, Runs, Stopped
from .._moving import copy_all, surely
from ..losses import Loss
from ..nn.layer import Layer
from ..nn.passes import Pass
from ..optim import Optimizer
from ..optim.bound import BoundStep
from .average import WeightAverage
from .data import Batches, Gather
from .updates import Update

Step = Callable[[int], float]  # the step of this number: the sum of the losses
Record = Callable[[bool], None]  # whether it did: what is to be done after every step
Arrays = dict[str, np.ndarray]


class Part(NamedTuple):
    """A part of an epoch: so many steps, each on so many rows."""

    step: Step
    steps: int
    rows: int


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

        def guarded(k: int) -> float:
            if kept:
                copy_all(kept, buffers)
            if average is not None:
                self._averaged = average.steps
            self._open = optimizer.step_count
            try:
                value = step(k)
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


class StepProgram:
    """Forward, loss and backward, and what comes before and after, as one program.

    The gradients, of ``scale`` times the sum of the losses, are then the model's. With ``update``, the optimizer's step
    follows, in the same program where nothing of it is code of the user's; ``record`` is told whether it was done.
    """

    def __init__(
        self,
        bound: Pass,
        criterion: Loss,
        target: np.ndarray,
        weight: np.ndarray | None,
        scale: float | None,
        update: Update | None,
        record: Record | None,
    ):
        backward = bound.backward(input_gradient=False)
        loss = criterion.calls(bound.y, target, bound.dy, weight, scale)
        self._bound, self._update, self._record, self._loss = bound, update, record, loss[-1]
        self._runs = [*bound.forward, *loss, *backward]
        self._unchanged: Runs | None = None  # what ends the program where the data is not as it was
        self._step: BoundStep | None = None
        if isinstance(update, BoundStep) and not (bound.context.custom or criterion.runs_user_code):
            self._step, self._update = update, None

    def assemble(self, before: list[Runs], after: list[Runs]) -> None:
        """Make the program, with what fills the inputs and what looks at the outputs."""
        step = [] if self._step is None else [self._step.instruction]
        self._program = _backends.active.Program([*before, *self._runs, *after, *step])

    def __call__(self, k: int = 0) -> float:
        """The sum of the losses of batch number k."""
        self._bound.prepare()
        if (step := self._step) is None:
            try:
                self._program(k)
            except Stopped:
                return self.again(k)
            value: float = self._loss.result
            done = self._update is None or self._update(1.0)
        else:
            with step.lock:
                step.prepare()
                try:
                    self._program(k)
                    done = True
                except Stopped:
                    if self._unchanged is not None and self._unchanged.result:
                        return self.again(k)
                    done = step.settle()
            value = self._loss.result
        if self._record is not None:
            self._record(done)
        return value

    def again(self, k: int) -> float:
        """What a subclass whose program can end before its step, as the data was not as it was, does then."""
        raise NotImplementedError


class Computation(StepProgram):
    """A step on each of the batches from one row of an epoch to another, all of one size.

    Or on a part of each: from row ``first`` of the ``size`` of a batch on, as many as the model is bound to.
    """

    def __init__(
        self,
        bound: Pass,
        batches: Batches,
        criterion: Loss,
        scale: float | None,
        begin: int,
        end: int,
        update: Update | None = None,
        record: Record | None = None,
        keep_outputs: bool = True,
        size: int | None = None,
        first: int = 0,
    ):
        self.rows = rows = len(bound.x)
        self._size, self._first = size or rows, first
        self.count = (end - begin) // self._size
        self._batches, self._begin, self._end = batches, begin, end
        bind, weights = _backends.active.bind, batches.weights
        target = batches.targets[:rows].copy()
        weight = None if weights is None else np.ones(rows, weights.dtype)
        super().__init__(bound, criterion, target, weight, scale, update, record)
        self._copies: list[Runs] = [bind("copy", (self._steps(batches.targets), target))]
        if weights is not None:
            self._copies.append(bind("copy", (self._steps(weights), weight)))
        self._kept: list[Runs] = [bind("copy", (bound.y, self._steps(batches.outputs)))] if keep_outputs else []
        self._assemble()

    def _steps(self, x: np.ndarray) -> Moving:
        """Its part of an array of the epoch, cut into batches."""
        shape = self.count, self._size, *x.shape[1:]
        return Moving(x[self._begin : self._end].reshape(shape)[:, self._first : self._first + self.rows])

    def _assemble(self) -> None:
        X, x, order = self._batches.X, self._bound.x, self._steps(self._batches.order)
        gather = _backends.active.bind_gather(X, order, x) or [Gather(X, order.array, x)]
        self._unchanged = gather[0] if len(gather) > 1 else None
        self.assemble([*gather, *self._copies], self._kept)

    def targets(self, k: int) -> np.ndarray:
        """Those of batch number k."""
        return self._batches.targets[self._begin + k * self._size + self._first :][: self.rows]

    def again(self, k: int) -> float:
        """Where the data is no longer as it was: it may lie elsewhere, but not be something else."""
        self._batches.check()
        self._assemble()
        return self(k)


def parts_of_an_epoch(
    undo: Undo,
    batches: Batches,
    criterion: Loss,
    update: Update,
    record: Record | None,
    accumulate: int,
    grads: Arrays,
    sums: Arrays,
    keeps: bool,
) -> list[Part]:
    """An epoch of steps on ``accumulate`` batches each, the last one on what is left; ``record`` is told of each.

    With ``accumulate`` of 1, ``update`` is to use ``grads``, the model's own; else ``sums``, where they are added up.
    With ``keeps``, the outputs of the epoch are kept.
    """
    size, whole, count = batches.size, batches.whole, len(batches.order)
    ends = [(0, whole), (whole, count)][: len(batches.passes)]
    parts = []
    if accumulate == 1:
        varies = criterion.row_weights(batches.targets) is not None  # then every batch's mean has its own denominator
        for bound, (begin, end) in zip(batches.passes, ends, strict=True):
            scale = None if varies else 1.0 / (len(bound.x) * criterion.per_row(bound.y))
            one = Computation(bound, batches, criterion, scale, begin, end, update, record, keeps)
            parts.append(Part(undo.guard(one), one.count, one.rows))
        return parts

    # The gradients are those of the sum of all losses; the step divides them by the number of these.
    computations = [
        Computation(bound, batches, criterion, 1.0, *ends_, keep_outputs=keeps)
        for bound, ends_ in zip(batches.passes, ends, strict=True)
    ]
    group = size * accumulate
    grouped = whole - whole % group
    accumulated = _accumulated(criterion, batches, update, record, grads, sums)
    each = [(computation, k) for computation in computations for k in range(computation.count)]
    if grouped:
        step = undo.guard(lambda k: accumulated(each[k * accumulate : (k + 1) * accumulate]))
        parts.append(Part(step, grouped // group, group))
    if rest := each[grouped // size :]:
        parts.append(Part(undo.guard(lambda _: accumulated(rest)), 1, count - grouped))
    return parts


def _accumulated(
    criterion: Loss, batches: Batches, update: Update, record: Record | None, grads: Arrays, sums: Arrays
) -> Callable[[list[tuple[Computation, int]]], float]:
    """A step on several batches: each a computation, and the batch's number in it."""
    z = batches.outputs[:1]
    pairs = [(sums[name], grad) for name, grad in grads.items() if grad is not None]

    def step(each: list[tuple[Computation, int]]) -> float:
        value, total = 0.0, 0.0
        for compute, k in each:
            value += compute(k)
            total += criterion.sum_of_weights(z, compute.targets(k))
            for sum_of_gradients, grad in pairs:
                if (compute, k) == each[0]:
                    np.copyto(sum_of_gradients, grad)
                else:
                    np.add(sum_of_gradients, grad, out=sum_of_gradients)
        done = update(1.0 / total if total else 1.0)
        if record is not None:
            record(done)
        return value

    return step
