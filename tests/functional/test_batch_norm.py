"""Batch norm: against PyTorch's recorded results, finite differences, and itself in every backend."""

import copy
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import BACKENDS, set_dtype
from variants import VARIANTS, assert_all_agree, misaligned, numerical_gradient, using

import fastopt as fo
from fastopt import _backends

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "torch_functions.npz"))
CASES = json.loads(str(GOLDEN["cases"]))["bn"]


def golden(case, key):
    return GOLDEN.get(f"bn{case}_{key}")


def of_batch(case, key, batch):
    return golden(case, key)[batch].reshape(CASES[case]["shape"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("channels_last", [False, True])
def test_three_batches_in_training_and_one_in_evaluation_equal_pytorchs(backend, case, channels_last):
    h = CASES[case]
    gamma, beta = golden(case, "w"), golden(case, "b")
    channels = h["shape"][1]
    running_mean, running_var = np.zeros(channels), np.ones(channels)
    given = (lambda x: np.ascontiguousarray(np.moveaxis(x, 1, -1))) if channels_last else lambda x: x
    with using((backend, None, 1)):
        for batch in range(4):
            training = batch < 3
            y, saved = fo.batch_norm(
                given(of_batch(case, "x", batch)), gamma, beta, running_mean, running_var,
                training=training, momentum=h["momentum"], eps=h["eps"], num_batches_tracked=batch,
                axis=-1 if channels_last else 1,
            )  # fmt: skip
            dx, dgamma, dbeta = fo.batch_norm_backward(given(of_batch(case, "dy", batch)), saved)
            scale = max(1.0, np.abs(of_batch(case, "x", batch)).max())  # x - mean has lost that many digits in both
            close = {"rtol": 1e-11 * scale, "atol": 1e-12 * scale}
            np.testing.assert_allclose(y, given(of_batch(case, "y", batch)), **close)
            np.testing.assert_allclose(dx, given(of_batch(case, "dx", batch)), **close)
            if gamma is None:
                assert dgamma is None
                assert dbeta is None
            else:
                np.testing.assert_allclose(dgamma, golden(case, "dw")[batch], **close)
                np.testing.assert_allclose(dbeta, golden(case, "db")[batch], **close)
            if training:
                np.testing.assert_allclose(running_mean, golden(case, "rm")[batch], rtol=1e-12)
                np.testing.assert_allclose(running_var, golden(case, "rv")[batch], rtol=1e-9)


def problem(shape, dtype, axis=1, seed=0, mean=3.0):
    rng = np.random.default_rng(seed)
    channels = shape[axis]
    x, dy = (rng.standard_normal((2, *shape)) * 2 + mean).astype(dtype)
    gamma, beta, running_mean = rng.standard_normal((3, channels)).astype(dtype)
    return x, dy, gamma, beta, running_mean, rng.uniform(0.5, 2, channels).astype(dtype)


# every path: few and many columns, more than a block of rows or a tile of columns, planes smaller and larger than
# the lanes and than a block, few and many channels; sizes that leave a rest everywhere
SHAPES = [
    ((2, 1), 1), ((300, 1), 1), ((9000, 1), 1), ((37, 3), 1), ((5000, 7), 1), ((131, 63), 1), ((300, 64), 1),
    ((259, 130), 1), ((3, 2051), 1), ((130, 1031), 1), ((5, 7, 6), -1), ((5, 3, 7), 1), ((300, 9, 4), 1),
    ((3, 20, 13, 11), 1), ((2, 3, 9001), 1), ((7, 3, 50, 50), 1), ((3, 10, 3, 5, 7), 1), ((1, 2, 20000), 1),
    ((4, 6, 5), 0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_bits_are_the_same_everywhere(shape, axis, dtype):
    x, dy, gamma, beta, running_mean, running_var = problem(shape, dtype, axis)

    def compute(place):
        mean, var = place(running_mean), place(running_var)
        y, saved = fo.batch_norm(place(x), place(gamma), place(beta), mean, var, axis=axis)
        back = fo.batch_norm_backward(place(dy), saved)
        y_eval, saved_eval = fo.batch_norm(place(x), None, beta, mean, var, axis=axis, training=False)
        dx_eval, _, dbeta_eval = fo.batch_norm_backward(place(dy), saved_eval)
        return y, *back, saved.statistics, mean, var, y_eval, dx_eval, dbeta_eval

    expected = assert_all_agree(lambda: compute(np.copy))
    for result, again in zip(expected, compute(misaligned), strict=True):
        np.testing.assert_array_equal(result, again)


@pytest.mark.parametrize("shape", [(1100, 2000), (9, 9, 160, 170)], ids=str)
def test_results_too_large_for_the_cache_are_the_same(shape):
    """They are stored by other instructions."""
    x, dy, gamma, beta, _, _ = problem(shape, np.float32)

    def compute():
        y, saved = fo.batch_norm(misaligned(x), gamma, beta)
        return y, *fo.batch_norm_backward(dy, saved)

    in_place = dy.copy()
    assert_all_agree(compute, [v for v in VARIANTS if v[0] == "c"])
    np.testing.assert_array_equal(
        fo.batch_norm_backward(in_place, fo.batch_norm(x, gamma, beta)[1], out=in_place)[0], compute()[1]
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(4000, 5), (200, 70), (4, 3, 33, 35)], ids=str)
def test_the_variance_survives_a_mean_of_ten_thousand_deviations(backend, shape):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(shape) + 1e4).astype(np.float32)
    exact = x.astype(np.float64)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    running_mean, running_var = np.zeros(shape[1], np.float32), np.zeros(shape[1], np.float32)
    with using((backend, None, 1)):
        y, _ = fo.batch_norm(x, None, None, running_mean, running_var, momentum=1.0, unbiased=False, eps=0.0)
    np.testing.assert_allclose(running_var, exact.var(axes), rtol=1e-6)
    np.testing.assert_allclose(running_mean, exact.mean(axes), rtol=1e-7)
    expected = (exact - exact.mean(axes, keepdims=True)) / exact.std(axes, keepdims=True)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_the_first_element_may_be_far_off():
    """Deviations are taken from it: still, nothing that counts is lost."""
    x = np.random.default_rng(2).standard_normal((5000, 3)).astype(np.float32)
    x[0] = 1e4
    running_var = np.zeros(3, np.float32)
    fo.batch_norm(x, None, None, np.zeros(3, np.float32), running_var, momentum=1.0, unbiased=False)
    np.testing.assert_allclose(running_var, x.astype(np.float64).var(0), rtol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), 1), ((3, 2, 4), 1), ((2, 3, 2), -1)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_finite_differences(shape, axis, training):
    x, weight, gamma, beta, running_mean, running_var = problem(shape, np.float64, axis)

    def forward(x, gamma, beta):
        running = running_mean.copy(), running_var.copy()
        return fo.batch_norm(x, gamma, beta, *running, training=training, axis=axis, eps=1e-3)

    def loss(x, gamma, beta):
        y, _ = forward(x, gamma, beta)
        return float((weight * y * y).sum())

    y, saved = forward(x, gamma, beta)
    dx, dgamma, dbeta = fo.batch_norm_backward(2 * weight * y, saved)
    close = {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose(dx, numerical_gradient(lambda v: loss(v, gamma, beta), x), **close)
    np.testing.assert_allclose(dgamma, numerical_gradient(lambda v: loss(x, v, beta), gamma), **close)
    np.testing.assert_allclose(dbeta, numerical_gradient(lambda v: loss(x, gamma, v), beta), **close)


def test_running_statistics():
    x = np.random.default_rng(3).standard_normal((10, 2))
    mean, var = np.full(2, 5.0), np.full(2, 7.0)
    fo.batch_norm(x, None, None, mean, var, momentum=0.25, unbiased=False)
    np.testing.assert_allclose(mean, 0.75 * 5 + 0.25 * x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(var, 0.75 * 7 + 0.25 * x.var(0), rtol=1e-14)
    fo.batch_norm(x, None, None, mean, var, momentum=1.0)
    np.testing.assert_allclose(var, x.var(0, ddof=1), rtol=1e-14)
    batches = np.random.default_rng(4).standard_normal((4, 10, 2))
    for i, batch in enumerate(batches):
        fo.batch_norm(batch, None, None, mean, var, momentum=None, num_batches_tracked=i)
    np.testing.assert_allclose(mean, batches.mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(var, batches.var(1, ddof=1).mean(0), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_channel_with_an_infinity_is_nan_and_the_others_are_not(backend):
    x = np.random.default_rng(5).standard_normal((20, 3))
    x[4, 1] = np.inf
    with using((backend, None, 1)):
        y, saved = fo.batch_norm(x)
        dx, _, _ = fo.batch_norm_backward(np.ones_like(x), saved)
        evaluated, saved = fo.batch_norm(x, None, None, np.zeros(3), np.ones(3), training=False)
        dx_evaluated, _, _ = fo.batch_norm_backward(np.ones_like(x), saved)
    assert np.isnan(y[:, 1]).all()
    assert np.isnan(dx[:, 1]).all()
    assert np.isfinite(np.delete(y, 1, 1)).all()
    assert evaluated[4, 1] == np.inf
    assert np.isfinite(dx_evaluated).all()


def test_equal_values_give_beta():
    y, _ = fo.batch_norm(np.full((9, 2), 1e6, np.float32), np.ones(2, np.float32), np.array([1, 2], np.float32))
    np.testing.assert_array_equal(y, np.tile(np.array([1, 2], np.float32), (9, 1)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batches(backend):
    with using((backend, None, 1)):
        for shape in ((0, 3), (0, 3, 4), (2, 3, 0)):
            x = np.empty(shape)
            y, saved = fo.batch_norm(x, np.ones(3), np.zeros(3), np.zeros(3), np.ones(3), training=False)
            dx, dgamma, dbeta = fo.batch_norm_backward(x, saved)
            assert y.shape == dx.shape == shape
            np.testing.assert_array_equal(dgamma, np.zeros(3))
            np.testing.assert_array_equal(dbeta, np.zeros(3))
            with pytest.raises(ValueError, match=r"needs at least 2 values per channel, and there is 0"):
                fo.batch_norm(x)
        y, saved = fo.batch_norm(np.empty((4, 0)))
        assert y.shape == fo.batch_norm_backward(y, saved)[0].shape == (4, 0)


def test_outputs_and_saved_buffers_are_used():
    x, dy, gamma, beta, _, _ = problem((6, 4), np.float32)
    y, saved = fo.batch_norm(x, gamma, beta)
    expected = fo.batch_norm_backward(dy, saved)
    out, buffers = np.empty_like(x), [np.empty(4, np.float32) for _ in range(2)]
    y2, saved2 = fo.batch_norm(x, gamma, beta, out=out, saved=saved)
    assert y2 is out
    assert saved2 is saved
    results = fo.batch_norm_backward(dy, saved2, dy, dgamma=buffers[0], dbeta=buffers[1])
    assert results[0] is dy
    assert results[1] is buffers[0]
    assert results[2] is buffers[1]
    np.testing.assert_array_equal(y, out)
    for result, e in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, e)
    y3, saved = fo.batch_norm(x, gamma, beta, out=x)
    np.testing.assert_array_equal(y3, y)
    with pytest.raises(ValueError, match="wrote its result over x"):
        fo.batch_norm_backward(dy, saved)


def bad_calls():
    x, ones = np.ones((4, 3)), np.ones(3)
    read_only = np.ones(3)
    read_only.flags.writeable = False
    shared = np.ones(6)
    yield {"x": [[1.0]]}, TypeError, "x must be a plain numpy.ndarray, not list"
    yield {"x": np.ones((4, 3), np.int32)}, TypeError, "x must be float32 or float64, not int32"
    yield {"x": ones}, ValueError, r"x has shape \(3,\); batch norm needs at least two"
    yield {"x": x[:1]}, ValueError, r"x has shape \(1, 3\): .* at least 2 values per channel, and there is 1"
    yield {"axis": 2}, ValueError, "axis is 2, but x has 2"
    yield {"axis": 1.0}, TypeError, "axis must be an int, not float"
    yield {"gamma": np.ones(4)}, ValueError, r"gamma has shape \(4,\), for 3 channels it must be \(3,\)"
    yield {"beta": np.ones(3, np.float32)}, TypeError, "beta is float32, x is float64"
    yield {"running_mean": None}, ValueError, "running_mean is None, running_var is not"
    yield {"running_var": None}, ValueError, "running_var is None, running_mean is not"
    yield {"running_var": read_only}, ValueError, "running_var is read-only"
    yield {"running_mean": np.ones(6)[::2]}, ValueError, r"running_mean must be C-contiguous; its strides are \(16,\)"
    yield {"running_mean": shared[:3], "running_var": shared[2:5]}, ValueError, "running_mean overlaps running_var"
    yield {"running_mean": None, "running_var": None, "training": False}, ValueError, "evaluation needs them"
    yield {"momentum": 1.5}, ValueError, "momentum must be from 0 to 1, not 1.5"
    yield {"momentum": None}, TypeError, "num_batches_tracked must be an int, not NoneType"
    yield {"momentum": None, "num_batches_tracked": -1}, ValueError, "num_batches_tracked must be at least 0, not -1"
    yield {"eps": -1e-5}, ValueError, "eps must be a finite number"
    yield {"out": np.ones((3, 4))}, ValueError, r"out has shape \(3, 4\), x has \(4, 3\)"
    yield {"out": np.ones((4, 3), np.float32)}, TypeError, "out is float32, x is float64"
    yield {"saved": "old"}, TypeError, "saved must be a BatchNormSaved, not str"


@pytest.mark.parametrize(("change", "error", "message"), list(bad_calls()))
def test_bad_input_is_refused_before_anything_is_written(change, error, message):
    x, mean, var, out = np.arange(12.0).reshape(4, 3), np.zeros(3), np.ones(3), np.zeros((4, 3))
    arguments = {"x": x, "gamma": np.ones(3), "beta": np.ones(3), "running_mean": mean, "running_var": var, "out": out}
    with pytest.raises(error, match=message):
        fo.batch_norm(**{**arguments, **change})
    assert not mean.any()
    assert not out.any()
    assert (var == 1).all()


def test_bad_gradients_are_refused():
    x = np.arange(12.0).reshape(4, 3)
    _, saved = fo.batch_norm(x, np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"dy has shape \(3, 4\), x has \(4, 3\)"):
        fo.batch_norm_backward(np.ones((3, 4)), saved)
    with pytest.raises(TypeError, match="dy is float32, x is float64"):
        fo.batch_norm_backward(np.ones((4, 3), np.float32), saved)
    with pytest.raises(ValueError, match="out overlaps x"):
        fo.batch_norm_backward(np.ones((4, 3)), saved, out=x)
    with pytest.raises(ValueError, match=r"dgamma has shape \(4,\)"):
        fo.batch_norm_backward(np.ones((4, 3)), saved, dgamma=np.ones(4))
    same = np.ones(3)
    with pytest.raises(ValueError, match="dgamma overlaps dbeta"):
        fo.batch_norm_backward(np.ones((4, 3)), saved, dgamma=same, dbeta=same)
    with pytest.raises(TypeError, match="saved must be a BatchNormSaved, not tuple"):
        fo.batch_norm_backward(np.ones((4, 3)), ())
    np.testing.assert_array_equal(x, np.arange(12.0).reshape(4, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(0, 3), (3, 0), (1, 1), (70000, 1), (3001, 10), (129, 63), (130, 64), (1000, 65), (5, 5000)], ids=str
)
def test_column_sums(shape, dtype):
    x = np.random.default_rng(6).standard_normal(shape).astype(dtype)

    def compute():
        sums = np.full(shape[1], np.nan, dtype)
        fo._backends.active.column_sums(x, sums)
        return (sums,)

    (sums,) = assert_all_agree(compute)
    np.testing.assert_allclose(sums, x.sum(0, dtype=np.float64), rtol=1e-6, atol=1e-6)


class TestTheSameArraysAgain:
    """A call with the arrays of the one before takes a shorter way: it must see all that may have changed."""

    def setup_method(self):
        rng = np.random.default_rng(0)
        self.x, self.dy = rng.standard_normal((2, 8, 3))
        self.y, self.dx = np.empty_like(self.x), np.empty_like(self.x)
        self.gamma, self.beta, self.mean, self.var = np.full(3, 2.0), np.ones(3), np.zeros(3), np.ones(3)
        self.dgamma, self.dbeta = np.empty(3), np.empty(3)
        self.saved = self.forward(None)[1]
        self.backward()

    def forward(self, saved, **options):
        return fo.batch_norm(self.x, self.gamma, self.beta, self.mean, self.var, out=self.y, saved=saved, **options)

    def backward(self):
        return fo.batch_norm_backward(self.dy, self.saved, self.dx, dgamma=self.dgamma, dbeta=self.dbeta)

    def test_new_values_give_what_new_arrays_give(self):
        for _ in range(2):
            self.x += 1
            self.x *= 3
            self.gamma += 1
            mean, var = self.mean.copy(), self.var.copy()
            expected, saved = fo.batch_norm(self.x.copy(), self.gamma.copy(), self.beta.copy(), mean, var)
            y, again = self.forward(self.saved)
            assert y is self.y
            assert again is self.saved
            assert y.tobytes() == expected.tobytes()
            assert self.mean.tobytes() + self.var.tobytes() == mean.tobytes() + var.tobytes()
            gradients = fo.batch_norm_backward(self.dy.copy(), saved)
            for ours, theirs in zip(self.backward(), gradients, strict=True):
                assert ours.tobytes() == theirs.tobytes()

    def test_options_count(self):
        y, _ = self.forward(self.saved, training=False)
        np.testing.assert_allclose(y, (self.x - self.mean) / np.sqrt(self.var + 1e-5) * self.gamma + self.beta)
        y, _ = self.forward(self.saved, eps=10.0)
        np.testing.assert_allclose(y, (self.x - self.x.mean(0)) / np.sqrt(self.x.var(0) + 10) * self.gamma + self.beta)

    @pytest.mark.parametrize("name", ["y", "mean", "var"])
    def test_an_array_made_read_only_is_refused(self, name):
        getattr(self, name).flags.writeable = False
        before = self.y.copy()
        with pytest.raises(ValueError, match="read-only"):
            self.forward(self.saved)
        assert self.y.tobytes() == before.tobytes()

    @pytest.mark.parametrize("name", ["dx", "dgamma", "dbeta"])
    def test_on_the_way_back_too(self, name):
        getattr(self, name).flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            self.backward()

    @pytest.mark.parametrize("name", ["x", "gamma", "beta", "y"])
    def test_another_array_in_the_place_of_one_is_seen(self, name):
        old = getattr(self, name)
        untouched = old.tobytes()
        setattr(self, name, old + 1.0)
        self.x[0] += 2  # so that no result is that of before
        expected, _ = fo.batch_norm(self.x, self.gamma, self.beta)
        y, _ = self.forward(self.saved)
        assert y is self.y
        assert y.tobytes() == expected.tobytes()
        assert name != "y" or old.tobytes() == untouched

    def test_another_gradient_is_seen(self):
        before = self.dx.tobytes()
        self.dy = self.dy * self.dy
        expected = fo.batch_norm_backward(self.dy, self.saved)[0]
        assert self.backward()[0].tobytes() == expected.tobytes() != before

    def test_an_array_given_another_shape_is_refused(self):
        before = self.y.tobytes()
        self.x.resize((6, 4), refcheck=False)
        with pytest.raises(ValueError, match="shape"):
            self.forward(self.saved)
        assert self.y.tobytes() == before

    def test_another_backend_does_its_own_work(self, monkeypatch):
        before, bound = self.y.copy(), []
        other = next(name for name in reversed(BACKENDS) if name != fo.get_backend())
        module = _backends.load(other)
        own = module.bind
        monkeypatch.setattr(module, "bind", lambda kernel, *arrays: bound.append(kernel) or own(kernel, *arrays))
        fo.set_backend(other)
        assert self.forward(self.saved)[0].tobytes() == before.tobytes()
        self.backward()
        assert bound == ["batch_norm", "batch_norm_backward"]


def test_the_backward_pass_trusts_nothing_that_has_been_changed_since(backend):
    x, gamma, dy = np.random.default_rng(0).standard_normal((6, 4)), np.ones(4), np.ones((6, 4))

    def forward():
        arrays = {"x": x.copy(), "gamma": gamma.copy(), "beta": np.zeros(4)}
        y, saved = fo.batch_norm(*arrays.values(), activation="sigmoid", out=np.empty_like(x))
        return {**arrays, "y": y}, saved

    changes = [
        lambda array: array.resize(array.shape[::-1] if array.ndim == 2 else (2, 2), refcheck=False),
        lambda array: set_dtype(array, np.int64),
        lambda array: array.__setstate__((1, (2,), np.dtype(float), False, b"1234567812345678")),
    ]
    for change in changes:
        for name in ("x", "gamma", "beta", "y"):
            arrays, saved = forward()
            given = {"out": np.empty_like(x), "dgamma": np.empty(4), "dbeta": np.empty(4)}
            fo.batch_norm_backward(dy, saved, **given)  # bound from now on
            change(arrays[name])
            with pytest.raises(ValueError, match=f"{name} was changed in place"):
                fo.batch_norm_backward(dy, saved, **given)
            arrays, saved = forward()
            change(given["dbeta"])
            with pytest.raises((TypeError, ValueError), match="dbeta"):
                fo.batch_norm_backward(dy, saved, **given)


def test_what_is_saved_is_read_only():
    _, saved = fo.batch_norm(np.arange(6.0).reshape(3, 2))
    for name in ("statistics", "x", "layout"):
        with pytest.raises(AttributeError):
            setattr(saved, name, np.zeros(1))
    saved.statistics[...] = np.nan  # a copy
    assert np.isfinite(fo.batch_norm_backward(np.ones((3, 2)), saved)[0]).all()
    with pytest.raises(ValueError, match="not what batch_norm has given"):
        fo.batch_norm_backward(np.ones((3, 2)), fo.functional.BatchNormSaved(2, np.dtype(float)))


def test_a_bound_call_notices_arrays_that_have_been_changed(backend):
    x, out, mean, var = np.ones((4, 2)), np.empty((4, 2)), np.zeros(2), np.ones(2)
    _, saved = fo.batch_norm(x, None, None, mean, var, out=out)
    fo.batch_norm(x, None, None, mean, var, out=out, saved=saved)
    with pytest.raises(ValueError, match="resize"):
        var.resize(1, refcheck=False)
    var.__setstate__((1, (1,), np.dtype(float), False, b"12345678"))
    with pytest.raises(ValueError, match=r"running_var has shape \(1,\)"):
        fo.batch_norm(x, None, None, mean, var, out=out, saved=saved)


def test_a_strided_gamma_is_read_anew_by_every_call(backend):
    x, out, gamma = np.arange(8.0).reshape(4, 2), np.empty((4, 2)), np.ones(4)[::2]
    _, saved = fo.batch_norm(x, gamma, out=out)
    once = out.copy()
    gamma *= 2
    fo.batch_norm(x, gamma, out=out, saved=saved)
    np.testing.assert_array_equal(out, 2 * once)


@pytest.mark.parametrize("shape", [(1, 20_000, 2), (2, 300_000)])
def test_the_reference_takes_memory_in_proportion(shape):
    """Sums are dealt to lanes and blocks, of which these arrays fill a small part."""
    fo.set_backend("numpy")
    x = np.ones(shape, np.float32)
    tracemalloc.start()
    try:
        fo.batch_norm(x)
        assert tracemalloc.get_traced_memory()[1] < 20 * x.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda saved: pickle.loads(pickle.dumps(saved))])
def test_what_is_saved_can_be_copied(how):
    x, gamma, dy = np.random.default_rng(0).standard_normal((6, 4)), np.ones(4), np.eye(6, 4)
    _, saved = fo.batch_norm(x, gamma, activation="tanh", out=np.empty_like(x))
    expected = fo.batch_norm_backward(dy, saved)
    twin = how(saved)
    fo.batch_norm(x + 1, gamma, saved=saved)
    for found, right in zip(fo.batch_norm_backward(dy, twin)[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(found, right)
