"""The learning-rate range test: its rates and losses, what it suggests, and that it leaves no trace."""

import io
import signal

import numpy as np
import pytest
from fitting import network, problem
from helpers import OPTIMIZERS

import fastopt as fo
from fastopt import nn
from fastopt.training import RangeTest
from fastopt.training.range_test import _Divergence

X, Y = problem()


def whole_state(model, opt, generator=None):
    """Everything that training changes, as bytes and numbers."""
    state = opt.state_dict()
    arrays = {f"{key} of {name}": s for name, states in state.pop("state").items() for key, s in states.items()}
    arrays |= model.state_dict()
    numbers = generator.bit_generator.state if generator else None
    options = [dict(group) for group in opt.groups]
    return {name: array.tobytes() for name, array in arrays.items()}, state, numbers, options, opt.grad_norm


def deep():
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm(8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1), rng=0)


@pytest.mark.parametrize("validation", [None, (X, Y)])
@pytest.mark.parametrize(("mode", "rates"), [("exponential", np.geomspace), ("linear", np.linspace)])
def test_it_is_the_loop_one_would_write(mode, rates, validation):
    tested, model = network(dtype=np.float64), network(dtype=np.float64)
    result = fo.lr_range_test(tested, X, Y, optimizer=fo.optim.Adam(tested.parameters()), low=1e-3, high=0.5, steps=20,
                              mode=mode, validation=validation, rng=3, clip_norm=0.5)  # fmt: skip
    opt, rng, order, losses = fo.optim.Adam(model.parameters()), np.random.default_rng(3), [], []
    targets = Y[:, None].astype(float)
    for lr in rates(1e-3, 0.5, 20):
        if not len(order):
            order = rng.permutation(70)
        batch, order = order[:32], order[32:]
        opt.lr = float(lr)
        loss, dz = fo.logistic_loss(model(X[batch].astype(float)), targets[batch])
        model.backward(dz)
        opt.step(model.gradients(), clip_norm=0.5)
        losses.append(fo.logistic_loss(model(X.astype(float)), targets)[0] if validation else loss)
    np.testing.assert_allclose(result.lrs, rates(1e-3, 0.5, 20), rtol=1e-15)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-9)
    smoothed = [np.average(losses, weights=[0.8 ** abs(i - k) for i in range(20)]) for k in range(20)]
    np.testing.assert_allclose(result.smoothed, smoothed, rtol=1e-9)
    assert not result.diverged
    assert repr(result) == "RangeTest(20 steps, lr 0.001 to 0.5)"


# -- no trace --


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_everything_is_as_it_was(optimizer):
    """After a training, with a schedule and groups; and the training then goes on as it would have without."""
    results = []
    for tests in (False, True):
        model, generator = deep(), np.random.default_rng(4)
        groups = [{"params": dict(list(model.parameters().items())[:2]), "lr": lambda step: 0.01 / (step + 1)},
                  {"params": dict(list(model.parameters().items())[2:])}]  # fmt: skip
        opt = getattr(fo.optim, optimizer)(groups, lr=0.01)
        fo.fit(model, X, Y, optimizer=opt, epochs=2, rng=generator, grad_norm=True)
        if tests:
            before = whole_state(model, opt, generator)
            fo.lr_range_test(model, X, Y, optimizer=opt, rng=generator, validation=0.2)
            fo.lr_range_test(model, X, Y, optimizer=opt, rng=generator, high=1e-3, steps=5)
            np.testing.assert_equal(whole_state(model, opt, generator), before)
        fo.fit(model, X, Y, optimizer=opt, epochs=2, rng=generator, grad_norm=True)
        results.append(whole_state(model, opt, generator))
    np.testing.assert_equal(results[0][:3], results[1][:3])


class Raises:
    """A layer that raises in its fifth pass."""

    def __init__(self, error):
        self.error, self.passes = error, 0

    def forward(self, x):
        return x

    def backward(self, dy):
        self.passes += 1
        if self.passes == 5:
            if self.error is signal.SIGINT:
                signal.raise_signal(signal.SIGINT)
            else:
                raise self.error
        return dy


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, signal.SIGINT])
def test_also_after_an_error_and_after_ctrl_c(error):
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm(8), nn.Dropout(0.3), nn.Linear(8, 1), Raises(error), rng=0)
    opt, generator = fo.optim.Adam(model.parameters()), np.random.default_rng(0)
    before = whole_state(model, opt, generator)
    with pytest.raises(KeyboardInterrupt if error is signal.SIGINT else error):
        fo.lr_range_test(model, X, Y, optimizer=opt, rng=generator)
    np.testing.assert_equal(whole_state(model, opt, generator), before)
    assert model[-1].passes == 5
    assert model.training
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- divergence --


