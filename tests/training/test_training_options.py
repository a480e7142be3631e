"""Options of fastopt.fit: weights, validation, accumulation, clipping, steps that are refused, averages, memory."""

import math
import tracemalloc

import numpy as np
import pytest
from fitting import problem

import fastopt as fo
from fastopt import nn

X, Y = problem()


# -- memory --


@pytest.mark.skipif(fo.get_backend() != "c", reason="only the C core makes no arrays of its own")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 2},
        {"clip_norm": 1.0, "ema": 0.9},
        {"sample_weight": np.ones(400), "on_nonfinite": "skip"},
        {"loss": "mse"},
        {"loss": fo.losses.LogisticLoss(pos_weight=2.0), "accumulate": 3, "callbacks": {"batch": lambda run: None}},
    ],
    ids=str,
)
def test_a_step_allocates_nothing_large(options):
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
    opt = fo.optim.SGD(model.parameters(), lr=0.001)
    tracemalloc.start()
    try:
        fo.fit(model, X, y, optimizer=opt, epochs=2, batch_size=100, rng=0, **options)
    finally:
        tracemalloc.stop()
    assert len(peaks) == 9  # bound once, and run eight times
    assert max(peaks[5:]) < 20_000


# -- batches --


def deep(dtype=np.float64, outputs=1):
    return nn.Sequential(nn.Linear(5, 9, dtype=dtype), nn.Tanh(), nn.Linear(9, outputs, dtype=dtype), rng=0)


def run(model, X=X, y=Y, epochs=3, lr=0.05, **options):
    opt = fo.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    history = fo.fit(model, X, y, optimizer=opt, epochs=epochs, rng=1, **options)
    return opt, history


def assert_close(one, other, rtol=1e-9):
    for name, param in one.parameters().items():
        np.testing.assert_allclose(param, other.parameters()[name], rtol=rtol, atol=1e-12, err_msg=name)


def test_the_whole_set_and_single_examples():
    whole, single = deep(), deep()
    assert run(whole, batch_size=None)[0].step_count == 3
    opt, _ = run(single, batch_size=1, epochs=1)
    assert opt.step_count == 70
    by_hand, momentum = deep(), {}
    for row in np.random.default_rng(1).permutation(70):
        _, dz = fo.logistic_loss(by_hand(X[row : row + 1].astype(float)), Y[row].reshape(1, 1).astype(float))
        by_hand.backward(dz)
        for name, grad in by_hand.gradients().items():
            momentum[name] = 0.9 * momentum[name] + grad if name in momentum else grad.copy()
            by_hand.parameters()[name][...] -= 0.05 * momentum[name]
    assert_close(single, by_hand)


IGNORING = fo.losses.CrossEntropy(ignore_index=1, label_smoothing=0.1, weight=[1.0, 2.0, 0.5])
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])


@pytest.mark.parametrize(
    ("loss", "y", "outputs"),
    [
        ("logistic", Y, 1),
        (fo.losses.LogisticLoss(pos_weight=3.0), Y, 1),
        ("mse", X[:, :2], 2),
        ("cross_entropy", LABELS, 3),
        (IGNORING, LABELS, 3),
        (lambda z, y: fo.mse_loss(z, y), X[:, :2], 2),
    ],
    ids=["logistic", "pos_weight", "mse", "cross_entropy", "ignoring", "function"],
)
@pytest.mark.parametrize(("batch_size", "accumulate"), [(10, 3), (8, 3), (8, 4), (64, 2), (1, 70), (70, 1), (32, 100)])
def test_accumulated_batches_are_one_large_batch(loss, y, outputs, batch_size, accumulate):
    """Whole groups of whole batches, a last group with fewer, one with a smaller batch, and everything in one."""
    parts, large = deep(outputs=outputs), deep(outputs=outputs)
    opt, history = run(parts, y=y, loss=loss, batch_size=batch_size, accumulate=accumulate)
    large_opt, large_history = run(large, y=y, loss=loss, batch_size=batch_size * accumulate)
    assert opt.step_count == large_opt.step_count == 3 * math.ceil(70 / (batch_size * accumulate))
    assert_close(parts, large)
    np.testing.assert_allclose(history.loss, large_history.loss, rtol=1e-9)
    assert history.accuracy == large_history.accuracy


