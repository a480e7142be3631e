"""What all layers share: parameters, gradients and buffers by name, and passes over fixed arrays.

A layer is bound to the array it reads: it answers with the array it writes and with the calls, all arguments
fixed, that fill it, and later with those of the backward pass. A training step is then one walk through a list
of calls: no look-ups, no checks, no allocation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from . import _backends
from ._checks import whole

Calls = list[Callable[[], Any]]

_KEPT_PASSES = 8  # per layer: the shapes of input whose buffers are kept


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros that begins on a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.zeros(size + 64, np.uint8)
    start = -buffer.__array_interface__["data"][0] % 64
    return buffer[start : start + size].view(dtype).reshape(shape)


class Bound(NamedTuple):
    """A layer bound to an input array, on which it has run once.

    ``forward`` repeats that, and fills ``y``. ``backward(dy, dx)`` gives the calls that write the gradients of
    the parameters and, unless it is None, ``dx``, from the gradient in ``dy``, which they may overwrite; ``dx`` is
    another array. The input is never written to: others may read it too. ``check`` comes before ``forward`` is
    repeated, and raises if the layer's mode does not allow that.
    """

    y: np.ndarray
    forward: Calls
    backward: Callable[[np.ndarray, np.ndarray | None], Calls]
    check: Sequence[Callable[[], None]] = ()


def run(calls: Calls) -> Calls:
    """Run the calls, and return them."""
    for call in calls:
        call()
    return calls


class Pass:
    """A layer bound to buffers for inputs of one shape; it has run on ``x`` once."""

    def __init__(self, layer: "Layer", x: np.ndarray):
        self.x = aligned(x.shape, x.dtype)
        self.x[...] = x
        self.y, self.forward, self._bind_backward, self._check = layer.bind(self.x)
        self._arrays = layer.arrays()
        self._backward: dict[bool, Calls] = {}

    def still_fits(self, layer: "Layer") -> bool:
        """Whether the layer's arrays are those that the calls are bound to."""
        now = layer.arrays()
        return len(now) == len(self._arrays) and all(map(is_, now, self._arrays))

    def check(self) -> None:
        """Raise ValueError if the layer, in its mode, cannot run on inputs of this shape."""
        for call in self._check:
            call()

    def backward(self, input_gradient: bool) -> Calls:
        """The calls that take ``dy`` to the gradients of the parameters and, if it is asked for, to ``dx``."""
        if not self._backward:
            self.dy = aligned(self.y.shape, self.y.dtype)
        if input_gradient not in self._backward:
            dx = aligned(self.x.shape, self.x.dtype) if input_gradient else None
            self._backward[input_gradient] = self._bind_backward(self.dy, dx)
            if dx is not None:
                self.dx = dx
        return self._backward[input_gradient]


