"""State files: what is saved comes back to the bit, a crash leaves the old file, a bad file is refused."""

import os

import numpy as np
import pytest
from helpers import OPTIMIZERS

import fastopt as fo


def make(name, seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": rng.standard_normal((5, 3)), "b": rng.standard_normal(3).astype(np.float32)}
    return params, getattr(fo.optim, name)(params, lr=0.01)


def run(opt, steps, seed):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        opt.step({"w": rng.standard_normal((5, 3)), "b": rng.standard_normal(3).astype(np.float32)})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resuming_from_a_file_equals_never_having_stopped(name, tmp_path):
    params, opt = make(name)
    run(opt, 5, seed=1)
    fo.save(tmp_path / "state", {"params": params, "opt": opt.state_dict()})
    run(opt, 5, seed=2)

    resumed, again = make(name, seed=9)
    saved = fo.load(tmp_path / "state")
    for key, array in resumed.items():
        array[...] = saved["params"][key]
    again.load_state_dict(saved["opt"])
    run(again, 5, seed=2)
    for key in params:
        assert params[key].tobytes() == resumed[key].tobytes()
    assert again.step_count == opt.step_count == 10


def test_every_kind_of_value_comes_back(tmp_path):
    values = {
        "none": None,
        "numbers": [1, -0.0, float("inf"), True, 2**60],
        "text": "ü/x",
        "empty": {"dict": {}, "list": [], "array": np.zeros((0, 3), np.float32)},
        "0-d": np.array(3.0),
        "bits": np.array([np.nan, -0.0, 5e-324]),
    }
    fo.save(tmp_path / "file", values)
    loaded = fo.load(tmp_path / "file")
    assert repr(loaded) == repr(values)
    assert loaded["bits"].tobytes() == values["bits"].tobytes()


@pytest.mark.parametrize("bad", [{"x": object()}, {1: 2}, {"x": np.array([None])}, {"x": {"y": {2, 3}}}])
def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(bad, tmp_path):
    path = tmp_path / "file"
    fo.save(path, {"old": 1})
    with pytest.raises(TypeError, match=r"cannot be saved|no strings"):
        fo.save(path, bad)
    assert fo.load(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["file"]


def test_a_crash_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    fo.save(path, {"old": np.arange(3)})
    before = path.read_bytes()

    def crash(*_):
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, crash)
            with pytest.raises(KeyboardInterrupt):
                fo.save(path, {"new": np.arange(1000)})
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["file"]


def test_truncated_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "file"
    _, opt = make("Adam")
    fo.save(path, opt.state_dict())
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a whole file of fastopt's"):
            fo.load(path)
    middle = whole.index(b"NUMPY") + 150
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match="not a whole file of fastopt's"):
        fo.load(path)
    np.savez(tmp_path / "foreign.npz", x=np.arange(3))
    np.save(tmp_path / "foreign.npy", np.arange(3))
    for name in ("foreign.npz", "foreign.npy"):
        with pytest.raises(ValueError, match="not a whole file of fastopt's"):
            fo.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        fo.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda d: d.pop("state"), ValueError, "has no state"),
        (lambda d: d.update(step_count=-1), ValueError, "step_count"),
        (lambda d: d.update(groups=[]), ValueError, "0 groups, the optimizer 1"),
        (lambda d: d.update(groups=None), TypeError, "groups must be a list"),
        (lambda d: d["groups"][0].update(lr=-1.0), ValueError, "lr"),
        (lambda d: d["groups"][0].update(amsgrad=True), ValueError, "amsgrad=True, the optimizer False"),
        (lambda d: d["groups"][0].update(rho=0.1), ValueError, "rho"),
        (lambda d: d["state"].pop("w"), ValueError, r"\['b'\]"),
        (lambda d: d["state"]["w"].pop("exp_avg"), ValueError, "exp_avg_sq"),
        (lambda d: d["state"]["w"].update(exp_avg=np.zeros(2)), ValueError, r"\(2,\).*\(5, 3\)"),
        (lambda d: d["state"]["b"].update(exp_avg=np.zeros(3)), ValueError, "float64.*float32"),
        (lambda d: d["state"].update(b=3), TypeError, "must be a dict, not int"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_whole(change, error, says):
    _, opt = make("Adam")
    run(opt, 2, seed=1)
    before = opt.state_dict()
    other = opt.state_dict()
    other["step_count"] = 77
    other["state"]["w"]["exp_avg"] += 1
    change(other)
    with pytest.raises(error, match=says):
        opt.load_state_dict(other)
    after = opt.state_dict()
    assert after["step_count"] == before["step_count"]
    assert after["groups"] == before["groups"]
    for name, state in before["state"].items():
        for key, array in state.items():
            assert after["state"][name][key].tobytes() == array.tobytes()
