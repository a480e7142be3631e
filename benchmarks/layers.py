"""The kernels of layers and losses: batch norm, logistic loss, softmax, squared error, dropout, biases, sums.

PyTorch's side of a loss, and of "forward + backward", is the forward pass and ``backward()``, JAX's a jitted
``value_and_grad``. fastopt and "numpy, in place" write into given arrays, as a training loop would have them; PyTorch
has no such option here.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import fastopt as fo
from fastopt import _backends

from .measure import FASTOPT, Case, Setup, Side, Spec, Sweep, fastopt_settings, returning
from .peers import torch_settings

Shape = tuple[int, ...]
NORM_SHAPES = [(64, 128), (256, 512), (4096, 1024), (65536, 256), (32, 64, 56, 56), (128, 32, 32, 32)]
SOFTMAX_SHAPES = [(64, 10), (1024, 10), (65536, 10), (4096, 100), (65536, 1000)]
LARGE = 16 * 10**6
MANY = 10**6


def specs(setup: Setup) -> Iterator[Spec]:
    quick = setup.quick
    for shape in NORM_SHAPES[:3] + NORM_SHAPES[-1:] if quick else NORM_SHAPES:
        name = f"batch norm forward + backward {shape}"
        yield _spec(name, batch_norm, shape, setup, "batch_norm", "batch_norm_backward")
    for shape in NORM_SHAPES[2:3] if quick else (NORM_SHAPES[1], NORM_SHAPES[2], NORM_SHAPES[-1]):
        name = f"batch norm and sigmoid, forward + backward {shape}"
        yield _spec(name, batch_norm_sigmoid, shape, setup, "batch_norm", "batch_norm_backward")
    yield _spec("batch norm forward (64, 128)", batch_norm_forward, (64, 128), setup, "batch_norm")
    for shape in NORM_SHAPES[:3] if quick else NORM_SHAPES[:4]:
        name = f"layer norm forward + backward {shape}"
        yield _spec(name, layer_norm, shape, setup, "layer_norm", "layer_norm_backward")
    for size in (4096, MANY) if quick else (4096, 65536, MANY, LARGE):
        yield _spec(f"logistic loss + gradient {size:,}", logistic, (size,), setup, "logistic_loss")
    yield _spec(f"weighted logistic loss {MANY:,}", weighted_logistic, (MANY,), setup, "weighted_logistic_loss")
    for size in (MANY,) if quick else (4096, MANY, LARGE):
        yield _spec(f"squared error + gradient {size:,}", squared_error, (size,), setup, "mse_loss")
        yield _spec(f"Huber loss + gradient {size:,}", huber, (size,), setup, "huber_loss")
    for shape in SOFTMAX_SHAPES[:2] if quick else SOFTMAX_SHAPES:
        yield _spec(f"softmax cross-entropy + gradient {shape}", softmax, shape, setup, "softmax_cross_entropy")
        yield _spec(f"cross-entropy with probabilities + gradient {shape}", soft, shape, setup, "soft_cross_entropy")
        yield _spec(f"softmax {shape}", probabilities, shape, setup, "softmax")
    yield _spec("count labels 65,536", count_labels, (65536, 10), setup, "count_labels")
    for shape in [(MANY,)] if quick else [(32, 100), (MANY,), (LARGE,)]:
        yield _spec(f"dropout {shape}", dropout, shape, setup, "dropout")
    for kernel in BIAS:
        for shape in [(32, 100)] if quick else [(32, 100), (256, 1024)]:
            yield _spec(f"{kernel} {shape}", partial(bias, kernel), shape, setup, kernel)
    for shape in [(32, 100)] if quick else [(32, 100), (65536, 1), (65536, 10), (4096, 1024)]:
        yield _spec(f"column sums {shape}", column_sums, shape, setup, "column_sums")
    for size in (MANY,) if quick else (4096, MANY, LARGE):
        yield _spec(f"sum of squares {size:,}", square_sum, (size,), setup, "square_sum")
        yield _spec(f"any non-finite {size:,}", any_nonfinite, (size,), setup, "any_nonfinite")


def _spec(name: str, build: Callable[[Shape, Setup], Case], shape: Shape, setup: Setup, *kernels: str) -> Spec:
    return Spec("kernels", build.__name__ if hasattr(build, "__name__") else "bias", name,
                partial(build, shape, setup), kernels)  # fmt: skip


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _exact(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.astype(np.float64) for array in arrays]


# ---- batch norm ---------------------------------------------------------------------------------------------------

EPS = 1e-5


def _plain_batch_norm(x: Any, gamma: Any, beta: Any) -> list[np.ndarray]:
    """As one would write it; y, and what the way back needs."""
    axes, broadcast = _axes(x)
    inverse = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + EPS)
    normalized = (x - x.mean(axis=axes, keepdims=True)) * inverse
    return [normalized * gamma.reshape(broadcast) + beta.reshape(broadcast), normalized, inverse]


def _plain_both(x: Any, gamma: Any, beta: Any, dy: Any) -> list[np.ndarray]:
    """Forward and backward; in float64, the truth."""
    axes, broadcast = _axes(x)
    y, normalized, inverse = _plain_batch_norm(x, gamma, beta)
    dbeta, dgamma = dy.sum(axis=axes), (dy * normalized).sum(axis=axes)
    n = x.size // x.shape[1]
    centred = dy - dbeta.reshape(broadcast) / n - normalized * dgamma.reshape(broadcast) / n
    return [y, gamma.reshape(broadcast) * inverse * centred, dgamma, dbeta]


def _axes(x: Any) -> tuple[Shape, Shape]:
    """What is summed over, and how an array of the channels stretches over x."""
    return (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)


def _plain_sigmoid(x: Any, gamma: Any, beta: Any, dy: Any) -> list[np.ndarray]:
    """The same, with a sigmoid behind batch norm."""
    y = 1 / (1 + np.exp(-_plain_batch_norm(x, gamma, beta)[0]))
    return [y, *_plain_both(x, gamma, beta, dy * (y * (1 - y)))[1:]]


def _batch_norm(shape: Shape, setup: Setup, backward: bool, activation: str | None = None) -> Case:
    x, dy, channels = _normal(0, *shape), _normal(1, *shape), shape[1]
    gamma, beta = _normal(2, 2, channels)
    mean, var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    y, dx, dgamma, dbeta = np.empty_like(x), np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    _, saved = fo.batch_norm(x, gamma, beta, mean, var, out=y, activation=activation)

    def ours() -> None:
        fo.batch_norm(x, gamma, beta, mean, var, out=y, saved=saved, activation=activation)
        if backward:
            fo.batch_norm_backward(dy, saved, dx, dgamma=dgamma, dbeta=dbeta)

    results = [y, dx, dgamma, dbeta] if backward else [y]
    sides = [Side(FASTOPT, ours, lambda: results, fastopt_settings(setup))]
    both = _plain_sigmoid if activation else _plain_both
    plain = partial(both, x, gamma, beta, dy) if backward else lambda: _plain_batch_norm(x, gamma, beta)[:1]
    if "numpy" in setup.peers:
        sides.append(returning("numpy, plain", plain))
    if "torch" in setup.peers:
        sides.append(_torch_batch_norm(setup, [x, gamma, beta], dy, backward, activation))
    back = [x, dy, y, dx] if activation else [x, dy, dx]
    bounds = {"bandwidth": [Sweep("map", [x, y]), *([Sweep("map", back)] if backward else [])]}
    reference = lambda: both(*_exact(x, gamma, beta, dy))[: len(results)]  # noqa: E731
    return Case(x.size, sides, reference, bounds)


def _torch_batch_norm(setup: Setup, arrays: Sequence[np.ndarray], dy: np.ndarray, backward: bool,
                      activation: str | None) -> Side:  # fmt: skip
    torch = setup.peers["torch"]
    x, gamma, beta = (torch.tensor(a, requires_grad=True) for a in arrays)
    mean, var, gradient = torch.zeros(len(gamma)), torch.ones(len(gamma)), torch.from_numpy(dy)

    def theirs() -> list[Any]:
        x.grad = gamma.grad = beta.grad = None
        y = torch.nn.functional.batch_norm(x, mean, var, gamma, beta, training=True)
        if activation:
            y = getattr(torch, activation)(y)
        if not backward:
            return [y.detach()]
        y.backward(gradient)
        return [y.detach(), x.grad, gamma.grad, beta.grad]

    return returning("torch", theirs, torch_settings(setup))


def batch_norm(shape: Shape, setup: Setup) -> Case:
    return _batch_norm(shape, setup, backward=True)


def batch_norm_sigmoid(shape: Shape, setup: Setup) -> Case:
    return _batch_norm(shape, setup, backward=True, activation="sigmoid")


def _plain_layer_norm(x: Any, gamma: Any, beta: Any, dy: Any) -> list[np.ndarray]:
    """Forward and backward, as one would write them."""
    inverse = 1 / np.sqrt(x.var(axis=1, keepdims=True) + EPS)
    h, g = (x - x.mean(axis=1, keepdims=True)) * inverse, dy * gamma
    dx = inverse * (g - g.mean(axis=1, keepdims=True) - h * (g * h).mean(axis=1, keepdims=True))
    return [h * gamma + beta, dx, (dy * h).sum(axis=0), dy.sum(axis=0)]


def layer_norm(shape: Shape, setup: Setup) -> Case:
    x, dy, columns = _normal(0, *shape), _normal(1, *shape), shape[1]
    gamma, beta = _normal(2, 2, columns)
    y, dx, dgamma, dbeta = np.empty_like(x), np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    _, saved = fo.layer_norm(x, gamma, beta, out=y)

    def ours() -> None:
        fo.layer_norm(x, gamma, beta, out=y, saved=saved)
        fo.layer_norm_backward(dy, saved, dx, dgamma=dgamma, dbeta=dbeta)

    sides = [Side(FASTOPT, ours, lambda: [y, dx, dgamma, dbeta], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        sides.append(returning("numpy, plain", partial(_plain_layer_norm, x, gamma, beta, dy)))
    if "torch" in setup.peers:
        sides.append(_torch_layer_norm(setup, [x, gamma, beta], dy))
    bounds = {"bandwidth": [Sweep("map", [x, y]), Sweep("map", [x, dy, dx])]}
    return Case(x.size, sides, lambda: _plain_layer_norm(*_exact(x, gamma, beta, dy)), bounds)


def _torch_layer_norm(setup: Setup, arrays: Sequence[np.ndarray], dy: np.ndarray) -> Side:
    torch = setup.peers["torch"]
    x, gamma, beta = (torch.tensor(a, requires_grad=True) for a in arrays)
    gradient = torch.from_numpy(dy)

    def theirs() -> list[Any]:
        x.grad = gamma.grad = beta.grad = None
        y = torch.nn.functional.layer_norm(x, gamma.shape, gamma, beta, EPS)
        y.backward(gradient)
        return [y.detach(), x.grad, gamma.grad, beta.grad]

    return returning("torch", theirs, torch_settings(setup))


def batch_norm_forward(shape: Shape, setup: Setup) -> Case:
    return _batch_norm(shape, setup, backward=False)


# ---- losses -------------------------------------------------------------------------------------------------------


def _plain_logistic(z: Any, y: Any) -> list[Any]:
    loss = np.mean(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))))
    return [loss, (1 / (1 + np.exp(-z)) - y) / z.dtype.type(z.size)]


def _in_place_logistic(z: np.ndarray, y: np.ndarray) -> Callable[[], list[Any]]:
    dz, e, t = np.empty_like(z), np.empty_like(z), np.empty_like(z)

    def call() -> list[Any]:
        np.abs(z, out=e)
        np.negative(e, out=e)
        np.exp(e, out=e)
        np.log1p(e, out=t)
        loss = t.sum(dtype=np.float64)
        np.maximum(z, 0, out=t)
        loss += t.sum(dtype=np.float64)
        np.multiply(z, y, out=t)
        loss -= t.sum(dtype=np.float64)
        np.add(e, 1, out=t)
        np.copyto(e, 1, where=z >= 0)
        np.divide(e, t, out=dz)
        np.subtract(dz, y, out=dz)
        np.multiply(dz, np.float32(1 / z.size), out=dz)
        return [loss / z.size, dz]

    return call


def _torch_loss(setup: Setup, loss: Callable[..., Any], z: np.ndarray, *others: np.ndarray) -> Side:
    torch = setup.peers["torch"]
    logits, rest = torch.tensor(z, requires_grad=True), [torch.from_numpy(a) for a in others]

    def theirs() -> list[Any]:
        logits.grad = None
        value = loss(logits, *rest)
        value.backward()
        return [value.detach(), logits.grad]

    return returning("torch", theirs, torch_settings(setup))


def _jax_loss(setup: Setup, loss: Callable[..., Any], z: np.ndarray, *others: np.ndarray) -> Side:
    jax = setup.peers["jax"]
    function = jax.jit(jax.value_and_grad(loss))
    arrays = [jax.numpy.asarray(a) for a in (z, *others)]
    return returning("jax", lambda: jax.block_until_ready(function(*arrays)))


def _loss_case(
    setup: Setup,
    ours: Callable[..., Any],
    plain: Callable[..., list[Any]],
    arrays: Sequence[np.ndarray],
    in_place: Callable[..., Any] | None = None,
    torch_loss: Callable[..., Any] | None = None,
    jax_loss: Callable[..., Any] | None = None,
) -> Case:
    """A loss and its gradient by the first of the arrays; those of the logits' dtype must be read."""
    z = arrays[0]
    dz = np.empty_like(z)
    sides = [returning(FASTOPT, lambda: ours(*arrays, out=dz), fastopt_settings(setup))]
    if "numpy" in setup.peers and z.size <= LARGE:
        sides.append(returning("numpy, plain", lambda: plain(*arrays)))
        if in_place:
            sides.append(returning("numpy, in place", in_place(*arrays)))
    if "torch" in setup.peers and torch_loss:
        sides.append(_torch_loss(setup, torch_loss, *arrays))
    if "jax" in setup.peers and jax_loss:
        sides.append(_jax_loss(setup, jax_loss, *arrays))
    read = [a for a in arrays if a.shape == z.shape]
    exact = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
    return Case(z.size, sides, lambda: plain(*exact), {"bandwidth": [Sweep("map", [*read, dz])]})


