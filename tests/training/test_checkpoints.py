"""Checkpoints of fastopt.fit: a run that is resumed equals one that never stopped, bit for bit."""

import os
import subprocess
import sys

import helpers
import numpy as np
import pytest
from fitting import assert_same_bits, problem
from helpers import OPTIMIZERS

import fastopt as fo
from fastopt import nn

X, Y = problem()
NO_CHECKPOINT = {"checkpoint": None, "resume_from": None}

# Every rule, and what else has a state of its own.
VARIANTS = [(name, {}) for name in OPTIMIZERS] + [
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {"amsgrad": True, "lr": lambda step: 0.01 / (1 + step / 5)}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
]


def model_of(dtype=np.float32):
    return nn.Sequential(
        nn.Linear(5, 8, dtype=dtype), nn.BatchNorm(8, dtype=dtype), nn.Tanh(), nn.Dropout(0.3),
        nn.Linear(8, 1, dtype=dtype), rng=0,
    )  # fmt: skip


def run(optimizer="Adam", hyperparameters=None, epochs=6, dtype=np.float32, **options):
    """The model, optimizer and History of a training."""
    model = model_of(dtype)
    opt = getattr(fo.optim, optimizer)(model.parameters(), **{"lr": 0.01, **(hyperparameters or {})})
    options = {"rng": 1, "validation": (X, Y), "clip_norm": 1.0, "ema": 0.9, "batch_size": 16, **options}
    history = fo.fit(model, X, Y, optimizer=opt, epochs=epochs, **options)
    return model, opt, history


def assert_equal_runs(one, other):
    assert_same_bits((one[0].state_dict(), one[2]), (other[0].state_dict(), other[2]))
    saved, expected = other[1].state_dict(), one[1].state_dict()
    for name, states in expected.pop("state").items():
        for key, state in states.items():
            np.testing.assert_array_equal(saved["state"][name][key], state, err_msg=f"{key} of {name}")
    del saved["state"]
    assert saved == expected


@pytest.mark.parametrize(("optimizer", "hyperparameters"), VARIANTS)
def test_a_resumed_run_equals_one_that_never_stopped(tmp_path, optimizer, hyperparameters):
    """Weights, running statistics, dropout, average, optimizer, order and History."""
    path = tmp_path / "run.npz"
    expected = run(optimizer, hyperparameters)
    first = run(optimizer, hyperparameters, epochs=2, checkpoint=path)
    assert len(first[2]) == 2
    assert_equal_runs(expected, run(optimizer, hyperparameters, resume_from=path))
    with pytest.warns(UserWarning, match="started otherwise: rng began elsewhere"):  # and is brought to its place
        assert_equal_runs(expected, run(optimizer, hyperparameters, resume_from=path, rng=99))


@pytest.mark.parametrize(
    "options",
    [
        {"ema": None, "clip_norm": None},
        {"accumulate": 3},
        {"shuffle": False},
        {"batch_size": None},
        {"on_nonfinite": "skip"},
        {"dtype": np.float64},
        {"rng": "MT19937"},
        {"rng": "Philox"},
    ],
    ids=str,
)
def test_resuming_with_other_options(tmp_path, options):
    def again():
        kind = options.get("rng")
        return {**options, **({"rng": np.random.Generator(getattr(np.random, kind)(7))} if kind else {})}

    path = tmp_path / "run.npz"
    expected = run(**again())
    run(epochs=3, checkpoint=path, checkpoint_every=2, **again())
    assert_equal_runs(expected, run(resume_from=path, **again()))


class Crash(Exception):
    pass


@pytest.mark.parametrize(("when", "last"), [((4, 0), 2), ((4, 3), 4), ((3, 2), 2), ((1, 2), None)])
@pytest.mark.parametrize("optimizer", ["Adam", "LAMB"])
def test_after_a_crash_between_checkpoints(tmp_path, optimizer, when, last):
    """The crash comes in the course of an epoch, or at its end; training goes on from the last checkpoint before."""
    path = tmp_path / "run.npz"
    expected = run(optimizer)

    def crash(run):
        if (run.epoch, run.batch) == when:
            raise Crash

    def crash_at_the_end(run):
        if run.epoch == when[0] and when[1] == 0:
            raise Crash

    fo.save(path, {"old": 1})
    with pytest.raises(Crash):
        run(optimizer, checkpoint=path, checkpoint_every=2, callbacks={"batch": crash, "epoch": crash_at_the_end})
    if last is None:
        assert fo.load(path) == {"old": 1}
        return
    assert fo.load(path)["epoch"] == last
    assert_equal_runs(expected, run(optimizer, resume_from=path))
    assert sorted(os.listdir(tmp_path)) == ["run.npz"]  # and no half-written file


