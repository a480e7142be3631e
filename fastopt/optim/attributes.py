"""Attributes that an optimizer does not have: what would be ignored is refused, and what was meant is said."""

from typing import Any

from .._attributes import DONE_OTHERWISE

_ELSEWHERE = {"beta_1": "betas", "beta_2": "betas", "epsilon": "eps", "iterations": "step_count", "learning_rate": "lr"}


def refuse_unknown(optimizer: Any, name: str) -> None:
    """AttributeError if an optimizer has no attribute ``name`` to set.

    A class of one's own may have further ones, but none called like a hyperparameter: nothing would follow from it.
    """
    if name.startswith("_") or hasattr(type(optimizer), name):
        return
    error = unknown(optimizer, name)
    if name in error.args[2] or type(optimizer).__module__.startswith("fastopt."):
        raise error


def unknown(optimizer: Any, name: str) -> AttributeError:
    """The error of an attribute that there is not."""
    kind, groups = type(optimizer), vars(optimizer).get("_groups", ())
    return UnknownOption(kind.__name__, name, list(groups[0]) if groups else [], dir(kind))


class UnknownOption(AttributeError):
    """There is no such attribute. What was meant is looked for when it is asked for: `hasattr` does not."""

    def __str__(self) -> str:
        from difflib import get_close_matches  # takes longer to load than all else here

        kind, name, hyperparameters, known = self.args
        if name in hyperparameters:
            return f"{kind}.{name} cannot be set: hyperparameters belong to groups: opt.groups[0][{name!r}] = ..."
        message = f"{kind} has no attribute {name!r}"
        if name.startswith("_") or name in DONE_OTHERWISE:
            return f"{message}: {DONE_OTHERWISE[name]}" if name in DONE_OTHERWISE else message
        public = [each for each in known if not each.startswith("_")]
        for near in get_close_matches(_ELSEWHERE.get(name, name), [*public, *hyperparameters], 1):
            meant = f"opt.{near}" if near in public else f"opt.groups[0][{near!r}]"
            return f"{message}; did you mean {meant}?"
        return message
