"""What a training run works with: checked, and bound to one another."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .._backends.program import Runs
from .._checks import whole
from .._conversion import as_real_array
from ..losses import Loss
from ..losses.standard import as_loss
from ..nn.attributes import changes
from ..nn.layer import Layer
from ..nn.passes import Pass
from ..optim.bound import BoundStep
from .data import (
    Batches,
    Data,
    bound_to_batches,
    check_unchanged,
    fingerprint,
    inputs,
    kind_of,
    sample_weights,
    sizes_of_batches,
    with_mean_one,
)
from .held import rows_held
from .metrics import Metrics
from .shards import Company, Shards, bound_to_parts, parts_in_shards
from .splits import check_split, split
from .steps import Part, Undo, Update, parts_of_an_epoch
from .updates import Clipping, Norms, gradients_for, update_of


class Session:
    """Model, data, loss and optimizer, checked, and bound to one another."""

    def __init__(
        self,
        model: Layer,
        X: Any,
        y: Any,
        optimizer: Any,
        loss: Any,
        batch_size: int | None,
        validation: Any,
        sample_weight: Any,
        accumulate: int,
        how_to_split: Any = None,
        metrics: Any = None,
        drop_last: bool = False,
        company: Company | None = None,
        class_weight: Any = None,
        total_rows: int | None = None,
    ):
        if not isinstance(model, Layer):
            raise TypeError(f"model must be a fastopt.nn.Layer, such as a Sequential, not {type(model).__name__}")
        model.check_arrays()
        self.model, self.optimizer, self._accumulate = model, optimizer, accumulate
        self.metrics = Metrics(metrics)
        self._company, self._holds_all = company, total_rows is None
        self._bound: BoundStep | None = None
        self._bind_gradients()
        batch_size = None if batch_size is None else whole("batch_size", batch_size, 1)
        criterion = as_loss(loss).with_class_weight(class_weight)
        dtype = model.dtype or np.dtype(np.float32)
        X = inputs("X", X, dtype)
        held = rows_held(total_rows, company, len(X))
        if held is not None:
            X, y, sample_weight = held.completed(X, y, sample_weight)
        in_all = len(X) if held is None else held.rows
        weight = sample_weights("sample_weight", sample_weight, in_all)
        fraction = validation is not None and not isinstance(validation, (tuple, list, np.ndarray))
        if how_to_split is not None and not fraction:
            raise ValueError(f"split={how_to_split!r} is for a fraction of the rows as validation")
        if fraction and held is not None:
            raise ValueError(f"validation={validation}: where total_rows are spread over processes, it must be a pair")
        count = check_split(validation, how_to_split, in_all) if fraction else 0
        sizes: list[int] | None = None
        if company is not None:
            sizes = sizes_of_batches(in_all - count, batch_size, drop_last)
        self._bind_passes = partial(self._passes_for, X, sizes, in_all - count, batch_size, dtype, drop_last)
        passes = self._bind_passes()
        output_shape = passes[0].y.shape[1:]
        y = targets(criterion, "y", y, (in_all, *output_shape), dtype)
        rows, self._held_out = np.arange(in_all), np.arange(0)
        self._validation: Data | None = None
        self._classifies = classifies = criterion.accuracy(passes[0].y[:1], y[:1]) is not None
        if fraction:
            counted = criterion.resolved(passes[0].y.shape).row_weights(y)
            rows, self._held_out = split(count, how_to_split, y, classifies, counted)
        self.criterion = criterion = criterion.resolved(passes[0].y.shape, y[rows])
        counted = criterion.row_weights(y)
        if fraction:
            for those, purpose in ((rows, "train on"), (self._held_out, "validate with")):
                if counted is not None and not counted[those].any():
                    raise ValueError(f"validation={validation}: of the {len(those)} rows to {purpose}, no label counts")
            name = "sample_weight of the validation rows"
            held_out_weight = with_mean_one(name, weight, self._held_out, counted, dtype)
            self._validation = Data(
                X, y[self._held_out], None if held_out_weight is None else held_out_weight[self._held_out]
            )
        elif validation is not None:
            self._validation = checked_validation(validation, X.shape, output_shape, criterion, dtype)
            self._held_out = np.arange(len(self._validation.X))
        self._validation_kind = kind_of(X if self._validation is None else self._validation.X)
        weight = with_mean_one("sample_weight", weight, rows, counted, dtype)
        self.batches = Batches(passes, Data(X, y, weight), rows, sizes, held)
        batches = self.batches
        self.sum_of_weights = criterion.sum_of_weights(batches.outputs, batches.targets)
        # few enough rows that the products of small networks stay in one thread, enough for those of large ones
        self._predicted_at_once = max(64, min(batches.size, 1024))

    def _passes_for(
        self, X: np.ndarray, sizes: list[int] | None, rows: int, batch_size: int | None, dtype: Any, drop_last: bool
    ) -> list[Pass]:
        if self._company is None or sizes is None:
            return bound_to_batches(self.model, X, rows, batch_size, dtype, drop_last)
        self._passes = bound_to_parts(self.model, X, sizes, dtype, self._company)
        return [bound for of_shard in self._passes for bound in of_shard.values()]

    def _bind_gradients(self) -> None:
        """Those of what is not frozen now, and what the optimizer's step is given."""
        self._frozen, self._frozen_at = self.model.frozen_parameters(), changes.frozen
        self._grads = gradients_for(self.optimizer, self.model)
        self.stepped, self._shards = self._grads, None
        if self._accumulate > 1:
            self.stepped = {name: None if g is None else np.zeros_like(g) for name, g in self._grads.items()}
        if self._company is not None:
            self._shards = Shards(self.model, self._grads, self._company)
            self.stepped = self._shards.stepped

    def is_stale(self) -> bool:
        """Whether other layers are frozen than those that all is bound for."""
        if self._frozen_at is not changes.frozen:
            if self.model.frozen_parameters() != self._frozen:
                return True
            self._frozen_at = changes.frozen
        return False

    def bind_again(self) -> None:
        """After layers have been frozen, or no longer are: `update` and `parts` then come anew."""
        self._bind_gradients()
        self.batches.passes = self._bind_passes()

    def check_arrays(self) -> None:
        """Refuse to go on where arrays have been replaced, reshaped or made read-only since."""
        self.batches.check()
        self.check_weights()

    def check_weights(self) -> None:
        """The same, of the model's and the optimizer's alone."""
        self.model.check_arrays()
        if self._bound is not None:
            self._bound.check()
        arrays = self.model.arrays()
        if not all(bound.still_fits(arrays) for bound in self.batches.passes):
            raise ValueError(
                "a gradient or a running statistic of the model was replaced, or has other memory, since training began"
            )

    @property
    def rows(self) -> int:
        """How many are trained on."""
        return len(self.batches.rows)

    def begin_epoch(self, generator: Any) -> None:
        """See that all is as it was, and, with a generator, put the rows into a new order."""
        self.check_arrays()
        if generator is not None:
            self.batches.shuffle(generator)
            if self.batches.drops:  # other rows than in the epoch before
                self.sum_of_weights = self.criterion.sum_of_weights(self.batches.outputs, self.batches.targets)

    def recorded(self) -> list[str]:
        """What there is to record of every epoch."""
        curves = ["loss", *(["accuracy"] if self._classifies else []), *self.metrics.names]
        return [*curves, "lr", *(f"val_{name}" for name in curves if self._validation is not None)]

    def update(self, on_nonfinite: str, clipping: Clipping, then: Sequence[Runs] = ()) -> Update:
        """The optimizer's step, after which ``then`` is run."""
        bound, update = update_of(self.optimizer, self.stepped, on_nonfinite, clipping, then)
        if self._shards is not None:
            bound, update = self._shards.spread(self.optimizer, bound, update, on_nonfinite, clipping)
        self._bound = bound
        return update

    def parts(self, update: Update, undo: Undo, norms: Norms | None = None) -> list[Part]:
        """An epoch."""
        if self._shards is not None:
            return parts_in_shards(
                self._shards,
                self._passes,
                undo,
                self.batches,
                self.criterion,
                update,
                norms,
                self._accumulate,
                self._keeps_outputs,
            )
        return parts_of_an_epoch(
            undo,
            self.batches,
            self.criterion,
            update,
            norms,
            self._accumulate,
            self._grads,
            self.stepped,
            self._keeps_outputs,
        )

    @property
    def _keeps_outputs(self) -> bool:
        return bool(self._classifies or self.metrics.names)

    def description(self) -> dict[str, str]:
        """What a run that goes on with other data, or another loss, can be told from."""
        batches, held_out = self.batches, self._validation
        dtype = batches.outputs.dtype
        return {
            "batch_size": str(batches.size),
            "loss": named(self.criterion),
            "X": fingerprint(batches.X, dtype)
            if self._holds_all
            else f"{len(batches.rows)} rows, spread over processes",
            "y": fingerprint(batches.y),
            "sample_weight": fingerprint(batches.weight),
            "validation": "none"
            if held_out is None
            else f"X {fingerprint(held_out.X, dtype)} and y {fingerprint(held_out.y)}",
        }

    def end_epoch(self) -> None:
        """Complete the outputs, where processes share the shards."""
        if self._shards is not None and self._keeps_outputs:
            self._shards.share_outputs(self.batches)

    def measured(self) -> dict[str, float]:
        """The epoch's accuracy, if the loss knows what is right, and its metrics."""
        batches = self.batches
        value = self.criterion.accuracy(batches.outputs, batches.targets, batches.weights)
        accuracy = {} if value is None else {"accuracy": value}
        return accuracy | self.metrics.measured(batches.targets, batches.outputs)

    def mean_loss(self, value: float, begin: int, rows: int) -> float:
        """Of the sum of the losses of some of the epoch's rows, the mean."""
        batches = self.batches
        total = self.criterion.sum_of_weights(batches.outputs, batches.targets[begin : begin + rows])
        return value / total if total else math.nan

    @property
    def validates(self) -> bool:
        """Whether there is validation data."""
        return self._validation is not None

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the validation data, if there is any, and the metrics."""
        if self._validation is None:
            return {}
        X, y, weight = self._validation
        check_unchanged("validation X", X, self._validation_kind)
        rows, at_once = self._held_out, self._predicted_at_once
        z = np.empty((len(rows), *self.batches.outputs.shape[1:]), self.batches.outputs.dtype)
        for begin in range(0, len(rows), at_once):
            z[begin : begin + at_once] = self.model.predict(X[rows[begin : begin + at_once]], at_once)
        accuracy = self.criterion.accuracy(z, y, weight)
        measured = {"val_loss": self.criterion.mean(z, y, weight)}
        if accuracy is not None:
            measured["val_accuracy"] = accuracy
        return measured | self.metrics.measured(y, z, "val_")


def named(criterion: Loss) -> str:
    of = getattr(criterion, "function", criterion)
    if type(of).__repr__ is not object.__repr__ and isinstance(of, Loss):
        return repr(of)
    return getattr(of, "__qualname__", type(of).__qualname__)


def targets(criterion: Loss, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """What the loss makes of ``y``; of whole numbers, by which the kernels find their way, in a copy of this run's."""
    y = as_real_array(name, y)
    if y.dtype.kind in "iu":
        y = y.copy()  # before it is checked: it may change at any time
    return criterion.targets(name, y, output_shape, dtype)


def checked_validation(
    validation: Any, shape: tuple[int, ...] | None, output_shape: tuple[int, ...], criterion: Loss, dtype: np.dtype
) -> Data:
    if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
        raise TypeError(
            "validation must be a pair (X, y), a triple (X, y, sample_weight) or a fraction,"
            f" not {type(validation).__name__}"
        )
    X = inputs("validation X", validation[0], dtype)
    if shape is not None and X.shape[1:] != shape[1:]:
        raise ValueError(f"validation X has shape {X.shape}, X has {shape}: all but the rows must agree")
    y = targets(criterion, "validation y", validation[1], (len(X), *output_shape), dtype)
    y = y.copy()  # as the kernels read it: nobody else is to change its size
    name, rows = "validation sample_weight", np.arange(len(X))
    weight = sample_weights(name, validation[2] if len(validation) == 3 else None, len(X))
    return Data(X, y, with_mean_one(name, weight, rows, criterion.row_weights(y), dtype))
