"""Computational graphs: values and derivatives in both modes, against autograd's, and the course's tables."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import fastopt as fo
from fastopt import graph
from fastopt.examples.computational_graph import neuron

RNG = np.random.default_rng(0)


def test_the_courses_tables():
    W, L = neuron()
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
    # the course prints +3.7018372e-4, signs having slipped
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
    "function of a transpose": (lambda x: graph.sigmoid(x.T).T, lambda anp, x: _sigma(anp, x.T).T),
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


# ---- losses and batch norm ----------------------------------------------------------------------


def test_losses_and_their_gradients():
    z, y, labels = RNG.standard_normal((5, 3)), RNG.random((5, 3)), np.array([0, 2, 1, 1, -100])
    compare(graph.mse_loss, lambda anp, a, b: anp.mean((a - b) ** 2), [z, y])
    compare(graph.logistic_loss, lambda anp, a, b: anp.mean(anp.logaddexp(a, 0) - a * b), [z, y])
    used = np.arange(4)

    def theirs(anp, a):
        return anp.mean(anp.log(anp.sum(anp.exp(a[:4]), axis=1)) - a[used, labels[:4]])

    compare(lambda a: graph.cross_entropy(a, labels), theirs, [z])


def test_batch_norm_in_both_modes():
    x, gamma, beta = RNG.standard_normal((6, 3)), RNG.standard_normal(3), RNG.standard_normal(3)
    mean, var = RNG.standard_normal(3), RNG.random(3) + 0.5

    def theirs(anp, x, gamma, beta):
        center = x - anp.mean(x, axis=0)
        return center / anp.sqrt(anp.mean(center**2, axis=0) + 1e-5) * gamma + beta

    compare(graph.batch_norm, theirs, [x, gamma, beta])
    compare(
        lambda *nodes: graph.batch_norm(*nodes, mean=mean, var=var),
        lambda anp, x, gamma, beta: (x - mean) / np.sqrt(var + 1e-5) * gamma + beta,
        [x, gamma, beta],
    )
    with pytest.raises(ValueError, match="mean is missing"):
        graph.batch_norm(graph.variable(x), gamma, beta, var=var)


def test_axes_in_any_order():
    order = (1, 2, 0)
    x = RNG.standard_normal((4, 2, 3))
    compare(lambda x: graph.transpose(x, order), lambda anp, x: anp.transpose(x, order), [x])
    compare(lambda x: graph.transpose(x, (-2, -1, 0)), lambda anp, x: anp.transpose(x, order), [x])


def test_equal_numbers_share_the_derivative_of_the_larger_and_of_the_smaller():
    a, b = graph.variable([1.0, 2.0, 3.0], name="a"), graph.variable([2.0, 2.0, 2.0], name="b")
    for function, of_a, of_b in ((graph.maximum, [0, 0.5, 1], [1, 0.5, 0]), (graph.minimum, [1, 0.5, 0], [0, 0.5, 1])):
        found = graph.gradients(graph.sum(function(a, b)))
        np.testing.assert_array_equal(found["a"], of_a)
        np.testing.assert_array_equal(found["b"], of_b)


def test_concatenation_and_dropout():
    arrays = [RNG.standard_normal(s) for s in ((2, 3), (2, 0), (2, 4))]
    compare(lambda *nodes: graph.concatenate(nodes, axis=-1), lambda anp, *a: anp.concatenate(a, axis=-1), arrays)
    mask = fo.dropout(np.ones((4, 5)), 0.4, seed=3, draw=2)
    compare(lambda x: graph.dropout(x, 0.4, seed=3, draw=2), lambda anp, x: x * mask, [RNG.standard_normal((4, 5))])


# ---- graphs of other forms ----------------------------------------------------------------------


def test_a_chain_of_four_thousand_nodes():
    """More than Python's functions may call each other."""
    x = graph.variable(0.5, name="x")
    y, derivative, value = x, 1.0, 0.5
    for _ in range(2000):
        y = graph.tanh(y) * 1.0001
        value = np.tanh(value) * 1.0001
        derivative *= (1 - (value / 1.0001) ** 2) * 1.0001
    assert graph.gradients(y)["x"] == pytest.approx(derivative, rel=1e-9)
    assert graph.forward_mode(y.named("y"), x).derivative == pytest.approx(derivative, rel=1e-9)
    assert graph.evaluate(y, {x: 0.25}) == pytest.approx(graph.evaluate(y), rel=0)


def test_nodes_used_many_times():
    x = graph.variable([1.5, -0.5], name="x")
    y = x
    for _ in range(60):  # 2**60 ways from the result to x
        y = (y + y) * 0.5
    np.testing.assert_array_equal(graph.gradients(graph.sum(y))["x"], [1.0, 1.0])
    assert len(str(graph.backward_mode(graph.sum(y).named("y")))) < 2000
    np.testing.assert_array_equal(graph.gradients(graph.sum(x * x))["x"], 2 * x.value)
    row = graph.forward_mode((x * x).named("y"), graph.variable(0.0))[0]
    assert row.partials == {}
    assert graph.backward_mode(graph.sum((x * x).named("y")).named("s"))[1].partials["x"].tolist() == [3.0, -1.0]


