"""Graphs of layers and models, evaluated again, trained, and differentiated twice."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from variants import assert_same_bits, numerical_gradient

import fastopt as fo
from fastopt import graph, nn

RNG = np.random.default_rng(1)


class Scale(nn.Layer):
    """A custom layer: y = s x, of which only the two methods are known."""

    def __init__(self, features):
        super().__init__()
        self.params["s"], self.grads["s"] = RNG.standard_normal(features), np.zeros(features)

    def forward(self, x):
        self.x = x.copy()
        return self.params["s"] * x

    def backward(self, dy):
        self.grads["s"][...] = (dy * self.x).sum(axis=0)
        return self.params["s"] * dy


class Doubled(nn.Linear):
    """A class of one's own made of a layer: it computes something else."""

    def forward(self, x):
        return 2 * (x @ self.weight.T)

    def backward(self, dy, input_gradient=True):
        self.grads["weight"][...] = 2 * dy.T @ self.last
        return 2 * dy @ self.weight


MODELS = {
    "Sequential": lambda: [nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3), nn.ReLU()],
    "Residual": lambda: [
        nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4, bias=False))),
        nn.Residual(nn.Linear(4, 2), nn.Linear(4, 2, bias=False)),
    ],
    "Highway": lambda: [nn.Highway(4), nn.Highway(4, nn.Tanh())],
    "BatchNorm": lambda: [nn.Linear(4, 3), nn.BatchNorm(3), nn.ReLU(), nn.BatchNorm(3, affine=False)],
    "Dropout": lambda: [nn.Linear(4, 6), nn.Dropout(0.4, rng=0), nn.Tanh()],
    "custom layer": lambda: [nn.Linear(4, 4, dtype=np.float64), Scale(4), nn.Tanh()],
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_as_nodes_is_the_model(name, training):
    model = nn.Sequential(*MODELS[name](), rng=0, dtype=np.float64).train(training)
    for array in model.parameters().values():
        array += 0.1 * RNG.standard_normal(array.shape)
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            model.load_state_dict({**model.state_dict(), key: value + 0.3})
    x = RNG.standard_normal((6, 4))
    X = graph.variable(x, name="x")
    y = graph.apply(model, X, training=training)
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    found = graph.gradients(graph.sum(y * weights))
    np.testing.assert_allclose(y.value, model(x), rtol=1e-12, atol=1e-15)
    dx = model.backward(weights)
    np.testing.assert_allclose(found.pop("x"), dx, rtol=1e-10, atol=1e-14)
    assert found.keys() == model.gradients().keys()
    for key, gradient in model.gradients().items():
        np.testing.assert_allclose(found[key], gradient, rtol=1e-10, atol=1e-13, err_msg=key)


def test_layers_of_ones_own():
    layer = Scale(3)
    x, s = graph.variable(RNG.standard_normal((2, 3)), name="x"), graph.variable(2.0, name="s")
    y = graph.apply(layer, x)
    assert graph.apply(layer, x).inputs[1] is y.inputs[1], "one variable, however often the layer is applied"
    with pytest.raises(TypeError, match="Scale has only a backward method: there is no forward mode"):
        graph.forward_mode(graph.sum(graph.apply(layer, x * s)), s)
    with pytest.raises(TypeError, match="Scale has only a backward method, and cannot be differentiated twice"):
        graph.hessian_vector(graph.sum(y * y), {x: np.ones((2, 3))})
    with pytest.raises(TypeError, match="methods forward and backward"):
        graph.apply(object(), x)
    doubled = Doubled(3, 2, bias=False, dtype=np.float64)
    doubled.last = x.value
    y = graph.apply(doubled, x)
    np.testing.assert_allclose(y.value, 2 * x.value @ doubled.weight.T)
    np.testing.assert_allclose(graph.gradients(graph.sum(y))["x"], 2 * np.ones((2, 2)) @ doubled.weight)


@dataclass
class Unhashable:
    """Which can be no key of a dict."""

    params: dict = field(default_factory=lambda: {"s": np.full(3, 2.0)})
    grads: dict = field(default_factory=lambda: {"s": np.zeros(3)})
    forward, backward = Scale.forward, Scale.backward


class Slotted:
    """To which there are no weak references."""

    __slots__ = ("grads", "params", "x")

    def __init__(self):
        self.params, self.grads = {"s": np.full(3, 2.0)}, {"s": np.zeros(3)}

    forward, backward = Scale.forward, Scale.backward


