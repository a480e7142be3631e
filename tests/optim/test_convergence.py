"""Every optimizer reaches the minimum of a poorly conditioned parabola and of Rosenbrock's valley, from usual starts.

SETTINGS says with what: options, learning rate, number of steps, and whether the rate falls to 0 along a line. What has
no settings of its own takes DEFAULT's.
"""

import numpy as np
import pytest
from helpers import OPTIMIZERS

import fastopt as fo


def parabola(x, y):
    """The gradient of ((x - 1)**2 + 100 (y + 1)**2) / 2."""
    return x - 1, 100 * (y + 1)


def valley(x, y):
    """The gradient of Rosenbrock's (1 - x)**2 + 100 (y - x**2)**2."""
    return -2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)


SETTINGS = {
    parabola: {
        "SGD": ({"momentum": 0.9}, 0.01, 1000, False),
        "Adagrad": ({}, 1.0, 1000, False),
        "Adadelta": ({}, 1.0, 3000, False),
        "RMSprop": ({"alpha": 0.9}, 0.01, 2000, True),
        "Adam": ({}, 0.1, 1000, False),
        "AdamW": ({"weight_decay": 0.0}, 0.1, 1000, False),
        "NAdam": ({}, 0.1, 1000, False),
        "LARS": ({"trust_coefficient": 1.0, "nesterov": True}, 0.003, 3000, True),
        "LAMB": ({"weight_decay": 0.0}, 0.1, 1000, False),
        "Adamax": ({}, 0.1, 2000, True),
        "RAdam": ({}, 0.02, 2000, False),  # its first steps are plain descent
        "AdaBelief": ({"rectify": False}, 0.1, 1000, False),
        "Adan": ({}, 0.1, 1000, True),
        "Lion": ({}, 0.01, 2000, True),
        "Rprop": ({}, 0.1, 200, False),
        "ASGD": ({"lambd": 0.0}, 0.01, 1000, False),
        "Muon": ({"weight_decay": 0.0}, 0.1, 1000, True),
        "Adafactor": ({}, 0.1, 2000, True),
        "SGDScheduleFree": ({}, 0.05, 3000, False),
        "AdamWScheduleFree": ({}, 0.1, 3000, False),
    },
    valley: {
        "SGD": ({"momentum": 0.9}, 0.001, 3000, False),
        "Adagrad": ({}, 1.0, 20_000, False),
        "Adadelta": ({"rho": 0.95}, 1.0, 10_000, True),
        "RMSprop": ({"momentum": 0.9}, 0.001, 3000, True),
        "Adam": ({"betas": (0.9, 0.99)}, 0.01, 3000, True),
        "AdamW": ({"betas": (0.9, 0.99), "weight_decay": 0.0}, 0.01, 3000, True),
        "NAdam": ({"betas": (0.9, 0.99), "momentum_decay": 1.0}, 0.01, 3000, True),
        "LARS": ({"trust_coefficient": 1.0, "nesterov": True}, 0.003, 3000, True),
        "LAMB": ({"weight_decay": 0.0}, 0.1, 3000, True),
        "Adamax": ({"betas": (0.9, 0.99)}, 0.02, 3000, True),
        "RAdam": ({"betas": (0.9, 0.99)}, 0.001, 5000, False),
        "AdaBelief": ({"betas": (0.9, 0.99), "rectify": False}, 0.01, 3000, True),
        "Adan": ({}, 0.01, 3000, True),
        "Lion": ({"betas": (0.95, 0.98)}, 0.01, 4000, True),
        "Rprop": ({"step_sizes": (1e-9, 0.1)}, 0.01, 5000, False),
        "ASGD": ({"lambd": 0.0}, 0.001, 20_000, False),
        "Muon": ({"weight_decay": 0.0}, 0.02, 1000, True),
        "Adafactor": ({}, 0.01, 10_000, True),
        "SGDScheduleFree": ({"r": 10.0}, 0.0015, 15_000, False),
        "AdamWScheduleFree": ({"betas": (0.95, 0.99), "r": 4.0}, 0.03, 4000, False),
    },
}
DEFAULT = {parabola: ({}, 0.1, 2000, True), valley: ({}, 0.2, 10_000, True)}
ALL = [*OPTIMIZERS, "Muon"]
FROM = [(parabola, [(-2.0, 2.0)], (1.0, -1.0)), (valley, [(-1.2, 1.0), (-2.0, 2.0)], (1.0, 1.0))]


@pytest.mark.parametrize(("surface", "starts", "minimum"), FROM)
@pytest.mark.parametrize("optimizer", ALL)
def test_reaches_the_minimum(optimizer, surface, starts, minimum):
    """From every start, each of which is a parameter of its own."""
    options, lr, steps, falls = SETTINGS[surface].get(optimizer, DEFAULT[surface])
    params = [np.array([start]) for start in starts]  # rows, since Muon takes matrices
    grads = [np.empty((1, 2)) for _ in starts]
    rate = (lambda step: lr * (1 - step / steps)) if falls else lr
    opt = getattr(fo.optim, optimizer)(params, lr=rate, **options)
    for _ in range(steps):
        for param, grad in zip(params, grads, strict=True):
            grad[:] = surface(*param[0].tolist())
        opt.step(grads)
    opt.eval()
    for param in params:
        np.testing.assert_allclose(param[0], minimum, rtol=0, atol=2e-3)


def test_settings_are_those_of_optimizers():
    assert {*SETTINGS[parabola], *SETTINGS[valley]} <= set(ALL)
