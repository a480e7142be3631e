"""Passes: a layer bound to the array it reads, so that forward and backward are only repeated.

A layer answers with the array it writes and with the instructions, all arguments fixed, that fill it, and later with
those of the backward pass. A training step is then one program: no look-ups, no checks, no allocation.
Buffers and mode belong to the pass, and a pass to one thread: that others run the same model changes nothing here.
"""

import threading
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from .. import _backends
from .._backends.program import Runs
from .._pins import Pins
from .attributes import changes

Calls = list[Runs]


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros that begins on a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.zeros(size + 64, np.uint8)
    start = -buffer.__array_interface__["data"][0] % 64
    return buffer[start : start + size].view(dtype).reshape(shape)


class Context:
    """What the layers of one pass share: the mode it runs in, and the memory it takes."""

    __slots__ = ("__weakref__", "custom", "first_row", "nbytes", "training")

    def __init__(self, training: bool | None, first_row: int = 0):
        self.first_row = first_row  # of the batch, where the inputs are a part of one
        self.training = training  # None: every layer is in the mode that it was put into
        self.nbytes = 0
        self.custom = False  # whether there are custom layers, which may raise

    def trains(self, layer: Any) -> bool:
        """Whether ``layer`` runs in training mode: one that is frozen never does."""
        if getattr(layer, "_frozen", False):
            return False
        return getattr(layer, "training", True) if self.training is None else self.training

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A buffer of this pass."""
        array = aligned(shape, dtype)
        self.nbytes += array.nbytes
        return array


class Bound(NamedTuple):
    """A layer bound to an input array, on which it has run once.

    ``forward`` repeats that, and fills ``y``. ``backward(dy, dx)`` gives the calls that write the gradients of
    the parameters and, unless it is None, ``dx``, from the gradient in ``dy``, which they may overwrite; ``dx`` is
    another array. The input is never written to: others may read it too. ``prepare`` comes before ``forward`` is
    repeated, where the mode or an attribute has changed: it sets scalars, and raises if the mode does not allow that.
    """

    y: np.ndarray
    forward: Calls
    backward: Callable[[np.ndarray, np.ndarray | None], Calls]
    prepare: Sequence[Callable[[], None]] = ()


class DoesNotFit(ValueError):
    """A layer takes inputs of another shape."""


def run(calls: Calls) -> Calls:
    """Run the calls, and return them."""
    for call in calls:
        call()
    return calls


class Pass:
    """A layer bound to buffers for inputs of one shape; it has run on ``x`` once, in the mode ``training``.

    ``context.training`` is the mode of the next run, and may be changed between two.
    """

    def __init__(
        self,
        arrays: Callable[[], list[np.ndarray]],
        bind: Callable[[np.ndarray, Context], Bound],
        x: np.ndarray,
        training: bool | None,
        first_row: int = 0,
    ):
        self.context = Context(training, first_row)
        self.x = self.context.array(x.shape, x.dtype)
        self.x[...] = x
        self._prepared: tuple[Any, Any] = training, changes.last
        self.y, self.forward, self._bind_backward, self._prepare = bind(self.x, self.context)
        self._forward = _backends.active.Program(self.forward)
        self._arrays = arrays()
        self._pins = Pins(self._arrays)
        self._backward: dict[bool, Calls] = {}
        self._programs: dict[bool, Any] = {}

    def still_fits(self, arrays: list[np.ndarray]) -> bool:
        """Whether these arrays are those that the calls are bound to, of the same shape and in the same memory."""
        return len(arrays) == len(self._arrays) and all(map(is_, arrays, self._arrays)) and self._pins.hold()

    def run(self, x: np.ndarray) -> None:
        """Run again, on another input of the same shape."""
        self.prepare()
        self.x[...] = x
        self._forward()

    def prepare(self) -> None:
        """Take up the mode and the layers' attributes; ValueError if in this mode they cannot run on such inputs."""
        now = self.context.training, changes.last
        if now != self._prepared:
            for call in self._prepare:
                call()
            self._prepared = now

    def backward(self, input_gradient: bool) -> Calls:
        """The calls that take ``dy`` to the gradients of the parameters and, if it is asked for, to ``dx``."""
        if not self._backward:
            self.dy = self.context.array(self.y.shape, self.y.dtype)
        if input_gradient not in self._backward:
            dx = self.context.array(self.x.shape, self.x.dtype) if input_gradient else None
            self._backward[input_gradient] = self._bind_backward(self.dy, dx)
            self._programs[input_gradient] = _backends.active.Program(self._backward[input_gradient])
            if dx is not None:
                self.dx = dx
        return self._backward[input_gradient]

    def run_backward(self, dy: np.ndarray, input_gradient: bool) -> None:
        """Go back from this gradient."""
        self.backward(input_gradient)
        self.dy[...] = dy
        self._programs[input_gradient]()


class Kept:
    """The passes of one layer in one thread, by what they were made for; the last used is the last to go."""

    def __init__(self) -> None:
        self.passes: dict[Any, Pass] = {}
        self.predictions: dict[Any, Pass] = {}  # with buffers of their own: they may come between forward and backward
        self.last: Pass | None = None  # the one that `Layer.backward` belongs to
        self.training: bool | None = None  # the mode of `Layer.forward`; None: every layer's own


def drop_oldest(passes: dict[Any, Any], count: int, nbytes: int) -> None:
    """Keep at most ``count`` passes, or what has their ``context``, and ``nbytes`` of buffers in all."""
    while len(passes) > count or (passes and sum(kept.context.nbytes for kept in passes.values()) > nbytes):
        del passes[next(iter(passes))]


class OfThread(threading.local, Kept):
    """`Kept`, of the thread that looks; and of the runs of custom layers that run the layer themselves.

    Those are kept with the layer, not with the runs, so that they end with whichever ends first.
    """

    def __init__(self) -> None:
        Kept.__init__(self)
        self.within: WeakKeyDictionary[Context, Kept] = WeakKeyDictionary()


class _Current(threading.local):
    context: Context | None = None


current = _Current()  # the context of the pass in which a layer of the user's own is running, in this thread


def kept_by(own: OfThread) -> Kept:
    """Where a layer keeps its passes: within a custom layer, those of that layer's pass; else those of the thread."""
    context = current.context
    if context is None:
        return own
    kept = own.within.get(context)
    if kept is None:
        kept = own.within[context] = Kept()
    kept.training = False if context.training is False else None  # no layer trains in a prediction
    return kept
