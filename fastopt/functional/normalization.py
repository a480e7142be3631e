"""Batch norm, forward and backward."""

import math
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from .. import _backends
from .._backends.memory import Header, first_changed, header
from .._checks import a_number
from .._pins import Pins
from .._specification.order import ACTIVATIONS
from .arrays import disjoint, output, per_channel, read, read_like, writeable


class _Again:
    """A call that was found to be fine, its pointers fixed, for when the same arrays come again."""

    __slots__ = ("arrays", "backend", "call", "options", "pins")

    def __init__(
        self, arrays: tuple[Any, ...], options: tuple[Any, ...], call: Callable[[], Any], others: Iterable[Any] = ()
    ):
        self.arrays, self.options, self.call = arrays, options, call
        self.pins = Pins(x for x in (*arrays, *others) if x is not None)
        self.backend = _backends.active

    def fits(self, arrays: tuple[Any, ...], options: tuple[Any, ...] = ()) -> bool:
        """Whether the arrays are the same, and they and the others where, as large and as writeable as they were."""
        return (
            all(map(is_, arrays, self.arrays))
            and options == self.options
            and self.backend is _backends.active
            and self.pins.hold()
        )


class _Forward(NamedTuple):
    """What a backward pass needs of its forward pass."""

    arrays: dict[str, np.ndarray | None]  # x, y, gamma and beta
    headers: list[Header]
    layout: tuple[int, int, int]
    training: bool
    activation: str | None

    def check(self) -> None:
        """Raise ValueError if an array has been changed in place otherwise than in its elements."""
        if (changed := first_changed(self.headers)) is not None:
            name = next(name for name, x in self.arrays.items() if x is changed)
            raise ValueError(f"{name} was changed in place (its shape, dtype or memory) since the forward pass")


class BatchNormSaved:
    """What `batch_norm` leaves for `batch_norm_backward`: the statistics, and x, gamma and beta themselves, not copies.

    With "sigmoid" or "tanh" as activation, y too. Handed back to `batch_norm` as ``saved``, its buffers are used again.
    All attributes are read-only.
    """

    __slots__ = ("_again", "_backward_again", "_forward", "_scratch", "_statistics")

    def __init__(self, channels: int, dtype: np.dtype):
        self._statistics = np.empty((3, channels), dtype)
        self._scratch = np.empty(0)
        self._forward: _Forward | None = None
        self._again: _Again | None = None
        self._backward_again: _Again | None = None

    @property
    def statistics(self) -> np.ndarray:
        """Mean, the part of the mean that one number of x's dtype cannot hold, and 1 / sqrt(variance + eps): a copy."""
        return self._statistics.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        forward = self._forward
        return _restored, (self.statistics, forward and forward._replace(headers=[]))

    def _prepare(self, backend: Any, layout: tuple[int, int, int]) -> np.ndarray:
        """The scratch memory that ``backend`` needs."""
        needed = backend.batch_norm_scratch(*layout)
        if self._scratch.size < needed:
            self._scratch = np.empty(needed)
        return self._scratch


def _restored(statistics: np.ndarray, forward: _Forward | None) -> BatchNormSaved:
    """A copy: addresses are those of its own arrays."""
    saved = BatchNormSaved(statistics.shape[1], statistics.dtype)
    saved._statistics = statistics
    if forward is not None:
        saved._forward = forward._replace(headers=[header(x) for x in forward.arrays.values() if x is not None])
    return saved


