"""The losses that there are, and what makes one of a name or a function."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.memory import readable
from .._backends.program import Call, Runs
from .._checks import a_number, positive
from .._conversion import as_real_array
from .arrays import check_arrays, check_rows, check_weight, checked_scale, finite, near_one
from .base import Loss, if_labels, share, weighted
from .weights import class_weights, nonnegative, weights_for

__all__ = ["CrossEntropy", "Huber", "LogisticLoss", "SquaredError"]


class LogisticLoss(Loss):
    r"""The logistic loss (binary cross-entropy): the model's outputs are logits.

    .. math:: \ell_i = -w y_i \log \sigma(z_i) - (1 - y_i) \log(1 - \sigma(z_i))

    See `fastopt.logistic_loss`.

    Parameters
    ----------
    pos_weight : float or array, optional
        w: the weight of the positive targets, one for all outputs or one for each. Above 1 it weighs recall.
    class_weight : "balanced", dict or array (2,), optional
        Instead, for one output: the weights of the classes 0 and 1. The mean over a batch is then over the sum of its
        rows' weights, as that of `CrossEntropy` with ``weight``, of which the other options are told, too.

    Raises
    ------
    TypeError, ValueError
        If the weight is not of numbers of at least 0; by `fastopt.fit`, if they are not as many as the outputs, or a
        target is not in [0, 1].

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> X, y = np.array([[0.0], [1.0], [1.0]]), np.array([0, 0, 1])
    >>> model = fo.nn.Linear(1, 1, dtype=np.float64, rng=0)
    >>> opt = fo.optim.Adam(model.parameters(), lr=0.1)
    >>> _ = fo.fit(model, X, y, loss=fo.losses.LogisticLoss(pos_weight=3.0), optimizer=opt, epochs=400, batch_size=None)
    >>> fo.sigmoid(model(X))[1].round(2)  # three to one, by weight
    array([0.75])
    """

    runs_user_code = False

    def __init__(self, pos_weight: Any = None, *, class_weight: Any = None):
        self._pos_weight = None if pos_weight is None else nonnegative("pos_weight", pos_weight)
        if pos_weight is not None and class_weight is not None:
            raise ValueError("pos_weight and class_weight: give one of them")
        self._class_weight = None if class_weight is None else class_weights("class_weight", class_weight)
        self._take_class_weight()

    def _take_class_weight(self) -> None:
        """Make of the classes' weights, where they are known, one of the positive targets: only their ratio matters."""
        given = self._class_weight
        if isinstance(given, dict):
            self._class_weight = given = weights_for("class_weight", given, 2, None)
        if isinstance(given, np.ndarray):
            weights_for("class_weight", given, 2, None)
            if given[0] == 0:
                raise ValueError("class_weight of class 0 must be above 0: leave its rows out")
            self._pos_weight = given[1:] / given[0]

    @property
    def pos_weight(self) -> np.ndarray | None:
        """A copy of the weight of the positive targets."""
        return None if self._pos_weight is None else self._pos_weight.copy()

    @property
    def varies(self) -> bool:
        return self._class_weight is not None

    def with_class_weight(self, class_weight: Any) -> "Loss":
        if class_weight is None:
            return self
        if self._pos_weight is not None or self._class_weight is not None:
            raise ValueError(f"class_weight={class_weight!r}, and {self!r} has weights already: give one of them")
        return LogisticLoss(class_weight=class_weight)

    def resolved(self, output_shape: tuple[int, ...], y: np.ndarray | None = None) -> "Loss":
        if self._class_weight is None:
            return self
        if math.prod(output_shape[1:]) != 1:
            raise ValueError(
                f"class_weight is for one output, the model's for a row has {output_shape[1:]}: pos_weight has a number"
                " for each"
            )
        if y is None or not isinstance(self._class_weight, str):
            return self
        positive = float(y.sum(dtype=np.float64))
        counts = np.array([y.size - positive, positive])
        return LogisticLoss(class_weight=weights_for("class_weight", self._class_weight, 2, counts))

    def row_weights(self, y: np.ndarray) -> np.ndarray | None:
        if self._class_weight is None or self._pos_weight is None:
            return None
        return 1.0 + (self._pos_weight[0] - 1.0) * y.reshape(-1).astype(np.float64)

    def __repr__(self) -> str:
        if self._class_weight is not None:
            return f"LogisticLoss(class_weight={_shown(self._class_weight)})"
        return f"LogisticLoss({'' if self.pos_weight is None else f'pos_weight={self.pos_weight.tolist()}'})"

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        values = as_real_array(name, y)
        if values.size and not ((values >= 0) & (values <= 1)).all():
            if values.dtype.kind == "f":
                finite(name, values, np.float64, y)
            low, high = values.min(), values.max()
            labels = " (for -1 and 1: y > 0)" if low == -1 and high == 1 else if_labels(values, output_shape)
            raise ValueError(f"{name} must be in [0, 1] for the logistic loss; it goes from {low} to {high}{labels}")
        self._pos_weight_as(dtype, output_shape)
        return super().targets(name, values, output_shape, dtype)

    def _pos_weight_as(self, dtype: np.dtype, output_shape: tuple[int, ...]) -> np.ndarray | None:
        """The weights of positive targets in the outputs' type, if they fit to it and to the outputs."""
        own = self._pos_weight
        if own is None:
            return None
        if own.size not in (1, math.prod(output_shape[1:])):
            raise ValueError(f"pos_weight has shape {own.shape}, the model's output for a row has {output_shape[1:]}")
        if own.max() > np.finfo(dtype).max:
            raise ValueError(f"pos_weight is {own.max():g}, which is beyond {dtype}")
        return own.astype(dtype)

    def _like_targets(self, z: Any) -> tuple[tuple[int, ...], Any]:
        return np.shape(z), getattr(z, "dtype", None)

    def calls(
        self,
        z: np.ndarray,
        y: np.ndarray,
        dz: np.ndarray,
        weight: np.ndarray | None = None,
        scale: float | None = None,
    ) -> list[Runs]:
        check_arrays(z, y, dz, self._like_targets(z))
        check_weight(weight, z)
        refuse_unknown(self, self._class_weight)
        pos_weight = self._pos_weight_as(z.dtype, z.shape)
        scale = checked_scale(scale, z)
        if scale is None and not self.varies:
            scale = 1.0 / max(z.size, 1)
        if weight is None and pos_weight is None:
            return [_backends.active.bind("logistic_loss", (z, y, None, dz), (scale,))]
        each = None if weight is None else np.empty_like(z)
        options = 1.0 if scale is None else scale, 1.0, 0.0
        kernel = _backends.active.bind("weighted_logistic_loss", (z, y, None, pos_weight, each, dz), options)
        before: list[Runs] = [] if scale is not None else [mean_of(self, y, lambda scale: kernel.set(scale, 1.0, 0.0))]
        return [*before, *([kernel] if weight is None or each is None else weighted(kernel, each, dz, weight))]

    @isolated
    def accuracy(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
        """The share of outputs on the side of 0 that the target is of 1/2."""
        check_rows(z, y, np.shape(z))
        return share((z > 0) == (y > 0.5), weight)


class _OfPairs(Loss):
    """A loss of an output and a target each, of which ``kernel`` computes value and gradient."""

    runs_user_code = False
    kernel: str
    slope = 1.0  # of which the kernel's scale is a multiple

    def numbers(self) -> tuple[float, ...]:
        """What the kernel takes beside the scale."""
        return ()

    def calls(
        self,
        z: np.ndarray,
        y: np.ndarray,
        dz: np.ndarray,
        weight: np.ndarray | None = None,
        scale: float | None = None,
    ) -> list[Runs]:
        check_arrays(z, y, dz, (np.shape(z), getattr(z, "dtype", None)))
        check_weight(weight, z)
        scale = checked_scale(self.slope * (1.0 / max(z.size, 1) if scale is None else a_number("scale", scale)), z)
        each = None if weight is None else np.empty_like(z)
        kernel = _backends.active.bind(self.kernel, (z, y, each, dz), (scale, *self.numbers()))
        return [kernel] if weight is None or each is None else weighted(kernel, each, dz, weight)


class SquaredError(_OfPairs):
    """The squared error, averaged over rows and outputs: see `fastopt.mse_loss`.

    Examples
    --------
    >>> import fastopt as fo
    >>> fo.losses.SquaredError()
    SquaredError()
    """

    kernel, slope = "mse_loss", 2.0

    def __repr__(self) -> str:
        return "SquaredError()"


class Huber(_OfPairs):
    r"""The Huber loss, averaged over rows and outputs: the squared error near the target, and a line further away.

    .. math:: \ell = \begin{cases} d^2 / 2 & |d| \le \delta \\ \delta (|d| - \delta / 2) & |d| > \delta \end{cases},
        \qquad d = z - y

    See `fastopt.huber_loss`.

    Parameters
    ----------
    delta : float
        The distance from which on the loss is a line: beyond it, an outlier pulls no harder.

    Raises
    ------
    TypeError, ValueError
        If ``delta`` is no finite number above 0.

    Examples
    --------
    >>> import fastopt as fo
    >>> fo.losses.Huber(delta=2.0)
    Huber(delta=2.0)

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964. PyTorch:
    ``torch.nn.HuberLoss``.
    """

    kernel = "huber_loss"

    def __init__(self, delta: float = 1.0):
        self._delta = a_number("delta", positive("delta", delta))

    @property
    def delta(self) -> float:
        """The distance from which on the loss is a line."""
        return self._delta

    def __repr__(self) -> str:
        return f"Huber({'' if self.delta == 1.0 else f'delta={self.delta}'})"

    def numbers(self) -> tuple[float, ...]:
        return (self.delta,)


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
                   "weight": (_shown(self._weight), "None")}  # fmt: skip
        shown = [f"{name}={value}" for name, (value, default) in options.items() if value != default]
        return f"CrossEntropy({', '.join(shown)})"

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
            return share(z.argmax(axis=1) == y.argmax(axis=1), weight)
        check_rows(z, y, np.shape(z)[:1])
        if z.ndim != 2:
            raise ValueError(f"z has shape {z.shape}: it must be (rows, classes)")
        right, used = z.argmax(axis=1) == y, y != self.ignore_index
        if not used.all():
            right, weight = right[used], None if weight is None else weight[used]
        return share(right, weight)


