"""The data of a run: of any type, converted batch by batch; changed while it goes on; weights of any size."""

import copy
import tracemalloc

import numpy as np
import pytest
from fitting import network, problem
from helpers import set_dtype

import fastopt as fo
from fastopt import nn

X, Y = problem()
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])


def classifier(dtype=np.float32):
    return nn.Sequential(nn.Linear(5, 6, dtype=dtype), nn.Tanh(), nn.Linear(6, 3, dtype=dtype), rng=0)


def fit(model, X, y, epochs=3, **options):
    opt = fo.optim.Adam(model.parameters(), lr=0.01)
    return fo.fit(model, X, y, optimizer=opt, epochs=epochs, rng=1, **options)


# -- changed while it goes on --


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint64])
def test_labels_that_a_callback_changes_are_not_followed(dtype):
    expected, model, y = classifier(), classifier(), LABELS.astype(dtype)
    expected_history = fit(expected, X, LABELS, loss="cross_entropy", validation=(X, LABELS))

    def change(run):
        y[::2] = 10**6

    history = fit(model, X, y, loss="cross_entropy", validation=(X, y), callbacks={"start": change, "epoch": change})
    for name, param in expected.parameters().items():
        np.testing.assert_array_equal(model.parameters()[name], param)
    assert history.val_loss == expected_history.val_loss


def test_targets_of_validation_that_a_callback_changes_are_not_followed():
    y = Y.astype(np.float32)[:, None]
    X_val, y_val = X.copy(), y.copy()

    def shrink(run):
        y_val.resize((3, 1), refcheck=False)

    expected = fit(network(), X, y, validation=(X, y)).val_loss
    assert fit(network(), X, y, validation=(X_val, y_val), callbacks={"start": shrink}).val_loss == expected


@pytest.mark.parametrize("which", ["X", "y", "validation X"])
def test_data_that_is_reshaped_is_noticed(which):
    data = {"X": X.copy(), "y": np.ascontiguousarray(np.stack([Y, Y], 1), np.float32), "validation X": X.copy()}
    model = nn.Sequential(nn.Linear(5, 2), rng=0)

    def reshape(run):
        array = data[which]
        array.resize(array.shape[::-1], refcheck=False)

    with pytest.raises(ValueError, match=rf"^{which} was float32 of shape \(70, .\) when training began, and is"):
        fit(model, data["X"], data["y"], loss="mse", validation=(data["validation X"], data["y"].copy()),
            callbacks={"epoch": reshape})  # fmt: skip


@pytest.mark.parametrize("change", [lambda a: a.resize((7, 5), refcheck=False), lambda a: set_dtype(a, np.int32)])
@pytest.mark.parametrize("event", ["batch", "epoch"])
def test_inputs_that_become_smaller_or_of_another_type(change, event):
    inputs = X.copy()
    watch = {event: lambda run: (run.batch > 2 or run.batch == 1) and run.epoch == 1 and change(inputs)}
    # where the core has its address, NumPy itself refuses to resize it
    with pytest.raises(
        (ValueError, TypeError), match=r"X was float32 of shape \(70, 5\) when|Cannot cast|cannot resize"
    ):
        fit(network(), inputs, Y, callbacks=watch)


def test_inputs_that_become_nan_are_noticed_by_their_gradients():
    inputs = X.copy()
    with pytest.raises(FloatingPointError, match="gradients hold inf or NaN"):
        fit(network(), inputs, Y, callbacks={"epoch": lambda run: inputs.fill(np.nan)})


@pytest.mark.parametrize("layers", [[nn.BatchNorm(5), nn.Linear(5, 1)], [nn.Linear(5, 1)]])
@pytest.mark.parametrize("kind", ["params", "grads", "buffers"])
@pytest.mark.parametrize("event", ["batch", "epoch"])
def test_arrays_of_the_model_that_get_other_memory_are_noticed(layers, kind, event):
    model = copy.deepcopy(nn.Sequential(*layers) if len(layers) > 1 else layers[0])
    arrays, seen, where_they_were = list(dict(model.kinds())[kind].values()), [], []

    def move(run):
        seen.append({name: array.copy() for name, array in model.parameters().items()})
        for array in arrays if run.epoch == 1 else ():
            shape, values = array.shape, array.copy()
            array.__setstate__((1, (4096,), array.dtype, False, bytes(4096 * array.itemsize)))
            where_they_were.append(np.empty(shape, array.dtype))
            array.__setstate__((1, shape, array.dtype, False, values.tobytes()))

    if not arrays:
        fit(model, X, Y, callbacks={event: move})
        return
    with pytest.raises(ValueError, match="has other memory"):
        fit(model, X, Y, callbacks={event: move})
    for name, array in model.parameters().items():  # no step after that
        np.testing.assert_array_equal(array, seen[-1][name])