def logistic(shape: Shape, setup: Setup) -> Case:
    z, y = 3 * _normal(0, *shape), np.random.default_rng(1).random(shape, dtype=np.float32)
    torch_loss = jax_loss = None
    if torch := setup.peers.get("torch"):
        torch_loss = torch.nn.functional.binary_cross_entropy_with_logits
    if jax := setup.peers.get("jax"):
        jax_loss = lambda z, y: (jax.nn.softplus(z) - z * y).mean()  # noqa: E731
    return _loss_case(setup, fo.logistic_loss, _plain_logistic, [z, y], _in_place_logistic, torch_loss, jax_loss)


def weighted_logistic(shape: Shape, setup: Setup) -> Case:
    z, y = 3 * _normal(0, *shape), np.random.default_rng(1).random(shape, dtype=np.float32)
    weight = np.random.default_rng(2).random(shape, dtype=np.float32)

    def ours(z: Any, y: Any, weight: Any, out: Any) -> Any:
        return fo.logistic_loss(z, y, weight=weight, out=out)

    def plain(z: Any, y: Any, weight: Any) -> list[Any]:
        losses = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
        return [np.mean(weight * losses), weight * (1 / (1 + np.exp(-z)) - y) / z.dtype.type(z.size)]

    torch_loss = None
    if torch := setup.peers.get("torch"):
        torch_loss = torch.nn.functional.binary_cross_entropy_with_logits
    return _loss_case(setup, ours, plain, [z, y, weight], torch_loss=torch_loss)


