"""The optimizers: recorded trajectories, and what a step does before the update.

What is asked of all optimizers runs over ``optim.__all__``; the one table to extend for a new one is COVERED.
"""

import math

import numpy as np
import pytest
import recent_formulas
from helpers import BACKENDS, DTYPES, OPTIMIZERS, bits
from recorded import CASES, GOLDEN, RECORDED, flat, make, tensors

import fastopt as fo

# How many of the 47 recorded cases each optimizer takes. All of them: SGD 9, Adam 5, AdamW 5, NAdam 7, Adagrad 7,
# Adadelta 6, RMSprop 8. An optimizer that PyTorch has not stands here with 0. (Formulas: test_optimizer_options.py.)
COVERED = {"SGD": 9, "Adam": 5, "AdamW": 5, "NAdam": 7, "Adagrad": 7, "Adadelta": 6, "RMSprop": 8, "LARS": 0, "LAMB": 0,
           **dict.fromkeys(recent_formulas.FORMULAS, 0)}  # fmt: skip

# ---- recorded trajectories ------------------------------------------------------------------------


def test_every_optimizer_is_covered():
    assert set(COVERED) == set(OPTIMIZERS)
    assert {name: sum(c.values[0] == name for c in RECORDED) for name in OPTIMIZERS} == COVERED


# float32: the rounding of 15 steps; the parameters are about 1
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(np.float64, 1e-12, 1e-14), (np.float32, 3e-6, 1e-6)])
@pytest.mark.parametrize(("name", "arguments", "trajectory"), RECORDED)
def test_recorded_trajectory(backend, name, arguments, trajectory, dtype, rtol, atol):
    params = tensors(GOLDEN["x0"], dtype)
    opt, found = make(name, params, **arguments), []
    for grads in GOLDEN["grads"][: len(trajectory)]:
        opt.step(tensors(grads, dtype))
        found.append(flat(params))
    np.testing.assert_allclose(found, trajectory, rtol=rtol, atol=atol)
    assert opt.step_count == len(trajectory)


@CASES
def test_bits_are_the_same_on_every_backend(name, arguments):
    def run(backend, dtype):
        fo.set_backend(backend)
        params = tensors(GOLDEN["x0"], dtype)
        opt = make(name, params, **arguments)
        for t in range(5):
            opt.step(tensors(GOLDEN["grads"][t], dtype), clip_norm=2.0 if t % 2 else None)
        return bits(flat(params)), opt.grad_norm, *(bits(s) for state in opt.state.values() for s in state.values())

    for dtype in DTYPES:
        expected = run("numpy", dtype)
        assert all(run(backend, dtype) == expected for backend in BACKENDS if backend != "numpy")


# ---- what comes before the update ------------------------------------------------------------------

# What the driver does before the update: options of the optimizer, options of the step.
DRIVER = {
    "nothing": ({"weight_decay": 0.0}, {}),
    "l2": ({"weight_decay": 0.2, "weight_decay_mode": "l2"}, {}),
    "decoupled": ({"weight_decay": 0.2, "weight_decay_mode": "decoupled"}, {}),
    "independent": ({"weight_decay": 0.02, "weight_decay_mode": "independent"}, {}),
    "maximize": ({"weight_decay": 0.2, "weight_decay_mode": "l2", "maximize": True}, {}),
    "grad_scale": ({"weight_decay": 0.0}, {"grad_scale": 0.25}),
    "clip_value": ({"weight_decay": 0.0}, {"clip_value": 0.3}),
    "clip_norm": ({"weight_decay": 0.0}, {"clip_norm": 1.5}),
    "clip_norm_per_tensor": ({"weight_decay": 0.0}, {"clip_norm_per_tensor": 1.5}),
    "clip_nothing": ({"weight_decay": 0.0}, {"clip_norm": math.inf, "clip_value": math.inf}),
    "everything": (
        {"weight_decay": 0.2, "weight_decay_mode": "l2", "maximize": True},
        {"grad_scale": 0.5, "clip_norm": 1.5, "clip_value": 0.3},
    ),
    "per tensor": (
        {"weight_decay": 0.2, "weight_decay_mode": "decoupled", "maximize": True},
        {"grad_scale": 0.5, "clip_norm_per_tensor": 0.5, "clip_value": 0.1},
    ),
}


def drive(options, clipping, lr, params, grads):
    """The parameters and gradients as the update itself is to see them."""
    grads = [g * clipping.get("grad_scale", 1.0) for g in grads]
    norms = [np.sqrt(np.sum(g**2)) for g in grads]
    if "clip_norm" in clipping:
        total = np.sqrt(np.sum(np.square(norms)))
        grads = [g * min(1, clipping["clip_norm"] / total) for g in grads]
    if "clip_norm_per_tensor" in clipping:
        limit = clipping["clip_norm_per_tensor"]
        grads = [g * min(1, limit / norm) for g, norm in zip(grads, norms, strict=True)]
    if "clip_value" in clipping:
        grads = [np.clip(g, -clipping["clip_value"], clipping["clip_value"]) for g in grads]
    if options.get("maximize"):
        grads = [-g for g in grads]
    decay, mode = options.get("weight_decay", 0), options.get("weight_decay_mode")
    if decay and mode == "l2":
        grads = [g + decay * p for g, p in zip(grads, params, strict=True)]
    if decay and mode == "decoupled":
        params = [p - lr * decay * p for p in params]
    if decay and mode == "independent":
        params = [p - decay * p for p in params]
    return params, grads


def decays_first(options):
    return options.get("weight_decay", 0) and options.get("weight_decay_mode") in ("decoupled", "independent")


@pytest.mark.parametrize("driver", DRIVER)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_driver_treats_all_optimizers_alike(name, driver):
    """Scaling, clipping and decay done here, beforehand, and the same done by the step."""
    options, clipping = DRIVER[driver]
    if decays_first(options) and name in recent_formulas.MEASURED_BEFORE_DECAY:
        return
    by_step, by_hand = tensors(GOLDEN["x0"]), tensors(GOLDEN["x0"])
    one, other = make(name, by_step, lr=0.1, **options), make(name, by_hand, lr=0.1, weight_decay=0.0)
    found, expected = [], []
    for t in range(5):
        given = tensors(GOLDEN["grads"][t])
        one.step(given, **clipping)
        assert flat(given).tobytes() == GOLDEN["grads"][t].tobytes(), "a gradient was modified"
        decayed, grads = drive(options, clipping, 0.1, by_hand, tensors(GOLDEN["grads"][t]))
        for param, value in zip(by_hand, decayed, strict=True):
            param[...] = value
        other.step(grads)
        found.append(flat(by_step))
        expected.append(flat(by_hand))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)
