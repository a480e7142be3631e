"""One training step of a 30-100-1 sigmoid network, logistic loss, batch 32, Adam: what each way of writing it takes.

``python -m benchmarks.training_step`` first compares the losses, then times the sides in turn within one run. Peers
that are not installed are named. Matrix products are given one BLAS thread: these are too small for two.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import time
from importlib.util import find_spec

import numpy as np

import fastopt as fo

IN, HIDDEN, BATCH, EXAMPLES, LR = 30, 100, 32, 3200, 1e-3
STEPS = EXAMPLES // BATCH

rng = np.random.default_rng(0)
X = rng.standard_normal((EXAMPLES, IN)).astype(np.float32)
Y = (X[:, :1] * X[:, 1:2] > 0).astype(np.float32)
ORDER = np.arange(EXAMPLES)
W1 = (rng.standard_normal((HIDDEN, IN)) / IN**0.5).astype(np.float32)
W2 = (rng.standard_normal((1, HIDDEN)) / HIDDEN**0.5).astype(np.float32)


def network():
    model = fo.nn.Sequential(fo.nn.Linear(IN, HIDDEN), fo.nn.Sigmoid(), fo.nn.Linear(HIDDEN, 1), rng=0)
    params = model.parameters()
    params["0.weight"][...], params["2.weight"][...] = W1, W2
    params["0.bias"][...] = params["2.bias"][...] = 0
    return model


def fastopt_fit():
    """`fo.fit`, everything included: shuffling, mini-batches, the history."""
    model = network()
    opt = fo.optim.Adam(model.parameters(), lr=LR)
    options = {"loss": "logistic", "optimizer": opt, "batch_size": BATCH, "shuffle": False, "progress": False}

    def epoch():
        return fo.fit(model, X, Y, epochs=1, **options).loss[-1]

    return epoch


def fastopt_kernels():
    """Kernel by kernel over plain arrays, all of them allocated once."""
    w1, w2 = W1.copy(), W2.copy()
    b1, b2 = np.zeros(HIDDEN, np.float32), np.zeros(1, np.float32)
    params = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    grads = {name: np.empty_like(p) for name, p in params.items()}
    opt = fo.optim.Adam(params, lr=LR)
    x, y = np.empty((BATCH, IN), np.float32), np.empty((BATCH, 1), np.float32)
    h, z, dh, dz = (np.empty((BATCH, n), np.float32) for n in (HIDDEN, 1, HIDDEN, 1))
    ones = np.ones(BATCH, np.float32)

    def epoch():
        total = 0.0
        for begin in range(0, EXAMPLES, BATCH):
            rows = ORDER[begin : begin + BATCH]
            X.take(rows, 0, x, "clip")
            Y.take(rows, 0, y, "clip")
            np.dot(x, w1.T, out=h)
            np.add(h, b1, out=h)
            fo.sigmoid(h, out=h)
            np.dot(h, w2.T, out=z)
            np.add(z, b2, out=z)
            loss, _ = fo.logistic_loss(z, y, out=dz)
            np.dot(dz.T, h, out=grads["w2"])
            np.dot(ones, dz, out=grads["b2"])
            np.dot(dz, w2, out=dh)
            fo.sigmoid_backward(dh, h, out=dh)
            np.dot(dh.T, x, out=grads["w1"])
            np.dot(ones, dh, out=grads["b1"])
            opt.step(grads)
            total += loss
        return total / STEPS

    return epoch


def numpy_by_hand():
    """As a person would write it in NumPy."""
    params = [W1.copy(), np.zeros(HIDDEN, np.float32), W2.copy(), np.zeros(1, np.float32)]
    m, v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    t = 0

    def epoch():
        nonlocal t
        total = 0.0
        for begin in range(0, EXAMPLES, BATCH):
            rows = ORDER[begin : begin + BATCH]
            x, y = X[rows], Y[rows]
            w1, b1, w2, b2 = params
            h = 1 / (1 + np.exp(-(x @ w1.T + b1)))
            z = h @ w2.T + b2
            total += float(np.mean(np.maximum(z, 0) - z * y + np.log1p(np.exp(-abs(z)))))
            dz = (1 / (1 + np.exp(-z)) - y) / np.float32(BATCH)
            da = (dz @ w2) * h * (1 - h)
            t += 1
            for i, g in enumerate((da.T @ x, da.sum(axis=0), dz.T @ h, dz.sum(axis=0))):
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                params[i] -= LR * (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
        return total / STEPS

    return epoch


def pytorch():
    """PyTorch eager, one thread (its best here), fused Adam."""
    import torch

    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(IN, HIDDEN), torch.nn.Sigmoid(), torch.nn.Linear(HIDDEN, 1))
    with torch.no_grad():
        for layer, w in ((model[0], W1), (model[2], W2)):
            layer.weight.copy_(torch.from_numpy(w))
            layer.bias.zero_()
    opt = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    loss_of = torch.nn.BCEWithLogitsLoss()
    x_all, y_all = torch.from_numpy(X), torch.from_numpy(Y)

    def epoch():
        total = 0.0
        for begin in range(0, EXAMPLES, BATCH):
            opt.zero_grad()
            loss = loss_of(model(x_all[begin : begin + BATCH]), y_all[begin : begin + BATCH])
            loss.backward()
            opt.step()
            total += loss.item()
        return total / STEPS

    return epoch


def scikit_learn():
    """MLPClassifier, one epoch with the same batches; its weights begin elsewhere, so its loss is not compared."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((HIDDEN,), "logistic", batch_size=BATCH, learning_rate_init=LR, shuffle=False, alpha=0.0)
    labels = Y.ravel()
    model.partial_fit(X, labels, classes=[0, 1])

    def epoch():
        model.partial_fit(X, labels)

    return epoch


