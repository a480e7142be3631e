"""The NumPy reference of layer norm: what layer_norm.c and layer_norm.inc do in C."""

import numpy as np

from .._specification.order import rows_of_sums
from ._numpy_sums import lane_sums
from .environment import isolated


def mean_and_deviation(first, second, shift, count, eps):
    """The statistics (mean, its rest, 1 / std) of a row, from the sums of d and d**2, d = x - shift, in double."""
    delta = first / count
    variance = second / count - delta * delta
    return shift + delta, delta, 1 / np.sqrt(np.where(variance < 0, 0, variance) + eps)


def coefficients_of_gradient(first, second, rest, inverse_std, count):
    """Slope and constant: dx = scale g + ((x - center) slope + constant), g = gamma dy.

    With S = sum g and T = sum g (x - mean):  dx = scale (g - S / count - (x - mean) inverse_std**2 T / count).
    """
    slope = -(inverse_std * inverse_std * ((second - rest * first) * inverse_std) / count)
    return slope, -(inverse_std * first / count) - slope * rest


def _normalized(x, statistics):
    center, rest, scale = statistics
    offset = (-rest.astype(np.float64) * scale.astype(np.float64)).astype(x.dtype)
    return (x - center[:, None]) * scale[:, None] + offset[:, None]


def layer_norm_scratch(rows: int, columns: int) -> int:
    """How many doubles of scratch memory the backward pass is to be given."""
    return 0


@isolated
def layer_norm(
    x: np.ndarray,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    y: np.ndarray,
    statistics: np.ndarray,
    eps: float,
) -> None:
    """y, and the statistics [3, rows] that the backward pass needs."""
    if x.size == 0:
        return
    shift = x[:, 0].astype(np.float64)
    d = x.astype(np.float64) - shift[:, None]
    mean, delta, statistics[2] = mean_and_deviation(lane_sums(d), lane_sums(d * d), shift, x.shape[1], eps)
    statistics[0] = mean
    statistics[1] = delta - (statistics[0].astype(np.float64) - shift)
    h = _normalized(x, statistics)
    h = h if gamma is None else h * gamma
    y[...] = h if beta is None else h + beta


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
    """dx, and the sums dgamma and dbeta, of those that are wanted."""
    if x.shape[1] == 0:
        return
    _, rest, inverse_std = statistics.astype(np.float64)
    for sums, terms in ((dbeta, dy), (dgamma, dy * _normalized(x, statistics))):
        if sums is not None:
            sums[...] = _column_sums(terms)
    g = dy if gamma is None else dy * gamma
    first, second = lane_sums(g), lane_sums(g * (x - statistics[0][:, None]))
    slope, constant = coefficients_of_gradient(first, second, rest, inverse_std, x.shape[1])
    slope, constant = slope.astype(x.dtype)[:, None], constant.astype(x.dtype)[:, None]
    dx[...] = statistics[2][:, None] * g + ((x - statistics[0][:, None]) * slope + constant)


def _column_sums(x):
    """The rows of a block one after the other, and so the blocks."""
    total, size = np.zeros(x.shape[1]), rows_of_sums(x.shape[1])
    for begin in range(0, len(x), size):
        sums = np.zeros(x.shape[1])
        for row in x[begin : begin + size]:
            sums += row
        total += sums
    return total
