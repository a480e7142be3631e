"""Gradients that are None, and parameters that come later: each parameter is as if it had an optimizer of its own."""

import math

import numpy as np
import pytest
from helpers import BACKENDS, OPTIMIZERS, use

import fastopt as fo

SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 2)}
MASKS = ["abc", "b", "ab", "ac", "c", "", "abc", "abc", "a", "bc", "abc"]
# All of them in the first backend; the others differ in how a rule is run, and not in which rule it is.
FEW = ["Adam", "LAMB", "NAdam", "AdamWScheduleFree"]
CASES = [
    (backend, name)
    for backend in BACKENDS
    for name in ([*OPTIMIZERS, "Muon"] if backend == BACKENDS[0] else ["Adam", "LAMB", "NAdam", "Muon"])
]


def tensors(rng, names=SHAPES, dtype=np.float32):
    return {name: rng.standard_normal(SHAPES[name]).astype(dtype) for name in names}


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_each_is_as_if_it_were_alone(backend, name):
    """With the bits of an optimizer over it alone, which does only the steps that it has a gradient in."""
    use(backend)
    rng = np.random.default_rng(0)
    kind, names = getattr(fo.optim, name), [n for n in SHAPES if name != "Muon" or n != "b"]
    params = tensors(rng, names)
    alone = {n: {n: p.copy()} for n, p in params.items()}
    opt, others = kind(params), {n: kind(p) for n, p in alone.items()}
    done = 0
    for mask in MASKS:
        grads = tensors(rng, names)
        given = {n: g if n in mask else None for n, g in grads.items()}
        opt.step(given)
        done += any(g is not None for g in given.values())
        for n in names:
            if n in mask:
                others[n].step({n: grads[n]})
        assert opt.step_count == done
    for n in names:
        assert params[n].tobytes() == alone[n][n].tobytes(), n
        for key, state in opt.state[n].items():
            assert state.tobytes() == others[n].state[n][key].tobytes(), (n, key)


def test_schedules_go_on_for_those_left_out(backend):
    p = {"a": np.zeros(1), "b": np.zeros(1)}
    opt = fo.optim.SGD(p, lr=lambda step: 1.0 + step)
    opt.step({"a": np.ones(1), "b": None})
    opt.step({"a": np.ones(1), "b": np.ones(1)})
    assert (p["a"][0], p["b"][0]) == (-3.0, -2.0)


def test_norms_are_those_of_the_others(backend):
    for limit in ("clip_norm", "clip_norm_per_tensor"):
        p = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(1)}
        opt = fo.optim.SGD(p, lr=1.0)
        opt.step({"a": np.array([3.0, 4.0]), "b": None, "c": np.array([12.0])}, **{limit: 1.0})
        assert opt.grad_norm == 13.0
        assert p["c"][0] == pytest.approx(-12 / 13 if limit == "clip_norm" else -1.0)
        assert not p["b"].any()
        opt.step({"a": None, "b": None, "c": None}, **{limit: 1.0})
        assert opt.step_count == 1
        opt.step([np.zeros(2), np.array([5.0, 0.0]), None], **{limit: math.inf})
        assert opt.grad_norm == 5.0
        with pytest.raises(FloatingPointError, match="step 3: gradients hold inf or NaN: 'c'"):
            opt.step([None, np.ones(2), np.array([np.nan])])
        assert opt.step_count == 2


def test_trust_ratios_of_those_left_out_are_those_of_their_last_step(backend):
    p = {"a": np.full(2, 3.0), "b": np.full(2, 3.0)}
    opt = fo.optim.LAMB(p, lr=0.1)
    opt.step({"a": None, "b": np.ones(2)})
    first = opt.trust_ratios
    assert list(first) == ["a", "b"]
    assert first["a"] == 1.0 != first["b"]
    opt.step({"a": np.ones(2), "b": None})
    assert opt.trust_ratios["a"] != 1.0
    assert opt.trust_ratios["b"] == first["b"]


