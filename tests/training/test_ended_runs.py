"""Runs that end by an error, or that are hardly what was meant: what is still told."""

import signal
import warnings

import numpy as np
import pytest
from fitting import network, problem

import fastopt as fo
from fastopt import nn
from fastopt.schedules import Constant, CosineAnnealing, Lambda, Linear, OneCycle, Polynomial

X, Y = problem()


class Bursts:
    """Gives an infinite gradient from a step on."""

    def __init__(self, first):
        self.first, self.steps = first, 0

    def forward(self, x):
        return x

    def backward(self, dy):
        self.steps += 1
        return dy * dy.dtype.type(np.inf if self.steps >= self.first else 1)


def fit(model, epochs=4, lr=0.1, momentum=0.0, **options):
    opt = fo.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    return fo.fit(model, X, Y, optimizer=opt, epochs=epochs, rng=1, validation=(X, Y), **options)


# -- errors --


def test_an_error_carries_the_history_and_all_are_told():
    model, stopping, ends = nn.Sequential(nn.Linear(5, 1, rng=0), Bursts(8)), fo.EarlyStopping(), []
    after = []
    watch = {"batch": lambda run: after.append(run.model.state_dict()),
             "end": lambda run: ends.append((run.error, len(run.history), run.model.state_dict()))}  # fmt: skip
    with pytest.raises(FloatingPointError, match="step 8: gradients hold inf or NaN") as caught:
        fit(model, callbacks=[watch, stopping], ema=0.5)
    history = caught.value.history
    assert len(history) == len(history.val_loss) == 2
    assert history.stopped.startswith("FloatingPointError: the gradients are not finite any more")
    assert history.best_epoch == stopping.best_epoch == 2
    ((error, epochs, weights),) = ends
    assert (error, epochs) == (caught.value, 2)
    for name, array in model.state_dict().items():  # those of the last step, and not the average or the best
        np.testing.assert_array_equal(array, after[-1][name])
        np.testing.assert_array_equal(array, weights[name])
    model.load_state_dict(stopping.best_weights)
    z = model(X)
    assert fo.logistic_loss(z, Y[:, None].astype(np.float32))[0] == pytest.approx(stopping.best, rel=1e-5)


@pytest.mark.parametrize("event", ["start", "batch", "epoch", "end"])
def test_an_error_in_a_callback(event):
    ends = []

    def fail(run):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        fit(network(), callbacks=[{event: fail}, {"end": lambda run: ends.append(run.error)}])
    assert ends == [caught.value]
    assert caught.value.history.stopped == "ZeroDivisionError: mine"


def test_an_error_at_the_end_does_not_hide_the_first():
    def fail(run):
        raise ValueError("another")

    model = nn.Sequential(nn.Linear(5, 1, rng=0), Bursts(2))
    with (
        pytest.warns(RuntimeWarning, match=r"""after FloatingPointError, .*"end" raised ValueError\('another'\)"""),
        pytest.raises(FloatingPointError),
    ):
        fit(model, callbacks={"end": fail})


def test_a_second_ctrl_c_carries_the_history_too():
    def twice(run):
        if run.epoch == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    ends = []
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(network(), callbacks={"batch": twice, "end": lambda run: ends.append(run.error)})
    assert len(caught.value.history) == 2
    assert ends == [caught.value]


def test_what_is_refused_before_the_run_carries_nothing():
    with pytest.raises(ValueError, match="batch_size") as caught:
        fit(network(), batch_size=0)
    assert not hasattr(caught.value, "history")


def test_a_run_whose_steps_were_all_skipped_says_so():
    model = nn.Sequential(nn.Linear(5, 1, rng=0), Bursts(4))
    with pytest.warns(RuntimeWarning, match="all 3 steps of epoch 2 were skipped, .* nothing was trained") as warned:
        history = fit(model, on_nonfinite="skip")
    assert len(warned) == 1
    assert history.skipped_steps == [0, 3, 3, 3]
    assert "9 steps skipped" in repr(history)


# -- modes --


def test_layers_that_were_put_into_evaluation_mode_one_by_one_are_told_of():
    model = nn.Sequential(nn.Linear(5, 4), nn.Residual(nn.Linear(4, 4), nn.BatchNorm(4)), nn.Linear(4, 1), rng=0)
    list(model.leaves())[2][1].eval()
    with pytest.warns(UserWarning, match=r"evaluation mode was set for .*\(BatchNorm\), but not for the whole model"):
        fit(model)
    assert not list(model.leaves())[2][1].training
    model.eval()
    fit(model)  # which is what a prediction by hand leaves behind
    assert not model.training


def test_a_callback_that_sets_evaluation_mode_changes_nothing():
    def model():
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm(6), nn.Dropout(0.4), nn.Linear(6, 1), rng=0)

    plain, evaluated = model(), model()
    expected = fit(plain)
    history = fit(evaluated, callbacks={"epoch": lambda run: run.model.eval()})
    assert history.loss == expected.loss
    for name, array in plain.state_dict().items():
        np.testing.assert_array_equal(evaluated.state_dict()[name], array, err_msg=name)


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Sequential(nn.Sigmoid())], ids=str)
def test_a_last_sigmoid_with_the_logistic_loss_is_told_of(last):
    model = nn.Sequential(nn.Linear(5, 1), last, rng=0)
    with pytest.warns(UserWarning, match="the model ends with a Sigmoid, and the logistic loss takes logits"):
        fit(model)
    fit(model, loss="mse")


# -- schedules --


class Mine:
    total_steps = 5

    def __call__(self, step):
        return 0.1


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (OneCycle(0.1, total_steps=11), 11),
        (OneCycle(0.1, total_steps=12), None),
        (2 * OneCycle(0.1, total_steps=7), 7),
        (OneCycle(0.1, total_steps=7) + 0.1, 7),
        (OneCycle(0.1, total_steps=5).warm_up(3), 8),
        (OneCycle(0.1, total_steps=3).every(3), 9),
        (OneCycle(0.1, total_steps=3).every(4), None),
        (Linear(0.1, 0.2, total_iters=2), None),
        (Linear(0.1, 0.0, total_iters=2), 2),
        (Polynomial(0.1, total_iters=4), 4),
        (CosineAnnealing(0.1, T_max=3), None),
        (Constant(0.1), None),
        (Lambda(lambda step: 0.1), None),
        (Mine(), 5),
    ],
    ids=str,
)
def test_schedules_that_end_before_training_does(schedule, end):
    """Of 12 steps."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fit(network(), lr=schedule)
    expected = [] if end is None else [f"ends after {end} steps, and training after 12: epochs times steps per epoch"]
    assert [str(each.message).partition(", ends ")[2] for each in warned] == [e.removeprefix("ends ") for e in expected]


def test_the_schedule_of_any_hyperparameter_and_in_steps_already_done():
    cycle = OneCycle(0.1, total_steps=20)
    with pytest.warns(UserWarning, match=r"the schedule of momentum, Momentum\(.* ends after 11 steps"):
        fit(network(), momentum=OneCycle(0.1, total_steps=11).momentum(0.8, 0.9))
    model = network()
    opt = fo.optim.SGD(model.parameters(), lr=cycle)
    fo.fit(model, X, Y, optimizer=opt, epochs=4)
    with pytest.warns(UserWarning, match="ends after 20 steps, and training after 24"):
        fo.fit(model, X, Y, optimizer=opt, epochs=4)
