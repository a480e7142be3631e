"""Every option of every optimizer: against its formula, written out here in float64, and against other libraries.

A formula is given the parameter p, the gradient g, its state s and the number t of the step, counted from 1, and
returns the new parameter; its options have the names and defaults of the optimizer's.
"""

import inspect
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import recent_formulas
from helpers import OPTIMIZERS

import fastopt as fo
from fastopt._specification.rules import RULES

SHAPES = [(4, 3), (5,), (2, 2, 2), (1,)]
STEPS = 12


def norm(x):
    return math.sqrt(np.sum(np.square(x)))


# ---- the formulas ---------------------------------------------------------------------------------


def sgd(p, g, s, t, lr, momentum=0.0, dampening=0.0, nesterov=False, lr_in_buffer=False):
    if momentum == 0:
        return p - lr * g
    if lr_in_buffer:
        v = s["momentum_buffer"] = momentum * s.get("momentum_buffer", 0) - lr * g
        return p + (momentum * v - lr * g if nesterov else v)
    v = s["momentum_buffer"] = g if t == 1 else momentum * s["momentum_buffer"] + (1 - dampening) * g
    return p - lr * (g + momentum * v if nesterov else v)


def adagrad(p, g, s, t, lr, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, eps_root=0.0):
    total = s["sum"] = s.get("sum", initial_accumulator_value) + g**2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(total + eps_root) + eps)


def adadelta(p, g, s, t, lr, rho=0.9, eps=1e-6):
    v = s["square_avg"] = rho * s.get("square_avg", 0) + (1 - rho) * g**2
    delta = np.sqrt(s.get("acc_delta", 0) + eps) / np.sqrt(v + eps) * g
    s["acc_delta"] = rho * s.get("acc_delta", 0) + (1 - rho) * delta**2
    return p - lr * delta


def rmsprop(p, g, s, t, lr, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, nesterov=False, eps_root=0.0,
            initial_square_avg=0.0, lr_in_buffer=False):  # fmt: skip
    v = s["square_avg"] = alpha * s.get("square_avg", initial_square_avg) + (1 - alpha) * g**2
    if centered:
        mean = s["grad_avg"] = alpha * s.get("grad_avg", 0) + (1 - alpha) * g
        v = v - mean**2
    step = g / (np.sqrt(v + eps_root) + eps)
    if momentum == 0:
        return p - lr * step
    if lr_in_buffer:
        b = s["momentum_buffer"] = momentum * s.get("momentum_buffer", 0) + lr * step
        return p - (lr * step + momentum * b if nesterov else b)
    b = s["momentum_buffer"] = momentum * s.get("momentum_buffer", 0) + step
    return p - lr * (step + momentum * b if nesterov else b)


def averages(g, s, betas, grad_weight=None):
    beta1, beta2 = betas
    m = s["exp_avg"] = beta1 * s.get("exp_avg", 0) + (1 - beta1 if grad_weight is None else grad_weight) * g
    v = s["exp_avg_sq"] = beta2 * s.get("exp_avg_sq", 0) + (1 - beta2) * g**2
    return m, v


def adam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, amsgrad=False, eps_root=0.0, eps_hat=False,
         bias_correction=True):  # fmt: skip
    m, v = averages(g, s, betas)
    unbiased1 = 1 - betas[0] ** t if bias_correction in (True, "exp_avg") else 1
    unbiased2 = 1 - betas[1] ** t if bias_correction in (True, "exp_avg_sq") else 1
    if amsgrad == "corrected":
        v_hat = s["max_exp_avg_sq"] = np.maximum(s.get("max_exp_avg_sq", 0), v / unbiased2)
        return p - lr * (m / unbiased1) / (np.sqrt(v_hat + eps_root) + eps)
    if amsgrad:
        v = s["max_exp_avg_sq"] = np.maximum(s.get("max_exp_avg_sq", 0), v)
    if eps_hat:
        return p - lr * math.sqrt(unbiased2) / unbiased1 * m / (np.sqrt(v + eps_root) + eps)
    return p - lr * (m / unbiased1) / (np.sqrt(v / unbiased2 + eps_root) + eps)