def test_accumulated_gradients_are_clipped_together():
    parts, large = deep(), deep()
    _, history = run(parts, batch_size=8, accumulate=3, clip_norm=0.05)
    _, large_history = run(large, batch_size=24, clip_norm=0.05)
    assert_close(parts, large)
    np.testing.assert_allclose(history.grad_norm, large_history.grad_norm, rtol=1e-9)
    assert min(history.grad_norm) > 0.05  # so that there was something to clip


# -- clipping, and the norm of the gradients --


@pytest.mark.parametrize(
    "clipping",
    [{"clip_norm": 0.1, "clip_eps": 0.01}, {"clip_norm_per_tensor": 0.05, "clip_eps": 0.01}, {"clip_value": 0.01},
     {"clip_norm": 0.1, "clip_value": 0.02}],
)  # fmt: skip
def test_clipping_is_the_optimizers(clipping):
    model, by_hand = deep(), deep()
    _, history = run(model, batch_size=16, epochs=1, **clipping)
    opt, order, norms = (
        fo.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9),
        np.random.default_rng(1).permutation(70),
        [],
    )
    for begin in range(0, 70, 16):
        batch = order[begin : begin + 16]
        by_hand.backward(fo.logistic_loss(by_hand(X[batch].astype(float)), Y[batch, None].astype(float))[1])
        opt.step(by_hand.gradients(), **clipping)
        norms.append(opt.grad_norm)
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(param, by_hand.parameters()[name])
    assert history.grad_norm == ([] if norms[0] is None else [pytest.approx(np.mean(norms), rel=1e-12)])


def test_the_norm_can_be_had_without_clipping():
    plain, measured = deep(), deep()
    run(plain)
    _, history = run(measured, grad_norm=True)
    for name, param in plain.parameters().items():
        np.testing.assert_array_equal(param, measured.parameters()[name])
    assert len(history["grad_norm"]) == 3
    assert min(history.grad_norm) > 0


@pytest.mark.parametrize("optimizer", ["LARS", "LAMB"])
def test_trust_ratios_are_recorded(optimizer):
    model = deep()
    opt = getattr(fo.optim, optimizer)(model.parameters(), lr=0.01)
    history = fo.fit(model, X, Y, optimizer=opt, epochs=2, rng=0)
    assert {name: ratios[-1] for name, ratios in history.trust_ratios.items()} == opt.trust_ratios
    assert history["trust_ratio 0.weight"] == history.trust_ratios["0.weight"]
    assert len(history.trust_ratios["0.weight"]) == 2
    assert fo.fit(model, X, Y, optimizer=fo.optim.Adam(model.parameters()), epochs=1).trust_ratios == {}


# -- sample weights --

WEIGHT = np.random.default_rng(5).integers(0, 4, 70)


@pytest.mark.parametrize(
    ("loss", "y", "outputs"),
    [
        ("logistic", Y, 1),
        (fo.losses.LogisticLoss(pos_weight=[3.0, 0.5]), X[:, :2] > 0, 2),
        ("mse", X[:, :2], 2),
        ("cross_entropy", LABELS, 3),
        (IGNORING, LABELS, 3),
    ],
    ids=["logistic", "pos_weight", "mse", "cross_entropy", "ignoring"],
)
def test_a_weight_of_two_is_the_row_twice(loss, y, outputs):
    weighted, repeated = deep(outputs=outputs), deep(outputs=outputs)
    _, history = run(weighted, y=y, loss=loss, batch_size=None, sample_weight=WEIGHT)
    twice = np.repeat(np.arange(70), WEIGHT)
    _, expected = run(repeated, X=X[twice], y=y[twice], loss=loss, batch_size=None)
    assert_close(weighted, repeated)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-9)
    np.testing.assert_allclose(history.accuracy, expected.accuracy, rtol=1e-6)
    ten_times = deep(outputs=outputs)
    run(ten_times, y=y, loss=loss, batch_size=None, sample_weight=10 * WEIGHT)
    assert_close(ten_times, weighted)


def test_the_gradient_of_a_weighted_batch():
    """The weighted sum over the number of rows, for weights whose mean over all rows is 1."""
    model, by_hand = deep(), deep()
    run(model, batch_size=16, epochs=1, sample_weight=WEIGHT)
    opt, order = fo.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9), np.random.default_rng(1).permutation(70)
    weight = (WEIGHT / WEIGHT.mean())[:, None]
    for begin in range(0, 70, 16):
        batch = order[begin : begin + 16]
        z, y = by_hand(X[batch].astype(float)), Y[batch, None].astype(float)
        by_hand.backward(fo.logistic_loss(z, y, weight=weight[batch])[1])
        opt.step(by_hand.gradients())
    assert_close(model, by_hand)


