"""fastopt.losses: the losses of fastopt.fit against the functions, and losses of one's own."""

import copy
import pickle

import numpy as np
import pytest
from fitting import problem

import fastopt as fo
from fastopt import nn
from fastopt.losses import CrossEntropy, Huber, LogisticLoss, Loss, SquaredError

X, Y = problem()
X = X.astype(np.float64)
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])
CLASS_WEIGHT = np.array([1.0, 2.0, 0.5])


def model(outputs=1, dtype=np.float64):
    return nn.Sequential(nn.Linear(5, 6, dtype=dtype), nn.Tanh(), nn.Linear(6, outputs, dtype=dtype), rng=0)


def fit(network, y, loss, X=X, epochs=2, **options):
    opt = fo.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    return fo.fit(network, X, y, loss=loss, optimizer=opt, epochs=epochs, batch_size=16, rng=1, **options)


def by_hand(network, y, function, X=X, epochs=2):
    """The same loop with a function of outputs and targets; the sums of the losses over every epoch."""
    opt, rng, sums = fo.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), np.random.default_rng(1), []
    for _ in range(epochs):
        order, total = rng.permutation(len(X)), 0.0
        for begin in range(0, len(X), 16):
            batch = order[begin : begin + 16]
            z = network(X[batch])
            total += function(z, y[batch], reduction="sum")[0]
            network.backward(function(z, y[batch], reduction="mean")[1])
            opt.step(network.gradients())
        sums.append(total)
    return sums


@pytest.mark.parametrize(
    ("loss", "y", "function", "total"),
    [
        (LogisticLoss(pos_weight=3.0), Y[:, None] * 1.0, {"pos_weight": np.array([3.0])}, 70),
        (LogisticLoss(pos_weight=[3.0, 0.5]), (X[:, :2] > 0) * 1.0, {"pos_weight": np.array([3.0, 0.5])}, 140),
        (SquaredError(), X[:, :2], {}, 140),
        (Huber(delta=0.3), X[:, :2], {"delta": 0.3}, 140),
        (CrossEntropy(label_smoothing=0.2), LABELS, {"label_smoothing": 0.2}, 70),
        (CrossEntropy(ignore_index=2), LABELS, {"ignore_index": 2}, (LABELS != 2).sum()),
        (CrossEntropy(weight=[1.0, 2.0, 0.5]), LABELS, {"weight": CLASS_WEIGHT}, CLASS_WEIGHT[LABELS].sum()),
    ],
    ids=["pos_weight", "pos_weights", "mse", "huber", "label_smoothing", "ignore_index", "weight"],
)
def test_the_options_are_the_functions(loss, y, function, total):
    functions = {LogisticLoss: fo.logistic_loss, SquaredError: fo.mse_loss, Huber: fo.huber_loss,
                 CrossEntropy: fo.softmax_cross_entropy}  # fmt: skip
    outputs = 3 if isinstance(loss, CrossEntropy) else y.shape[1]
    fitted, written = model(outputs), model(outputs)
    history = fit(fitted, y, loss, validation=(X, y))
    of = functions[type(loss)]
    sums = by_hand(written, y, lambda z, y, reduction: of(z, y, reduction=reduction, **function))
    for name, param in written.parameters().items():
        np.testing.assert_allclose(fitted.parameters()[name], param, rtol=1e-12, atol=1e-15, err_msg=name)
    np.testing.assert_allclose(history.loss, np.array(sums) / total, rtol=1e-12)
    assert history.val_loss[-1] == pytest.approx(of(fitted(X), y, **function)[0], rel=1e-12)


def test_ignored_rows_do_not_count_in_the_accuracy():
    network = model(3)
    labels = np.where(np.arange(70) % 3 == 0, -100, LABELS)
    history = fit(network, labels, CrossEntropy(), validation=(X, labels))
    used = labels != -100
    assert history.val_accuracy[-1] == (network(X).argmax(axis=1) == labels)[used].mean()


def test_a_batch_of_ignored_rows_alone_does_nothing():
    network = model(3)
    labels = np.r_[np.full(16, -100), LABELS[16:32]]
    before = network.state_dict()
    opt = fo.optim.SGD(network.parameters(), lr=0.1)
    steps = {"batch": lambda run: run.batch == 1 and run.stop()}
    fo.fit(network, X[:32], labels, loss=CrossEntropy(), optimizer=opt, epochs=1, batch_size=16, shuffle=False,
           callbacks=steps)  # fmt: skip
    assert opt.step_count == 1
    for name, param in network.parameters().items():
        np.testing.assert_array_equal(param, before[name])


