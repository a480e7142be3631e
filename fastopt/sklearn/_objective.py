"""What is minimized, as scikit-learn counts it: the mean loss of a batch, and the L2 term over its sum of weights."""

from typing import Any

import numpy as np

import fastopt as fo

from .. import _backends
from .._backends.program import Call, Runs
from .._specification.order import in_order
from ..losses import Loss


class Poisson(Loss):
    """Half the Poisson deviance, the model's outputs being logarithms of the mean."""

    def losses(self, z: np.ndarray, y: np.ndarray, dz: np.ndarray) -> np.ndarray:
        mean = exponential(z)
        np.subtract(mean, y, out=dz)
        positive = np.where(y > 0, y, 1)
        return y * (np.log(positive) - z) - y + mean


def exponential(z: np.ndarray) -> np.ndarray:
    """e to the ``z``, of the same bits everywhere, as the sigmoid of fastopt has: e^z = σ(z) / σ(-z)."""
    with np.errstate(over="ignore", divide="ignore"):
        return fo.sigmoid(z) / fo.sigmoid(-z)


LOSSES: dict[str, Any] = {"identity": fo.losses.SquaredError, "logistic": fo.losses.LogisticLoss,
                          "softmax": fo.losses.CrossEntropy, "exp": Poisson}  # fmt: skip


class Objective(Loss):
    """The loss of a network with this output activation, with ``alpha`` times half the squares of its ``weights``.

    Of a batch with the sample weights w: (Σ w loss + alpha / 2 Σ W²) / Σ w. An epoch's value is the mean over its rows
    of that of their batch; the L2 term is in the values, and its gradient is the optimizer's weight decay, `decay`.
    ``mean_weight`` is what `fastopt.fit` divides the sample weights by.
    """

    def __init__(self, out_activation: str, alpha: float, weights: list[np.ndarray], mean_weight: float = 1.0):
        self.loss: Loss = LOSSES[out_activation]()
        self.alpha, self.weights, self.mean_weight = alpha, weights, mean_weight
        self._halved = out_activation == "identity"  # scikit-learn's squared error has a factor 1/2, fastopt's has none
        self._of_batch = 0.0
        self.validated: np.ndarray | None = None

    def decay(self, step: int) -> float:
        """The weight decay of a step, whose batch has been seen."""
        return self._of_batch

    def targets(self, name: str, y: Any, output_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return self.loss.targets(name, y, output_shape, dtype)

    def per_row(self, z: np.ndarray) -> int:
        return 1

    def mean(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
        """The mean loss on validation data, without the L2 term; the outputs are kept for the score."""
        self.validated = z
        return self._share(z) * self.loss.bind(z, y, np.empty_like(z), weight, 1.0)() / len(z)

    def _share(self, z: np.ndarray) -> float:
        """What the sum of fastopt's losses is multiplied by: scikit-learn averages squared errors over outputs."""
        return 0.5 / z.shape[1] if self._halved else 1.0

    def calls(
        self,
        z: np.ndarray,
        y: np.ndarray,
        dz: np.ndarray,
        weight: np.ndarray | None = None,
        scale: float | None = None,
    ) -> list[Runs]:
        rows, share, factor = len(z), self._share(z), 0.5 if self._halved else 1.0
        alpha, penalty = self.alpha, self._penalty
        if weight is None:
            inner = self.loss.bind(z, y, dz, None, factor / rows)
            decay = alpha / rows

            def call() -> float:
                self._of_batch = decay
                return share * inner() + penalty()

            return [Call(call)]

        inner = self.loss.bind(z, y, dz, weight, factor)

        def weighted_call() -> float:
            total = float(weight.sum(dtype=np.float64))
            value = share * inner()
            if not total > 0:  # of rows that do not count there is nothing to learn
                dz.fill(0)
                self._of_batch = 0.0
                return 0.0
            np.multiply(dz, dz.dtype.type(1.0 / total), out=dz)
            self._of_batch = alpha / (total * self.mean_weight)
            return rows / total * (value + penalty() / self.mean_weight)

        return [Call(weighted_call)]

    def _penalty(self) -> float:
        if not self.alpha:
            return 0.0
        square_sum = _backends.active.square_sum
        return 0.5 * self.alpha * in_order(map(square_sum, self.weights))
