"""Callbacks of fastopt.fit, early stopping among them, and Ctrl-C."""

import math
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from fitting import assert_same_bits, network, problem, trained

import fastopt as fo
from fastopt import nn
from fastopt.training import session

X, Y = problem()


def fit(model, epochs=3, **options):
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    return fo.fit(model, X, Y, optimizer=opt, epochs=epochs, rng=1, **options)


class Recorder:
    def __init__(self):
        self.seen = []

    def on_start(self, run):
        self.seen.append(("start", run.epoch, run.epochs, len(run.history)))

    def on_batch(self, run):
        self.seen.append(("batch", run.epoch, run.batch, run.batch_loss))

    def on_epoch(self, run):
        self.seen.append(("epoch", run.epoch, len(run.history)))

    def on_end(self, run):
        self.seen.append(("end", run.epoch, run.model.training))


def test_what_is_called_when():
    recorder, calls = Recorder(), []
    functions = {event: lambda run, event=event: calls.append(event) for event in ("start", "batch", "epoch", "end")}
    model = network()
    history = fit(model, epochs=2, callbacks=[recorder, functions])
    batches = ["batch"] * 3  # of 32, 32 and 6 rows
    assert calls == ["start", *batches, "epoch", *batches, "epoch", "end"]
    assert [call[0] for call in recorder.seen] == calls
    assert recorder.seen[0] == ("start", 0, 2, 0)
    assert [call[:3] for call in recorder.seen[1:4]] == [("batch", 0, 1), ("batch", 0, 2), ("batch", 0, 3)]
    assert recorder.seen[4] == ("epoch", 1, 1)
    assert recorder.seen[-1] == ("end", 2, True)
    losses = [call[3] for call in recorder.seen[1:4]]
    assert np.average(losses, weights=[32, 32, 6]) == pytest.approx(history.loss[0], rel=1e-12)


