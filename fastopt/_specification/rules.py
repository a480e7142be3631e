"""The specification of the optimizers: the update of one parameter, one function per rule.

A rule takes its finished scalars ``h``, the parameter ``p``, the gradient ``g`` and its state, and returns the
new parameter and state. It works on arrays, as the NumPy reference, and, compiled by Numba, on scalars: one
text serves both, so their bits agree. ``csrc/kernels/rules.h`` says the same in C, with every operation in the same
order; only ``+ - * /``, the square root, comparison and selection occur.

A factor of 0 that stands for something not asked for, such as decay, is told apart: 0 times an infinite weight is NaN.
"""

import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


def prepare(h, p, g):
    """What every rule shares: the gradient scaled, clipped and with L2 decay; the parameter after decoupled decay."""
    g = h.grad_scale * g
    g = np.minimum(np.maximum(g, -h.clip_value), h.clip_value)
    return h.keep * p, plus(g, h.l2, p)


def plus(x, factor, y):
    """x + factor y, or x where the factor is 0, whatever y is."""
    if factor != 0:
        return x + factor * y
    return x


def select(condition, x, y):
    """x where the condition holds, y elsewhere."""
    return np.where(condition, x, y)


def with_sign_of(size, x):
    """A size with the sign of x: 0 where x is 0, NaN where it is NaN."""
    return select(x > 0, size, select(x < 0, -size, x))


def flush(x):
    """What is stored of every rule's states: 0 in place of a subnormal number.

    So a state that fades away ends at 0, and no step computes slowly with it.
    """
    return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, x.dtype.type(0), x)


def sgd(h, p, g):
    """Gradient descent."""
    return (p - h.lr * g,)


def momentum(h, p, g, momentum_buffer):
    """Momentum (Polyak 1964), and Nesterov's form (Sutskever et al. 2013, eq. 3-4; variables of Bengio et al. 2013).

    Heavy ball has from_grad = 0 and from_buffer = 1; Nesterov's 1 and momentum.
    """
    momentum_buffer = h.momentum * momentum_buffer + h.grad_weight * g
    return p - h.lr * plus(h.from_buffer * momentum_buffer, h.from_grad, g), momentum_buffer


def adagrad(h, p, g, sum):
    """AdaGrad (Duchi et al. 2011, eq. 1 with the diagonal of section 1.3)."""
    sum = sum + g * g
    return p - h.lr * g / (np.sqrt(sum + h.eps_root) + h.eps), sum


def adadelta(h, p, g, square_avg, acc_delta):
    """AdaDelta (Zeiler 2012, Algorithm 1)."""
    square_avg = h.rho * square_avg + h.one_minus_rho * g * g
    delta = np.sqrt((acc_delta + h.eps) / (square_avg + h.eps)) * g
    acc_delta = h.rho * acc_delta + h.one_minus_rho * delta * delta
    return p - h.lr * delta, square_avg, acc_delta


def rmsprop(h, p, g, square_avg):
    """RMSProp (Tieleman & Hinton 2012, lecture 6.5): the gradient over the root of its running mean square."""
    square_avg = h.alpha * square_avg + h.one_minus_alpha * g * g
    return p - h.lr * g / (np.sqrt(square_avg + h.eps_root) + h.eps), square_avg


def rmsprop_centered(h, p, g, square_avg, grad_avg):
    """Centred (Graves 2013, eq. 38-40): the variance for the mean square; rounding must not make it negative."""
    square_avg = h.alpha * square_avg + h.one_minus_alpha * g * g
    grad_avg = h.alpha * grad_avg + h.one_minus_alpha * g
    square = grad_avg * grad_avg
    variance = np.maximum(square_avg, square) - square
    return p - h.lr * g / (np.sqrt(variance + h.eps_root) + h.eps), square_avg, grad_avg


def rmsprop_momentum(h, p, g, square_avg, momentum_buffer):
    """RMSProp with momentum on the scaled gradient; from_step and from_buffer as in ``momentum``.

    With the learning rate in the buffer, step_weight and from_step are lr, and lr is 1.
    """
    square_avg = h.alpha * square_avg + h.one_minus_alpha * g * g
    step = g / (np.sqrt(square_avg + h.eps_root) + h.eps)
    momentum_buffer = h.momentum * momentum_buffer + h.step_weight * step
    return p - h.lr * plus(h.from_buffer * momentum_buffer, h.from_step, step), square_avg, momentum_buffer


