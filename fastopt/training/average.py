"""The exponential moving average of the weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._moving import copy_all


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
        self._shares = [param.dtype.type(1.0 - decay) for param in self._params]
        # how many steps it is of (counted from 1 on again after a resumption), the averages, and arrays for the next;
        # one assignment replaces all of them
        self._now = 0, [np.zeros_like(p) for p in self._params], [np.zeros_like(p) for p in self._params]
        self._away = False  # whether the weights are in the arrays for the next averages, and the averages in the model

    @property
    def steps(self) -> int:
        """How many steps it has seen."""
        return self._now[0]

    def update(self) -> None:
        """Take in the weights after a step."""
        steps, averages, following = self._now
        if not steps:
            copy_all(following, self._params)
        else:
            for param, average, new, share in zip(self._params, averages, following, self._shares, strict=True):
                np.subtract(param, average, out=new)
                np.multiply(new, share, out=new)
                np.add(average, new, out=new)
        self._now = steps + 1, following, averages

    def put_in(self) -> None:
        """Put the average into the model, until `take_out`."""
        steps, averages, weights = self._now
        if steps:
            copy_all(weights, self._params)
            self._away = True
            copy_all(self._params, averages)

    def take_out(self) -> None:
        """Put the weights back, if they are away."""
        if self._away:
            copy_all(self._params, self._now[2])
            self._away = False

    def keep(self) -> None:
        """Leave the average in the model for good."""
        self._away = False

    def state_dict(self) -> dict[str, Any]:
        steps, averages, _ = self._now
        values = {name: average.copy() for name, average in zip(self._names, averages, strict=True)}
        return {"decay": self.decay, "started": steps > 0, "values": values}

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
        return int(state_dict["started"]), averages, self._now[2]

    def take_over(self, now: tuple[Any, ...]) -> None:
        self._now = now

    @property
    def now(self) -> tuple[Any, ...]:
        """What `take_over` goes back to."""
        return self._now