# -- losses of one's own --


class PerRow(Loss):
    """The squared error as a sum over the outputs, one loss for each row."""

    def losses(self, z, y, dz):
        dz[...] = 2 * (z - y)
        return ((z - y) ** 2).sum(axis=1)


class PerOutput(Loss):
    def losses(self, z, y, dz):
        dz[...] = 2 * (z - y)
        return (z - y) ** 2


@pytest.mark.parametrize("weight", [None, np.arange(70.0)])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_class_of_ones_own(dtype, accumulate, weight):
    y = X[:, :2]
    own, builtin = model(2, dtype), model(2, dtype)
    options = {"accumulate": accumulate, "sample_weight": weight, "validation": (X, y)}
    history, expected = fit(own, y, PerOutput(), **options), fit(builtin, y, "mse", **options)
    for name, param in builtin.parameters().items():
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(own.parameters()[name], param, rtol=tolerance, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-5)
    np.testing.assert_allclose(history.val_loss, expected.val_loss, rtol=1e-5)
    assert history.accuracy == []


def test_a_loss_for_each_row_is_averaged_over_the_rows():
    y = X[:, :2]
    own, written = model(2), model(2)
    history = fit(own, y, PerRow())
    sums = by_hand(
        written,
        y,
        lambda z, y, reduction: (((z - y) ** 2).sum(), 2 * (z - y) / (len(z) if reduction == "mean" else 1)),
    )
    for name, param in written.parameters().items():
        np.testing.assert_allclose(own.parameters()[name], param, rtol=1e-12, atol=1e-15, err_msg=name)
    np.testing.assert_allclose(history.loss, np.array(sums) / 70, rtol=1e-12)


def test_a_function():
    y = np.where(Y, 1.0, -1.0)
    by_function, by_object = model(), model()
    history = fit(by_function, y, lambda z, y: fo.logistic_loss(z, y, targets="-1/+1"), validation=(X, y))
    expected = fit(by_object, Y, "logistic", validation=(X, Y))
    for name, param in by_object.parameters().items():
        np.testing.assert_allclose(by_function.parameters()[name], param, rtol=1e-12, atol=1e-15, err_msg=name)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(history.val_loss, expected.val_loss, rtol=1e-12)
    labels = model(3)
    fit(labels, LABELS, fo.softmax_cross_entropy)
    named = model(3)
    fit(named, LABELS, "cross_entropy")
    np.testing.assert_allclose(labels[0].weight, named[0].weight, rtol=1e-12)


def test_how_they_print():
    assert repr(LogisticLoss()) == "LogisticLoss()"
    assert repr(LogisticLoss(pos_weight=2)) == "LogisticLoss(pos_weight=2.0)"
    assert repr(CrossEntropy(ignore_index=-1, weight=[1, 2])) == "CrossEntropy(ignore_index=-1, weight=[1.0, 2.0])"


# -- what is refused --