@pytest.mark.parametrize("accumulate", [2, 5])
def test_a_batch_is_a_step_where_batches_are_accumulated(accumulate):
    recorder, model = Recorder(), network()
    history = fit(model, epochs=1, batch_size=10, accumulate=accumulate, callbacks=recorder)
    steps = [call for call in recorder.seen if call[0] == "batch"]
    assert len(steps) == math.ceil(7 / accumulate)
    rows = [10 * accumulate] * (7 // accumulate) + [10 * (7 % accumulate)] * (7 % accumulate > 0)
    assert np.average([s[3] for s in steps], weights=rows) == pytest.approx(history.loss[0], rel=1e-12)


def test_watching_changes_nothing():
    plain = trained()
    assert_same_bits(plain, trained(callbacks=[Recorder(), {"batch": lambda run: run.model.predict(X)}]))


def test_a_callback_can_stop_training():
    model = network()
    history = fit(model, epochs=9, callbacks={"epoch": lambda run: run.epoch == 2 and run.stop("enough")})
    assert len(history) == 2
    assert history.stopped == "enough"
    assert not history.interrupted
    assert "enough" in repr(history)
    ends = []
    stop_at_once = {"start": lambda run: run.stop(), "end": lambda run: ends.append(run.epoch)}
    assert len(fit(network(), callbacks=stop_at_once)) == 0
    assert ends == [0]


@pytest.mark.parametrize(("batch", "epochs", "steps"), [(1, 1, 4), (3, 2, 6)])
def test_a_callback_can_stop_within_an_epoch(batch, epochs, steps):
    """Of an epoch that is cut short nothing is recorded; at its last step it is not."""
    model = network()
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    stop = {"batch": lambda run: run.epoch == 1 and run.batch == batch and run.stop()}
    history = fo.fit(model, X, Y, optimizer=opt, epochs=5, rng=1, callbacks=stop, validation=(X, Y))
    assert len(history) == len(history.val_loss) == epochs
    assert opt.step_count == steps
    assert history.stopped == "stopped by a callback"


def test_a_callback_may_set_the_learning_rate():
    model = network()
    halve = {"epoch": lambda run: setattr(run.optimizer, "lr", run.optimizer.lr / 2)}
    assert fit(model, callbacks=halve).lr == [0.1, 0.05, 0.025]


@pytest.mark.parametrize("event", ["batch", "epoch"])
def test_what_a_callback_breaks_is_noticed(event):
    def replace(run):
        layer = run.model[0]
        layer.params["weight"] = layer.params["weight"].copy()

    def freeze(run):
        run.model[0].weight.flags.writeable = False

    for breaks, message in (
        (replace, "is not the array this model was made with"),
        (freeze, "'0.weight' is read-only"),
    ):
        model = network()
        kept = []
        watch = {event: lambda run, kept=kept, breaks=breaks: (breaks(run), kept.append(run.model.state_dict()))}
        with pytest.raises(ValueError, match=message):
            fit(model, callbacks=watch)
    np.testing.assert_array_equal(model[0].weight, kept[-1]["0.weight"])


def test_an_optimizer_with_a_step_of_its_own_is_asked_for_it():
    steps = []

    class Counting(fo.optim.SGD):
        def step(self, *arguments, **options):
            steps.append(self.step_count)
            super().step(*arguments, **options)

    model = network()
    fo.fit(model, X, Y, optimizer=Counting(model.parameters()), epochs=2, rng=0)
    assert steps == list(range(6))


def test_an_optimizer_that_a_callback_used_goes_on_with_the_models_gradients():
    plain, used = network(), network()
    fit(plain)

    def another_step(run):
        zeros = {name: np.zeros_like(param) for name, param in run.model.parameters().items()}
        run.optimizer.step(zeros)  # of SGD without momentum: changes nothing but where its gradients are
        run.optimizer.step_count -= 1

    fit(used, callbacks={"epoch": another_step})
    for name, param in plain.parameters().items():
        np.testing.assert_array_equal(param, used.parameters()[name])


@pytest.mark.parametrize(
    ("callbacks", "error", "message"),
    [
        (fo.EarlyStopping, TypeError, r"must be an object: EarlyStopping\(\), not the class"),
        (
            [None],
            TypeError,
            "a dict of functions, or an object with methods on_start, on_batch, on_epoch, on_end, not None",
        ),
        ({"epochs": print}, ValueError, "functions for start, batch, epoch, end, not for 'epochs'"),
        ({}, TypeError, "must be a dict of functions"),
        ({"epoch": 3}, TypeError, "function for 'epoch' must be callable, not 3"),
        ("epoch", TypeError, "must be a dict of functions"),
        (fo.EarlyStopping(), ValueError, "monitors 'val_loss', which is not recorded: loss, accuracy, lr are; val_"),
        (fo.EarlyStopping("auc"), ValueError, "monitors 'auc', which is not recorded: loss, accuracy, lr are$"),
    ],
    ids=str,
)
def test_what_is_no_callback(callbacks, error, message):
    model = network()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        fit(model, callbacks=callbacks)
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(param, before[name])


# -- early stopping --


def stopped(values, monkeypatch, **options):
    """A training whose validation losses, or accuracies, are these."""
    monitor = options.get("monitor", "val_loss")
    left = iter(values)
    validate = session.Session.validate
    monkeypatch.setattr(session.Session, "validate", lambda self: {**validate(self), monitor: next(left)})
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm(4), nn.Linear(4, 1), rng=0)
    weights = []
    watch = {"epoch": lambda run: weights.append(run.model.state_dict())}
    stopping = fo.EarlyStopping(**options)
    history = fit(model, epochs=len(values), validation=(X, Y), callbacks=[watch, stopping])
    return model, weights, history, stopping