def nadam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, momentum_decay=0.004, eps_root=0.0, mu_product="float32"):
    m, v = averages(g, s, betas)
    denominator = np.sqrt(v / (1 - betas[1] ** t) + eps_root) + eps
    if mu_product == "beta1":
        ahead, now = (betas[0] * (1 - 0.5 * 0.96 ** (i * (momentum_decay or math.inf))) for i in (t + 1, t))
        return p - lr * (ahead * m + (1 - now) * g) / (1 - betas[0] ** t) / denominator
    if momentum_decay is None:
        beta1 = betas[0]
        return p - lr * (beta1 * m / (1 - beta1 ** (t + 1)) + (1 - beta1) * g / (1 - beta1**t)) / denominator

    def mu(i):
        return betas[0] * (1 - 0.5 * 0.96 ** (i * momentum_decay))

    type_of_product = np.dtype(mu_product).type
    product = type_of_product(1)
    for i in range(1, t + 1):
        product *= type_of_product(mu(i))
    product = float(product)
    m_hat = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return p - lr * m_hat / denominator


def lars(p, g, s, t, lr, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False, trust_coefficient=0.001,
         eps=0.0, trust_clip=False, always_adapt=True, denominator="separate", lr_in_buffer=False):  # fmt: skip
    decayed = g + weight_decay * p
    ratio = 1.0
    if norm(p) > 0 and norm(g) > 0 and (always_adapt or weight_decay > 0):
        size = norm(decayed) if denominator == "sum" else norm(g) + weight_decay * norm(p)
        ratio = trust_coefficient * norm(p) / (size + eps)
        if trust_clip:
            ratio = min(ratio / lr, 1.0)
    s["trust_ratio"] = ratio
    if lr_in_buffer:
        v = s["momentum_buffer"] = momentum * s.get("momentum_buffer", 0) + lr * ratio * decayed
        return p - (momentum * v + lr * ratio * decayed if nesterov else v)
    return sgd(p, ratio * decayed, s, t, lr, momentum, dampening, nesterov)


def lamb(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01, bias_correction=True, grad_averaging=True,
         trust_clip=10.0, always_adapt=True, eps_root=0.0):  # fmt: skip
    m, v = averages(g, s, betas, None if grad_averaging else 1.0)
    if bias_correction:
        m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    u = m / (np.sqrt(v + eps_root) + eps) + weight_decay * p
    ratio = 1.0
    if norm(p) > 0 and norm(u) > 0 and (always_adapt or weight_decay > 0):
        ratio = min(norm(p) / norm(u), math.inf if trust_clip is None else trust_clip)
    s["trust_ratio"] = ratio
    return p - lr * ratio * u


FORMULAS = {"SGD": sgd, "Adagrad": adagrad, "Adadelta": adadelta, "RMSprop": rmsprop, "Adam": adam, "AdamW": adam,
            "NAdam": nadam, "LARS": lars, "LAMB": lamb, **recent_formulas.FORMULAS}  # fmt: skip


@cache
def parameters_of(function):
    return inspect.signature(function).parameters


def formula_step(optimizer, p, g, s, t, lr, options):
    """One step of an optimizer: ascent and decay as all optimizers have them, then its formula."""
    options, defaults = dict(options), parameters_of(getattr(fo.optim, optimizer))
    direction = "weight_decay" in parameters_of(FORMULAS[optimizer])
    mode = options.pop("weight_decay_mode", defaults["weight_decay_mode"].default)
    if options.pop("maximize", False):
        g = -g
    if mode in ("direction", "proximal"):
        return FORMULAS[optimizer](p, g, s, t, lr, **options)
    decay = options.pop("weight_decay", defaults["weight_decay"].default)
    if mode == "l2":
        g = g + decay * p
    elif mode == "decoupled":
        p = p - lr * decay * p
    else:
        p = p - decay * p
    return FORMULAS[optimizer](p, g, s, t, lr, **options, **({"weight_decay": 0.0} if direction else {}))


# ---- the comparison -------------------------------------------------------------------------------


