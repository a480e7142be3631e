"""Layer norm: against PyTorch's recorded results, finite differences, and itself in every backend; and as a layer."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from variants import VARIANTS, assert_all_agree, misaligned, numerical_gradient

import fastopt as fo
from fastopt import nn

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "torch_layers.npz"))
CASES = json.loads(str(GOLDEN["cases"]))["layer_norm"]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_results_are_pytorchs(backend, case):
    h = CASES[case]
    x, dy, w, b = (GOLDEN.get(f"layer_norm{case}_{key}") for key in ("x", "dy", "w", "b"))
    shape = tuple(h["normalized"])
    y, saved = fo.layer_norm(x, w, b, normalized_shape=shape, eps=h["eps"])
    dx, dw, db = fo.layer_norm_backward(dy, saved)
    layer = nn.LayerNorm(shape, h["eps"], h["weight"], h["bias"], dtype=np.float64)
    for name, value in (("weight", w), ("bias", b)):
        if value is not None:
            layer.params[name][...] = value
    found = [y, dx, dw, db], [layer(x), layer.backward(dy), layer.grads.get("weight"), layer.grads.get("bias")]
    for results in found:
        for result, key in zip(results, ("y", "dx", "dw", "db"), strict=True):
            expected = GOLDEN.get(f"layer_norm{case}_{key}")
            if expected is None:
                assert result is None
            else:
                np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-11)


# one column; fewer than the lanes; a rest beside them; more than a block of rows, and than a block of elements; no rows
SHAPES = [(3, 1), (4, 3), (70, 16), (130, 33), (1100, 9), (9, 1029), (2, 9001), (0, 4), (2, 3, 5)]


def problem(shape, dtype):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, *shape)) * 2 + 3).astype(dtype)
    gamma, beta = rng.standard_normal((2, shape[-1])).astype(dtype)
    return x, dy, gamma, beta


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_are_the_same_everywhere(shape, dtype):
    x, dy, gamma, beta = problem(shape, dtype)
    if len(x) > 2:
        x[1, 0], x[2, -1] = np.nan, -np.inf

    def compute(place=np.copy):
        results = []
        for g, b in ((gamma, beta), (gamma, None), (None, beta), (None, None)):
            y, saved = fo.layer_norm(place(x), None if g is None else place(g), b)
            results += [y, saved.statistics, *(r for r in fo.layer_norm_backward(place(dy), saved) if r is not None)]
        written = place(dy)
        assert fo.layer_norm_backward(written, saved, out=written)[0] is written
        return [*results, written, fo.layer_norm(x, gamma, beta, out=place(x))[0]]

    expected = assert_all_agree(compute)
    for result, again in zip(expected, compute(misaligned), strict=True):
        np.testing.assert_array_equal(result, again)


def test_results_too_large_for_the_cache_are_the_same():
    """They are stored by other instructions."""
    x, dy, gamma, beta = problem((1100, 2000), np.float32)

    def compute():
        y, saved = fo.layer_norm(misaligned(x), gamma, beta)
        return y, *fo.layer_norm_backward(dy, saved, out=misaligned(dy))

    y, dx, _, _ = assert_all_agree(compute, [v for v in VARIANTS if v[0] == "c" and v[1] != "baseline"])
    np.testing.assert_array_equal(y[::100], fo.layer_norm(x[::100], gamma, beta)[0])
    written = dy.copy()
    np.testing.assert_array_equal(fo.layer_norm_backward(written, fo.layer_norm(x, gamma)[1], out=written)[0], dx)


def test_the_variance_survives_a_mean_of_ten_thousand_deviations(backend):
    x = (np.random.default_rng(1).standard_normal((50, 300)) + 1e4).astype(np.float32)
    exact = x.astype(np.float64)
    y, _ = fo.layer_norm(x, eps=0.0)
    expected = (exact - exact.mean(1, keepdims=True)) / exact.std(1, keepdims=True)
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 2)], ids=str)
def test_gradients_are_those_of_finite_differences(shape):
    x, dy, gamma, beta = problem(shape, np.float64)

    def loss(x, gamma, beta):
        return (dy * fo.layer_norm(x, gamma, beta)[0]).sum()

    gradients = fo.layer_norm_backward(dy, fo.layer_norm(x, gamma, beta)[1])
    np.testing.assert_allclose(
        gradients[0], numerical_gradient(lambda v: loss(v, gamma, beta), x), rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(gradients[1], numerical_gradient(lambda v: loss(x, v, beta), gamma), rtol=1e-7)
    np.testing.assert_allclose(gradients[2], numerical_gradient(lambda v: loss(x, gamma, v), beta), rtol=1e-7)


def test_rows_that_are_constant_not_numbers_or_not_there(backend):
    x = np.array([[2.0, 2.0], [np.nan, 1.0], [np.inf, 1.0], [1.0, -1.0]])
    y, saved = fo.layer_norm(x, np.ones(2), np.array([5.0, 6.0]), eps=0.01)
    np.testing.assert_array_equal(y[0], [5.0, 6.0])
    assert np.isnan(y[1:3]).all()
    assert np.isfinite(y[3]).all()
    y, saved = fo.layer_norm(x[:0], np.ones(2), np.zeros(2))
    dx, dgamma, dbeta = fo.layer_norm_backward(y, saved)
    assert y.shape == dx.shape == (0, 2)
    np.testing.assert_array_equal([dgamma, dbeta], 0)
    one = fo.layer_norm(np.array([[3.0], [-7.0]]))[0]  # a value is its own mean
    np.testing.assert_array_equal(one, 0)


def test_arrays_of_any_layout_are_read(backend):
    x, dy, gamma, beta = problem((6, 8), np.float64)
    y, saved = fo.layer_norm(x, gamma, beta)
    gradients = fo.layer_norm_backward(dy, saved)
    turned, saved = fo.layer_norm(np.asfortranarray(x), np.repeat(gamma, 2)[::2], beta)
    np.testing.assert_array_equal(turned, y)
    for found, expected in zip(fo.layer_norm_backward(np.asfortranarray(dy), saved), gradients, strict=True):
        np.testing.assert_array_equal(found, expected)
    for again in (copy.deepcopy(saved), pickle.loads(pickle.dumps(saved))):
        np.testing.assert_array_equal(fo.layer_norm_backward(dy, again)[0], gradients[0])


X = np.arange(12.0).reshape(4, 3)
BAD = [
    ((X, np.ones(4)), {}, ValueError, r"x has shape \(4, 3\): its last axes .*\(4,\)"),
    ((X, np.ones(3, np.float32)), {}, TypeError, "gamma is float32, x is float64"),
    ((X, np.ones(3), np.ones((1, 3))), {}, ValueError, r"beta has shape \(1, 3\), .* \(3,\)"),
    ((X, [1.0]), {}, TypeError, "gamma must be a plain numpy.ndarray, not list"),
    ((X.tolist(),), {}, TypeError, "x must be a plain numpy.ndarray, not list"),
    ((X.astype(int),), {}, TypeError, "x must be float32 or float64, not int64"),
    ((X,), {"normalized_shape": (5, 3)}, ValueError, r"x has shape \(4, 3\): .* \(5, 3\)"),
    ((X,), {"normalized_shape": 0}, ValueError, "normalized_shape must be at least 1, not 0"),
    ((X,), {"normalized_shape": ()}, ValueError, "normalized_shape is empty"),
    ((X,), {"normalized_shape": True}, TypeError, "normalized_shape must be an int or a tuple of int, not bool"),
    ((X,), {"normalized_shape": "3"}, TypeError, "normalized_shape must be an int or a tuple of int, not str"),
    ((X,), {"eps": -1.0}, ValueError, "eps must be a finite number"),
    ((X[:, :0],), {}, ValueError, r"x has shape \(4, 0\), .* at least one value per row"),
    ((np.float64(1.0),), {}, TypeError, "x must be a plain numpy.ndarray, not float64"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD)
def test_bad_input_is_refused_before_anything_is_written(arguments, options, error, message):
    out = np.full((4, 3), 7.0)
    with pytest.raises(error, match=message):
        fo.layer_norm(*arguments, **options, out=out)
    assert (out == 7).all()


def test_bad_input_of_the_backward_pass_is_refused():
    gamma, out = np.ones(3), np.full((4, 3), 7.0)
    x = X.copy()
    _, saved = fo.layer_norm(x, gamma, gamma)
    for arguments, options, error, message in [
        ((X, None), {}, TypeError, "saved must be a LayerNormSaved, not NoneType"),
        ((X[:2], saved), {}, ValueError, r"dy has shape \(2, 3\), x has \(4, 3\)"),
        ((X, saved), {"dgamma": np.ones(4)}, ValueError, r"dgamma has shape \(4,\)"),
        ((X, saved), {"dgamma": gamma}, ValueError, "dgamma overlaps gamma"),
        ((X, saved), {"dbeta": X[0]}, ValueError, "dbeta overlaps dy"),
        ((X, saved), {"dbeta": out[0]}, ValueError, "overlaps"),
        ((X, saved), {"dbeta": np.ones(6)[::2]}, ValueError, "dbeta must be C-contiguous"),
        ((X, fo.layer_norm(X, out=X.copy())[1]), {}, None, None),
    ]:
        if error is not None:
            with pytest.raises(error, match=message):
                fo.layer_norm_backward(*arguments, out=out, **options)
            assert (out == 7).all()
    over = X.copy()
    with pytest.raises(ValueError, match="wrote its result over x"):
        fo.layer_norm_backward(X, fo.layer_norm(over, out=over)[1])
    x.shape = 3, 4
    with pytest.raises(ValueError, match="x was changed in place"):
        fo.layer_norm_backward(X, saved)


# -- the layer --


def network(rng=0):
    layers = nn.LayerNorm(4, bias=False), nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 1)
    return nn.Sequential(*layers, rng=rng, dtype=np.float64)


def test_training_is_the_functions_and_the_same_in_every_backend():
    rng = np.random.default_rng(2)
    inputs, y = rng.standard_normal((20, 4)), rng.standard_normal((20, 1))

    def compute():
        model, fitted = network(), network()
        step = fo.TrainingStep(model, fo.optim.Adam(model.parameters(), lr=0.01), loss="huber")
        losses = [step(inputs, y) for _ in range(3)]
        opt = fo.optim.Adam(fitted.parameters(), lr=0.01)
        fo.fit(fitted, inputs, y, loss="huber", optimizer=opt, epochs=3, batch_size=8, rng=0)
        return np.array(losses), *model.state_dict().values(), fitted.predict(inputs[:8], 4)

    assert_all_agree(compute)
    assert nn.check_gradients(network(), inputs[:5]).ok


def test_it_is_saved_copied_and_changed(tmp_path):
    model, other = network(), network(rng=1)
    x = np.random.default_rng(3).standard_normal((6, 4))
    model.parameters()["2.weight"][...] = 2.0
    fo.save(tmp_path / "model", model.state_dict())
    other.load_state_dict(fo.load(tmp_path / "model"))
    before = model(x)
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin(x), before)
        np.testing.assert_array_equal(twin.predict(x, 2), before)
    model[2].eps = 10.0  # takes effect in passes that there are already
    assert abs(model(x) - before).max() > 1e-3
    with pytest.raises(ValueError, match="eps must be a finite number"):
        model[2].eps = -1
    with pytest.raises(AttributeError, match=r"normalized_shape of .* cannot be replaced"):
        model[2].normalized_shape = (3,)
    assert repr(nn.LayerNorm((2, 3), 0.1, False)) == "LayerNorm((2, 3), eps=0.1, elementwise_affine=False)"
    assert repr(nn.LayerNorm(3, bias=False)) == "LayerNorm(3, bias=False)"
    with pytest.raises(ValueError, match=r"LayerNorm\(3\) takes \(..., 3\), and was given \(2, 4\)"):
        nn.LayerNorm(3)(np.zeros((2, 4), np.float32))
