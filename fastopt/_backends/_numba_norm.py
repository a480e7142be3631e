"""Column sums and batch norm, compiled: the loops over elements; what is done per channel is the reference's."""

from functools import cache

import numpy as np

from .._specification import transcendental
from .._specification.order import ACTIVATIONS, BLOCK, COLUMN_LANES, column_order, plane_order
from . import _numpy_norm as reference
from ._jit import compiled, fma, kept, select
from ._numpy_norm import batch_norm_scratch
from .environment import isolated

__all__ = ["batch_norm", "batch_norm_backward", "batch_norm_scratch", "column_sums"]


@compiled
def _fold(sums, lanes, columns):
    """The lanes of sums[lanes * columns], folded in halves, are added to those of the blocks before."""
    half = lanes // 2
    while half > 0:
        for i in range(half * columns):
            sums[i] += sums[half * columns + i]
        half //= 2


@compiled
def _terms(p, x, shift, forward):
    first = p - shift if forward else p
    return first, first * first if forward else first * (x - shift)


@kept("column_terms")
def _column_terms(p, x, shift, forward, lanes, block):
    """The sums of the two terms of every element of x[rows, columns] (csrc/kernels/norm.inc)."""
    rows, columns = x.shape
    total = np.zeros((2, columns))
    for begin in range(0, rows, block):
        first, second = np.zeros(lanes * columns), np.zeros(lanes * columns)
        for row in range(begin, min(begin + block, rows)):
            lane = (row - begin) % lanes * columns
            for c in range(columns):
                a, b = _terms(np.float64(p[row, c]), np.float64(x[row, c]), shift[c], forward)
                first[lane + c] += a
                second[lane + c] += b
        _fold(first, lanes, columns)
        _fold(second, lanes, columns)
        total[0] += first[:columns]
        total[1] += second[:columns]
    return total


@kept("plane_terms")
def _plane_terms(p, x, shift, forward, planes, parts):
    """The same for x[outer, channels, inner]."""
    outer, channels, inner = x.shape
    total = np.zeros((2, channels))
    first, second = np.zeros(COLUMN_LANES), np.zeros(COLUMN_LANES)
    for c in range(channels):
        for begin in range(0, outer, planes):
            for part in range(parts):
                first[:] = 0
                second[:] = 0
                for plane in range(begin, min(begin + planes, outer)):
                    for i in range(part * BLOCK, min((part + 1) * BLOCK, inner)):
                        a, b = _terms(np.float64(p[plane, c, i]), np.float64(x[plane, c, i]), shift[c], forward)
                        first[i % COLUMN_LANES] += a
                        second[i % COLUMN_LANES] += b
                _fold(first, COLUMN_LANES, 1)
                _fold(second, COLUMN_LANES, 1)
                total[0, c] += first[0]
                total[1, c] += second[0]
    return total


def _sums(p, x, shift, forward):
    if x.shape[2] == 1:
        return _column_terms(p[:, :, 0], x[:, :, 0], shift, forward, *column_order(x.shape[1]))
    return _plane_terms(p, x, shift, forward, *plane_order(x.shape[2]))


@kept("column_sums")
def _column_sums(x, out, lanes, block):
    rows, columns = x.shape
    total = np.zeros(columns)
    for begin in range(0, rows, block):
        sums = np.zeros(lanes * columns)
        for row in range(begin, min(begin + block, rows)):
            lane = (row - begin) % lanes * columns
            for c in range(columns):
                sums[lane + c] += np.float64(x[row, c])
        _fold(sums, lanes, columns)
        total += sums[:columns]
    out[:] = total


@isolated
def column_sums(x: np.ndarray, out: np.ndarray) -> None:
    if x.shape[1]:
        _column_sums(x, out, *column_order(x.shape[1]))


@compiled
def _identity(x):
    return x


@cache
def _forward_loop(activation, dtype):
    """The loop that normalizes every element and applies the activation."""
    of_dtype = transcendental.of(dtype, compiled, select, fma)
    function = getattr(of_dtype, ACTIVATIONS[activation]) if activation else _identity

    def forward(x, center, scale, offset, y):
        for n in range(x.shape[0]):
            for c in range(x.shape[1]):
                for i in range(x.shape[2]):
                    y[n, c, i] = function((x[n, c, i] - center[c, 0]) * scale[c, 0] + offset[c, 0])

    return kept(f"batch_norm_{ACTIVATIONS[activation]}_{dtype}")(forward)


@cache
def _before_activation_loop(activation, dtype):
    """The loop that takes every gradient back through the activation."""
    gradient = getattr(transcendental.of(dtype, compiled, select, fma), f"{ACTIVATIONS[activation]}_backward")

    def before_activation(dy, value, out):
        for n in range(dy.shape[0]):
            for c in range(dy.shape[1]):
                for i in range(dy.shape[2]):
                    out[n, c, i] = gradient(dy[n, c, i], value[n, c, i])

    return kept(f"before_{ACTIVATIONS[activation]}_{dtype}")(before_activation)


@kept("batch_norm_backward")
def _backward(dy, x, center, scale, slope, offset, dx, training):
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(x.shape[2]):
                grad = scale[c, 0] * dy[n, c, i]
                dx[n, c, i] = grad + ((x[n, c, i] - center[c, 0]) * slope[c, 0] + offset[c, 0]) if training else grad


@isolated
def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    y: np.ndarray,
    statistics: np.ndarray,
    scratch: np.ndarray,
    tracked: np.ndarray | None,
    trained: np.ndarray | None,
    training: bool,
    activation: int,
    eps: float,
    momentum: float,
    keep: float,
    correction: float,
) -> None:
    momentum, keep = reference.count_batch(tracked, trained, training, momentum, keep)
    if x.shape[1] == 0:
        return

    def sums(x, shift):
        return _sums(x, x, shift, True)

    reference.forward_statistics(
        x, sums, statistics, training, eps, momentum, keep, correction, running_mean, running_var
    )
    _forward_loop(activation, x.dtype.name)(x, *reference.forward_coefficients(statistics, gamma, beta), y)


@isolated
def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray | None,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    statistics: np.ndarray,
    dx: np.ndarray,
    dgamma: np.ndarray,
    dbeta: np.ndarray,
    scratch: np.ndarray,
    trained: np.ndarray | None,
    training: bool,
    activation: int,
) -> None:
    training = training if trained is None else bool(trained)
    if x.shape[1] == 0:
        return
    if activation:
        value = y
        if value is None:
            value = np.empty_like(x)
            _forward_loop(0, x.dtype.name)(x, *reference.forward_coefficients(statistics, gamma, beta), value)
        before = np.empty_like(x)
        _before_activation_loop(activation, x.dtype.name)(dy, value, before)
        dy = before
    first, second = _sums(dy, x, statistics[0].astype(np.float64), False)
    count = np.float64(x.shape[0] * x.shape[2])
    _backward(
        dy, x, *reference.backward_coefficients(first, second, statistics, gamma, count, dgamma, dbeta), dx, training
    )
