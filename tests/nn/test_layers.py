"""BatchNorm and Dropout as layers: their states, their modes, and what is refused."""

import copy
import pickle

import numpy as np
import pytest
from helpers import BACKENDS, COMPARED_IN_DOUBLE, use

import fastopt as fo
from fastopt import nn


def deep(dtype=np.float32, p=0.3, width=10):
    """Every kind of layer."""
    options = {"dtype": dtype}
    return nn.Sequential(
        nn.Linear(5, width, **options), nn.BatchNorm(width, **options), nn.Sigmoid(), nn.Dropout(p),
        nn.Sequential(
            nn.Linear(width, 8, **options), nn.Tanh(), nn.BatchNorm(8, momentum=None, **options), nn.Dropout(p)
        ),
        nn.Linear(8, 8, **options), nn.ReLU(), nn.Linear(8, 3, **options), rng=0)  # fmt: skip


def problem(rows=70, dtype=np.float32, seed=0):
    X = np.random.default_rng(seed).standard_normal((rows, 5)).astype(dtype)
    return X, X[:, :3].argmax(axis=1)


def fitted(epochs=3, dtype=np.float32, rows=70, batch_size=32, model=None, opt=None, **options):
    model = model or deep(dtype)
    opt = opt or fo.optim.Adam(model.parameters(), lr=0.02)
    history = fo.fit(model, *problem(rows, dtype), optimizer=opt, epochs=epochs, loss="cross_entropy",
                     batch_size=batch_size, rng=0, **options)  # fmt: skip
    return model.state_dict(), history


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


# -- batch norm --


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 5), (2, 3, 2, 4)])
def test_batch_norm_is_the_function_and_that_of_torch(shape, momentum, unbiased):
    rng = np.random.default_rng(0)
    layer = nn.BatchNorm(3, momentum=momentum, unbiased=unbiased, eps=1e-3, dtype=np.float64)
    layer.weight[...], layer.bias[...] = rng.standard_normal((2, 3))
    mean, var, count = np.zeros(3), np.ones(3), np.prod(shape) // 3
    expected_mean, expected_var = mean.copy(), var.copy()
    axes = (0, *range(2, len(shape)))
    for step in range(4):
        x, dy = rng.standard_normal((2, *shape)) * 3 + 2
        y, saved = fo.batch_norm(x, layer.weight, layer.bias, mean, var, momentum=momentum, unbiased=unbiased,
                                 eps=1e-3, num_batches_tracked=step)  # fmt: skip
        np.testing.assert_array_equal(layer(x), y)
        dx, dweight, dbias = fo.batch_norm_backward(dy, saved)
        np.testing.assert_array_equal(layer.backward(dy), dx)
        np.testing.assert_array_equal(layer.grads["weight"], dweight)
        np.testing.assert_array_equal(layer.grads["bias"], dbias)
        fraction = momentum or 1 / (step + 1)
        expected_mean += fraction * (x.mean(axes) - expected_mean)
        expected_var += fraction * (x.var(axes) * (count / (count - 1) if unbiased else 1) - expected_var)
        assert layer.num_batches_tracked == step + 1
    np.testing.assert_array_equal(layer.running_mean, mean)
    np.testing.assert_array_equal(layer.running_var, var)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12)
    np.testing.assert_allclose(var, expected_var, rtol=1e-12)
    before, y = layer.state_dict(), layer.eval()(x)
    np.testing.assert_array_equal(y, fo.batch_norm(x, layer.weight, layer.bias, mean, var, training=False, eps=1e-3)[0])
    assert_same_bits(before, layer.state_dict())


def test_the_way_back_is_of_the_mode_of_the_way_there():
    x, dy = np.random.default_rng(0).standard_normal((2, 6, 3))
    for layer in (nn.BatchNorm(3, dtype=np.float64), nn.Dropout(0.5, rng=0)):
        expected = {}
        for mode in (True, False):
            twin = copy.deepcopy(layer).train(mode)
            twin(x)
            expected[mode] = twin.backward(dy)
        assert (expected[True] != expected[False]).any()
        for mode in (True, False):
            twin = copy.deepcopy(layer).train(mode)
            twin(x)
            twin.train(not mode)
            np.testing.assert_array_equal(twin.backward(dy), expected[mode])


def test_repr():
    assert repr(nn.Sequential(nn.BatchNorm(4), nn.Dropout(), nn.Tanh(), nn.ReLU())) == (
        "Sequential(BatchNorm(4), Dropout(0.5), Tanh(), ReLU())"
    )
    layer = nn.BatchNorm(4, eps=0.1, momentum=None, affine=False, unbiased=False)
    assert repr(layer) == "BatchNorm(4, eps=0.1, momentum=None, affine=False, unbiased=False)"


