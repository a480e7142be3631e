"""The specification of the optimizers: the update of one parameter, one function per rule.

A rule takes its finished scalars ``h``, the parameter ``p``, the gradient ``g`` and its state, and returns the
new parameter and state. It works on arrays, as the NumPy reference, and, compiled by Numba, on scalars: one
text serves both, so their bits agree. ``csrc/rules.h`` says the same in C, with every operation in the same
order; only ``+ - * /``, the square root, comparison and selection occur.
"""

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


def prepare(h, p, g):
    """What every rule shares: the gradient scaled, clipped and with L2 decay; the parameter after decoupled decay."""
    g = h.grad_scale * g
    g = np.minimum(np.maximum(g, -h.clip_value), h.clip_value)
    return h.keep * p, g + h.l2 * p


def sgd(h, p, g):
    """Gradient descent."""
    return (p - h.lr * g,)


def momentum(h, p, g, momentum_buffer):
    """Momentum (Polyak 1964), and Nesterov's form (Sutskever et al. 2013, eq. 3-4; variables of Bengio et al. 2013).

    Heavy ball has from_grad = 0 and from_buffer = 1; Nesterov's 1 and momentum.
    """
    momentum_buffer = h.momentum * momentum_buffer + h.grad_weight * g
    return p - h.lr * (h.from_grad * g + h.from_buffer * momentum_buffer), momentum_buffer


def adam(h, p, g, exp_avg, exp_avg_sq):
    """Adam (Kingma & Ba 2015, Algorithm 1); step_size = lr / (1 - beta1**t), correction2 = 1 / (1 - beta2**t)."""
    exp_avg = h.beta1 * exp_avg + h.one_minus_beta1 * g
    exp_avg_sq = h.beta2 * exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p - h.step_size * exp_avg / (np.sqrt(exp_avg_sq * h.correction2 + h.eps_root) + h.eps), exp_avg, exp_avg_sq


class Rule(NamedTuple):
    """A rule, the names of the scalars it reads from ``h`` (those of ``prepare`` first) and of its states."""

    update: Callable[..., tuple[Any, ...]]
    scalars: type
    states: tuple[str, ...]


def _rule(update, scalars):
    names = f"grad_scale clip_value l2 keep {scalars}"
    states = update.__code__.co_varnames[3 : update.__code__.co_argcount]
    return Rule(update, namedtuple(update.__name__, names), states)


RULES = {
    rule.update.__name__: rule
    for rule in (
        _rule(sgd, "lr"),
        _rule(momentum, "momentum grad_weight from_grad from_buffer lr"),
        _rule(adam, "beta1 one_minus_beta1 beta2 one_minus_beta2 correction2 eps_root eps step_size"),
    )
}
