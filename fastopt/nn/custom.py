"""Layers of the user's own: objects with two methods, run as if they belonged to one pass alone."""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from operator import is_
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .._backends.program import Call
from .passes import Bound, Calls, Context, current

_one_at_a_time = threading.RLock()


def bind_custom(layer: Any, x: np.ndarray, context: Context, arrays_of: Callable[[Any, str], Any]) -> Bound:
    """``layer`` bound to ``x``, by calling its two methods.

    They find the mode of the run in ``self.training``, and what they keep on ``self`` from forward to backward is
    not overwritten by other runs: each pass calls them on a twin of the layer.
    """
    name = type(layer).__name__
    shown = x.view()
    shown.flags.writeable = False  # the layer before may need it in its backward pass, and a layer beside may read it
    call = _method_caller(layer, context)
    context.custom = True

    def output(what: str, result: Any, shape: tuple[int, ...] | None) -> np.ndarray:
        if not isinstance(result, np.ndarray) or result.dtype != x.dtype:
            given = result.dtype if isinstance(result, np.ndarray) else type(result).__name__
            raise TypeError(f"{name}.{what} must return an array of {x.dtype}, as its input is, not {given}")
        if shape is not None and result.shape != shape:
            raise ValueError(f"{name}.{what} returned shape {result.shape}, not {shape}")
        return result

    def forward_of(x: np.ndarray) -> Any:
        try:
            return call("forward", x)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise ValueError(
                f"{name}.forward writes into its input, or into an array that it may not change: the input is"
                f" read-only, since the layer before it needs it again; work on x.copy() ({error})"
            ) from error

    first = output("forward", forward_of(shown), None)
    y = context.array(first.shape, x.dtype)
    y[...] = first

    def forward() -> None:
        y[...] = output("forward", forward_of(shown), y.shape)

    def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
        grads = dict(arrays_of(layer, "grads"))

        def step() -> None:
            result = call("backward", dy)
            if dx is not None:
                dx[...] = output("backward", result, dx.shape)
            for key, grad in grads.items():
                if layer.grads[key] is not grad:
                    raise ValueError(f"{name}.backward replaced grads[{key!r}] by another array: write into it")

        return [Call(step)]

    return Bound(y, [Call(forward)], backward)


def _method_caller(layer: Any, context: Context) -> Callable[[str, np.ndarray], Any]:
    twin = _twin(layer)
    return partial(_on_layer, layer, context) if twin is None else partial(_on_twin, layer, twin, context)


def _twin(layer: Any) -> Any:
    """An object of the layer's class whose attributes can be those of the layer; None if there can be none."""
    kind = type(layer)
    attributes = getattr(layer, "__dict__", None)
    if attributes is None or _slots(layer) or hasattr(getattr(kind, "training", None), "__set__"):
        return None
    if hasattr(kind, "__del__") or _refer_to(layer, [attributes], 4):
        return None  # what is to happen once; or what would run on the layer itself, such as its bound methods
    try:
        twin: Any = kind.__new__(kind)  # type: ignore[call-overload]
    except Exception:
        return None
    return twin if type(twin) is kind else None


def _refer_to(layer: Any, things: Iterable[Any], depth: int) -> bool:
    """Whether one of the things is ``layer``, or leads to it within ``depth`` steps."""
    for thing in things:
        if thing is layer:
            return True
        if depth == 0 or isinstance(thing, (type, ModuleType, np.ndarray, str, int, float, type(None))):
            continue
        if isinstance(thing, FunctionType):
            cells = (cell.cell_contents for cell in thing.__closure__ or () if cell != CellType())
            within: Iterable[Any] = [*cells, *(thing.__defaults__ or ())]
        elif isinstance(thing, MethodType):
            within = [thing.__self__]
        elif isinstance(thing, partial):
            within = [thing.func, *thing.args, *thing.keywords.values()]
        elif isinstance(thing, dict):
            within = list(thing.values())[:1000]
        elif isinstance(thing, (list, tuple)):
            within = thing[:1000]
        else:
            within = list(getattr(thing, "__dict__", {}).values())
        if _refer_to(layer, within, depth - 1):
            return True
    return False


def _on_twin(layer: Any, twin: Any, context: Context, method: str, x: np.ndarray) -> Any:
    """``twin.method(x)``; what that has set is then to be seen on the layer, too."""
    own = vars(twin)
    if method == "forward":  # backward finds what forward has left
        own.clear()
        own.update(vars(layer))
        own["training"] = context.trains(layer)
        own.update((key, own[key].copy()) for key in _containers(own))
    before, contents = own.copy(), {key: own[key].copy() for key in _containers(own)}
    try:
        return _within(context, getattr(twin, method), x)
    finally:
        changed = {key: value for key, value in own.items() if before.get(key, before) is not value}
        changed.pop("training", None)
        vars(layer).update(changed)
        for key, content in contents.items():
            if key not in changed and type(vars(layer).get(key)) is type(content):
                _change(vars(layer)[key], content, own.get(key, content))


def _containers(own: dict[str, Any]) -> list[str]:
    """The attributes that a run keeps for itself not by being set, but by what is put into them."""
    arrays = ("params", "grads", "buffers")
    return [key for key, it in own.items() if type(it) in (dict, list, set) and key not in arrays and len(it) <= 1000]


def _change(container: Any, before: Any, after: Any) -> None:
    """Do to ``container`` what has made ``after`` of ``before``."""
    if isinstance(container, list):
        if len(after) >= len(before) and all(map(is_, before, after)):
            container.extend(after[len(before) :])
        else:
            container[:] = after
    elif isinstance(container, set):
        container |= after - before
        container -= before - after
    else:
        for key in before.keys() - after.keys():
            container.pop(key, None)
        container.update((key, value) for key, value in after.items() if before.get(key, before) is not value)


def _within(context: Context, call: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
    """``call(x)``, in which layers find ``context``; twice put back, as a signal may come in between."""
    outer = current.context
    try:
        try:
            current.context = context
            return call(x)
        finally:
            current.context = outer
    finally:
        current.context = outer


def _on_layer(layer: Any, context: Context, method: str, x: np.ndarray) -> Any:
    """``layer.method(x)``, where there is no twin: one thread at a time, and a prediction leaves all as it was."""
    with _one_at_a_time:
        mode, wanted = getattr(layer, "training", True), context.trains(layer)
        state = _state(layer) if context.training is False else None

        def put_back() -> None:
            if wanted != mode:
                layer.training = mode
            if state is not None:
                _put_back(layer, state)

        try:
            try:
                if wanted != mode:
                    layer.training = wanted
                return _within(context, getattr(layer, method), x)
            finally:
                put_back()
        finally:  # again, as a signal may have come in between
            put_back()


def _slots(layer: Any) -> list[str]:
    """Where attributes are that are not in the layer's ``__dict__``."""
    names = []
    for base in type(layer).__mro__:
        slots = vars(base).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _state(layer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """All attributes that the layer has: those in its ``__dict__``, and those in slots."""
    return dict(getattr(layer, "__dict__", {})), {n: getattr(layer, n) for n in _slots(layer) if hasattr(layer, n)}


def _put_back(layer: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    of_dict, of_slots = state
    if of_dict or hasattr(layer, "__dict__"):
        own = vars(layer)
        own.update(of_dict)
        for name in own.keys() - of_dict.keys():
            del own[name]
    for name in _slots(layer):
        if name in of_slots:
            object.__setattr__(layer, name, of_slots[name])
        elif hasattr(layer, name):
            object.__delattr__(layer, name)
