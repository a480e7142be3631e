"""The training step: bound once to the buffers of the model, as a program that is then only repeated."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .. import _backends
from .._backends.program import Moving, Runs, Stopped
from .._moving import copy_all, surely
from ..losses import Loss
from ..nn.layer import Layer
from ..nn.passes import Pass
from ..optim import Optimizer
from ..optim.bound import BoundStep, steps_of
from .average import WeightAverage
from .data import Batches, Gather
from .updates import Norms, Update

Step = Callable[[int], float]  # the step of this number: the sum of the losses
# From which number on, at most how many, and a sum to go on with: how many were done, and the sum with their losses.
Steps = Callable[[int, int, float], tuple[int, float]]
Arrays = dict[str, np.ndarray]
Result = TypeVar("Result")


_NOT_KEPT = -1


class Part(NamedTuple):
    """A part of an epoch: so many steps, each on so many rows; many of which can be done at once, or not."""

    step: Step
    steps: int
    rows: int
    at_once: Steps | None = None


class Undo:
    """What a step changes beside the optimizer's own, so that it is done wholly or not at all, whatever is raised.

    A step begins with ``keeping``, which notes at which count of the optimizer's steps the buffers were kept. That is
    committed together with the weights, and so tells what is left to do: with a step that was not done, running
    statistics and counters are put back; to one that was, what comes after it is added.
    """

    def __init__(self, model: Layer, optimizer: Optimizer, average: WeightAverage | None):
        self._optimizer, self._average = optimizer, average
        self._buffers = list(model.buffers.values())
        self._kept = [buffer.copy() for buffer in self._buffers]
        self._kept_at = np.full_like(steps_of(optimizer), _NOT_KEPT)
        self._open: tuple[int, int] | None = None  # the counts of the optimizer and the average, within a step
        kept = (
            [*zip(self._buffers, self._kept, strict=True), (steps_of(optimizer), self._kept_at)] if self._kept else []
        )
        self.keeping: list[Runs] = [_backends.active.bind("copy", pair) for pair in kept]
        self.keep = _backends.active.Program(self.keeping)  # the same, where a step is no single program

    def begin(self) -> None:
        """Note that a step begins, which is to be completed if the optimizer does its part."""
        if self._average is not None:
            self._open = self._optimizer.step_count, self._average.steps

    def guard(self, step: Callable[..., Result]) -> Callable[..., Result]:
        """``step``, or many of them in one call, of which the last is undone or completed if it raises."""
        optimizer, kept_at = self._optimizer, self._kept_at

        def guarded(*arguments: Any) -> Result:
            self.begin()
            try:
                value = step(*arguments)
                kept_at[0] = _NOT_KEPT
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

    def refused(self) -> None:
        """Put back what the forward pass of a step that is left out has changed."""
        copy_all(self._buffers, self._kept)

    def settle(self) -> None:
        """Undo or complete the step that was going on, if there was one."""
        done = self._optimizer.step_count
        if self._kept_at[0] == done:
            copy_all(self._buffers, self._kept)
        if self._open is not None and self._average is not None and self._open == (done - 1, self._average.steps):
            self._average.update()
        self._kept_at[0] = _NOT_KEPT
        self._open = None


class StepProgram:
    """Forward, loss and backward, and what comes before and after, as one program.

    The gradients, of ``scale`` times the sum of the losses, are then the model's. With ``update``, the optimizer's step
    follows, in the same program where nothing of it is code of the user's; ``undo`` puts right what a step that is left
    out has changed, and ``norms`` are told of all others.
    """

    def __init__(
        self,
        bound: Pass,
        criterion: Loss,
        target: np.ndarray,
        weight: np.ndarray | None,
        scale: float | None,
        undo: Undo,
        update: Update | None,
        norms: Norms | None,
    ):
        backward = bound.backward(input_gradient=False)
        loss = criterion.calls(bound.y, target, bound.dy, weight, scale)
        self._bound, self._undo, self._update, self._norms, self._loss = bound, undo, update, norms, loss[-1]
        self._runs = [*bound.forward, *loss, *backward]
        self._unchanged: Runs | None = None  # what ends the program where the data is not as it was
        self._step: BoundStep | None = None
        if isinstance(update, BoundStep) and not (bound.context.custom or criterion.runs_user_code):
            self._step, self._update = update, None

    def assemble(self, before: list[Runs], after: list[Runs]) -> None:
        """Make the program, with what fills the inputs and what looks at the outputs."""
        step = [] if self._step is None else self._step.instructions
        self._program = _backends.active.Program([*before, *self._runs, *after, *step])

    @property
    def runs_many(self) -> bool:
        """Whether many steps can be done in one call: no Python has to be run between them."""
        return self._step is not None and self._program.run_steps is not None

    def many(self, k: int, most: int, total: float) -> tuple[int, float]:
        """Steps from number k on, at most so many: how many were done, and the sum of their losses and ``total``."""
        step, run_steps = self._step, self._program.run_steps
        if step is None or run_steps is None:  # data that was changed in place is gathered by Python since
            return 1, total + self(k)
        self._bound.prepare()
        with step.lock:
            count = step.prepare_steps(most)
            done, total = run_steps(k, count, self._loss, total)
            if self._norms is not None:
                self._norms.values += step.norms(done)
            if done == count:
                return count, total
            step.prepare_steps(0)
            self._undo.begin()
            return done + 1, total + self._ended(k + done, 1.0)

    def __call__(self, k: int = 0, grad_scale: float = 1.0) -> float:
        """The sum of the losses of batch number k; ``grad_scale`` is the step's."""
        self._bound.prepare()
        if (step := self._step) is None:
            try:
                self._program(k)
            except Stopped:
                return self.again(k, grad_scale)
            value: float = self._loss.result
            done = self._update is None or self._update(grad_scale)
        else:
            with step.lock:
                step.prepare(grad_scale)
                try:
                    self._program(k)
                except Stopped:
                    return self._ended(k, grad_scale)
                value, done = self._loss.result, True
        return value if done and self._norms is None else self._complete(value, done)

    def _ended(self, k: int, grad_scale: float) -> float:
        """Step number k, whose program was ended: again if the data was not as it was, or settled by the optimizer."""
        if self._unchanged is not None and self._unchanged.result:
            return self.again(k, grad_scale)
        assert self._step is not None
        done = self._step.settle()
        return self._complete(self._loss.result, done)

    def _complete(self, value: float, done: bool) -> float:
        if not done:
            self._undo.refused()
        elif self._norms is not None:
            self._norms()
        return value

    def again(self, k: int, grad_scale: float) -> float:
        """What a subclass whose program can end before its step, as the data was not as it was, does then."""
        raise NotImplementedError


