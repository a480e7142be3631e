"""The losses that there are, and what makes one of a name or a function."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.program import Call, Runs
from .._checks import a_number, positive
from .._conversion import as_real_array
from .arrays import check_arrays, check_weight, checked_scale
from .base import Loss, weighted
from .cross_entropy import CrossEntropy
from .logistic import LogisticLoss

__all__ = ["CrossEntropy", "Huber", "LogisticLoss", "SquaredError"]


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
