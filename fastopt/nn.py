"""Neural networks on NumPy arrays: layers, and the sequence of them.

Names, conventions and initial values are those of ``torch.nn``.

A layer of one's own is any object with two methods, ``forward(x)``, which returns the output for a batch, and
``backward(dy)``, which takes the gradient with respect to that output and returns the one with respect to ``x``.
If it has parameters, it keeps them in a dict ``params`` and writes their gradients into the arrays of a dict
``grads`` with the same names. A `Sequential` moves these arrays into its own memory, so the layer is to look
them up in the dicts each time. Its attribute ``training`` is set by `Sequential.train` and `Sequential.eval`.

>>> import numpy as np, fastopt as fo
>>> class Scale:
...     def __init__(self, width):
...         self.params = {"gain": np.ones(width, np.float32)}
...         self.grads = {"gain": np.zeros(width, np.float32)}
...
...     def forward(self, x):
...         self.x = x
...         return x * self.params["gain"]
...
...     def backward(self, dy):
...         self.grads["gain"][...] = (dy * self.x).sum(axis=0)
...         return dy * self.params["gain"]
>>> model = fo.nn.Sequential(fo.nn.Linear(3, 2), Scale(2))
>>> list(model.parameters())
['0.weight', '0.bias', '1.gain']
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _backends
from ._layer import Bound, Calls, Layer, aligned, arrays_of, bind, run

__all__ = ["Layer", "Linear", "Sequential", "Sigmoid"]

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


class Linear(Layer):
    r"""A fully connected layer: :math:`y = x W^\top + b`.

    Parameters
    ----------
    in_features, out_features : int
        The widths of the input (rows, in_features) and of the output (rows, out_features).
    bias : bool
        Whether there is a :math:`b`.
    dtype : numpy.float32 or numpy.float64
    rng : int or numpy.random.Generator, optional
        Where the initial values come from; without it they differ from run to run, unless the `Sequential` that
        the layer comes to stand in has one.

    Attributes
    ----------
    weight : ndarray (out_features, in_features)
    bias : ndarray (out_features,) or None

    Raises
    ------
    TypeError, ValueError
        If a width is not a whole number of at least 1, or ``dtype`` is another.

    Notes
    -----
    Weight and bias begin as :math:`U(-1/\sqrt{n}, 1/\sqrt{n})`, n being ``in_features``: the default of
    ``torch.nn.Linear`` (which arrives at it as ``kaiming_uniform_`` with ``a=sqrt(5)``).

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> layer = fo.nn.Linear(3, 2)
    >>> layer.weight[...] = [[1, 0, 0], [0, 1, 1]]
    >>> layer.bias[...] = [10, 20]
    >>> layer(np.array([[1, 2, 3]], np.float32))
    array([[11., 25.]], dtype=float32)

    References
    ----------
    LeCun et al., "Efficient BackProp" (1998), section 4.6, for the scale of the initial values.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = np.float32,
                 rng: "int | Generator | None" = None):  # fmt: skip
        super().__init__()
        for name, width in (("in_features", in_features), ("out_features", out_features)):
            if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
                raise TypeError(f"{name} must be an int, not {type(width).__name__}")
            if width < 1:
                raise ValueError(f"{name} must be at least 1, not {width}")
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, not {dtype}")
        self.in_features, self.out_features = int(in_features), int(out_features)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if bias:
            shapes["bias"] = (self.out_features,)
        self.params = {name: aligned(shape, dtype) for name, shape in shapes.items()}
        self.grads = {name: aligned(shape, dtype) for name, shape in shapes.items()}
        self.seeded = rng is not None
        self.reset_parameters(np.random.default_rng(rng))

    def reset_parameters(self, rng: "Generator") -> None:
        """Draw the initial values anew."""
        bound = self.in_features**-0.5
        for param in self.params.values():
            param[...] = rng.uniform(-bound, bound, param.shape)

    @property
    def weight(self) -> np.ndarray:
        return self.params["weight"]

    @property
    def bias(self) -> np.ndarray | None:
        return self.params.get("bias")

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if 'bias' in self.params else ', bias=False'})"

    def bind(self, x: np.ndarray, then_sigmoid: bool = False) -> Bound:
        """`Layer.bind`; with ``then_sigmoid`` for this layer and the `Sigmoid` after it together."""
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise ValueError(f"{self!r} takes (rows, {self.in_features}), and was given {x.shape}")
        backend, weight, bias = _backends.active, self.weight, self.bias
        y = aligned((len(x), self.out_features), x.dtype)

        forward: Calls = [partial(np.dot, x, weight.T, y)]
        if bias is not None:
            forward.append(backend.bind("bias_sigmoid" if then_sigmoid else "bias_add", y, bias))
        elif then_sigmoid:
            forward.append(backend.bind("sigmoid", y, y))

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            calls: Calls = []
            if then_sigmoid:
                calls.append(backend.bind("sigmoid_backward", dy, y, dy))
            calls.append(partial(np.dot, dy.T, x, self.grads["weight"]))
            if bias is not None:
                calls.append(backend.bind("column_sums", dy, self.grads["bias"]))
            if dx is not None:
                calls.append(partial(np.dot, dy, weight, dx))
            return calls

        return Bound(y, run(forward), backward)


class Sigmoid(Layer):
    r"""The logistic function as a layer: :math:`y = 1 / (1 + e^{-x})`, element by element.

    See `fastopt.sigmoid`. In a `Sequential`, directly after a `Linear`, the two run as one: bias and sigmoid in
    one pass over the matrix product.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.nn.Sigmoid()(np.zeros((1, 2)))
    array([[0.5, 0.5]])
    """

    def __repr__(self) -> str:
        return "Sigmoid()"

    def bind(self, x: np.ndarray) -> Bound:
        backend = _backends.active
        y = aligned(x.shape, x.dtype)

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            return [] if dx is None else [backend.bind("sigmoid_backward", dy, y, dx)]

        return Bound(y, run([backend.bind("sigmoid", x, y)]), backward)


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
            for part in self.parts():
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
                    for kind, own in (("params", part.params), ("grads", part.grads)):
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
        return found

    def check_arrays(self) -> None:
        for prefix, leaf in self._leaves():
            for kind, own in (("params", self.params), ("grads", self.grads)):
                for key, array in arrays_of(leaf, kind).items():
                    if own.get(f"{prefix}{key}") is not array:
                        raise ValueError(
                            f"{kind}[{key!r}] of layer {prefix[:-1]} is not the array this model was made with:"
                            f" it was replaced (write into it: [...] = ...), or another model took the layer over"
                        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in ("params", "grads")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.params, self.grads = {}, {}
        self._move_into_arenas()

    # -- running --

    def bind(self, x: np.ndarray) -> Bound:
        bounds: list[tuple[Bound, bool]] = []  # each with whether it has parameters
        forward: Calls = []
        first, i = x, 0
        while i < len(self.layers):
            layer = self.layers[i]
            then_sigmoid = type(layer) is Linear and any(type(after) is Sigmoid for after in self.layers[i + 1 : i + 2])
            bound = layer.bind(x, then_sigmoid=True) if then_sigmoid else bind(layer, x)
            bounds.append((bound, bool(arrays_of(layer, "params"))))
            forward += bound.forward
            x = bound.y
            i += 2 if then_sigmoid else 1

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

        return Bound(x, forward, backward)
