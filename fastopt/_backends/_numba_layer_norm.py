"""Layer norm, compiled: the loops over elements; what is done per row is the reference's."""

import numpy as np

from .._specification.order import LANES, rows_of_sums
from . import _numpy_layer_norm as reference
from ._jit import compiled, kept
from ._numpy_layer_norm import layer_norm_scratch
from .environment import isolated

__all__ = ["layer_norm", "layer_norm_backward", "layer_norm_scratch"]


@compiled
def _folded(lanes):
    half = LANES // 2
    while half > 0:
        for i in range(half):
            lanes[i] += lanes[half + i]
        half //= 2
    return lanes[0]


@kept("row_terms")
def _row_terms(p, x, center, forward):
    """The sums of the two terms of every element of each row (csrc/kernels/layer_norm.inc)."""
    rows, columns = x.shape
    total = np.empty((2, rows))
    first, second = np.empty(LANES), np.empty(LANES)
    for r in range(rows):
        first[:] = 0
        second[:] = 0
        for c in range(columns):
            d = np.float64(x[r, c]) - np.float64(center[r])
            first[c % LANES] += d if forward else np.float64(p[r, c])
            second[c % LANES] += d * d if forward else np.float64(p[r, c] * (x[r, c] - center[r]))
        total[0, r], total[1, r] = _folded(first), _folded(second)
    return total


@kept("layer_norm")
def _forward(x, center, scale, offset, gamma, beta, scaled, shifted, y):
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            h = (x[r, c] - center[r]) * scale[r] + offset[r]
            if scaled:
                h = h * gamma[c]
            if shifted:
                h = h + beta[c]
            y[r, c] = h


@kept("layer_norm_sums")
def _sums(dy, x, center, scale, offset, block):
    """Of every column, the sums of dy times the normalized element, and of dy."""
    rows, columns = x.shape
    total = np.zeros((2, columns))
    for begin in range(0, rows, block):
        sums = np.zeros((2, columns))
        for r in range(begin, min(begin + block, rows)):
            for c in range(columns):
                h = (x[r, c] - center[r]) * scale[r] + offset[r]
                sums[0, c] += np.float64(dy[r, c] * h)
                sums[1, c] += np.float64(dy[r, c])
        total += sums
    return total


@kept("layer_norm_backward")
def _backward(g, x, center, scale, slope, constant, dx):
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            dx[r, c] = scale[r] * g[r, c] + ((x[r, c] - center[r]) * slope[r] + constant[r])


def _of_statistics(statistics):
    center, rest, scale = statistics
    return center, scale, (-rest.astype(np.float64) * scale.astype(np.float64)).astype(statistics.dtype)


@isolated
def layer_norm(
    x: np.ndarray,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    y: np.ndarray,
    statistics: np.ndarray,
    eps: float,
) -> None:
    if x.size == 0:
        return
    shift = x[:, 0].astype(np.float64)
    first, second = _row_terms(x, x, x[:, 0].copy(), True)
    mean, delta, statistics[2] = reference.mean_and_deviation(first, second, shift, x.shape[1], eps)
    statistics[0] = mean
    statistics[1] = delta - (statistics[0].astype(np.float64) - shift)
    none = np.empty(0, x.dtype)
    affine = none if gamma is None else gamma, none if beta is None else beta, gamma is not None, beta is not None
    _forward(x, *_of_statistics(statistics), *affine, y)


@isolated
def layer_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray | None,
    statistics: np.ndarray,
    dx: np.ndarray,
    dgamma: np.ndarray | None,
    dbeta: np.ndarray | None,
    scratch: np.ndarray,
) -> None:
    if x.shape[1] == 0:
        return
    _, rest, inverse_std = statistics.astype(np.float64)
    if dgamma is not None or dbeta is not None:
        sums = _sums(dy, x, *_of_statistics(statistics), rows_of_sums(x.shape[1]))
        for result, wanted in zip(sums, (dgamma, dbeta), strict=True):
            if wanted is not None:
                wanted[...] = result
    g = dy if gamma is None else dy * gamma
    first, second = _row_terms(g, x, statistics[0], False)
    slope, constant = reference.coefficients_of_gradient(first, second, rest, inverse_std, x.shape[1])
    rounded = slope.astype(x.dtype), constant.astype(x.dtype)
    _backward(g, x, statistics[0], statistics[2], *rounded, dx)
