"""The lecture's network, node by node: J = y* log y + (1 - y*) log(1 - y), y = sigmoid(b), b = beta z,
z = sigmoid(a), a = alpha x. J is to be maximised: the logistic loss is -J."""

import numpy as np
import pytest
from variants import numerical_gradient

import fastopt as fo

RNG = np.random.default_rng(0)
X, ALPHA, BETA = RNG.standard_normal(3), RNG.standard_normal((4, 3)), RNG.standard_normal(4)


def one(value):
    return np.array([float(value)])


class Graph:
    """The five modules: what each computes, and every partial derivative of J, by the library's functions."""

    def __init__(self, target):
        self.a = ALPHA @ X  # module 5
        self.z = fo.sigmoid(self.a)  # module 4
        self.b = BETA @ self.z  # module 3
        self.y = fo.sigmoid(one(self.b))  # module 2
        loss, db = fo.logistic_loss(one(self.b), one(target), reduction="sum")  # modules 1 and 2
        self.objective, self.db = -loss, -db[0]
        self.dbeta = self.db * self.z
        self.dz = self.db * BETA
        self.da = fo.sigmoid_backward(self.dz, self.z)
        self.dalpha = np.outer(self.da, X)
        self.dx = self.da @ ALPHA


def sigma(t):
    return 1 / (1 + np.exp(-t))


def objective(target, x=X, alpha=ALPHA, beta=BETA, a=None, z=None, b=None, y=None):
    """J from whichever node is given, straight from the definition."""
    a = alpha @ x if a is None else a
    z = sigma(a) if z is None else z
    b = beta @ z if b is None else b
    y = sigma(b) if y is None else y
    return float(np.sum(target * np.log(y) + (1 - target) * np.log(1 - y)))


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_every_partial_derivative(target):
    graph = Graph(target)
    assert graph.objective == pytest.approx(objective(target), rel=1e-14)
    # module 1, dJ/dy = y*/y + (1 - y*)/(y - 1); module 2, dJ/db = dJ/dy dy/db = y* - y
    dy = target / graph.y + (1 - target) / (graph.y - 1)
    np.testing.assert_allclose(dy, numerical_gradient(lambda v: objective(target, y=v), graph.y, 1e-6), rtol=1e-8)
    np.testing.assert_allclose(graph.db, fo.sigmoid_backward(dy, graph.y)[0], rtol=1e-12)
    np.testing.assert_allclose(graph.db, target - graph.y[0], rtol=1e-12)
    for node, value in (
        ("b", one(graph.b)),
        ("beta", BETA),
        ("z", graph.z),
        ("a", graph.a),
        ("alpha", ALPHA),
        ("x", X),
    ):
        gradient = numerical_gradient(lambda v, node=node: objective(target, **{node: v}), value)
        np.testing.assert_allclose(np.reshape(getattr(graph, f"d{node}"), value.shape), gradient, rtol=1e-7, atol=1e-10)


def test_closed_forms():
    target = 1.0
    graph = Graph(target)
    np.testing.assert_allclose(graph.dbeta, (target - graph.y) * graph.z, rtol=1e-12)
    np.testing.assert_allclose(graph.dz, (target - graph.y) * BETA, rtol=1e-12)
    np.testing.assert_allclose(graph.da, (target - graph.y) * BETA * graph.z * (1 - graph.z), rtol=1e-12)
    np.testing.assert_allclose(graph.dalpha, graph.da[:, None] * X[None, :], rtol=1e-12)
    np.testing.assert_allclose(
        graph.dx, [sum(graph.da[j] * ALPHA[j, i] for j in range(4)) for i in range(3)], rtol=1e-12
    )


def test_the_worked_example_forward_and_backward():
    """W = 3, X = 3, y = 1. The lecture prints +3.7018372e-4, the signs of two rows having slipped: a larger W makes
    the loss smaller, so that the derivative is negative."""
    w, x, y = 3.0, 3.0, 1.0
    xi1 = -w * x
    xi2 = np.exp(xi1)
    xi3 = 1 + xi2
    xi4 = 1 / xi3
    assert xi1 == -9
    assert xi4 == pytest.approx(fo.sigmoid(one(-xi1))[0], rel=1e-15)
    loss, dz = fo.logistic_loss(one(w * x), one(y))
    assert loss == pytest.approx(-np.log(xi4), rel=1e-12)

    # forward mode: the derivative of each node with respect to W, from the first to the last
    d1 = -x
    d2 = xi2 * d1
    d3 = d2
    d4 = -d3 / xi3**2
    forward = -d4 / xi4
    assert d4 == pytest.approx(fo.sigmoid_backward(one(x), fo.sigmoid(one(w * x)))[0], rel=1e-10)
    # backward mode: the derivative of the loss with respect to each node, from the last to the first
    g4 = -1 / xi4
    g3 = -g4 / xi3**2
    g2 = g3
    g1 = g2 * xi2
    backward = -x * g1
    for derivative in (forward, backward, dz[0] * x):
        assert derivative == pytest.approx(-3.7018372e-4, abs=1e-11)
