"""The optimizers: recorded trajectories, plain formulas, and everything the step takes.

What is asked of all optimizers runs over ``optim.__all__``; the one table to extend for a new one is COVERED.
"""

import inspect
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import BACKENDS, DTYPES, OPTIMIZERS, bits, use

import fastopt as fo
from fastopt.rules import RULES

GOLDEN = np.load(Path(__file__).parent / "golden" / "torch_optimizers.npz")

# How many of the 47 recorded cases each optimizer takes. All of them: SGD 9, Adam 5, AdamW 5, NAdam 7, Adagrad 7,
# Adadelta 6, RMSprop 8. An optimizer that PyTorch has not stands here with 0 and in PLAIN below.
COVERED = {"SGD": 9, "Adam": 5, "AdamW": 5, "NAdam": 7, "Adagrad": 7, "Adadelta": 6, "RMSprop": 8, "LARS": 0, "LAMB": 0}

# PyTorch's arguments that go by another name here.
RENAMED = {("decoupled_weight_decay", True): ("weight_decay_mode", "decoupled")}


def recorded():
    """The recorded cases that the optimizers there are can be made for: name, arguments, trajectory."""
    found = []
    for case, trajectory in zip(json.loads(str(GOLDEN["cases"])), GOLDEN["trajectories"], strict=True):
        arguments = dict(RENAMED.get(item, item) for item in case["kwargs"].items())
        made = getattr(fo.optim, case["optimizer"], None)
        if made and arguments.keys() <= inspect.signature(made).parameters.keys():
            found.append(
                pytest.param(case["optimizer"], arguments, trajectory, id=f"{case['optimizer']}-{case['desc']}")
            )
    return found


RECORDED = recorded()
CASES = pytest.mark.parametrize(("name", "arguments"), [pytest.param(*c.values[:2], id=c.id) for c in RECORDED])


def tensors(flat, dtype=np.float64):
    """The 27 numbers of the recorded problem as its 3 tensors."""
    shapes = json.loads(str(GOLDEN["shapes"]))
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape).astype(dtype) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def flat(arrays):
    return np.concatenate([array.reshape(-1) for array in arrays])


def make(name, params, **arguments):
    return getattr(fo.optim, name)(params, **arguments)


# ---- recorded trajectories ------------------------------------------------------------------------


def test_every_optimizer_and_rule_is_covered():
    assert set(COVERED) == set(OPTIMIZERS)
    assert {name: sum(c.values[0] == name for c in RECORDED) for name in OPTIMIZERS} == COVERED
    cases = [c.values[:2] for c in RECORDED] + [(name, h) for name, _, h in PLAIN]
    assert {name for name, _ in cases} == set(OPTIMIZERS)
    assert {make(name, np.ones(2), **h).groups[0].rule for name, h in cases} == set(RULES)


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


WITH_DIRECTION = ("LARS", "LAMB")  # what has the weight decay mode "direction"


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


@pytest.mark.parametrize("driver", DRIVER)
@FORMULAS
def test_plain_formula(name, update, h, driver):
    options, clipping = DRIVER[driver]
    if options.get("weight_decay_mode") == "direction" and name not in WITH_DIRECTION:
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
    by_step, by_hand = tensors(GOLDEN["x0"]), tensors(GOLDEN["x0"])
    one, other = make(name, by_step, lr=0.1, **options), make(name, by_hand, lr=0.1, weight_decay=0.0)
    for t in range(5):
        one.step(tensors(GOLDEN["grads"][t]), **clipping)
        decayed, grads = drive(options, clipping, 0.1, by_hand, tensors(GOLDEN["grads"][t]))
        for param, value in zip(by_hand, decayed, strict=True):
            param[...] = value
        other.step(grads)
        np.testing.assert_allclose(flat(by_step), flat(by_hand), rtol=1e-11, atol=1e-14)


# ---- hyperparameters ------------------------------------------------------------------------------


def test_a_schedule_is_given_the_number_of_steps_done(backend, rng):
    asked = []

    def lr(step):
        asked.append(step)
        return 0.5 / (1 + step)

    p, expected = rng.standard_normal(5), None
    expected = p.copy()
    opt = fo.optim.SGD(p, lr=lr)
    for step in range(3):
        g = rng.standard_normal(5)
        opt.step(g)
        expected -= 0.5 / (1 + step) * g
        np.testing.assert_allclose(p, expected, rtol=1e-14)
    assert asked == [0, 1, 2]
    assert opt.lr == 0.5 / 4


