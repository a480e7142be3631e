"""fo.TrainingStep: a step of a loop of one's own, as `fit` does it."""

import sys
from collections import Counter

import numpy as np
import pytest
from fitting import network, problem
from helpers import HAVE_C
from raising import raising_at
from together import in_threads

import fastopt as fo
from fastopt import nn

X, Y = problem(rows=64)
LABELS = np.random.default_rng(3).integers(0, 3, 64)


def everything(outputs):
    """A network with all that changes in a forward pass."""
    return nn.Sequential(
        *(nn.Linear(5, 8), nn.BatchNorm(8, momentum=None), nn.ReLU(), nn.Dropout(0.2), nn.Highway(8), nn.BatchNorm(8)),
        *(nn.Residual(nn.Linear(8, 8), shortcut=nn.Linear(8, 8)), nn.Linear(8, outputs)),
        rng=0,
    )  # fmt: skip


class Absolute(fo.losses.Loss):
    def losses(self, z, y, dz):
        np.sign(z - y, out=dz)
        return abs(z - y)


LOSSES = {
    "logistic": (1, "logistic", Y),
    "weighted": (1, fo.losses.LogisticLoss(pos_weight=3.0), Y),
    "mse": (3, "mse", np.random.default_rng(4).standard_normal((64, 3), np.float32)),
    "cross_entropy": (3, "cross_entropy", LABELS),
    "classes": (3, fo.losses.CrossEntropy(weight=[1, 0.3, 2], ignore_index=1, label_smoothing=0.1), LABELS),
    "custom": (1, Absolute(), Y[:, None].astype(np.float32)),
}


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"clip_value": 0.01, "on_nonfinite": "skip"}], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_the_step_of_fit(loss, options, backend):
    outputs, criterion, y = LOSSES[loss]
    x, y = X[:13], y[:13]
    model, other = everything(outputs), everything(outputs)
    history = fo.fit(model, x, y, loss=criterion, optimizer=fo.optim.Adam(model.parameters(), lr=0.01), epochs=2,
                     shuffle=False, batch_size=8, **options)  # fmt: skip
    step = fo.TrainingStep(other, fo.optim.Adam(other.parameters(), lr=0.01), criterion, **options)
    for epoch in range(2):
        losses = [step(x[begin : begin + 8], y[begin : begin + 8]) for begin in range(0, 13, 8)]
        if loss != "classes":  # whose batches count as much as their labels weigh
            assert np.average(losses, weights=[8, 5]) == pytest.approx(history.loss[epoch], rel=1e-12)
    assert model.fingerprint() == other.fingerprint()


def test_weights_of_rows_are_relative():
    weight = np.random.default_rng(5).uniform(0, 2, 64)
    model, other = network(), network()
    history = fo.fit(model, X, Y, optimizer=fo.optim.SGD(model.parameters(), lr=0.1), epochs=4, shuffle=False,
                     batch_size=None, sample_weight=weight)  # fmt: skip
    step = fo.TrainingStep(other, fo.optim.SGD(other.parameters(), lr=0.1))
    assert [step(X, Y, 7 * weight) for _ in range(4)] == pytest.approx(history.loss, rel=1e-6)
    np.testing.assert_allclose(other.predict(X), model.predict(X), rtol=1e-5)


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
@pytest.mark.parametrize("layers", [2, 20])
def test_a_step_crosses_into_the_core_once(layers):
    fo.set_backend("c")
    fo.set_matmul("exact")
    middle = [
        layer for _ in range(layers - 2) for layer in (nn.Linear(8, 8), nn.BatchNorm(8), nn.Tanh(), nn.Dropout(0.1))
    ]
    model = nn.Sequential(nn.Linear(5, 8), *middle, nn.Linear(8, 1), rng=0)
    step = fo.TrainingStep(model, fo.optim.Adam(model.parameters()))
    targets = Y[:, None].astype(np.float32)
    step(X, targets)
    crossings, opcodes = [], []

    def watch(frame, event, function):
        if event == "c_call" and function.__name__.startswith("fastopt_"):
            crossings.append(function.__name__)
        elif event == "call":
            opcodes.append(frame.f_code.co_name)

    sys.setprofile(watch)
    try:
        step(X, targets)
    finally:
        sys.setprofile(None)
    assert crossings.count("fastopt_run") == 1
    assert set(crossings) == {"fastopt_run", "fastopt_pins_hold"}  # and a look at whether the arrays are as they were
    assert len(opcodes) < 30  # however many layers there are


