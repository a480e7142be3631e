"""What networks are made of beside products and activations: softmax, losses, batch norm and dropout."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functional
from .elementwise import same, sigmoid, sqrt
from .node import Node, Operation
from .partials import diagonal, linear, symmetric
from .sums import mean, sum

# ---- softmax and losses -------------------------------------------------------------------------


def _softmax_jacobian(y, z):
    return symmetric(lambda v: y * (v - sum(y * v, axis=-1, keepdims=True)), "diag(p) - p pᵀ")


softmax: Operation = Operation(
    "softmax", lambda z: functional.softmax(z), _softmax_jacobian, doc="""exp(z) / sum(exp(z)) along the last axis."""
)


def _row(gradient: Callable[[], Any]) -> Any:
    """The partial derivative of a number: t to the sum of gradient times t, and g to g times the gradient."""
    return linear(lambda t: sum(gradient() * t), lambda g: g * gradient(), "the loss's gradient")


def _loss(
    name: str, slope: Callable[..., Any], of_target: Callable[..., Any] | None, doc: str | None = None
) -> Operation:
    """A loss of the library's, averaged, and its gradient with respect to logits or predictions, and to targets."""
    function = getattr(functional, name)

    def evaluate(z: np.ndarray, y: np.ndarray) -> Any:
        return z.dtype.type(function(z, y)[0])

    def of_z(loss: Any, z: Any, y: Any) -> Any:
        return _row(lambda: slope(z, y))

    def of_y(loss: Any, z: Any, y: Any) -> Any:
        assert of_target is not None
        return _row(lambda: of_target(z, y))

    return Operation(name, evaluate, of_z, None if of_target is None else of_y, doc=doc)


logistic_loss: Operation = _loss(
    "logistic_loss", lambda z, y: (sigmoid(z) - y) / float(z.size), lambda z, y: z / -float(z.size),
    """The logistic loss of logits z and targets y from 0 to 1, averaged over all: `fastopt.logistic_loss`.""",
)  # fmt: skip
mse_loss: Operation = _loss(
    "mse_loss", lambda z, y: (2.0 / z.size) * (z - y), lambda z, y: (2.0 / z.size) * (y - z),
    """The mean squared error of predictions z and targets y: `fastopt.mse_loss`.""",
)  # fmt: skip


def _cross_entropy_slope(z: Any, labels: Any) -> Any:
    at = labels.value if isinstance(labels, Node) else labels
    counted = np.flatnonzero(at != -100)  # what `fastopt.softmax_cross_entropy` ignores
    chosen, weight = np.zeros(z.shape, z.dtype), np.zeros((len(at), 1), z.dtype)
    chosen[counted, at[counted]] = 1
    weight[counted] = 1 / len(counted)
    return (softmax(z) - chosen) * weight


_cross_entropy: Operation = _loss("softmax_cross_entropy", _cross_entropy_slope, None)


def cross_entropy(z: Any, labels: Any) -> Any:
    """The cross-entropy of softmax(z) with integer labels, averaged over the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import graph
    >>> z = graph.variable(np.zeros((1, 2)), name="z")
    >>> graph.backward_mode(graph.cross_entropy(z, np.array([1])))[z]
    array([[ 0.5, -0.5]])
    """
    return _cross_entropy(z, labels)


# ---- layers -------------------------------------------------------------------------------------


def _normalized(x, gamma, beta, *, eps, mean, var):
    return functional.batch_norm(x, gamma, beta, mean, var, training=mean is None, eps=eps)[0]


def _batch_norm_of_x(y, x, gamma, beta, *, eps, mean, var):
    if mean is not None:
        return diagonal(gamma / np.sqrt(var + var.dtype.type(eps)))
    center, scale = _center_and_scale(x, eps)

    def apply(v):  # gamma and both means belong to a column, and so may change places
        unit = (x - center) * scale
        return gamma * scale * (v - _column_mean(v) - unit * _column_mean(unit * v))

    return symmetric(apply, "batch norm's")


def _batch_norm_of_gamma(y, x, gamma, beta, *, eps, mean, var):
    if mean is not None:
        return diagonal((x - mean) / np.sqrt(var + var.dtype.type(eps)))
    center, scale = _center_and_scale(x, eps)
    return diagonal((x - center) * scale)


def _column_mean(x):
    return mean(x, axis=0, keepdims=True)


def _center_and_scale(x, eps):
    center = _column_mean(x)
    difference = x - center
    return center, 1.0 / sqrt(_column_mean(difference * difference) + eps)


_batch_norm: Operation = Operation(
    "batch_norm", _normalized, _batch_norm_of_x, _batch_norm_of_gamma, lambda y, *_, **__: same,
    broadcasts=True,
)  # fmt: skip


def batch_norm(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5, mean: Any = None, var: Any = None) -> Any:
    """Batch norm of the columns of ``x`` (rows, channels): by the batch's statistics, or by those that are given.

    Parameters
    ----------
    x : node (rows, channels)
    gamma, beta : node (channels,)
    eps : float
    mean, var : ndarray (channels,), optional
        Running statistics, for evaluation.
    """
    if (mean is None) != (var is None):
        raise ValueError(f"batch_norm takes mean and var, or neither; {'mean' if mean is None else 'var'} is missing")
    return _batch_norm(x, gamma, beta, eps=eps, mean=mean, var=var)


_dropout: Operation = Operation(
    "dropout", lambda x, **draw: functional.dropout(x, **draw),
    lambda y, x, **draw: diagonal(functional.dropout(np.ones(x.shape, x.dtype), **draw)),
)  # fmt: skip


def dropout(x: Any, p: float = 0.5, *, seed: int, draw: int = 0) -> Any:
    """Dropout with the mask of ``seed`` and ``draw``, as `fastopt.dropout` has it."""
    return _dropout(x, p=p, seed=seed, draw=draw)
