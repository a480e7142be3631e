"""Residual and Highway: their formulas, their gradients however they are nested, and what is refused."""

import copy
import pickle
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from helpers import BACKENDS, DTYPES, use

import fastopt as fo
from fastopt import nn


class Double:
    """A layer of one's own, without parameters, that overwrites the gradient it is given."""

    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        dy *= 2
        return dy


def linear(*widths, dtype=np.float64, bias=True):
    return nn.Linear(*widths, bias, dtype=dtype)


def highway(width, transform=None, dtype=np.float64, **options):
    return nn.Highway(width, transform, dtype=dtype, **options)


def models(dtype=np.float64):
    """Blocks within blocks; every one takes 4 columns and gives 4 or 3."""

    def sequence(*layers):
        return nn.Sequential(*layers)

    def affine(*widths, bias=True):
        return linear(*widths, dtype=dtype, bias=bias)

    def gated(width, transform=None):
        return highway(width, transform, dtype)

    def norm(width):
        return nn.BatchNorm(width, dtype=dtype)

    return {
        "residual": lambda: nn.Residual(affine(4, 4)),
        "an activation": lambda: nn.Residual(nn.Tanh()),
        "ends in an activation": lambda: nn.Residual(sequence(affine(4, 4), nn.Sigmoid())),
        "within itself": lambda: nn.Residual(nn.Residual(nn.Residual(sequence(affine(4, 4), nn.Tanh())))),
        "projected": lambda: nn.Residual(
            sequence(affine(4, 5), nn.Tanh(), affine(5, 3)), shortcut=affine(4, 3, bias=False)
        ),
        "two ways": lambda: nn.Residual(
            sequence(affine(4, 3), nn.Sigmoid()), shortcut=sequence(affine(4, 3), nn.ReLU())
        ),
        "own layers": lambda: sequence(affine(4, 4), nn.Residual(Double(), shortcut=Double()), nn.Residual(Double())),
        "highway": lambda: gated(4),
        "an own transform": lambda: sequence(affine(4, 4), gated(4, Double())),
        "highway of highways": lambda: gated(4, sequence(gated(4, nn.Tanh()), gated(4, nn.Residual(affine(4, 4))))),
        "residual of highways": lambda: sequence(
            nn.Residual(sequence(gated(4), norm(4), nn.Residual(gated(4, sequence(affine(4, 4), nn.Tanh()))))),
            nn.Dropout(0.3),
            affine(4, 3),
        ),
        "with all else": lambda: sequence(
            norm(4),
            nn.Residual(sequence(nn.Dropout(0.4), affine(4, 6), norm(6), nn.ReLU(), affine(6, 4))),
            gated(4, sequence(norm(4), affine(4, 4), nn.Sigmoid())),
            nn.Residual(affine(4, 3), shortcut=sequence(norm(4), affine(4, 3))),
        ),
    }


MODELS = list(models())


def model_of(name, dtype=np.float64):
    return nn.Sequential(models(dtype)[name](), rng=1)


def batch(dtype=np.float64, rows=6, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 4)).astype(dtype)


# -- formulas --


def test_residual_adds_its_input():
    x = batch()
    body, shortcut = linear(4, 4), linear(4, 4)
    np.testing.assert_array_equal(nn.Residual(body)(x), x + body(x))
    np.testing.assert_array_equal(nn.Residual(body, shortcut)(x), shortcut(x) + body(x))


def test_highway_is_the_formula_of_the_paper():
    x, layer = batch(), highway(4, rng=0)
    h = np.maximum(x @ layer.transform[0].weight.T + layer.transform[0].bias, 0)
    t = 1 / (1 + np.exp(-(x @ layer.gate.weight.T + layer.gate.bias)))
    np.testing.assert_allclose(layer(x), h * t + x * (1 - t), rtol=1e-14)
    dy = batch(seed=1)
    dz_gate = dy * (h - x) * t * (1 - t)
    dz = dy * t * (h > 0)
    dx = layer.backward(dy)
    weights = layer.transform[0].weight, layer.gate.weight
    np.testing.assert_allclose(dx, dy * (1 - t) + dz @ weights[0] + dz_gate @ weights[1], rtol=1e-13)
    np.testing.assert_allclose(layer.gradients()["gate.weight"], dz_gate.T @ x, rtol=1e-12)
    np.testing.assert_allclose(layer.gradients()["transform.0.weight"], dz.T @ x, rtol=1e-12)


