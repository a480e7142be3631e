"""fastopt.fit: what is computed, and that it repeats to the bit."""

import numpy as np
import pytest
from fitting import assert_same_bits, network, problem, trained
from helpers import BACKENDS, COMPARED_IN_DOUBLE, use

import fastopt as fo
from fastopt import nn
from fastopt.training import data


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

EVERYTHING = {
    "loss": fo.losses.LogisticLoss(pos_weight=2.0), "sample_weight": np.arange(70), "accumulate": 2, "clip_norm": 0.5,
    "ema": 0.9, "callbacks": fo.EarlyStopping(patience=2),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_all_backends_give_the_same_bits(dtype, options):
    results = []
    for name in BACKENDS if dtype is np.float32 else COMPARED_IN_DOUBLE:
        use(name)
        results.append(trained(dtype=dtype, batch_size=16, **options))
    for other in results[1:]:
        assert_same_bits(results[0], other)


def test_all_instruction_sets_give_the_same_bits():
    results = []
    for name in fo.instruction_sets():
        use("c", name)
        results.append(trained())
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
    assert data.inputs("X", X, X.dtype) is X


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