def rmsprop_centered_momentum(h, p, g, square_avg, grad_avg, momentum_buffer):
    """Centred RMSProp with momentum."""
    square_avg = h.alpha * square_avg + h.one_minus_alpha * g * g
    grad_avg = h.alpha * grad_avg + h.one_minus_alpha * g
    square = grad_avg * grad_avg
    variance = np.maximum(square_avg, square) - square
    step = g / (np.sqrt(variance + h.eps_root) + h.eps)
    momentum_buffer = h.momentum * momentum_buffer + h.step_weight * step
    return p - h.lr * plus(h.from_buffer * momentum_buffer, h.from_step, step), square_avg, grad_avg, momentum_buffer


def adam(h, p, g, exp_avg, exp_avg_sq):
    """Adam (Kingma & Ba 2015, Algorithm 1); step_size = lr / (1 - beta1**t), root_correction2 = 1 / sqrt(1 - beta2**t).

    The correction stands outside the root, where it cannot overflow; eps_root is divided by its square instead.
    """
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    exp_avg_sq = h.beta2 * exp_avg_sq + h.one_minus_beta2 * g * g
    return (
        p - h.step_size * exp_avg / (np.sqrt(exp_avg_sq + h.eps_root) * h.root_correction2 + h.eps),
        exp_avg,
        exp_avg_sq,
    )


def adam_amsgrad(h, p, g, exp_avg, exp_avg_sq, max_exp_avg_sq):
    """AMSGrad (Reddi et al. 2018, Algorithm 2): the largest second moment so far.

    Of v (before = 1) as in PyTorch, or of the corrected v (root_after = 1).
    """
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    exp_avg_sq = h.beta2 * exp_avg_sq + h.one_minus_beta2 * g * g
    max_exp_avg_sq = np.maximum(exp_avg_sq * h.before, max_exp_avg_sq)
    denominator = np.sqrt(max_exp_avg_sq + h.eps_root) * h.root_after + h.eps
    return p - h.step_size * exp_avg / denominator, exp_avg, exp_avg_sq, max_exp_avg_sq


def nadam(h, p, g, exp_avg, exp_avg_sq):
    """NAdam (Dozat 2016, Algorithm 2): Adam with Nesterov's look-ahead in the numerator."""
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    exp_avg_sq = h.beta2 * exp_avg_sq + h.one_minus_beta2 * g * g
    numerator = h.grad_step * g + h.avg_step * exp_avg
    return p - numerator / (np.sqrt(exp_avg_sq + h.eps_root) * h.root_correction2 + h.eps), exp_avg, exp_avg_sq


def adamax(h, p, g, exp_avg, exp_inf):
    """Adamax (Kingma & Ba 2015, Algorithm 2); step_size = lr / (1 - beta1**t).

    With eps inside the largest gradient (inside = 1) as in PyTorch, or outside (outside = 1) as in Keras.
    """
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    exp_inf = np.maximum(h.beta2 * exp_inf, plus(np.abs(g), h.inside, h.eps))
    return p - h.step_size * exp_avg / plus(exp_inf, h.outside, h.eps), exp_avg, exp_inf


def radam(h, p, g, exp_avg, exp_avg_sq):
    """RAdam (Liu et al. 2020, Algorithm 2): as long as the variance of the step is not known, a step of momentum.

    adaptive_step is 0 then, and otherwise plain_step; the rectification is a factor of adaptive_step.
    """
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    exp_avg_sq = h.beta2 * exp_avg_sq + h.one_minus_beta2 * g * g
    direction = exp_avg / (np.sqrt(exp_avg_sq) * h.root_correction2 + h.eps)
    return p - plus(h.plain_step * exp_avg, h.adaptive_step, direction), exp_avg, exp_avg_sq