def huber(shape: Shape, setup: Setup) -> Case:
    def plain(z: Any, y: Any) -> list[Any]:
        d = z - y
        losses = np.where(np.abs(d) > 1, np.abs(d) - 0.5, d * d / 2)
        return [losses.mean(), np.clip(d, -1, 1) / z.dtype.type(z.size)]

    torch_loss = None
    if torch := setup.peers.get("torch"):
        torch_loss = torch.nn.functional.huber_loss
    return _loss_case(setup, fo.huber_loss, plain, [2 * _normal(0, *shape), _normal(1, *shape)], None, torch_loss)


def squared_error(shape: Shape, setup: Setup) -> Case:
    z, y = _normal(0, *shape), _normal(1, *shape)

    def plain(z: Any, y: Any) -> list[Any]:
        return [np.mean(np.square(z - y)), (z - y) * z.dtype.type(2 / z.size)]

    def in_place(z: Any, y: Any) -> Callable[[], list[Any]]:
        dz = np.empty_like(z)

        def call() -> list[Any]:
            np.subtract(z, y, dz)
            loss = float(np.dot(dz, dz)) / z.size
            np.multiply(dz, np.float32(2 / z.size), dz)
            return [loss, dz]

        return call

    torch_loss = setup.peers["torch"].nn.functional.mse_loss if "torch" in setup.peers else None
    return _loss_case(setup, fo.mse_loss, plain, [z, y], in_place, torch_loss)