class Returns(Loss):
    def __init__(self, result):
        self.result = result

    def losses(self, z, y, dz):
        return self.result


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: LogisticLoss(pos_weight=-1.0),
            ValueError,
            "pos_weight must hold finite numbers of at least 0, not -1",
        ),
        (lambda: LogisticLoss(pos_weight="3"), TypeError, "pos_weight must hold real numbers"),
        (lambda: LogisticLoss(pos_weight=[np.nan]), ValueError, "pos_weight must hold finite numbers"),
        (lambda: CrossEntropy(label_smoothing=1.5), ValueError, "label_smoothing must be from 0 to 1, not 1.5"),
        (lambda: CrossEntropy(label_smoothing="a"), TypeError, "label_smoothing must be a number, not str"),
        (lambda: CrossEntropy(ignore_index=0.5), TypeError, "ignore_index must be an int, not float"),
        (lambda: CrossEntropy(weight=[[1.0]]), ValueError, r"weight has shape \(1, 1\); it must be \(classes,\)"),
        (lambda: CrossEntropy(weight=[]), ValueError, "weight must hold finite numbers"),
    ],
)
def test_options_out_of_range(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "y", "outputs", "error", "message"),
    [
        (LogisticLoss(pos_weight=[1, 2]), Y, 1, ValueError, r"pos_weight has shape \(2,\), .* for a row has \(1,\)"),
        (CrossEntropy(weight=[1, 2]), LABELS, 3, ValueError, r"weight has shape \(2,\), the model has 3 outputs"),
        (CrossEntropy(), X[:, :3], 3, ValueError, "y must be probabilities, from 0 to 1, or labels of shape"),
        (CrossEntropy(ignore_index=7), LABELS + 5, 3, ValueError, "y must be from 0 to 2, .* it goes from 5 to 6"),
        (CrossEntropy(), np.full(70, -100), 3, ValueError, "all labels of y are ignore_index=-100, or of classes of"),
        (CrossEntropy(weight=[0, 0, 1]), np.zeros(70, int), 3, ValueError, "all labels of y are"),
        (LogisticLoss(), LABELS, 1, ValueError, r"y must be in \[0, 1\] for the logistic loss; it goes from 0 to 2"),
        (SquaredError(), LABELS, 3, ValueError, r"y has shape \(70,\), the model's output .* has \(70, 3\)"),
        (LogisticLoss, Y, 1, TypeError, r"loss must be an object: LogisticLoss\(\), not the class"),
        (Loss(), Y, 1, NotImplementedError, r"Loss has no method losses\(z, y, dz\)"),
        (Returns(3.0), Y, 1, ValueError, r"must return an array of shape \(32,\) or \(32, 1\), not float"),
        (Returns(np.ones(7)), Y, 1, ValueError, r"must return an array of shape \(32,\) or \(32, 1\), not \(7,\)"),
        (lambda z, y: 1.0, Y, 1, TypeError, "the loss must return a pair of the mean loss and its gradient, not 1.0"),
        (lambda z, y: (1.0, z[:1]), Y, 1, ValueError, r"a gradient of float64 and shape \(1, 1\), the outputs are"),
        (lambda z, y: (1.0, z), Y[1:], 1, ValueError, r"y has shape \(69, 1\), the model's output .* \(70, 1\)"),
        (lambda z, y: (1.0, z), np.where(Y, np.nan, 0), 1, ValueError, "y holds NaN or infinity"),
    ],
)  # fmt: skip
def test_targets_of_the_wrong_kind(loss, y, outputs, error, message):
    network = model(outputs)
    before = network.state_dict()
    opt = fo.optim.SGD(network.parameters())
    with pytest.raises(error, match=message):
        fo.fit(network, X, y, loss=loss, optimizer=opt, epochs=1)
    for name, param in network.parameters().items():
        np.testing.assert_array_equal(param, before[name])


@pytest.mark.parametrize("later", [(0.0, np.zeros(1, np.float32)), 0.0])
def test_a_function_is_looked_at_in_every_batch(later):
    calls = []

    def loss(z, y):
        calls.append(z)
        return fo.mse_loss(z, y) if len(calls) < 5 else later

    model = nn.Linear(5, 1, rng=0)
    with pytest.raises((TypeError, ValueError), match=r"the loss (returned a gradient|must return a pair)"):
        fo.fit(model, X, Y, loss=loss, optimizer=fo.optim.SGD(model.parameters()), epochs=1, batch_size=8)
    assert len(calls) == 5


def test_a_function_takes_no_sample_weights():
    with pytest.raises(ValueError, match=r"sample_weight needs a loss of fastopt\.losses"):
        fit(model(), Y, lambda z, y: fo.mse_loss(z, y), sample_weight=np.ones(70))


@pytest.mark.parametrize("loss", [LogisticLoss(), LogisticLoss(2.0), SquaredError(), Huber(2.0), CrossEntropy()])
def test_a_loss_that_is_called_by_hand_checks_its_arrays(backend, loss):
    z = np.zeros((4, 3))
    y = np.zeros(4, int) if isinstance(loss, fo.losses.CrossEntropy) else np.zeros((4, 3))
    assert loss.mean(z, y) >= 0
    for bad_z, bad_y, error, message in [
        (z, y[:1], ValueError, r"y has shape \(1"),
        (np.zeros((10**6, 3)), y, ValueError, "y has shape"),
        (z, y.astype(np.float32), TypeError, "y must be an array of .*64, not float32"),
        (z, y.tolist(), TypeError, "y must be an array of .*, not list"),
        (z.astype(int), y, TypeError, "z must be an array of float64, not int64"),
        (z.T.copy().T, y, ValueError, "z must be C-contiguous"),
        (np.ma.masked_array(z), y, TypeError, "z is a masked array"),
    ]:
        with pytest.raises(error, match=message):
            loss.mean(bad_z, bad_y)