def runs_of_fit(epochs, **options):
    """How often `fit` calls what there is of the core, by name."""
    model, calls = everything(1), []

    def watch(frame, event, function):
        if event == "c_call" and function.__name__.startswith("fastopt_"):
            calls.append(function.__name__)

    sys.setprofile(watch)
    try:
        fo.fit(model, X, Y, optimizer=fo.optim.Adam(model.parameters()), epochs=epochs, batch_size=16, **options)
    finally:
        sys.setprofile(None)
    return Counter(calls)


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
@pytest.mark.parametrize(
    "options",
    [{"clip_norm": 0.1, "ema": 0.9}, {"clip_norm_per_tensor": 0.1, "clip_value": 0.1}, {"grad_norm": True},
     {"accumulate": 2, "on_nonfinite": "skip"}, {"callbacks": {"batch": lambda run: None}}],
    ids=str,
)  # fmt: skip
def test_every_batch_of_fit_crosses_once_at_most(options, monkeypatch):
    monkeypatch.setattr("fastopt.training.epochs._SECONDS_AT_ONCE", 1e9)  # however busy the machine is
    fo.set_backend("c")
    fo.set_matmul("exact")
    runs_of_fit(1, **options)  # what is looked up once in a process
    more = runs_of_fit(5, **options) - runs_of_fit(3, **options)
    assert 0 < more["fastopt_run"] + more["fastopt_run_steps"] <= 2 * 4
    assert set(more) <= {
        "fastopt_run",
        "fastopt_run_steps",
        "fastopt_pins_hold",
        "fastopt_environment_enter",
        "fastopt_environment_leave",
    }


def test_a_step_of_the_optimizer_alone_comes_between(backend):
    """On other gradients, which are then not those of the next."""
    model, other = network(), network()
    step = fo.TrainingStep(model, opt := fo.optim.SGD(model.parameters(), lr=0.1))
    plain = fo.TrainingStep(other, fo.optim.SGD(other.parameters(), lr=0.1))
    for each in (step, plain):
        each(X, Y)
    opt.step({name: np.zeros_like(param) for name, param in model.parameters().items()})
    for each in (step, plain):
        each(X, Y)
    assert model.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": X[:, :3]}, ValueError, r"takes \(rows, 5\), and was given \(64, 3\)"),
        ({"x": X[0]}, ValueError, r"x has shape \(5,\): it must have rows and columns"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, r"x has shape \(0, 5\)"),
        ({"x": X.astype(str)}, TypeError, "x must hold real numbers"),
        ({"x": None}, TypeError, "x"),
        ({"y": Y[:63]}, ValueError, r"y has shape \(63, 1\), the model's output for as many rows has \(64, 1\)"),
        ({"y": 2 * Y}, ValueError, r"y must be in \[0, 1\]"),
        ({"x": np.where(X > 1, np.nan, X)}, FloatingPointError, "not finite"),
        ({"sample_weight": np.ones(3)}, ValueError, r"weight has shape \(3,\)"),
        ({"sample_weight": np.zeros(64)}, ValueError, "sample_weight is 0 in all rows"),
        ({"sample_weight": -np.ones(64)}, ValueError, "at least 0"),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)
@pytest.mark.parametrize("again", [False, True])
def test_what_is_refused_changes_nothing(change, error, message, again):
    model = everything(1)
    opt = fo.optim.Adam(model.parameters())
    step = fo.TrainingStep(model, opt)
    if again:
        step(X, Y)
        step(X, Y, np.ones(64))
    before, done = model.fingerprint(), opt.step_count
    with pytest.raises(error, match=message):
        step(**{"x": X, "y": Y, **change})
    assert (model.fingerprint(), opt.step_count) == (before, done)
    step(X, Y)