def problem(seed=0):
    """Four tensors of very different sizes, and their gradients at every step."""
    rng = np.random.default_rng(seed)
    scales = [1.0, 0.05, 20.0, 1.0]
    params = [scale * rng.standard_normal(shape) for scale, shape in zip(scales, SHAPES, strict=True)]
    return params, [[rng.standard_normal(shape) for shape in SHAPES] for _ in range(STEPS)]


def flat(arrays):
    return np.concatenate([np.ravel(x) for x in arrays])


def falling(t):
    return 0.1 / (1 + 0.2 * t)


def compare(optimizer, options, rate=falling, prepare_grads=lambda grads: grads, **step_options):
    """The optimizer and its formula, step by step: parameters, states and trust ratios; returns the parameters."""
    params, grads = problem()
    expected, states = [p.copy() for p in params], [{} for _ in params]
    opt = getattr(fo.optim, optimizer)(params, lr=rate, **options)
    for t, given in enumerate(grads, start=1):
        opt.step(given, **step_options)
        found, right = [], []
        for i, g in enumerate(prepare_grads(given)):
            expected[i] = formula_step(optimizer, expected[i], g, states[i], t, rate(t - 1), options)
            own = opt.state[str(i)]
            keys = own.keys() & states[i].keys()  # LARS has a buffer without momentum too
            found += [params[i], opt.trust_ratios[str(i)], *(own[key] for key in keys)]
            right += [expected[i], states[i].get("trust_ratio", 1.0), *(states[i][key] for key in keys)]
        assert [np.shape(x) for x in found] == [np.shape(x) for x in right]
        np.testing.assert_allclose(flat(found), flat(right), rtol=1e-12, atol=1e-14)
    return params