def test_weights_of_the_validation_data():
    model, X_val, y_val = deep(), *problem(seed=1)
    _, history = run(model, epochs=1, validation=(X_val, y_val, WEIGHT))
    z, y = model(X_val.astype(float)), y_val[:, None].astype(float)
    losses = fo.logistic_loss(z, y, reduction="none")[0].ravel()
    assert history.val_loss == [pytest.approx(np.average(losses, weights=WEIGHT), rel=1e-9)]
    right = ((z > 0) == (y > 0.5)).ravel()
    assert history.val_accuracy == [pytest.approx(np.average(right, weights=WEIGHT), rel=1e-9)]


# -- validation --


# -- the average of the weights --


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_average_is_the_formula(decay):
    plain, averaged = deep(), deep()
    weights = []
    run(plain, batch_size=16, callbacks={"batch": lambda run: weights.append(run.model.state_dict())})
    seen = []
    _, history = run(
        averaged,
        batch_size=16,
        ema=decay,
        validation=(X, Y),
        callbacks={"epoch": lambda run: seen.append(run.model.state_dict())},
    )
    average, expected = weights[0], []
    for step, now in enumerate(weights):
        if step:
            average = {name: decay * average[name] + (1 - decay) * now[name] for name in now}
        if step % 5 == 4:
            expected.append(average)
    for epoch in range(3):
        for name, value in expected[epoch].items():
            np.testing.assert_allclose(seen[epoch][name], value, rtol=1e-12, atol=1e-14, err_msg=name)
    for name, param in averaged.parameters().items():
        np.testing.assert_array_equal(param, seen[-1][name])
    z = averaged(X.astype(float))
    assert history.val_loss[-1] == pytest.approx(fo.logistic_loss(z, Y[:, None].astype(float))[0], rel=1e-12)


def test_the_average_takes_no_part_in_training():
    plain, averaged = deep(), deep()
    before = run(plain, validation=(X, Y))[1]
    after = run(averaged, validation=(X, Y), ema=0.9)[1]
    assert before.loss == after.loss
    assert before.val_loss != after.val_loss


def test_without_a_step_the_average_is_not_there():
    model = deep()
    before = model.state_dict()
    run(model, epochs=0, ema=0.9)
    with pytest.warns(RuntimeWarning, match="all 3 steps of epoch 1 were skipped"):
        run(model, epochs=1, ema=0.9, on_nonfinite="skip", loss=lambda z, y: (0.0, np.full_like(z, np.nan)))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# -- steps that are refused --


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


class Bursts:
    """Gives an infinite gradient in the steps it is told."""

    def __init__(self, *steps):
        self.bursts, self.step = steps, 0

    def forward(self, x):
        return x

    def backward(self, dy):
        self.step += 1
        return dy * dy.dtype.type(np.inf if self.step in self.bursts else 1)


def with_statistics(*bursts):
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm(6), nn.Dropout(0.2), nn.Linear(6, 1), Bursts(*bursts), rng=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_refused_step_leaves_no_trace_in_the_running_statistics(accumulate):
    broken, whole = with_statistics(4), with_statistics()
    rows = slice(0, 16 * (3 if accumulate == 1 else 2))
    with pytest.raises(FloatingPointError, match="nothing was updated"):
        run(broken, X=X[:64], y=Y[:64], batch_size=16, accumulate=accumulate, shuffle=False)
    run(whole, X=X[rows], y=Y[rows], batch_size=16, accumulate=accumulate, shuffle=False, epochs=1)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(broken.state_dict()[name], array, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip_norm": 1.0}], ids=str)
def test_a_skipped_step_leaves_no_trace_but_its_count(options):
    """The second of three steps is skipped: what the others do is as if its rows were not there."""
    rows_of_step = 16 * options.get("accumulate", 1)
    skipping, without = with_statistics(2 * options.get("accumulate", 1)), with_statistics()
    data, labels = problem(rows=3 * rows_of_step)
    kept = np.r_[0:rows_of_step, 2 * rows_of_step : 3 * rows_of_step]
    arguments = {"batch_size": 16, "shuffle": False, "epochs": 1, **options}
    opt, history = run(skipping, X=data, y=labels, on_nonfinite="skip", **arguments)
    run(without, X=data[kept], y=labels[kept], **arguments)
    for name, array in without.state_dict().items():
        np.testing.assert_array_equal(skipping.state_dict()[name], array, err_msg=name)
    assert (opt.step_count, opt.skipped_steps, history.skipped_steps) == (2, 1, [1])


def test_an_error_in_a_layer_leaves_the_running_statistics():
    class Fails(Bursts):
        def backward(self, dy):
            if self.step == 2:
                raise RuntimeError("no more")
            return super().backward(dy)

    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm(6), Fails(), nn.Linear(6, 1), rng=0)
    with pytest.raises(RuntimeError, match="no more"):
        run(model, batch_size=16)
    assert model[1].num_batches_tracked == 2


