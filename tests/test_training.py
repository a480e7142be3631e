"""fastopt.fit and History: what is computed, that it repeats to the bit, and what is refused."""

import builtins
import io
import sys
import tracemalloc

import numpy as np
import pytest

import fastopt as fo
from fastopt import nn


def problem(rows=70, width=5, seed=0):
    """Inputs, and targets that a small network can learn."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, width)).astype(np.float32)
    return X, X[:, 0] * X[:, 1] > 0


def network(width=5, hidden=9, dtype=np.float32):
    return nn.Sequential(nn.Linear(width, hidden, dtype=dtype), nn.Sigmoid(), nn.Linear(hidden, 1, dtype=dtype), rng=0)


def trained(epochs=4, dtype=np.float32, X=None, y=None, **options):
    model = network(dtype=dtype)
    if X is None:
        X, y = problem()
    options.setdefault("rng", 1)
    opt = fo.optim.AdamW(model.parameters(), lr=0.02)
    history = fo.fit(model, X, y, optimizer=opt, epochs=epochs, validation=problem(seed=1), **options)
    return model.state_dict(), history


def assert_same_bits(one, other):
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        assert one[1][name] == other[1][name], name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch_size", [7, 32, 1000])
def test_it_is_the_loop_one_would_write(dtype, batch_size):
    X, y = problem()
    X, targets = X.astype(dtype), y[:, None].astype(dtype)
    X_val, y_val = problem(seed=1)
    X_val, val_targets = X_val.astype(dtype), y_val[:, None].astype(dtype)
    params, history = trained(dtype=dtype, batch_size=batch_size)

    model, generator = network(dtype=dtype), np.random.default_rng(1)
    opt = fo.optim.AdamW(model.parameters(), lr=0.02)
    for epoch in range(4):
        order = generator.permutation(len(X))
        total, right = 0.0, 0
        for begin in range(0, len(X), batch_size):
            batch = order[begin : begin + batch_size]
            z = model(X[batch])
            loss, dz = fo.logistic_loss(z, targets[batch])
            model.backward(dz)
            opt.step(model.gradients())
            total += loss * len(batch)
            right += ((z > 0) == (targets[batch] > 0.5)).sum()
        assert history.loss[epoch] == pytest.approx(total / len(X), rel=1e-12)
        assert history.accuracy[epoch] == right / len(X)
        z = model(X_val)
        assert history.val_loss[epoch] == pytest.approx(fo.logistic_loss(z, val_targets)[0], rel=1e-6)
        assert history.val_accuracy[epoch] == ((z > 0) == (val_targets > 0.5)).mean()
        assert history.lr[epoch] == 0.02
        assert history.seconds[epoch] > 0
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(params[name], param, err_msg=name)


def test_it_learns():
    X, y = problem(rows=600)
    model = network()
    opt = fo.optim.Adam(model.parameters(), lr=0.02)
    history = fo.fit(model, X[:400], y[:400], optimizer=opt, epochs=150, validation=(X[400:], y[400:]), rng=0)
    assert history.accuracy[-1] > 0.95
    assert history.val_accuracy[-1] > 0.9
    assert history.loss[-1] < history.loss[0] / 3


def test_logistic_regression_is_one_layer():
    X, _ = problem(rows=300)
    model = nn.Linear(5, 1, rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    history = fo.fit(model, X, X[:, 0] > 0, optimizer=opt, epochs=20, rng=0)
    assert history.accuracy[-1] > 0.95
    assert history.val_loss == []


@pytest.mark.skipif(fo.get_backend() != "c", reason="only the C core makes no arrays of its own")
def test_a_step_allocates_nothing_large():
    """Hidden layers of 200 kB each; a step after the first epoch's stays far below that."""
    peaks = []

    class Probe:
        def forward(self, x):
            peaks.append(tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0])
            tracemalloc.reset_peak()
            return x

        def backward(self, dy):
            return dy

    X, y = problem(rows=400)
    model = nn.Sequential(
        nn.Linear(5, 500),
        nn.Sigmoid(),
        nn.Dropout(),
        nn.Linear(500, 500),
        nn.BatchNorm(500),
        nn.ReLU(),
        nn.Linear(500, 1),
        Probe(),
    )
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    tracemalloc.start()
    try:
        fo.fit(model, X, y, optimizer=opt, epochs=2, batch_size=100, rng=0)
    finally:
        tracemalloc.stop()
    assert len(peaks) == 9  # bound once, and run eight times
    assert max(peaks[5:]) < 20_000


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_losses_are_the_loop_one_would_write(name, dtype):
    def targets(X):
        return X[:, :3].argmax(axis=1).astype(np.int32) if name == "cross_entropy" else X[:, :3] ** 2

    def model():
        return nn.Sequential(nn.Linear(5, 9, dtype=dtype), nn.Tanh(), nn.Linear(9, 3, dtype=dtype), rng=0)

    X, X_val = problem()[0].astype(dtype), problem(seed=1)[0].astype(dtype)
    y, y_val = targets(X), targets(X_val)
    fitted, written = model(), model()
    opt = fo.optim.Adam(fitted.parameters(), lr=0.02)
    history = fo.fit(fitted, X, y, optimizer=opt, epochs=3, loss=name, validation=(X_val, y_val), rng=1)
    loss_of = fo.softmax_cross_entropy if name == "cross_entropy" else fo.mse_loss
    opt, generator = fo.optim.Adam(written.parameters(), lr=0.02), np.random.default_rng(1)
    for epoch in range(3):
        order, total, right = generator.permutation(len(X)), 0.0, 0
        for begin in range(0, len(X), 32):
            batch = order[begin : begin + 32]
            z = written(X[batch])
            loss, dz = loss_of(z, y[batch])
            written.backward(dz)
            opt.step(written.gradients())
            total += loss * len(batch)
            right += (z.argmax(axis=1) == y[batch]).sum() if name == "cross_entropy" else 0
        z = written(X_val)
        assert history.loss[epoch] == pytest.approx(total / len(X), rel=1e-12)
        assert history.val_loss[epoch] == pytest.approx(loss_of(z, y_val)[0], rel=1e-6)
        if name == "cross_entropy":
            assert history.accuracy[epoch] == right / len(X)
            assert history.val_accuracy[epoch] == (z.argmax(axis=1) == y_val).mean()
    for key, param in written.parameters().items():
        np.testing.assert_array_equal(fitted.parameters()[key], param, err_msg=key)
    assert ("accuracy" in history.keys()) == (name == "cross_entropy")  # noqa: SIM118
    for labels in (y.tolist(), y.astype(np.uint8) if name == "cross_entropy" else y):
        twin = model()
        fo.fit(twin, X, labels, optimizer=fo.optim.Adam(twin.parameters(), lr=0.02), epochs=3, loss=name, rng=1)
        np.testing.assert_array_equal(twin[0].weight, fitted[0].weight)


