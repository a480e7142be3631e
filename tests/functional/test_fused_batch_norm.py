"""Batch norm and an activation as one: the bits of the two, one after the other, forward and backward."""

import numpy as np
import pytest
from helpers import BACKENDS
from test_batch_norm import SHAPES, problem
from variants import VARIANTS, assert_same_bits, misaligned, numerical_gradient, using

import fastopt as fo
from fastopt import _backends, nn

ACTIVATIONS = "relu", "sigmoid", "tanh"


def separately(x, dy, activation, *arrays, **options):
    z, saved = fo.batch_norm(x, *arrays, **options)
    y = getattr(fo, activation)(z)
    before = getattr(fo, f"{activation}_backward")(dy, y)
    return y, *fo.batch_norm_backward(before, saved)


def as_one(x, dy, activation, *arrays, **options):
    y, saved = fo.batch_norm(x, *arrays, activation=activation, **options)
    return y, *fo.batch_norm_backward(dy, saved)


def assert_same(actual, expected, what):
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        if a is None or e is None:
            assert a is e
        else:
            assert_same_bits(a, e, f"{what}, result {i}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_bits_are_those_of_one_after_the_other_everywhere(shape, axis, dtype):
    x, dy, gamma, beta, mean, var = problem(shape, dtype, axis)
    slow = dtype == np.float64 and x.size > 20_000  # the reference's sigmoid and tanh
    for activation in ["relu"] if slow else ACTIVATIONS:

        def compute(how, place=np.copy, activation=activation):
            running = place(mean), place(var)
            trained = how(place(x), place(dy), activation, place(gamma), place(beta), *running, axis=axis)
            bare = how(place(x), place(dy), activation, axis=axis)[:2]
            evaluated = how(place(x), place(dy), activation, gamma, None, *running, axis=axis, training=False)[:3]
            return *trained, *running, *bare, *evaluated

        with using(("numpy", None, 1)):
            expected = compute(separately)
        assert_same(compute(as_one, misaligned), expected, f"misaligned {activation}")
        for variant in VARIANTS:
            with using(variant):
                assert_same(compute(as_one), expected, f"{variant} {activation}")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1100, 2000), (9, 9, 160, 170)], ids=str)
def test_results_too_large_for_the_cache(shape, activation):
    x, dy, gamma, beta, _, _ = problem(shape, np.float32)
    expected = separately(x, dy, activation, gamma, beta)
    for variant in VARIANTS:
        if variant[0] == "c" and variant[2] == 2:
            with using(variant):
                assert_same(as_one(misaligned(x), dy, activation, gamma, beta), expected, variant)
    y, saved = fo.batch_norm(x, gamma, beta, activation=activation)
    in_place = dy.copy()
    assert_same_bits(fo.batch_norm_backward(in_place, saved, out=in_place)[0], expected[1])
    fo.batch_norm(x, gamma, beta, activation=activation, out=x)
    assert_same_bits(x, y)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 7)], ids=str)
