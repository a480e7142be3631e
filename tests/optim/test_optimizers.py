"""The optimizers: recorded trajectories and plain formulas.

What is asked of all optimizers runs over ``optim.__all__``; the one table to extend for a new one is COVERED.
"""

import math

import numpy as np
import pytest
import recent_formulas
from helpers import BACKENDS, DTYPES, OPTIMIZERS, bits
from recorded import CASES, GOLDEN, RECORDED, flat, make, tensors

import fastopt as fo
from fastopt._specification.rules import RULES

# How many of the 47 recorded cases each optimizer takes. All of them: SGD 9, Adam 5, AdamW 5, NAdam 7, Adagrad 7,
# Adadelta 6, RMSprop 8. An optimizer that PyTorch has not stands here with 0 and in PLAIN below.
COVERED = {"SGD": 9, "Adam": 5, "AdamW": 5, "NAdam": 7, "Adagrad": 7, "Adadelta": 6, "RMSprop": 8, "LARS": 0, "LAMB": 0,
           **dict.fromkeys(recent_formulas.FORMULAS, 0)}  # fmt: skip

# ---- recorded trajectories ------------------------------------------------------------------------


def test_every_optimizer_and_rule_is_covered():
    assert set(COVERED) == set(OPTIMIZERS)
    assert {name: sum(c.values[0] == name for c in RECORDED) for name in OPTIMIZERS} == COVERED
    cases = [c.values[:2] for c in RECORDED] + [(name, h) for name, _, h in PLAIN]
    assert {name for name, _ in cases} == set(OPTIMIZERS)
    made = (make(name, np.ones(2), **h) for name, h in cases)
    found = {rule for opt in made for rule in opt.rules(opt.groups[0])}
    assert found == set(RULES) - {"muon"}


# float32: the rounding of 15 steps; the parameters are about 1
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(np.float64, 1e-12, 1e-14), (np.float32, 3e-6, 1e-6)])
@pytest.mark.parametrize(("name", "arguments", "trajectory"), RECORDED)
def test_recorded_trajectory(backend, name, arguments, trajectory, dtype, rtol, atol):
    params = tensors(GOLDEN["x0"], dtype)
    opt = make(name, params, **arguments)
    for t, expected in enumerate(trajectory):
        opt.step(tensors(GOLDEN["grads"][t], dtype))
        np.testing.assert_allclose(flat(params), expected, rtol=rtol, atol=atol, err_msg=f"step {t + 1}")
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
        assert all(run(backend, dtype) == expected for backend in BACKENDS)


# ---- plain formulas -------------------------------------------------------------------------------


def plain_sgd(h, p, g, state, t):
    mu = h.get("momentum", 0)
    if mu == 0:
        return p - h["lr"] * g
    v = state["v"] = g if t == 1 else mu * state["v"] + (1 - h.get("dampening", 0)) * g
    return p - h["lr"] * (g + mu * v if h.get("nesterov") else v)


def plain_adam(h, p, g, state, t):
    b1, b2 = h.get("betas", (0.9, 0.999))
    m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
    return p - h["lr"] * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + h.get("eps", 1e-8))


def plain_rmsprop(h, p, g, state, t):
    alpha = h.get("alpha", 0.99)
    square = state["square"] = alpha * state.get("square", h.get("initial_square_avg", 0)) + (1 - alpha) * g**2
    step = g / (np.sqrt(square + h.get("eps_root", 0)) + h.get("eps", 1e-8))
    mu = h.get("momentum", 0)
    buffer = state["buffer"] = mu * state.get("buffer", 0) + step
    return p - h["lr"] * (step + mu * buffer if h.get("nesterov") else buffer)


def plain_lars(h, p, g, state, t):
    lr, mu, decay = h["lr"], h.get("momentum", 0.9), in_direction(h)
    if h.get("denominator") == "sum":
        below = np.linalg.norm(g + decay * p) + h.get("eps", 0)
    else:
        below = np.linalg.norm(g) + decay * np.linalg.norm(p) + h.get("eps", 0)
    ratio = h.get("trust_coefficient", 0.001) * np.linalg.norm(p) / below
    if h.get("trust_clip"):
        ratio = min(ratio / lr, 1)
    if not h.get("always_adapt", True) and not h.get("weight_decay", 0):
        ratio = 1
    d = ratio * (g + decay * p)
    v = state["v"] = d if t == 1 else mu * state["v"] + (1 - h.get("dampening", 0)) * d
    return p - lr * (d + mu * v if h.get("nesterov") else v)


def plain_lamb(h, p, g, state, t):
    b1, b2 = h.get("betas", (0.9, 0.999))
    m = state["m"] = b1 * state.get("m", 0) + (1 - b1 if h.get("grad_averaging", True) else 1) * g
    v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
    if h.get("bias_correction", True):
        m, v = m / (1 - b1**t), v / (1 - b2**t)
    u = m / (np.sqrt(v + h.get("eps_root", 0)) + h.get("eps", 1e-6)) + in_direction(h) * p
    limit = h.get("trust_clip", 10.0)
    ratio = min(np.linalg.norm(p) / np.linalg.norm(u), math.inf if limit is None else limit)
    if not h.get("always_adapt", True) and not h.get("weight_decay", 0):
        ratio = 1
    return p - h["lr"] * ratio * u