def test_interruption_and_resumption(tmp_path):
    path = tmp_path / "run.npz"

    def interrupt(run):
        if (run.epoch, run.batch) == (3, 2):
            raise KeyboardInterrupt

    history = run(checkpoint=path, callbacks={"batch": interrupt})[2]
    assert history.interrupted
    resumed = run(resume_from=path)
    assert_equal_runs(run(), resumed)
    assert not resumed[2].interrupted


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(tmp_path):
    path, seen = tmp_path / "run.npz", []

    def look(run):
        if run.batch == 1:
            seen.append(fo.load(path)["epoch"] if path.exists() else None)

    watch = {"start": lambda run: seen.append(path.exists()), "batch": look}
    run(epochs=5, checkpoint=path, checkpoint_every=2, callbacks=watch)
    assert seen == [False, None, None, 2, 2, 4]
    assert fo.load(path)["epoch"] == 5
    run(epochs=5, checkpoint=path, checkpoint_every=9, callbacks={"epoch": lambda run: run.epoch == 3 and run.stop()})
    assert fo.load(path)["epoch"] == 3
    assert_equal_runs(run(), run(resume_from=path))


def test_a_run_that_is_over_has_nothing_left_to_do(tmp_path):
    path = tmp_path / "run.npz"
    expected = run(checkpoint=path)
    assert_equal_runs(expected, run(resume_from=path))
    assert_equal_runs(expected, run(resume_from=path, checkpoint=path, progress=False))


def test_early_stopping_is_resumed(tmp_path):
    path = tmp_path / "run.npz"

    def stopping():
        return fo.EarlyStopping("val_accuracy", patience=4)

    expected = run(epochs=40, callbacks=stopping())
    assert expected[2].stopped.startswith("no better")
    epochs, best = len(expected[2]), expected[2].best_epoch
    for cut in (best - 1, best, best + 2, epochs):
        run(epochs=max(cut, 1), checkpoint=path, callbacks=stopping())
        assert_equal_runs(expected, run(epochs=40, resume_from=path, callbacks=stopping()))


def test_a_callback_of_ones_own_is_resumed(tmp_path):
    class Count:
        def __init__(self):
            self.count = 0

        def on_epoch(self, run):
            self.count += run.epoch

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state_dict):
            self.count = state_dict["count"]

    path, first, second = tmp_path / "run.npz", Count(), Count()
    run(epochs=2, checkpoint=path, callbacks=[first, {"epoch": lambda run: None}])
    run(epochs=4, resume_from=path, callbacks=second)
    assert (first.count, second.count) == (3, 10)


PROGRAM = """
import sys
sys.path[:0] = {tests}
import test_checkpoints as t
t.run(checkpoint={path!r}, callbacks={{"batch": lambda run: run.epoch == 3 and run.batch == 2 and t.os._exit(9)}})
"""


