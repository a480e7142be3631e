"""Layers one after the other, with their parameters in one block of memory."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._layer import Bound, Calls, Layer, aligned, arrays_of, bind
from .activations import ReLU, Sigmoid, Tanh
from .dropout import Dropout
from .linear import Linear

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


class _Arrays(NamedTuple):
    """A parameter and its gradient, and where they are found: in a layer's dicts, under a key."""

    layer: Any
    key: str
    param: np.ndarray
    grad: np.ndarray


class Sequential(Layer):
    """Layers one after the other: each takes the output of the one before.

    All parameters lie in one block of memory and all gradients in another, each array on a cache line of its
    own, under names such as ``"0.weight"``: the layer's place, and its own name for the array.

    Parameters
    ----------
    *layers : Layer, or any object with ``forward(x)`` and ``backward(dy)``
        What a layer of one's own needs is said in `fastopt.nn`. All parameters are of one dtype.
    rng : int or numpy.random.Generator, optional
        If given, the layers that were made without one draw their initial values anew, from this.

    Raises
    ------
    TypeError, ValueError
        If an object is not a layer, stands in the model twice, or its parameters and gradients do not match.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> model = fo.nn.Sequential(fo.nn.Linear(2, 8), fo.nn.Sigmoid(), fo.nn.Linear(8, 1), rng=0)
    >>> opt = fo.optim.Adam(model.parameters(), lr=0.1)
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    >>> y = np.array([[0], [1], [1], [0]], np.float32)  # exclusive or
    >>> for step in range(200):
    ...     loss, dz = fo.logistic_loss(model(x), y)
    ...     _ = model.backward(dz, input_gradient=False)
    ...     opt.step(model.gradients())
    >>> fo.sigmoid(model(x)).round().ravel()
    array([0., 1., 1., 0.], dtype=float32)
    """

    def __init__(self, *layers: Any, rng: "int | Generator | None" = None):
        super().__init__()
        for i, layer in enumerate(layers):
            if isinstance(layer, type) or not callable(getattr(layer, "forward", None)):
                raise TypeError(f"layer {i} must be an object with forward(x) and backward(dy), not {layer!r}")
            if not callable(getattr(layer, "backward", None)):
                raise TypeError(f"layer {i}, {layer!r}, has no method backward(dy)")
        if not layers:
            raise ValueError("a Sequential needs at least one layer")
        self.layers = layers
        self._move_into_arenas()
        if rng is not None:
            rng = np.random.default_rng(rng)
            # dropout comes last: with it and without it, a model begins with the same weights
            for part in sorted(self.parts(), key=lambda part: isinstance(part, Dropout)):
                if hasattr(part, "reset_parameters") and not getattr(part, "seeded", False):
                    part.reset_parameters(rng)
                    part.seeded = True

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Any:
        return self.layers[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def parts(self) -> Iterator[Any]:
        yield self
        for layer in self.layers:
            yield from layer.parts() if isinstance(layer, Layer) else [layer]

    # -- memory --

    def _leaves(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The layers that are no sequences, with what their parameters' names begin with."""
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Sequential):
                yield from layer._leaves(f"{prefix}{i}.")
            else:
                yield f"{prefix}{i}.", layer

    def _move_into_arenas(self) -> None:
        """Give every parameter and every gradient its place in one of two blocks."""
        arrays = self._checked_arrays()
        line = 64
        starts = np.cumsum([0] + [-(-a.param.nbytes // line) * line for a in arrays])
        arenas = [aligned((int(starts[-1]),), np.uint8) for _ in ("params", "grads")]
        for (layer, key, *pair), start in zip(arrays, starts[:-1], strict=True):
            for owned, array, arena in zip((layer.params, layer.grads), pair, arenas, strict=True):
                owned[key] = arena[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
                owned[key][...] = array
        for part in self.parts():
            if isinstance(part, Layer):
                part._forget_passes()
            if isinstance(part, Sequential):
                for prefix, leaf in part._leaves():
                    for kind, own in part.kinds():
                        own.update((f"{prefix}{key}", array) for key, array in arrays_of(leaf, kind).items())

    def _checked_arrays(self) -> list["_Arrays"]:
        """All parameters with their gradients, or the error that they call for."""
        layers: dict[int, str] = {}
        names: dict[int, str] = {}
        found: list[_Arrays] = []
        for prefix, leaf in self._leaves():
            if (first := layers.setdefault(id(leaf), prefix)) != prefix:
                raise ValueError(f"layer {prefix[:-1]} is layer {first[:-1]}: a layer can stand in a model once")
            params, grads = arrays_of(leaf, "params"), arrays_of(leaf, "grads")
            if params.keys() != grads.keys():
                raise ValueError(f"layer {prefix[:-1]} has the params {list(params)}, and the grads {list(grads)}")
            for key, param in params.items():
                name, grad = f"{prefix}{key}", grads[key]
                if (first := names.setdefault(id(param), name)) != name:
                    raise ValueError(f"parameter {name!r} is the same array as {first!r}: parameters cannot be shared")
                if not isinstance(param, np.ndarray) or param.dtype not in (np.float32, np.float64):
                    given = str(param.dtype) if isinstance(param, np.ndarray) else type(param).__name__
                    raise TypeError(f"parameter {name!r} must be an array of float32 or float64, not {given}")
                if found and param.dtype != found[0].param.dtype:
                    raise TypeError(f"parameter {name!r} is {param.dtype}, those before it are {found[0].param.dtype}")
                if not isinstance(grad, np.ndarray) or grad.dtype != param.dtype or grad.shape != param.shape:
                    given = f"{grad.dtype} {grad.shape}" if isinstance(grad, np.ndarray) else type(grad).__name__
                    raise ValueError(f"gradient of {name!r} must be {param.dtype} {param.shape}, as it is, not {given}")
                found.append(_Arrays(leaf, key, param, grad))
            for key, buffer in arrays_of(leaf, "buffers").items():
                if not isinstance(buffer, np.ndarray):
                    raise TypeError(f"buffer '{prefix}{key}' must be an array, not {type(buffer).__name__}")
                if key in params:
                    raise ValueError(f"'{prefix}{key}' is a parameter and a buffer")
        return found

    def check_arrays(self) -> None:
        for prefix, leaf in self._leaves():
            for kind, own in self.kinds():
                for key, array in arrays_of(leaf, kind).items():
                    if own.get(f"{prefix}{key}") is not array:
                        raise ValueError(
                            f"{kind}[{key!r}] of layer {prefix[:-1]} is not the array this model was made with:"
                            f" it was replaced (write into it: [...] = ...), or another model took the layer over"
                        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in super().__getstate__().items() if name not in ("params", "grads", "buffers")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.params, self.grads, self.buffers = {}, {}, {}
        self._move_into_arenas()

    # -- running --

    def bind(self, x: np.ndarray) -> Bound:
        bounds: list[tuple[Bound, bool]] = []  # each with whether it has parameters
        forward: Calls = []
        check: Calls = []
        first, i = x, 0
        while i < len(self.layers):
            layer, after = self.layers[i], (*self.layers, None)[i + 1]
            fused = type(layer) is Linear and type(after) in (Sigmoid, Tanh, ReLU)
            bound = layer.bind(x, then=after.function) if fused else bind(layer, x)
            bounds.append((bound, bool(arrays_of(layer, "params"))))
            forward += bound.forward
            check += bound.check
            x = bound.y
            i += 2 if fused else 1

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            wanted = [dx is not None]  # whether the gradient of each layer's input is
            for _, trained in bounds:
                wanted.append(wanted[-1] or trained)
            calls: Calls = []
            inputs = [first] + [bound.y for bound, _ in bounds]
            for k in reversed(range(len(bounds))):
                below = (dx if k == 0 else aligned(inputs[k].shape, inputs[k].dtype)) if wanted[k] else None
                if wanted[k + 1]:
                    calls += bounds[k][0].backward(dy, below)
                if below is None:
                    break
                dy = below
            return calls

        return Bound(x, forward, backward, check)