def test_nobody_looks_at_gradients_that_are_to_be_ignored(backend):
    """Neither in a step of `fit`'s own nor in the optimizer's."""
    for callbacks in ((), {"batch": lambda run: None}):
        model = nn.Sequential(nn.Linear(2, 1, rng=0))
        opt = fo.optim.SGD(model.parameters(), lr=0.1)
        x, y = np.full((4, 2), 1e30, np.float32), np.full((4, 1), 1e30, np.float32)
        loss = fo.losses.SquaredError()
        fo.fit(model, x, y, optimizer=opt, loss=loss, epochs=3, on_nonfinite="ignore", callbacks=callbacks)
        assert opt.step_count == 3
        assert not np.isfinite(model.parameters()["0.weight"]).any()


# -- the last batch --


@pytest.mark.parametrize("weighted", [False, True])
def test_the_last_batch_can_be_left_out(weighted):
    """70 rows in batches of 32: two steps an epoch, on other rows each time; the loss is the mean over these."""
    model = nn.Sequential(nn.Linear(5, 1), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.0)
    weight = np.arange(1.0, 71.0) if weighted else None
    losses = []
    watch = {"batch": lambda run: losses.append(run.batch_loss)}
    options = {"optimizer": opt, "drop_last": True, "rng": 0, "sample_weight": weight}
    history = fo.fit(model, X, Y, epochs=3, callbacks=watch, **options)
    assert opt.step_count == len(losses) == 6
    assert history.loss == pytest.approx(np.reshape(losses, (3, 2)).mean(axis=1), rel=1e-12)
    assert len(set(history.loss)) == 3
    in_order = fo.fit(model, X, Y, epochs=2, shuffle=False, **options)
    whole = fo.fit(model, X[:64], Y[:64], epochs=2, optimizer=opt, shuffle=False)
    if not weighted:
        assert in_order.loss == whole.loss
        assert in_order.accuracy == whole.accuracy
    with pytest.raises(ValueError, match="drop_last leaves nothing to train on: 70 rows, batch_size=71"):
        fo.fit(model, X, Y, epochs=1, optimizer=opt, drop_last=True, batch_size=71)


def test_of_classes_with_weights_the_mean_is_over_the_rows_that_were_used():
    labels = (X[:, 0] > 0).astype(int)
    model = nn.Sequential(nn.Linear(5, 2), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.0)
    loss = fo.losses.CrossEntropy(weight=[1.0, 5.0])
    metrics = {"mean": lambda y, z: loss.mean(z, y)}
    history = fo.fit(model, X, labels, epochs=3, loss=loss, optimizer=opt, drop_last=True, rng=0, metrics=metrics)
    assert history.loss == pytest.approx(history["mean"], rel=1e-6)


# -- stopping at what is not finite --


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_training_can_stop_at_a_gradient_that_is_not_finite(clip_norm):
    class Bursts:
        calls = 0

        def forward(self, x):
            return x

        def backward(self, dy):
            Bursts.calls += 1
            return dy * np.float32(np.nan if Bursts.calls == 8 else 1)

    model, ends, stopping = nn.Sequential(nn.Linear(5, 1, rng=0), Bursts()), [], fo.EarlyStopping("loss")
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    watch = {"end": lambda run: ends.append(run.error)}
    history = fo.fit(model, X, Y, optimizer=opt, epochs=9, rng=1, on_nonfinite="stop", callbacks=[watch, stopping],
                     clip_norm=clip_norm)  # fmt: skip
    assert len(history) == 2
    assert opt.step_count == 7
    assert history.stopped.startswith("the gradients are not finite any more")
    assert ends == [None]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, stopping.best_weights[name])
