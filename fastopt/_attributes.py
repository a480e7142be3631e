"""Public attributes of layers: checked whenever they are set, or fixed, and no others by mistake."""

from collections.abc import Callable
from typing import Any, ClassVar

from ._checks import flag

Check = Callable[[str, Any], Any]


# What other libraries do by a method, or not at all, and is done here by something else.
DONE_OTHERWISE = {
    **dict.fromkeys(["add", "append"], "make another by Sequential(*model.layers, layer)"),
    **dict.fromkeys(["compile", "fit"], "fo.fit(model, X, y, optimizer=..., epochs=...) trains it"),
    **dict.fromkeys(["cpu", "cuda", "to"], "everything runs on the CPU; dtype= is an argument of Sequential"),
    **dict.fromkeys(["evaluate", "score"], "compare predict(X) with the targets, or give validation= to fo.fit"),
    **dict.fromkeys(["get_weights", "named_parameters", "weights"], "parameters() is a dict of them"),
    **dict.fromkeys(["load", "load_weights"], "model.load_state_dict(fo.load(path))"),
    **dict.fromkeys(["save", "save_weights"], "fo.save(path, model.state_dict())"),
    "step": "only optimizers have a step: opt.step(model.gradients())",
    "zero_grad": "backward writes the gradients anew, there is nothing to set to zero",
}


class UnknownAttribute(AttributeError):
    """There is no such attribute. What was meant is looked for when it is asked for: `hasattr` does not."""

    def __init__(self, thing: Any, name: str):
        super().__init__(thing, name)

    def __str__(self) -> str:
        from difflib import get_close_matches  # takes longer to load than all else here

        thing, name = self.args
        if name in DONE_OTHERWISE:
            return f"{type(thing).__name__} has no attribute {name!r}: {DONE_OTHERWISE[name]}"
        public = [known for known in {*dir(type(thing)), *vars(thing)} if not known.startswith("_")]
        meant = [] if name.startswith("_") else get_close_matches(name, public, 1)
        return f"{type(thing).__name__} has no attribute {name!r}" + (f": did you mean {meant[0]!r}?" if meant else "")


class _Changes:
    """``last`` is another object after every change of an attribute that takes effect, ``frozen`` after a freezing."""

    last = frozen = object()


changes = _Changes()


class Attributes:
    """A class whose attributes take effect whenever they are set, or cannot be set.

    ``_attributes`` names all that objects may have: each with the check that a new value must pass, or None if it is
    set once and then fixed. Subclasses outside of this library may have more, and arrays of their own.
    """

    _attributes: ClassVar[dict[str, Check | None]] = {
        "training": flag,
        "seeded": flag,
        "params": None,
        "grads": None,
        "buffers": None,
    }

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        check, fixed = kind._attributes.get(name), name in kind._attributes
        ours = kind.__module__.partition(".")[0] == __package__
        if check is not None:
            value = check(name, value)
        elif not name.startswith("_") and (ours or (fixed and name not in Attributes._attributes)):
            if hasattr(self, name):
                how = f"write into the array, {name}[...] = ..." if name in ("weight", "bias") else "make another layer"
                raise AttributeError(f"{name} of {self!r} cannot be replaced: {how}")
            if not fixed:
                raise UnknownAttribute(self, name)
        object.__setattr__(self, name, value)
        if check is not None:
            changes.last = object()

    def __getattr__(self, name: str) -> Any:  # called where there is no such attribute
        raise UnknownAttribute(self, name)
