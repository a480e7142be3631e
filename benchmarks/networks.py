"""The networks whose training is timed, and how one trains them by hand in NumPy, plainly and in place."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .kernels import IN_PLACE, PLAIN
from .optimizers import IN_PLACE as STEP_IN_PLACE

LR, EPS = 1e-3, 1e-5


class Network(NamedTuple):
    """A multilayer perceptron, trained by Adam; one output has the logistic loss, several have cross-entropy."""

    widths: tuple[int, ...]
    activation: str
    batch_norm: bool
    batch: int
    steps: int  # in an epoch
    epochs: int = 1  # in a timed call

    @property
    def name(self) -> str:
        norm = ", batch norm" if self.batch_norm else ""
        return f"{'-'.join(map(str, self.widths))} {self.activation}{norm}, batch {self.batch}"

    @property
    def binary(self) -> bool:
        return self.widths[-1] == 1

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """X and targets: a column of 0 and 1, or the numbers of classes."""
        random = np.random.default_rng(0)
        X = random.standard_normal((self.batch * self.steps, self.widths[0]), dtype=np.float32)
        if self.binary:
            return X, (X[:, :1] * X[:, 1:2] > 0).astype(np.float32)
        classes = self.widths[-1]
        return X, np.argmax(X[:, :classes] + np.roll(X, -1, axis=1)[:, :classes], axis=1)

    def weights(self) -> list[np.ndarray]:
        """Of every layer (out, in), as PyTorch has them; biases begin as 0, batch norm as 1 and 0."""
        random = np.random.default_rng(1)
        return [
            random.standard_normal((out, into), dtype=np.float32) / np.float32(into**0.5)
            for into, out in pairwise(self.widths)
        ]

    def parameters(self, dtype: Any) -> list[list[np.ndarray]]:
        """Of every layer weight and bias, and with batch norm gamma and beta, but for the last."""
        layers = [[w.astype(dtype), np.zeros(len(w), dtype)] for w in self.weights()]
        for layer in layers[:-1] if self.batch_norm else []:
            layer += [np.ones(len(layer[1]), dtype), np.zeros(len(layer[1]), dtype)]
        return layers

    def batches(self) -> list[slice]:
        return [slice(i, i + self.batch) for i in range(0, self.batch * self.steps, self.batch)]


def _slope(net: Network, h: np.ndarray) -> np.ndarray:
    return {"sigmoid": lambda: h * (1 - h), "tanh": lambda: 1 - h * h, "relu": lambda: h > 0}[net.activation]()


def plain(net: Network, dtype: Any = np.float32) -> Callable[[], list[float]]:
    """As a person would write it; in float64, the truth. Returns the loss of every epoch."""
    X, Y = net.data()
    X = X.astype(dtype)
    layers = net.parameters(dtype)
    moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in layers]
    rows = np.arange(net.batch)
    t = 0

    def step(x: np.ndarray, y: np.ndarray) -> float:
        nonlocal t
        saved = []
        for w, b, *norm in layers[:-1]:
            z, normalized, inverse = x @ w.T + b, None, None
            if norm:
                inverse = 1 / np.sqrt(z.var(axis=0) + EPS)
                normalized = (z - z.mean(axis=0)) * inverse
                z = normalized * norm[0] + norm[1]
            h = PLAIN[net.activation](z)
            saved.append((x, normalized, inverse, h))
            x = h
        w, b = layers[-1]
        z = x @ w.T + b
        if net.binary:
            loss = float(np.mean(np.maximum(z, 0) - z * y + np.log1p(np.exp(-abs(z)))))
            dz = (1 / (1 + np.exp(-z)) - y) / dtype(len(z))
        else:
            e = np.exp(z - z.max(axis=1, keepdims=True))
            dz = e / e.sum(axis=1, keepdims=True)
            loss = -float(np.log(dz[rows, y]).mean())
            dz[rows, y] -= 1
            dz /= len(z)
        grads = [[dz.T @ x, dz.sum(axis=0)]]
        for (w, *_), (_, _, *norm), (x, normalized, inverse, h) in zip(
            layers[:0:-1], layers[-2::-1], saved[::-1], strict=True
        ):
            dz = dz @ w * _slope(net, h)
            of_norm = []
            if norm:
                of_norm = [(dz * normalized).sum(axis=0), dz.sum(axis=0)]
                dz = norm[0] * inverse * (dz - of_norm[1] / len(dz) - normalized * (of_norm[0] / len(dz)))
            grads.insert(0, [dz.T @ x, dz.sum(axis=0), *of_norm])
        t += 1
        for layer, layer_grads, layer_moments in zip(layers, grads, moments, strict=True):
            for i, g in enumerate(layer_grads):
                m, v = layer_moments[i]
                m = 0.9 * m + 0.1 * g
                v = 0.999 * v + 0.001 * g * g
                layer_moments[i] = m, v
                layer[i] = layer[i] - LR * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return loss

    def call() -> list[float]:
        return [sum(step(X[rows], Y[rows]) for rows in net.batches()) / net.steps for _ in range(net.epochs)]

    return call


def in_place(net: Network) -> Callable[[], list[float]]:
    """All arrays allocated once; every operation writes into one of them."""
    X, Y = net.data()
    layers = net.parameters(np.float32)
    grads = [[np.empty_like(p) for p in layer] for layer in layers]
    state = [[[np.zeros_like(p) for _ in range(3)] for p in layer] for layer in layers]
    outputs, work, normalized = ([np.empty((net.batch, w), np.float32) for w in net.widths[1:]] for _ in range(3))
    inverse, means = ([np.empty(w, np.float32) for w in net.widths[1:]] for _ in range(2))
    rows, ones = np.arange(net.batch), np.ones(net.batch, np.float32)
    activate, adam = IN_PLACE[net.activation], STEP_IN_PLACE["Adam"][0]
    t = 0

    def forward_norm(i: int, z: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> None:
        np.mean(z, axis=0, out=means[i])
        np.subtract(z, means[i], z)
        np.multiply(z, z, work[i])
        np.mean(work[i], axis=0, out=inverse[i])
        np.add(inverse[i], EPS, inverse[i])
        np.sqrt(inverse[i], inverse[i])
        np.reciprocal(inverse[i], inverse[i])
        np.multiply(z, inverse[i], normalized[i])
        np.multiply(normalized[i], gamma, z)
        np.add(z, beta, z)

    def backward_norm(i: int, dz: np.ndarray, gamma: np.ndarray, dgamma: np.ndarray, dbeta: np.ndarray) -> None:
        other = outputs[i]  # no longer needed
        np.multiply(dz, normalized[i], other)
        np.dot(ones, other, out=dgamma)
        np.dot(ones, dz, out=dbeta)
        np.multiply(dgamma, 1 / net.batch, means[i])
        np.multiply(normalized[i], means[i], other)
        np.subtract(dz, other, dz)
        np.multiply(dbeta, 1 / net.batch, means[i])
        np.subtract(dz, means[i], dz)
        np.multiply(gamma, inverse[i], means[i])
        np.multiply(dz, means[i], dz)

    def loss_and_gradient(z: np.ndarray, y: np.ndarray, dz: np.ndarray) -> float:
        if net.binary:
            loss = float(np.logaddexp(z, 0).mean() - np.dot(z.ravel(), y.ravel()) / len(z))
            IN_PLACE["sigmoid"](z, dz)
            np.subtract(dz, y, dz)
        else:
            np.subtract(z, z.max(axis=1, keepdims=True), z)
            np.exp(z, dz)
            np.divide(dz, dz.sum(axis=1, keepdims=True), dz)
            loss = -float(np.log(dz[rows, y]).mean())
            dz[rows, y] -= 1
        np.multiply(dz, 1 / len(z), dz)
        return loss

    def step(x: np.ndarray, y: np.ndarray) -> float:
        nonlocal t
        inputs = x
        for i, (w, b, *norm) in enumerate(layers):
            np.dot(inputs, w.T, out=outputs[i])
            np.add(outputs[i], b, outputs[i])
            if norm:
                forward_norm(i, outputs[i], *norm)
            if i < len(layers) - 1:
                activate(outputs[i], outputs[i])
            inputs = outputs[i]
        loss = loss_and_gradient(outputs[-1], y, work[-1])
        for i in reversed(range(len(layers))):
            dz = work[i]
            if i < len(layers) - 1:
                np.dot(work[i + 1], layers[i + 1][0], out=dz)
                if net.activation == "sigmoid":
                    np.multiply(dz, outputs[i], dz)
                    np.subtract(1, outputs[i], outputs[i])
                    np.multiply(dz, outputs[i], dz)
                elif net.activation == "tanh":
                    np.multiply(outputs[i], outputs[i], outputs[i])
                    np.subtract(1, outputs[i], outputs[i])
                    np.multiply(dz, outputs[i], dz)
                else:
                    np.multiply(dz, outputs[i] > 0, dz)
                if net.batch_norm:
                    backward_norm(i, dz, layers[i][2], *grads[i][2:])
            np.dot(ones, dz, out=grads[i][1])
            np.dot(dz.T, outputs[i - 1] if i else x, out=grads[i][0])
        t += 1
        for layer, layer_grads, layer_state in zip(layers, grads, state, strict=True):
            for p, g, arrays in zip(layer, layer_grads, layer_state, strict=True):
                adam(t, p, g, *arrays, lr=LR)
        return loss

    def call() -> list[float]:
        return [sum(step(X[rows], Y[rows]) for rows in net.batches()) / net.steps for _ in range(net.epochs)]

    return call
