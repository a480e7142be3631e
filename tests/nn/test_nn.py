"""fastopt.nn: gradients, the arenas, own layers, modes, saving, and what is refused."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest

import fastopt as fo
from fastopt import nn


class Scale:
    """A layer of one's own: the two methods, and a parameter."""

    def __init__(self, width, dtype=np.float64):
        self.params = {"gain": np.linspace(0.5, 2, width, dtype=dtype)}
        self.grads = {"gain": np.zeros(width, dtype)}
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        self.x = x
        return x * self.params["gain"]

    def backward(self, dy):
        self.grads["gain"][...] = (dy * self.x).sum(axis=0)
        return dy * self.params["gain"]


class Square:
    """One without parameters."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dy):
        return 2 * self.x * dy


def linear(*widths, bias=True, rng=0):
    return nn.Linear(*widths, bias, dtype=np.float64, rng=rng)


MODELS = {
    "one layer": lambda: nn.Sequential(linear(4, 3)),
    "fused": lambda: nn.Sequential(linear(4, 5), nn.Sigmoid(), linear(5, 3)),
    "fused, no bias": lambda: nn.Sequential(linear(4, 5, bias=False), nn.Sigmoid(), linear(5, 3, bias=False)),
    "ends in a sigmoid": lambda: nn.Sequential(linear(4, 5), nn.Sigmoid(), linear(5, 3), nn.Sigmoid()),
    "sigmoid alone": lambda: nn.Sequential(nn.Sigmoid(), linear(4, 3), nn.Sigmoid(), nn.Sigmoid()),
    "nested": lambda: nn.Sequential(nn.Sequential(linear(4, 5), nn.Sigmoid()), nn.Sequential(linear(5, 3))),
    "deep": lambda: nn.Sequential(
        linear(4, 6), nn.BatchNorm(6, dtype=np.float64), nn.Sigmoid(), nn.Dropout(0.4, rng=1), linear(6, 5), nn.Tanh(),
        linear(5, 5, bias=False), nn.ReLU(), nn.BatchNorm(5, affine=False, dtype=np.float64), nn.Tanh(), linear(5, 3)),
    "ends in batch norm": lambda: nn.Sequential(
        nn.BatchNorm(4, dtype=np.float64), nn.ReLU(), nn.Dropout(0.2, rng=2), linear(4, 3),
        nn.BatchNorm(3, dtype=np.float64)),
    "own": lambda: nn.Sequential(Scale(4), Square(), linear(4, 5), nn.Sigmoid(), Scale(5), linear(5, 3)),
}  # fmt: skip


def derivative(f, array, direction, h=1e-5):
    """The central difference of f() where ``array`` is moved along a direction."""
    value = array.copy()
    array += h * direction
    above = f()
    array[...] = value - h * direction
    below = f()
    array[...] = value
    return (above - below) / (2 * h)


@pytest.mark.parametrize(("name", "training"), [*((name, True) for name in MODELS), ("deep", False)])
def test_gradients_are_those_of_finite_differences(name, training, backend):
    rng = np.random.default_rng(1)
    model, x, weights = MODELS[name](), rng.standard_normal((6, 4)), rng.standard_normal((6, 3))
    model(x)
    model.train(training)

    def value():
        for name, buffer in model.buffers.items():
            if name.endswith("draw"):
                buffer[...] = 5
        return float((model(x) * weights).sum())

    value()
    dx = model.backward(weights)
    gradients = {**{name: grad.copy() for name, grad in model.gradients().items()}, "x": dx}
    arrays = {**model.parameters(), "x": x}
    assert gradients.keys() == arrays.keys()
    for name, array in arrays.items():
        for direction in rng.choice([-1.0, 1.0], (2, *array.shape)):  # in which every element counts
            expected = derivative(value, array, direction)
            assert (gradients[name] * direction).sum() == pytest.approx(expected, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("name", MODELS)
def test_without_the_input_gradient_those_of_the_parameters_are_the_same(name):
    rng = np.random.default_rng(2)
    model, x, dy = MODELS[name](), rng.standard_normal((6, 4)), rng.standard_normal((6, 3))
    model.forward(x)
    model.backward(dy)
    full = {name: grad.copy() for name, grad in model.gradients().items()}
    for name, buffer in model.buffers.items():
        if name.endswith("draw"):
            buffer[...] = 0
    for grad in model.gradients().values():
        grad.fill(np.nan)
    model.forward(x)
    assert model.backward(dy, input_gradient=False) is None
    for name, grad in model.gradients().items():
        np.testing.assert_array_equal(grad, full[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_fusing_changes_no_bits(activation, dtype, backend):
    """Linear and an activation in a Sequential run as one; one after the other they give the same."""
    rng = np.random.default_rng(3)
    x, dy = (rng.standard_normal((9, width)).astype(dtype) for width in (7, 33))
    model = nn.Sequential(nn.Linear(7, 33, dtype=dtype, rng=0), activation())
    lone, after = nn.Linear(7, 33, dtype=dtype, rng=0), activation()
    function, backward = getattr(fo, after.function), getattr(fo, f"{after.function}_backward")
    np.testing.assert_array_equal(model(x), after(lone(x)))
    np.testing.assert_array_equal(model(x), function(x @ lone.weight.T + lone.bias))
    np.testing.assert_array_equal(model.backward(dy), lone.backward(after.backward(dy)))
    dz = backward(dy, model(x))
    np.testing.assert_allclose(
        model.gradients()["0.bias"],
        dz.astype(np.float64).sum(axis=0),
        rtol=4 * np.finfo(dtype).eps,
        atol=4 * np.finfo(dtype).eps,
    )
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(model.gradients()[f"0.{name}"], lone.gradients()[name])


def test_linear_is_that_of_torch():
    layer = nn.Linear(400, 30, rng=0)
    assert layer.weight.shape == (30, 400)
    assert layer.bias.shape == (30,)
    for param in (layer.weight, layer.bias):
        assert abs(param).max() <= 0.05
        assert abs(param).max() > 0.04
        assert abs(param.mean()) < 0.02
    x = np.random.default_rng(0).standard_normal((5, 400)).astype(np.float32)
    np.testing.assert_allclose(layer(x), x @ layer.weight.T + layer.bias, rtol=1e-4, atol=1e-6)
    assert nn.Linear(3, 2, bias=False).bias is None
    assert repr(nn.Sequential(nn.Linear(3, 2, bias=False), nn.Sigmoid())) == (
        "Sequential(Linear(3, 2, bias=False), Sigmoid())"
    )


def test_rng():
    def values(**rng):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, rng=7), **rng)
        return np.concatenate([p.ravel() for p in model.parameters().values()])

    np.testing.assert_array_equal(values(rng=1), values(rng=np.random.default_rng(1)))
    one, other = values(rng=1), values(rng=2)
    assert (one[:16] != other[:16]).all()
    np.testing.assert_array_equal(one[16:], other[16:])  # had an rng of its own
    assert (values()[:16] != values()[:16]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arenas(dtype):
    model = nn.Sequential(
        nn.Linear(3, 7, dtype=dtype), nn.Sigmoid(), nn.Sequential(Scale(7, dtype), nn.Linear(7, 1, dtype=dtype))
    )
    params, grads = model.parameters(), model.gradients()
    assert list(params) == list(grads) == ["0.weight", "0.bias", "2.0.gain", "2.1.weight", "2.1.bias"]
    assert params is model.parameters()
    assert grads is model.gradients()
    arrays = [*params.values(), *grads.values()]  # one block, parameters before gradients
    spans = [(a.__array_interface__["data"][0], a.nbytes) for a in arrays]
    assert all(start % 64 == 0 for start, _ in spans)
    assert all(0 <= b - (a + n) < 64 for (a, n), (b, _) in pairwise(spans))
    assert all(a.dtype == dtype and a.flags.c_contiguous and a.flags.writeable for a in arrays)
    assert model[0].weight is params["0.weight"]
    assert model[2].parameters()["0.gain"] is params["2.0.gain"] is model[2][0].params["gain"]
    before = [*params.values(), *grads.values()]
    x = np.ones((4, 3), dtype)
    opt = fo.optim.Adam(params)
    for _ in range(3):
        model.backward(model(x))
        opt.step(grads)
    assert all(a is b for a, b in zip(before, [*params.values(), *grads.values()], strict=True))
    assert not opt._copies  # bound once: the fast path


def test_values_survive_the_move_into_the_arena():
    layers = nn.Linear(3, 4, rng=0), nn.Linear(4, 2, rng=1)
    before = [p.copy() for layer in layers for p in layer.parameters().values()]
    model = nn.Sequential(*layers)
    for value, param in zip(before, model.parameters().values(), strict=True):
        np.testing.assert_array_equal(value, param)


def test_outputs_are_the_callers_own():
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    x = np.ones((4, 3), np.float32)
    first, dx = model(x), model.backward(np.ones((4, 2), np.float32))
    kept, kept_dx = first.copy(), dx.copy()
    model(2 * x)
    model.backward(np.zeros((4, 2), np.float32))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(dx, kept_dx)


def test_a_prediction_may_come_between_forward_and_backward():
    model, x = MODELS["fused"](), np.random.default_rng(0).standard_normal((6, 4))
    dy = model(x)
    model.backward(dy)
    expected = {name: grad.copy() for name, grad in model.gradients().items()}
    model(x)
    model.predict(-x)
    model.backward(dy)
    for name, grad in model.gradients().items():
        np.testing.assert_array_equal(grad, expected[name])


def test_many_shapes_of_input_and_few_kept():
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.Sigmoid())
    rng = np.random.default_rng(0)
    for rows in [*range(20), 3, 0, 19]:
        x = rng.standard_normal((rows, 3)).astype(np.float32)
        expected = fo.sigmoid(np.dot(x, model[0].weight.T) + model[0].bias)
        np.testing.assert_allclose(model(x), expected, rtol=1e-5)
        assert model.backward(expected).shape == x.shape
    assert len(model._passes) <= 8
    np.testing.assert_array_equal(model(x[:, ::-1].copy()[:, ::-1]), model(x))  # strided


def test_a_backend_can_be_changed_between_passes():
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.Sigmoid())
    x, before = np.ones((4, 3), np.float32), fo.get_backend()
    expected = model(x)
    try:
        fo.set_backend("numpy")
        np.testing.assert_array_equal(model(x), expected)
    finally:
        fo.set_backend(before)


def test_predict_runs_in_evaluation_mode_in_batches():
    class Mode:
        def forward(self, x):
            self.seen = self.training
            return x

        def backward(self, dy):
            return dy

    mode = Mode()
    model = nn.Sequential(nn.Linear(3, 2, rng=0), mode)
    assert mode.training
    X = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    np.testing.assert_allclose(model.predict(X, batch_size=4), model(X), rtol=1e-6)
    assert mode.seen
    np.testing.assert_array_equal(model.predict(X.astype(np.float64), batch_size=4), model.predict(X, batch_size=4))
    assert not mode.seen
    assert mode.training
    assert model.training
    assert model.predict(X[:0]).shape == (0, 2)
    model.eval()
    model(X)
    assert not mode.seen
    assert model.train().training
    assert mode.training


def test_own_layers_run_once_per_pass():
    scale = Scale(3, np.float32)
    model = nn.Sequential(nn.Linear(3, 3, rng=0), scale)
    x = np.ones((2, 3), np.float32)
    for runs in range(1, 4):
        model(x)
        assert scale.runs == runs


def test_state_dict():
    model, other = MODELS["own"](), MODELS["own"]()
    for param in model.parameters().values():
        param += 1
    saved = model.state_dict()
    assert list(saved) == list(model.parameters())
    other.load_state_dict(saved)
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(other.parameters()[name], param)
        assert saved[name] is not param
    for change, error in [
        (lambda d: d.pop("5.bias"), ValueError),
        (lambda d: d.update(more=np.zeros(2)), ValueError),
        (lambda d: d.update({"5.bias": np.zeros(2)}), ValueError),
        (lambda d: d.update({"5.bias": np.zeros(3, np.float32)}), TypeError),
    ]:
        broken = {name: np.zeros_like(value) for name, value in saved.items()}
        change(broken)
        with pytest.raises(error, match=r"5\.bias|more"):
            model.load_state_dict(broken)
        for name, param in model.parameters().items():
            np.testing.assert_array_equal(param, saved[name])
    for wrong in ([*saved], None, 3):
        with pytest.raises(TypeError, match="state_dict must be a dict of arrays, not"):
            model.load_state_dict(wrong)
    model.parameters()["5.bias"].flags.writeable = False
    with pytest.raises(ValueError, match=r"'5\.bias' of the model is read-only"):
        model.load_state_dict({name: value + 1 for name, value in saved.items()})
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(param, saved[name])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("name", MODELS)
def test_copies_are_whole_and_apart(name, duplicate):
    model, x = MODELS[name](), np.random.default_rng(0).standard_normal((6, 4))
    model(x)
    model.eval()
    y = model(x)
    twin = duplicate(model)
    np.testing.assert_array_equal(twin(x), y)
    opt = fo.optim.SGD(twin.parameters(), lr=0.1)
    twin.backward(y)
    opt.step(twin.gradients())
    assert not np.array_equal(twin(x), y)
    np.testing.assert_array_equal(model(x), y)
    assert all(p.__array_interface__["data"][0] % 64 == 0 for p in twin.parameters().values())


# -- what is refused --


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3), ValueError, "in_features must be at least 1, not 0"),
        ((3, -1), ValueError, "out_features must be at least 1, not -1"),
        ((3.0, 1), TypeError, "in_features must be an int, not float"),
        ((True, 1), TypeError, "in_features must be an int, not bool"),
        ((3, 1, True, np.float16), TypeError, "dtype must be float32 or float64, not float16"),
    ],
)
def test_linear_refuses(arguments, error, message):
    dtype = {"dtype": arguments[3]} if len(arguments) > 3 else {}
    with pytest.raises(error, match=message):
        nn.Linear(*arguments[:3], **dtype)


def test_sequential_refuses():
    lone = nn.Linear(3, 3)
    broken = Scale(3)
    broken.grads = {}
    misshapen = Scale(3)
    misshapen.grads["gain"] = np.zeros(4)
    shared = Scale(3)
    shared.params["again"], shared.grads["again"] = shared.params["gain"], np.zeros(3)
    for layers, error, message in [
        ((), ValueError, "at least one layer"),
        ((nn.Linear,), TypeError, "layer 0 must be an object"),
        ((lone, 3), TypeError, "layer 1 must be an object"),
        ((lone, nn.Sigmoid(), lone), ValueError, "layer 2 is layer 0"),
        ((lone, nn.Sequential(nn.Sigmoid(), lone)), ValueError, r"layer 1\.1 is layer 0"),
        ((lone, Scale(3)), TypeError, r"'1\.gain' is float64, those before it are float32"),
        ((broken,), ValueError, r"layer 0 has the params \['gain'\], and the grads \[\]"),
        ((misshapen,), ValueError, r"gradient of '0\.gain' must be float64 \(3,\)"),
        ((shared,), ValueError, r"'0\.again' is the same array as '0\.gain'"),
    ]:
        with pytest.raises(error, match=message):
            nn.Sequential(*layers)


def test_forward_and_backward_refuse():
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    x = np.ones((4, 3), np.float32)
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        model.backward(x)
    for bad, error, message in [
        ([[1.0, 2.0, 3.0]], TypeError, "x must be a numpy.ndarray, not list"),
        (x.astype(np.float64), TypeError, r"x is float64, Sequential\(Linear\(3, 2\)\) takes float32"),
        (x[:, :2], ValueError, r"Linear\(3, 2\) takes \(rows, 3\), and was given \(4, 2\)"),
        (x[0], ValueError, r"x has shape \(3,\)"),
    ]:
        with pytest.raises(error, match=message):
            model(bad)
    model(x)
    for bad, error, message in [
        (x, ValueError, r"dy has shape \(4, 3\), the output has \(4, 2\)"),
        (np.ones((4, 2)), TypeError, "dy must be an array of float32, as the output is, not float64"),
        (None, TypeError, "not NoneType"),
    ]:
        with pytest.raises(error, match=message):
            model.backward(bad)
    for bad, error, message in [
        (np.array([["a", "b", "c"]]), TypeError, "X must hold real numbers, not <U1"),
        (x[0], ValueError, r"X has shape \(3,\)"),
    ]:
        with pytest.raises(error, match=message):
            model.predict(bad)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        model.predict(x, batch_size=0)


def test_a_replaced_array_is_noticed():
    x = np.ones((4, 3), np.float32)
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    model(x)
    model[0].params["weight"] = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"params\['weight'\] of layer 0 is not the array this model was made with"):
        model(x)
    shared = nn.Linear(3, 2, rng=0)
    first, second = nn.Sequential(shared), nn.Sequential(shared, nn.Sigmoid())
    second(x)
    with pytest.raises(ValueError, match="another model took the layer over"):
        first(x)
    alone = nn.Linear(3, 2, rng=0)
    alone(x)
    alone.params["weight"] = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(alone(x), np.tile(alone.bias, (4, 1)))


def test_own_layers_that_do_not_keep_to_the_protocol():
    class Bad:
        def __init__(self, forward=lambda x: x, backward=lambda dy: dy):
            self.forward, self.backward = forward, backward

    class Replaces(Scale):
        def backward(self, dy):
            self.grads["gain"] = (dy * self.x).sum(axis=0)
            return dy

    x = np.ones((4, 3))
    with pytest.raises(TypeError, match=r"Bad\.forward must return an array of float64, as its input is, not float32"):
        nn.Sequential(Bad(lambda x: x.astype(np.float32)))(x)
    for layer, error, message in [
        (Bad(backward=lambda dy: None), TypeError, r"Bad\.backward must return an array of float64, .* not NoneType"),
        (Bad(backward=lambda dy: dy[:, :1]), ValueError, r"Bad\.backward returned shape \(4, 1\), not \(4, 3\)"),
        (Replaces(3), ValueError, r"Replaces\.backward replaced grads\['gain'\]"),
    ]:
        model = nn.Sequential(linear(3, 3), layer)
        model(x)
        with pytest.raises(error, match=message):
            model.backward(x)
    with pytest.raises(TypeError, match="has no method backward"):
        nn.Sequential(type("Half", (), {"forward": lambda self, x: x})())


def test_a_forward_pass_has_moved_running_statistics_when_the_step_is_refused():
    """So says docs/contract.md; in `fit` they are part of the step."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), rng=0)
    opt = fo.optim.SGD(model.parameters())
    before = model.state_dict()
    dy = np.full_like(model(np.random.default_rng(0).standard_normal((8, 3), np.float32)), np.nan)
    model.backward(dy)
    with pytest.raises(FloatingPointError):
        opt.step(model.gradients())
    moved = {name for name, array in model.state_dict().items() if not np.array_equal(array, before[name])}
    assert moved == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