def test_labels_and_weights_that_are_not_of_the_classes():
    z, y = np.zeros((2, 3)), np.array([0, 10**9])
    with pytest.raises(ValueError, match=r"y\[1\] is 1000000000: not one of the 3 classes of z"):
        fo.losses.CrossEntropy().mean(z, y)
    with pytest.raises(ValueError, match=r"z has shape \(2, 3\), and weight \(2,\)"):
        fo.losses.CrossEntropy(weight=[1.0, 2.0]).mean(z, y * 0)


@pytest.mark.parametrize("y", [np.arange(6) % 2, np.arange(6.0), np.arange(6) % 2 == 0], ids=["int", "float", "bool"])
def test_a_function_is_given_targets_of_the_outputs_shape(y):
    """(6,) against (6, 1) broadcasts to (6, 6), silently, in whatever the function computes."""

    def loss(z, target):
        assert target.shape == z.shape == (6, 1)
        return float(np.mean((z - target) ** 2)), 2 * (z - target) / z.size

    model = fo.nn.Linear(2, 1, dtype=np.float64, rng=0)
    X = np.random.default_rng(0).standard_normal((6, 2))
    losses = []
    for each in (loss, "mse"):
        model.reset_parameters(np.random.default_rng(0))
        opt = fo.optim.SGD(model.parameters(), lr=0.1)
        losses.append(fo.fit(model, X, y, loss=each, optimizer=opt, epochs=3, batch_size=None, rng=0).loss)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-13)
    with pytest.raises(ValueError, match=r"y has shape \(6, 2\), the model's output for as many rows has \(6, 1\)"):
        fo.fit(model, X, X, loss=loss, optimizer=fo.optim.SGD(model.parameters(), lr=0.1), epochs=1)


def test_what_is_called_by_hand_checks_weights_and_gradients(backend):
    z, y, labels = np.zeros((4, 3)), np.zeros((4, 3)), np.zeros(4, int)
    buffer = np.zeros(13)
    for loss, targets in [
        (LogisticLoss(), y),
        (LogisticLoss(2.0), y),
        (SquaredError(), y),
        (CrossEntropy(), labels),
        (PerOutput(), y),
    ]:
        assert loss.mean(z, targets, [1, 1, 1, 1]) == pytest.approx(loss.mean(z, targets))
        for weight, error, message in [
            (np.ones(1), ValueError, r"weight has shape \(1,\), for z of shape \(4, 3\)"),
            (np.ones((4, 1)), ValueError, r"weight has shape \(4, 1\)"),
            (-np.ones(4), ValueError, "weight must hold finite numbers of at least 0"),
            (np.full(4, np.nan), ValueError, "weight must hold finite numbers"),
            (np.ma.masked_array(np.ones(4), True), TypeError, "weight is a masked array"),
        ]:
            with pytest.raises(error, match=message):
                loss.mean(z, targets, weight)
        overlapping = buffer[:12].reshape(4, 3), targets, buffer[1:].reshape(4, 3)
        for arguments, message in [
            ((z, targets, np.empty(12)), "dz has shape"),
            (overlapping, "dz overlaps a part of z"),
            ((z, targets, np.empty_like(z), np.ones(2)), "weight has shape"),
            ((z, targets, np.empty_like(z), None, np.inf), "scale must be a finite number"),
        ]:
            with pytest.raises(ValueError, match=message):
                loss.bind(*arguments)
        with pytest.raises(ValueError, match="no row counts: there is no mean"):
            loss.mean(z[:0], targets[:0])
    with pytest.raises(ValueError, match="no row counts"):
        CrossEntropy().mean(z, labels - 100)


def test_accuracies_are_of_outputs_and_their_targets():
    z, y, labels = np.array([[1.0], [-1.0]]), np.array([[1.0], [1.0]]), np.array([0, 0])
    assert LogisticLoss().accuracy(z, y) == 0.5
    assert LogisticLoss().accuracy(z, y, np.array([3.0, 1.0])) == 0.75
    assert np.isnan(LogisticLoss().accuracy(z, y, np.zeros(2)))
    for loss, targets in ((LogisticLoss(), y[:, 0]), (CrossEntropy(), labels[:, None]), (CrossEntropy(), labels[:1])):
        with pytest.raises(ValueError, match="y has shape"):
            loss.accuracy(z, targets)
    for loss, targets in ((LogisticLoss(), y), (CrossEntropy(), labels)):
        with pytest.raises(ValueError, match="weight has shape"):
            loss.accuracy(z, targets, np.ones(1))


