"""The exponential moving average of the weights."""

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np

from .. import _backends
from .._backends.program import Runs
from .._moving import change_all, copy_all


class WeightAverage:
    r"""After the first step the weights w themselves, then :math:`a \leftarrow a + (1 - d)(w - a)` after every step.

    The meaning, and the beginning, of ``torch.optim.swa_utils.get_ema_multi_avg_fn(d)``.

    Wherever an exception comes, of a signal too, an average is that of a whole number of steps, and `take_out` finds
    the weights that `put_in` replaced.
    """

    def __init__(self, params: Mapping[str, np.ndarray], decay: float):
        self.decay = decay
        self._names = tuple(params)
        self._params = list(params.values())
        self._averages = [np.zeros_like(p) for p in self._params]
        self._weights = [np.zeros_like(p) for p in self._params]  # while they are away, and the averages in the model
        self._steps = np.zeros(1, np.int64)  # counted from 1 on again after a resumption
        self._away = False
        self.runs: list[Runs] = _backends.active.bind_average(self._averages, self._params, self._steps, 1.0 - decay)
        self._program = _backends.active.Program(self.runs)

    @property
    def steps(self) -> int:
        """How many steps it has seen."""
        return self._steps.item(0)

    def update(self) -> None:
        """Take in the weights after a step, where that is not done by a program with ``runs``."""
        self._program()

    def put_in(self) -> None:
        """Put the average into the model, until `take_out`."""
        if self.steps:
            copy_all(self._weights, self._params)
            self._away = True
            copy_all(self._params, self._averages)

    def take_out(self) -> None:
        """Put the weights back, if they are away."""
        if self._away:
            copy_all(self._params, self._weights)
            self._away = False

    def keep(self) -> None:
        """Leave the average in the model for good."""
        self._away = False

    def state_dict(self) -> dict[str, Any]:
        values = {name: average.copy() for name, average in zip(self._names, self._averages, strict=True)}
        return {"decay": self.decay, "started": self.steps > 0, "values": values}

    def checked(self, state_dict: Any) -> tuple[Any, ...]:
        """What `take_over` makes of a state dict, or the error that it calls for."""
        if not isinstance(state_dict, Mapping) or state_dict.keys() != {"decay", "started", "values"}:
            raise ValueError("the checkpoint's average should have decay, started and values")
        if state_dict["decay"] != self.decay:
            raise ValueError(f"the checkpoint's average has ema={state_dict['decay']}, this run {self.decay}")
        if not isinstance(state_dict["started"], bool):
            raise TypeError(f"started must be True or False, not {state_dict['started']!r}")
        values = state_dict["values"]
        if not isinstance(values, Mapping) or values.keys() != set(self._names):
            raise ValueError("the checkpoint's average is of other parameters")
        averages = []
        for name, param in zip(self._names, self._params, strict=True):
            value = values[name]
            if not isinstance(value, np.ndarray) or value.shape != param.shape or value.dtype != param.dtype:
                raise ValueError(f"the checkpoint's average of {name!r} should be {param.dtype} of shape {param.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"the checkpoint's average of {name!r} holds NaN or infinity")
            averages.append(value.copy())
        return int(state_dict["started"]), averages

    def take_over(self, now: tuple[Any, ...]) -> None:
        steps, averages = now
        change_all([*zip(self._averages, repeat(...), averages), (self._steps, 0, steps)])

    @property
    def now(self) -> tuple[Any, ...]:
        """What `take_over` goes back to."""
        return self.steps, [average.copy() for average in self._averages]