def adabelief(h, p, g, exp_avg, exp_avg_var):
    """AdaBelief (Zhuang et al. 2020, Algorithm 2): Adam by the variance around the mean; steps as in ``radam``."""
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    surprise = g - exp_avg
    exp_avg_var = h.beta2 * exp_avg_var + h.one_minus_beta2 * surprise * surprise + h.eps_root
    direction = exp_avg / (np.sqrt(exp_avg_var) * h.root_correction2 + h.eps)
    return p - plus(h.plain_step * exp_avg, h.adaptive_step, direction), exp_avg, exp_avg_var


def adan(h, p, g, exp_avg, exp_avg_diff, exp_avg_sq, pre_grad):
    """Adan (Xie et al. 2024, Algorithm 1); known = 0 in the first step, which has no gradient before it."""
    difference = h.known * (g - pre_grad)
    ahead = g + h.beta2 * difference
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    exp_avg_diff = h.beta2 * exp_avg_diff + h.one_minus_beta2 * difference
    exp_avg_sq = h.beta3 * exp_avg_sq + h.one_minus_beta3 * ahead * ahead
    direction = h.step_size * exp_avg + h.diff_step * exp_avg_diff
    p = p - direction / (np.sqrt(exp_avg_sq + h.eps_root) * h.root_correction3 + h.eps)
    return h.shrink * p, exp_avg, exp_avg_diff, exp_avg_sq, g


def lion(h, p, g, exp_avg):
    """Lion (Chen et al. 2023, Algorithm 2): the sign of an average of gradient and momentum."""
    direction = h.beta1 * exp_avg + h.one_minus_beta1 * g
    return p - with_sign_of(h.lr, direction), h.beta2 * exp_avg + h.one_minus_beta2 * g


def rprop(h, p, g, prev, step_size):
    """Rprop (Riedmiller & Braun 1993; without backtracking: Igel & Huesken 2000, iRprop-).

    A step size of each element's own, which grows while the gradient keeps its sign.
    """
    agreement = g * prev
    shorter = select(agreement < 0, h.eta_minus * step_size, step_size)
    step_size = select(agreement > 0, h.eta_plus * step_size, shorter)
    step_size = np.minimum(np.maximum(step_size, h.smallest_step), h.largest_step)
    g = select(agreement < 0, g - g, g)
    return p - with_sign_of(step_size, g), g, step_size


def asgd(h, p, g, ax):
    """Averaged SGD (Polyak & Juditsky 1992; Bottou 2010): descent, and from some step on the mean of the positions."""
    p = h.shrink * p - h.lr * g
    if h.mu != 1:
        return p, ax + h.mu * (p - ax)
    return p, p


def sgd_schedule_free(h, p, g, z):
    """Schedule-Free SGD (Defazio et al. 2024, eq. 3-5), p being y; known and fresh are 0 and 1 in the first step.

    step = lr (1 - momentum (1 - average)), and average the weight of z in the mean of all z.
    """
    z = plus(h.known * z, h.fresh, p)
    g = plus(g, h.decay, p)
    return p + h.average * (z - p) - h.step * g, z - h.lr * g


def adamw_schedule_free(h, p, g, z, exp_avg_sq):
    """Schedule-Free AdamW (Defazio et al. 2024, Algorithm 1), as above with Adam's denominator."""
    z = plus(h.known * z, h.fresh, p)
    exp_avg_sq = h.beta2 * exp_avg_sq + h.one_minus_beta2 * g * g
    g = plus(g / (np.sqrt(exp_avg_sq) * h.root_correction2 + h.eps), h.decay, p)
    return p + h.average * (z - p) - h.step * g, z - h.lr * g, exp_avg_sq


# ---- rules with a trust ratio per tensor: first a direction is measured, then the update follows -------------


def lars_direction(h, p, g, momentum_buffer):
    """What LARS measures: g, or g + decay p (norm_decay = decay)."""
    return plus(g, h.norm_decay, p), momentum_buffer


def lars(h, p, g, momentum_buffer):
    """LARS (You, Gitman & Ginsburg 2017, eq. 6 and Algorithm 1)."""
    g = h.trust_ratio * plus(g, h.decay, p)
    momentum_buffer = h.momentum * momentum_buffer + h.grad_weight * g
    return p - h.lr * plus(h.from_buffer * momentum_buffer, h.from_grad, g), momentum_buffer