class Layer:
    """The base of this library's layers.

    One with parameters fills `params` and `grads` in its ``__init__``; one with a state that is no parameter, such
    as running statistics, `buffers`.
    """

    training = True
    _passes: dict[Any, Pass]
    _last: Pass | None

    def __init__(self) -> None:
        self.params: dict[str, np.ndarray] = {}
        self.grads: dict[str, np.ndarray] = {}
        self.buffers: dict[str, np.ndarray] = {}
        self._forget_passes()

    def bind(self, x: np.ndarray) -> Bound:
        """Run on ``x``, and say how to do so again, and how to go back.

        The calls serve in training and evaluation mode alike: they look at `training` when they run.
        """
        raise NotImplementedError

    # -- running --

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The output for a batch, as a new array.

        Parameters
        ----------
        x : ndarray (rows, ...)
            The batch; it is copied, and may change before `backward`.

        Raises
        ------
        TypeError, ValueError
            If ``x`` is no array of the layer's dtype, or has another width than the layer takes.
        """
        if not isinstance(x, np.ndarray):
            raise TypeError(f"x must be a numpy.ndarray, not {type(x).__name__}")
        if x.dtype != (self.dtype or x.dtype) or x.dtype not in (np.float32, np.float64):
            raise TypeError(f"x is {x.dtype}, {self!r} takes {self.dtype or 'float32 or float64'}")
        if x.ndim < 2:
            raise ValueError(f"x has shape {x.shape}: it must have rows and columns")
        self._last = self.run_on(x)
        return self._last.y.copy()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The same as `forward`."""
        return self.forward(x)

    def backward(self, dy: np.ndarray, *, input_gradient: bool = True) -> np.ndarray | None:
        """Write the gradients of the parameters for the last `forward`, and return that of its input.

        Parameters
        ----------
        dy : ndarray
            The gradient with respect to the output, of its shape and dtype.
        input_gradient : bool
            Whether to compute the gradient with respect to the input; if not, the answer is None.

        Raises
        ------
        RuntimeError
            If there has been no `forward`.
        TypeError, ValueError
            If ``dy`` is no array of the output's shape and dtype.
        """
        last = self._last
        if last is None:
            raise RuntimeError("backward needs a forward before it")
        if not isinstance(dy, np.ndarray) or dy.dtype != last.y.dtype:
            given = dy.dtype if isinstance(dy, np.ndarray) else type(dy).__name__
            raise TypeError(f"dy must be an array of {last.y.dtype}, as the output is, not {given}")
        if dy.shape != last.y.shape:
            raise ValueError(f"dy has shape {dy.shape}, the output has {last.y.shape}")
        calls = last.backward(input_gradient)
        last.dy[...] = dy
        run(calls)
        return last.dx.copy() if input_gradient else None

    def predict(self, X: Any, batch_size: int = 64) -> np.ndarray:
        """The output for every row of ``X``, in evaluation mode, batch by batch.

        For a model trained with the logistic loss these are logits: `fastopt.sigmoid` makes probabilities of them.

        Parameters
        ----------
        X : array (rows, ...)
            Numbers of any type; other types than the layer's are converted, batch by batch.
        batch_size : int
            How many rows to run at once. By default few enough that the matrix products of small networks stay
            in one thread, and enough for those of large ones to be fast.

        Raises
        ------
        TypeError, ValueError
            If ``X`` does not hold numbers, or has another width than the layer takes.
        """
        X = np.asarray(X)
        if X.dtype.kind not in "biuf":
            raise TypeError(f"X must hold real numbers, not {X.dtype}")
        if X.ndim < 2:
            raise ValueError(f"X has shape {X.shape}: it must have rows and columns")
        whole("batch_size", batch_size, 1)
        dtype = self.dtype or (X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float32))
        outputs: np.ndarray | None = None
        with evaluating(self):
            for begin in range(0, len(X) or 1, batch_size):
                y = self.run_on(X[begin : begin + batch_size], dtype).y
                if outputs is None:
                    outputs = np.empty((len(X), *y.shape[1:]), y.dtype)
                outputs[begin : begin + batch_size] = y
        assert outputs is not None
        return outputs

    def run_on(self, x: np.ndarray, predicting: Any = None) -> Pass:
        """The pass for inputs like ``x``, after it has run on it.

        A prediction, for which ``predicting`` is the layer's dtype, has buffers of its own: it may come between
        a forward pass and its backward pass.
        """
        self.check_arrays()
        key = (x.shape, predicting or x.dtype, predicting is not None, _backends.active)
        found = self._passes.pop(key, None)
        if found is None or not found.still_fits(self):
            before = [buffer.copy() for buffer in self.buffers.values()]
            try:
                found = Pass(self, x if predicting is None else x.astype(predicting))
            except BaseException:  # some layers may have run
                for buffer, value in zip(self.buffers.values(), before, strict=True):
                    buffer[...] = value
                raise
            if len(self._passes) >= _KEPT_PASSES:
                del self._passes[next(iter(self._passes))]
        else:
            found.check()
            found.x[...] = x
            run(found.forward)
        self._passes[key] = found  # the last used is the last to go
        if found is self._last:
            self._last = None
        return found

    def _forget_passes(self) -> None:
        """Passes hold the addresses of arrays: they end where the arrays are moved."""
        self._passes, self._last = {}, None

    def check_arrays(self) -> None:
        """Raise ValueError if a parameter's array is no longer that which passes are bound to."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_passes", "_last")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_passes()

    # -- parameters --

    @property
    def dtype(self) -> np.dtype | None:
        """The dtype of the parameters and running statistics; None for a layer without, which takes either."""
        arrays = (*self.params.values(), *self.buffers.values())
        return next((array.dtype for array in arrays if array.dtype.kind == "f"), None)

    def kinds(self) -> tuple[tuple[str, dict[str, np.ndarray]], ...]:
        """The layer's dicts of arrays, by name."""
        return ("params", self.params), ("grads", self.grads), ("buffers", self.buffers)

    def arrays(self) -> list[np.ndarray]:
        """The arrays that passes are bound to."""
        return [array for _, arrays in self.kinds() for array in arrays.values()]

    def parameters(self) -> dict[str, np.ndarray]:
        """The parameters by name: always the same dict of the same arrays, for an optimizer to update in place."""
        return self.params

    def gradients(self) -> dict[str, np.ndarray]:
        """The gradients by their parameters' names: always the same dict of arrays, which `backward` writes."""
        return self.grads

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and every buffer (running statistics and the like), by name."""
        return {name: array.copy() for name, array in (*self.params.items(), *self.buffers.items())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Write the values that `state_dict` gave into the parameters and buffers.

        Raises
        ------
        TypeError, ValueError
            If an array is missing, unknown, of another shape or dtype, or cannot be written to; nothing has then been
            written.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a dict of arrays, not {type(state_dict).__name__}")
        own = {**self.params, **self.buffers}
        missing = [repr(name) for name in own if name not in state_dict]
        unknown = [repr(name) for name in state_dict if name not in own]
        if missing or unknown:
            raise ValueError(
                f"the state dict lacks: {', '.join(missing) or '-'}; has no place for: {', '.join(unknown) or '-'}"
            )
        given = {name: np.asarray(state_dict[name]) for name in own}
        for name, array in own.items():
            saved = given[name]
            if saved.shape != array.shape:
                raise ValueError(f"{name!r} has shape {saved.shape} in the state dict, {array.shape} in the model")
            if saved.dtype != array.dtype:
                raise TypeError(f"{name!r} is {saved.dtype} in the state dict, {array.dtype} in the model")
            if not array.flags.writeable:
                raise ValueError(f"{name!r} of the model is read-only")
        for name, array in own.items():
            array[...] = given[name]

    # -- modes --

    def parts(self) -> Iterator[Any]:
        """The layer, and all layers within it."""
        yield self

    def train(self, mode: bool = True) -> "Layer":
        """Set training mode, in this layer and all within it; returns the layer."""
        for part in self.parts():
            part.training = mode
        return self

    def eval(self) -> "Layer":
        """Set evaluation mode, in this layer and all within it; returns the layer."""
        return self.train(False)


def arrays_of(layer: Any, kind: str) -> dict[str, np.ndarray]:
    """The dict ``params``, ``grads`` or ``buffers`` of a layer; a user's own may be without."""
    return getattr(layer, kind, None) or {}