OPTIONS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.9, "lr_in_buffer": True}),
    ("SGD", {"momentum": 0.9, "lr_in_buffer": True, "nesterov": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.3}),
    ("Adagrad", {"initial_accumulator_value": 0.1}),
    ("Adagrad", {"initial_accumulator_value": 0.1, "eps": 0.0}),
    ("Adagrad", {"eps": 0.5}),
    ("Adagrad", {"eps": 0.0, "eps_root": 0.5}),
    ("Adadelta", {}),
    ("Adadelta", {"rho": 0.6, "eps": 0.1}),
    ("RMSprop", {"alpha": 0.8}),
    ("RMSprop", {"eps": 0.5}),
    ("RMSprop", {"eps": 0.0, "eps_root": 0.5}),
    ("RMSprop", {"initial_square_avg": 1.0}),
    ("RMSprop", {"centered": True, "alpha": 0.8}),
    ("RMSprop", {"centered": True, "alpha": 0.8, "eps_root": 0.5, "initial_square_avg": 1.0}),
    ("RMSprop", {"momentum": 0.8}),
    ("RMSprop", {"momentum": 0.8, "nesterov": True}),
    ("RMSprop", {"momentum": 0.8, "centered": True, "alpha": 0.8}),
    ("RMSprop", {"momentum": 0.8, "centered": True, "alpha": 0.8, "nesterov": True}),
    ("RMSprop", {"momentum": 0.8, "lr_in_buffer": True}),
    ("RMSprop", {"momentum": 0.8, "lr_in_buffer": True, "nesterov": True}),
    ("RMSprop", {"momentum": 0.8, "lr_in_buffer": True, "centered": True, "alpha": 0.8, "nesterov": True}),
    ("RMSprop", {"lr_in_buffer": True}),
    ("Adam", {}),
    ("Adam", {"betas": (0.7, 0.95), "eps": 0.1}),
    ("Adam", {"eps": 0.0, "eps_root": 0.1}),
    ("Adam", {"eps": 0.1, "eps_hat": True}),
    ("Adam", {"eps": 0.1, "bias_correction": False}),
    ("Adam", {"eps": 0.1, "bias_correction": False, "eps_hat": True}),
    ("Adam", {"betas": (0.9, 0.6), "amsgrad": True}),
    ("Adam", {"betas": (0.9, 0.6), "amsgrad": True, "eps": 0.1, "eps_hat": True}),
    ("Adam", {"betas": (0.9, 0.6), "amsgrad": "corrected", "eps_root": 0.1}),
    ("Adam", {"betas": (0.9, 0.6), "amsgrad": "corrected", "bias_correction": False}),
    ("Adam", {"betas": (0.9, 0.6), "amsgrad": "corrected", "bias_correction": "exp_avg"}),
    ("Adam", {"betas": (0.9, 0.6), "amsgrad": "corrected", "bias_correction": "exp_avg_sq"}),
    ("Adam", {"betas": (0.9, 0.6), "amsgrad": True, "bias_correction": "exp_avg"}),
    ("Adam", {"eps": 0.1, "bias_correction": "exp_avg_sq", "eps_hat": True}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.2, "amsgrad": True}),
    ("NAdam", {}),
    ("NAdam", {"momentum_decay": 1.0}),
    ("NAdam", {"momentum_decay": None}),
    ("NAdam", {"momentum_decay": 1.0, "mu_product": "float64"}),
    ("NAdam", {"momentum_decay": None, "mu_product": "beta1", "weight_decay": 0.1, "weight_decay_mode": "decoupled"}),
    ("NAdam", {"mu_product": "beta1"}),
    ("NAdam", {"eps": 0.0, "eps_root": 0.1, "betas": (0.8, 0.9)}),
    ("LARS", {}),
    ("LARS", {"weight_decay": 0.1}),
    ("LARS", {"weight_decay": 0.1, "trust_coefficient": 0.3, "eps": 0.5}),
    ("LARS", {"weight_decay": 0.1, "denominator": "sum"}),
    ("LARS", {"weight_decay": 0.1, "denominator": "sum", "eps": 0.5}),
    ("LARS", {"trust_coefficient": 0.3, "trust_clip": True}),
    ("LARS", {"always_adapt": False}),
    ("LARS", {"always_adapt": False, "weight_decay": 0.1}),
    ("LARS", {"nesterov": True}),
    ("LARS", {"dampening": 0.3}),
    ("LARS", {"weight_decay": 0.1, "lr_in_buffer": True}),
    ("LARS", {"lr_in_buffer": True, "nesterov": True, "denominator": "sum", "weight_decay": 0.1}),
    ("LARS", {"lr_in_buffer": True, "trust_coefficient": 0.3, "trust_clip": True}),
    ("LARS", {"lr_in_buffer": True, "momentum": 0.0}),
    ("LARS", {"momentum": 0.0, "weight_decay": 0.1}),
    ("LARS", {"momentum": 0.0, "dampening": 0.3}),
    ("LAMB", {}),
    ("LAMB", {"betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.3}),
    ("LAMB", {"eps": 0.0, "eps_root": 0.1}),
    ("LAMB", {"bias_correction": False}),
    ("LAMB", {"grad_averaging": False}),
    ("LAMB", {"trust_clip": 1.0}),
    ("LAMB", {"trust_clip": None}),
    ("LAMB", {"weight_decay": 0.0}),
    ("LAMB", {"weight_decay": 0.0, "always_adapt": False}),
    ("LAMB", {"weight_decay": 0.1, "always_adapt": False}),
    *recent_formulas.OPTIONS,
]


def name_of(case):
    optimizer, options = case
    return "-".join([optimizer, *(f"{name}={value}".replace(" ", "") for name, value in options.items())])


@pytest.mark.parametrize(("optimizer", "options"), OPTIONS, ids=map(name_of, OPTIONS))
def test_option(optimizer, options):
    compare(optimizer, options)


WITH_OWN_MODE = {"LARS": "direction", "LAMB": "direction", **recent_formulas.OWN_MODE}


@pytest.mark.parametrize("mode", ["l2", "decoupled", "independent", "of its own"])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("optimizer", FORMULAS)
def test_weight_decay_modes_and_ascent(optimizer, mode, maximize):
    if mode == "of its own":
        mode = WITH_OWN_MODE.get(optimizer, "direction")
        for other in {"direction", "proximal"} - {WITH_OWN_MODE.get(optimizer)}:
            with pytest.raises(ValueError, match="weight_decay_mode must be one of"):
                getattr(fo.optim, optimizer)(np.ones(2), weight_decay_mode=other)
        if optimizer not in WITH_OWN_MODE:
            return
    if mode in ("decoupled", "independent") and optimizer in recent_formulas.MEASURED_BEFORE_DECAY:
        return
    compare(optimizer, {"weight_decay": 0.02, "weight_decay_mode": mode, "maximize": maximize})


def test_every_option_is_tested():
    """All constructor arguments appear above with another value than their default."""
    tried = {(optimizer, name) for optimizer, options in OPTIONS for name in options}
    everywhere = {"params", "lr", "weight_decay", "weight_decay_mode", "maximize"}
    everywhere |= {"state_format", "state_rounding", "state_seed"}  # test_state_formats.py
    everywhere |= {"param_rounding"}  # test_bfloat16.py
    assert FORMULAS.keys() == set(OPTIMIZERS) == {optimizer for optimizer, _ in OPTIONS}
    made = (getattr(fo.optim, optimizer)(np.ones(2), **options) for optimizer, options in OPTIONS)
    assert {rule for opt in made for rule in opt.rules(opt.groups[0])} == set(RULES) - {"muon"}
    for optimizer in FORMULAS:
        covered = {name for known, name in tried if known in (optimizer, "Adam" if optimizer == "AdamW" else optimizer)}
        assert inspect.signature(getattr(fo.optim, optimizer)).parameters.keys() - everywhere <= covered, optimizer


# ---- other libraries ------------------------------------------------------------------------------

OTHERS = [
    dict(np.load(Path(__file__).parents[1] / "golden" / f"{name}.npz"))
    for name in ("other_libraries", "recent_optimizers")
]
CASES = [
    (recorded, case, trajectory)
    for recorded in OTHERS
    for case, trajectory in zip(json.loads(str(recorded["cases"])), recorded["trajectories"], strict=True)
]


def split(flat, recorded):
    shapes = json.loads(str(recorded["shapes"]))
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape).copy() for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


