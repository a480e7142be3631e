"""What networks are made of beside products and activations: softmax, losses, batch norm and dropout."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functional
from ..nn.passes import aligned
from .elementwise import same, sigmoid, sqrt
from .layer_binding import (
    IGNORED,
    bind_batch_norm,
    bind_cross_entropy,
    bind_dropout,
    bind_loss,
    bind_softmax,
    pairs,
)
from .node import Node, Operation
from .partials import Partial, diagonal, linear, symmetric
from .sums import mean, sum

# ---- softmax and losses -------------------------------------------------------------------------


def _softmax_jacobian(y: Any, z: Any) -> Partial:
    return symmetric(lambda v: y * (v - sum(y * v, axis=-1, keepdims=True)), "diag(p) - p pᵀ")


softmax: Operation = Operation(
    "softmax", lambda z: functional.softmax(z), _softmax_jacobian, bind=bind_softmax,
    doc="""p = exp(z) / sum(exp(z)) along the last axis, as `fastopt.softmax`; its Jacobian is diag(p) - p pᵀ.

    >>> from fastopt import graph
    >>> graph.softmax(graph.variable([[0.0, 0.0], [0.0, 1.0]])).value.round(4)
    array([[0.5   , 0.5   ],
           [0.2689, 0.7311]])
    """,
)  # fmt: skip


def _row(gradient: Callable[[], Any]) -> Any:
    """The partial derivative of a number: t to the sum of gradient times t, and g to g times the gradient."""
    return linear(lambda t: sum(gradient() * t), lambda g: g * gradient(), "the loss's gradient")


def _loss(
    name: str,
    of_target: Callable[..., Any] | None,
    slope: Callable[..., Any],
    slope_of_target: Callable[..., Any] | None,
    bind: Callable[..., Any],
    doc: str | None = None,
) -> Operation:
    """A loss of the library's, averaged, and its gradient with respect to logits or predictions, and to targets.

    The former is what the kernel gives, and has a derivative, ``slope``, with respect to both.
    """
    function = getattr(functional, name)

    def evaluate(z: np.ndarray, y: np.ndarray) -> Any:
        return z.dtype.type(function(z, y)[0])

    gradient = Operation(
        f"{name}_gradient", lambda z, y: function(z, y)[1], lambda g, z, y: slope(z, y),
        None if slope_of_target is None else lambda g, z, y: slope_of_target(z, y),
        bind=lambda z, y, out: bind(z, y, np.empty((), z.dtype), out),
    )  # fmt: skip

    def of_z(loss: Any, z: Any, y: Any) -> Any:
        return _row(lambda: gradient(z, y))

    def of_y(loss: Any, z: Any, y: Any) -> Any:
        assert of_target is not None
        return _row(lambda: of_target(z, y))

    operation = Operation(
        name, evaluate, of_z, None if of_target is None else of_y, doc=doc,
        bind=lambda z, y, out: bind(z, y, out, aligned(z.shape, z.dtype)),
    )  # fmt: skip
    pairs[operation] = gradient, bind
    return operation


logistic_loss: Operation = _loss(
    "logistic_loss", lambda z, y: z / -float(z.size),
    lambda z, y: diagonal(sigmoid(z) * sigmoid(-z) / float(z.size)), lambda z, y: diagonal(-1.0 / z.size),
    bind_loss("logistic_loss", 1.0),
    """The logistic loss of logits z and targets y from 0 to 1 of their shape, averaged: `fastopt.logistic_loss`.

    mean(ln(1 + exp(z)) - y z); its derivative with respect to z is (σ(z) - y) / n.

    >>> from fastopt import graph
    >>> z = graph.variable([0.0, 2.0], name="z")
    >>> loss = graph.logistic_loss(z, [1.0, 1.0])
    >>> float(loss.value.round(4)), graph.backward_mode(loss)[z].round(4)
    (0.41, array([-0.25  , -0.0596]))
    """,
)  # fmt: skip
mse_loss: Operation = _loss(
    "mse_loss", lambda z, y: (2.0 / z.size) * (y - z),
    lambda z, y: diagonal(2.0 / z.size), lambda z, y: diagonal(-2.0 / z.size),
    bind_loss("mse_loss", 2.0),
    """The mean squared error of predictions z and targets y of their shape: `fastopt.mse_loss`.

    mean((z - y)²); its derivative with respect to z is 2 (z - y) / n.

    >>> from fastopt import graph
    >>> z = graph.variable([0.0, 2.0], name="z")
    >>> loss = graph.mse_loss(z, [1.0, 1.0])
    >>> float(loss.value), graph.backward_mode(loss)[z]
    (1.0, array([-1.,  1.]))
    """,
)  # fmt: skip


def _cross_entropy_slope(z: Any, labels: Any) -> Any:
    at = labels.value if isinstance(labels, Node) else labels
    counted = np.flatnonzero(at != IGNORED)
    weight = np.zeros((len(at), 1), z.dtype)
    weight[counted] = 1 / max(len(counted), 1)
    p = softmax(z)
    return symmetric(lambda v: weight * (p * (v - sum(p * v, axis=-1, keepdims=True))), "that of softmax")


_cross_entropy: Operation = _loss("softmax_cross_entropy", None, _cross_entropy_slope, None, bind_cross_entropy)


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


def _normalized(x: Any, gamma: Any, beta: Any, *, eps: float, mean: Any, var: Any) -> Any:
    return functional.batch_norm(x, gamma, beta, mean, var, training=mean is None, eps=eps)[0]


def _batch_norm_of_x(y: Any, x: Any, gamma: Any, beta: Any, *, eps: float, mean: Any, var: Any) -> Partial:
    if mean is not None:
        return diagonal(gamma / np.sqrt(var + var.dtype.type(eps)))
    center, scale = _center_and_scale(x, eps)

    def apply(v: Any) -> Any:  # gamma and both means belong to a column, and so may change places
        unit = (x - center) * scale
        return gamma * scale * (v - _column_mean(v) - unit * _column_mean(unit * v))

    return symmetric(apply, "batch norm's")


def _batch_norm_of_gamma(y: Any, x: Any, gamma: Any, beta: Any, *, eps: float, mean: Any, var: Any) -> Partial:
    if mean is not None:
        return diagonal((x - mean) / np.sqrt(var + var.dtype.type(eps)))
    center, scale = _center_and_scale(x, eps)
    return diagonal((x - center) * scale)


def _column_mean(x: Any) -> Any:
    return mean(x, axis=0, keepdims=True)


def _center_and_scale(x: Any, eps: float) -> tuple[Any, Any]:
    center = _column_mean(x)
    difference = x - center
    return center, 1.0 / sqrt(_column_mean(difference * difference) + eps)


_batch_norm: Operation = Operation(
    "batch_norm", _normalized, _batch_norm_of_x, _batch_norm_of_gamma, lambda y, *_, **__: same,
    broadcasts=True, bind=bind_batch_norm,
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


def _dropped(x: np.ndarray, draw: Any, *, p: float, seed: int) -> np.ndarray:
    return functional.dropout(np.asarray(x), p, seed=seed, draw=int(np.asarray(draw).item()))


_dropout: Operation = Operation(
    "dropout", _dropped,
    lambda y, x, draw, **given: Partial(
        lambda v: _dropout(v, draw, **given), lambda v: _dropout(v, draw, **given),
        lambda: _dropped(np.ones(x.shape, x.dtype), draw, **given),
    ),
    None, formula="dropout({}, draw {})", bind=bind_dropout,
)  # fmt: skip


def dropout(x: Any, p: float = 0.5, *, seed: int, draw: Any = 0) -> Any:
    """Dropout with the mask of ``seed`` and ``draw``, as `fastopt.dropout` has it.

    Parameters
    ----------
    x : node
    p : float
        The probability of 0.
    seed : int
    draw : int, or node of a whole number
        Which of the seed's masks: a node may be given another number whenever the graph is evaluated.

    Examples
    --------
    >>> import numpy as np
    >>> from fastopt import graph
    >>> draw = graph.constant(0, name="draw")
    >>> y = graph.dropout(graph.variable(np.ones(5)), seed=3, draw=draw)
    >>> y.value, graph.evaluate(y, {draw: 1})
    (array([2., 0., 2., 0., 2.]), array([0., 2., 0., 2., 2.]))
    """
    return _dropout(x, draw, p=p, seed=seed)
