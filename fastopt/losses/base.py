"""The base of all losses: what `fastopt.fit` asks of one, and what is called by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.memory import first_changed, header
from .._backends.program import Call, Runs
from .._conversion import as_real_array, mapped_as_array, way_to_array
from .arrays import check_arrays, check_weight, checked_scale, finite, near_one, weights_of_rows


class Loss:
    """The base of all losses of a model's outputs, averaged over the batch; for one's own, see `fastopt.losses`."""

    runs_user_code = True  # whether `calls` may

    def losses(self, z: np.ndarray, y: np.ndarray, dz: np.ndarray) -> np.ndarray:
        """The losses of a batch; their gradient goes into ``dz``.

        Parameters
        ----------
        z : ndarray (rows, ...)
            The model's outputs.
        y : ndarray
            The targets, as `targets` returned them.
        dz : ndarray like ``z``
            Where to put the gradient of the sum of the losses.

        Returns
        -------
        ndarray (rows,), or like ``z``
            A loss for each row, or for each output.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method losses(z, y, dz)")

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The targets as `losses` takes them, or the error that they call for.

        Parameters
        ----------
        name : str
            What to call them in an error.
        y : array
            What the user gave. Of shape (rows,) it is taken for (rows, 1) if that is the outputs' shape.
        output_shape : tuple of int
            That of the model's outputs for as many rows.
        dtype : numpy.dtype
            That of the outputs.

        Raises
        ------
        TypeError, ValueError
            If the targets are not numbers, not finite, or not as many as the outputs.
        """
        given, y = y, as_real_array(name, y)
        if y.ndim == 1 and output_shape[1:] == (1,):
            y = y[:, None]
        if y.shape != output_shape:
            raise ValueError(
                f"{name} has shape {y.shape}, the model's output for as many rows has {output_shape}"
                f"{if_labels(y, output_shape)}"
            )
        return finite(name, y, dtype, given)

    def accuracy(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float | None:
        """The share of what is right, by weight (rows,) if there is one; None where there is no right and wrong."""
        return None

    def row_weights(self, y: np.ndarray) -> np.ndarray | None:
        """How much each row counts in the mean, (rows,); None if all count alike."""
        return None

    @property
    def varies(self) -> bool:
        """Whether rows may count differently."""
        return type(self).row_weights is not Loss.row_weights

    def resolved(self, output_shape: tuple[int, ...], y: np.ndarray | None = None) -> "Loss":
        """The same loss, for outputs of this shape, and for training on these targets, if they are given."""
        return self

    def with_class_weight(self, class_weight: Any) -> "Loss":
        """The same loss, with weights for the classes."""
        if class_weight is None:
            return self
        raise ValueError(f"class_weight is for the logistic loss and the cross-entropy, not for {self!r}")

    def per_row(self, z: np.ndarray) -> int:
        """How many losses a row has: the mean is over all of them."""
        return math.prod(z.shape[1:])

    def bind(
        self, z: np.ndarray, y: np.ndarray, dz: np.ndarray, weight: np.ndarray | None = None, scale: float | None = None
    ) -> Callable[[], float]:
        """A call that writes the gradient into ``dz`` and returns the sum of the losses, for arrays that stay.

        The gradient is that of ``scale`` times the sum; of the mean if there is none. ``weight`` (rows,) multiplies the
        losses of each row. The call raises ValueError if an array has since got another shape, type or memory.
        """
        z, y, dz, weight = map(mapped_as_array, (z, y, dz, weight))
        calls = self.calls(z, y, dz, weight, scale)
        program, last = _backends.active.Program(calls), calls[-1]
        headers = [header(x) for x in (z, y, dz, weight) if isinstance(x, np.ndarray) and x.flags.c_contiguous]

        def checked() -> float:
            if (changed := first_changed(headers)) is not None:
                raise ValueError(f"an array, now of shape {changed.shape}, was changed in place since it was bound")
            program()
            return last.result

        return checked

    def calls(
        self, z: np.ndarray, y: np.ndarray, dz: np.ndarray, weight: np.ndarray | None, scale: float | None
    ) -> list[Runs]:
        """The same as instructions, for arrays that nobody else has; the last one's result is the sum of the losses."""
        check_arrays(z, y, dz, self._like_targets(z))
        check_weight(weight, z)
        scale = checked_scale(scale, z)
        each = self._checked(self.losses(z, y, dz), z)
        rows = max(len(z), 1)
        share_of_row = self.per_row(z) / max(each.size // rows, 1)
        factor = share_of_row * (1.0 / max(self.per_row(z) * rows, 1) if scale is None else scale)
        column = 1.0 if weight is None else _column(weight, dz)

        @isolated
        def call() -> float:
            each = self._checked(self.losses(z, y, dz), z)
            if weight is not None:
                np.multiply(dz, column, out=dz)
                each = each * _column(weight, each)
            np.multiply(dz, dz.dtype.type(factor), out=dz)
            return share_of_row * float(each.sum(dtype=np.float64))

        return [Call(call)]

    def _like_targets(self, z: Any) -> tuple[tuple[int, ...], Any] | None:
        """The shape and dtype of the targets of outputs ``z``; None if a class of one's own has others."""
        if type(self).targets is not Loss.targets:
            return None
        return np.shape(z), getattr(z, "dtype", None)

    def _checked(self, losses: Any, z: np.ndarray) -> np.ndarray:
        if not isinstance(losses, np.ndarray) or losses.shape not in (z.shape, z.shape[:1]):
            given = losses.shape if isinstance(losses, np.ndarray) else type(losses).__name__
            raise ValueError(
                f"{type(self).__name__}.losses must return an array of shape {z.shape[:1]} or {z.shape}, not {given}"
            )
        return losses

    def sum_of_weights(self, z: np.ndarray, y: np.ndarray) -> float:
        """What the mean of the losses is the sum divided by."""
        rows = self.row_weights(y)
        return self.per_row(z) * (float(len(y)) if rows is None else float(rows.sum()))

    @isolated
    def mean(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
        """The mean loss; with ``weight`` (rows,), whose mean is 1, the weighted one.

        Raises
        ------
        TypeError, ValueError
            If ``z`` is no array of outputs, ``y`` none of its targets, as `targets` returns them, or ``weight`` not of
            finite numbers of at least 0; if no row counts, of which there is no mean.
        """
        z, y, weight = map(mapped_as_array, (z, y, weight))
        if not isinstance(z, np.ndarray):
            raise TypeError(f"z must be an array, not {type(z).__name__}{way_to_array('z', z)}")
        weight = weights_of_rows(weight, z)
        calls = self.calls(z, y, np.empty_like(z), weight, None)
        for call in calls:
            call()
        total: float = calls[-1].result
        divisor = self.sum_of_weights(z, y)
        if divisor == 0:
            raise ValueError(f"of z, of shape {z.shape}, no row counts: there is no mean")
        return total / divisor


def if_labels(y: np.ndarray, output_shape: tuple[int, ...]) -> str:
    """What to do about targets that are of no use to a loss of numbers, if they look like labels of classes."""
    if y.dtype.kind not in "iu" or y.size != output_shape[0] or len(output_shape) != 2:
        return ""
    classes = output_shape[1]
    if classes > 1 and y.min() >= 0 and y.max() < classes:
        return f'; for labels of {classes} classes, give loss="cross_entropy"'
    return '; labels of classes need a model with an output for each, and loss="cross_entropy"' if classes == 1 else ""


def _column(weight: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A weight for each row, in a shape that multiplies ``like``."""
    return weight.reshape(-1, *(1,) * (like.ndim - 1))


def weighted(kernel: Runs, each: np.ndarray, dz: np.ndarray, weight: np.ndarray) -> list[Runs]:
    """``kernel``, which fills ``each`` and ``dz``, with a weight for each row."""
    bind = _backends.active.bind
    if weight.dtype == dz.dtype and all(x.flags.c_contiguous and x.flags.aligned for x in (weight, each, dz)):
        return [kernel, bind("scale_rows", (_rows(dz), weight)), bind("scale_rows", (_rows(each), weight)),
                bind("add_up", (each,))]  # fmt: skip
    weight_of_loss, weight_of_gradient = _column(weight, each), _column(weight, dz)

    @isolated
    def scale() -> None:
        np.multiply(dz, weight_of_gradient, out=dz)
        np.multiply(each, weight_of_loss, out=each)

    return [kernel, Call(scale), bind("add_up", (each,))]


def _rows(x: np.ndarray) -> np.ndarray:
    """As a matrix, a row for each of its rows."""
    return x.reshape(len(x), -1) if x.size else x.reshape(len(x), 0)


def share(right: np.ndarray, weight: np.ndarray | None) -> float:
    """The share of what is right, by the rows' weights if there are any."""
    if weight is None:
        return float(np.count_nonzero(right) / right.size) if right.size else math.nan
    weight = np.asarray(weights_of_rows(weight, right), np.float64)
    weight = near_one(weight)
    total = weight.sum()
    return float((right.reshape(len(right), -1).mean(axis=1) * weight).sum() / total) if total else math.nan


def mean_of(loss: Loss, y: np.ndarray, take: Callable[[float], None]) -> Call:
    """Before a kernel: gives it the scale of the mean over these targets, whatever they then are."""

    def find_scale() -> None:
        counted = loss.row_weights(y)
        total = len(y) if counted is None else counted.sum()
        take(1.0 / total if total else 0.0)

    return Call(find_scale)