def test_a_gate_that_is_shut_or_open():
    x = batch()
    shut, opened = highway(4, gate_bias=-800.0), highway(4, gate_bias=800.0)
    np.testing.assert_array_equal(shut(x), x)
    np.testing.assert_array_equal(shut.backward(x), x)
    np.testing.assert_array_equal(opened(x), opened.transform(x))


def test_the_bias_of_the_gate_begins_below_0_also_in_a_model_that_draws_its_values():
    for layer, bias in ((highway(4), -1), (highway(4, gate_bias=-3, rng=0), -3)):
        model = nn.Sequential(linear(4, 4), layer, rng=0)
        assert (model.parameters()["1.gate.bias"] == bias).all()
        assert np.abs(model.parameters()["1.gate.weight"]).max() <= 0.5


def test_rng():
    def values(layer):
        return np.concatenate([param.ravel() for param in layer.parameters().values()])

    first, again, other = (values(highway(4, rng=seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other)[:16].all()
    kept = nn.Sequential(highway(4, rng=0), linear(4, 4), rng=5)
    assert (values(kept[0]) == first).all()
    drawn = [values(nn.Sequential(nn.Residual(linear(4, 4)), rng=seed)) for seed in (3, 3, 4)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).all()


# -- gradients --


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, training, backend):
    """Of every element with the fastest backend, and of some with the others, whose bits are compared below."""
    model, some = model_of(name), None if backend == BACKENDS[0] else 2
    for seed in range(3):  # so that running statistics are not those of the beginning
        model(batch(seed=seed))
    report = nn.check_gradients(model.train(training), batch(seed=9), max_elements=some, rtol=1e-6)
    assert report.worst_of.keys() == {*model.parameters(), "x"}


@pytest.mark.parametrize("name", MODELS)
def test_without_the_input_gradient_those_of_the_parameters_are_the_same(name):
    model, x = model_of(name), batch()
    y = model(x)
    state = model.state_dict()
    assert model.backward(y) is not None
    full = {name: grad.copy() for name, grad in model.gradients().items()}
    for grad in model.gradients().values():
        grad.fill(np.nan)
    model.load_state_dict(state)
    assert model.backward(y, input_gradient=False) is None
    for name, grad in model.gradients().items():
        np.testing.assert_array_equal(grad, full[name])


def test_gradients_through_a_hundred_layers():
    """With gates nearly shut, the gradient arrives; the same layers without a way past lose it."""
    x = batch()
    past = nn.Sequential(*(highway(4, gate_bias=-4.0) for _ in range(100)), rng=0)
    plain = nn.Sequential(*(nn.Sequential(linear(4, 4), nn.Sigmoid()) for _ in range(100)), rng=0)
    for model in (past, plain):
        model(x)
    assert 0.1 < np.linalg.norm(past.backward(x)) / np.linalg.norm(x) < 10
    assert np.linalg.norm(plain.backward(x)) < 1e-50


# -- backends, memory, state --


def steps(model, dtype, count=3):
    """What training steps and a pass in evaluation leave: outputs, input gradients, parameters and buffers."""
    opt = fo.optim.Adam(model.parameters(), lr=0.05) if model.parameters() else None
    seen = []
    for step in range(count):
        x = batch(dtype, seed=step)
        y = model(x)
        seen += [y, model.backward(y)]
        if opt:
            opt.step(model.gradients())
    model.eval()
    y = model(x)
    seen += [y, model.backward(y), *(grad.copy() for grad in model.gradients().values())]
    model.train()
    return [array.tobytes() for array in (*seen, *model.state_dict().values())]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_all_backends_give_the_same_bits(name, dtype):
    results = []
    for each in BACKENDS:
        use(each)
        results.append(steps(model_of(name, dtype), dtype))
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("name", MODELS)
def test_copies_and_states_go_on_alike(name, tmp_path):
    model = model_of(name)
    steps(model, np.float64)
    fo.save(tmp_path / "state", model.state_dict())
    other = nn.Sequential(models()[name](), rng=2)
    other.load_state_dict(fo.load(tmp_path / "state"))
    twins = [other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    expected = steps(model, np.float64)
    for twin in twins:
        assert steps(twin, np.float64) == expected


def test_one_block_of_memory_for_parameters_and_gradients():
    model = model_of("with all else", np.float32)
    arrays = [*model.parameters().values(), *model.gradients().values()]
    spans = [(a.__array_interface__["data"][0], a.nbytes) for a in arrays]
    assert all(start % 64 == 0 for start, _ in spans)
    assert all(0 <= after - (before + size) < 64 for (before, size), (after, _) in pairwise(spans))
    assert list(model.parameters())[:4] == ["0.0.weight", "0.0.bias", "0.1.body.1.weight", "0.1.body.1.bias"]
    gate = model[0][2].gate
    assert model.parameters()["0.2.gate.bias"] is gate.bias
    assert model[0][2].parameters()["gate.bias"] is gate.bias


def test_modes_reach_what_is_within():
    model = model_of("with all else")
    assert all(part.training for part in model.parts())
    model.eval()
    assert not any(part.training for part in model.parts())
    assert {type(part).__name__ for part in model.parts()} >= {"Residual", "Highway", "_Gate", "Dropout", "BatchNorm"}
    x = batch()
    np.testing.assert_array_equal(model(x), model(x))
    model.train()
    assert (model(x) != model(x)).any()


@pytest.mark.skipif("c" not in BACKENDS, reason="only the C core makes no arrays of its own")
def test_a_step_allocates_nothing_large():
    """Arrays of 400 kB at every place; a step after the first makes none."""
    use("c")
    block = nn.Residual(nn.Sequential(nn.Linear(500, 500), nn.BatchNorm(500), nn.ReLU()))
    past = nn.Residual(nn.Highway(500), shortcut=nn.Linear(500, 500))
    model = nn.Sequential(block, past, nn.Linear(500, 1), rng=0)
    X, y = np.random.default_rng(0).standard_normal((800, 500)).astype(np.float32), np.ones(800)
    peaks = []

    class Watched(fo.optim.SGD):
        def step(self, *arguments, **options):
            super().step(*arguments, **options)
            peaks.append(tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0])
            tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        fo.fit(model, X, y, optimizer=Watched(model.parameters()), epochs=2, batch_size=200, rng=0)
    finally:
        tracemalloc.stop()
    assert len(peaks) == 8
    assert max(peaks[1:]) < 20_000


def test_training_that_overflows_ends_with_the_gradients_and_without_warnings():
    model = nn.Sequential(nn.Residual(Double()), nn.Highway(4, Double(), dtype=np.float32), nn.Linear(4, 1), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(FloatingPointError, match="gradient"):
        fo.fit(model, batch(np.float32, 64), np.ones(64), loss="mse", optimizer=opt, epochs=9, batch_size=8, rng=0)
    assert opt.step_count >= 1


# -- what is refused --


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Residual(nn.Linear), TypeError, r"body must be an object with forward\(x\) and backward\(dy\)"),
        (lambda: nn.Residual(None), TypeError, "body must be an object"),
        (lambda: nn.Residual(nn.Tanh(), shortcut=3), TypeError, "shortcut must be an object .* not 3"),
        (lambda: nn.Highway(4, object), TypeError, "transform must be an object"),
        (lambda: nn.Highway(0), ValueError, "features must be at least 1, not 0"),
        (lambda: nn.Highway(4.0), TypeError, "features must be an int, not float"),
        (lambda: nn.Highway(4, gate_bias="low"), TypeError, "gate_bias must be a number, not str"),
        (lambda: nn.Highway(4, gate_bias=np.nan), ValueError, "gate_bias must be a finite number"),
        (lambda: nn.Highway(4, dtype=np.int32), TypeError, "dtype must be float32 or float64, not int32"),
        (lambda: nn.Highway(4, linear(4, 4)), TypeError, "'gate.weight' is float32, those before it are float64"),
        (lambda: nn.Residual(linear(4, 3))(batch()), ValueError,
         r"the body of Residual\(Linear\(4, 3\)\) gives shape \(6, 3\), the input has \(6, 4\)"),
        (lambda: nn.Residual(linear(4, 3), linear(4, 2))(batch()), ValueError,
         r"gives shape \(6, 3\), the shortcut gives \(6, 2\)"),
        (lambda: highway(4, linear(4, 3))(batch()), ValueError, r"gives shape \(6, 3\), the input has \(6, 4\)"),
        (lambda: highway(3)(batch()), ValueError, r"Highway\(3, .* takes \(rows, 3\), and was given \(6, 4\)"),
        (lambda: highway(4)(batch(np.float32)), TypeError, "x is float32, Highway.* takes float64"),
        (lambda: nn.Residual(nn.BatchNorm(4))(batch(np.float32, rows=1)), ValueError, "training needs at least 2"),
    ],
)  # fmt: skip
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_stands_in_a_model_once():
    layer = linear(4, 4)
    with pytest.raises(ValueError, match="layer shortcut is layer body"):
        nn.Residual(layer, layer)
    with pytest.raises(ValueError, match=r"layer 1\.body is layer 0"):
        nn.Sequential(layer, nn.Residual(layer))
    model = nn.Sequential(nn.Residual(layer))
    nn.Sequential(layer)
    with pytest.raises(ValueError, match=r"layer 0\.body is not the array this model was made with"):
        model(batch())


