"""Public attributes of layers: checked whenever they are set, or fixed, and no others by mistake."""

from collections.abc import Callable
from typing import Any, ClassVar

from .._attributes import UnknownAttribute
from .._checks import flag

Check = Callable[[str, Any], Any]


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
        ours = kind.__module__.partition(".")[0] == "fastopt"
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