def test_one_row_is_refused_in_training_and_nothing_changes():
    x = problem()[0]
    message = r"BatchNorm\(10\) was given \(1, 10\): training needs at least 2 values per channel, and there is 1"
    for used in (False, True):  # also with buffers that evaluation has made
        model = deep()
        model(x)
        before = model.state_dict()
        if used:
            model.eval()(x[:1])
            model.train()
        with pytest.raises(ValueError, match=message):
            model(x[:1])
        assert_same_bits(before, model.state_dict())
    late = nn.Sequential(nn.Dropout(), nn.BatchNorm(5), nn.Linear(5, 2), rng=0)
    before = late.state_dict()
    with pytest.raises(ValueError, match="training needs at least 2"):
        late(x[:1])
    assert_same_bits(before, late.state_dict())
    assert late.eval()(x[:1]).shape == (1, 2)
    assert nn.BatchNorm(5)(np.ones((1, 5, 2), np.float32)).shape == (1, 5, 2)


def test_fit_refuses_a_last_batch_of_one_row_before_anything_changes():
    model = deep()
    before, opt = model.state_dict(), fo.optim.Adam(model.parameters())
    with pytest.raises(ValueError, match=r"65 rows in batches of 32 give one of 1: BatchNorm\(10\) was given"):
        fitted(model=model, opt=opt, rows=65)
    assert_same_bits(before, model.state_dict())
    assert opt.step_count == 0


# -- dropout --


def test_dropout_draws_a_new_mask_for_every_forward_in_training():
    layer, x = nn.Dropout(0.25, rng=3), np.random.default_rng(0).standard_normal((6, 50))
    seed = int(layer.buffers["seed"])
    for draw in range(3):
        np.testing.assert_array_equal(layer(x), fo.dropout(x, 0.25, seed=seed, draw=draw))
        np.testing.assert_array_equal(layer.predict(x), x)
        np.testing.assert_array_equal(layer.backward(x), fo.dropout_backward(x, 0.25, seed=seed, draw=draw))
    np.testing.assert_array_equal(layer.eval()(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
    assert layer.buffers["draw"] == 3
    assert nn.Dropout(rng=3).buffers["seed"] == seed != nn.Dropout(rng=4).buffers["seed"]
    assert nn.Dropout().buffers["seed"] != nn.Dropout().buffers["seed"]


@pytest.mark.parametrize("p", [0, 1])
def test_dropout_of_nothing_and_of_all(p):
    layer, x = nn.Dropout(p), np.array([[1.0, np.inf, np.nan, -2.0]])
    for mode in (True, False):
        layer.train(mode)
        expected = np.zeros_like(x) if p == 1 and mode else x
        np.testing.assert_array_equal(layer(x), expected)
        np.testing.assert_array_equal(layer.backward(x), expected)


def test_dropout_leaves_the_initial_weights_alone():
    with_it = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2), nn.Dropout(), rng=1)
    without = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2), rng=1)
    assert_same_bits(without.parameters(), with_it.parameters())
    assert with_it[1].buffers["seed"] != with_it[3].buffers["seed"]
    again = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2), nn.Dropout(), rng=1)
    assert_same_bits(with_it.state_dict(), again.state_dict())


# -- training --


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_backends_train_to_the_same_bits(dtype):
    results = []
    for name in BACKENDS if dtype is np.float32 else COMPARED_IN_DOUBLE:
        use(name)
        results.append(fitted(dtype=dtype, validation=problem(20, dtype, seed=1)))
    assert np.isfinite(results[0][1].loss).all()
    for state, history in results[1:]:
        assert_same_bits(results[0][0], state)
        assert (history.loss, history.val_loss) == (results[0][1].loss, results[0][1].val_loss)


def test_any_number_of_threads_trains_to_the_same_bits():
    results = []
    for threads in (1, 2):
        model = deep(width=300)
        with fo.num_threads(threads):
            results.append(fitted(model=model, rows=2000, batch_size=1000)[0])
    assert_same_bits(*results)