@pytest.mark.parametrize(
    ("name", "hyperparameter", "values"),
    [
        ("SGD", "momentum", (0.9, 0.5, 0.7)),
        ("SGD", "weight_decay", (0.0, 0.1, 0.2)),
        ("Adam", "betas", ((0.9, 0.99), (0.8, 0.9), (0.5, 0.6))),
        ("Adam", "eps", (1e-8, 1e-4, 1e-2)),
        ("AdamW", "weight_decay", (0.3, 0.0, 0.1)),
    ],
)
def test_any_number_may_be_a_schedule(name, hyperparameter, values):
    """As much as setting it by hand before every step."""
    others = {"momentum": 0.9} if name == "SGD" and hyperparameter != "momentum" else {}
    scheduled, by_hand = tensors(GOLDEN["x0"]), tensors(GOLDEN["x0"])
    one = make(name, scheduled, **{"lr": 0.1, **others, hyperparameter: lambda step: values[step]})
    other = make(name, by_hand, **{"lr": 0.1, **others, hyperparameter: values[0]})
    for t in range(3):
        other.groups[0][hyperparameter] = values[t]
        for opt in (one, other):
            opt.step(tensors(GOLDEN["grads"][t]))
    assert flat(scheduled).tobytes() == flat(by_hand).tobytes()


def test_a_scheduled_momentum_may_be_zero(backend):
    p = np.ones(3)
    fo.optim.SGD(p, lr=0.5, momentum=lambda step: 0.0).step(np.ones(3))
    np.testing.assert_array_equal(p, 0.5)


def test_groups_have_hyperparameters_of_their_own(backend, rng):
    w, b, c = rng.standard_normal((3, 4)), rng.standard_normal(4).astype(np.float32), rng.standard_normal(2)
    together = [x.copy() for x in (w, b, c)]
    groups = [
        {"params": {"w": together[0]}, "lr": 0.3},
        {"params": {"b": together[1], "c": together[2]}, "momentum": 0.9},
    ]
    opt = fo.optim.SGD(groups, lr=0.1, weight_decay=0.01)
    first = fo.optim.SGD({"w": w}, lr=0.3, weight_decay=0.01)
    second = fo.optim.SGD({"b": b, "c": c}, lr=0.1, momentum=0.9, weight_decay=0.01)
    for t in range(3):
        dw, db, dc = rng.standard_normal(w.shape), rng.standard_normal(4).astype(np.float32), rng.standard_normal(2)
        if t == 1:
            opt.step({"c": dc, "w": dw, "b": db})  # one dict with all names
        else:
            opt.step([{"w": dw}, {"c": dc, "b": db}])  # a structure per group
        first.step({"w": dw})
        second.step({"b": db, "c": dc})
    for found, expected in zip(together, (w, b, c), strict=True):
        assert found.tobytes() == expected.tobytes()
    assert [group["lr"] for group in opt.groups] == [0.3, 0.1]
    opt.lr = 0.5
    assert [group["lr"] for group in opt.groups] == [0.5, 0.5]