@pytest.mark.parametrize(
    ("recorded", "case", "trajectory"), CASES,
    ids=[f"{case['library']}-" + name_of((case["optimizer"], case["kwargs"])) for _, case, _ in CASES],
)  # fmt: skip
def test_other_library(recorded, case, trajectory):
    lr = case["lr"]
    params = split(recorded["x0"], recorded)
    if case["here"] == "Muon":
        params = [p.reshape(len(p), -1) for p in params]
    # Keras keeps the product of the momenta in the parameters' type.
    more = {"mu_product": "float64"} if case["optimizer"] == "Nadam" else {}
    opt = getattr(fo.optim, case["here"])(
        params, lr=lr.__getitem__ if isinstance(lr, list) else lr, **case["arguments"], **more
    )
    found = []
    for grads in recorded["grads"]:
        opt.step([g.reshape(p.shape) for g, p in zip(split(grads, recorded), params, strict=True)])
        if case["library"].endswith("in evaluation"):
            opt.eval()
        found.append(flat(params))
        opt.train()
    np.testing.assert_allclose(found, trajectory, rtol=1e-12, atol=1e-14)


# ---- momentum -------------------------------------------------------------------------------------


def rosenbrock_gradient(p):
    x, y = p
    return np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


@pytest.mark.parametrize("nesterov", [False, True])
def test_lr_in_buffer_differs_once_the_learning_rate_changes(nesterov):
    options = {"momentum": 0.9, "nesterov": nesterov}

    def run(rate, lr_in_buffer):
        return np.concatenate([p.reshape(-1) for p in compare("SGD", {**options, "lr_in_buffer": lr_in_buffer}, rate)])

    np.testing.assert_allclose(run(lambda t: 0.1, True), run(lambda t: 0.1, False), rtol=1e-12, atol=1e-14)
    assert np.abs(run(falling, True) - run(falling, False)).max() > 0.01


