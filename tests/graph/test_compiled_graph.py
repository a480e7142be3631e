"""Compiled graphs: the bits of the interpreted passes, in one crossing, and steps that are done whole or not at all."""

import sys
import tracemalloc

import numpy as np
import pytest
from helpers import HAVE_C, use
from variants import assert_same_bits

import fastopt as fo
from fastopt import graph, nn

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("exact_products")


def variable(name, *shape, dtype=np.float64, positive=False):
    values = RNG.standard_normal(shape).astype(dtype)
    return graph.variable(abs(values) + 0.5 if positive else values, name=name)


def constant(name, *shape, dtype=np.float64):
    return graph.constant(RNG.standard_normal(shape).astype(dtype), name=name)


class Own:
    def forward(self, x):
        self.x = x
        return np.sin(x)

    def backward(self, dy):
        return dy * np.cos(self.x)


class Scaled(nn.Layer):
    def __init__(self, dtype):
        super().__init__()
        self.params["w"], self.grads["w"] = np.full(4, 2, dtype), np.zeros(4, dtype)

    def forward(self, x):
        self.x = x.copy()
        return x * self.params["w"]

    def backward(self, dy):
        self.grads["w"][...] = (dy * self.x).sum(0)
        return dy * self.params["w"]


CUBE = graph.Operation("cube", lambda x: x**3 * np.exp(x), lambda y, x: graph.diagonal((3 + x) * x * x * np.exp(x)))


def arithmetic(dtype):
    """Every operation on elements, and every way to look at and to add up elements."""
    a, b, c, s = (variable(n, *shape, dtype=dtype) for n, shape in
                  (("a", (3, 4)), ("b", (4,)), ("c", (3, 1)), ("s", ())))  # fmt: skip
    p, q = variable("p", 3, 4, dtype=dtype, positive=True), variable("q", 2, 3, 4, dtype=dtype)
    five = variable("five", 2, 3, 2, 3, 2, dtype=dtype)
    apart = graph.variable(RNG.standard_normal((6, 8)).astype(dtype)[::2, ::2], name="apart")
    empty = graph.variable(np.zeros((0, 4), dtype), name="empty")
    total = graph.sum
    yield total((a + b) * c / (p + 1) - s * a + abs(b) - (-a))
    yield graph.mean(graph.maximum(a, b) * graph.minimum(a, c) + graph.maximum(a, 0.0) + graph.maximum(a, a))
    yield total(graph.maximum(a * 0.0, -0.0 * b) / b)
    yield total(p**2 + p**3.0 + 2.0**a + p**a + graph.sqrt(p) + graph.exp(a) + graph.softplus(a) * graph.log_sigmoid(a))
    yield total(graph.log(p) * graph.log1p(p) + graph.gelu(a) + graph.silu(a) + graph.sigmoid(a.T).T + graph.tanh(a))
    yield total(total(q, axis=1) * graph.mean(q, axis=(0, 2))[0]) + graph.mean(total(q * q, axis=0, keepdims=True))
    yield total(graph.transpose(q, (1, 2, 0))[1:, ::2] * graph.reshape(a, (2, 1, 6))[0, 0, :1])
    yield total(graph.reshape(q.T, (6, 4))[::-1][:3] * a) + total(q[..., None, 0] * 2.0) + total(a[:, 1] * c[:, 0])
    yield total(a[np.array([0, 0, 2])] * p)
    yield total(graph.tanh(graph.concatenate([a, p, q[0]], axis=1)) * 2.0) + total(graph.concatenate([b, b]) ** 2)
    yield b @ (a.T @ (a @ b)) + total(graph.concatenate([b @ a.T, b[:2]]))
    yield total(graph.softmax(a) * p) + total(graph.softmax(q) * q) + total(graph.batch_norm(a, b, b * 2.0) * p)
    yield total(graph.sigmoid(apart * a) + apart @ a.T @ a) + total(apart) * graph.mean(apart, axis=0)[1]
    yield total(empty * b) + total(empty @ a.T) + total(total(empty, axis=0) * b) + total(graph.exp(empty)) + s
    yield total(graph.transpose(five, (4, 0, 3, 1, 2)) * c[:, :, None] * five[0, 0, 0, 0, 0])
    yield total(CUBE(a * 2.0) * b) + total(graph.apply(Own(), a) * graph.apply(Scaled(dtype), a))
    yield s * s + s
    yield s
    yield s + graph.sum(a) * 0.0