# -- the same bits --


@pytest.mark.parametrize(
    ("dtype", "backends"), [(np.float32, ["c", "numba", "numpy"]), (np.float64, ["c", "numpy"])]
)  # numba's float64 kernels are compared in test_nn
def test_all_backends_give_the_same_bits(dtype, backends):
    before, results = fo.get_backend(), []
    try:
        for name in backends:
            try:
                fo.set_backend(name)
            except ImportError:
                continue
            results.append(trained(dtype=dtype, batch_size=16))
    finally:
        fo.set_backend(before)
    for other in results[1:]:
        assert_same_bits(results[0], other)


def test_all_instruction_sets_give_the_same_bits():
    before = fo.get_instruction_set()
    results = []
    try:
        for name in fo.instruction_sets():
            fo.set_instruction_set(name)
            results.append(trained())
    finally:
        if before is not None:
            fo.set_instruction_set(before)
    for other in results[1:]:
        assert_same_bits(results[0], other)


def test_the_same_seed_gives_the_same_bits_with_any_number_of_threads():
    X, y = problem(rows=3000, width=40)

    def run(threads, rng):
        model = network(40, 200)  # large enough that threads have work in every kernel
        opt = fo.optim.AdamW(model.parameters(), lr=0.01)
        with fo.num_threads(threads):
            history = fo.fit(model, X, y, optimizer=opt, epochs=2, batch_size=700, validation=(X, y), rng=rng)
        return model.state_dict(), history

    one = run(1, 5)
    assert_same_bits(one, run(2, 5))
    assert_same_bits(one, run(2, np.random.default_rng(5)))
    assert (run(1, 6)[0]["0.weight"] != one[0]["0.weight"]).any()


