"""The exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np


class WeightAverage:
    r"""After the first step the weights w themselves, then :math:`a \leftarrow a + (1 - d)(w - a)` after every step.

    The meaning, and the beginning, of ``torch.optim.swa_utils.get_ema_multi_avg_fn(d)``.
    """

    def __init__(self, params: Mapping[str, np.ndarray], decay: float):
        self.decay = decay
        self.started = False
        self.values = {name: np.zeros_like(param) for name, param in params.items()}
        self._own = {name: np.zeros_like(param) for name, param in params.items()}  # the weights, while away
        self._params = params
        self._terms = [
            (param, self.values[name], self._own[name], param.dtype.type(1.0 - decay)) for name, param in params.items()
        ]

    def update(self) -> None:
        if not self.started:
            for param, average, _, _ in self._terms:
                np.copyto(average, param)
            self.started = True
            return
        for param, average, difference, share in self._terms:
            np.subtract(param, average, out=difference)
            np.multiply(difference, share, out=difference)
            np.add(average, difference, out=average)

    def move_in(self) -> None:
        """Put the average into the model."""
        if self.started:
            for param, average, _, _ in self._terms:
                np.copyto(param, average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in the model within a ``with`` block; then the weights again."""
        for param, _, own, _ in self._terms:
            np.copyto(own, param)
        self.move_in()
        try:
            yield
        finally:
            for param, _, own, _ in self._terms:
                np.copyto(param, own)

    def state_dict(self) -> dict[str, Any]:
        return {"decay": self.decay, "started": self.started, "values": {n: a.copy() for n, a in self.values.items()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from there; it is a checkpoint's, whose model has been found to be this one's."""
        if state_dict["decay"] != self.decay:
            raise ValueError(f"the checkpoint's average has ema={state_dict['decay']}, this run {self.decay}")
        self.started = state_dict["started"]
        for name, average in self.values.items():
            average[...] = state_dict["values"][name]
