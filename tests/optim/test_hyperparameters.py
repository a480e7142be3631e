"""Hyperparameters: schedules, groups with values of their own, and setting them between two steps."""

import numpy as np
import pytest
from helpers import OPTIMIZERS
from recorded import GOLDEN, flat, make, tensors

import fastopt as fo


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
    assert flat(p).tobytes() == GOLDEN["x0"].tobytes() or name == "Rprop"  # whose steps have a smallest size
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


def test_what_a_group_refuses():
    opt = fo.optim.SGD(np.ones(2))
    with pytest.raises(KeyError, match="SGD has no hyperparameter 'betas', only lr"):
        opt.groups[0]["betas"] = (0.9, 0.99)
    with pytest.raises(TypeError, match="lr cannot be removed"):
        del opt.groups[0]["lr"]
    with pytest.raises(TypeError, match="step_count must be an int, not float"):
        opt.step_count = 1.0
    with pytest.raises(TypeError, match="the state dict must be a dict, not list"):
        opt.load_state_dict([])
    with pytest.raises(ValueError, match=r"lr_in_buffer has no dampening, so dampening must be 0, not 0\.1"):
        fo.optim.SGD(np.ones(2), momentum=0.9, dampening=0.1, lr_in_buffer=True)