def networks(dtype):
    """With the inputs that they are given."""
    x, labels = constant("x", 7, 5, dtype=dtype), graph.constant(np.arange(7) % 3, name="labels")
    y, draw = graph.constant(RNG.random((7, 3)).astype(dtype), name="y"), graph.constant(0, name="draw")
    for activation in (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.SiLU):
        model = nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 3), rng=0, dtype=dtype)
        z = graph.apply(model, x)
        yield graph.logistic_loss(z, y), {x: RNG.standard_normal((7, 5))}
        yield graph.mse_loss(z, y), {x: RNG.standard_normal((3, 5)), y: RNG.random((3, 3))}
        yield graph.cross_entropy(z, labels), {x: RNG.standard_normal((4, 5)), labels: np.array([0, 2, 1, -100])}
    layers = nn.Linear(5, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dropout(0.3), nn.Residual(nn.Linear(6, 6)), nn.Linear(6, 3)
    model = nn.Sequential(*layers, rng=0, dtype=dtype)
    for training in (True, False):
        z = graph.dropout(graph.apply(model, x, training=training), 0.4, seed=3, draw=draw)
        yield graph.mse_loss(z, y) + 0.1 * graph.cross_entropy(z, labels), {x: RNG.standard_normal((7, 5)), draw: 5}
    w = variable("w", 5, 4, dtype=dtype)
    yield graph.mse_loss(x @ w @ w.T, x), {x: RNG.standard_normal((9, 5))}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *([("c", np.float32), ("c", np.float64)] if HAVE_C else [("numba", np.float32)]),
        ("numpy", np.float32),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (
            ("numpy", np.float64), ("numba", np.float32), ("numba", np.float64))),
    ],
)  # fmt: skip
def test_the_bits_of_the_interpreted_passes(name, dtype):
    use(name, threads=2)
    for number, (loss, inputs) in enumerate([*((loss, {}) for loss in arithmetic(dtype)), *networks(dtype)]):
        program = graph.compile(loss)
        own = {x: x.value for x in inputs}
        for given in (inputs, {}, inputs):
            value = program(given)
            assert graph.evaluate(loss, given) == value or np.isnan(value)
            for key, gradient in graph.gradients(loss).items():
                assert_same_bits(program.gradients[key], gradient, f"graph {number}, {key}")
            graph.evaluate(loss, own)


def trained(step_of, steps=5):
    """The weights after some steps on batches of two sizes."""
    rng = np.random.default_rng(1)
    layers = nn.Linear(6, 8), nn.BatchNorm(8), nn.Sigmoid(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 1)
    model = nn.Sequential(*layers, rng=0)
    opt = fo.optim.Adam(model.parameters(), lr=0.01)
    step = step_of(model, opt)
    losses = [
        step(rng.standard_normal((rows, 6)).astype(np.float32), rng.random((rows, 1)).astype(np.float32))
        for rows in (16, 16, 7, 16, 16)[:steps]
    ]
    return losses, model.parameters()


def of_graph(model, how):
    x, y = graph.constant(np.zeros((16, 6), np.float32)), graph.constant(np.zeros((16, 1), np.float32))
    loss = graph.logistic_loss(graph.apply(model, x), y)
    call = how(loss)
    return lambda *batch: call(dict(zip((x, y), batch, strict=True)))


def test_training_ends_with_the_weights_of_interpreted_steps(backend):
    def interpreted(model, opt):
        def how(loss):
            def step(inputs):
                value = float(graph.evaluate(loss, inputs))
                opt.step(graph.gradients(loss))
                return value

            return step

        return of_graph(model, how)

    expected = trained(interpreted)
    for options in ({}, {"clip_norm": 1e9}):
        given = trained(
            lambda model, opt, options=options: of_graph(model, lambda loss: graph.compile(loss, opt, **options))
        )
        assert given[0] == expected[0]
        for name, array in expected[1].items():
            assert_same_bits(given[1][name], array, name)


def test_a_network_has_the_weights_of_a_training_step(backend):
    """Where batch norm does not divide in another order, graphs and layers agree to the bit."""

    def plain(step_of):
        rng = np.random.default_rng(1)
        model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 1), rng=0)
        step = step_of(model, fo.optim.Adam(model.parameters(), lr=0.01))
        for _ in range(3):
            step(rng.standard_normal((16, 6)).astype(np.float32), rng.random((16, 1)).astype(np.float32))
        return model

    compiled = plain(lambda model, opt: of_graph(model, lambda loss: graph.compile(loss, opt)))
    assert compiled.fingerprint() == plain(lambda model, opt: fo.TrainingStep(model, opt, "logistic")).fingerprint()