def lamb_step(h, p, exp_avg, exp_avg_sq):
    """What LAMB multiplies with the learning rate and the trust ratio."""
    direction = h.correction1 * exp_avg / (np.sqrt(exp_avg_sq + h.eps_root) * h.root_correction2 + h.eps)
    return plus(direction, h.decay, p)


def lamb_direction(h, p, g, exp_avg, exp_avg_sq):
    """The moments, and Adam's direction with decay: what LAMB measures."""
    exp_avg = h.beta1 * exp_avg + h.grad_weight * g
    exp_avg_sq = h.beta2 * exp_avg_sq + h.one_minus_beta2 * g * g
    return lamb_step(h, p, exp_avg, exp_avg_sq), exp_avg, exp_avg_sq


def lamb(h, p, g, exp_avg, exp_avg_sq):
    """LAMB (You et al. 2020, Algorithm 2), the moments being those of this step already."""
    return p - h.lr * (h.trust_ratio * lamb_step(h, p, exp_avg, exp_avg_sq)), exp_avg, exp_avg_sq


# ---- rules that are given a whole tensor, the scalars not rounded, and what else is to be known of it --------


class Whole(NamedTuple):
    """What rules of whole tensors need: the parameter before any decay, and sums and products in their fixed orders."""

    before: np.ndarray
    square_sum: Callable[[np.ndarray], float]
    row_and_column_square_sums: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # of the last two dimensions
    matmul: Callable[[np.ndarray, np.ndarray], np.ndarray]


def muon(h, p, g, momentum_buffer, *, whole):
    """Muon (Jordan et al. 2024): the momentum, made orthogonal by Newton and Schulz's iteration."""
    real = p.dtype.type
    momentum_buffer = real(h.momentum) * momentum_buffer + real(h.grad_weight) * g
    x = plus(real(h.from_buffer) * momentum_buffer, real(h.from_grad), g)
    if not x.size:
        return p, momentum_buffer
    (rows, columns), matmul = x.shape, whole.matmul
    norm = math.sqrt(whole.square_sum(x))
    x = x / real(norm if norm > h.eps else h.eps)
    for _ in range(int(h.steps)):
        gram = matmul(x, x.T) if rows <= columns else matmul(x.T, x)
        polynomial = real(h.b) * gram + real(h.c) * matmul(gram, gram)
        x = real(h.a) * x + (matmul(polynomial, x) if rows <= columns else matmul(x, polynomial))
    ratio = h.original * math.sqrt(max(1.0, rows / columns)) + h.matched * math.sqrt(max(rows, columns))
    return p - real(h.lr * ratio) * x, momentum_buffer


def adafactor(h, p, g, row_var, col_var, *, whole):
    """Adafactor (Shazeer & Stern 2018, Algorithm 4): the mean squares of rows and columns stand for those of elements.

    The gradient times the smaller of the product of their weights and 1 / eps.
    """
    real = p.dtype.type
    if not p.size:
        return p, row_var, col_var
    rows, columns = p.shape[-2:]
    row_sums, column_sums = whole.row_and_column_square_sums(g)
    row_var = real(h.beta2) * row_var + real(h.one_minus_beta2) * (row_sums / columns).astype(real)
    col_var = real(h.beta2) * col_var + real(h.one_minus_beta2) * (column_sums / rows).astype(real)
    mean = np.add.accumulate(row_var, axis=-2, dtype=np.float64)[..., -1:, :] / rows
    eps = adafactor_eps(h, real)
    mean = select(mean < eps, eps, mean)
    row_weights = (1 / np.sqrt(row_var / mean)).astype(real)
    column_weights = (1 / np.sqrt(col_var.astype(np.float64))).astype(real)
    weights, largest = row_weights * column_weights, real(1 / np.float64(eps))
    direction = g * select(weights > largest, largest, weights)
    return p - real(adafactor_step(h, direction, whole)) * direction, row_var, col_var


