"""Saved states: whether one fits an optimizer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._specification.rules import SIGNED
from .._specification.state_formats import COMPENSATION, MOMENTS
from .encoded import StateArray, checked, decoded, encoded, numbers_saved
from .hyperparameters import FIXED, Group

MOST_STEPS = 2**53  # bias corrections and schedules know the step as a double
_COUNTS = ("step_count", "skipped_steps")


def checked_state(
    state_dict: Any, optimizer: Any, groups: Sequence[Group], state: Mapping[str, Mapping[str, Any]]
) -> tuple[list[int], list[dict[str, Any]], list[tuple[np.ndarray, np.ndarray]]]:
    """Counts, each group's hyperparameters, and each state array with a copy of its saved values; or an error."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"the state dict must be a dict, not {type(state_dict).__name__}")
    missing = {*_COUNTS, "groups", "state"} - state_dict.keys()
    if missing:
        raise ValueError(f"the state dict has no {', '.join(sorted(missing))}")
    counts = [state_dict[key] for key in _COUNTS]
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and 0 <= n <= MOST_STEPS for n in counts):
        raise ValueError(f"step_count and skipped_steps must be whole numbers from 0 to 2**53, not {counts}")
    for key, wanted in (("groups", (list, tuple)), ("state", Mapping)):
        if not isinstance(state_dict[key], wanted):
            what = "list" if key == "groups" else "Mapping"
            raise TypeError(f"{key} must be a {what}, not {type(state_dict[key]).__name__}")
    for entry in (*state_dict["groups"], *state_dict["state"].values()):
        if not isinstance(entry, Mapping):
            raise TypeError(f"every group and every tensor's state must be a dict, not {type(entry).__name__}")
    if len(state_dict["groups"]) != len(groups):
        raise ValueError(f"the state dict has {len(state_dict['groups'])} groups, the optimizer {len(groups)}")
    changed = [_checked_group(optimizer, *each) for each in zip(groups, state_dict["groups"], strict=True)]
    return list(map(int, counts)), changed, _checked_arrays(state_dict["state"], state)


def checked_missed(missed: Any, names: Sequence[str], steps: int) -> list[int]:
    """How many steps each parameter has missed, of so many; or an error."""
    if not isinstance(missed, Mapping):
        raise TypeError(f"missed_steps must be a dict, not {type(missed).__name__}")
    if unknown := [repr(name) for name in missed if name not in names]:
        raise ValueError(f"missed_steps are of {', '.join(unknown)}, the optimizer of {list(names)}")
    for name, each in missed.items():
        if isinstance(each, bool) or not isinstance(each, (int, np.integer)) or not 0 <= each <= steps:
            raise ValueError(f"missed_steps of {name!r} must be a whole number from 0 to {steps}, not {each!r}")
    return [int(missed.get(name, 0)) for name in names]


def _checked_group(optimizer: Any, group: Group, saved: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := saved.keys() - group.keys():
        raise ValueError(
            f"the state dict has hyperparameters this optimizer has not: {', '.join(sorted(map(str, unknown)))}"
        )
    for name, value in saved.items():
        if name in FIXED and name != "state_format" and value != group[name]:
            raise ValueError(f"the state dict has {name}={value!r}, the optimizer {group[name]!r}")
    kept = {n: group[n] if callable(group[n]) else group.checked(n, v) for n, v in saved.items()}
    if "state_format" in kept:  # a state of another format becomes one of the optimizer's
        kept["state_format"] = group["state_format"]
    changed = {**group, **kept}
    optimizer.check(changed)
    if optimizer.rule(changed) != group.rule:
        raise ValueError(f"the state dict is of rule {optimizer.rule(changed)!r}, the optimizer of {group.rule!r}")
    return changed


def _checked_arrays(
    saved_state: Mapping[str, Any], state: Mapping[str, Mapping[str, Any]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    if saved_state.keys() != state.keys():
        raise ValueError(f"the state dict is of the parameters {list(saved_state)}, the optimizer of {list(state)}")
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for name, arrays in state.items():
        if saved_state[name].keys() != arrays.keys():
            raise ValueError(f"state of {name!r} has {list(saved_state[name])}, the optimizer {list(arrays)}")
        for key, array in arrays.items():
            given, what, signed = saved_state[name][key], f"{key} of {name!r}", key in SIGNED or key == COMPENSATION
            if isinstance(given, Mapping) and (key in MOMENTS or key == COMPENSATION):
                codes = numbers_saved(what, given, array.shape, signed)
                checked(what, given := decoded(codes), signed)
                if isinstance(array, StateArray) and array._stored.kind == codes.kind:
                    found += zip(array._stored.arrays(), codes.arrays(), strict=True)
                    continue
            if isinstance(given, np.ma.MaskedArray):
                raise TypeError(f"{what} is a masked array, whose mask would be lost")
            saved = np.asarray(given)
            if saved.shape != array.shape or saved.dtype != array.dtype:
                raise ValueError(
                    f"{what} is {saved.dtype} of shape {saved.shape},"
                    f" the optimizer's is {array.dtype} of shape {array.shape}"
                )
            saved = saved.copy()  # it may be a view of the optimizer's own, and it may be written to
            checked(what, saved, signed)
            if isinstance(array, StateArray):
                new = encoded(array._stored, saved, np.ones(saved.size, bool))
                found += zip(array._stored.arrays(), new.arrays(), strict=True)
            else:
                found.append((array, saved))
    return found