def softmax(shape: Shape, setup: Setup) -> Case:
    z, labels = 3 * _normal(0, *shape), np.random.default_rng(1).integers(0, shape[1], shape[0])

    def plain(z: Any, labels: Any) -> list[Any]:
        rows = np.arange(len(z))
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        loss = -np.log(p[rows, labels]).mean()
        p[rows, labels] -= 1
        return [loss, p / p.dtype.type(len(z))]

    def in_place(z: Any, labels: Any) -> Callable[[], list[Any]]:
        dz, rows, largest = np.empty_like(z), np.arange(len(z)), np.empty((len(z), 1), z.dtype)

        def call() -> list[Any]:
            np.max(z, axis=1, keepdims=True, out=largest)
            np.subtract(z, largest, dz)
            np.exp(dz, dz)
            np.sum(dz, axis=1, keepdims=True, out=largest)
            np.divide(dz, largest, dz)
            loss = -np.log(dz[rows, labels]).mean()
            dz[rows, labels] -= 1
            np.divide(dz, len(z), dz)
            return [loss, dz]

        return call

    torch_loss = jax_loss = None
    if torch := setup.peers.get("torch"):
        torch_loss = torch.nn.functional.cross_entropy
    if jax := setup.peers.get("jax"):
        jax_loss = lambda z, y: -jax.nn.log_softmax(z)[jax.numpy.arange(len(z)), y].mean()  # noqa: E731
    return _loss_case(setup, fo.softmax_cross_entropy, plain, [z, labels], in_place, torch_loss, jax_loss)