@pytest.mark.parametrize("kind", [Unhashable, Slotted])
def test_any_object_with_the_two_methods_is_a_layer(kind):
    layer, x = kind(), graph.variable(RNG.standard_normal((2, 3)), name="x")
    found = graph.gradients(graph.sum(graph.apply(layer, x) + graph.apply(layer, x)))
    np.testing.assert_allclose(found["s"], 2 * x.value.sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found["x"], np.full((2, 3), 4.0))


def test_a_layer_of_ones_own_that_is_applied_twice():
    """It keeps one batch from forward to backward, and here are two, and two results."""
    layer = Scale(3)
    a, b = (graph.variable(RNG.standard_normal((2, 3)), name=n) for n in "ab")
    difference = graph.apply(layer, a) - 2 * graph.apply(layer, b)
    s = layer.params["s"]
    for factor in (1.0, 3.0):
        found = graph.gradients(graph.sum(difference * factor))
        np.testing.assert_allclose(found["s"], factor * (a.value - 2 * b.value).sum(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found["a"], factor * np.broadcast_to(s, (2, 3)), rtol=1e-12)
        np.testing.assert_allclose(found["b"], -2 * factor * np.broadcast_to(s, (2, 3)), rtol=1e-12)


# ---- evaluated again ----------------------------------------------------------------------------


def network():
    X, y = graph.constant(RNG.standard_normal((5, 3)), name="X"), graph.constant(RNG.random((5, 1)), name="y")
    W, b = graph.variable(RNG.standard_normal((1, 3)), name="W"), graph.variable(RNG.standard_normal(1), name="b")
    hidden = graph.tanh(X @ W.T + b).named("hidden")
    return X, y, W, b, hidden, graph.mse_loss(hidden, y).named("loss")


def test_evaluating_again_reuses_buffers():
    X, y, W, b, hidden, loss = network()
    buffer, shift, other = hidden.value, hidden.inputs[0], graph.mean(X)
    x = RNG.standard_normal((5, 3))
    graph.evaluate(loss, {X: x})
    assert hidden.value is buffer
    np.testing.assert_array_equal(hidden.value, fo.tanh(shift.value))
    np.testing.assert_allclose(shift.value, x @ W.value.T + b.value, rtol=1e-12)
    b.value += 1  # as an optimizer does
    before = shift.value.copy()
    graph.evaluate(loss)
    np.testing.assert_allclose(shift.value, before + 1, rtol=1e-12)

    few, few_y = RNG.standard_normal((2, 3)), RNG.random((2, 1))
    value = float(graph.evaluate(loss, {X: few, y: few_y}))
    expected = np.mean((np.tanh(few @ W.value.T + b.value) - few_y) ** 2)
    assert value == pytest.approx(expected, rel=1e-12)
    assert graph.evaluate(other) == pytest.approx(few.mean(), rel=1e-12), "made before, of another shape"
    made_since = graph.sum(hidden * 1.0 + shift)
    assert graph.evaluate(made_since) == pytest.approx(float((hidden.value + shift.value).sum()), rel=1e-12)
    w = W.value
    fine = numerical_gradient(lambda v: float(graph.evaluate(loss, {W: v})), w.copy(), 1e-6)
    graph.evaluate(loss, {W: w})
    np.testing.assert_allclose(graph.gradients(loss)["W"], fine, rtol=1e-6, atol=1e-8)


def test_labels_are_given_anew():
    labels, z = graph.constant(np.array([0, 1]), name="labels"), graph.variable([[1.0, 0.0], [1.0, 0.0]], name="z")
    loss = graph.cross_entropy(z, labels)
    graph.evaluate(loss, {labels: [0, 0]})
    np.testing.assert_allclose(loss.value, np.log1p(np.exp(-1.0)), rtol=1e-12)


def test_a_node_made_of_values_that_are_out_of_date():
    x = graph.constant(np.ones(2))
    doubled = x * 2.0
    graph.evaluate(graph.sum(x), {x: np.ones(5)})
    later = graph.exp(doubled)
    assert graph.evaluate(later).shape == (5,)


@pytest.mark.parametrize("rows", [5, 4])
def test_an_error_leaves_all_values_as_they_were(rows):
    X, y, W, _, hidden, loss = network()
    raises = [False]

    def fragile(value):
        if raises[0] and value > 0:
            raises[0] = False
            raise KeyboardInterrupt
        return value * 2

    last = graph.Operation("fragile", fragile, lambda y, x: graph.diagonal(2.0))(loss)
    nodes = [X, y, W, hidden, loss, last]
    before = [(node.value, node.value.copy()) for node in nodes]
    raises[0] = True
    with pytest.raises(KeyboardInterrupt):
        graph.evaluate(last, {X: RNG.standard_normal((rows, 3)), y: RNG.random((rows, 1))})
    for node, (array, copy) in zip(nodes, before, strict=True):
        assert node.value is array
        np.testing.assert_array_equal(node.value, copy)
    with pytest.raises(ValueError, match=r"matmul of X of shape \(5, 4\) and .*ᵀ of shape \(3, 1\)"):
        graph.evaluate(loss, {X: np.ones((5, 4))})
    with pytest.raises(TypeError, match="only variables and constants can be given values, not <hidden"):
        graph.evaluate(loss, {hidden: 1.0})
    with pytest.raises(TypeError, match="evaluate takes a node"):
        graph.evaluate(3.0)
    for node, (array, copy) in zip(nodes, before, strict=True):
        assert node.value is array
        np.testing.assert_array_equal(node.value, copy)


# ---- training -----------------------------------------------------------------------------------


def test_a_tied_autoencoder_learns():
    directions = RNG.standard_normal((2, 8))
    data = graph.constant(RNG.standard_normal((64, 2)) @ directions, name="data")
    W = graph.variable(0.3 * RNG.standard_normal((2, 8)), name="W")
    code = data @ W.T
    loss = graph.mse_loss(code @ W, data)
    opt = fo.optim.Adam(graph.parameters(loss), lr=0.03)
    first = float(loss.value)
    for _ in range(400):
        graph.evaluate(loss)
        opt.step(graph.gradients(loss))
    assert float(graph.evaluate(loss)) < 1e-4 * first
    np.testing.assert_allclose(W.value @ W.value.T, np.eye(2), atol=0.05)  # an orthonormal basis of the plane


def test_a_siamese_pair_has_one_set_of_weights():
    encoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2), rng=0, dtype=np.float64)
    a, b = (graph.constant(RNG.standard_normal((32, 4)), name=n) for n in "ab")
    same = graph.constant((a.value[:, :1] > 0) == (b.value[:, :1] > 0), name="same")
    difference = graph.apply(encoder, a) - graph.apply(encoder, b)
    loss = graph.logistic_loss(1 - graph.sum(difference * difference, axis=1, keepdims=True), same)
    assert all(graph.parameters(loss)[name] is array for name, array in encoder.parameters().items())
    opt = fo.optim.Adam(encoder.parameters(), lr=0.02)
    first = float(loss.value)
    for _ in range(200):
        graph.evaluate(loss)
        opt.step(graph.gradients(loss))
    assert float(graph.evaluate(loss)) < 0.3 * first