def in_direction(h):
    return h.get("weight_decay", 0) if h.get("weight_decay_mode", "direction") == "direction" else 0


PLAIN = [
    ("SGD", plain_sgd, {"lr": 0.1}),
    ("SGD", plain_sgd, {"lr": 0.1, "momentum": 0.8}),
    ("SGD", plain_sgd, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    ("SGD", plain_sgd, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    ("Adam", plain_adam, {"lr": 0.1, "betas": (0.7, 0.95), "eps": 0.01}),
    ("AdamW", plain_adam, {"lr": 0.1}),
    ("RMSprop", plain_rmsprop, {"lr": 0.1, "alpha": 0.8, "eps_root": 0.01, "initial_square_avg": 1.0}),
    ("RMSprop", plain_rmsprop, {"lr": 0.1, "momentum": 0.8}),
    ("RMSprop", plain_rmsprop, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    ("LARS", plain_lars, {"lr": 0.5, "trust_coefficient": 0.1}),
    ("LARS", plain_lars, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "trust_coefficient": 0.2, "eps": 0.5}),
    ("LARS", plain_lars, {"lr": 0.1, "nesterov": True, "trust_coefficient": 0.1, "denominator": "sum"}),
    ("LARS", plain_lars, {"lr": 0.1, "trust_coefficient": 0.1, "trust_clip": True}),
    ("LARS", plain_lars, {"lr": 0.1, "always_adapt": False}),
    ("LAMB", plain_lamb, {"lr": 0.1}),
    ("LAMB", plain_lamb, {"lr": 0.1, "trust_clip": 0.8, "eps_root": 0.01, "eps": 0.1, "betas": (0.7, 0.9)}),
    ("LAMB", plain_lamb, {"lr": 0.1, "bias_correction": False, "grad_averaging": False, "trust_clip": None}),
    ("LAMB", plain_lamb, {"lr": 0.1, "always_adapt": False}),
    *recent_formulas.PLAIN,
]
FORMULAS = pytest.mark.parametrize(
    ("name", "update", "h"), PLAIN, ids=[f"{n}-{'-'.join(k for k in h if k != 'lr')}" for n, _, h in PLAIN]
)
# What the driver does before the update: options of the optimizer, options of the step.
DRIVER = {
    "nothing": ({"weight_decay": 0.0}, {}),
    "l2": ({"weight_decay": 0.2, "weight_decay_mode": "l2"}, {}),
    "decoupled": ({"weight_decay": 0.2, "weight_decay_mode": "decoupled"}, {}),
    "independent": ({"weight_decay": 0.02, "weight_decay_mode": "independent"}, {}),
    "direction": ({"weight_decay": 0.2, "weight_decay_mode": "direction"}, {}),
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


WITH_DIRECTION = ("LARS", "LAMB", "SGDScheduleFree", "AdamWScheduleFree")  # what has the weight decay mode "direction"


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
@FORMULAS
def test_plain_formula(name, update, h, driver):
    options, clipping = DRIVER[driver]
    if options.get("weight_decay_mode") == "direction" and name not in WITH_DIRECTION:
        return
    if decays_first(options) and name in recent_formulas.MEASURED_BEFORE_DECAY:
        return
    h = {**h, **options}
    params = tensors(GOLDEN["x0"])
    opt = make(name, params, **h)
    expected, states = tensors(GOLDEN["x0"]), [{}, {}, {}]
    for t in range(1, 8):
        given = tensors(GOLDEN["grads"][t])
        opt.step(given, **clipping)
        expected, grads = drive(options, clipping, h["lr"], expected, given)
        expected = [update(h, *each, t) for each in zip(expected, grads, states, strict=True)]
        np.testing.assert_allclose(flat(params), flat(expected), rtol=1e-12, atol=1e-15)
        assert flat(given).tobytes() == GOLDEN["grads"][t].tobytes(), "a gradient was modified"


@pytest.mark.parametrize("driver", DRIVER)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_driver_treats_all_optimizers_alike(name, driver):
    """Scaling, clipping and decay done here, beforehand, and the same done by the step."""
    options, clipping = DRIVER[driver]
    if options.get("weight_decay_mode") == "direction":
        return
    if decays_first(options) and name in recent_formulas.MEASURED_BEFORE_DECAY:
        return
    by_step, by_hand = tensors(GOLDEN["x0"]), tensors(GOLDEN["x0"])
    one, other = make(name, by_step, lr=0.1, **options), make(name, by_hand, lr=0.1, weight_decay=0.0)
    for t in range(5):
        one.step(tensors(GOLDEN["grads"][t]), **clipping)
        decayed, grads = drive(options, clipping, 0.1, by_hand, tensors(GOLDEN["grads"][t]))
        for param, value in zip(by_hand, decayed, strict=True):
            param[...] = value
        other.step(grads)
        np.testing.assert_allclose(flat(by_step), flat(by_hand), rtol=1e-11, atol=1e-14)