def test_a_pass_that_is_refused_leaves_the_running_statistics():
    model = nn.Residual(nn.Sequential(nn.BatchNorm(4, dtype=np.float64), linear(4, 3)))
    before = model.state_dict()
    with pytest.raises(ValueError, match="gives shape"):
        model(batch())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda norm: nn.Residual(norm),
        lambda norm: nn.Residual(nn.Tanh(), shortcut=norm),
        lambda norm: nn.Highway(4, norm),
        lambda norm: nn.Sequential(nn.Residual(nn.Residual(norm))),
    ],
)
def test_one_row_is_refused_in_training_by_a_batch_norm_within(make):
    model = make(nn.BatchNorm(4))
    x = batch(np.float32, rows=1)
    assert model.eval()(x).shape == (1, 4)  # makes the buffers that training would use
    with pytest.raises(ValueError, match="training needs at least 2 values per channel, and there is 1"):
        model.train()(x)


def test_an_own_layer_cannot_spoil_what_others_read():
    class InPlace:
        def forward(self, x):
            x *= 2
            return x

        def backward(self, dy):
            return 2 * dy

    for model in (nn.Sequential(InPlace()), nn.Residual(InPlace()), nn.Sequential(nn.Sigmoid(), InPlace())):
        with pytest.raises(ValueError, match=r"InPlace\.forward writes into its input.*read-only.*x\.copy\(\)"):
            model(batch())


def test_repr():
    assert repr(nn.Residual(nn.Linear(4, 3), shortcut=nn.Linear(4, 3, bias=False))) == (
        "Residual(Linear(4, 3), shortcut=Linear(4, 3, bias=False))"
    )
    assert repr(nn.Highway(4)) == "Highway(4, Sequential(Linear(4, 4), ReLU()))"
