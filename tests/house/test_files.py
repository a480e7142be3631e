"""State files: what is saved comes back to the bit, a crash leaves the old file, a bad file is refused."""

import os
import pickle
import signal
import stat

import numpy as np
import pytest
from helpers import OPTIMIZERS
from raising import FILES, LEAVES_FILES_OPEN, raising_at

import fastopt as fo
from fastopt.saving import check_target


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


@LEAVES_FILES_OPEN
def test_an_exception_at_any_instruction_leaves_one_whole_file(tmp_path):
    path = tmp_path / "file"
    old, new = {"x": np.arange(3.0)}, {"x": np.arange(4.0)}
    fo.save(path, old)
    count, _ = raising_at(0, lambda: fo.save(path, new), FILES)
    seen = set()
    for place in range(1, count + 1, 2):
        fo.save(path, old)
        _, raised = raising_at(place, lambda: fo.save(path, new), FILES)
        assert raised
        assert os.listdir(tmp_path) == ["file"], place
        seen.add(len(fo.load(path)["x"]))
    assert seen == {3, 4}


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    fo.save(path, {"old": 1})

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        fo.save(path, {"new": np.arange(1000)})
    assert os.listdir(tmp_path) == ["file"]
    assert fo.load(path) == {"old": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a killed process is made by fork")
def test_what_a_killed_process_leaves_is_removed_and_what_another_writes_is_not(tmp_path):
    path = tmp_path / "file"
    fo.save(path, {"old": 1})
    child = os.fork()
    if child == 0:
        np.savez = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        fo.save(path, {"new": 1})
    os.waitpid(child, 0)
    (left,) = set(os.listdir(tmp_path)) - {"file"}
    with open(tmp_path / left, "rb") as writing:  # as if its process lived
        import fcntl

        fcntl.flock(writing, fcntl.LOCK_EX)
        fo.save(path, {"new": 2})
        assert (tmp_path / left).exists()
    fo.save(tmp_path / "other", {})  # of another file, nothing is removed
    assert (tmp_path / left).exists()
    fo.save(path, {"new": 3})
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]
    assert fo.load(path) == {"new": 3}


@pytest.mark.skipif(os.name != "posix", reason="modes and links are POSIX's")
def test_modes_and_links(tmp_path):
    before = os.umask(0o027)
    try:
        fo.save(tmp_path / "file", {})
        assert stat.S_IMODE(os.stat(tmp_path / "file").st_mode) == 0o640
        os.chmod(tmp_path / "file", 0o604)
        (tmp_path / "link").symlink_to("file")
        fo.save(tmp_path / "link", {"new": 1})
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert fo.load(tmp_path / "file") == {"new": 1}
    assert stat.S_IMODE(os.stat(tmp_path / "file").st_mode) == 0o604


def test_places_where_no_file_can_be(tmp_path):
    fo.save(tmp_path / ("n" * 250), {"x": 1})
    assert fo.load(tmp_path / ("n" * 250)) == {"x": 1}
    bad = [
        ("", ValueError, "must name a file"),
        ("a\0b", ValueError, "must name a file"),
        (3, TypeError, "not int"),
        (tmp_path, IsADirectoryError, "is a directory"),
        (tmp_path / "nowhere" / "file", FileNotFoundError, "no directory"),
        (tmp_path / ("n" * 300), OSError, "300 bytes"),
        (os.devnull, OSError, "no regular file"),
    ]
    model = fo.nn.Sequential(fo.nn.Linear(1, 1), rng=0)
    weights = model.state_dict()
    for path, error, says in bad:
        with pytest.raises(error, match=says):
            fo.save(path, {})
        opt = fo.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(error, match=says if path != 3 else "checkpoint must be a path, not int"):
            fo.fit(model, np.ones((4, 1)), np.ones(4), optimizer=opt, epochs=1, checkpoint=path)
    for name, array in model.state_dict().items():
        assert array.tobytes() == weights[name].tobytes()
    assert os.path.exists(os.devnull)
    assert os.listdir(tmp_path) == ["n" * 250]


def test_numpy_numbers_and_unusual_keys(tmp_path):
    numbers = [
        np.float32(0.1),
        np.int64(-(2**63)),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.float16(2),
        np.complex64(1j),
    ]
    keys = ["a\0b", "\ud800", "a\\b", "L" * 70_000, "", "/", "a/b", "fastopt", "file", "array 0"]
    state = {"numbers": numbers, **{key: np.full(1, i) for i, key in enumerate(keys)}}
    fo.save(tmp_path / "file", state)
    loaded = fo.load(tmp_path / "file")
    assert list(loaded) == list(state)
    with np.load(tmp_path / "file") as archive:
        assert not any("\\" in name for name in archive)  # Windows takes it for the separator of folders
    assert [(type(x), x.tobytes()) for x in loaded["numbers"]] == [(type(x), x.tobytes()) for x in numbers]
    assert [int(loaded[key][0]) for key in keys] == list(range(len(keys)))
    endless = []
    endless.append(endless)
    for bad in ({"x": endless}, {"x": np.ma.masked_array([1.0], [True])}, {"x": np.datetime64("2020-01-01")}):
        with pytest.raises((TypeError, ValueError), match=r"nested too deeply|masked|datetime64"):
            fo.save(tmp_path / "file", bad)
    assert list(fo.load(tmp_path / "file")) == list(state)


def test_a_model_mapped_into_memory_can_be_trained(tmp_path):
    joblib = pytest.importorskip("joblib", reason="joblib maps the arrays of a pickle into memory")
    model = fo.nn.Sequential(fo.nn.Linear(3, 4), fo.nn.BatchNorm(4), fo.nn.Dropout(0.5), fo.nn.Linear(4, 1), rng=0)
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
    for each in (model, model.layers[1], model.layers[0]):
        joblib.dump(each, tmp_path / "model")
        mapped = joblib.load(tmp_path / "model", mmap_mode="r")
        mapped(np.ones((4, 3 if each is not model.layers[1] else 4), np.float32))
        assert all(array.flags.writeable for array in mapped.arrays())
    again = pickle.loads(pickle.dumps(model))
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    for each in (mapped, again):
        fo.fit(each, X, y, optimizer=fo.optim.Adam(each.parameters(), lr=0.1), epochs=2, rng=0)
    for name, array in again.state_dict().items():
        assert array.tobytes() == mapped.state_dict()[name].tobytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="devices and pipes are POSIX's")
def test_what_is_no_regular_file_is_refused_without_being_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/urandom", "/dev/zero"):
        with pytest.raises(ValueError, match="no regular file"):
            fo.load(path)


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


def test_links_that_lead_nowhere_are_told_before_anything_is_written(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop' is a link that leads back to itself"):
        check_target(tmp_path / "loop")
    (tmp_path / "link").symlink_to("absent/file")
    with pytest.raises(FileNotFoundError, match=r"link': there is no directory '.*absent'"):
        fo.save(tmp_path / "link", {})