def soft(shape: Shape, setup: Setup) -> Case:
    """Targets that are probabilities."""
    z, q = 3 * _normal(0, *shape), np.exp(_normal(1, *shape))
    q /= q.sum(axis=1, keepdims=True)

    def plain(z: Any, q: Any) -> list[Any]:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        share = q.sum(axis=1, keepdims=True)  # 1, to rounding
        return [-(q * np.log(p)).sum() / len(z), (p * share - q) / len(z)]

    torch_loss = setup.peers["torch"].nn.functional.cross_entropy if "torch" in setup.peers else None
    return _loss_case(setup, fo.softmax_cross_entropy, plain, [z, q], None, torch_loss)


def probabilities(shape: Shape, setup: Setup) -> Case:
    x = 3 * _normal(0, *shape)
    out = np.empty_like(x)

    def plain(x: np.ndarray) -> list[np.ndarray]:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return [e / e.sum(axis=1, keepdims=True)]

    sides = [Side(FASTOPT, lambda: fo.softmax(x, out), lambda: [out], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        sides.append(returning("numpy, plain", lambda: plain(x)))
    if torch := setup.peers.get("torch"):
        tensor = torch.from_numpy(x)
        sides.append(returning("torch", lambda: [torch.softmax(tensor, 1).numpy()], torch_settings(setup)))
    return Case(x.size, sides, lambda: plain(x.astype(np.float64)), {"bandwidth": [Sweep("map", [x, out])]})


def count_labels(shape: Shape, setup: Setup) -> Case:
    rows, classes = shape
    labels = np.random.default_rng(1).integers(0, classes, rows)
    ours = partial(_backends.active.count_labels, labels, classes, -100)
    sides = [returning(FASTOPT, lambda: [ours()], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        valid = lambda: [np.count_nonzero((labels >= 0) & (labels < classes))]  # noqa: E731
        sides.append(returning("numpy, plain", valid))
    return Case(rows, sides, lambda: [rows], {"bandwidth": [Sweep("read", [labels])]})


# ---- dropout, biases, sums ----------------------------------------------------------------------------------------


def dropout(shape: Shape, setup: Setup) -> Case:
    """Every library has other random numbers: the reference is this one's mask, and the others go unchecked."""
    x, p = 1 + _normal(0, *shape), 0.25
    out = np.empty_like(x)
    sides = [Side(FASTOPT, lambda: fo.dropout(x, p, seed=1, out=out), lambda: [out], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        random, mask, numpy_out = np.random.default_rng(0), np.empty_like(x), np.empty_like(x)

        def in_place() -> None:
            random.random(dtype=np.float32, out=mask)
            np.multiply(x, np.float32(1 / (1 - p)), numpy_out)
            np.multiply(numpy_out, mask >= p, numpy_out)

        plain = lambda: x * (random.random(x.shape) >= p) / (1 - p)  # noqa: E731
        sides += [Side("numpy, in place", in_place, list, checked=False)]
        sides += [Side("numpy, plain", plain, list, checked=False)]
    if torch := setup.peers.get("torch"):
        tensor = torch.from_numpy(x)
        theirs = lambda: torch.nn.functional.dropout(tensor, p)  # noqa: E731
        sides.append(Side("torch", theirs, list, torch_settings(setup), checked=False))

    def reference() -> list[np.ndarray]:
        ones = np.empty(shape)
        limit = round(p * 2**32)
        _backends.load("numpy").dropout(np.ones(shape), ones, 0, 1, 0, limit, 1 / (1 - p))
        return [x * ones]

    return Case(x.size, sides, reference, {"bandwidth": [Sweep("map", [x, out])]})


# what follows the sum in a bias kernel
BIAS: dict[str, Callable[[Any], Any]] = {
    "bias_add": lambda x: x,
    "bias_sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "bias_tanh": np.tanh,
    "bias_relu": lambda x: np.maximum(x, 0),
}


def bias(kernel: str, shape: Shape, setup: Setup) -> Case:
    x, b = _normal(0, *shape), 1e-3 * _normal(1, shape[1])
    ours, work, theirs = getattr(_backends.active, kernel), x.copy(), x.copy()
    sides = [Side(FASTOPT, partial(ours, work, b), lambda: [work], fastopt_settings(setup))]
    if "numpy" in setup.peers:

        def plain() -> None:
            theirs[...] = BIAS[kernel](theirs + b)

        sides.append(Side("numpy, plain", plain, lambda: [theirs]))
    if torch := setup.peers.get("torch"):
        tensor, addend = torch.tensor(x), torch.tensor(b)
        then = {"bias_sigmoid": torch.sigmoid_, "bias_tanh": torch.tanh_, "bias_relu": torch.relu_}.get(kernel)

        def in_torch() -> None:
            tensor.add_(addend)
            if then:
                then(tensor)

        sides.append(Side("torch", in_torch, lambda: [tensor.numpy()], torch_settings(setup)))
    reference = lambda: [BIAS[kernel](x.astype(np.float64) + b)]  # noqa: E731
    return Case(x.size, sides, reference, {"bandwidth": [Sweep("update", [work])]})


def column_sums(shape: Shape, setup: Setup) -> Case:
    x, sums = _normal(0, *shape), np.empty(shape[1], np.float32)
    ours = _backends.active.column_sums
    sides = [Side(FASTOPT, lambda: ours(x, sums), lambda: [sums], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        numpy_sums = np.empty_like(sums)
        sides.append(Side("numpy, in place", lambda: np.add.reduce(x, 0, out=numpy_sums), lambda: [numpy_sums]))
    if torch := setup.peers.get("torch"):
        tensor, torch_sums = torch.from_numpy(x), torch.empty(shape[1])
        theirs = lambda: torch.sum(tensor, 0, out=torch_sums)  # noqa: E731
        sides.append(Side("torch", theirs, lambda: [torch_sums.numpy()], torch_settings(setup)))
    return Case(x.size, sides, lambda: [x.sum(0, dtype=np.float64)], {"bandwidth": [Sweep("read", [x])]})


def square_sum(shape: Shape, setup: Setup) -> Case:
    x = _normal(0, *shape)
    ours = partial(_backends.active.square_sum, x)
    sides = [returning(FASTOPT, lambda: [ours()], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        sides.append(returning("numpy, plain", lambda: [np.dot(x, x)]))
    if torch := setup.peers.get("torch"):
        tensor = torch.from_numpy(x)
        sides.append(returning("torch", lambda: [torch.linalg.vector_norm(tensor) ** 2], torch_settings(setup)))
    return Case(x.size, sides, lambda: [np.square(x, dtype=np.float64).sum()], {"bandwidth": [Sweep("read", [x])]})


def any_nonfinite(shape: Shape, setup: Setup) -> Case:
    x = _normal(0, *shape)
    ours = partial(_backends.active.any_nonfinite, x)
    sides = [returning(FASTOPT, lambda: [ours()], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        sides.append(returning("numpy, plain", lambda: [not np.isfinite(x).all()]))
    if torch := setup.peers.get("torch"):
        tensor = torch.from_numpy(x)
        sides.append(returning("torch", lambda: [not torch.isfinite(tensor).all()], torch_settings(setup)))
    return Case(x.size, sides, lambda: [not np.isfinite(x).all()], {"bandwidth": [Sweep("read", [x])]})