def siamese(**options):
    """A network for two inputs, with a loss of operations on elements."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2), rng=0)
    a, b = (constant(name, 64, 64, dtype=np.float32) for name in "ab")
    same = graph.constant(RNG.integers(0, 2, 64).astype(np.float32), name="same")
    difference = graph.apply(model, a) - graph.apply(model, b)
    square = graph.sum(difference * difference, axis=1)
    apart = graph.maximum(1.0 - graph.sqrt(square + 1e-6), 0.0)
    loss = graph.mean(same * square + (1.0 - same) * apart**2)
    opt = fo.optim.Adam(model.parameters())
    return graph.compile(loss, opt, **options), {x: x.value.copy() for x in (a, b, same)}


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}], ids=str)
def test_a_step_crosses_into_the_core_once_and_allocates_nothing(options):
    fo.set_backend("c")
    step, inputs = siamese(**options)
    for _ in range(3):
        step(inputs)
    crossings, calls = [], []

    def watch(frame, event, function):
        if event == "c_call" and function.__name__.startswith("fastopt_"):
            crossings.append(function.__name__)
        elif event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(watch)
    try:
        step(inputs)
    finally:
        sys.setprofile(None)
    assert crossings.count("fastopt_run") == 1
    assert set(crossings) == {"fastopt_run", "fastopt_pins_hold"}
    assert len(calls) < 30
    tracemalloc.start()
    try:
        step(inputs)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step(inputs)
        assert (
            tracemalloc.get_traced_memory()[1] - before < 4096
        )  # the smallest activation has 512 bytes, the others 8192
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["inf", "label", "interrupt", "value"])
def test_what_is_refused_changes_nothing(what):
    raises = [False]

    def fragile(x):
        if raises[0]:
            raise KeyboardInterrupt
        return x * 1

    x, labels = constant("x", 4, 3), graph.constant(np.arange(4) % 2, name="labels")
    w = variable("w", 3, 2)
    own = graph.Operation("fragile", fragile, lambda y, x: graph.diagonal(1.0))
    loss = own(graph.cross_entropy(x @ w, labels))
    opt = fo.optim.Adam(graph.parameters(loss))
    step = graph.compile(loss, opt)
    step({x: x.value, labels: labels.value})
    before = w.value.copy()
    values = {"inf": {x: np.full((4, 3), np.inf)}, "label": {labels: np.array([0, 1, 2, 0])}, "value": {x: "abc"}}
    raises[0] = what == "interrupt"
    error = {"inf": FloatingPointError, "interrupt": KeyboardInterrupt, "label": ValueError, "value": TypeError}[what]
    with pytest.raises(error, match={"label": r"labels\[2\] is 2"}.get(what)):
        step({x: x.value, labels: labels.value} | values.get(what, {}))
    assert_same_bits(w.value, before, "w")
    assert opt.step_count == 1
    raises[0] = False
    step({x: x.value, labels: labels.value})
    assert opt.step_count == 2


def test_variables_that_are_no_longer_the_ones_that_were_bound():
    x, w = constant("x", 4, 3), variable("w", 3)
    loss = graph.mean((x @ w) ** 2)
    step = graph.compile(loss, fo.optim.SGD(graph.parameters(loss), lr=0.1))
    step()
    array = w.value
    w.value = array.copy()
    with pytest.raises(ValueError, match="the variable 'w' has been given another array"):
        step()
    w.value = array
    array.shape = 3, 1
    with pytest.raises(
        ValueError, match=r"'w' is float64 of shape \(3, 1\); when it was compiled, the graph had .*\(3,\)"
    ):
        step()
    array.shape = (3,)
    step()
    x.value = RNG.standard_normal((6, 3))  # a constant's array may be another
    for _ in range(2):
        expected = float(np.mean((x.value @ array) ** 2))
        assert step() == pytest.approx(expected, rel=1e-12)
        x.value *= 3.0  # and what it holds something else


def test_what_does_not_fit():
    x, w = constant("x", 4, 3), variable("w", 3)
    loss, other = graph.mean((x @ w) ** 2), variable("other", 3)
    with pytest.raises(TypeError, match="compile takes a node, not float"):
        graph.compile(3.0)
    with pytest.raises(ValueError, match="compile takes one number"):
        graph.compile(x @ w)
    with pytest.raises(TypeError, match=r"optimizer must be one of .* not adam"):
        graph.compile(loss, "adam")
    with pytest.raises(ValueError, match=r"optimizer is over 'other', which is no variable of this graph, .* 'w'"):
        graph.compile(loss, fo.optim.SGD({"other": other.value}, lr=0.1))
    with pytest.raises(ValueError, match="clip_norm must be"):
        graph.compile(loss, fo.optim.SGD({"w": w.value}, lr=0.1), clip_norm=-1.0)
    program = graph.compile(loss)
    with pytest.raises(TypeError, match=r"inputs are given by constants of this graph, and <other .*> is none"):
        program({other: np.ones(3)})
    with pytest.raises(TypeError, match=r"w of shape \(3,\) is a variable: write into its array"):
        program({w: np.ones(3)})
    with pytest.raises(ValueError, match=r"matmul of x of shape \(4, 5\) and w of shape \(3,\)"):
        program({x: np.ones((4, 5))})
    assert program({x: np.ones((2, 3))}) == pytest.approx(float(w.value.sum() ** 2))


def test_what_is_done_to_gradients_does_not_last():
    """By decay by hand, say: not even in those that are zeros, all or but for a part."""
    a, b, x = variable("a", 4), variable("b", 3), constant("x", 2)
    loss = graph.sum(a[1:3] * x) + graph.sum(b) * 0.0
    loss = loss + graph.sum(graph.Operation("flat", lambda x: x * 0, None)(b))
    for program in (graph.compile(loss), graph.compile(graph.sum(a[1:3] * x) + graph.sum(b[:0]))):
        program()
        expected = {name: gradient.copy() for name, gradient in program.gradients.items()}
        for gradient in program.gradients.values():
            gradient += 7.0
        program.gradients["a"].shape = 2, 2
        program({x: x.value})
        program.gradients["a"].shape = (4,)
        for name, gradient in expected.items():
            assert_same_bits(program.gradients[name], gradient, name)
