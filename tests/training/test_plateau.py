"""fo.ReduceOnPlateau: PyTorch's rates, in fit and by hand, refused options, and resuming."""

import math

import numpy as np
import pytest
from fitting import network, problem

import fastopt as fo
from fastopt.training import session

X, Y = problem()
NAN = math.nan
VALUES = [1.0, 0.9, 0.95, 0.9, 0.8999, 0.91, 0.5, 0.6, NAN, 0.55, 0.5, 0.6, 0.7, 0.499, 0.4, 0.6, 0.6]

# Options, and the rates of two groups after each value, as torch.optim.lr_scheduler.ReduceLROnPlateau 2.13.0 sets them.
RECORDED = [
    (
        {"patience": 1, "factor": 0.5, "mode": "min"},
        [0.1] * 3 + [0.05] * 5 + [0.025] * 2 + [0.0125] * 2 + [0.00625] * 4 + [0.003125],
        [0.03] * 3 + [0.015] * 5 + [0.0075] * 2 + [0.00375] * 2 + [0.001875] * 4 + [0.0009375],
    ),
    (
        {"mode": "max", "patience": 0, "factor": 0.3, "cooldown": 2, "min_lr": [0.001, 0.02]},
        [0.1] + [0.03] * 3 + [0.009] * 3 + [0.0026999999999999997] * 3 + [0.001] * 7,
        [0.03] + [0.02] * 16,
    ),
    (
        {"patience": 1, "threshold": 0.06, "threshold_mode": "abs", "eps": 1e-3, "cooldown": 1, "mode": "min"},
        [0.1] * 3 + [0.010000000000000002] * 5 + [0.0010000000000000002] * 9,
        [0.03] * 3 + [0.003] * 5 + [0.00030000000000000003] * 9,
    ),
]


def two_groups():
    return fo.optim.SGD([{"params": {"a": np.zeros(2)}, "lr": 0.1}, {"params": {"b": np.zeros(2)}, "lr": 0.03}])


@pytest.mark.parametrize(("options", "first", "second"), RECORDED, ids=["min", "max", "abs"])
def test_the_rates_are_those_of_pytorch(options, first, second):
    opt, plateau, rates = two_groups(), fo.ReduceOnPlateau("loss", **options), []
    for value in VALUES:
        plateau.step(value, opt)
        rates.append([group["lr"] for group in opt.groups])
    assert rates == [list(pair) for pair in zip(first, second, strict=True)]


def run_of(monkeypatch, values, **options):
    """A run whose validation losses are these."""
    left, model = iter(values), network()
    validate = session.Session.validate
    with monkeypatch.context() as patched:
        patched.setattr(session.Session, "validate", lambda self: {**validate(self), "val_loss": next(left)})
        opt = fo.optim.Adam(model.parameters(), lr=0.1)
        options = {"epochs": len(values), **options}
        history = fo.fit(model, X, Y, optimizer=opt, rng=1, validation=(X, Y), **options)
    return model, opt, history


def test_a_resumed_run_has_the_same_bits(monkeypatch, tmp_path):
    values, path = VALUES[:9], tmp_path / "run.npz"

    def plateau():
        return fo.ReduceOnPlateau(patience=1, cooldown=1, factor=0.5)

    whole = run_of(monkeypatch, values, callbacks=plateau())
    assert whole[2].lr[0] == 0.1
    assert whole[2].lr[-1] == 0.05
    for stop in (3, 5, 7):
        run_of(monkeypatch, values[:stop], callbacks=plateau(), checkpoint=path)
        resumed = run_of(monkeypatch, values[stop:], epochs=9, callbacks=plateau(), resume_from=path)
        assert resumed[0].fingerprint() == whole[0].fingerprint()
        assert resumed[2].lr == whole[2].lr
        assert resumed[1].lr == whole[1].lr


def test_it_watches_what_is_recorded_and_knows_what_is_to_rise():
    model = network()
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    rising = fo.ReduceOnPlateau("accuracy", patience=0, factor=0.5)
    history = fo.fit(model, X, Y, optimizer=opt, epochs=2, rng=0, callbacks=rising)
    assert rising.best == max(history.accuracy)
    for monitor, message in (("val_loss", "ReduceOnPlateau monitors 'val_loss', which is not recorded.*validation"),
                             ("los", "which is not recorded: loss, accuracy, lr are")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            fo.fit(model, X, Y, optimizer=opt, epochs=2, callbacks=fo.ReduceOnPlateau(monitor))
    assert opt.step_count == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"factor": 1.0}, ValueError, r"factor must be a finite number in \[0, 1\), not 1.0"),
        ({"patience": -1}, ValueError, "patience must be at least 0, not -1"),
        ({"threshold_mode": "relative"}, ValueError, "threshold_mode must be"),
        ({"mode": "up"}, ValueError, "mode must be"),
        ({"min_lr": [0.1, "x"]}, TypeError, r"min_lr\[1\] must be a number, not str"),
        ({"eps": NAN}, ValueError, "eps must be a finite number"),
        ({"monitor": 3}, TypeError, "monitor must be a str, not int"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        fo.ReduceOnPlateau(**options)


def test_what_it_cannot_reduce_is_refused_before_training():
    model = network()
    for lr, plateau, message in (
        (lambda step: 0.1, fo.ReduceOnPlateau("loss"), "lr is a schedule, .*: ReduceOnPlateau reduces a rate"),
        (0.1, fo.ReduceOnPlateau("loss", min_lr=[0.0, 0.1]), "min_lr has 2 numbers, the optimizer 1 groups"),
    ):
        opt, before = fo.optim.SGD(model.parameters(), lr=lr), model.fingerprint()
        with pytest.raises(ValueError, match=message):
            fo.fit(model, X, Y, optimizer=opt, epochs=2, callbacks=plateau)
        assert model.fingerprint() == before
    plateau = fo.ReduceOnPlateau("loss")
    plateau.step(1.0, opt)
    state = plateau.state_dict()
    for wrong, message in (
        ({**state, "monitor": "accuracy"}, "the checkpoint monitors 'accuracy', this run 'loss'"),
        ({**state, "best": NAN}, "best is NaN"),
        ({**state, "bad_epochs": -1}, "bad_epochs must be at least 0"),
        ({"best": 1.0}, "a state of ReduceOnPlateau has"),
    ):
        with pytest.raises(ValueError, match=message):
            plateau.load_state_dict(wrong)
        assert plateau.state_dict() == state