# ---- second derivatives -------------------------------------------------------------------------


def test_a_closed_form():
    A = RNG.standard_normal((4, 4))
    x, v = graph.variable(RNG.standard_normal(4), name="x"), RNG.standard_normal(4)
    loss = x @ (A @ x)
    np.testing.assert_allclose(graph.hessian_vector(loss, {x: v})[x], (A + A.T) @ v, rtol=1e-12)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("norm", [False, True])
def test_hessian_vector_products(activation, norm):
    """Symmetric, and what differences of gradients give."""
    layers = [nn.Linear(3, 4), *([nn.BatchNorm(4)] if norm else []), activation(), nn.Linear(4, 3)]
    model = nn.Sequential(*layers, rng=0, dtype=np.float64)
    loss = graph.cross_entropy(graph.apply(model, RNG.standard_normal((6, 3))), np.arange(6) % 3)
    loss = loss + 0.1 * graph.mean(graph.gelu(loss) * graph.softplus(loss) / graph.sqrt(1 + loss**2))
    nodes = graph_variables(loss)
    u, v = ({x: RNG.standard_normal(x.shape) for x in nodes} for _ in range(2))
    Hu, Hv = graph.hessian_vector(loss, u), graph.hessian_vector(loss, v)
    assert inner(u, Hv) == pytest.approx(inner(v, Hu), rel=1e-10)
    h, ends = 1e-5, []
    for sign in (1, -1):
        values = {x: x.value for x in nodes}
        graph.evaluate(loss, {x: x.value + sign * h * v[x] for x in nodes})
        ends.append(graph.gradients(loss))
        graph.evaluate(loss, values)
    for x in nodes:
        difference = (ends[0][x.name] - ends[1][x.name]) / (2 * h)
        np.testing.assert_allclose(Hv[x], difference, rtol=1e-5, atol=1e-8)