def channel_layout(x: np.ndarray, axis: int) -> tuple[int, int, int]:
    """x as (outer, channels, inner)."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"axis must be an int, not {type(axis).__name__}")
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}; batch norm needs at least two dimensions")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}, but x has {x.ndim} dimensions")
    axis %= x.ndim
    if x.size == 0:
        return 0, x.shape[axis], 1
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


def activation_number(activation: str | None) -> int:
    """What the backends call it."""
    if activation is None:
        return 0
    if not isinstance(activation, str):
        raise TypeError(f"activation must be a str or None, not {type(activation).__name__}")
    if activation not in ACTIVATIONS[1:]:
        raise ValueError(f"activation must be 'relu', 'sigmoid', 'tanh' or None, not {activation!r}")
    return ACTIVATIONS.index(activation)


def gradient_needs_result(activation: str | None) -> bool:
    """Whether the way back reads y; else what the activation was given is computed again."""
    return activation in ("sigmoid", "tanh")


def update_fraction(momentum: float) -> float:
    if not (value := a_number("momentum", momentum, low=0)) <= 1:
        raise ValueError(f"momentum must be from 0 to 1, not {momentum}")
    return value


def _fraction(momentum: float | None, num_batches_tracked: int | None) -> float:
    if momentum is None:
        if isinstance(num_batches_tracked, bool) or not isinstance(num_batches_tracked, (int, np.integer)):
            kind = type(num_batches_tracked).__name__
            raise TypeError(f"with momentum=None, num_batches_tracked must be an int, not {kind}")
        if num_batches_tracked < 0:
            raise ValueError(f"num_batches_tracked must be at least 0, not {num_batches_tracked}")
        return 1.0 / (int(num_batches_tracked) + 1)
    return update_fraction(momentum)


def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    *,
    training: bool = True,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    unbiased: bool = True,
    axis: int = 1,
    num_batches_tracked: int | None = None,
    activation: str | None = None,
    out: np.ndarray | None = None,
    saved: BatchNormSaved | None = None,
) -> tuple[np.ndarray, BatchNormSaved]:
    r"""Batch normalization: every channel with mean 0 and variance 1, then scaled and shifted.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \, \gamma + \beta

    In training, mean and variance are those of each channel over the batch, and the running statistics move towards
    them by the fraction ``momentum``; in evaluation the running statistics take their place. Sums are taken in
    double, in an order that depends on the shape alone, of differences from an element of the channel: the variance
    is right however large the mean.

    Parameters
    ----------
    x : ndarray of float32 or float64, at least two-dimensional
        (N, C), (N, C, L), (N, C, H, W) ...; with ``axis=-1``, channels last. It is needed again on the way back, and
        not copied: leave it as it is until then.
    gamma, beta : ndarray of shape (C,), optional
        Scale and shift; None is 1 and 0. They too are needed again, and not copied.
    running_mean, running_var : ndarray of shape (C,), optional
        Updated in place in training; needed in evaluation.
    training : bool
    momentum : float from 0 to 1, or None
        running = (1 - momentum) * running + momentum * new, as in PyTorch; Keras and ONNX call 1 - momentum so.
        None: the average of all batches, of which ``num_batches_tracked`` went before.
    eps : float
        Added to the variance.
    unbiased : bool
        Whether the running variance takes the batch's n / (n - 1) times (PyTorch), or as it is (Keras, ONNX). What
        y is made of is always the latter.
    axis : int
        Where the channels are.
    num_batches_tracked : int, optional
        How many batches the running statistics have seen; for ``momentum=None``.
    activation : {"relu", "sigmoid", "tanh"}, optional
        A function to be applied to every element of the result: y is then, bit for bit, what `relu`, `sigmoid` or
        `tanh` makes of the y of batch norm alone, without another pass over memory. With "sigmoid" and "tanh" y is
        needed again on the way back: leave it as it is until then.
    out : ndarray like ``x``, optional
        Where to put y; it may be ``x``, if there is to be no way back.
    saved : BatchNormSaved, optional
        That of an earlier call with as many channels, whose buffers are used again.

    Returns
    -------
    y : ndarray
    saved : BatchNormSaved
        For `batch_norm_backward`.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type, dtype or shape, cannot be written to, or overlaps another; if ``momentum``
        or ``eps`` is out of range, or there is no such ``activation``; in training, if there are fewer than two values
        per channel; in evaluation, if there are no running statistics. Nothing has been written then.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift", ICML 2015, Algorithm 1.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> running_mean, running_var = np.zeros(2), np.ones(2)
    >>> y, saved = fo.batch_norm(x, None, None, running_mean, running_var)
    >>> y.round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> running_mean, running_var
    (array([0.2, 2. ]), array([ 1.1, 20.9]))
    >>> y, saved = fo.batch_norm(x, activation="relu")
    >>> y.round(3)
    array([[0., 0.],
           [1., 1.]])
    """
    if saved is not None and type(saved) is not BatchNormSaved:
        raise TypeError(f"saved must be a BatchNormSaved, not {type(saved).__name__}")
    arrays = x, gamma, beta, running_mean, running_var, out
    options = training, momentum, eps, unbiased, axis, num_batches_tracked, activation
    if saved is not None and saved._again is not None and saved._again.fits(arrays, options):
        saved._again.call()
        return saved._again.arrays[-1], saved
    x = read(x, "x")
    layout = outer, channels, inner = channel_layout(x, axis)
    count = outer * inner
    gamma = None if gamma is None else per_channel(gamma, "gamma", channels, x.dtype)
    beta = None if beta is None else per_channel(beta, "beta", channels, x.dtype)
    if (running_mean is None) != (running_var is None):
        missing, given = ("running_mean", "running_var") if running_mean is None else ("running_var", "running_mean")
        raise ValueError(f"{missing} is None, {given} is not: they go together")
    if running_mean is not None and running_var is not None:
        mean = per_channel(running_mean, "running_mean", channels, x.dtype)
        variance = per_channel(running_var, "running_var", channels, x.dtype)
        if training:
            running_mean, running_var = writeable(running_mean, "running_mean"), writeable(running_var, "running_var")
            running: dict[str, np.ndarray | None] = {"running_mean": running_mean, "running_var": running_var}
            disjoint(running, {"x": x, "gamma": gamma, "beta": beta})
        else:
            running_mean, running_var = mean, variance
    elif not training:
        raise ValueError("running_mean and running_var are None, and evaluation needs them")
    eps = a_number("eps", eps, low=0)
    number = activation_number(activation)
    fraction = 0.0
    if training and running_mean is not None:
        fraction = _fraction(momentum, num_batches_tracked)
    if training and count < 2 and channels > 0:
        raise ValueError(f"x has shape {x.shape}: training needs at least 2 values per channel, and there is {count}")
    if out is None:
        y = np.empty(x.shape, x.dtype)
    else:
        y = output(out, x, "x", x=x)
        channel = {"gamma": gamma, "beta": beta, "running_mean": running_mean, "running_var": running_var}
        disjoint({"out": y}, channel)
    if saved is None or saved._statistics.shape[1] != channels or saved._statistics.dtype != x.dtype:
        saved = BatchNormSaved(channels, x.dtype)
    needed: dict[str, np.ndarray | None] = {
        "x": None if out is not None and np.may_share_memory(x, y) else x,
        "y": y if gradient_needs_result(activation) else None,
        "gamma": gamma,
        "beta": beta,
    }
    headers = [header(each) for each in needed.values() if each is not None]
    saved._again = saved._backward_again = None
    saved._forward = _Forward(needed, headers, layout, bool(training), activation)
    backend = _backends.active
    correction = count / (count - 1) if unbiased and count > 1 else 1.0
    statistics, scratch = saved._statistics, saved._prepare(backend, layout)
    shaped = (
        x.reshape(layout),
        gamma,
        beta,
        running_mean,
        running_var,
        y.reshape(layout),
        statistics,
        scratch,
        None,
        None,
    )
    scalars = bool(training), number, eps, fraction, 1.0 - fraction, correction
    if all(map(is_, arrays, (x, gamma, beta, running_mean, running_var, y))):  # none of them made here
        call = backend.bind("batch_norm", shaped, scalars)
        call()
        saved._again = _Again(arrays, options, call)
    else:
        backend.batch_norm(*shaped, *scalars)
    return y, saved


def batch_norm_backward(
    dy: np.ndarray,
    saved: BatchNormSaved,
    out: np.ndarray | None = None,
    *,
    dgamma: np.ndarray | None = None,
    dbeta: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    r"""The gradients of `batch_norm` with respect to x, gamma and beta.

    .. math::
        d\beta = \sum dy, \qquad d\gamma = \sum dy \, \hat x, \qquad
        dx = \frac{\gamma}{\sqrt{\mathrm{Var}[x] + \epsilon}}
             \left( dy - \frac{d\beta}{n} - \hat x \frac{d\gamma}{n} \right)

    with :math:`\hat x = (x - \mathrm{E}[x]) / \sqrt{\mathrm{Var}[x] + \epsilon}` and the sums over a channel's n
    values. In evaluation, where the statistics are constants, dx is the first term alone.

    If an activation was part of the forward pass, dy is the gradient with respect to its result, and the dy of these
    formulas what `relu_backward`, `sigmoid_backward` or `tanh_backward` makes of it: the results have the same bits.

    Parameters
    ----------
    dy : ndarray like ``x``
    saved : BatchNormSaved
        What `batch_norm` gave. The arrays it was given must still hold what they did then, and with "sigmoid" and
        "tanh" so must y.
    out : ndarray like ``x``, optional
        Where to put dx; it may be ``dy``.
    dgamma, dbeta : ndarray of shape (C,), optional
        Where to put those.

    Returns
    -------
    dx : ndarray
    dgamma, dbeta : ndarray, or None where there was no gamma or no beta

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type, dtype or shape, cannot be written to, or overlaps another; if the forward pass
        wrote y over x, or one of its arrays has had its shape, dtype or memory changed in place since. Nothing has
        been written then.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> y, saved = fo.batch_norm(np.array([[0.0], [1.0], [5.0]]), np.ones(1), np.zeros(1))
    >>> dx, dgamma, dbeta = fo.batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), saved)
    >>> dx.round(4), dgamma.round(4), dbeta
    (array([[ 0.1763],
           [-0.2204],
           [ 0.0441]]), array([-0.9258]), array([1.]))
    """
    if type(saved) is not BatchNormSaved:
        raise TypeError(f"saved must be a BatchNormSaved, not {type(saved).__name__}")
    forward = saved._forward
    if forward is None:
        raise ValueError("saved is not what batch_norm has given")
    x, y, gamma, beta = forward.arrays.values()
    arrays: tuple[Any, ...] = dy, out, dgamma, dbeta
    if saved._backward_again is not None and saved._backward_again.fits(arrays):
        saved._backward_again.call()
        return arrays[1], None if gamma is None else dgamma, None if beta is None else dbeta
    forward.check()
    layout, channels = forward.layout, forward.layout[1]
    if x is None:
        raise ValueError("the forward pass wrote its result over x (out=x), which the way back needs")
    dy = read_like(dy, "dy", x, "x")
    dx = np.empty(x.shape, x.dtype) if out is None else output(out, x, "x", dy=dy)
    given: dict[str, np.ndarray | None] = {"dgamma": dgamma, "dbeta": dbeta}
    for name, array in given.items():
        if array is not None:
            per_channel(array, name, channels, x.dtype)
            writeable(array, name)
    disjoint({**given, "out": out}, {"x": x, "y": y, "gamma": gamma, "beta": beta})
    disjoint(given, {"dy": dy})
    dgamma = np.empty(channels, x.dtype) if dgamma is None else dgamma
    dbeta = np.empty(channels, x.dtype) if dbeta is None else dbeta
    backend = _backends.active
    forward_arrays = x.reshape(layout), None if y is None else y.reshape(layout), gamma, beta, saved._statistics
    scratch, written = saved._prepare(backend, layout), (dx.reshape(layout), dgamma, dbeta)
    shaped, scalars = (
        (dy.reshape(layout), *forward_arrays, *written, scratch, None),
        (forward.training, activation_number(forward.activation)),
    )
    if all(map(is_, arrays, (dy, dx, dgamma, dbeta))):  # none of them made here
        call = backend.bind("batch_norm_backward", shaped, scalars)
        call()
        saved._backward_again = _Again(arrays, (), call, (x, y, gamma, beta))
    else:
        backend.batch_norm_backward(*shaped, *scalars)
    return dx, None if gamma is None else dgamma, None if beta is None else dbeta
