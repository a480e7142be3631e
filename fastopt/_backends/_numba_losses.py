"""Losses of the Numba fallback."""

from functools import cache

import numpy as np

from .._specification import order, transcendental
from .._specification.kernels import OF_PAIRS, WITH_NUMBER
from .._specification.order import LANES, NARROW
from . import memory as _memory
from ._jit import compiled, fma, kept, select
from ._numba_sums import total
from .environment import isolated


@cache
def _loss_loop(name, dtype):
    function = getattr(transcendental.of(dtype, compiled, select, fma), name)

    def plain(z, y, losses, dz, scale):
        for i in range(dz.size):
            losses[i], dz[i] = function(z[i], y[i], scale)
        return total(losses, False)

    def weighted(z, y, weight, pos_weight, losses, dz, scale, y_scale, y_shift):
        for i in range(dz.size):
            w, p = weight[i % weight.size], pos_weight[i % pos_weight.size]
            losses[i], dz[i] = function(z[i], y[i] * y_scale + y_shift, w, p, scale)
        return total(losses, False)

    def with_number(z, y, losses, dz, scale, number):
        for i in range(dz.size):
            losses[i], dz[i] = function(z[i], y[i], scale, number)
        return total(losses, False)

    form = with_number if name in WITH_NUMBER else weighted if name == "weighted_logistic_loss" else plain
    return kept(f"{name}_{dtype}")(form)


def _plain_loss(name):
    @isolated
    def loss(
        z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float, *number: float
    ) -> float:
        _memory.check_written(dz, z, y)
        losses = np.empty_like(z) if losses is None else losses
        flat = (array.reshape(-1) for array in (z, y, losses, dz))
        return float(_loss_loop(name, z.dtype.name)(*flat, *map(z.dtype.type, (scale, *number))))

    return loss


PLAIN_LOSSES = {name: _plain_loss(name) for name in OF_PAIRS}


@isolated
def weighted_logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    pos_weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    y_scale: float,
    y_shift: float,
) -> float:
    losses = np.empty_like(z) if losses is None else losses
    one = np.ones(1, z.dtype)
    arrays = z, y, one if weight is None else weight, one if pos_weight is None else pos_weight, losses, dz
    flat = (array.reshape(-1) for array in arrays)
    scalars = map(z.dtype.type, (scale, y_scale, y_shift))
    return float(_loss_loop("weighted_logistic_loss", z.dtype.name)(*flat, *scalars))


@cache
def _softmax_loop(dtype):
    f = transcendental.of(dtype, compiled, select, fma)
    exp_nonpositive, log_of_sum, real = f.exp_nonpositive, f.log_of_sum, np.dtype(dtype).type

    def loop(z, labels, weight, losses, dz, scale, total_weight, smoothing, ignore_index):
        rows, classes = z.shape
        keep, share = 1 - smoothing, smoothing / classes
        real_share = real(scale * share)
        lanes = LANES if classes >= NARROW else 1
        e_sum, below_sum = np.zeros(LANES), np.zeros(LANES)
        for r in range(rows):
            label = labels[r]
            if label == ignore_index:
                losses[r] = 0
                dz[r] = 0
                continue
            if label < 0 or label >= classes:
                losses[r] = np.nan
                dz[r] = np.nan
                continue
            largest = z[r, 0]
            for j in range(1, classes):
                largest = z[r, j] if z[r, j] > largest else largest
            zero = real(np.nan) if largest == -np.inf else real(0)
            e_sum[:] = 0
            below_sum[:] = 0
            label_below = real(0)
            for j in range(classes):
                below = zero if z[r, j] == largest else z[r, j] - largest
                dz[r, j] = exp_nonpositive(below)
                e_sum[j % lanes] += np.float64(dz[r, j])
                below_sum[j % lanes] -= np.float64(weight[j]) * np.float64(below)
                label_below = below if j == label else label_below
            half = lanes // 2
            while half > 0:
                for i in range(half):
                    e_sum[i] += e_sum[i + half]
                    below_sum[i] += below_sum[i + half]
                half //= 2
            s = e_sum[0]
            log_sum = np.float64(log_of_sum(s))
            label_weight, label_e = np.float64(weight[label]), np.float64(dz[r, label])
            loss = label_weight * (-np.float64(label_below) + log_sum)
            if share != 0:
                loss = keep * loss + share * (total_weight * log_sum + below_sum[0])
            losses[r] = loss
            factor = real(scale * (keep * label_weight + share * total_weight) / s)
            for j in range(classes):
                dz[r, j] = dz[r, j] * factor - weight[j] * real_share
            gradient = keep * label_weight * ((label_e - s) / s)
            if share != 0:
                gradient += share * (total_weight * (label_e / s) - label_weight)
            dz[r, label] = scale * gradient
        return total(losses, False, softmax_block(classes))

    softmax_block = compiled(order.softmax_block)
    return kept(f"softmax_cross_entropy_{dtype}")(loop)


