"""Stopping and going on: state dicts, and what they restore."""

import json
import pickle

import numpy as np
import pytest
from helpers import OPTIMIZERS
from recorded import CASES, GOLDEN, flat, make, tensors

import fastopt as fo


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
