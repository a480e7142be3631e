"""Training data that comes batch by batch, from an iterable: what is larger than memory, or made as it is needed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from .._backends.program import Runs
from .._checks import whole
from ..losses.standard import as_loss
from ..nn.layer import Layer
from ..optim import Optimizer
from .data import Data
from .metrics import Metrics
from .session import checked_validation, named
from .step import TrainingStep
from .steps import Part, Undo
from .updates import Clipping, Norms

_NONE = object()


class Source:
    """The batches of each epoch, whatever they come from.

    A function is asked for those of every epoch, by its number from 0. What can be gone through again is;
    or, with ``steps_per_epoch``, gone on with, and begun again where it ends. What cannot, as a generator, is gone on
    with, and its end ends training.
    """

    def __init__(self, batches: Any, steps_per_epoch: int | None, epochs: int):
        self.steps = None if steps_per_epoch is None else whole("steps_per_epoch", steps_per_epoch, 1)
        array = hasattr(batches, "shape") or hasattr(batches, "__array__") or isinstance(batches, (str, bytes, Mapping))
        if array or not (callable(batches) or isinstance(batches, Iterable)):
            raise TypeError(
                "y is missing: without it, X must be an iterable of batches (x, y), or a function of the epoch that"
                f" returns one, not {type(batches).__name__}"
            )
        self._function: Callable[[int], Iterable[Any]] | None = batches if callable(batches) else None
        self._batches = batches
        self._going_on: Iterator[Any] = iter(batches if self._function is None else ())
        self.once = self._going_on is batches
        if self.once and self.steps is None and epochs > 1:
            raise ValueError(
                f"a {type(batches).__name__} is used up after one of {epochs} epochs: give steps_per_epoch, or a"
                " function of the epoch that makes one, or something to be gone through again"
            )

    def of_epoch(self, epoch: int) -> Iterator[Any]:
        if self._function is not None:
            return islice(iter(self._function(epoch)), self.steps)
        return iter(self._batches) if self.steps is None else self._next(self.steps)

    def _next(self, count: int) -> Iterator[Any]:
        """So many, from where the last epoch has ended."""
        for _ in range(count):
            batch = next(self._going_on, _NONE)
            if batch is _NONE and not self.once:
                self._going_on = iter(self._batches)
                batch = next(self._going_on, _NONE)
            if batch is _NONE:
                return
            yield batch


class Stream:
    """Model, loss and optimizer, for batches that come: what `Session` is for arrays."""

    def __init__(
        self,
        model: Layer,
        batches: Any,
        optimizer: Optimizer,
        loss: Any,
        validation: Any,
        metrics: Any,
        class_weight: Any,
        steps_per_epoch: int | None,
        epochs: int,
    ):
        if not isinstance(model, Layer):
            raise TypeError(f"model must be a fastopt.nn.Layer, such as a Sequential, not {type(model).__name__}")
        if isinstance(class_weight, str):
            raise ValueError(f"class_weight={class_weight!r} needs all labels at once: give a number for each class")
        self.model, self.optimizer, self.metrics = model, optimizer, Metrics(metrics)
        self.source = Source(batches, steps_per_epoch, epochs)
        self.criterion = as_loss(loss).with_class_weight(class_weight)
        self.epoch, self.rows = 0, 1  # of which a checkpoint tells
        self._validation: Data | None = None
        if validation is not None:
            if not isinstance(validation, (tuple, list)):
                raise TypeError(f"validation must be data, as X comes in batches, not {type(validation).__name__}")
            self._validate_with(validation)
        self._begin()

    def _validate_with(self, validation: Any) -> None:
        dtype = self.model.dtype or np.dtype(np.float32)
        shape = self.model.predict(np.asarray(validation[0])[:1]).shape if len(validation) else (1,)
        self.criterion = self.criterion.resolved(shape)
        self._validation = checked_validation(validation, None, shape[1:], self.criterion, dtype)

    def _begin(self) -> None:
        """Forget the epoch before."""
        self.sum_of_weights, self._rows, self._right, self._weight = 0.0, 0.0, 0.0, 1.0
        self._classifies: bool | None = None
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []

    # -- what is bound --

    def update(self, on_nonfinite: str, clipping: Clipping, then: Sequence[Runs] = ()) -> TrainingStep:
        """The step, after which ``then`` is run."""
        return _Step(self.model, self.optimizer, self.criterion, on_nonfinite, clipping, then)

    def parts(self, step: TrainingStep, undo: Undo, norms: Norms | None) -> "Batches":
        step._undo, step._norms = undo, norms
        self.step = step
        return Batches(self)

    def bind_again(self) -> None:
        """A step finds by itself what is frozen."""

    def is_stale(self) -> bool:
        return False

    def check_weights(self) -> None:
        self.model.check_arrays()
        self.step._bound.check()

    # -- an epoch --

    def begin_epoch(self, generator: Any) -> None:
        self.check_weights()
        self._begin()

    def end_epoch(self) -> None:
        if not self.sum_of_weights and not self._rows:
            raise ValueError("there are no batches to train on")

    def do(self, batch: Any, number: int) -> Part:
        """The step on a batch that has come."""
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            what = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
            raise TypeError(f"batch {number} of an epoch must be (x, y) or (x, y, sample_weight), and has {what}")

        def step(_: int) -> float:
            loss = self.step(*batch)
            of_shape = next(reversed(self.step._steps.values()))  # the last one used
            z, y, criterion = of_shape._passes[0].y, of_shape._target, of_shape._criterion
            counted = criterion.row_weights(y)
            rows = float(len(z) if counted is None else np.count_nonzero(counted))
            self._weight = criterion.sum_of_weights(z, y)
            accuracy = criterion.accuracy(z, y, of_shape._weight)
            self._classifies = accuracy is not None
            if accuracy is not None and rows:
                self._right += rows * accuracy
            self._rows += rows
            self.sum_of_weights += self._weight
            if self.metrics.names:
                self._kept.append((y.copy(), z.copy()))
            return loss * self._weight if self._weight else 0.0

        return Part(step, 1, 0)

    def mean_loss(self, value: float, begin: int, rows: int) -> float:
        """That of the last step."""
        return value / self._weight if self._weight else math.nan

    def measured(self) -> dict[str, float]:
        accuracy = {"accuracy": self._right / self._rows if self._rows else math.nan} if self._classifies else {}
        if not self.metrics.names:
            return accuracy
        y, z = (np.concatenate(arrays) for arrays in zip(*self._kept, strict=True))
        return accuracy | self.metrics.measured(y, z)

    @property
    def validates(self) -> bool:
        return self._validation is not None

    def validate(self) -> dict[str, float]:
        if self._validation is None:
            return {}
        X, y, weight = self._validation
        z = self.model.predict(X, 256)
        measured = {"val_loss": self.criterion.mean(z, y, weight)}
        if (accuracy := self.criterion.accuracy(z, y, weight)) is not None:
            measured["val_accuracy"] = accuracy
        return measured | self.metrics.measured(y, z, "val_")

    def recorded(self) -> list[str]:
        classifies = type(self.criterion).__name__ in ("LogisticLoss", "CrossEntropy") or self._classifies
        curves = ["loss", *(["accuracy"] if classifies else []), *self.metrics.names]
        return [*curves, "lr", *(f"val_{name}" for name in curves if self._validation is not None)]

    def description(self) -> dict[str, str]:
        return {"loss": named(self.criterion), "X": "batches of an iterable", "steps_per_epoch": str(self.source.steps)}


class Batches:
    """The parts of an epoch, each a step on a batch; the next batch is taken before, so that the last one is known."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self._last: Part | None = None

    def __iter__(self) -> Iterator[Part]:
        stream, self._last = self._stream, None
        batches, number = stream.source.of_epoch(stream.epoch), 1
        following = next(batches, _NONE)
        while following is not _NONE:
            part = stream.do(following, number)
            number += 1
            # of a generator without end, one that is not needed is not taken
            following = next(batches, _NONE) if stream.source.steps != number - 1 else _NONE
            if following is _NONE:
                self._last = part
            yield part

    def __getitem__(self, i: int) -> Part | None:
        return self._last

    @property
    def steps(self) -> int | None:
        return self._stream.source.steps


class _Step(TrainingStep):
    """With what else comes after a step of a run."""

    def __init__(
        self, model: Layer, optimizer: Optimizer, loss: Any, on_nonfinite: str, clipping: Clipping, then: Sequence[Runs]
    ):
        self._then = then
        super().__init__(model, optimizer, loss, on_nonfinite=on_nonfinite, **clipping)  # type: ignore[arg-type]
