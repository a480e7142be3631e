"""The fully connected layer."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _backends, init
from .._checks import flag, generator_of, real_dtype, whole
from ..functional.products import bind_matmul
from .attributes import Check
from .layer import Layer
from .passes import Bound, Calls, Context, DoesNotFit, aligned, run

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
    ``torch.nn.Linear`` (which arrives at it as ``kaiming_uniform_`` with ``a=sqrt(5)``). `fastopt.init` has other
    values to write over these.

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

    _attributes: ClassVar[dict[str, Check | None]] = {**Layer._attributes, "in_features": None, "out_features": None}

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = np.float32,
                 rng: "int | Generator | None" = None):  # fmt: skip
        super().__init__()
        for name, width in (("in_features", in_features), ("out_features", out_features)):
            whole(name, width, 1)
        dtype = real_dtype(dtype)
        self.in_features, self.out_features = int(in_features), int(out_features)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if flag("bias", bias):
            shapes["bias"] = (self.out_features,)
        self._shapes = shapes
        self.params.update((name, aligned(shape, dtype)) for name, shape in shapes.items())
        self.grads.update((name, aligned(shape, dtype)) for name, shape in shapes.items())
        self.seeded = rng is not None
        self.reset_parameters(generator_of(rng))

    def reset_parameters(self, rng: "Generator") -> None:
        """Draw the initial values anew."""
        bound = self.in_features**-0.5
        for param in self.params.values():
            init.uniform_(param, -bound, bound, rng=rng)

    @property
    def weight(self) -> np.ndarray:
        return self.params["weight"]

    @property
    def bias(self) -> np.ndarray | None:
        return self.params.get("bias")

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if 'bias' in self.params else ', bias=False'})"

    def bind(self, x: np.ndarray, context: Context, then: str | None = None) -> Bound:
        """`Layer.bind`; with ``then``, "sigmoid", "tanh" or "relu", for this layer and that function together."""
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise DoesNotFit(f"{self!r} takes (rows, {self.in_features}), and was given {x.shape}")
        backend, dtype, shapes = _backends.active, x.dtype, self._shapes
        weight, *biases = (self.array("params", name, shape, dtype) for name, shape in shapes.items())
        bias = biases[0] if biases else None
        y = context.array((len(x), self.out_features), x.dtype)

        forward = bind_matmul(x, weight.T, y, bias, then)

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            calls: Calls = []
            if then:
                calls.append(backend.bind(f"{then}_backward", (dy, y, dy)))
            if not self._frozen:
                dweight, *dbiases = (self.array("grads", name, shape, dtype) for name, shape in shapes.items())
                calls += bind_matmul(dy.T, x, dweight)
                calls += [backend.bind("column_sums", (dy, dbias)) for dbias in dbiases]
            if dx is not None:
                calls += bind_matmul(dy, weight, dx)
            return calls

        return Bound(y, run(forward), backward)
