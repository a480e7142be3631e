"""Checkpoints changed in every leaf: what is refused has changed nothing."""

import copy
import warnings

import numpy as np
import pytest
from fitting import problem

import fastopt as fo
from fastopt import nn

X, Y = problem(rows=40)


class Counts:
    """A callback with a state that it checks only while it takes it over."""

    count = 0

    def on_epoch(self, run):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]
        if not isinstance(self.count, int):
            raise RuntimeError("no count")


def made(rng=None):
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm(3), nn.Dropout(0.3), nn.Linear(3, 1), rng=0)
    opt = fo.optim.Adam(model.parameters(), lr=0.01)
    return model, opt, [fo.EarlyStopping(patience=9), Counts()], np.random.Generator((rng or np.random.PCG64)(7))


def fit(parts, epochs=2, **options):
    model, opt, callbacks, generator = parts
    return fo.fit(model, X, Y, optimizer=opt, rng=generator, callbacks=callbacks, epochs=epochs, batch_size=16,
                  validation=(X, Y), ema=0.5, **options)  # fmt: skip


def whole_state(parts):
    model, opt, callbacks, generator = parts
    states = [each.state_dict() for each in (model, opt, *callbacks)]
    return states, opt.grad_norm, generator.bit_generator.state, opt.lr


def leaves(node, path=()):
    if isinstance(node, (dict, list)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    yield path, node


def changed(value):
    """Other values in the place of this one."""
    yield from (None, "other", -1, 10**30, 0.5, [], {}, np.zeros(2))
    if isinstance(value, np.ndarray):
        yield from (value.astype(np.complex64), value[None], np.full_like(value, -7 % 2**31))
        if value.dtype.kind == "f":
            yield from (np.full_like(value, np.nan), np.full_like(value, np.inf), -np.ones_like(value))
    elif isinstance(value, dict):
        yield dict(list(value.items())[1:])
        yield {**value, "more": 0}
    elif isinstance(value, list):
        yield value[1:]
        yield [*value, 0]
    elif isinstance(value, int):
        yield value + 1
        yield -value
        yield bool(value)
    elif isinstance(value, float):
        yield float("nan")


def put(tree, path, value):
    *above, last = path
    for key in above:
        tree = tree[key]
    tree[last] = value


# Of a part with many leaves, not every change of each is tried by default.
ONE_IN = {"model": 7, "optimizer": 11, "average": 7, "history": 5, "callbacks": 5, "rng": 2}


@pytest.mark.parametrize("one_in", [ONE_IN, pytest.param({}, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("rng", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_what_is_refused_has_changed_nothing(rng, one_in, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    fit(made(rng), checkpoint=path)
    whole = fo.load(path)
    only = None if rng is np.random.PCG64 else "rng"  # of the other generators the numbers alone
    parts = made(rng)
    before = whole_state(parts)
    tried = refused = accepted = 0
    for where, value in leaves(whole):
        if not where or (only and where[0] != only) or (where[0] == "run" and len(where) > 1):
            continue
        for i, other in enumerate(changed(value)):
            tried += 1
            if (tried + i) % one_in.get(where[0], 1):
                continue
            state = copy.deepcopy(whole)
            put(state, where, other)
            monkeypatch.setattr("fastopt.training.checkpoints.load", lambda path, state=state: state)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    fit(parts, epochs=2, resume_from=path)
                except ValueError:
                    refused += 1
                    np.testing.assert_equal(whole_state(parts), before, err_msg=f"{where}: {other!r}")
                else:
                    accepted += 1
                    assert where[0] in ("run", "model", "optimizer", "average", "history", "callbacks", "rng"), where
                    parts = made(rng)
    assert refused > accepted


@pytest.mark.parametrize(("rng", "most"), [(np.random.MT19937, 624), (np.random.Philox, 4)])
@pytest.mark.parametrize("beyond", [True, False])
def test_the_next_random_number_lies_within_their_array(rng, most, beyond, tmp_path):
    """NumPy takes any place, and reads there."""
    path = tmp_path / "run.npz"
    fit(made(rng), checkpoint=path)
    state = fo.load(path)
    holder = state["rng"]["state"] if rng is np.random.MT19937 else state["rng"]
    (key,) = holder.keys() & {"pos", "buffer_pos"}
    holder[key] = most + 1 if beyond else -1
    fo.save(path, state)
    with pytest.raises(ValueError, match=f"{key} of its random numbers must be from 0 to {most}, not {holder[key]}"):
        fit(made(rng), resume_from=path)


def test_an_epoch_to_come_cannot_have_been_the_best(tmp_path):
    path = tmp_path / "run.npz"
    fit(made(), checkpoint=path)
    state = fo.load(path)
    state["callbacks"][0]["best_epoch"] = 3
    fo.save(path, state)
    with pytest.raises(ValueError, match="the best epoch, 3, is to come: 2 are over"):
        fit(made(), epochs=4, resume_from=path)


def test_a_model_refuses_running_statistics_that_cannot_be():
    model = made()[0]
    before = model.state_dict()
    for name, value, message in (
        ("1.running_var", -1.0, r"'1\.running_var' is negative in the state dict: -1\.0"),
        ("1.running_var", np.nan, r"'1\.running_var' holds NaN"),
        ("1.running_mean", np.inf, r"'1\.running_mean' holds NaN or infinity"),
        ("1.num_batches_tracked", -3, r"'1\.num_batches_tracked' is negative in the state dict: -3"),
    ):
        with pytest.raises(ValueError, match=message):
            model.load_state_dict({**before, name: np.full_like(before[name], value)})
        np.testing.assert_equal(model.state_dict(), before)
    with pytest.raises(ValueError, match=r"'running_var' is negative"):
        nn.BatchNorm(1).load_state_dict({**nn.BatchNorm(1).state_dict(), "running_var": -np.ones(1, np.float32)})


def test_a_state_dict_of_views_of_the_model_itself():
    model = nn.Linear(3, 3)
    expected = model.weight.T.copy()
    model.load_state_dict({"weight": model.weight.T, "bias": model.bias})
    np.testing.assert_array_equal(model.weight, expected)


# -- what differs --


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 8}, "batch_size was 16, and is 8 now"),
        ({"loss": "mse"}, r"loss was LogisticLoss\(\), and is SquaredError\(\) now"),
        ({"X": X + 1}, r"X was \(40, 5\) with checksum \w+, and is \(40, 5\) with"),
        ({"y": ~Y}, "y was"),
        ({"sample_weight": np.ones(40)}, "sample_weight was none, and is"),
        ({"validation": (X, ~Y)}, "validation was"),
        ({"shuffle": False}, "shuffle was True, and is False now"),
        ({"accumulate": 2}, "accumulate was 1, and is 2 now"),
        ({"clip_norm": 1.0}, "clip_norm was none, and is 1.0 now"),
        ({"on_nonfinite": "skip"}, "on_nonfinite was raise, and is skip now"),
        ({"rng": 8}, "rng began elsewhere"),
        ({"lr": 0.5}, r"lr was 0\.01 at first, and is 0\.5 now \(the one now is used"),
        ({"lr": lambda step: 0.1}, r"lr was 0\.01 at first, and is a schedule now \(the one now is used"),
    ],
    ids=str,
)
def test_what_differs_from_the_run_that_is_gone_on_with_is_said(options, message, tmp_path):
    def run(X=X, y=Y, lr=0.01, epochs=2, **options):
        model = made()[0]
        opt = fo.optim.Adam(model.parameters(), lr=lr)
        options = {"rng": 7, "batch_size": 16, "validation": (X, Y), **options}
        fo.fit(model, X, y, optimizer=opt, epochs=epochs, **options)
        return opt

    path = tmp_path / "run.npz"
    run(checkpoint=path)
    run(resume_from=path, epochs=3)  # without a warning: it is an error here
    run(X=X.astype(np.float64), resume_from=path, epochs=3, validation=(X, Y))  # what the model is given is the same
    with pytest.warns(UserWarning, match=message):
        opt = run(**{"validation": (X, Y), **options}, resume_from=path, epochs=3)
    assert opt.lr == (0.1 if callable(options.get("lr")) else options.get("lr", 0.01))