def mean_of(loss: Loss, y: np.ndarray, take: Callable[[float], None]) -> Call:
    """Before a kernel: gives it the scale of the mean over these targets, whatever they then are."""

    def find_scale() -> None:
        counted = loss.row_weights(y)
        total = len(y) if counted is None else counted.sum()
        take(1.0 / total if total else 0.0)

    return Call(find_scale)


def refuse_unknown(loss: Loss, weight: Any) -> None:
    """Refuse weights of classes that are not known yet."""
    if weight is not None and not isinstance(weight, np.ndarray):
        raise ValueError(f"{loss!r} is for fastopt.fit, which knows the classes and their rows: give an array")


def _shown(weight: Any) -> str:
    return repr(weight.tolist() if isinstance(weight, np.ndarray) else weight)


class FunctionLoss(Loss):
    """A function of outputs and targets that returns the mean loss and its gradient."""

    def __init__(self, function: Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]):
        self.function = function

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Integers of shape (rows,) for several outputs are labels, and stay; all else is as for other losses."""
        y = as_real_array(name, y)
        if y.dtype.kind in "iu" and y.shape == output_shape[:1] and output_shape[1:] != (1,):
            return y
        return super().targets(name, y, output_shape, dtype)

    def per_row(self, z: np.ndarray) -> int:
        return 1

    def calls(
        self,
        z: np.ndarray,
        y: np.ndarray,
        dz: np.ndarray,
        weight: np.ndarray | None = None,
        scale: float | None = None,
    ) -> list[Runs]:
        if weight is not None:
            raise ValueError("sample_weight needs a loss of fastopt.losses, or of a class of one's own: not a function")
        factor = z.dtype.type(1.0 if scale is None else scale * len(z))

        @isolated
        def call() -> float:
            value, gradient = self._computed(z, y)
            np.multiply(gradient, factor, out=dz)
            return float(value) * len(z)

        self._computed(z, y)
        return [Call(call)]

    def _computed(self, z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        result = self.function(z, y)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], np.ndarray):
            raise TypeError(f"the loss must return a pair of the mean loss and its gradient, not {result!r}")
        value, gradient = result
        if gradient.shape != z.shape or gradient.dtype != z.dtype:
            raise ValueError(
                f"the loss returned a gradient of {gradient.dtype} and shape {gradient.shape}, the outputs are"
                f" {z.dtype} of shape {z.shape}"
            )
        return value, gradient


LOSSES: dict[str, type[Loss]] = {
    "logistic": LogisticLoss,
    "cross_entropy": CrossEntropy,
    "mse": SquaredError,
    "huber": Huber,
}
_ELSEWHERE = {
    "logistic": ("bce", "bcewithlogits", "binarycrossentropy", "log", "logistic", "binary"),
    "cross_entropy": ("ce", "categoricalcrossentropy", "crossentropy", "nll", "softmax", "softmaxcrossentropy",
                      "sparsecategoricalcrossentropy"),
    "mse": ("l2", "meansquarederror", "mse", "squared", "squarederror"),
    "huber": ("huber", "smoothl1"),
}  # what other libraries call them, folded  # fmt: skip


def as_loss(loss: Any) -> Loss:
    """The loss that ``loss`` names, or is."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]()
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"loss must be an object: {loss.__name__}(), not the class")
    if callable(loss):
        return FunctionLoss(loss)
    folded = loss.replace("_", "").lower().removesuffix("loss") if isinstance(loss, str) else ""
    meant = next((name for name, others in _ELSEWHERE.items() if folded in others), None)
    raise ValueError(
        f"loss must be one of {', '.join(map(repr, LOSSES))}, an object of fastopt.losses, or a function, not {loss!r}"
        + (f"; did you mean {meant!r}?" if meant else "")
    )