def test_groups_of_lists(backend):
    a, b = np.ones(2), np.ones(3)
    opt = fo.optim.SGD([{"params": [a]}, {"params": [b], "lr": 1.0}], lr=0.5)
    opt.step([[np.ones(2)], [np.ones(3)]])
    np.testing.assert_array_equal(a, 0.5)
    np.testing.assert_array_equal(b, 0.0)
    assert list(opt.state) == ["groups[0].0", "groups[1].0"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_setting_the_learning_rate(name):
    p = tensors(GOLDEN["x0"])
    opt = make(name, p, lr=0.0, weight_decay=0.0)
    opt.step(tensors(GOLDEN["grads"][0]))
    assert flat(p).tobytes() == GOLDEN["x0"].tobytes()
    opt.lr = 0.1
    assert opt.lr == 0.1
    opt.step(tensors(GOLDEN["grads"][1]))
    assert flat(p).tobytes() != GOLDEN["x0"].tobytes()


def test_what_decides_the_state_cannot_be_changed_later():
    opt = fo.optim.SGD(np.ones(3), momentum=0.9)
    for name, value in (("momentum", 0.0), ("nesterov", True), ("weight_decay_mode", "decoupled"), ("maximize", True)):
        with pytest.raises(ValueError, match=f"{name} cannot become"):
            opt.groups[0][name] = value
    opt.groups[0]["momentum"] = 0.5
    with pytest.raises(KeyError, match="no hyperparameter 'betas'"):
        opt.groups[0]["betas"] = (0.9, 0.99)


# ---- norms ----------------------------------------------------------------------------------------


def test_grad_norm(backend):
    a, b = np.ones(2, np.float32), np.ones(1)
    opt = fo.optim.SGD([a, b], lr=1.0)
    opt.step([np.array([3.0, 0.0], np.float32), np.array([4.0])])
    assert opt.grad_norm is None
    opt.step([np.array([3.0, 0.0], np.float32), np.array([4.0])], clip_norm=math.inf)
    assert opt.grad_norm == 5.0
    opt.step([np.array([3.0, 0.0], np.float32), np.array([4.0])], clip_norm=0.5, grad_scale=-2.0)
    assert opt.grad_norm == 10.0
    np.testing.assert_allclose(a, [1 - 6 + 0.3, 1])
    opt.step([np.zeros(2, np.float32), np.zeros(1)], clip_norm=1.0)
    assert opt.grad_norm == 0.0


def test_clipping_with_an_empty_tensor(backend):
    a, empty = np.ones(2), np.empty((0, 3))
    opt = fo.optim.Adam([empty, a, np.empty(0)], lr=0.1)
    opt.step([np.empty((0, 3)), np.array([3.0, 4.0]), np.empty(0)], clip_norm=1.0)
    assert opt.grad_norm == 5.0
    opt.step([np.empty((0, 3)), np.array([3.0, 4.0]), np.empty(0)], clip_norm_per_tensor=1.0)
    assert (a < 1).all()


def test_a_factor_per_tensor_holds_for_its_step_only(backend):
    p = np.zeros(2)
    opt = fo.optim.SGD(p, lr=1.0)
    opt.step(np.array([3.0, 4.0]), clip_norm_per_tensor=1.0)
    np.testing.assert_allclose(p, [-0.6, -0.8])
    opt.step(np.array([3.0, 4.0]))
    np.testing.assert_allclose(p, [-3.6, -4.8])


# ---- stopping and going on ------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["pickle", "npz"])
@CASES
def test_resuming_equals_never_having_stopped(name, arguments, through, tmp_path):
    def step(opt, t):
        opt.step(tensors(GOLDEN["grads"][t], np.float32), clip_norm=3.0)

    whole = tensors(GOLDEN["x0"], np.float32)
    opt = make(name, whole, **arguments)
    for t in range(15):
        step(opt, t)

    parts = tensors(GOLDEN["x0"], np.float32)
    stopped = make(name, parts, **arguments)
    for t in range(6):
        step(stopped, t)
    saved, file = stopped.state_dict(), tmp_path / "state"
    if through == "pickle":
        file.write_bytes(pickle.dumps((saved, parts)))
        saved, parts = pickle.loads(file.read_bytes())
    else:  # the state as arrays, what else there is as JSON
        names = [(n, key) for n, state in saved["state"].items() for key in state]
        with open(file, "wb") as opened:
            np.savez(opened, *parts, **{f"{n}/{key}": saved["state"][n][key] for n, key in names})
        rest = json.loads(json.dumps({key: saved[key] for key in ("step_count", "skipped_steps", "groups")}))
        with np.load(file) as loaded:
            parts = [loaded[f"arr_{i}"] for i in range(3)]
            state = {n: {} for n in saved["state"]}
            for n, key in names:
                state[n][key] = loaded[f"{n}/{key}"]
        saved = {**rest, "state": state}
    resumed = make(name, parts, **arguments)
    resumed.load_state_dict(saved)
    assert resumed.step_count == 6
    for t in range(6, 15):
        step(resumed, t)

    assert flat(parts).tobytes() == flat(whole).tobytes()
    for tensor, state in opt.state.items():
        for key, array in state.items():
            assert resumed.state[tensor][key].tobytes() == array.tobytes()
    assert resumed.step_count == opt.step_count == 15


def test_a_state_dict_is_a_copy():
    p = np.ones(3)
    opt = fo.optim.Adam(p)
    saved = opt.state_dict()
    opt.step(np.ones(3))
    assert saved["step_count"] == 0
    assert not saved["state"]["0"]["exp_avg"].any()
    saved = opt.state_dict()
    saved["state"]["0"]["exp_avg"][:] = 7
    assert opt.state["0"]["exp_avg"][0] < 1


def test_loading_keeps_schedules_and_takes_numbers():
    p = np.ones(3)
    saved = fo.optim.Adam(p, lr=0.5, eps=0.1).state_dict()
    opt = fo.optim.Adam(p, lr=lambda step: 0.25, eps=0.2)
    opt.load_state_dict(saved)
    assert opt.lr == 0.25
    assert opt.groups[0]["eps"] == 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_can_be_injected(name):
    """State and step count of another run, written by hand."""
    one, other = tensors(GOLDEN["x0"]), tensors(GOLDEN["x0"])
    opt, injected = make(name, one, lr=0.1), make(name, other, lr=0.1)
    opt.step(tensors(GOLDEN["grads"][0]))
    for key, state in opt.state.items():
        for s, array in state.items():
            injected.state[key][s][...] = array
    injected.step_count = opt.step_count
    for to, value in zip(other, one, strict=True):
        to[...] = value
    for each in (opt, injected):
        each.step(tensors(GOLDEN["grads"][1]))
    assert flat(one).tobytes() == flat(other).tobytes()


def test_state_lies_as_its_parameter_does():
    """At the same address modulo a cache line, whatever the parameter's."""
    for offset in range(16):
        p = np.zeros(100 + offset, np.float32)[offset:]
        for s in fo.optim.Adam(p).state["0"].values():
            assert (s.ctypes.data - p.ctypes.data) % 64 == 0
            assert s.shape == p.shape
            assert s.dtype == p.dtype


# ---- gradients ------------------------------------------------------------------------------------


def sgd_on_ones(params):
    return fo.optim.SGD(params, lr=1.0)


def test_the_forms_that_params_and_gradients_take(backend):
    for params, grads in [
        (lambda w, b: [w, b], lambda dw, db: [dw, db]),
        (lambda w, b: (w, b), lambda dw, db: (dw, db)),
        (lambda w, b: {"w": w, "b": b}, lambda dw, db: {"w": dw, "b": db}),
        (lambda w, b: {"w": w, "b": b}, lambda dw, db: {"b": db, "w": dw}),
        (lambda w, b: {"w": w, "b": b}, lambda dw, db: [dw, db]),
        (lambda w, b: [{"params": w}, {"params": b}], lambda dw, db: [dw, db]),
    ]:
        w, b = np.full((2, 3), 9.0), np.full(3, 9.0, np.float32)
        opt = sgd_on_ones(params(w, b))
        for i in range(1, 3):
            opt.step(grads(np.full((2, 3), 1.0), np.full(3, 2.0, np.float32)))
            np.testing.assert_array_equal(w, 9.0 - i)
            np.testing.assert_array_equal(b, 9.0 - 2 * i)


def test_keys_need_not_be_text():
    p = np.ones(3)
    sgd_on_ones({0: p}).step({0: np.ones(3)})
    np.testing.assert_array_equal(p, 0.0)


def test_keys_that_print_alike_are_refused():
    with pytest.raises(ValueError, match="1"):
        fo.optim.Adam({1: np.ones(3), "1": np.ones(3)})


def test_a_single_array(backend):
    w = np.ones((2, 2))
    opt = sgd_on_ones(w)
    opt.step(np.ones((2, 2)))
    opt.step([np.ones((2, 2))])
    np.testing.assert_array_equal(w, -1.0)


def test_nothing_to_update(backend):
    for nothing in ([], {}, np.empty(0), [np.empty((3, 0), np.float32)]):
        opt = fo.optim.Adam(nothing)
        for clipping in ({}, {"clip_norm": 1.0}, {"clip_norm_per_tensor": 1.0}):
            opt.step(
                nothing if isinstance(nothing, dict) or not len(nothing) else [np.empty((3, 0), np.float32)], **clipping
            )
        assert opt.step_count == 3


def test_no_dimensions(backend):
    p = np.array(1.0)
    sgd_on_ones(p).step(np.array(0.25))
    assert p == 0.75


def test_new_gradients_every_step_or_the_same_arrays(backend, rng):
    """The same numbers in the same arrays, in new ones, in non-contiguous and in read-only ones."""
    values = [[rng.standard_normal((30, 40)), rng.standard_normal(7)] for _ in range(5)]

    def run(grads_of):
        params = [np.ones((30, 40)), np.ones(7)]
        opt = fo.optim.Adam(params, lr=0.1)
        for step in range(5):
            opt.step(grads_of(step))
        return flat(params).tobytes()

    kept = [np.empty((30, 40)), np.empty(7)]
    kept_dict = {"0": kept[0], "1": kept[1]}

    def in_place(step, container):
        for array, value in zip(kept, values[step], strict=True):
            array[...] = value
        return container

    def strided(step):
        wide = np.empty((30, 80))
        wide[:, ::2] = values[step][0]
        return [wide[:, ::2], np.repeat(values[step][1], 3)[::3]]

    def frozen(step):
        grads = [value.copy() for value in values[step]]
        for grad in grads:
            grad.flags.writeable = False
        return grads

    expected = run(lambda step: [value.copy() for value in values[step]])
    assert run(lambda step: in_place(step, kept)) == expected
    assert run(lambda step: in_place(step, kept_dict)) == expected
    assert run(lambda step: tuple(in_place(step, kept))) == expected
    assert run(lambda step: [np.asfortranarray(values[step][0]), values[step][1][::-1][::-1]]) == expected
    assert run(strided) == expected
    assert run(frozen) == expected
    assert run(lambda step: strided(step) if step % 2 else in_place(step, kept)) == expected


def test_a_replaced_gradient_is_never_read_stale(backend):
    p, q = np.zeros(3), np.zeros(3)
    opt = sgd_on_ones({"p": p, "q": q})
    grads = {"p": np.full(3, 1.0), "q": np.full(3, 10.0)}
    opt.step(grads)
    grads["p"] = np.full(3, 2.0)  # in the same dict
    opt.step(grads)
    np.testing.assert_array_equal(p, -3.0)
    grads["p"] = np.full((6, 2), 3.0)[::2, 0]  # not contiguous: copied at every step
    opt.step(grads)
    grads["p"].base[...] = 4.0
    opt.step(grads)
    np.testing.assert_array_equal(p, -10.0)
    grads["p"], grads["q"] = grads["q"], np.full(3, 100.0)
    opt.step(grads)
    np.testing.assert_array_equal(p, -20.0)
    np.testing.assert_array_equal(q, -140.0)


def test_gradients_may_share_memory_with_each_other(backend):
    p, q, g = np.zeros(3), np.zeros(3), np.arange(4.0)
    sgd_on_ones([p, q]).step([g[:3], g[1:]])
    np.testing.assert_array_equal(p, [0, -1, -2])
    np.testing.assert_array_equal(q, [-1, -2, -3])
    sgd_on_ones([p, q]).step([g[:3], g[:3]])
    np.testing.assert_array_equal(q, [-1, -3, -5])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_side_by_side_in_one_arena(name, backend):
    """Views of one array that touch but do not overlap, off the cache line."""
    arena = np.arange(1.0, 21.0)
    together = make(name, [arena[1:4], arena[4:4], arena[4:17]], lr=0.1)
    apart = arena[1:4].copy(), arena[4:17].copy()
    alone = make(name, list(apart), lr=0.1)
    for _ in range(3):
        together.step([np.ones(3), np.empty(0), np.ones(13)])
        alone.step([np.ones(3), np.ones(13)])
    assert arena[1:17].tobytes() == flat(apart).tobytes()
    assert (arena[[0, 17, 18, 19]] == [1, 18, 19, 20]).all()


def test_an_optimizer_keeps_the_backend_it_was_made_with():
    use("numpy")
    p = np.ones(3)
    opt = sgd_on_ones(p)
    use("numba")
    opt.step(np.ones(3))
    np.testing.assert_array_equal(p, 0.0)
    assert type(opt._plan).__module__ == "fastopt._backends.numpy"