@contextmanager
def evaluating(layer: Layer, training: bool = False) -> Iterator[None]:
    """Evaluation (or training) mode within a ``with`` block; then every layer's own mode again."""
    modes = [(part, getattr(part, "training", True)) for part in layer.parts()]
    layer.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def bind(layer: Any, x: np.ndarray) -> Bound:
    """``layer`` bound to ``x``: by its own `Layer.bind`, or, if it is a user's own, by calling its two methods."""
    return layer.bind(x) if isinstance(layer, Layer) else _bind_own(layer, x)


def _bind_own(layer: Any, x: np.ndarray) -> Bound:
    name = type(layer).__name__
    shown = x.view()
    shown.flags.writeable = False  # the layer before may need it on the way back, and a layer beside may read it

    def output(what: str, result: Any, shape: tuple[int, ...] | None) -> np.ndarray:
        if not isinstance(result, np.ndarray) or result.dtype != x.dtype:
            given = result.dtype if isinstance(result, np.ndarray) else type(result).__name__
            raise TypeError(f"{name}.{what} must return an array of {x.dtype}, as its input is, not {given}")
        if shape is not None and result.shape != shape:
            raise ValueError(f"{name}.{what} returned shape {result.shape}, not {shape}")
        return result

    first = output("forward", layer.forward(shown), None)
    y = aligned(first.shape, x.dtype)
    y[...] = first

    def forward():
        y[...] = output("forward", layer.forward(shown), y.shape)

    def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
        grads = dict(arrays_of(layer, "grads"))

        def call():
            result = layer.backward(dy)
            if dx is not None:
                dx[...] = output("backward", result, dx.shape)
            for key, grad in grads.items():
                if layer.grads[key] is not grad:
                    raise ValueError(f"{name}.backward replaced grads[{key!r}] by another array: write into it")

        return [call]

    return Bound(y, [forward], backward)