def test_a_label_of_no_class_is_refused():
    model = everything(3)
    step = fo.TrainingStep(model, fo.optim.Adam(model.parameters()), "cross_entropy")
    step(X, LABELS)
    before = model.fingerprint()
    with pytest.raises(FloatingPointError, match="not finite"):
        step(X, np.where(LABELS == 2, 3, LABELS))
    assert model.fingerprint() == before


def test_what_cannot_be_bound():
    model = network()
    with pytest.raises(TypeError, match=r"model must be a fastopt\.nn\.Layer"):
        fo.TrainingStep(len, None)
    with pytest.raises(TypeError, match=r"optimizer must be one of fastopt\.optim, not adam"):
        fo.TrainingStep(model, "adam")
    with pytest.raises(ValueError, match="which is not of this model"):
        fo.TrainingStep(network(hidden=3), fo.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="loss must be one of"):
        fo.TrainingStep(model, fo.optim.SGD(model.parameters(), lr=0.1), "hinge")
    with pytest.raises(ValueError, match="on_nonfinite must be"):
        fo.TrainingStep(model, fo.optim.SGD(model.parameters(), lr=0.1), on_nonfinite="pass")


def test_a_step_that_is_skipped_leaves_the_buffers():
    model = everything(1)
    opt = fo.optim.Adam(model.parameters())
    step = fo.TrainingStep(model, opt, on_nonfinite="skip")
    step(X, Y)
    before = model.fingerprint()
    assert np.isnan(step(np.where(X > 1, np.nan, X), Y))
    assert (model.fingerprint(), opt.step_count, opt.skipped_steps) == (before, 1, 1)


def test_attributes_and_arrays_that_change_between_steps():
    model, other = everything(1), everything(1)
    step = fo.TrainingStep(model, fo.optim.SGD(model.parameters(), lr=0.1))
    twin = fo.TrainingStep(other, fo.optim.SGD(other.parameters(), lr=0.1))
    for each in (step, twin):
        each(X, Y)
    model.layers[3].p = other.layers[3].p = 0.5
    model.layers[1].momentum = other.layers[1].momentum = 0.3
    other.load_state_dict(model.state_dict())
    for each in (step, twin):
        each(X, Y)
    assert model.fingerprint() == other.fingerprint()
    model.layers[0].params["weight"] = model.layers[0].params["weight"].copy()
    with pytest.raises(ValueError, match="was replaced"):
        step(X, Y)


def test_an_exception_at_any_instruction_leaves_a_whole_number_of_steps():
    model = everything(1)
    opt = fo.optim.Adam(model.parameters(), lr=0.01)
    step, targets = fo.TrainingStep(model, opt), Y[:, None].astype(np.float32)
    step(X, targets)
    states = {opt.step_count: model.fingerprint()}
    state, moments = model.state_dict(), opt.state_dict()
    step(X, targets)
    states[opt.step_count] = model.fingerprint()
    instructions, _ = raising_at(0, lambda: step(X, targets))
    assert instructions > 500
    for place in np.linspace(1, instructions, 150).astype(int):
        model.load_state_dict(state)
        opt.load_state_dict(moments)
        assert raising_at(place, lambda: step(X, targets))[1]
        assert states[opt.step_count] == model.fingerprint(), place


def test_threads_take_turns():
    model = everything(1)
    opt = fo.optim.SGD(model.parameters(), lr=0.01)
    step = fo.TrainingStep(model, opt)
    in_threads(*[lambda: [step(X, Y) for _ in range(50)]] * 4)
    other = everything(1)
    twin = fo.TrainingStep(other, fo.optim.SGD(other.parameters(), lr=0.01))
    for _ in range(200):
        twin(X, Y)
    assert model.fingerprint() == other.fingerprint()
