"""Attributes that are set: those that would be ignored are refused, and what was meant is said."""

from difflib import get_close_matches
from typing import Any


def refuse_unknown(optimizer: Any, name: str) -> None:
    """AttributeError if an optimizer has no attribute ``name`` to set.

    A class of one's own may have further ones, but none called like a hyperparameter: nothing would follow from it.
    """
    if name.startswith("_") or hasattr(type(optimizer), name):
        return
    kind = type(optimizer).__name__
    groups = getattr(optimizer, "_groups", ())
    hyperparameters = list(groups[0]) if groups else []
    if name in hyperparameters:
        raise AttributeError(
            f"{kind}.{name} cannot be set: hyperparameters belong to groups: opt.groups[0][{name!r}] = ..."
        )
    if not type(optimizer).__module__.startswith("fastopt."):
        return
    public = [known for known in dir(type(optimizer)) if not known.startswith("_")]
    near = get_close_matches(name, [*hyperparameters, *public], 1)
    meant = f"opt.groups[0][{near[0]!r}]" if near and near[0] in hyperparameters else f"opt.{near[0]}" if near else ""
    raise AttributeError(f"{kind} has no attribute {name!r}" + (f"; did you mean {meant}?" if meant else ""))