@pytest.mark.parametrize(
    ("values", "options", "epochs", "best"),
    [
        ([5, 4, 4, 4, 1], {"patience": 2}, 4, 2),
        ([5, 4, 4, 3, 4, 4, 1], {"patience": 2}, 6, 4),
        ([5, 4.5, 4.1, 3.9, 3.8], {"patience": 3, "min_delta": 1.0}, 5, 4),
        ([5, 4.5, 4, 4, 4], {"patience": 2, "min_delta": 1.0}, 3, 1),
        ([0.5, 0.6, 0.7, 0.7, 0.6, 0.9], {"patience": 2, "monitor": "val_accuracy"}, 5, 3),
        ([math.nan, 5, math.nan, math.nan, 1], {"patience": 2}, 4, 2),
        ([math.nan, math.nan, 1, 1], {"patience": 2}, 2, None),
        ([math.inf, 5, 4, 3], {"patience": 1}, 4, 4),
        ([3, 2, 1], {"patience": 1}, 3, 3),
    ],
)
def test_early_stopping(values, options, epochs, best, monkeypatch):
    model, weights, history, stopping = stopped(values, monkeypatch, **options)
    assert len(history) == epochs
    assert history.best_epoch == best
    assert stopping.best == (None if best is None else values[best - 1])
    expected = weights[-1 if best is None else best - 1]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert ("no better val_" in history.stopped) == (epochs < len(values))


def test_early_stopping_may_leave_the_last_weights(monkeypatch):
    model, weights, history, _ = stopped([1, 2, 3], monkeypatch, patience=2, restore_best=False)
    assert (len(history), history.best_epoch) == (3, 1)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[-1][name], err_msg=name)


def test_early_stopping_with_an_average_restores_what_was_validated():
    model = network()
    history = fit(model, epochs=8, ema=0.8, validation=(X, Y), callbacks=fo.EarlyStopping("val_accuracy", patience=3))
    z = model(X)
    assert history.val_accuracy[history.best_epoch - 1] == max(history.val_accuracy)
    assert ((z > 0) == Y[:, None]).mean() == max(history.val_accuracy)


def test_others_see_the_best_weights_at_the_end(monkeypatch):
    last = {}
    stopping = fo.EarlyStopping(patience=1)
    values = iter([1.0, 2.0])
    validate = session.Session.validate
    monkeypatch.setattr(session.Session, "validate", lambda self: {**validate(self), "val_loss": next(values)})
    model = network()
    fit(
        model,
        epochs=5,
        validation=(X, Y),
        callbacks=[{"end": lambda run: last.update(run.model.state_dict())}, stopping],
    )
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(param, last[name])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience must be at least 1, not 0"),
        ({"patience": 1.5}, TypeError, "patience must be an int"),
        ({"min_delta": -1}, ValueError, "min_delta must be a finite number in"),
        ({"monitor": None}, TypeError, "monitor must be a str, not NoneType"),
        ({"restore_best": "yes"}, TypeError, "restore_best must be True or False, not 'yes'"),
    ],
    ids=str,
)
def test_options_of_early_stopping(options, error, message):
    with pytest.raises(error, match=message):
        fo.EarlyStopping(**options)


# -- Ctrl-C --


def interrupt(run):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("event", "when", "epochs"), [("batch", (1, 2), 1), ("epoch", (2, 3), 2), ("start", (0, 0), 0)]
)
def test_a_keyboard_interrupt_in_a_callback_ends_training(event, when, epochs):
    ends = []
    watch = {
        event: lambda run: (run.epoch, run.batch) == when and interrupt(run),
        "end": lambda run: ends.append(run.epoch),
    }
    model = network()
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    history = fo.fit(model, X, Y, optimizer=opt, epochs=5, rng=1, callbacks=watch, validation=(X, Y))
    assert history.interrupted
    assert history.stopped == f"interrupted after {epochs} epoch{'' if epochs == 1 else 's'}"
    assert len(history) == len(history.val_loss) == epochs == ends[0]
    assert opt.step_count == {"batch": 5, "epoch": 6, "start": 0}[event]