def test_options_are_checked_once_and_stay():
    weight = np.array([1.0, 2.0, 3.0])
    logistic, entropy = LogisticLoss(pos_weight=weight), CrossEntropy(weight=weight)
    weight[:] = np.nan
    logistic.pos_weight[:] = entropy.weight[:] = -1
    for loss in (logistic, entropy):
        for same in (loss, copy.copy(loss), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert "weight=[1.0, 2.0, 3.0]" in repr(same)
    for name in ("weight", "label_smoothing", "ignore_index"):
        with pytest.raises(AttributeError, match=name):
            setattr(entropy, name, 7)
    with pytest.raises(AttributeError, match="pos_weight"):
        logistic.pos_weight = 3.0
    with pytest.raises(ValueError, match="ignore_index must be a whole number of 64 bits"):
        CrossEntropy(ignore_index=2**63)
    z = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match=r"pos_weight has shape \(3,\), the model's output for a row has \(2,\)"):
        logistic.mean(z, z)
    with pytest.raises(ValueError, match=r"pos_weight is 1e\+300, which is beyond float32"):
        LogisticLoss(pos_weight=1e300).mean(z, z)


def test_arrays_that_become_smaller_behind_a_bound_loss(backend):
    for loss in (LogisticLoss(), LogisticLoss(pos_weight=2.0), SquaredError(), Huber(), CrossEntropy(), PerOutput()):
        for which in range(4):
            z = np.zeros((1000, 2))
            arrays = [z, np.zeros(1000, int) if isinstance(loss, CrossEntropy) else z + 1, z + 0, np.ones(1000)]
            call = loss.bind(*arrays)
            assert call() == call()
            arrays[which].resize(1, refcheck=False)
            with pytest.raises(ValueError, match=r"an array, now of shape \(1,\), was changed in place"):
                call()


@pytest.mark.parametrize("place", range(3))
def test_subclasses_of_arrays_are_refused(place):
    """One may say another shape than its memory has, and the core would read behind its end."""

    class Larger(np.ndarray):
        shape = property(lambda self: (1000, 1000))
        size = property(lambda self: 10**6)

    arrays = [np.ones((1000, 1000)) for _ in range(3)]
    arrays[place] = np.ones((2, 3)).view(Larger)
    with pytest.raises(TypeError, match=r"must be a plain .*, not Larger"):
        fo.losses.LogisticLoss().bind(*arrays)
    with pytest.raises(TypeError, match=r"must be a plain .*, not Larger"):
        fo.losses.SquaredError().bind(*arrays)


def test_memory_maps_are_the_arrays_that_they_are(backend):
    z, y = np.array([[0.5, -1.0], [2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    mapped, labels = z.view(np.memmap), np.array([0, 1])
    for loss, targets in (
        (fo.losses.LogisticLoss(), y),
        (fo.losses.SquaredError(), y),
        (fo.losses.CrossEntropy(), labels),
    ):
        expected = loss.mean(z, targets)
        assert loss.mean(mapped, targets.view(np.memmap)) == expected
        dz = np.empty_like(z).view(np.memmap)
        loss.bind(mapped, targets.view(np.memmap), dz, np.ones(2).view(np.memmap))()
        assert dz.any()
    expected = fo.softmax_cross_entropy(z, labels)
    loss, dz = fo.softmax_cross_entropy(mapped, labels.view(np.memmap))
    assert loss == expected[0]
    np.testing.assert_array_equal(dz, expected[1], strict=True)
    np.testing.assert_array_equal(fo.matmul(mapped, mapped.T), fo.matmul(z, z.T), strict=True)


def test_outputs_that_are_no_array():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("it requires a gradient")

    for z, message in ((Tensor(), "not Tensor: np.asarray"), ([[1.0]], "not list: np.asarray"), (1.0, "not float")):
        with pytest.raises(TypeError, match=f"z must be an array, {message}"):
            fo.losses.SquaredError().mean(z, z)


def test_targets_that_are_missing():
    y = np.array([0.0, np.nan])
    for loss in (fo.losses.LogisticLoss(), fo.losses.CrossEntropy(), fo.losses.SquaredError()):
        with pytest.raises(ValueError, match=r"y holds NaN or infinity .*, first in row 1: leave such rows out"):
            loss.targets("y", y, (2, 1), np.float32)