def test_validation_uses_the_running_statistics_and_leaves_them():
    X, labels = problem(50, seed=1)
    state, history = fitted(validation=(X, labels))
    assert_same_bits(fitted()[0], state)
    model = deep()
    model.load_state_dict(state)
    model.eval()
    assert history.val_loss[-1] == pytest.approx(fo.softmax_cross_entropy(model(X), labels)[0], rel=1e-6)
    assert history.val_accuracy[-1] == (model(X).argmax(axis=1) == labels).mean()
    assert state["1.num_batches_tracked"] == state["3.draw"] == state["4.3.draw"] == 9
    x = model[0](X)
    scale = 1 / np.sqrt(state["1.running_var"] + 1e-5)
    expected = (x - state["1.running_mean"]) * scale * state["1.weight"] + state["1.bias"]
    np.testing.assert_allclose(model[1](x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("through_a_file", [False, True])
def test_resuming_is_never_having_stopped(through_a_file, tmp_path):
    whole = deep()
    opt = fo.optim.Adam(whole.parameters(), lr=0.02)
    fitted(2, model=whole, opt=opt)
    saved = {"model": whole.state_dict(), "optimizer": opt.state_dict()}
    if through_a_file:
        fo.save(tmp_path / "saved", saved)
        saved = fo.load(tmp_path / "saved")
    expected = fitted(2, model=whole, opt=opt)[0]
    other = nn.Sequential(*deep().layers, rng=9)
    opt = fo.optim.Adam(other.parameters(), lr=0.02)
    other.load_state_dict(saved["model"])
    opt.load_state_dict(saved["optimizer"])
    assert_same_bits(expected, fitted(2, model=other, opt=opt)[0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_go_on_alike_and_apart(duplicate):
    model = deep()
    fitted(1, model=model)
    twin, before = duplicate(model), model.state_dict()
    assert twin.buffers["1.running_mean"] is twin[1].running_mean
    state = fitted(1, model=twin)[0]
    assert_same_bits(before, model.state_dict())
    assert_same_bits(state, fitted(1, model=model)[0])


def test_a_state_dict_is_checked_whole_before_anything_is_written():
    model = deep()
    before = model.state_dict()
    assert {"1.weight", "1.running_mean", "1.num_batches_tracked", "3.seed", "3.draw", "4.2.running_var"} <= {*before}
    for change, error, message in [
        (lambda d: d.pop("4.2.running_var"), ValueError, "lacks: '4.2.running_var'"),
        (lambda d: d.update({"3.draws": np.zeros(())}), ValueError, "no place for: '3.draws'"),
        (
            lambda d: d.update({"1.running_var": np.ones(9, np.float32)}),
            ValueError,
            r"'1.running_var' has shape \(9,\)",
        ),
        (lambda d: d.update({"1.running_var": np.ones(10)}), TypeError, "'1.running_var' is float64"),
        (lambda d: d.update({"3.draw": np.array(-1)}), TypeError, "'3.draw' is int64"),
    ]:
        broken = {name: value + 1 for name, value in before.items()}
        change(broken)
        with pytest.raises(error, match=message):
            model.load_state_dict(broken)
        assert_same_bits(before, model.state_dict())


def test_a_replaced_buffer_is_noticed():
    model, x = deep(), problem()[0]
    model(x)
    model[1].buffers["running_mean"] = np.zeros(10, np.float32)
    with pytest.raises(ValueError, match=r"buffers\['running_mean'\] of layer 1 is not the array"):
        model(x)
    alone = nn.BatchNorm(5)
    alone(x)
    alone.buffers["running_mean"] = replaced = np.zeros(5, np.float32)
    alone(x)
    assert replaced.any()


def test_own_layers_may_have_buffers():
    class Count:
        def __init__(self, buffer):
            self.buffers = {"runs": buffer}

        def forward(self, x):
            self.buffers["runs"] += 1
            return x

        def backward(self, dy):
            return dy

    model = nn.Sequential(nn.Linear(5, 2, rng=0), Count(np.zeros(1, int)))
    model(problem()[0])
    assert model.state_dict()["1.runs"] == 1
    with pytest.raises(TypeError, match=r"buffer '0\.runs' must be an array, not int"):
        nn.Sequential(Count(0))


# -- what is refused --


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.BatchNorm(0), ValueError, "num_features must be at least 1, not 0"),
        (lambda: nn.BatchNorm(2.0), TypeError, "num_features must be an int, not float"),
        (lambda: nn.BatchNorm(2, eps=-1), ValueError, "eps must be a finite number"),
        (lambda: nn.BatchNorm(2, eps="small"), TypeError, "eps must be a number, not str"),
        (lambda: nn.BatchNorm(2, momentum=1.5), ValueError, "momentum must be from 0 to 1, not 1.5"),
        (lambda: nn.BatchNorm(2, momentum=np.nan), ValueError, "momentum"),
        (lambda: nn.BatchNorm(2, dtype=np.int32), TypeError, "dtype must be float32 or float64, not int32"),
        (lambda: nn.Dropout(-0.1), ValueError, "p must be"),
        (lambda: nn.Dropout(1.1), ValueError, "p must be from 0 to 1, not 1.1"),
        (lambda: nn.Dropout("half"), TypeError, "p must be a number, not str"),
        (lambda: nn.Sequential(nn.BatchNorm(2), nn.Linear(2, 2, dtype=np.float64)), TypeError, "those before it"),
        (lambda: nn.BatchNorm(2)(np.ones((4, 3), np.float32)), ValueError, r"BatchNorm\(2\) takes \(rows, 2, ...\)"),
        (lambda: nn.BatchNorm(2, affine=False)(np.ones((4, 2))), TypeError, "x is float64, .* takes float32"),
        (lambda: nn.Sequential(nn.Linear(2, 2, dtype=np.float64), nn.BatchNorm(2, affine=False))(np.ones((4, 2))),
         TypeError, r"BatchNorm\(2, affine=False\) takes float32, and was given float64"),
    ],
)  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