def test_without_shuffling_the_order_is_that_of_the_rows():
    assert_same_bits(trained(shuffle=False, rng=1), trained(shuffle=False, rng=2))
    seen = []

    class Spy:
        def forward(self, x):
            seen.append((self.training, x[:, 0].copy()))
            return x

        def backward(self, dy):
            return dy

    X, y = problem(rows=10)
    model = nn.Sequential(Spy(), nn.Linear(5, 1))
    opt = fo.optim.SGD(model.parameters())
    fo.fit(model, X, y, optimizer=opt, epochs=2, batch_size=4, shuffle=False)
    np.testing.assert_array_equal(np.concatenate([x for training, x in seen if training]), np.tile(X[:, 0], 2))
    seen.clear()
    fo.fit(model, X, y, optimizer=opt, epochs=1, batch_size=4, rng=0)
    batches = [x for training, x in seen if training]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.sort(X[:, 0]))


# -- data of all kinds --


def test_data_may_be_of_any_kind_and_is_not_changed():
    X, y = problem()
    expected = trained(X=X, y=y)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((70, 10), np.float32)
    wide[:, ::2] = X
    for inputs in (X.astype(np.float64), read_only, np.asfortranarray(X), wide[:, ::2], X.tolist()):
        assert_same_bits(expected, trained(X=inputs, y=y))
    for targets in (y[:, None], y.astype(int), y.astype(np.float64), y.tolist()):
        assert_same_bits(expected, trained(X=X, y=targets))
    np.testing.assert_array_equal(read_only, X)


def test_data_of_the_models_dtype_is_not_copied():
    X, _ = problem()
    assert fo.training.data.inputs("X", X, X.dtype) is X


def test_soft_targets_and_several_outputs():
    X, _ = problem()
    model = nn.Sequential(nn.Linear(5, 3), rng=0)
    opt = fo.optim.Adam(model.parameters(), lr=0.1)
    history = fo.fit(model, X, fo.sigmoid(X[:, :3]), optimizer=opt, epochs=40, rng=0)
    assert history.accuracy[-1] > 0.95
    np.testing.assert_allclose(model.parameters()["0.weight"], np.eye(3, 5), atol=0.2)


def test_an_optimizer_over_some_of_the_parameters_leaves_the_others():
    X, y = problem()
    model = network()
    before = model.state_dict()
    params = model.parameters()
    groups = [{"params": [params["2.weight"]]}, {"params": [params["2.bias"]], "lr": 0.5}]
    fo.fit(model, X, y, optimizer=fo.optim.Adam(groups, lr=0.1), epochs=2, rng=0)
    for name, param in params.items():
        assert np.array_equal(param, before[name]) == name.startswith("0."), name


def test_the_learning_rate_of_a_schedule_is_recorded():
    X, y = problem(rows=64)
    model = network()
    opt = fo.optim.SGD(model.parameters(), lr=lambda step: 0.5**step)
    assert fo.fit(model, X, y, optimizer=opt, epochs=3, rng=0).lr == [1, 0.25, 0.0625]


def test_no_epochs_change_nothing():
    model, history = trained(epochs=0)
    assert len(history) == 0
    assert repr(history) == "History(0 epochs)"
    for name, param in network().parameters().items():
        np.testing.assert_array_equal(model[name], param)


def test_modes_are_put_back():
    X, y = problem()
    model = network().eval()
    fo.fit(model, X, y, optimizer=fo.optim.SGD(model.parameters()), epochs=1, validation=(X, y))
    assert not model.training
    assert not model[0].training


# -- what is refused --

