"""The cross-entropy of training, from labels or probabilities."""

from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.memory import readable
from .._backends.program import Runs
from .._checks import a_number
from .._conversion import as_real_array
from .arrays import argmax, check_arrays, check_rows, check_weight, checked_scale, finite, near_one
from .base import Loss, mean_of, share, weighted
from .weights import class_weights, refuse_unknown, shown, weights_for


class CrossEntropy(Loss):
    r"""The cross-entropy of softmax: the model's outputs are logits, one for each class.

    The targets are integer labels, as in `fastopt.softmax_cross_entropy`; or probabilities :math:`p` of shape (rows,
    classes), rows of which add up to 1, such as a teacher's, mixed-up labels or one-hot rows:

    .. math:: \ell = -\sum_j w_j \left((1 - a) p_j + \frac{a}{C}\right) \log \mathrm{softmax}(z)_j

    Their mean is over the rows, whatever the weights of the classes, as in PyTorch. Right is the likeliest class.

    Parameters
    ----------
    label_smoothing : float from 0 to 1
        The share of a label that goes to all classes in equal parts.
    ignore_index : int
        Rows with this label count for nothing, in the loss and in the accuracy.
    weight : "balanced", dict or array (classes,), optional
        The weights of the classes. The mean over a batch is over the sum of its labels' weights, as in PyTorch. In a
        dict those of some classes, the others' being 1; "balanced", for `fastopt.fit`: n / (classes * n of the class),
        n being the number of rows to train on.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range; by `fastopt.fit`, if there are not as many weights as outputs, or a label is not
        one of the classes.

    Examples
    --------
    >>> import fastopt as fo
    >>> fo.losses.CrossEntropy(label_smoothing=0.1)
    CrossEntropy(label_smoothing=0.1)

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016, section 7, for the
    smoothing. PyTorch: ``torch.nn.CrossEntropyLoss``.
    """

    runs_user_code = False

    def __init__(self, *, label_smoothing: float = 0.0, ignore_index: int = -100, weight: Any = None):
        self._label_smoothing = a_number("label_smoothing", label_smoothing, low=0)
        if self._label_smoothing > 1:
            raise ValueError(f"label_smoothing must be from 0 to 1, not {label_smoothing}")
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
            raise TypeError(f"ignore_index must be an int, not {type(ignore_index).__name__}")
        if not -(2**63) <= ignore_index < 2**63:
            raise ValueError(f"ignore_index must be a whole number of 64 bits, not {ignore_index}")
        self._ignore_index = int(ignore_index)
        self._weight = None if weight is None else class_weights("weight", weight)
        # only their ratios matter
        self._shares = near_one(self._weight) if isinstance(self._weight, np.ndarray) else None

    @property
    def label_smoothing(self) -> float:
        """The share of a label that goes to all classes."""
        return self._label_smoothing

    @property
    def ignore_index(self) -> int:
        """The label of rows that count for nothing."""
        return self._ignore_index

    @property
    def weight(self) -> Any:
        """A copy of the weights of the classes."""
        return self._weight.copy() if isinstance(self._weight, (np.ndarray, dict)) else self._weight

    def with_class_weight(self, class_weight: Any) -> "Loss":
        if class_weight is None:
            return self
        if self._weight is not None:
            raise ValueError(f"class_weight={class_weight!r}, and {self!r} has weights already: give one of them")
        return self._with(class_weights("class_weight", class_weight))

    def _with(self, weight: Any) -> "CrossEntropy":
        options = {"label_smoothing": self._label_smoothing, "ignore_index": self._ignore_index}
        return CrossEntropy(**options, weight=weight)  # type: ignore[arg-type]

    def resolved(self, output_shape: tuple[int, ...], y: np.ndarray | None = None) -> "Loss":
        if self._weight is None or (isinstance(self._weight, str) and y is None):
            return self
        classes, counts = output_shape[-1], None
        if y is not None:
            labels = y[y != self._ignore_index] if y.ndim == 1 else None
            counts = y.sum(axis=0) if labels is None else np.bincount(labels, minlength=classes)
            counts = counts.astype(np.float64)
        return self._with(weights_for("weight", self._weight, classes, counts))

    def __repr__(self) -> str:
        options = {"label_smoothing": (self.label_smoothing, 0.0), "ignore_index": (self.ignore_index, -100),
                   "weight": (shown(self._weight), "None")}  # fmt: skip
        given = [f"{name}={value}" for name, (value, default) in options.items() if value != default]
        return f"CrossEntropy({', '.join(given)})"

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        labels = as_real_array(name, y)
        if labels.dtype.kind == "f":
            finite(name, labels, np.float64, y)
        if labels.shape == output_shape and labels.ndim == 2 and labels.shape[1] > 1:
            return self._probabilities(name, labels, dtype)
        if labels.dtype.kind not in "iu":
            as_labels = (labels == np.trunc(labels)).all()
            raise TypeError(
                f"{name} must hold integer labels for the cross-entropy, not {labels.dtype}"
                f"{f'; {name}.astype(int) makes labels of these' if as_labels else ''}"
            )
        if len(output_shape) != 2:
            raise ValueError(f"the model's output has shape {output_shape}, the cross-entropy takes (rows, classes)")
        rows, classes = output_shape
        if isinstance(self._weight, np.ndarray) and self._weight.shape != (classes,):
            raise ValueError(f"weight has shape {self._weight.shape}, the model has {classes} outputs")
        if labels.shape != (rows,):
            column = f"; {name}.ravel() has it" if labels.shape == (rows, 1) else ""
            raise ValueError(
                f"{name} has shape {labels.shape}, for the cross-entropy of {rows} rows it is ({rows},){column}"
            )
        used = labels[labels != self.ignore_index]
        low, high = (used.min(), used.max()) if used.size else (0, 0)
        if low < 0 or high >= classes:
            logistic = '; two classes of one output: loss="logistic"' if classes == 1 and 0 <= low <= high <= 1 else ""
            raise ValueError(
                f"{name} must be from 0 to {classes - 1}, one for each of the model's {classes} outputs;"
                f" it goes from {low} to {high}{logistic}"
            )
        labels = readable(labels, np.int64)
        counted = self.row_weights(labels)
        if counted is not None and not counted.any():
            raise ValueError(f"all labels of {name} are ignore_index={self.ignore_index}, or of classes of weight 0")
        return labels

    def _probabilities(self, name: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Targets that are no labels, if they are how much of a row each class is."""
        classes = values.shape[1]
        if isinstance(self._weight, np.ndarray) and self._weight.shape != (classes,):
            raise ValueError(f"weight has shape {self._weight.shape}, the model has {classes} outputs")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"{name} must be probabilities, from 0 to 1, or labels of shape ({len(values)},); it goes from"
                f" {values.min()} to {values.max()}"
            )
        sums = values.sum(axis=1, dtype=np.float64)
        if wrong := np.flatnonzero(abs(sums - 1) > 1e-3).tolist():
            raise ValueError(f"{name} must be probabilities: row {wrong[0]} adds up to {sums[wrong[0]]:g}, not 1")
        return finite(name, values, dtype)

    def per_row(self, z: np.ndarray) -> int:
        return 1

    def row_weights(self, y: np.ndarray) -> np.ndarray | None:
        if y.ndim == 2:
            return None
        used = y != self.ignore_index
        if self._shares is None:
            return None if used.all() else used.astype(np.float64)
        return np.where(used, self._shares.take(y, mode="clip"), 0.0)

    def calls(
        self,
        z: np.ndarray,
        y: np.ndarray,
        dz: np.ndarray,
        weight: np.ndarray | None = None,
        scale: float | None = None,
    ) -> list[Runs]:
        if isinstance(y, np.ndarray) and y.ndim == 2 and y.dtype.kind == "f":
            return self._calls_of_probabilities(z, y, dz, weight, scale)
        check_arrays(z, y, dz, (np.shape(z)[:1], np.int64))
        check_weight(weight, z)
        refuse_unknown(self, self._weight)
        scale = checked_scale(scale, z)
        if z.ndim != 2 or (self._shares is not None and self._shares.shape != z.shape[1:]):
            weights = "" if self._shares is None else f", and weight {self._shares.shape}"
            raise ValueError(f"z has shape {z.shape}{weights}: they must be (rows, classes) and (classes,)")
        if (used := _backends.active.count_labels(y, z.shape[1], self.ignore_index)) < 0:
            raise ValueError(f"y[{-1 - used}] is {y[-1 - used]}: not one of the {z.shape[1]} classes of z")
        classes = None if self._shares is None else self._shares.astype(z.dtype)
        total_weight = float(z.shape[1]) if classes is None else float(classes.sum(dtype=np.float64))
        each = None if weight is None else np.empty(len(z), z.dtype)
        kernel = _backends.active.bind("softmax_cross_entropy", (z, y, classes, each, dz))

        def take(scale: float) -> None:
            kernel.set(self.ignore_index, scale, total_weight, self.label_smoothing)

        take(1.0 if scale is None else scale)
        calls: list[Runs] = [mean_of(self, y, take)] if scale is None else []
        return [*calls, kernel] if weight is None or each is None else [*calls, *weighted(kernel, each, dz, weight)]

    def _calls_of_probabilities(
        self, z: np.ndarray, y: np.ndarray, dz: np.ndarray, weight: np.ndarray | None, scale: float | None
    ) -> list[Runs]:
        check_arrays(z, y, dz, (np.shape(z), getattr(z, "dtype", None)))
        check_weight(weight, z)
        refuse_unknown(self, self._weight)
        if self._weight is not None and self._weight.shape != z.shape[1:]:
            raise ValueError(f"z has shape {z.shape}, weight {self._weight.shape}: it must be (classes,)")
        if np.shares_memory(y, dz):
            raise ValueError("dz is the same array as y, which is read again after it was written")
        scale = 1.0 / max(len(z), 1) if scale is None else checked_scale(scale, z)
        classes = None if self._weight is None else self._weight.astype(z.dtype)
        each = None if weight is None else np.empty(len(z), z.dtype)
        options = scale, self.label_smoothing
        kernel = _backends.active.bind("soft_cross_entropy", (z, y, classes, each, dz), options)
        return [kernel] if weight is None or each is None else weighted(kernel, each, dz, weight)

    @isolated
    def accuracy(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
        """The share of rows, of those that count, whose largest output is that of the label."""
        if isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] > 1:
            check_rows(z, y, np.shape(z))
            return share(argmax(z) == argmax(y), weight)
        check_rows(z, y, np.shape(z)[:1])
        if z.ndim != 2:
            raise ValueError(f"z has shape {z.shape}: it must be (rows, classes)")
        right, used = argmax(z) == y, y != self.ignore_index
        if not used.all():
            right, weight = right[used], None if weight is None else weight[used]
        return share(right, weight)