@pytest.mark.parametrize("name", ["Adam", "NAdam", "AdamWScheduleFree"])
def test_a_resumed_optimizer_knows_what_was_missed(name, backend, tmp_path):
    def made():
        params = tensors(np.random.default_rng(1))
        return params, getattr(fo.optim, name)(params)

    steps = [tensors(np.random.default_rng(i)) for i in range(8)]
    masks = ["ab", "a", "abc", "bc", "b", "abc", "ac", "abc"]

    def go(opt, begin, end):
        for grads, mask in zip(steps[begin:end], masks[begin:end], strict=True):
            opt.step({n: g if n in mask else None for n, g in grads.items()})

    whole, opt = made()
    go(opt, 0, 8)
    for stop in (2, 5):
        begun, stopped = made()
        go(stopped, 0, stop)
        fo.save(tmp_path / "state.npz", {"opt": stopped.state_dict(), "params": begun})
        saved = fo.load(tmp_path / "state.npz")
        params, resumed = made()
        for n, p in params.items():
            p[...] = saved["params"][n]
        resumed.load_state_dict(saved["opt"])
        go(resumed, stop, 8)
        for n, p in params.items():
            assert p.tobytes() == whole[n].tobytes()
        assert resumed.state_dict()["missed_steps"] == opt.state_dict()["missed_steps"]
    before = resumed.state_dict()
    for wrong, error in (({"d": 1}, ValueError), ({"a": 99}, ValueError), ({"a": True}, ValueError), ([1], TypeError)):
        with pytest.raises(error, match="missed_steps"):
            resumed.load_state_dict({**before, "missed_steps": wrong})
    assert resumed.state_dict()["missed_steps"] == before["missed_steps"]
    opt.eval()  # of Schedule-Free ones: the mean of a parameter that has not begun is the parameter
    fresh, late = made()
    late.step({"a": steps[0]["a"], "b": None, "c": None})
    kept = fresh["b"].copy()
    late.eval()
    assert fresh["b"].tobytes() == kept.tobytes()


# -- parameters that come later --


@pytest.mark.parametrize(("backend", "name"), [case for case in CASES if case[1] in FEW])
def test_added_groups_are_as_if_they_were_alone(backend, name):
    use(backend)
    rng = np.random.default_rng(0)
    kind, params = getattr(fo.optim, name), tensors(rng)
    alone = {n: {n: p.copy()} for n, p in params.items()}
    opt = kind({"a": params["a"]}, lr=0.01)
    others = {n: kind(p, lr=0.02 if n == "b" else 0.01) for n, p in alone.items()}
    state = dict(opt.state["a"])
    there = ["a"]
    for new, own in (("b", {"lr": 0.02}), ("c", {})):
        for _ in range(3):
            grads = tensors(rng, there)
            opt.step(grads)
            for n in there:
                others[n].step({n: grads[n]})
        opt.add_param_group({"params": {new: params[new]}, **own})
        there.append(new)
    grads = tensors(rng)
    opt.step(grads)
    opt.step([{n: grads[n]} for n in there])
    for n in there:
        others[n].step({n: grads[n]})
        others[n].step({n: grads[n]})
        assert params[n].tobytes() == alone[n][n].tobytes(), n
    assert [group["lr"] for group in opt.groups] == [0.01, 0.02, 0.01]
    assert all(opt.state["a"][key] is array for key, array in state.items())
    again = kind([{"params": {n: params[n].copy()}} for n in there])
    again.load_state_dict(opt.state_dict())
    assert again.state_dict()["missed_steps"] == {"b": 3, "c": 6}


def test_a_group_that_does_not_fit_changes_nothing():
    w, readonly = np.ones(4), np.ones(2)
    readonly.flags.writeable = False
    opt = fo.optim.Adam({"w": w}, lr=0.1)
    opt.step({"w": np.ones(4)})
    before, kept = opt.state_dict(), w.copy()
    for group, error, message in (
        ({"params": {"v": readonly}}, ValueError, "parameter 'v' is read-only"),
        ({"params": w[:2]}, ValueError, "overlap in memory"),
        ({"params": {"v": w}}, ValueError, "overlap in memory"),
        ({"params": {"v": np.ones(2)}, "momentum": 0.9}, TypeError, "Adam has no hyperparameter momentum"),
        ({"params": {"v": np.ones(2)}, "lr": -1}, ValueError, "lr must be"),
        ({"lr": 0.1}, ValueError, "group 1 has no 'params'"),
        ({"params": {"v": np.ones(2, int)}}, TypeError, "must be float32 or float64, not int64"),
        ([np.ones(2)], TypeError, "a group must be a dict with 'params', not list"),
    ):
        with pytest.raises(error, match=message):
            opt.add_param_group(group)
    after = opt.state_dict()
    assert (after["step_count"], after["groups"]) == (before["step_count"], before["groups"])
    opt.step({"w": np.ones(4)})
    assert (w != kept).all()
    free = fo.optim.SGDScheduleFree({"w": np.ones(2)})
    free.step({"w": np.ones(2)})
    free.eval()
    with pytest.raises(RuntimeError, match=r"call train\(\) before add_param_group"):
        free.add_param_group({"params": {"v": np.ones(2)}})


def test_arrays_that_were_replaced_are_noticed_in_a_part_of_them():
    params = {"a": np.ones(2), "b": np.ones(2)}
    opt = fo.optim.SGD(params, lr=1.0)
    opt.step({"a": np.ones(2), "b": None})
    params["b"] = np.ones(2)
    with pytest.raises(ValueError, match="parameter 'b' was replaced"):
        opt.step({"a": np.ones(2), "b": None})
    assert params["a"].tolist() == [0.0, 0.0]