def graph_variables(loss):
    return [row.node for row in graph.backward_mode(loss) if row.node.trainable]


def inner(u, v):
    return sum(float((u[x] * v[x]).sum()) for x in u)


# ---- pictures -----------------------------------------------------------------------------------


def test_the_picture_of_a_graph():
    pytest.importorskip("matplotlib")
    _, _, _, _, _, loss = network()
    figure = graph.plot(loss)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any(text.startswith("loss = ") for text in texts)
    assert any(text.startswith("hidden = ") for text in texts)
    with pytest.raises(TypeError, match="plot takes a node, not float"):
        graph.plot(1.0)
    import matplotlib.pyplot as plt

    plt.close(figure)


# ---- passes that come again ---------------------------------------------------------------------


def interpreted(make, inputs):
    """What a graph that has never been evaluated gives on these inputs."""
    loss, leaves = make()
    graph.evaluate(loss, {leaves[name]: value for name, value in inputs.items()})
    return loss.value, graph.gradients(loss)


def test_passes_that_come_again_give_the_bits_of_the_first(backend):
    """On other inputs, weights that have moved, arrays that were replaced, other shapes, another backend."""
    start = RNG.standard_normal((3, 4))

    def make():
        leaves = {"W": graph.variable(start.copy(), name="W"), "b": graph.variable(np.ones(4), name="b")}
        leaves |= {"X": graph.constant(np.ones((5, 3)), name="X"), "y": graph.constant(np.ones((4, 5)), name="y")}
        hidden = graph.tanh(leaves["X"] @ leaves["W"] + leaves["b"]).T
        return graph.mse_loss(graph.log(1.0 + hidden**2) * hidden[:, :1], leaves["y"]) + graph.sum(hidden) * 0.1, leaves

    loss, leaves = make()
    rng = np.random.default_rng(5)
    for turn in range(18):
        inputs = {"X": rng.standard_normal((5, 3)), "y": rng.random((4, 5))}
        if turn in (10, 11, 12, 14, 15, 17):
            inputs = {"X": rng.standard_normal((2, 3)), "y": rng.random((4, 2))}
        leaves["W"].value *= 1.5
        if turn == 5:
            leaves["b"].value = rng.standard_normal(4)
        if turn == 8:
            leaves["X"].value, inputs = rng.standard_normal((5, 3)), {}
        graph.evaluate(loss, {leaves[name]: value for name, value in inputs.items()})
        found, again = graph.gradients(loss), graph.gradients(loss)
        value, expected = interpreted(make, {name: x.value.copy() for name, x in leaves.items()})
        assert_same_bits(loss.value, value, f"turn {turn}")
        for name, gradient in expected.items():
            assert_same_bits(found[name], gradient, f"turn {turn}, {name}")
            assert_same_bits(again[name], gradient, f"turn {turn}, {name}")
            assert not np.shares_memory(found[name], again[name])
    assert loss._passes.standing() is not None
    leaves["b"].named("other")
    assert list(graph.gradients(loss)) == ["W", "other"]


def test_a_bound_pass_that_is_interrupted_leaves_all_values_as_they_were():
    X, y, W, b, hidden, loss = network()
    raises = [False]

    def fragile(value):
        if raises[0]:
            raises[0] = False
            raise KeyboardInterrupt
        return value * 2

    last = graph.Operation("fragile", fragile, lambda y, x: graph.diagonal(2.0))(loss)
    for _ in range(4):
        graph.evaluate(last, {X: RNG.standard_normal((5, 3))})
    assert last._passes.standing() is not None
    nodes = [X, y, W, b, hidden, loss, last]
    before = [(node.value, node.value.copy()) for node in nodes]
    raises[0] = True
    with pytest.raises(KeyboardInterrupt):
        graph.evaluate(last, {X: RNG.standard_normal((5, 3))})
    for node, (array, copy) in zip(nodes, before, strict=True):
        assert node.value is array
        np.testing.assert_array_equal(node.value, copy)