def test_after_the_death_of_the_process(tmp_path):
    path = tmp_path / "run.npz"
    program = PROGRAM.format(tests=[os.path.dirname(file) for file in (__file__, helpers.__file__)], path=str(path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert fo.load(path)["epoch"] == 3
    assert_equal_runs(run(), run(resume_from=path))


# -- what is refused --


def changed(**values):
    return lambda state: {**state, **values}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda state: {"a": 1}, {}, "is not a run of fastopt.fit, but holds a"),
        (changed(), {"epochs": 1}, "is of a run of 2 epochs so far; epochs=1 is less"),
        (changed(rows=71), {}, "is of training on 71 rows, not on 70"),
        (changed(), {"ema": None}, "is of a run with ema, this one is not"),
        (changed(average=None), {}, "is of a run without ema, this one is not"),
        (changed(), {"ema": 0.5}, "the checkpoint's average has ema=0.9, this run 0.5"),
        (changed(), {"rng": np.random.Generator(np.random.MT19937(0))}, "random numbers of PCG64, rng of MT19937"),
        (changed(), {"callbacks": fo.EarlyStopping()}, "the states of 0 callbacks, this run 1 with any"),
        (
            lambda state: {**state, "model": {"0.weight": np.zeros(3)}},
            {},
            "does not fit this run: the state dict lacks",
        ),
        (changed(), {"dtype": np.float64}, "does not fit this run: '0.weight' is float32 in the state dict"),
        (changed(), {"optimizer": "LAMB"}, "does not fit this run: the state dict has hyperparameters"),
        (changed(), {"optimizer": "AdamW"}, "does not fit this run: .*weight_decay_mode='l2'"),
        (changed(history={}), {}, "does not fit this run: a history has"),
        (changed(epoch=1), {}, "does not fit this run: the history has 2 epochs, the run 1"),
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_fit(tmp_path, change, options, message):
    path = tmp_path / "run.npz"
    run(epochs=2, checkpoint=path)
    fo.save(path, change(fo.load(path)))
    options = {"epochs": 6, "resume_from": path, "rng": np.random.default_rng(3), **options}
    dtype, name = options.pop("dtype", np.float32), options.pop("optimizer", "Adam")
    model = model_of(dtype)
    opt = getattr(fo.optim, name)(model.parameters(), lr=0.5)
    weights, state, numbers = model.state_dict(), opt.state_dict(), options["rng"].bit_generator.state
    with pytest.raises(ValueError, match=message):
        fo.fit(model, X, Y, optimizer=opt, **{"ema": 0.9, "clip_norm": 1.0, "validation": (X, Y), **options})
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[key])
    np.testing.assert_equal(opt.state_dict(), state)
    np.testing.assert_equal(options["rng"].bit_generator.state, numbers)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resume_from": "none.npz"}, FileNotFoundError, "none.npz"),
        ({"resume_from": 3}, TypeError, "resume_from must be a path, not int"),
        ({"checkpoint": True}, TypeError, "checkpoint must be a path, not bool"),
        ({"checkpoint": "nowhere/run.npz"}, FileNotFoundError, "there is no directory 'nowhere'"),
        ({"checkpoint": ""}, ValueError, "checkpoint=path must name a file, not ''"),
        ({"checkpoint": "."}, IsADirectoryError, r"checkpoint='\.' is a directory, not a file"),
        ({"checkpoint": b"run.npz"}, TypeError, "checkpoint must be a path, not bytes"),
        ({"checkpoint": "a" * 256}, OSError, "the name has 256 bytes, 255 are possible"),
        ({"checkpoint": "a\0b"}, ValueError, "must name a file"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1, not 0"),
    ],
    ids=str,
)
def test_paths(tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run(**options)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["a" * 250, "a" * 255, "\N{SNOWMAN}" * 80])
def test_long_names(tmp_path, name):
    path = tmp_path / name
    run(epochs=2, checkpoint=path)
    assert_equal_runs(run(epochs=3), run(epochs=3, resume_from=path))
    assert os.listdir(tmp_path) == [name]


def test_numbers_of_numpy_in_the_state_of_a_callback(tmp_path):
    class Keeps:
        state = {"a": np.float32(0.5), "b": np.int64(3), "c": np.True_, "d": [np.float16(2), np.longdouble(1)]}  # noqa: RUF012
        loaded = None

        def on_epoch(self, run):
            pass

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.loaded = state

    path, keeps = tmp_path / "run.npz", Keeps()
    run(epochs=1, checkpoint=path, callbacks=keeps)
    run(epochs=2, resume_from=path, callbacks=keeps)
    assert keeps.loaded == {"a": 0.5, "b": 3, "c": True, "d": [2.0, 1.0]}


def test_a_damaged_checkpoint(tmp_path):
    path = tmp_path / "run.npz"
    run(epochs=1, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match="is not a whole file of fastopt's"):
        run(resume_from=path)
