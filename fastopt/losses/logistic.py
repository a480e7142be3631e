"""The logistic loss of training."""

import math
from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.program import Runs
from .._conversion import as_real_array
from .arrays import check_arrays, check_rows, check_weight, checked_scale, finite
from .base import Loss, if_labels, mean_of, share, weighted
from .weights import class_weights, nonnegative, refuse_unknown, shown, weights_for


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
            return f"LogisticLoss(class_weight={shown(self._class_weight)})"
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
