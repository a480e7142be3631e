"""Dropout as a layer."""

from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .. import _backends
from .._checks import generator_of
from .._specification.kernels import EVALUATE
from ..functional.masking import in_training, probability
from .attributes import Check
from .layer import Layer
from .passes import Bound, Calls, Context, run

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


class Dropout(Layer):
    r"""In training, every element is 0 with probability p, or else is multiplied by 1 / (1 - p).

    See `fastopt.dropout`. The mask follows from the layer's seed and from the number of forward passes in training
    that went before: it is not stored, and a run that is resumed from a state dict draws the masks it would have drawn.
    In evaluation the output is the input.

    Parameters
    ----------
    p : float from 0 to 1
    rng : int or numpy.random.Generator, optional
        Where the seed comes from; without it, it differs from run to run, unless the `Sequential` that the layer
        comes to stand in has one.

    Attributes
    ----------
    p : float
        A new one is that of the next forward pass.
    buffers : dict of ndarray
        ``"seed"`` and ``"draw"``, two whole numbers: those of the next mask.

    Raises
    ------
    TypeError, ValueError
        If ``p`` is no number from 0 to 1.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> layer, x = fo.nn.Dropout(0.5, rng=0), np.ones((2, 3))
    >>> seed = int(layer.buffers["seed"])
    >>> first, second = layer(x), layer(x)
    >>> bool((second == fo.dropout(x, 0.5, seed=seed, draw=1)).all())
    True
    >>> layer.eval()(x)
    array([[1., 1., 1.],
           [1., 1., 1.]])

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    _attributes: ClassVar[dict[str, Check | None]] = {**Layer._attributes, "p": lambda _, p: probability(p)}

    def __init__(self, p: float = 0.5, *, rng: "int | Generator | None" = None):
        super().__init__()
        self.p = p
        self.buffers.update(seed=np.zeros((), np.uint64), draw=np.zeros((), np.uint64))
        self.seeded = rng is not None
        self.reset_parameters(generator_of(rng))

    def reset_parameters(self, rng: "Generator") -> None:
        """Draw the seed anew, and begin with its first mask."""
        self.buffers["seed"][...] = rng.integers(2**64, dtype=np.uint64)
        self.buffers["draw"][...] = 0

    def __repr__(self) -> str:
        return f"Dropout({self.p:g})"

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        backend, y = _backends.active, context.array(x.shape, x.dtype)
        seed, draw = (self.array("buffers", name, (), np.uint64) for name in ("seed", "draw"))
        used = np.zeros(6, np.uint64)  # what the backward pass needs of the forward pass
        used[5] = context.first_row * prod(x.shape[1:])  # a part of a batch has that part of the batch's mask
        forward = backend.bind("dropout_forward", (x, y, seed, draw, used))

        def prepare() -> None:
            forward.set(*(in_training(self.p) if context.trains(self) else (EVALUATE, 0, 1.0)))

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            return [] if dx is None else [backend.bind("dropout_backward", (dy, dx, used))]

        prepare()
        return Bound(y, run([forward]), backward, [prepare])
