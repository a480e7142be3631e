"""Whole training steps: a mini-batch forward and backward and Adam's update, by epochs, in every library.

All begin with the same weights and take the same batches in the same order; what is compared is the loss of every
epoch. "matrix products only" is what no way of training can do without. The peers run as their users would run them:
`fo.fit`, PyTorch eager with fused Adam, scikit-learn's `partial_fit`, JAX with the epoch as one compiled scan.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import fastopt as fo

from . import networks
from .measure import FASTOPT, Case, Setup, Side, Spec, returning
from .networks import LR, Network
from .peers import blas_settings, torch_settings

Call = Callable[[], Sequence[float]]


def all_networks(setup: Setup) -> list[Network]:
    return [
        Network((30, 100, 1), "sigmoid", batch_norm=False, batch=32, steps=100, epochs=1 if setup.quick else 5),
        Network((64, 256, 256, 10), "relu", batch_norm=True, batch=128, steps=40),
        Network((784, 1024, 1024, 10), "relu", batch_norm=False, batch=256, steps=4 if setup.quick else 8),
        # SimpleChains.jl's published case: all rows at once
        Network((4, 32, 16, 4), "tanh", batch_norm=False, batch=10_000, steps=1, epochs=5 if setup.quick else 20),
    ]


def specs(setup: Setup) -> Iterator[Spec]:
    for net in all_networks(setup):
        yield Spec("train", "training", net.name, partial(case, net, setup))


def case(net: Network, setup: Setup) -> Case:
    blas = blas_settings(setup)
    sides = [returning(FASTOPT, fastopt_fit(net), blas)]
    sides.append(Side("matrix products only", products(net), list, blas, checked=False))
    if "numpy" in setup.peers:
        sides.append(returning("numpy, plain", networks.plain(net), blas))
        sides.append(returning("numpy, in place", networks.in_place(net), blas))
    if "torch" in setup.peers:
        sides.append(returning("torch", pytorch(net, setup.peers["torch"]), torch_settings(setup)))
    if "sklearn" in setup.peers and not net.batch_norm:
        sides.append(returning("sklearn", scikit_learn(net, setup.peers["sklearn"]), blas))
    if "jax" in setup.peers and "optax" in setup.peers:
        sides.append(returning("jax", jax_scan(net, setup.peers["jax"], setup.peers["optax"])))
    work = net.batch * sum(a * b for a, b in pairwise(net.widths))
    reference = networks.plain(net, np.float64)
    # a multiply-add counts as two; the first layer's input needs no gradient
    flops = 6 * work - 2 * net.batch * net.widths[0] * net.widths[1]
    facts = {"threads": setup.all_threads, "flops": flops}
    return Case(work, sides, reference, tolerance=2e-3, per_call=net.steps * net.epochs, facts=facts)


def fastopt_fit(net: Network) -> Call:
    """`fo.fit`, everything included: shuffling aside, mini-batches, the history, accuracy."""
    layers: list[Any] = []
    for into, out in pairwise(net.widths):
        layers.append(fo.nn.Linear(into, out))
        layers += [fo.nn.BatchNorm(out)] if net.batch_norm else []
        layers.append({"sigmoid": fo.nn.Sigmoid, "tanh": fo.nn.Tanh, "relu": fo.nn.ReLU}[net.activation]())
    model = fo.nn.Sequential(*layers[: -2 if net.batch_norm else -1])
    linear = [layer.params for layer in layers if isinstance(layer, fo.nn.Linear)]
    for params, w in zip(linear, net.weights(), strict=True):
        params["weight"][...], params["bias"][...] = w, 0
    X, y = net.data()
    loss = "logistic" if net.binary else "cross_entropy"
    opt = fo.optim.Adam(model.parameters(), lr=LR)
    options: dict[str, Any] = {"loss": loss, "optimizer": opt, "batch_size": net.batch, "epochs": net.epochs}

    def call() -> list[float]:
        return fo.fit(model, X, y, shuffle=False, progress=False, **options).loss

    return call


def products(net: Network) -> Callable[[], None]:
    """The matrix products of a step by themselves, into arrays that are there."""
    batch, widths, weights = net.batch, net.widths, net.weights()
    a = [np.ones((batch, width), np.float32) for width in widths]
    outputs, dw = [np.empty_like(x) for x in a], [np.empty_like(w) for w in weights]

    def call() -> None:
        for _ in range(net.steps * net.epochs):
            for i, w in enumerate(weights):
                np.dot(a[i], w.T, out=outputs[i + 1])
            for i in reversed(range(len(weights))):
                np.dot(a[i + 1].T, a[i], out=dw[i])
                if i:
                    np.dot(a[i + 1], weights[i], out=outputs[i])

    return call


def pytorch(net: Network, torch: Any) -> Call:
    nn = torch.nn
    layers: list[Any] = []
    for w in net.weights():
        layers.append(nn.Linear(w.shape[1], w.shape[0]))
        with torch.no_grad():
            layers[-1].weight.copy_(torch.from_numpy(w))
            layers[-1].bias.zero_()
        layers += [nn.BatchNorm1d(len(w))] if net.batch_norm else []
        layers.append({"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}[net.activation]())
    model = nn.Sequential(*layers[: -2 if net.batch_norm else -1])
    opt = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    loss_of = nn.BCEWithLogitsLoss() if net.binary else nn.CrossEntropyLoss()
    X, y = map(torch.from_numpy, net.data())

    def epoch() -> float:
        total = torch.zeros(())
        for rows in net.batches():
            opt.zero_grad()
            loss = loss_of(model(X[rows]), y[rows])
            loss.backward()
            opt.step()
            total += loss.detach()
        return total.item() / net.steps

    return lambda: [epoch() for _ in range(net.epochs)]


def scikit_learn(net: Network, sklearn: Any) -> Call:
    activation = "logistic" if net.activation == "sigmoid" else net.activation
    model = sklearn.MLPClassifier(net.widths[1:-1], activation, alpha=0.0, batch_size=net.batch,
                                  learning_rate_init=LR, shuffle=False)  # fmt: skip
    X, y = net.data()
    y = y.ravel().astype(int)
    classes = range(2 if net.binary else net.widths[-1])
    model.partial_fit(X[: net.batch], y[: net.batch], classes=classes)  # makes the arrays
    for coefficients, intercepts, w in zip(model.coefs_, model.intercepts_, net.weights(), strict=True):
        coefficients[...], intercepts[...] = w.T, 0
    del model._optimizer  # so that the next call begins with a new one

    def epoch() -> float:
        model.partial_fit(X, y)
        return model.loss_

    return lambda: [epoch() for _ in range(net.epochs)]


def jax_scan(net: Network, jax: Any, optax: Any) -> Call:
    """A whole epoch as one compiled scan."""
    numpy = jax.numpy
    opt = optax.adam(LR)
    layers = jax.tree.map(numpy.array, net.parameters(np.float32))
    state = [layers, opt.init(layers)]
    X, y = net.data()
    data = numpy.array(X).reshape(net.steps, net.batch, -1), numpy.array(y).reshape(net.steps, net.batch, *y.shape[1:])
    activate = {"sigmoid": jax.nn.sigmoid, "tanh": jax.numpy.tanh, "relu": jax.nn.relu}[net.activation]

    def loss_of(layers: Any, x: Any, y: Any) -> Any:
        for w, b, *norm in layers[:-1]:
            z = x @ w.T + b
            if norm:
                z = norm[0] * (z - z.mean(axis=0)) * jax.lax.rsqrt(z.var(axis=0) + networks.EPS) + norm[1]
            x = activate(z)
        z = x @ layers[-1][0].T + layers[-1][1]
        if net.binary:
            return optax.sigmoid_binary_cross_entropy(z, y).mean()
        return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()

    def step(carry: Any, batch: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(carry[0], *batch)
        updates, moments = opt.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), moments), loss

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, data))

    def epoch() -> float:
        carry, losses = run(tuple(state))
        state[:] = carry
        return float(losses.mean())

    return lambda: [epoch() for _ in range(net.epochs)]
