"""Layer norm as a layer."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .. import _backends
from .._checks import a_number, flag, real_dtype
from ..functional.layer_normalization import normalized_shape_of, row_layout
from .attributes import Check
from .layer import Layer
from .passes import Bound, Calls, Context, DoesNotFit, aligned, run


class LayerNorm(Layer):
    r"""Layer normalization: every row with mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \, w + b

    See `fastopt.layer_norm`. Unlike `BatchNorm` it takes batches of any size, a single row included, and is the same in
    training and in evaluation.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The last axes of the input, which make a row.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether there is :math:`w`, and with ``bias`` also :math:`b`; they begin as 1 and 0.
    bias : bool
    dtype : numpy.float32 or numpy.float64

    Attributes
    ----------
    eps : float
        As given. A new one is that of the next forward pass.
    normalized_shape : tuple of int
    weight, bias : ndarray of shape normalized_shape, or None

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type, or out of range. A forward pass raises them if the last axes of the input are
        others, or its dtype is.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> layer = fo.nn.LayerNorm(3, dtype=np.float64)
    >>> layer(np.array([[1.0, 2.0, 3.0]])).round(3)
    array([[-1.225,  0.   ,  1.225]])

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization" (2016). PyTorch: ``torch.nn.LayerNorm``.
    """

    _attributes: ClassVar[dict[str, Check | None]] = {
        **Layer._attributes,
        "normalized_shape": None,
        "eps": partial(a_number, low=0),
    }

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, *, dtype: Any = np.float32):  # fmt: skip
        super().__init__()
        self.normalized_shape = normalized_shape_of(normalized_shape)
        self.eps = eps
        dtype, biased = real_dtype(dtype), flag("bias", bias)
        if flag("elementwise_affine", elementwise_affine):
            for name in ("weight", "bias") if biased else ("weight",):
                self.params[name] = aligned(self.normalized_shape, dtype)
                self.grads[name] = aligned(self.normalized_shape, dtype)
            self.params["weight"].fill(1)

    @property
    def weight(self) -> np.ndarray | None:
        return self.params.get("weight")

    @property
    def bias(self) -> np.ndarray | None:
        return self.params.get("bias")

    def __repr__(self) -> str:
        shape = self.normalized_shape[0] if len(self.normalized_shape) == 1 else self.normalized_shape
        options = {"eps": (self.eps, 1e-5), "elementwise_affine": ("weight" in self.params, True),
                   "bias": ("bias" in self.params, "weight" in self.params)}  # fmt: skip
        shown = [f"{name}={value}" for name, (value, default) in options.items() if value != default]
        return f"LayerNorm({', '.join([str(shape), *shown])})"

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        shape, dtype = self.normalized_shape, x.dtype
        try:
            layout = row_layout(x, shape)
        except ValueError:
            wanted = ", ".join(map(str, ("...", *shape)))
            raise DoesNotFit(f"{self!r} takes ({wanted}), and was given {x.shape}") from None
        if dtype != (self.dtype or dtype):
            raise TypeError(f"{self!r} takes {self.dtype}, and was given {dtype}")
        backend, y = _backends.active, context.array(x.shape, dtype)

        def of(kind: str) -> list[np.ndarray | None]:
            own = self.params
            return [self.array(kind, n, shape, dtype).reshape(-1) if n in own else None for n in ("weight", "bias")]

        weight, bias = of("params")
        statistics = np.empty((3, layout[0]), dtype)
        forward = backend.bind(
            "layer_norm", (x.reshape(layout), weight, bias, y.reshape(layout), statistics), (self.eps,)
        )

        def prepare() -> None:
            forward.set(self.eps)

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            dx = dy if dx is None else dx
            grads = of("grads")
            if self._frozen:  # they are computed all the same, and go nowhere
                grads = [None if grad is None else np.empty_like(grad) for grad in grads]
            arrays = dy.reshape(layout), x.reshape(layout), weight, statistics, dx.reshape(layout), *grads
            return [backend.bind("layer_norm_backward", (*arrays, np.empty(backend.layer_norm_scratch(*layout))))]

        return Bound(y, run([forward]), backward, [prepare])