@isolated
def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    ignore_index: int,
    scale: float,
    total_weight: float,
    smoothing: float,
) -> float:
    _memory.check_written(dz, z)
    losses = np.empty(len(z), z.dtype) if losses is None else losses
    weight = np.ones(z.shape[1], z.dtype) if weight is None else weight
    return float(
        _softmax_loop(z.dtype.name)(
            z, labels, weight, losses, dz, float(scale), float(total_weight), float(smoothing), ignore_index
        )
    )


@cache
def _soft_loop(dtype):
    f = transcendental.of(dtype, compiled, select, fma)
    exp_nonpositive, log_of_sum, real = f.exp_nonpositive, f.log_of_sum, np.dtype(dtype).type
    softmax_block = compiled(order.softmax_block)

    def loop(z, targets, weight, losses, dz, scale, smoothing):
        rows, classes = z.shape
        keep, share = 1 - smoothing, smoothing / classes
        e_sum, part_sum, below_sum = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
        for r in range(rows):
            largest = z[r, 0]
            for j in range(1, classes):
                largest = z[r, j] if z[r, j] > largest else largest
            zero = real(np.nan) if largest == -np.inf else real(0)
            e_sum[:] = 0
            part_sum[:] = 0
            below_sum[:] = 0
            for j in range(classes):
                part = np.float64(weight[j]) * (keep * np.float64(targets[r, j]) + share)
                below = zero if z[r, j] == largest else z[r, j] - largest
                dz[r, j] = exp_nonpositive(below)
                e_sum[j % LANES] += np.float64(dz[r, j])
                part_sum[j % LANES] += part
                below_sum[j % LANES] += 0.0 if part == 0 else part * np.float64(below)
            half = LANES // 2
            while half > 0:
                for i in range(half):
                    e_sum[i] += e_sum[i + half]
                    part_sum[i] += part_sum[i + half]
                    below_sum[i] += below_sum[i + half]
                half //= 2
            s, parts = e_sum[0], part_sum[0]
            inverse = 1 / s
            losses[r] = parts * np.float64(log_of_sum(s)) - below_sum[0]
            for j in range(classes):
                part = np.float64(weight[j]) * (keep * np.float64(targets[r, j]) + share)
                dz[r, j] = scale * ((parts * np.float64(dz[r, j]) - part * s) * inverse)
        return total(losses, False, softmax_block(classes))

    return kept(f"soft_cross_entropy_{dtype}")(loop)


@isolated
def soft_cross_entropy(
    z: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    smoothing: float,
) -> float:
    losses = np.empty(len(z), z.dtype) if losses is None else losses
    weight = np.ones(z.shape[1], z.dtype) if weight is None else weight
    return float(_soft_loop(z.dtype.name)(z, targets, weight, losses, dz, float(scale), float(smoothing)))
