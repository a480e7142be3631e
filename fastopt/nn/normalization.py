"""Batch norm as a layer."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .. import _backends
from .._checks import a_number, flag, real_dtype, whole
from ..functional.normalization import activation_number, channel_layout, gradient_needs_result, update_fraction
from .attributes import Check
from .layer import Layer
from .passes import Bound, Calls, Context, DoesNotFit, aligned, run


class BatchNorm(Layer):
    r"""Batch normalization: every channel with mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \, w + b

    See `fastopt.batch_norm`. In training, mean and variance are those of each channel over the batch, and the
    running statistics move towards them; in evaluation these take their place. In a `Sequential`, a `ReLU`, `Sigmoid`
    or `Tanh` directly after it runs as one with it.

    Parameters
    ----------
    num_features : int
        C, for inputs of shape (N, C), (N, C, L), (N, C, H, W) ...
    eps : float
        Added to the variance.
    momentum : float from 0 to 1, or None
        running = (1 - momentum) * running + momentum * new, as in PyTorch; Keras and ONNX call 1 - momentum so.
        None: the average of all batches.
    affine : bool
        Whether there are :math:`w` and :math:`b`; they begin as 1 and 0.
    unbiased : bool
        Whether the running variance takes the batch's n / (n - 1) times (PyTorch), or as it is (Keras, ONNX).
    dtype : numpy.float32 or numpy.float64

    Attributes
    ----------
    eps, momentum, unbiased
        As given. A new one is that of the next forward pass.
    weight, bias : ndarray (num_features,) or None
    running_mean, running_var : ndarray (num_features,)
    num_batches_tracked : ndarray ()
        How many batches the running statistics have seen.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type, or out of range. A forward pass raises them if the input has another
        number of channels or another dtype, or, in training, fewer than two values per channel.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> layer = fo.nn.BatchNorm(2, dtype=np.float64)
    >>> layer(np.array([[1.0, 10.0], [3.0, 30.0]])).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> layer.running_mean, layer.running_var
    (array([0.2, 2. ]), array([ 1.1, 20.9]))

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift", ICML 2015, Algorithm 1.
    """

    _attributes: ClassVar[dict[str, Check | None]] = {
        **Layer._attributes,
        "num_features": None,
        "eps": partial(a_number, low=0),
        "momentum": lambda _, momentum: None if momentum is None else update_fraction(momentum),
        "unbiased": flag,
    }

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 unbiased: bool = True, dtype: Any = np.float32):  # fmt: skip
        super().__init__()
        self.num_features = whole("num_features", num_features, 1)
        self.eps, self.momentum, self.unbiased = eps, momentum, unbiased
        shape, dtype = (self.num_features,), real_dtype(dtype)
        if flag("affine", affine):
            self.params.update((name, aligned(shape, dtype)) for name in ("weight", "bias"))
            self.grads.update((name, aligned(shape, dtype)) for name in ("weight", "bias"))
            self.params["weight"].fill(1)
        self.buffers.update((name, aligned(shape, dtype)) for name in ("running_mean", "running_var"))
        self.buffers["num_batches_tracked"] = np.zeros((), np.int64)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Forget the batches: a running mean of 0, and a running variance of 1."""
        self.running_mean.fill(0)
        self.running_var.fill(1)
        self.num_batches_tracked.fill(0)

    def check_values(self, given: Mapping[str, np.ndarray], prefix: str = "") -> None:
        mean, variance, tracked = (given[f"{prefix}{name}"] for name in self.buffers)
        for name, values in (("running_mean", mean), ("running_var", variance)):
            if not np.isfinite(values).all():
                raise ValueError(f"'{prefix}{name}' holds NaN or infinity in the state dict")
        if (variance < 0).any():
            raise ValueError(f"'{prefix}running_var' is negative in the state dict: {variance.min()}")
        if tracked < 0:
            raise ValueError(f"'{prefix}num_batches_tracked' is negative in the state dict: {tracked}")

    @property
    def weight(self) -> np.ndarray | None:
        return self.params.get("weight")

    @property
    def bias(self) -> np.ndarray | None:
        return self.params.get("bias")

    @property
    def running_mean(self) -> np.ndarray:
        return self.buffers["running_mean"]

    @property
    def running_var(self) -> np.ndarray:
        return self.buffers["running_var"]

    @property
    def num_batches_tracked(self) -> np.ndarray:
        return self.buffers["num_batches_tracked"]

    def __repr__(self) -> str:
        options = {"eps": (self.eps, 1e-5), "momentum": (self.momentum, 0.1), "affine": (bool(self.params), True),
                   "unbiased": (self.unbiased, True)}  # fmt: skip
        shown = [f"{name}={value}" for name, (value, default) in options.items() if value != default]
        return f"BatchNorm({', '.join([str(self.num_features), *shown])})"

    def bind(self, x: np.ndarray, context: Context, then: str | None = None) -> Bound:
        """`Layer.bind`; with ``then``, "sigmoid", "tanh" or "relu", for this layer and that function together."""
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise DoesNotFit(f"{self!r} takes (rows, {self.num_features}, ...), and was given {x.shape}")
        if x.dtype != self.dtype:
            raise TypeError(f"{self!r} takes {self.dtype}, and was given {x.dtype}")
        backend, y, shape = _backends.active, context.array(x.shape, x.dtype), (self.num_features,)
        names = tuple(self.params)
        weight, bias = [self.array("params", name, shape, x.dtype) for name in names] or (None, None)
        mean, variance = (self.array("buffers", name, shape, x.dtype) for name in ("running_mean", "running_var"))
        tracked = self.array("buffers", "num_batches_tracked", (), np.int64)
        layout = channel_layout(x, 1)
        count = layout[0] * layout[2]
        unbiased_correction = count / (count - 1) if count > 1 else 1.0
        statistics = np.empty((3, self.num_features), x.dtype)
        scratch = np.empty(backend.batch_norm_scratch(*layout))
        activation = activation_number(then)
        trained = np.zeros(
            (), np.int64
        )  # whether the last forward pass was one of training: backward is of the same kind
        shaped = x.reshape(layout), y.reshape(layout)
        forward = backend.bind(
            "batch_norm", (shaped[0], weight, bias, mean, variance, shaped[1], statistics, scratch, tracked, trained)
        )

        def prepare() -> None:
            training = context.trains(self)
            if training and count < 2:
                raise ValueError(
                    f"{self!r} was given {x.shape}: training needs at least 2 values per channel, and there is {count}"
                )
            share = math.nan if self.momentum is None else self.momentum
            correction = unbiased_correction if self.unbiased else 1.0
            forward.set(training, activation, self.eps, share, 1.0 - share, correction)

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            dx = dy if dx is None else dx
            grads = [] if self._frozen else [self.array("grads", name, shape, x.dtype) for name in names]
            dweight, dbias = grads or [np.empty(shape, x.dtype) for _ in range(2)]
            of_y = dy.reshape(layout), shaped[0], shaped[1] if gradient_needs_result(then) else None
            others = weight, bias, statistics, dx.reshape(layout), dweight, dbias, scratch, trained
            return [backend.bind("batch_norm_backward", (*of_y, *others), (True, activation))]

        prepare()
        return Bound(y, run([forward]), backward, [prepare])