def test_a_partial_derivative_leaves_out_the_ways_through_other_rows():
    a = graph.variable(2.0, name="a")
    b = graph.exp(a).named("b")
    c = (2 * (a * b)).named("c")
    row = graph.forward_mode(c, a)[1]
    assert row.partials == pytest.approx({"a": 2 * np.exp(2), "b": 4})
    assert row.derivative == pytest.approx(2 * np.exp(2) + 4 * np.exp(2))
    assert row.formula == "2 · (a · b)"


def test_independence_gives_zeros():
    a, b = graph.variable([1.0, 2.0], name="a"), graph.variable(3.0, name="b")
    loss = graph.sum(a * a)
    assert graph.forward_mode(loss, b).derivative == 0
    assert graph.backward_mode(loss)[b] == 0
    np.testing.assert_array_equal(graph.gradients(loss, [a, b])["b"], 0.0)
    np.testing.assert_array_equal(graph.hessian_vector(loss + b, {b: 1.0})[b], 0.0)
    np.testing.assert_array_equal(graph.gradients(graph.sum(graph.absolute(a * 0.0)))["a"], [0.0, 0.0])


def test_a_second_backward_pass_gives_the_same_and_shares_no_memory():
    a, b = graph.variable(RNG.standard_normal((2, 3)), name="a"), graph.variable(RNG.standard_normal((3, 2)), name="b")
    c, twice = graph.variable(RNG.standard_normal((2, 3)), name="c"), np.full((2, 3), 2.0)
    for loss in (graph.sum(a + b.T + graph.reshape(b, (2, 3))), graph.sum((a + c) * twice),
                 graph.sum((a + graph.reshape(b, (2, 3))) * twice)):  # fmt: skip
        first, second = graph.gradients(loss), graph.gradients(loss)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
        arrays = [*first.values(), *second.values(), a.value, b.value, c.value, twice]
        for i, x in enumerate(arrays):
            assert not any(np.shares_memory(x, other) for other in arrays[:i])
        expected = second["a"].copy()
        fo.clip_grad_norm(first, 1e-3)
        np.testing.assert_array_equal(graph.gradients(loss)["a"], expected)


def test_powers_of_zero():
    x = graph.variable([0.0, 2.0], name="x")
    for exponent, expected in ((0, [0, 0]), (1, [1, 1]), (2, [0, 4]), (3.0, [0, 12])):
        np.testing.assert_array_equal(graph.gradients(graph.sum(x**exponent))["x"], expected)


# ---- dtypes, and what does not fit --------------------------------------------------------------


def test_float32_stays_float32():
    x = graph.variable(RNG.standard_normal((4, 3)).astype(np.float32), name="x")
    w = graph.variable(RNG.standard_normal((2, 3)).astype(np.float32), name="w")
    hidden = graph.gelu(2 * graph.softplus(x @ w.T) ** 2 + np.arange(2) - np.float64(0.5) - np.array(0.5)) / graph.mean(
        x
    )
    for loss in (graph.logistic_loss(hidden, np.ones((4, 2), int)), graph.cross_entropy(hidden, [0, 1, 1, 0])):
        assert {node.dtype for node in (hidden, loss)} == {np.dtype(np.float32)}
        assert {g.dtype for g in graph.gradients(loss).values()} == {np.dtype(np.float32)}
        assert graph.hessian_vector(loss, {w: np.ones((2, 3))})[w].dtype == np.float32


def test_products_have_the_librarys_bits():
    a, b = RNG.standard_normal((7, 30)), RNG.standard_normal((5, 30))
    product = graph.variable(a) @ graph.variable(b).T
    np.testing.assert_array_equal(product.value, fo.matmul(a, b.T))