def jax_scan():
    """A whole epoch as one compiled scan."""
    import jax
    import jax.numpy as jnp
    import optax

    opt = optax.adam(LR)
    state = [(jnp.array(W1), jnp.zeros(HIDDEN), jnp.array(W2), jnp.zeros(1))]
    state.append(opt.init(state[0]))
    x_all, y_all = jnp.array(X).reshape(STEPS, BATCH, IN), jnp.array(Y).reshape(STEPS, BATCH, 1)

    def loss_of(params, x, y):
        w1, b1, w2, b2 = params
        z = jax.nn.sigmoid(x @ w1.T + b1) @ w2.T + b2
        return optax.sigmoid_binary_cross_entropy(z, y).mean()

    def step(carry, batch):
        loss, grads = jax.value_and_grad(loss_of)(carry[0], *batch)
        updates, moments = opt.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), moments), loss

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, (x_all, y_all)))

    def epoch():
        carry, losses = run(tuple(state))
        state[:] = carry
        return float(losses.mean())

    return epoch


def only_the_products():
    """The five matrix products by themselves."""
    a = [np.ones(s, np.float32) for s in ((BATCH, IN), (BATCH, HIDDEN), (BATCH, 1), (BATCH, HIDDEN))]
    x, h, dz, da = a
    z, dw1, dw2 = np.empty((BATCH, 1), np.float32), np.empty_like(W1), np.empty_like(W2)

    def epoch():
        for _ in range(STEPS):
            np.dot(x, W1.T, out=h)
            np.dot(h, W2.T, out=z)
            np.dot(dz.T, h, out=dw2)
            np.dot(dz, W2, out=da)
            np.dot(da.T, x, out=dw1)

    return epoch


SIDES = {
    fastopt_fit: None,
    fastopt_kernels: None,
    only_the_products: None,
    numpy_by_hand: None,
    pytorch: "torch",
    scikit_learn: "sklearn",
    jax_scan: "optax",
}


def main(rounds: int = 41) -> None:
    epochs = {}
    for side, package in SIDES.items():
        if package and not find_spec(package):
            print(f"{side.__name__}: {package} is not installed")
        else:
            epochs[side.__name__] = side()
    first = {name: epoch() for name, epoch in epochs.items()}
    reference = first["numpy_by_hand"]
    for name, loss in first.items():
        if loss is not None and abs(loss - reference) > 1e-3 * reference:
            raise AssertionError(f"{name}: the first epoch's loss is {loss}, by hand in NumPy {reference}")
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(rounds):
        for name, epoch in epochs.items():
            begin = time.perf_counter()
            epoch()
            times[name].append((time.perf_counter() - begin) / STEPS * 1e6)
    print("| side | us a step, median | quartiles | against fo.fit |")
    print("|---|---|---|---|")
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        ratio = statistics.median(a / b for a, b in zip(values, times["fastopt_fit"], strict=True))
        print(f"| {name} | {median:.1f} | {low:.1f} to {high:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
