"""The NumPy reference of column sums and batch norm: what columns.c and norm.inc do in C.

An array is x[outer, channels, inner]; what belongs to a channel has shape (channels,). Sums are of doubles, and
written out in the order that the shape determines, since NumPy's own depends on its version and the CPU.
"""

import numpy as np

from .._specification import transcendental
from .._specification.order import ACTIVATIONS, BLOCK, COLUMN_LANES, column_order, plane_order
from .environment import isolated


def _fold(lanes: np.ndarray) -> np.ndarray:
    """Lanes on axis 1, folded in halves."""
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def _padded(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros added behind do not change a sum that begins with 0."""
    result = np.zeros(shape)
    result[tuple(map(slice, x.shape))] = x
    return result


def _in_blocks(x: np.ndarray, size: int) -> list[np.ndarray]:
    """The first axis of ``x`` in whole blocks, [blocks, size, ...], and what is left as a block of its own."""
    whole = len(x) // size * size
    blocks = x[:whole].reshape(-1, size, *x.shape[1:]), x[None, whole:]
    return [block for block in blocks if block.shape[0] * block.shape[1]]


def column_block_sums(x: np.ndarray) -> np.ndarray:
    """[blocks, columns] from x[rows, columns]: the rows of a block dealt to lanes in turn."""
    columns = x.shape[1]
    lanes, block = column_order(columns)
    results = [np.zeros((0, columns))]
    for rows in _in_blocks(x, block):
        steps = -(-rows.shape[1] // lanes)
        dealt = _padded(rows, (len(rows), steps * lanes, columns)).reshape(len(rows), steps, lanes, columns)
        sums = np.zeros((len(rows), lanes, columns))
        for i in range(steps):
            sums += dealt[:, i]
        results.append(_fold(sums))
    return np.concatenate(results)


def plane_block_sums(x: np.ndarray) -> np.ndarray:
    """[blocks, channels] from x[outer, channels, inner]: element i of a plane goes to lane i mod COLUMN_LANES."""
    channels, inner = x.shape[1:]
    planes, parts = plane_order(inner)
    lanes = 1  # those that a plane reaches: others are 0
    while lanes < min(inner, COLUMN_LANES):
        lanes *= 2
    width = -(-min(inner, BLOCK) // lanes) * lanes
    results = [np.zeros((0, channels))]
    for group in _in_blocks(x, planes):
        count, of_group = group.shape[:2]
        dealt = _padded(group, (count, of_group, channels, parts * width))
        dealt = dealt.reshape(count, of_group, channels, parts, width // lanes, lanes)
        sums = np.zeros((count, lanes, parts, channels))
        for plane in range(of_group):
            for i in range(width // lanes):
                sums += dealt[:, plane, :, :, i].transpose(0, 3, 2, 1)
        results.append(_fold(sums).reshape(count * parts, channels))
    return np.concatenate(results)


def in_order(block_sums: np.ndarray) -> np.ndarray:
    """The blocks' sums, added one after the other."""
    total = np.zeros(block_sums.shape[1])
    for sums in block_sums:
        total = total + sums
    return total


def channel_sums(x: np.ndarray) -> np.ndarray:
    return in_order(column_block_sums(x[:, :, 0]) if x.shape[2] == 1 else plane_block_sums(x))


@isolated
def column_sums(x: np.ndarray, out: np.ndarray) -> None:
    """The sums of the columns, in double, rounded once."""
    if x.shape[1]:
        out[...] = in_order(column_block_sums(x))


def batch_statistics(first, second, shift, count, eps, momentum, keep, correction, running_mean, running_var):
    """The statistics (mean, its rest, 1 / std) from the sums of d and d**2, d = x - shift, in double.

    The shift is one of the channel's elements: the sum of d**2 is then at most ``count`` times the sum of the squared
    deviations, however large the mean (Chan, Golub & LeVeque 1983). The running statistics are updated.
    """
    delta = first / count
    mean = shift + delta
    variance = second / count - delta * delta
    variance = np.where(variance < 0, 0, variance)
    if running_mean is not None:
        running_mean[...] = keep * running_mean.astype(np.float64) + momentum * mean
        running_var[...] = keep * running_var.astype(np.float64) + momentum * (variance * correction)
    return mean, delta, 1 / np.sqrt(variance + eps)


def forward_coefficients(statistics, gamma, beta):
    """Center, scale and offset: y = (x - center) scale + offset."""
    center, rest, inverse_std = statistics.astype(np.float64)
    scale = (1.0 if gamma is None else gamma.astype(np.float64)) * inverse_std
    offset = (0.0 if beta is None else beta.astype(np.float64)) - rest * scale
    return _rounded(statistics.dtype, center, scale, offset)


def backward_coefficients(first, second, statistics, gamma, count, dgamma, dbeta):
    """Center, scale, slope and offset: dx = scale dy + ((x - center) slope + offset).

    With S = sum dy and T = sum dy (x - mean):  dbeta = S, dgamma = T inverse_std,
    dx = scale (dy - S / count - (x - mean) inverse_std**2 T / count).
    """
    center, rest, inverse_std = statistics.astype(np.float64)
    exact = (second - rest * first) * inverse_std
    scale = (1.0 if gamma is None else gamma.astype(np.float64)) * inverse_std
    slope = -(scale * inverse_std * exact / count)
    dgamma[...] = exact
    dbeta[...] = first
    return _rounded(statistics.dtype, center, scale, slope, -(scale * first / count) - slope * rest)


def _rounded(dtype, *rows):
    return [row.astype(dtype)[:, None] for row in rows]


def forward_statistics(x, sums, statistics, training, eps, momentum, keep, correction, running_mean, running_var):
    """Fill ``statistics``; ``sums(x, shift)`` gives the sums of x - shift and of its square, in double."""
    if training:
        shift = x[0, :, 0].astype(np.float64)
        count = float(x.shape[0] * x.shape[2])
        first, second = sums(x, shift)
        mean, delta, inverse_std = batch_statistics(
            first, second, shift, count, eps, momentum, keep, correction, running_mean, running_var
        )
        statistics[0] = mean
        statistics[1] = delta - (statistics[0].astype(np.float64) - shift)
        statistics[2] = inverse_std
    else:
        statistics[0] = running_mean
        statistics[1] = 0
        statistics[2] = 1 / np.sqrt(running_var.astype(np.float64) + eps)


def _forward_sums(x, shift):
    d = x.astype(np.float64) - shift[:, None]
    return channel_sums(d), channel_sums(d * d)


def batch_norm_scratch(outer: int, channels: int, inner: int) -> int:
    """How many doubles of scratch memory a call is to be given."""
    return 0


def count_batch(
    tracked: np.ndarray | None, trained: np.ndarray | None, training: bool, momentum: float, keep: float
) -> tuple[float, float]:
    """Count a batch, and tell ``trained`` what it is; the new share of the running statistics and the old."""
    if trained is not None:
        trained[...] = training
    if tracked is not None and training:
        tracked[...] = tracked.item() + 1
        if momentum != momentum:  # NaN: all batches count alike
            momentum = 1.0 / tracked.item()
            keep = 1.0 - momentum
    return momentum, keep


def _forward(x, statistics, gamma, beta):
    center, scale, offset = forward_coefficients(statistics, gamma, beta)
    return (x - center) * scale + offset


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
    """y, the statistics [3, channels] that the way back needs, and the running ones: keep * old + momentum * new."""
    momentum, keep = count_batch(tracked, trained, training, momentum, keep)
    if x.shape[1] == 0:
        return
    forward_statistics(
        x, _forward_sums, statistics, training, eps, momentum, keep, correction, running_mean, running_var
    )
    y[...] = _forward(x, statistics, gamma, beta)
    if activation:
        y[...] = getattr(transcendental.of(y.dtype.name), ACTIVATIONS[activation])(y)


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
    """dx, dgamma and dbeta; in evaluation the statistics are constants.

    The gradient goes back through the activation first: by its result y or, where that is None, by what it was given,
    which is computed again.
    """
    training = training if trained is None else bool(trained)
    if x.shape[1] == 0:
        return
    if activation:
        value = _forward(x, statistics, gamma, beta) if y is None else y
        dy = getattr(transcendental.of(dy.dtype.name), f"{ACTIVATIONS[activation]}_backward")(dy, value)
    grad = dy.astype(np.float64)
    first = channel_sums(grad)
    second = channel_sums(grad * (x.astype(np.float64) - statistics[0].astype(np.float64)[:, None]))
    count = np.float64(x.shape[0] * x.shape[2])
    center, scale, slope, offset = backward_coefficients(first, second, statistics, gamma, count, dgamma, dbeta)
    dx[...] = scale * dy + ((x - center) * slope + offset) if training else scale * dy