def test_what_does_not_fit_names_both_nodes():
    a, b = graph.variable(np.ones((2, 3)), name="a"), graph.variable(np.ones((4, 3)), name="b")
    single = graph.variable(np.ones((2, 3), np.float32), name="single")
    both = r"a of shape \(2, 3\) and b of shape \(4, 3\)"
    for wrong in (lambda: a + b, lambda: a @ b, lambda: graph.maximum(a, b), lambda: graph.mse_loss(a, b),
                  lambda: graph.concatenate([a, b], axis=1)):  # fmt: skip
        with pytest.raises(ValueError, match=both):
            wrong()
    with pytest.raises(TypeError, match=r"add of a of shape \(2, 3\), which is float64, and single .* float32"):
        a + single
    with pytest.raises(TypeError, match="float32, and an array of shape"):
        single * np.ones((2, 3))
    with pytest.raises(TypeError, match=r"labels of shape .* is int64"):
        a * graph.constant(np.arange(3), name="labels")
    with pytest.raises(IndexError, match=r"take of a of shape \(2, 3\)"):
        a[5]
    with pytest.raises(ValueError, match=r"mean of .*no elements"):
        graph.mean(a[:0])
    with pytest.raises(ValueError, match=r"axis is 2, and a of shape \(2, 3\) has 2 axes"):
        graph.sum(a, axis=2)
    with pytest.raises(TypeError, match="those of a node, not of float"):
        graph.parameters(3.0)
    with pytest.raises(ValueError, match="one number, and a of shape"):
        graph.gradients(a)
    with pytest.raises(ValueError, match="two nodes have the name 'a'"):
        graph.gradients(graph.sum(a * graph.variable(1.0, name="a")))
    with pytest.raises(ValueError, match="3 has no name"):
        graph.parameters(a * graph.variable(3.0))
    with pytest.raises(TypeError, match="no truth value"):
        bool(a)
    with pytest.raises(TypeError, match="real numbers, not complex128"):
        graph.variable(1j)
    with pytest.raises(TypeError, match="is a node already"):
        graph.constant(a)
    with pytest.raises(ValueError, match=r"vector for a of shape \(2, 3\) has shape \(3,\)"):
        graph.hessian_vector(graph.sum(a), {a: np.ones(3)})


def test_where_inf_and_nan_first_appear():
    x = graph.variable([-1.0, 2.0], name="x")
    y = graph.log(x).named("y")
    loss = graph.sum(y * 2).named("loss")
    assert graph.first_nonfinite(loss) is y
    assert np.isnan(graph.backward_mode(loss)[0].value)
    zero = graph.variable(0.0, name="zero")
    quotient = (1 / zero).named("quotient")
    assert graph.first_nonfinite(1 + quotient) is quotient
    assert quotient.value == np.inf
    assert graph.first_nonfinite(1 + x) is None
    assert "nan" in str(graph.forward_mode(loss, zero))


@pytest.mark.filterwarnings("error")
def test_the_callers_errstate_does_not_matter():
    with np.errstate(all="raise"):
        x = graph.variable([-1.0, 0.0, 800.0], name="x")
        loss = graph.sum(graph.log(x) + graph.exp(x) + 1 / x + graph.sqrt(x))
        single = graph.constant(np.ones(2, np.float32))
        graph.evaluate(graph.sum(single), {single: np.array([1e300, 1e-300])})
        for _ in range(4):
            graph.evaluate(loss)
            assert np.isnan(graph.gradients(loss)["x"][0])
        assert np.isnan(graph.compile(loss)())
        graph.hessian_vector(loss, {x: np.ones(3)})
        graph.backward_mode(loss)


# ---- operations of one's own --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_librarys_operations_pass_the_check(dtype):
    a, b = (graph.variable((RNG.random(s) + 0.5).astype(dtype), name=n) for s, n in (((2, 3), "a"), ((3,), "b")))
    labels = np.array([0, 2])
    for node in (a + b, a - b, a * b, a / b, a**b, -a, abs(a), graph.exp(a), graph.log(a), graph.sqrt(a), a @ b,
                 graph.sigmoid(a), graph.softmax(a), graph.mean(a, axis=0), a[0], a.T,
                 graph.concatenate([a, a]), graph.cross_entropy(a, labels), graph.logistic_loss(a, a),
                 graph.batch_norm(a, b, b), graph.dropout(a, seed=1)):  # fmt: skip
        graph.check(node)


def test_an_operation_of_ones_own_and_a_wrong_one():
    square = graph.Operation("square", lambda x: x * x, lambda y, x: graph.diagonal(2 * x))
    x = graph.variable([1.0, -2.0], name="x")
    loss = graph.sum(square(square(x)))
    graph.check(square(x))
    np.testing.assert_array_equal(graph.gradients(loss)["x"], 4 * x.value**3)
    np.testing.assert_array_equal(graph.hessian_vector(loss, {x: [1.0, 1.0]})[x], 12 * x.value**2)

    A = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    wrong_transpose = graph.Operation(
        "map", lambda x: A @ x, lambda y, x: graph.linear(lambda t: A @ t, lambda g: A[:2] @ g[:2])
    )
    with pytest.raises(AssertionError, match=r"map, .*respect to x.*<g, J t> is .*, and <Jᵀ g, t> is"):
        graph.check(wrong_transpose(x))
    wrong = graph.Operation("cube", lambda x: x**3, lambda y, x: graph.diagonal(x * x))
    with pytest.raises(AssertionError, match=r"cube, .*differences give"):
        graph.check(wrong(x))
    wrong_shape = graph.Operation("total", lambda x: x.sum(), lambda y, x: graph.linear(lambda t: t.sum(), lambda g: g))
    with pytest.raises(AssertionError, match="Jᵀ g has shape"):
        graph.check(wrong_shape(x))
    with pytest.raises(TypeError, match="takes 1 inputs, not 2"):
        square(x, x)
    with pytest.raises(TypeError, match="a node that an operation made"):
        graph.check(x)