def test_it_stops_when_the_loss_diverges():
    """At the first step at which the average of the losses before has become four times its least."""
    model = network(dtype=np.float64)
    result = fo.lr_range_test(model, X, X[:, 0], loss="mse", optimizer=fo.optim.SGD(model.parameters()), low=1e-3,
                              high=1e3, validation=(X, X[:, 0]), rng=0)  # fmt: skip
    averages = [np.average(result.losses[: k + 1], weights=0.8 ** np.arange(k, -1, -1)) for k in range(len(result.lrs))]
    beyond = np.array(averages) > 4 * np.minimum.accumulate(averages)
    assert beyond.tolist() == [False] * (len(beyond) - 1) + [True]
    assert result.diverged
    assert len(result.lrs) == len(result.losses) == len(result.smoothed) < 100
    assert "diverged" in repr(result)
    unlimited = fo.lr_range_test(model, X, X[:, 0], loss="mse", optimizer=fo.optim.SGD(model.parameters()), low=1e-3,
                                 high=1e3, validation=(X, X[:, 0]), rng=0, divergence=np.inf)  # fmt: skip
    assert len(unlimited.lrs) > len(result.lrs)
    np.testing.assert_array_equal(unlimited.losses[: len(result.lrs)], result.losses)


def test_it_stops_when_a_gradient_is_not_finite():
    model = nn.Sequential(nn.Linear(5, 1), rng=0)
    opt = fo.optim.SGD(model.parameters())
    before = whole_state(model, opt)
    result = fo.lr_range_test(model, X, X[:, 0], loss="mse", optimizer=opt, low=1e20, high=1e37, divergence=np.inf)
    assert result.diverged
    assert len(result.lrs) < 100
    assert np.isfinite(result.losses).all()  # of the steps that were done
    assert whole_state(model, opt) == before


# -- what it suggests --


def result_of(losses, lrs=None, mode="exponential"):
    losses = np.array(losses, float)
    return RangeTest(np.geomspace(1e-4, 1, len(losses)) if lrs is None else lrs, losses, losses, False, mode)


def test_the_steepest_descent_and_the_bounds():
    """A logistic curve over the logarithm of the rate, from 1 down to 0, its middle at 0.01; then a steep rise."""
    lrs = np.geomspace(1e-4, 1, 401)
    place = np.log10(lrs) + 2
    losses = 1 / (1 + np.exp(6 * place)) + np.where(place > 1.5, place - 1.5, 0)
    found = result_of(losses, lrs).suggest()
    assert found.lr == pytest.approx(0.01, rel=0.02)
    assert found.base_lr == pytest.approx(10 ** (-2 - np.log(9) / 6), rel=0.03)  # where the curve is 0.9
    assert found.max_lr == pytest.approx(10 ** (-2 + np.log(9) / 6), rel=0.03)
    with np.errstate(all="raise"):
        large = losses * 2.0**700
        assert RangeTest(lrs, large * 1.001, large, False, "exponential").suggest() == found
    linear = np.linspace(0.0, 1.0, 101)
    assert result_of((linear - 0.5) ** 2, linear, "linear").suggest().lr < 0.02


ROUNDED = [-5.0, -5 - 2e-15, -5 - 4e-15, -5 - 6e-15]


@pytest.mark.parametrize("losses", [[], [1.0], [1, 2, 3, 4], [1, 1, 1, 1], [1, 0.5, 2, 3], ROUNDED], ids=str)
def test_where_nothing_falls_nothing_is_suggested(losses):
    result = result_of(losses)
    with pytest.raises(ValueError, match="the loss did not fall clearly in RangeTest"):
        result.suggest()
    pytest.importorskip("matplotlib")
    result.plot().savefig(io.BytesIO(), format="png")


def test_what_is_suggested_trains():
    X, y = problem(rows=600)
    model = network()
    opt = fo.optim.Adam(model.parameters())
    result = fo.lr_range_test(model, X, y, optimizer=opt, low=1e-5, validation=0.2, rng=0)
    losses = {}
    for lr in (result.suggest().lr, result.lrs[0], result.lrs[-1]):
        trained = network()
        opt = fo.optim.Adam(trained.parameters(), lr=float(lr))
        losses[lr] = fo.fit(trained, X, y, optimizer=opt, epochs=20, validation=0.2, rng=0).val_loss[-1]
    assert losses[result.suggest().lr] == min(losses.values())


