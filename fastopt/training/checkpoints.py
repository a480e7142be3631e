"""Checkpoints: all that a run needs to go on as if it had never stopped, in one file."""

import os
from typing import Any

from .._layer import Layer
from ..files import load, save
from ..optim import Optimizer
from .average import WeightAverage
from .callbacks import Callbacks, Run

_KIND = "a run of fastopt.fit"


class Checkpoints:
    """What of a run is saved, and where it is put back."""

    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        average: WeightAverage | None,
        generator: Any,
        callbacks: Callbacks,
        rows: int,
    ):
        self.model, self.optimizer, self.average = model, optimizer, average
        self.generator, self.callbacks, self.rows = generator, callbacks, rows

    def save(self, path: str | os.PathLike[str], run: Run) -> None:
        """Write the state at the end of an epoch, atomically."""
        save(
            path,
            {
                "kind": _KIND,
                "epoch": run.epoch,
                "rows": self.rows,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "rng": self.generator.bit_generator.state,
                "history": run.history.state_dict(),
                "callbacks": self.callbacks.state_dict(),
            },
        )

    def load(self, path: str | os.PathLike[str], run: Run) -> None:
        """Put a checkpoint's state back, or, if it does not fit, raise ValueError with everything as it was."""
        state = load(path)
        name = os.fspath(path)
        if state.get("kind") != _KIND:
            raise ValueError(f"{name!r} is not {_KIND}, but holds {', '.join(state) or 'nothing'}")
        if state["epoch"] > run.epochs:
            raise ValueError(f"{name!r} is of a run of {state['epoch']} epochs so far; epochs={run.epochs} is less")
        if state["rows"] != self.rows:
            raise ValueError(f"{name!r} is of training on {state['rows']} rows, not on {self.rows}")
        kinds = state["rng"]["bit_generator"], self.generator.bit_generator.state["bit_generator"]
        if kinds[0] != kinds[1]:
            raise ValueError(f"{name!r} has random numbers of {kinds[0]}, rng of {kinds[1]}")
        if (state["average"] is None) != (self.average is None):
            raise ValueError(
                f"{name!r} is of a run {'with' if self.average is None else 'without'} ema, this one is not"
            )
        before = self.model.state_dict(), self.optimizer.state_dict()
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.callbacks.load_state_dict(state["callbacks"])
            run.history.load_state_dict(state["history"])
        except (ValueError, TypeError) as error:
            self.model.load_state_dict(before[0])
            self.optimizer.load_state_dict(before[1])
            raise ValueError(f"{name!r} does not fit this run: {error}") from error
        self.generator.bit_generator.state = state["rng"]
        run.history.stopped, run.history.interrupted = "", False
        run.epoch = state["epoch"]


def check_paths(checkpoint: Any, resume_from: Any) -> None:
    """Refuse what are no paths, and a checkpoint that could not be written when its time comes."""
    for name, path in (("checkpoint", checkpoint), ("resume_from", resume_from)):
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"{name} must be a path, not {type(path).__name__}")
    if checkpoint is not None and not os.path.isdir(folder := os.path.dirname(os.fspath(checkpoint)) or "."):
        raise FileNotFoundError(f"checkpoint={os.fspath(checkpoint)!r}: there is no directory {folder!r}")
