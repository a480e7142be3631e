"""The optimizer's state as the user sees it: dictionaries that say when something in them has been replaced."""

from collections import defaultdict
from typing import Any


class Changes:
    """Whether anything was put into a dictionary, or taken out, since someone last looked."""

    def __init__(self) -> None:
        self.some = True


class _Watched(dict[Any, Any]):
    """A dictionary that notes every change of what it holds."""

    _changes: Changes


def _noting(name: str) -> Any:
    method = getattr(dict, name)

    def changing(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._changes.some = True
        return method(self, *args, **kwargs)

    changing.__name__, changing.__doc__ = name, method.__doc__
    return changing


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(_Watched, _name, _noting(_name))


class OfTensor(_Watched):
    """The state of one parameter."""

    def __init__(self, values: Any, changes: Changes):
        super().__init__(values)
        self._changes = changes

    def __reduce__(self) -> Any:  # copied and pickled as what anyone has
        return dict, (), None, None, iter(self.items())


class State(_Watched, defaultdict[Any, Any]):
    """The state of every parameter; what is looked up and not there begins empty, as PyTorch's."""

    def __init__(self, values: Any, changes: Changes):
        self._changes = changes
        super().__init__(dict, {key: self._own(value) for key, value in values.items()})

    def _own(self, value: Any) -> Any:
        return OfTensor(value, self._changes) if type(value) is dict else value

    def __missing__(self, key: Any) -> Any:
        self[key] = {}
        return self[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, self._own(value))

    def __reduce__(self) -> Any:
        return defaultdict, (dict,), None, None, iter(self.items())

    def __copy__(self) -> Any:
        return self.plain()

    copy = __copy__

    def plain(self) -> defaultdict[Any, Any]:
        """What PyTorch would have."""
        return defaultdict(dict, {key: as_plain(value) for key, value in self.items()})


def as_plain(value: Any) -> Any:
    return dict(value) if isinstance(value, OfTensor) else value
