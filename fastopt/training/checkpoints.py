"""Checkpoints: all that a run needs to go on as if it had never stopped, in one file."""

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from .._checks import whole
from .._moving import copy_all, surely
from .._warning import warn
from ..nn.layer import Layer
from ..optim import Optimizer
from ..saving import check_target, load, save
from .average import WeightAverage
from .callbacks import Callbacks, Run

_KIND = "a run of fastopt.fit"
_ENTRIES = {"kind", "epoch", "rows", "run", "model", "optimizer", "average", "rng", "history", "callbacks"}


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
        description: Mapping[str, Any],
        metrics: Sequence[str],
    ):
        self.model, self.optimizer, self.average = model, optimizer, average
        self.generator, self.callbacks, self.rows = generator, callbacks, rows
        self.metrics = metrics  # all that are recorded of every epoch, validation's included
        # what the run was asked for, in short, so that one that goes on with something else can be told so
        self.description = {**description, "frozen": _frozen(model), "optimizer": hyperparameters_of(optimizer)}

    def save(self, path: str | os.PathLike[str], run: Run) -> None:
        """Write the state at the end of an epoch, atomically."""
        save(
            path,
            {
                "kind": _KIND,
                "epoch": run.epoch,
                "rows": self.rows,
                "run": {**self.description, "frozen": _frozen(self.model)},
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "rng": self.generator.bit_generator.state,
                "history": run.history.state_dict(),
                "callbacks": self.callbacks.state_dict(),
            },
        )

    def load(self, path: str | os.PathLike[str], run: Run) -> None:
        """Put a checkpoint's state back, all of it; or, whatever is raised, leave everything as it was."""
        state, name = load(path), os.fspath(path)
        if not isinstance(state, Mapping) or state.get("kind") != _KIND:
            held = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"{name!r} is not {_KIND}, but holds {held or 'nothing'}")
        try:
            checked = self._checked(state, run)
        except Exception as error:
            raise ValueError(f"{name!r} does not fit this run: {error}") from error
        epoch, arrays, average, history = checked
        own = {**self.model.params, **self.model.buffers}
        before = (
            self.optimizer.state_dict(),
            [array.copy() for array in own.values()],
            None if self.average is None else self.average.now,
            run.history.state_dict(),
            self.generator.bit_generator.state,
            run.epoch,
        )
        states = copy.deepcopy(self.callbacks.state_dict())
        given = self._given_rates(state["run"])

        def put(optimizer: Any, arrays: Any, average: Any, history: Any, numbers: Any, epoch: int) -> None:
            self.optimizer.load_state_dict(optimizer)
            copy_all(own.values(), arrays)
            if self.average is not None:
                self.average.take_over(average)
            run.history.take_over(history)
            self.generator.bit_generator.state = numbers
            run.epoch = epoch

        try:
            self.callbacks.load_states(state["callbacks"], self.model, epoch)  # first what a user's own may refuse
            put(state["optimizer"], [arrays[name] for name in own], average, history, state["rng"], epoch)
            for group, rate in given:
                group["lr"] = rate
            self._warn_of_differences(name, state["run"])
        except BaseException as error:
            try:
                surely(partial(put, *before))
            except BaseException:  # a signal's, before the call had begun
                surely(partial(put, *before))
            with suppress(Exception):
                surely(lambda: self.callbacks.load_states(states))
            if isinstance(error, Exception) and not isinstance(error, Warning):
                raise ValueError(f"{name!r} does not fit this run: {error}") from error
            raise

    def _checked(self, state: Mapping[str, Any], run: Run) -> tuple[Any, ...]:
        """What of a checkpoint is this library's, and has no check in its own ``load_state_dict``; or an error."""
        if state.keys() != _ENTRIES:
            raise ValueError(f"a checkpoint has {', '.join(sorted(_ENTRIES))}, this one {', '.join(sorted(state))}")
        epoch = whole("epoch", state["epoch"], 0)
        if epoch > run.epochs:
            raise ValueError(f"it is of a run of {epoch} epochs so far; epochs={run.epochs} is less")
        if whole("rows", state["rows"], 1) != self.rows:
            raise ValueError(f"it is of training on {state['rows']} rows, not on {self.rows}")
        if (state["average"] is None) != (self.average is None):
            raise ValueError(f"it is of a run {'with' if self.average is None else 'without'} ema, this one is not")
        if not isinstance(state["run"], Mapping):
            raise TypeError(f"run must be a dict, not {type(state['run']).__name__}")
        arrays = self.model.check_state_dict(state["model"])
        average = None if self.average is None else self.average.checked(state["average"])
        history = run.history.checked(state["history"])
        if len(history["loss"]) != epoch:
            raise ValueError(f"the history has {len(history['loss'])} epochs, the run {epoch}")
        if epoch and history["metrics"].keys() != set(self.metrics):
            now, before = (", ".join(map(repr, names)) or "none" for names in (self.metrics, history["metrics"]))
            raise ValueError(f"it is of a run with the metrics {before}, this one has {now}")
        self.callbacks.check_states(state["callbacks"])
        _check_numbers(self.generator.bit_generator, state["rng"])
        return epoch, arrays, average, {**history, "stopped": "", "interrupted": False}

    def _given_rates(self, saved: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """The groups whose learning rate is not the one that the saved run began with, and theirs, which is meant."""
        before, groups = saved.get("optimizer"), self.optimizer.groups
        if not isinstance(before, list) or len(before) != len(groups):
            return []
        return [
            (group, group["lr"])
            for group, was in zip(groups, before, strict=True)
            if isinstance(was, Mapping) and not callable(group["lr"]) and was.get("lr", group["lr"]) != group["lr"]
        ]

    def _warn_of_differences(self, name: str, saved: Mapping[str, Any]) -> None:
        found = [
            f"{key} was {saved[key]}, and is {now} now"
            for key, now in self.description.items()
            if key not in ("optimizer", "rng") and key in saved and None not in (saved[key], now) and saved[key] != now
        ]
        if None not in (saved.get("rng"), self.description["rng"]) and saved["rng"] != self.description["rng"]:
            found.append("rng began elsewhere (the checkpoint's random numbers are gone on with)")
        saved_groups, now_groups = saved.get("optimizer"), self.description["optimizer"]
        if isinstance(saved_groups, list) and len(saved_groups) == len(now_groups):
            for i, (before, now) in enumerate(zip(saved_groups, now_groups, strict=True)):
                for key, value in now.items():
                    if isinstance(before, Mapping) and key in before and before[key] != value:
                        kept = (
                            "the checkpoint's is used; to change it, set it on the optimizer in a callback's \"start\""
                        )
                        if key == "lr" or "a schedule" in (before[key], value):
                            kept = "the one now is used"
                        of_group = f" of group {i}" if len(now_groups) > 1 else ""
                        found.append(f"{key}{of_group} was {before[key]} at first, and is {value} now ({kept})")
        if found:
            warn(f"resume_from={name!r} goes on with a run that was started otherwise: {'; '.join(found)}")


def hyperparameters_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Those at the start, as a file can hold them."""

    def plain(value: Any) -> Any:
        if callable(value):
            return "a schedule"
        return [plain(each) for each in value] if isinstance(value, (tuple, list)) else value

    return [{name: plain(value) for name, value in group.items()} for group in optimizer.groups]


def _check_numbers(generator: Any, state: Any) -> None:
    """Refuse what is no state of a bit generator like this one."""
    own = generator.state
    if not isinstance(state, Mapping) or state.get("bit_generator") != own["bit_generator"]:
        given = state.get("bit_generator") if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"it has random numbers of {given}, rng of {own['bit_generator']}")
    if not _alike(state, own):
        raise ValueError(f"its state of the random numbers is none of {own['bit_generator']}")
    places = {"MT19937": ("pos", 624), "Philox": ("buffer_pos", 4)}  # of the next number, in an array of so many
    if own["bit_generator"] in places:
        key, most = places[own["bit_generator"]]
        place = {**state, **state["state"]}[key]
        if not 0 <= place <= most:
            raise ValueError(f"{key} of its random numbers must be from 0 to {most}, not {place}")
    trial = type(generator)(0)
    trial.state = state
    if not _alike(trial.state, state, values=True):
        raise ValueError(f"its state of the random numbers is none of {own['bit_generator']}")


def _frozen(model: Layer) -> str:
    return ", ".join(sorted(model.frozen_parameters())) or "nothing"


def _alike(one: Any, other: Any, values: bool = False) -> bool:
    """Whether two trees have the same keys, and leaves of the same types and shapes; or even of the same values."""
    if isinstance(other, Mapping):
        return (
            isinstance(one, Mapping)
            and one.keys() == other.keys()
            and all(_alike(one[key], other[key], values) for key in other)
        )
    if isinstance(other, np.ndarray):
        alike = isinstance(one, np.ndarray) and one.shape == other.shape and one.dtype == other.dtype
        return alike and (not values or np.array_equal(one, other))
    return type(one) is type(other) and (not values or one == other)


def check_paths(checkpoint: Any, resume_from: Any) -> None:
    """Refuse what are no paths, and a checkpoint that could not be written when its time comes."""
    for name, path in (("checkpoint", checkpoint), ("resume_from", resume_from)):
        if path is not None and not (isinstance(path, (str, os.PathLike)) and isinstance(os.fspath(path), str)):
            raise TypeError(f"{name} must be a path, not {type(path).__name__}")
    if checkpoint is not None:
        try:
            check_target(checkpoint)
        except (OSError, ValueError) as error:
            raise type(error)(f"checkpoint={error}") from None