X, Y = problem()
NAN, INFINITE = X.copy(), X.copy()
CROSS_ENTROPY = {"loss": "cross_entropy"}
NAN[2, 0] = np.nan
INFINITE[3, 2] = np.inf


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": NAN}, ValueError, r"X holds NaN or infinity \(as float32\), first in row 2"),
        ({"X": INFINITE}, ValueError, "X holds NaN or infinity .* row 3"),
        ({"X": X.astype(np.float64) * 1e300}, ValueError, r"X holds NaN or infinity \(as float32\)"),
        ({"X": X[:, :4]}, ValueError, r"X has shape \(70, 4\), which the model does not take: Linear\(5, 9\)"),
        ({"X": X[:, 0]}, ValueError, r"X has shape \(70,\)"),
        ({"X": X[:0], "y": Y[:0]}, ValueError, r"X has shape \(0, 5\): it has no rows"),
        ({"X": X.astype(str)}, TypeError, "X must hold real numbers, not <U"),
        ({"X": X.astype(complex)}, TypeError, "X must hold real numbers, not complex128"),
        ({"X": [[1, 2], [3]]}, (TypeError, ValueError), None),
        ({"y": Y[:-1]}, ValueError, r"y has shape \(69, 1\), .* \(70, 1\)"),
        ({"y": np.stack([Y, Y], 1)}, ValueError, r"y has shape \(70, 2\), .* \(70, 1\)"),
        ({"y": Y * 2}, ValueError, r"y must be in \[0, 1\] .* from 0 to 2"),
        ({"y": np.where(Y, 1, -1)}, ValueError, r"y must be in \[0, 1\] .* from -1 to 1"),
        ({"y": np.where(Y, np.nan, 0)}, ValueError, r"y must be in \[0, 1\]"),
        ({"y": np.where(Y, "malignant", "benign")}, TypeError, "y must hold real numbers, not <U9"),
        ({"y": np.array([None] * 70)}, TypeError, "y must hold real numbers, not object"),
        ({"validation": (X[:, :4], Y)}, ValueError, r"validation X has shape \(70, 4\), X has \(70, 5\)"),
        ({"validation": (X, Y[1:])}, ValueError, r"validation y has shape \(69, 1\), .* \(70, 1\)"),
        ({"validation": (X, Y + 1)}, ValueError, r"validation y must be in \[0, 1\]"),
        ({"validation": (INFINITE, Y)}, ValueError, "validation X holds NaN"),
        ({"validation": (X[:0], Y[:0])}, ValueError, "validation X has shape .* no rows"),
        ({"validation": X}, TypeError, "validation must be a pair"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0, not -1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an int, not float"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
        ({"batch_size": "32"}, TypeError, "batch_size must be an int, not str"),
        ({"loss": "hinge"}, ValueError, "loss must be one of 'logistic', 'cross_entropy', 'mse', .* not 'hinge'"),
        ({"loss": None}, ValueError, "loss must be one of"),
        ({**CROSS_ENTROPY, "y": Y}, TypeError, "y must hold integer labels for the cross-entropy, not bool"),
        ({**CROSS_ENTROPY, "y": Y + 0.0}, TypeError, "y must hold integer labels .*, not float64"),
        ({**CROSS_ENTROPY, "y": Y + 0}, ValueError, r"y must be from 0 to 0, .* 1 outputs; it goes from 0 to 1"),
        ({**CROSS_ENTROPY, "y": Y - 1}, ValueError, "it goes from -1 to 0"),
        ({**CROSS_ENTROPY, "y": np.zeros((70, 1), int)}, ValueError, r"y has shape \(70, 1\), .* it is \(70,\)"),
        ({**CROSS_ENTROPY, "y": np.zeros(69, int)}, ValueError, r"y has shape \(69,\), .* 70 rows"),
        ({**CROSS_ENTROPY, "y": np.zeros(70, int), "validation": (X, Y + 0)}, ValueError, "validation y must be"),
        ({"loss": "mse", "y": np.where(Y, np.inf, 0)}, ValueError, r"y holds NaN or infinity \(as float32\), first"),
        ({"loss": "mse", "y": Y[1:]}, ValueError, r"y has shape \(69, 1\), .* \(70, 1\)"),
        ({"rng": "seed"}, (TypeError, ValueError), None),
        ({"rng": -1}, ValueError, None),
        ({"progress": "yes"}, TypeError, "progress must be True, False or None, not 'yes'"),
        ({"optimizer": None}, TypeError, "optimizer must be one of fastopt.optim, not NoneType"),
        ({"model": nn.Sequential}, TypeError, "model must be a fastopt.nn.Layer"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_changes(change, error, message):
    model = network()
    opt = fo.optim.Adam(model.parameters())
    before = model.state_dict()
    arguments = {"model": model, "X": X, "y": Y, "optimizer": opt, "epochs": 2, **change}
    with pytest.raises(error, match=message):
        fo.fit(**arguments)
    assert opt.step_count == 0
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(param, before[name])


def test_an_optimizer_over_other_parameters_is_refused():
    model, other = network(), network()
    before, theirs = model.state_dict(), other.state_dict()
    for params in (
        other.parameters(),
        {**model.parameters(), "more": np.zeros(3, np.float32)},
        {name: param.copy() for name, param in model.parameters().items()},
        {},
    ):
        with pytest.raises(ValueError, match=r"which is not of this model, whose parameters are '0\.weight'"):
            fo.fit(model, X, Y, optimizer=fo.optim.Adam(params), epochs=1)
    opt = fo.optim.Adam(model.parameters())
    wider = nn.Sequential(model, nn.Sigmoid())  # takes the parameters over
    with pytest.raises(ValueError, match="which is not of this model"):
        fo.fit(wider, X, Y, optimizer=opt, epochs=1)
    for values, network_ in ((before, model), (theirs, other)):
        for name, param in network_.parameters().items():
            np.testing.assert_array_equal(param, values[name])


def test_a_gradient_that_is_not_finite_ends_training_with_the_parameters_whole():
    class Bursts:
        """Gives an infinite gradient at the third step."""

        steps = 0

        def forward(self, x):
            return x

        def backward(self, dy):
            self.steps += 1
            return dy * np.float32(np.inf if self.steps == 3 else 1)

    def model():
        return nn.Sequential(nn.Linear(5, 1, rng=0), Bursts())

    broken, whole = model(), model()
    opt = fo.optim.SGD(broken.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match=r"step 3: gradients hold inf or NaN: '0\.weight', '0\.bias'"):
        fo.fit(broken, X[:64], Y[:64], optimizer=opt, epochs=2, shuffle=False)
    assert opt.step_count == 2
    fo.fit(whole, X[:64], Y[:64], optimizer=fo.optim.SGD(whole.parameters(), lr=0.1), epochs=1, shuffle=False)
    for name, param in whole.parameters().items():
        np.testing.assert_array_equal(broken.parameters()[name], param)


# -- the history and the progress bar --


def test_history():
    history = trained(epochs=3)[1]
    assert len(history) == 3
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert list(history) == list(dict(history)) == history.keys() == names
    assert all(len(history[name]) == 3 and type(history[name][0]) is float for name in history)
    assert repr(history).startswith(f"History(3 epochs: loss {history.loss[0]:.4g} -> {history.loss[-1]:.4g}, accuracy")
    empty = fo.History()
    assert list(empty) == []
    with pytest.raises(KeyError, match="the history has no 'val_loss', only loss"):
        fo.History(loss=[1.0])["val_loss"]


def test_history_plots_its_curves():
    pytest.importorskip("matplotlib")
    figure = trained(epochs=3)[1].plot()
    loss, accuracy = figure.axes
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        assert axes.get_title().lower() == name
        assert axes.get_xlabel() == "epoch"
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels[0].startswith("training")
        assert labels[1].startswith("validation")
    figure.savefig(io.BytesIO(), format="png")
    for history in (fo.History(), fo.History(loss=[1.0])):
        history.plot().savefig(io.BytesIO(), format="png")


class Stderr(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_progress(monkeypatch, progress, terminal, shown):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Stderr(terminal))
    expected = trained(progress=False)
    assert sys.stderr.getvalue() == ""
    assert_same_bits(trained(progress=progress), expected)
    assert ("epoch 4/4" in sys.stderr.getvalue()) == shown
    assert ("12/12" in sys.stderr.getvalue()) == shown


def test_without_tqdm(monkeypatch):
    real_import = builtins.__import__

    def without_tqdm(name, *rest, **options):
        if name == "tqdm":
            raise ImportError("No module named 'tqdm'")
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    monkeypatch.setattr(sys, "stderr", Stderr(True))
    assert len(trained(progress=None)[1]) == 4
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: pip install fastopt\[examples\]"):
        trained(progress=True)
