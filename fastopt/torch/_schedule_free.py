"""Schedule-Free optimizers: what parameters are in training, and the mean of all positions in its place."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from .._moving import surely
from ._binding import Binding
from ._optimizer import Fused


class ScheduleFree(Fused):
    """Two points for the parameters: `train` is where gradients are taken, `eval` what has been found."""

    def eval(self) -> None:
        """Put the mean of all positions in place of the parameters, until `train`; what they were is in the state."""
        with self._lock, torch.no_grad():
            changes: list[Callable[[], Any]] = []
            for param, h, state in self._begun():
                if "y" not in state:
                    y = param.detach().clone()
                    mean = y + (1.0 - 1.0 / self._kind.ours.momentum(h)) * (state["z"] - y)
                    changes += partial(state.__setitem__, "y", y), partial(param.copy_, mean)
            surely(lambda: [change() for change in changes])

    def train(self) -> None:
        """Put the parameters back to where they were before `eval`."""
        with self._lock, torch.no_grad():
            changes: list[Callable[[], Any]] = []
            for param, _, state in self._begun():
                if "y" in state:
                    changes += partial(param.copy_, state["y"]), partial(state.pop, "y", None)
            surely(lambda: [change() for change in changes])

    def _begun(self) -> Iterator[tuple[torch.Tensor, Mapping[str, Any], dict[str, Any]]]:
        for group in self.param_groups:
            h = self._kind.hyperparameters(group)
            for param in group["params"]:
                if "z" in (state := self._state.get(param, {})):
                    yield param, h, state

    def _current_binding(self) -> Binding:
        if self._changes.some and any("y" in state for _, _, state in self._begun()):
            raise RuntimeError("the parameters are the mean, at which no step can be done: call train() first")
        return super()._current_binding()
