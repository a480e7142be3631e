"""Computational graphs: values and derivatives in both modes, against autograd's, and the course's tables."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from fastopt import graph

RNG = np.random.default_rng(0)


def course():
    """The worked example: ξ1 = -W X, ξ2 = exp ξ1, ξ3 = 1 + ξ2, ξ4 = 1 / ξ3, ξ5 = log ξ4, L = -y ξ5."""
    W, X, y = graph.variable(3.0, name="W"), graph.constant(3.0, name="X"), graph.constant(1.0, name="y")
    xi1 = (-(W * X)).named("ξ1")
    xi2 = graph.exp(xi1).named("ξ2")
    xi3 = (1 + xi2).named("ξ3")
    xi4 = (1 / xi3).named("ξ4")
    xi5 = graph.log(xi4).named("ξ5")
    return W, X, y, (-(y * xi5)).named("L")


def test_the_courses_tables():
    W, _, _, L = course()
    forward, backward = graph.forward_mode(L, W), graph.backward_mode(L)
    e = np.exp(-9.0)
    assert [row.name for row in forward] == ["ξ1", "ξ2", "ξ3", "ξ4", "ξ5", "L"]
    assert [row.name for row in backward] == ["L", "ξ5", "ξ4", "ξ3", "ξ2", "ξ1", "W", "X", "y"]
    values = [-9, e, 1 + e, 1 / (1 + e), -np.log1p(e), np.log1p(e)]
    np.testing.assert_allclose([row.value for row in forward], values, rtol=1e-12)
    partials = [-3, e, 1, -1 / (1 + e) ** 2, 1 + e, -1]
    np.testing.assert_allclose([next(iter(row.partials.values())) for row in forward], partials, rtol=1e-12)
    derivatives = np.cumprod(partials)
    np.testing.assert_allclose([row.derivative for row in forward], derivatives, rtol=1e-12)
    np.testing.assert_allclose([row.derivative for row in backward][:6], np.cumprod([1, *partials[:0:-1]]), rtol=1e-12)
    # the course prints +3.7018372e-4, the signs of two of its rows having slipped
    assert forward.derivative == pytest.approx(-3.70183727959e-4, rel=1e-11)
    assert backward[W] == pytest.approx(forward.derivative, rel=1e-14)
    assert str(forward).splitlines()[2].split() == ["ξ1", "-W", "·", "X", "-9", "∂ξ1/∂W", "=", "-3", "-3"]
    assert "<td>ξ4</td><td>1 / ξ3</td>" in forward._repr_html_()


def test_the_two_layer_network_of_the_course():
    """Modules 1 to 5: a = α x, z = σ(a), b = β z, y = σ(b), J = y* log y + (1 - y*) log(1 - y)."""
    x, alpha, beta = RNG.standard_normal(3), RNG.standard_normal((4, 3)), RNG.standard_normal(4)
    target = 1.0
    X, A, B = (graph.variable(v, name=n) for v, n in ((x, "x"), (alpha, "α"), (beta, "β")))
    a = (A @ X).named("a")
    z = graph.sigmoid(a).named("z")
    b = (B @ z).named("b")
    y = graph.sigmoid(b).named("y")
    J = (target * graph.log(y) + (1 - target) * graph.log(1 - y)).named("J")
    back = graph.backward_mode(J)
    db = target - float(y.value)
    dz = db * beta
    da = dz * z.value * (1 - z.value)
    expected = [
        (y, target / y.value),
        (b, db),
        (B, db * z.value),
        (z, dz),
        (a, da),
        (A, np.outer(da, x)),
        (X, da @ alpha),
    ]
    for node, derivative in expected:
        np.testing.assert_allclose(back[node], derivative, rtol=1e-12)
    for i in range(3):  # forward mode goes by one number at a time
        parts = [graph.variable(v, name=f"x{k}") for k, v in enumerate(x)]
        again = graph.concatenate([graph.reshape(p, (1,)) for p in parts])
        u = graph.sigmoid(B @ graph.sigmoid(A @ again))
        J2 = target * graph.log(u) + (1 - target) * graph.log(1 - u)
        assert graph.forward_mode(J2, parts[i]).derivative == pytest.approx((da @ alpha)[i], rel=1e-12)


# every operation, as a function of nodes that autograd can repeat with its own functions
def _sigma(anp, x):
    return 1 / (1 + anp.exp(-x))


UNARY = {
    "-": (lambda x: -x, lambda anp, x: -x),
    "abs": (abs, lambda anp, x: anp.abs(x)),
    "exp": (graph.exp, lambda anp, x: anp.exp(x)),
    "log": (lambda x: graph.log(x * x + 1), lambda anp, x: anp.log(x * x + 1)),
    "log1p": (lambda x: graph.log1p(x * x), lambda anp, x: anp.log1p(x * x)),
    "sqrt": (lambda x: graph.sqrt(x * x + 1), lambda anp, x: anp.sqrt(x * x + 1)),
    "power": (lambda x: (x * x + 1) ** 1.5, lambda anp, x: (x * x + 1) ** 1.5),
    "sigmoid": (graph.sigmoid, _sigma),
    "tanh": (graph.tanh, lambda anp, x: anp.tanh(x)),
    "relu": (graph.relu, lambda anp, x: anp.maximum(x, 0)),
    "softplus": (graph.softplus, lambda anp, x: anp.logaddexp(x, 0)),
    "log_sigmoid": (graph.log_sigmoid, lambda anp, x: -anp.logaddexp(-x, 0)),
    "gelu": (graph.gelu, lambda anp, x: 0.5 * x * (1 + anp.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))),
    "silu": (graph.silu, lambda anp, x: x * _sigma(anp, x)),
    "sum": (lambda x: graph.sum(x, axis=-1), lambda anp, x: anp.sum(x, axis=-1)),
    "sum of all": (graph.sum, lambda anp, x: anp.sum(x)),
    "mean": (lambda x: graph.mean(x, axis=0, keepdims=True), lambda anp, x: anp.mean(x, axis=0, keepdims=True)),
    "softmax": (graph.softmax, lambda anp, x: anp.exp(x) / anp.sum(anp.exp(x), axis=-1, keepdims=True)),
    "reshape": (lambda x: graph.reshape(x, (-1,)), lambda anp, x: anp.reshape(x, (-1,))),
    "transpose": (lambda x: x.T, lambda anp, x: x.T),
    "row": (lambda x: x[0], lambda anp, x: x[0]),
    "slice": (lambda x: x[..., ::2], lambda anp, x: x[..., ::2]),
    "repeated index": (lambda x: x[np.array([0, 0, -1])], lambda anp, x: x[np.array([0, 0, -1])]),
}
BINARY = {
    "+": (lambda a, b: a + b, lambda anp, a, b: a + b),
    "-": (lambda a, b: a - b, lambda anp, a, b: a - b),
    "*": (lambda a, b: a * b, lambda anp, a, b: a * b),
    "/": (lambda a, b: a / (b * b + 1), lambda anp, a, b: a / (b * b + 1)),
    "**": (lambda a, b: (a * a + 1) ** b, lambda anp, a, b: (a * a + 1) ** b),
    "maximum": (graph.maximum, lambda anp, a, b: anp.maximum(a, b)),
    "minimum": (graph.minimum, lambda anp, a, b: anp.minimum(a, b)),
}
SHAPES = [((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((4, 2, 3), (2, 1)), ((0, 3), (3,))]


def both_modes(function, arrays):
    """The value, the gradient of the sum of weighted outputs, and the same by forward mode along a random direction."""
    inputs = [graph.variable(x, name=f"x{i}") for i, x in enumerate(arrays)]
    y = function(*inputs)
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    scalar = graph.sum(y * weights)
    back = list(graph.gradients(scalar).values())
    steps = [np.sin(1 + np.arange(x.size)).reshape(x.shape) for x in arrays]
    s = graph.variable(0.0, name="s")
    moved = [graph.constant(x) + s * t for x, t in zip(arrays, steps, strict=True)]
    along = graph.forward_mode(graph.sum(function(*moved) * weights), s).derivative
    assert along == pytest.approx(
        sum(float((g * t).sum()) for g, t in zip(back, steps, strict=True)), rel=1e-9, abs=1e-12
    )
    return y.value, weights, back


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (4, 2, 3)])
def test_functions_of_one_node(name, shape):
    function, theirs = UNARY[name]
    if shape == () and name in ("row", "slice", "repeated index", "softmax", "sum", "mean"):
        shape = (5,)
    compare(function, theirs, [RNG.standard_normal(shape)])


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_functions_of_two_nodes(name, shapes):
    for first, second in (shapes, shapes[::-1]):
        compare(*BINARY[name], [RNG.standard_normal(first), RNG.standard_normal(second)])


@pytest.mark.parametrize(
    "shapes", [((2, 3), (3, 4)), ((2, 3), (3,)), ((3,), (3, 4)), ((3,), (3,)), ((0, 3), (3, 2))], ids=str
)
def test_products(shapes):
    compare(lambda a, b: a @ b, lambda anp, a, b: anp.dot(a, b), [RNG.standard_normal(s) for s in shapes])


def compare(function, theirs, arrays):
    """Value and gradient beside autograd's."""
    value, weights, back = both_modes(function, arrays)
    np.testing.assert_allclose(value, theirs(anp, *arrays), rtol=1e-12, atol=1e-15)
    for i, x in enumerate(arrays):
        if x.size:
            want = autograd.grad(lambda *a: anp.sum(theirs(anp, *a) * weights), i)(*arrays)
            np.testing.assert_allclose(back[i], want, rtol=1e-9, atol=1e-12)