def adafactor_unfactored(h, p, g, variance, *, whole):
    """The same (Algorithm 5) for what is no matrix, with a mean square of each element."""
    real = p.dtype.type
    if not p.size:
        return p, variance
    variance = real(h.beta2) * variance + real(h.one_minus_beta2) * g * g
    root, eps = np.sqrt(flush(variance)), real(adafactor_eps(h, real))
    direction = g / select(root < eps, eps, root)
    return p - real(adafactor_step(h, direction, whole)) * direction, variance


def adafactor_eps(h, real):
    """The smallest root of a mean square; by default it depends on the type."""
    return h.eps if real is np.float32 else h.eps_float64


def adafactor_step(h, direction, whole):
    """What multiplies the direction, in double: as large as the parameter, and smaller for a large direction."""
    mean = math.sqrt(whole.square_sum(whole.before) / direction.size)
    clip = math.sqrt(whole.square_sum(direction) / direction.size) / h.threshold
    return h.rate * (mean if mean > h.smallest_size else h.smallest_size) / (clip if clip > 1 else 1.0)


def state_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a state: the parameter's, but for the means of Adafactor over a dimension."""
    if key == "row_var":
        return (*shape[:-1], 1)
    return (*shape[:-2], 1, shape[-1]) if key == "col_var" else shape


def trust_ratio(h, param_norm, direction_norm):
    """The trust ratio of a tensor, in double: 1 where a norm is 0 or not finite; else within floor and cap.

    The caller puts the largest number of the tensor's type in place of a cap beyond it: the ratio of an ordinary weight
    and a subnormal gradient is infinite in float32, and infinity times an element that is 0 is NaN.
    """
    if not (0 < param_norm < math.inf and 0 < direction_norm < math.inf):
        return 1.0
    ratio = h.trust_coefficient * param_norm / (direction_norm + h.trust_decay * param_norm + h.trust_eps)
    ratio = h.trust_scale * ratio
    ratio = ratio if ratio > h.trust_floor else h.trust_floor
    return ratio if ratio < h.trust_cap else h.trust_cap


# The states that may be negative; all others are sums or means of squares, and like them.
SIGNED = frozenset({"ax", "exp_avg", "exp_avg_diff", "grad_avg", "momentum_buffer", "pre_grad", "prev", "z"})


class Overflow(ArithmeticError):
    """A step would make something finite inf or NaN; nothing was written."""


class Rule(NamedTuple):
    """A rule, the names of the scalars it reads from ``h`` (those of ``prepare`` first) and of its states.

    One with a trust ratio has a ``direction`` too, and scalars for `trust_ratio` behind its own.
    """

    update: Callable[..., tuple[Any, ...]]
    scalars: Any
    states: tuple[str, ...]
    direction: Callable[..., tuple[Any, ...]] | None = None
    of_tensor: bool = False
    moves_when_measured: bool = False  # whether its states move with the direction, not with the update


def _rule(update, scalars, direction=None, of_tensor=False, moves_when_measured=False):
    names = f"grad_scale clip_value l2 keep {scalars}"
    if direction is not None:
        names += " trust_ratio trust_coefficient trust_decay trust_eps trust_scale trust_floor trust_cap"
    states = update.__code__.co_varnames[3 : update.__code__.co_argcount]
    return Rule(update, namedtuple(update.__name__, names), states, direction, of_tensor, moves_when_measured)


# A step from ordinary numbers overflows in no rule, so nobody has to look: gradients and parameters below LARGE, states
# too, or if they are squares below LARGE**2, denominators from TINY on, and scalars between those of _SMALLEST and
# _LARGEST. The limits of csrc/internal.h, where the reasons are.
LARGE = {np.dtype(np.float32): 2.0**40, np.dtype(np.float64): 2.0**300}
TINY = {np.dtype(np.float32): 2.0**-50, np.dtype(np.float64): 2.0**-300}
SQUARES = {
    "col_var", "exp_avg_sq", "exp_avg_var", "max_exp_avg_sq", "row_var", "square_avg", "sum", "variance",
}  # fmt: skip
_ANY = ("grad_scale", "clip_value", "trust_eps", "trust_scale", "trust_floor", "trust_cap")
_LARGEST = {
    "l2": 1.0,
    "keep": 1.0,
    "lr": 2.0**8,
    "step_weight": 2.0**8,
    "momentum": 1.0,
    "shrink": 1.0,
    **dict.fromkeys(_ANY, math.inf),
}
_SMALLEST = {"one_minus_rho": 2.0**-24, "one_minus_alpha": 2.0**-24}  # steps stay moderate