@pytest.mark.parametrize(
    ("lr_in_buffer", "rate"), [(True, lambda t: 1e-4), (True, lambda t: 1e-4 / (1 + 0.1 * t)), (False, lambda t: 1e-4)]
)
def test_nesterov_takes_the_gradient_ahead(lr_in_buffer, rate):
    """v = alpha v - lr grad(theta + alpha v), theta += v; the optimizer holds theta + alpha v."""
    alpha, theta, v, furthest = 0.9, np.array([-1.2, 1.0]), np.zeros(2), 0.0
    ahead = theta.copy()
    opt = fo.optim.SGD(ahead, lr=rate, momentum=alpha, nesterov=True, lr_in_buffer=lr_in_buffer)
    for t in range(100):
        opt.step(rosenbrock_gradient(ahead))
        v = alpha * v - rate(t) * rosenbrock_gradient(theta + alpha * v)
        theta = theta + v
        np.testing.assert_allclose(ahead, theta + alpha * v, rtol=1e-11)
        furthest = max(furthest, norm(theta - ahead))
    assert furthest > 0.01


@pytest.mark.parametrize("optimizer", ["SGD", "RMSprop"])
@pytest.mark.parametrize("lr_in_buffer", [False, True])
def test_a_scheduled_momentum_may_be_zero(optimizer, lr_in_buffer):
    """It is then no momentum, in the step in which it is 0."""
    own = {"lr_in_buffer": lr_in_buffer} if optimizer == "SGD" else {}
    p, plain = np.ones(3), np.ones(3)
    opt = getattr(fo.optim, optimizer)(p, lr=0.1, momentum=lambda step: 0.5 if step > 2 else 0.0, **own)
    without = getattr(fo.optim, optimizer)(plain, lr=0.1)
    for g in (0.5, -0.2, 2.0):
        opt.step(np.full(3, g))
        without.step(np.full(3, g))
        np.testing.assert_allclose(p, plain, rtol=1e-14, atol=1e-14)
    opt.step(np.ones(3))
    without.step(np.ones(3))
    assert (p != plain).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rounding_makes_no_negative_variance(backend, momentum):
    gradients = np.geomspace(1e-3, 1e3, 64, dtype=np.float32)
    p = np.zeros_like(gradients)
    opt = fo.optim.RMSprop(p, lr=1e-12, alpha=0.95, centered=True, momentum=momentum)
    state, negative = opt.state["0"], False
    for step in range(600):
        opt.step(gradients)
        if step % 20 == 0:
            negative |= (state["square_avg"] < state["grad_avg"] ** 2).any()
            assert np.isfinite(p).all()
    assert np.isfinite(p).all()
    assert negative, "the plain difference never became negative: this test tests nothing"


# ---- trust ratios ---------------------------------------------------------------------------------


def make_trust(optimizer, params, **options):
    return getattr(fo.optim, optimizer)(params, lr=0.1, **options)


@pytest.mark.parametrize("optimizer", ["LARS", "LAMB"])
def test_a_zero_norm_makes_the_ratio_one(optimizer):
    params = {"w": np.zeros(3), "b": np.ones(3), "empty": np.zeros(0), "both": np.zeros(2)}
    grads = {"w": np.ones(3), "b": np.zeros(3), "empty": np.zeros(0), "both": np.zeros(2)}
    opt = make_trust(optimizer, params, weight_decay=0.0)
    opt.step(grads)
    assert opt.trust_ratios == {"w": 1.0, "b": 1.0, "empty": 1.0, "both": 1.0}
    np.testing.assert_allclose(params["w"], -0.1, rtol=1e-5)
    np.testing.assert_array_equal(params["b"], 1.0)


def test_decay_alone_is_a_direction():
    """Without a gradient, LAMB's direction is decay w, and LARS's step is SGD's."""
    w = {"w": np.full(4, 3.0)}
    opt = make_trust("LAMB", w, weight_decay=0.5)
    opt.step({"w": np.zeros(4)})
    assert opt.trust_ratios["w"] == pytest.approx(2.0, rel=1e-15)
    np.testing.assert_allclose(w["w"], 3.0 - 0.1 * 2.0 * 0.5 * 3.0)
    w = {"w": np.full(4, 3.0)}
    opt = make_trust("LARS", w, weight_decay=0.5)
    opt.step({"w": np.zeros(4)})
    assert opt.trust_ratios["w"] == 1.0
    np.testing.assert_allclose(w["w"], 3.0 - 0.1 * 0.5 * 3.0)