def test_a_keyboard_interrupt_within_a_step_is_as_if_it_had_not_begun():
    class Interrupts:
        count = 0

        def forward(self, x):
            return x

        def backward(self, dy):
            self.count += 1
            if self.count == 3:
                raise KeyboardInterrupt
            return dy

    def model(*more):
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm(4), nn.Dropout(0.5), nn.Linear(4, 1), *more, rng=0)

    broken, whole = model(Interrupts()), model()
    for each, rows in ((broken, slice(0, 70)), (whole, slice(0, 64))):
        opt = fo.optim.Adam(each.parameters())
        history = fo.fit(each, X[rows], Y[rows], optimizer=opt, epochs=1, shuffle=False)
        assert history.interrupted == (each is broken)
        assert opt.step_count == 2
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(broken.state_dict()[name], array, err_msg=name)


def test_a_signal_is_put_off_to_the_end_of_the_step():
    """SIGINT in the midst of the second step, which is done nevertheless."""

    class Signals:
        count = 0

        def forward(self, x):
            self.count += 1
            if self.count == 3:  # once to bind
                signal.raise_signal(signal.SIGINT)
            return x

        def backward(self, dy):
            return dy

    model, whole = nn.Sequential(nn.Linear(5, 1), Signals(), rng=0), nn.Sequential(nn.Linear(5, 1), rng=0)
    opt = fo.optim.Adam(model.parameters())
    history = fo.fit(model, X, Y, optimizer=opt, epochs=3, shuffle=False, batch_size=10)
    assert history.interrupted
    assert len(history) == 0
    assert opt.step_count == 2
    fo.fit(whole, X[:20], Y[:20], optimizer=fo.optim.Adam(whole.parameters()), epochs=1, shuffle=False, batch_size=10)
    np.testing.assert_array_equal(model[0].weight, whole[0].weight)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_does_not_wait():
    def twice(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(network(), callbacks={"batch": twice})
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_and_with_a_handler_of_ones_own():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(network())))
    thread.start()
    thread.join()
    assert len(results[0]) == 3
    handled = []
    before = signal.signal(signal.SIGINT, lambda *_: handled.append(1))
    try:
        history = fit(network(), callbacks={"epoch": lambda run: signal.raise_signal(signal.SIGINT)})
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(handled), len(history), history.interrupted) == (3, 3, False)


PROGRAM = """
import numpy as np, fastopt as fo
rng = np.random.default_rng(0)
X = rng.standard_normal((2000, 8)).astype(np.float32)
model = fo.nn.Sequential(fo.nn.Linear(8, 16), fo.nn.BatchNorm(16), fo.nn.Dropout(0.2), fo.nn.Linear(16, 1), rng=0)
opt = fo.optim.Adam(model.parameters(), lr=1e-4)
started = {"batch": lambda run: run.epoch == 1 and run.batch == 1 and print("started", flush=True)}
history = fo.fit(model, X, X[:, 0] > 0, optimizer=opt, epochs=10**6, batch_size=8, rng=0, callbacks=started)
assert history.interrupted, history
assert model[1].num_batches_tracked == opt.step_count == model[2].buffers["draw"], (opt.step_count, model.buffers)
again = fo.nn.Sequential(fo.nn.Linear(8, 16), fo.nn.BatchNorm(16), fo.nn.Dropout(0.2), fo.nn.Linear(16, 1), rng=0)
opt2 = fo.optim.Adam(again.parameters(), lr=1e-4)
stop = {"batch": lambda run: run.optimizer.step_count == opt.step_count and run.stop()}
fo.fit(again, X, X[:, 0] > 0, optimizer=opt2, epochs=10**6, batch_size=8, rng=0, callbacks=stop)
assert all((a == b).all() for a, b in zip(model.state_dict().values(), again.state_dict().values()))
print(len(history), opt.step_count)
"""


def test_a_real_signal():
    """A process gets SIGINT at some moment: its model is that of a whole number of steps."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as p:
        try:
            assert p.stdout.readline() == "started\n"
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=60)
        finally:
            p.kill()
    assert p.returncode == 0, err
    epochs, steps = map(int, out.split())
    assert epochs >= 1
    assert steps > 250