def scalar_limits(rule: Rule) -> tuple[list[float], list[float]]:
    """Between which sizes the scalars of a rule are ordinary."""
    names = rule.scalars._fields
    return [_SMALLEST.get(name, 0.0) for name in names], [_LARGEST.get(name, 2.0**16) for name in names]


def refuse_scalars(rule: Rule, scalars: tuple[float, ...], dtypes: set[Any]) -> None:
    """Raise ValueError if a scalar is not finite in the type of the arrays; two limits may be infinite.

    Trust ratios are computed in double.
    """
    for name, value in zip(rule.scalars._fields, scalars, strict=True):
        if name in ("clip_value", "trust_cap"):
            continue
        for dtype in (np.dtype(np.float64),) if name.startswith("trust_") else dtypes:
            if not np.isfinite(dtype.type(value)):
                raise ValueError(f"these hyperparameters give numbers beyond {dtype}: {name} of {value}")


_ADAM = "beta1 one_minus_beta1 beta2 one_minus_beta2"
_ADAFACTOR = "beta2 one_minus_beta2 eps eps_float64 smallest_size threshold rate"
_RMSPROP = "alpha one_minus_alpha eps_root eps"

RULES = {
    rule.update.__name__: rule
    for rule in (
        _rule(sgd, "lr"),
        _rule(momentum, "momentum grad_weight from_grad from_buffer lr"),
        _rule(adagrad, "eps_root eps lr"),
        _rule(adadelta, "rho one_minus_rho eps lr"),
        _rule(rmsprop, f"{_RMSPROP} lr"),
        _rule(rmsprop_centered, f"{_RMSPROP} lr"),
        _rule(rmsprop_momentum, f"{_RMSPROP} momentum step_weight from_step from_buffer lr"),
        _rule(rmsprop_centered_momentum, f"{_RMSPROP} momentum step_weight from_step from_buffer lr"),
        _rule(adam, f"{_ADAM} root_correction2 eps_root eps step_size"),
        _rule(adam_amsgrad, f"{_ADAM} before root_after eps_root eps step_size"),
        _rule(nadam, f"{_ADAM} root_correction2 eps_root eps grad_step avg_step"),
        _rule(adamax, "beta1 one_minus_beta1 beta2 inside outside eps step_size"),
        _rule(radam, f"{_ADAM} root_correction2 eps plain_step adaptive_step"),
        _rule(adabelief, f"{_ADAM} eps_root root_correction2 eps plain_step adaptive_step"),
        _rule(
            adan,
            f"{_ADAM} beta3 one_minus_beta3 known eps_root root_correction3 eps step_size diff_step shrink",
        ),
        _rule(lion, f"{_ADAM} lr"),
        _rule(rprop, "eta_minus eta_plus smallest_step largest_step"),
        _rule(asgd, "shrink lr mu"),
        _rule(sgd_schedule_free, "known fresh decay average step lr"),
        _rule(
            adamw_schedule_free,
            "beta2 one_minus_beta2 root_correction2 eps known fresh decay average step lr",
        ),
        _rule(lars, "decay norm_decay momentum grad_weight from_grad from_buffer lr", lars_direction),
        _rule(
            lamb,
            "beta1 grad_weight beta2 one_minus_beta2 correction1 root_correction2 eps_root eps decay lr",
            lamb_direction,
            moves_when_measured=True,
        ),
        _rule(
            muon,
            "momentum grad_weight from_grad from_buffer a b c eps steps original matched lr",
            of_tensor=True,
        ),
        _rule(adafactor, _ADAFACTOR, of_tensor=True),
        _rule(adafactor_unfactored, _ADAFACTOR, of_tensor=True),
    )
}
