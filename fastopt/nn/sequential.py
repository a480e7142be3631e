"""Layers one after the other."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .activations import ReLU, Sigmoid, Tanh
from .attributes import Check
from .container import Container, checked_layer
from .layer import bind, learns
from .linear import Linear
from .normalization import BatchNorm
from .passes import Bound, Calls, Context, DoesNotFit

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


class Sequential(Container):
    """Layers one after the other: each takes the output of the one before.

    All parameters and gradients lie in one block of memory, each array on a cache line of its own, under names such
    as ``"0.weight"``: the layer's place, and its own name for the array.

    Parameters
    ----------
    *layers : Layer, or any object with ``forward(x)`` and ``backward(dy)``
        What a layer of one's own needs is said in `fastopt.nn`. All parameters are of one dtype.
    rng : int or numpy.random.Generator, optional
        If given, the layers that were made without one draw their initial values anew, from this.
    dtype : numpy.float32 or numpy.float64, optional
        If given, the arrays of all layers become arrays of this dtype, and need not be made so one by one.

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

    chained = True

    _attributes: ClassVar[dict[str, Check | None]] = {**Container._attributes, "layers": None}

    def __init__(self, *layers: Any, rng: "int | Generator | None" = None, dtype: Any = None):
        super().__init__()
        if not layers:
            raise ValueError("a Sequential needs at least one layer")
        self.layers = tuple(checked_layer(f"layer {i}", layer) for i, layer in enumerate(layers))
        self._assemble(rng, dtype)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Any:
        return self.layers[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def named_children(self) -> Iterator[tuple[str, Any]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        bounds: list[tuple[Bound, Any]] = []
        forward: Calls = []
        prepare: list[Callable[[], None]] = []
        first, i = x, 0
        while i < len(self.layers):
            layer, after = self.layers[i], (*self.layers, None)[i + 1]
            fused = type(layer) in (Linear, BatchNorm) and type(after) in (Sigmoid, Tanh, ReLU)
            try:
                bound = layer.bind(x, context, then=after.function) if fused else bind(layer, x, context)
            except DoesNotFit as error:
                if i == 0:
                    raise
                raise DoesNotFit(
                    f"{error} by the layer before: it is layer {i}, after {self.layers[i - 1]!r}"
                ) from None
            bounds.append((bound, layer))
            forward += bound.forward
            prepare += bound.prepare
            x = bound.y
            i += 2 if fused else 1

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            wanted = [dx is not None]  # whether the gradient of each layer's input is
            for _, layer in bounds:
                wanted.append(wanted[-1] or learns(layer))
            calls: Calls = []
            inputs = [first] + [bound.y for bound, _ in bounds]
            for k in reversed(range(len(bounds))):
                below = (dx if k == 0 else context.array(inputs[k].shape, inputs[k].dtype)) if wanted[k] else None
                if wanted[k + 1]:
                    calls += bounds[k][0].backward(dy, below)
                if below is None:
                    break
                dy = below
            return calls

        return Bound(x, forward, backward, prepare)