class Computation(StepProgram):
    """A step on each of the batches from one row of an epoch to another, all of one size.

    Or on a part of each: from row ``first`` of the ``size`` of a batch on, as many as the model is bound to. ``before``
    and ``after`` are instructions around those that take a batch to its outputs and gradients.
    """

    def __init__(
        self,
        bound: Pass,
        batches: Batches,
        criterion: Loss,
        scale: float | None,
        begin: int,
        end: int,
        undo: Undo,
        update: Update | None,
        norms: Norms | None,
        before: Sequence[Runs],
        after: Sequence[Runs],
        keep_outputs: bool,
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
        super().__init__(bound, criterion, target, weight, scale, undo, update, norms)
        self._copies: list[Runs] = [bind("copy", (self._steps(batches.targets), target))]
        if weights is not None:
            self._copies.append(bind("copy", (self._steps(weights), weight)))
        self._before, self._after = list(before), list(after)
        if keep_outputs:
            self._after.append(bind("copy", (bound.y, self._steps(batches.outputs))))
        self._assemble()

    def _steps(self, x: np.ndarray) -> Moving:
        """Its part of an array of the epoch, cut into batches."""
        shape = self.count, self._size, *x.shape[1:]
        return Moving(x[self._begin : self._end].reshape(shape)[:, self._first : self._first + self.rows])

    def _assemble(self) -> None:
        X, x, order = self._batches.X, self._bound.x, self._steps(self._batches.places)
        gather = _backends.active.bind_gather(X, order, x) or [Gather(X, order.array, x)]
        self._unchanged = gather[0] if len(gather) > 1 else None
        self.assemble([*self._before, *gather, *self._copies], self._after)

    def targets(self, k: int) -> np.ndarray:
        """Those of batch number k."""
        return self._batches.targets[self._begin + k * self._size + self._first :][: self.rows]

    def again(self, k: int, grad_scale: float) -> float:
        """Where the data is no longer as it was: it may lie elsewhere, but not be something else."""
        self._batches.check()
        self._assemble()
        return self(k, grad_scale)


def parts_of_an_epoch(
    undo: Undo,
    batches: Batches,
    criterion: Loss,
    update: Update,
    norms: Norms | None,
    accumulate: int,
    grads: Arrays,
    sums: Arrays,
    keeps: bool,
) -> list[Part]:
    """An epoch of steps on ``accumulate`` batches each, the last one on what is left; ``norms`` are told of each.

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
            one = Computation(
                *(bound, batches, criterion, scale, begin, end, undo, update, norms, undo.keeping, ()), keeps
            )
            parts.append(Part(undo.guard(one), one.count, one.rows, undo.guard(one.many) if one.runs_many else None))
        return parts

    group = _Group(undo, batches, criterion, update, norms, grads, sums, keeps)
    each = [(i, k) for i, (begin, end) in enumerate(ends) for k in range((end - begin) // len(batches.passes[i].x))]
    rows = size * accumulate
    grouped = whole - whole % rows
    if grouped:
        step = undo.guard(lambda k: group(each[k * accumulate : (k + 1) * accumulate]))
        parts.append(Part(step, grouped // rows, rows))
    if rest := each[grouped // size :]:
        parts.append(Part(undo.guard(lambda _: group(rest)), 1, count - grouped))
    return parts


class _Group:
    """A step on several batches: the gradients are those of the sum of all losses, and it divides by their number."""

    def __init__(
        self,
        undo: Undo,
        batches: Batches,
        criterion: Loss,
        update: Update,
        norms: Norms | None,
        grads: Arrays,
        sums: Arrays,
        keeps: bool,
    ):
        self._undo, self._batches, self._criterion, self._keeps = undo, batches, criterion, keeps
        self._update, self._norms = update, norms
        bind, pairs = _backends.active.bind, [(grad, sums[name]) for name, grad in grads.items() if grad is not None]
        self._copies = [bind("copy", (grad, total)) for grad, total in pairs]
        self._sums = [bind("add", (total, grad, total)) for grad, total in pairs]
        self._computations: dict[tuple[int, bool, bool], Computation] = {}

    def _computation(self, i: int, first: bool, last: bool) -> Computation:
        """That of a batch of the epoch's part i, the first or the last one of a step."""
        if (key := (i, first, last)) not in self._computations:
            batches = self._batches
            begin, end = ((0, batches.whole), (batches.whole, len(batches.order)))[i]
            self._computations[key] = Computation(
                *(batches.passes[i], batches, self._criterion, 1.0, begin, end, self._undo),
                self._update if last else None,
                self._norms if last else None,
                self._undo.keeping if first else (),
                self._copies if first else self._sums,
                self._keeps,
            )
        return self._computations[key]

    def __call__(self, each: list[tuple[int, int]]) -> float:
        """The step on these batches: each a part of the epoch, and the batch's number in it."""
        value, total, end, z = 0.0, 0.0, len(each) - 1, self._batches.outputs[:1]
        computations = [self._computation(i, n == 0, n == end) for n, (i, _) in enumerate(each)]
        for compute, (_, k) in zip(computations, each, strict=True):
            total += self._criterion.sum_of_weights(z, compute.targets(k))
        for compute, (_, k) in zip(computations, each, strict=True):
            value += compute(k, 1.0 / total if total else 1.0)
        return value
