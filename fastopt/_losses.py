"""The losses that `fastopt.fit` knows by name."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _backends


def real(name: str, values: Any) -> np.ndarray:
    """``values`` as an array, if they are real numbers."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, not {values.dtype}")
    return values


def finite(name: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``values`` as a contiguous array of ``dtype``, the same if it is one, if all of them are finite."""
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype)
    if _backends.active.any_nonfinite(values):
        row = next(i for i, row in enumerate(values) if not np.isfinite(row).all())
        raise ValueError(f"{name} holds NaN or infinity (as {dtype}), first in row {row}")
    return values


class Loss:
    """A loss of a model's outputs, averaged over the batch."""

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """``y`` as the kernel takes it, or the error that it calls for."""
        y = real(name, y)
        if y.ndim == 1 and output_shape[1:] == (1,):
            y = y[:, None]
        if y.shape != output_shape:
            raise ValueError(f"{name} has shape {y.shape}, the model's output for as many rows has {output_shape}")
        return finite(name, y, dtype)

    def count(self, z: np.ndarray) -> int:
        """How many losses the outputs have: the mean is over these."""
        return z.size

    def bind(self, z: np.ndarray, y: np.ndarray, dz: np.ndarray) -> Callable[[], float]:
        """A call that writes the gradient of the mean into ``dz`` and returns the sum of the losses."""
        raise NotImplementedError

    def mean(self, z: np.ndarray, y: np.ndarray) -> float:
        return self.bind(z, y, np.empty_like(z))() / self.count(z)

    def accuracy(self, z: np.ndarray, y: np.ndarray) -> float | None:
        """The share of outputs that are right; None where there is no right and wrong."""
        return None


class LogisticLoss(Loss):
    """`fastopt.logistic_loss`: the outputs are logits."""

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        values = real(name, y)
        if values.size and not ((values >= 0) & (values <= 1)).all():
            low, high = values.min(), values.max()
            raise ValueError(f"{name} must be in [0, 1] for the logistic loss; it goes from {low} to {high}")
        return super().targets(name, values, output_shape, dtype)

    def bind(self, z: np.ndarray, y: np.ndarray, dz: np.ndarray) -> Callable[[], float]:
        return _backends.active.bind("logistic_loss", z, y, None, dz, 1.0 / z.size)

    def accuracy(self, z: np.ndarray, y: np.ndarray) -> float:
        """The share of outputs on the side of 0 that the target is of 1/2."""
        return float(np.count_nonzero((z > 0) == (y > 0.5)) / z.size)


class SquaredError(Loss):
    """`fastopt.mse_loss`."""

    def bind(self, z: np.ndarray, y: np.ndarray, dz: np.ndarray) -> Callable[[], float]:
        return _backends.active.bind("mse_loss", z, y, None, dz, 2.0 / z.size)


class CrossEntropy(Loss):
    """`fastopt.softmax_cross_entropy`: the outputs are logits, one for each class."""

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        labels = np.asarray(y)
        if labels.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integer labels for the cross-entropy, not {labels.dtype}")
        if len(output_shape) != 2:
            raise ValueError(f"the model's output has shape {output_shape}, the cross-entropy takes (rows, classes)")
        rows, classes = output_shape
        if labels.shape != (rows,):
            raise ValueError(f"{name} has shape {labels.shape}, for the cross-entropy of {rows} rows it is ({rows},)")
        low, high = labels.min(), labels.max()
        if low < 0 or high >= classes:
            raise ValueError(
                f"{name} must be from 0 to {classes - 1}, one for each of the model's {classes} outputs;"
                f" it goes from {low} to {high}"
            )
        return np.ascontiguousarray(labels, np.int64)

    def count(self, z: np.ndarray) -> int:
        return len(z)

    def bind(self, z: np.ndarray, y: np.ndarray, dz: np.ndarray) -> Callable[[], float]:
        no_label, smoothing = -1, 0.0
        scale, total_weight = 1.0 / len(z), float(z.shape[1])
        return _backends.active.bind(
            "softmax_cross_entropy", z, y, None, None, dz, scale, total_weight, smoothing, no_label
        )

    def accuracy(self, z: np.ndarray, y: np.ndarray) -> float:
        """The share of rows whose largest output is that of the label."""
        return float(np.count_nonzero(z.argmax(axis=1) == y) / len(z))


LOSSES: dict[str, type[Loss]] = {"logistic": LogisticLoss, "cross_entropy": CrossEntropy, "mse": SquaredError}