# -- types --


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.int16, bool, np.float64, ">f4", np.longdouble])
@pytest.mark.parametrize("validation", [None, 0.2])
def test_inputs_of_other_types_give_the_bits_of_converted_ones(dtype, validation):
    inputs = (10 * X).astype(dtype)
    expected, model, strided = network(), network(), network()
    history = fit(expected, inputs.astype(np.float32), Y, validation=validation)
    assert fit(model, inputs, Y, validation=validation).val_loss == history.val_loss
    fit(strided, np.asfortranarray(inputs), Y, validation=validation)
    for name, param in expected.parameters().items():
        np.testing.assert_array_equal(model.parameters()[name], param)
        np.testing.assert_array_equal(strided.parameters()[name], param)


@pytest.mark.parametrize("kind", ["float16", "uint8", "float64", "on disk", "on disk, strided"])
def test_inputs_are_not_copied(kind, tmp_path):
    """Of 2 million numbers, of which 4 bytes each would be 8 MB."""
    dtype = np.dtype("float32" if "disk" in kind else kind)
    if "disk" in kind:
        inputs = np.memmap(tmp_path / "X", dtype, "w+", shape=(20_000, 200 if "strided" in kind else 100))
        inputs = inputs[:, ::2] if "strided" in kind else inputs
    else:
        inputs = np.zeros((20_000, 100), dtype)
    y = np.zeros(20_000, np.float32)
    y[::2] = 1
    model = nn.Linear(100, 1)
    tracemalloc.start()
    try:
        fit(model, inputs, y, epochs=1, batch_size=256, validation=0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_what_is_not_finite_is_found_in_any_row_of_any_type():
    large = np.zeros((3000, 200), np.float16)
    large[2345, 7] = np.inf
    for inputs in (large, large.astype(np.float32), large.astype(np.float64)):
        with pytest.raises(ValueError, match=r"X holds NaN or infinity \(as float32\), first in row 2345"):
            fit(nn.Linear(200, 1), inputs, np.zeros(3000))


def test_arrays_of_objects_that_are_numbers():
    """As data frames with columns of several types make them."""
    inputs = X.astype(object)
    inputs[:, 1] = X[:, 1] > 0
    inputs[:, 2] = [int(10 * x) for x in X[:, 2]]
    expected, model = classifier(), classifier()
    fit(expected, inputs.astype(np.float64), LABELS, loss="cross_entropy")
    fit(model, inputs, LABELS.astype(object), loss="cross_entropy")
    for name, param in expected.parameters().items():
        np.testing.assert_array_equal(model.parameters()[name], param)
    for value, message in (
        (None, "in row 3 a value is missing: fill it in, or leave such rows out"),
        ("x", "in row 3 there is 'x'"),
    ):
        inputs[3, 4] = value
        with pytest.raises(TypeError, match=f"X must hold real numbers, not object: {message}"):
            fit(network(), inputs, Y)


def test_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.astype(float))
    mixed = frame.assign(flag=Y, whole=LABELS)
    expected, model = network(7), network(7)
    fit(expected, np.column_stack([X.astype(float), Y, LABELS]), Y)
    fit(model, mixed.convert_dtypes(), pandas.Series(Y, dtype="boolean"))
    np.testing.assert_array_equal(model[0].weight, expected[0].weight)
    mixed = mixed.convert_dtypes()
    mixed.loc[5, "whole"] = pandas.NA
    with pytest.raises(TypeError, match="in row 5 a value is missing"):
        fit(network(7), mixed, Y)