@pytest.mark.parametrize(
    ("trust_clip", "ratio"), [({}, 10.0), ({"trust_clip": 1.0}, 1.0), ({"trust_clip": None}, 50.0)]
)
def test_lamb_clips_its_ratio(trust_clip, ratio):
    """In the first step without decay every element of the direction has size 1."""
    w = {"w": np.full(7, 50.0)}
    opt = make_trust("LAMB", w, weight_decay=0.0, eps=1e-12, **trust_clip)
    opt.step({"w": np.full(7, -0.3)})
    assert opt.trust_ratios["w"] == pytest.approx(ratio, rel=1e-9)
    np.testing.assert_allclose(w["w"], 50.0 + 0.1 * ratio, rtol=1e-9)


@pytest.mark.parametrize("lr", [0.0, 0.001, 5.0])
def test_lars_clips_its_rate(lr):
    """The rate of a tensor, lr times its ratio, is at most the smaller of lr and the trust ratio."""
    w = np.full(4, 3.0)
    opt = fo.optim.LARS({"w": w}, lr=lr, trust_coefficient=0.1, trust_clip=True)
    opt.step({"w": np.full(4, 2.0)})
    unclipped = 0.1 * norm(np.full(4, 3.0)) / norm(np.full(4, 2.0))
    np.testing.assert_allclose(w, 3.0 - min(lr, unclipped) * 2.0, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["LARS", "LAMB"])
def test_ratios_are_per_tensor(optimizer):
    """A tensor moves as it does alone, whatever stands beside it; one flat buffer of all would move otherwise."""
    params, grads = problem()
    together, flat = [p.copy() for p in params], np.concatenate([p.reshape(-1) for p in params])
    opt, flat_opt = make_trust(optimizer, together), make_trust(optimizer, flat)
    alone = [make_trust(optimizer, p) for p in params]
    for given in grads:
        opt.step(given)
        flat_opt.step(np.concatenate([g.reshape(-1) for g in given]))
        for one, g in zip(alone, given, strict=True):
            one.step(g)
    for i, p in enumerate(params):
        assert p.tobytes() == together[i].tobytes()
        assert opt.trust_ratios[str(i)] == alone[i].trust_ratios["0"]
    assert len(set(opt.trust_ratios.values())) == len(params)
    assert not np.allclose(flat, np.concatenate([p.reshape(-1) for p in together]), rtol=1e-3)


def test_groups_without_adaptation():
    """Biases without decay take Adam's step, beside weights that take LAMB's."""
    params, grads = problem()
    expected = params[1].copy()
    adam_opt = fo.optim.Adam(expected, lr=0.1, eps=1e-6)
    opt = make_trust(
        "LAMB", [{"params": params[:1]}, {"params": params[1:2], "weight_decay": 0.0, "always_adapt": False}]
    )
    for given in grads:
        opt.step([given[:1], given[1:2]])
        adam_opt.step(given[1])
        np.testing.assert_allclose(params[1], expected, rtol=1e-12)
    weights, biases = opt.trust_ratios.values()
    assert biases == 1.0 != weights


@pytest.mark.parametrize("optimizer", ["LARS", "LAMB"])
def test_clipping_by_norm_comes_before_the_ratio(optimizer):
    def clipped(grads):
        total = math.sqrt(sum(norm(g) ** 2 for g in grads))
        return [g * min(1.0, 4.5 / total) for g in grads]

    norms = [math.sqrt(sum(norm(g) ** 2 for g in grads)) for grads in problem()[1]]
    assert min(norms) < 4.5 < max(norms)
    compare(optimizer, {"weight_decay": 0.1}, prepare_grads=clipped, clip_norm=4.5)


@pytest.mark.parametrize("optimizer", ["LARS", "LAMB"])
def test_clipping_per_tensor_comes_before_the_ratio(optimizer):
    def clipped(grads):
        return [g * min(1.0, 0.5 / norm(g)) for g in grads]

    compare(optimizer, {"weight_decay": 0.1}, prepare_grads=clipped, clip_norm_per_tensor=0.5)