def test_the_picture():
    pytest.importorskip("matplotlib")
    losses = 1 / (1 + np.exp(6 * (np.log10(np.geomspace(1e-4, 1, 50)) + 2)))
    axes = result_of(losses).plot().axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:2] == ["each step", "smoothed"]
    assert labels[2].startswith("cyclical: ")
    assert labels[3].startswith("steepest: ")
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"low": 0.0}, ValueError, "low must be above 0, not 0.0"),
        ({"low": 1.0, "high": 1.0}, ValueError, r"high must be above low=1.0, not 1.0"),
        ({"high": np.inf}, ValueError, "high must be a finite number"),
        ({"high": "1"}, TypeError, "high must be a number, not str"),
        ({"steps": 2}, ValueError, "steps must be at least 3, not 2"),
        ({"mode": "log"}, ValueError, "mode must be .*, not 'log'"),
        ({"smoothing": 1.0}, ValueError, "smoothing must be a finite number in"),
        ({"divergence": 1.0}, ValueError, "divergence must be above 1, not 1.0"),
        ({"X": X[:, :3]}, ValueError, r"X has shape \(70, 3\), which the model does not take"),
        ({"validation": (X, Y[1:])}, ValueError, "validation y has shape"),
        ({"optimizer": fo.optim.SGD(np.ones(3))}, ValueError, "which is not of this model"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm must be above 0"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_bad_input(options, error, message):
    model = network()
    opt = fo.optim.Adam(model.parameters())
    before = whole_state(model, opt)
    with pytest.raises(error, match=message):
        fo.lr_range_test(model, **{"X": X, "y": Y, "optimizer": opt, **options})
    assert whole_state(model, opt) == before


# -- losses of any sign, and noise --


class Shifted(fo.losses.Loss):
    """The squared error minus a number: its gradient is the same, and so is the training."""

    def __init__(self, shift):
        self.shift = shift

    def losses(self, z, y, dz):
        np.multiply(2, z - y, out=dz)
        return (z - y) ** 2 - self.shift


@pytest.mark.parametrize("shift", [0.0, 0.4, 5.0, 1e3])
@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize("validation", [None, 0.2])
def test_losses_that_may_be_negative(shift, validation, batch_size):
    """The test goes on well beyond the rate that is best, and stops before the last; the shift changes little."""
    X, _ = problem(rows=600)

    def test(shift):
        model = network(dtype=np.float64)
        return fo.lr_range_test(model, X, X[:, 0], optimizer=fo.optim.SGD(model.parameters()), loss=Shifted(shift),
                                validation=validation, rng=0, batch_size=batch_size, low=1e-4, high=1e3)  # fmt: skip

    plain, shifted = test(0.0), test(shift)
    assert shifted.diverged
    assert 0.5 < len(shifted.lrs) / len(plain.lrs) < 1.3
    assert shifted.suggest().lr == pytest.approx(plain.suggest().lr, rel=0.2)
    pytest.importorskip("matplotlib")
    low, high = shifted.plot().axes[0].get_ylim()
    assert low < shifted.smoothed.min() < high


def test_the_noise_of_batches_on_a_trained_model_is_no_divergence():
    """Most batches have a loss of almost nothing, some a large one."""
    X, y = problem(rows=400, seed=3)
    model = network(hidden=40)
    opt = fo.optim.Adam(model.parameters(), lr=0.03)
    fo.fit(model, X, y, optimizer=opt, epochs=150, rng=0)
    y = y.copy()
    y[::50] = ~y[::50]  # which the model is wrong about
    for seed in range(5):
        result = fo.lr_range_test(model, X, y, optimizer=opt, rng=seed, batch_size=4, high=1e3)
        assert len(result.lrs) > 50
        assert result.diverged


@pytest.mark.parametrize(
    ("before", "level", "rise", "diverged"),
    [
        ([1.0, -1.0], 0.0, 2.9, False),  # 3 times the noise of the batches
        ([1.0, -1.0], 0.0, 3.1, True),
        ([9.0, 9.0], 9.0, 26.9, False),  # 3 times the loss
        ([-9.0, -9.0], -9.0, 27.1, True),
        ([-9.0, np.nan], -9.0, 26.9, False),
        ([np.nan, 9.0], 9.0, 27.1, True),
        ([np.nan, np.nan], 0.0, 0.1, True),
    ],
)
def test_what_a_rise_is_compared_with(before, level, rise, diverged):
    watch = _Divergence(before, smoothing=0.5, limit=4.0)
    for value in before:
        assert not watch.diverged(level if np.isnan(value) else value)
    for _ in range(50):  # until the average is what it is of
        found = watch.diverged(level + rise)
    assert found == diverged


def test_batches_whose_loss_is_nan_are_passed_over():
    """All labels of some batches are ignored: their mean is of nothing."""
    labels = np.where(np.arange(70) % 10 < 6, -100, X[:, 0] > 0)
    model = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 2), rng=0)
    result = fo.lr_range_test(model, X, labels, loss="cross_entropy", optimizer=fo.optim.Adam(model.parameters()),
                              batch_size=2, rng=0, low=1e-4)  # fmt: skip
    assert np.isnan(result.losses).any()
    assert np.isfinite(result.smoothed).all()
    assert len(result.lrs) > 50
    result.suggest()
    with_nan = result_of([np.nan, 3.0, 2.5, np.nan, 0.5, 0.0, -1.0, -1.1, np.nan, 4.0])
    assert with_nan.suggest().lr in with_nan.lrs
    pytest.importorskip("matplotlib")
    for each in (result, with_nan):
        axes = each.plot().axes[0]
        axes.figure.savefig(io.BytesIO(), format="png")
        assert np.isfinite(axes.get_ylim()).all()