def test_masks_and_sparse_matrices_are_refused():
    masked = np.ma.masked_less(X, 0)
    for arguments in ((masked, Y), (X, np.ma.masked_equal(Y, True))):
        with pytest.raises(TypeError, match="is a masked array, and its mask would be lost"):
            fit(network(), *arguments)
    with pytest.raises(TypeError, match="sample_weight is a masked array"):
        fit(network(), X, Y, sample_weight=np.ma.masked_less(X[:, 0], 0))
    with pytest.raises(TypeError, match="validation X is a masked array"):
        fit(network(), X, Y, validation=(masked, Y))
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"X is a sparse csr_\w+: X\.toarray\(\) makes an array of it"):
        fit(network(), sparse.csr_matrix(X), Y)


# -- weights --

WEIGHT = np.random.default_rng(5).integers(1, 4, 70).astype(float)


@pytest.mark.parametrize("scale", [1e306, 5e307, 1e-306, 1e-320, 2.0**-1074])
@pytest.mark.parametrize("kind", ["sample_weight", "weight of classes", "both"])
def test_only_the_ratios_of_weights_matter(scale, kind):
    weight = WEIGHT.round() if scale > 1e-310 else np.full(70, 1.0)
    of_classes = np.array([1.0, 2.0, 3.0]) if scale > 1e-310 else np.ones(3)

    def run(scale):
        model = classifier(np.float64)
        options = {}
        if kind != "sample_weight":
            options["loss"] = fo.losses.CrossEntropy(weight=of_classes * scale)
        if kind != "weight of classes":
            options["sample_weight"] = weight * scale
        history = fit(model, X, LABELS, **{"loss": "cross_entropy", **options}, validation=0.2)
        return model, history

    (expected, expected_history), (model, history) = run(1.0), run(scale)
    np.testing.assert_allclose(history.loss, expected_history.loss, rtol=1e-9)
    np.testing.assert_allclose(history.val_accuracy, expected_history.val_accuracy, rtol=1e-9)
    for name, param in expected.parameters().items():
        np.testing.assert_allclose(model.parameters()[name], param, rtol=1e-6, atol=1e-9)


def test_weights_of_ignored_rows_do_not_matter():
    loss = fo.losses.CrossEntropy(ignore_index=1)

    def run(ignored):
        model, weight = classifier(np.float64), WEIGHT * 1e-10
        weight[LABELS == 1] = ignored
        fit(model, X, LABELS, loss=loss, sample_weight=weight, validation=0.2)
        return model.fingerprint()

    assert run(1e306) == run(0.0) == run(1.0)


def test_weights_under_errors_of_numpy():
    with np.errstate(all="raise"):
        fit(network(), X, Y, sample_weight=np.geomspace(1e-300, 1e300, 70), validation=0.2)
        errors = np.geterr()
    assert set(errors.values()) == {"raise"}


def test_the_divisor_with_class_weights_and_ignored_labels():
    """As fit says: the batch's sum of class weights, and the mean of the sample weights, weighted by those."""
    loss = fo.losses.CrossEntropy(weight=[1.0, 2.0, 0.5], ignore_index=1)
    model, by_hand = classifier(np.float64), classifier(np.float64)
    opt = fo.optim.SGD(model.parameters(), lr=0.5)
    fo.fit(model, X, LABELS, loss=loss, optimizer=opt, epochs=1, batch_size=16, shuffle=False, sample_weight=WEIGHT)
    counts = np.array([1.0, 0.0, 0.5])[LABELS]
    mean = np.average(WEIGHT, weights=counts)
    opt = fo.optim.SGD(by_hand.parameters(), lr=0.5)
    for begin in range(0, 70, 16):
        rows = slice(begin, begin + 16)
        z = by_hand(X[rows].astype(float))
        each = counts[rows] * WEIGHT[rows]
        p = np.exp(z)
        dz = p / p.sum(axis=1, keepdims=True) - np.eye(3)[LABELS[rows]]
        by_hand.backward(dz * each[:, None] / counts[rows].sum() / mean)
        opt.step(by_hand.gradients())
    for name, param in by_hand.parameters().items():
        np.testing.assert_allclose(model.parameters()[name], param, rtol=1e-9)