def test_in_place(shape, activation, backend):
    x, dy, gamma, beta, _, _ = problem(shape, np.float32, mean=0.3)
    with using((backend, None, 1)):
        expected = separately(x, dy, activation, gamma, beta)
        _, saved = fo.batch_norm(x, gamma, beta, activation=activation)
        assert_same(fo.batch_norm_backward(dy, saved, out=dy), expected[1:], "out=dy")
        y, saved = fo.batch_norm(x, gamma, beta, activation=activation, out=x)
        assert y is x
        assert_same_bits(y, expected[0])
        with pytest.raises(ValueError, match="wrote its result over x"):
            fo.batch_norm_backward(dy, saved)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(special, activation):
    for shape in ((70, 66), (4, 5, 70)):
        x, dy, gamma, beta, mean, var = problem(shape, np.float32)
        x[1, 1] = special
        dy[2, 2] = special
        dy[3, 3] = -0.0

        def compute(how, arrays=(x, dy, activation, gamma, beta, mean, var)):
            trained = how(*map(np.copy, arrays[:2]), activation, *map(np.copy, arrays[3:]))
            return *trained, *how(*arrays, training=False)

        with using(("numpy", None, 1)):
            expected = compute(separately)
        for variant in VARIANTS:
            with using(variant):
                assert_same(compute(as_one), expected, variant)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_finite_differences(training, activation, backend):
    x, weight, gamma, beta, *running = problem((5, 3, 4), np.float64, mean=0.2)

    def forward(x, gamma, beta):
        return fo.batch_norm(x, gamma, beta, *map(np.copy, running), training=training, activation=activation, eps=1e-3)

    with using((backend, None, 1)):
        y, saved = forward(x, gamma, beta)
        results = fo.batch_norm_backward(2 * weight * y, saved)
        for i, result in enumerate(results):
            arrays = [x, gamma, beta]

            def loss(value, i=i, arrays=arrays):
                y = forward(*arrays[:i], value, *arrays[i + 1 :])[0]
                return float((weight * y * y).sum())

            np.testing.assert_allclose(result, numerical_gradient(loss, arrays[i]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("activation", "error", "message"),
    [
        ("gelu", ValueError, "activation must be 'relu', 'sigmoid', 'tanh' or None, not 'gelu'"),
        ("identity", ValueError, "not 'identity'"),
        (1, TypeError, "activation must be a str or None, not int"),
        (fo.relu, TypeError, "activation must be a str or None, not function"),
    ],
)
def test_other_activations_are_refused_before_anything_is_written(activation, error, message):
    x, _, gamma, beta, mean, var = problem((6, 4), np.float64)
    y, before = np.full_like(x, 7.0), (mean.copy(), var.copy())
    with pytest.raises(error, match=message):
        fo.batch_norm(x, gamma, beta, mean, var, activation=activation, out=y)
    assert (y == 7).all()
    assert_same((mean, var), before, "running statistics")


def test_what_the_way_back_needs_cannot_be_its_output():
    x, dy, gamma, beta, _, _ = problem((6, 4), np.float64)
    for activation in ("sigmoid", "tanh"):
        y, saved = fo.batch_norm(x, gamma, beta, activation=activation)
        before = y.copy()
        with pytest.raises(ValueError, match="out overlaps y in memory"):
            fo.batch_norm_backward(dy, saved, out=y)
        assert_same_bits(y, before)
    y, saved = fo.batch_norm(x, gamma, beta, activation="relu")
    expected = fo.batch_norm_backward(dy, saved)
    assert_same(fo.batch_norm_backward(dy, saved, out=y), expected, "relu needs no y")
    with pytest.raises(ValueError, match="dbeta overlaps beta"):
        fo.batch_norm_backward(dy, saved, dbeta=beta)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_arrays_again_with_another_activation(backend):
    x, dy, gamma, beta, _, _ = problem((8, 3), np.float64, mean=0.1)
    y, dx, dgamma, dbeta = np.empty_like(x), np.empty_like(x), np.empty(3), np.empty(3)
    saved = None
    with using((backend, None, 1)):
        for activation in ("relu", "relu", None, "sigmoid", "tanh", "tanh", "relu", None):
            x += 0.1
            _, saved = fo.batch_norm(x, gamma, beta, activation=activation, out=y, saved=saved)
            fo.batch_norm_backward(dy, saved, dx, dgamma=dgamma, dbeta=dbeta)
            new, new_saved = fo.batch_norm(x, gamma, beta)
            grad = dy
            if activation:
                new = getattr(fo, activation)(new)
                grad = getattr(fo, f"{activation}_backward")(dy, new)
            expected = new, *fo.batch_norm_backward(grad, new_saved)
            assert_same((y, dx, dgamma, dbeta), expected, activation)


class OneByOne(nn.Sequential):
    """Its layers, each bound by itself."""

    def forward(self, x):
        for layer in self:
            x = layer(x)
        return x

    def backward(self, dy, **options):
        for layer in reversed(list(self)):
            dy = layer.backward(dy)
        return dy


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layer", [nn.ReLU, nn.Sigmoid, nn.Tanh])
@pytest.mark.parametrize("shape", [(9, 5), (4, 5, 6)], ids=str)
def test_a_sequential_runs_them_as_one(shape, layer, backend, monkeypatch):
    x, dy, gamma, beta, *_ = problem(shape, np.float32, mean=0.5)
    models = [kind(nn.BatchNorm(5), layer(), nn.Dropout(0.3, rng=1)) for kind in (nn.Sequential, OneByOne)]
    bound = []
    with using((backend, None, 1)):
        own = _backends.active.bind
        monkeypatch.setattr(_backends.active, "bind", lambda name, *rest: bound.append(name) or own(name, *rest))
        results = []
        for model in models:
            model[0].weight[...], model[0].bias[...] = gamma, beta
            outputs = []
            for training in (True, True, False):
                model.train(training)
                outputs += [model(x), model.backward(dy)]
            results.append(
                [*outputs, *(array.copy() for array in (*model.gradients().values(), *model.buffers.values()))]
            )
            bound.append("next")
    assert_same(*results, layer.__name__)
    first = bound[: bound.index("next")]
    assert layer.function not in first
    assert layer.function in bound
    assert "batch_norm" in first
