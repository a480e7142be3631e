"""Why initial weights matter: the spread of activations and gradients, layer by layer, through a deep network.

Run it as ``python -m fastopt.examples.initialization``. The network classifies scikit-learn's handwritten digits. Its
weights begin too small, too large, by Xavier's and by He's rule, each with and without batch norm; then the one with
too large weights is trained, with and without clipping of its gradients.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastopt as fo

DEPTH, WIDTH, CLASSES = 20, 100, 10
LR, STEPS, BATCH_SIZE = 0.01, 600, 64
ACTIVATIONS = {"sigmoid": fo.nn.Sigmoid, "tanh": fo.nn.Tanh, "ReLU": fo.nn.ReLU}

CLIPPED = "#CC79A7"
# label, how a weight begins, colour; the colours are Okabe and Ito's, which colour-blind people can tell apart
INITIALIZATIONS: list[tuple[str, Callable[..., np.ndarray], str]] = [
    ("too small: N(0, 0.02²)", partial(fo.init.normal_, std=0.02), "#0072B2"),
    ("too large: N(0, 0.2²)", partial(fo.init.normal_, std=0.2), "#D55E00"),
    ("Xavier: U(±√(6/(m+n)))", fo.init.xavier_uniform_, "#009E73"),
    ("He: N(0, 2/m)", partial(fo.init.kaiming_normal_, nonlinearity="relu"), "black"),
]


def load() -> tuple[np.ndarray, np.ndarray]:
    """1797 pictures of 8 x 8 pixels with mean 0 and variance 1, and the digits they show."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return ((X - X.mean()) / X.std()).astype(np.float32), y


def deep_network(inputs: int, activation: type, initialize: Callable, batch_norm: bool = False) -> fo.nn.Sequential:
    """DEPTH hidden layers, each a Sequential of its own, and the layer of the logits; all biases are 0."""
    blocks = []
    for width in [inputs] + [WIDTH] * (DEPTH - 1):
        norm = [fo.nn.BatchNorm(WIDTH)] if batch_norm else []
        blocks.append(fo.nn.Sequential(fo.nn.Linear(width, WIDTH), *norm, activation()))
    model = fo.nn.Sequential(*blocks, fo.nn.Linear(WIDTH, CLASSES))
    rng = np.random.default_rng(0)
    for param in model.parameters().values():
        if param.ndim == 2:
            initialize(param, rng=rng)
    for name, param in model.parameters().items():
        if name.endswith("bias"):
            fo.init.zeros_(param)
    return model


def spreads(model: fo.nn.Sequential, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The standard deviation of every hidden layer's outputs, and that of the loss's gradient by them.

    The latter as a multiple of the last layer's, where the way back begins.
    """
    activations, gradients = [], []
    for layer in model:
        X = layer(X)
        activations.append(X.std(dtype=float))
    _, dy = fo.softmax_cross_entropy(X, y)
    for layer in reversed(model.layers):
        gradients.append(dy.std(dtype=float))  # in float32, the squares of what has vanished would be 0
        dy = layer.backward(dy)
    hidden = np.array(gradients[:0:-1])  # without that of the logits
    return np.array(activations[:-1]), hidden / hidden[-1]


def train(model: fo.nn.Sequential, X: np.ndarray, y: np.ndarray, clip_norm: float) -> np.ndarray:
    """The gradient's norm, before it is clipped, and the loss at every step, until the gradient is not finite."""
    opt = fo.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    rng = np.random.default_rng(0)
    curves = []
    for _ in range(STEPS):
        batch = rng.integers(len(X), size=BATCH_SIZE)
        with np.errstate(over="ignore", invalid="ignore"):
            loss, dz = fo.softmax_cross_entropy(model(X[batch]), y[batch])
            model.backward(dz, input_gradient=False)
        try:
            opt.step(model.gradients(), clip_norm=clip_norm)
        except FloatingPointError:  # inf or NaN, with which nothing is updated
            break
        curves.append((opt.grad_norm, loss))
    return np.array(curves)


def draw_spreads(axes: Any, activation: str, found: dict[tuple[str, bool], tuple[np.ndarray, np.ndarray]]) -> None:
    """The two plots of an activation: solid without batch norm, dashed with it."""
    layers = range(1, DEPTH + 1)
    for plot, which, title in zip(axes, (0, 1), ("activations", "gradients, relative to the last"), strict=True):
        for label, _, colour in INITIALIZATIONS:
            for batch_norm, line in ((False, "-o"), (True, "--")):
                plot.semilogy(layers, found[label, batch_norm][which], line, color=colour, linewidth=2, markersize=4.5)
        plot.set(title=f"{activation}: spread of the {title}", xlabel="hidden layer", ylabel="standard deviation")
        plot.set_xticks([1, *range(5, DEPTH + 1, 5)])
        plot.grid(color="0.92")


def draw_training(axes: Any, runs: list[tuple[str, str, np.ndarray]]) -> None:
    """Gradient norm and loss of the runs, with a cross on the upper edge for one that ended early."""
    for plot, which, title in zip(axes, (0, 1), ("norm of the gradient, before clipping", "loss"), strict=True):
        top = 100 * max(curves[0, which] for *_, curves in runs)
        for label, colour, curves in runs:
            plot.semilogy(curves[:, which], color=colour, linewidth=1.5, label=label)
            if len(curves) < STEPS:
                end = (len(curves) - 1, top)
                plot.plot(*end, "X", color=colour, markersize=15, clip_on=False, zorder=3)
                text = f"not clipped: the gradient overflows in step {len(curves) + 1}"
                plot.annotate(text, end, (14, -19), textcoords="offset points", color=colour)
        plot.set(title=f"ReLU, training: {title}", xlabel="step", xlim=(-0.02 * STEPS, STEPS))
        plot.set_ylim(top=top)
        plot.grid(color="0.92")
    axes[1].legend(loc="upper right", bbox_to_anchor=(1, 0.88))


def draw(plt: Any, X: np.ndarray, y: np.ndarray) -> Any:
    figure, axes = plt.subplots(4, 2, figsize=(15, 20.5), layout="constrained")
    for row, (activation, layer) in zip(axes, ACTIVATIONS.items(), strict=False):
        found = {}
        for label, initialize, _ in INITIALIZATIONS:
            for batch_norm in (False, True):
                found[label, batch_norm] = spreads(deep_network(X.shape[1], layer, initialize, batch_norm), X, y)
                activations, gradients = found[label, batch_norm]
                norm = "batch norm" if batch_norm else ""
                print(f"{activation:9}{label:25}{norm:12}{activations[-1]:12.1e}{gradients[0]:23.1e}")
        draw_spreads(row, activation, found)

    too_large, he = INITIALIZATIONS[1], INITIALIZATIONS[3]
    runs = []
    print(f"\nReLU, {STEPS} steps of SGD with momentum; the loss before the first and the last step")
    for (label, initialize, colour), clip_norm in ((he, np.inf), (too_large, np.inf), (too_large, 1.0)):
        name = f"{label}, {'not clipped' if clip_norm == np.inf else f'clipped to norm {clip_norm:g}'}"
        curves = train(deep_network(X.shape[1], fo.nn.ReLU, initialize), X, y, clip_norm)
        end = f"{curves[-1, 1]:.3g}" if len(curves) == STEPS else f"overflows in step {len(curves) + 1}"
        print(f"{name:46}{curves[0, 1]:10.3g}  {end}")
        runs.append((name, colour if clip_norm == np.inf else CLIPPED, curves))
    draw_training(axes[3], runs)

    handles = [plt.Line2D([], [], color=colour, linewidth=3, label=label) for label, _, colour in INITIALIZATIONS]
    handles += [
        plt.Line2D([], [], color="0.3", linewidth=2, linestyle=line, marker=marker, label=label)
        for label, line, marker in (
            ("without batch norm", "-", "o"),
            ("with batch norm: all four nearly the same", "--", None),
        )
    ]
    title = f"{DEPTH} hidden layers of {WIDTH}: before training, begun in four ways; below, training two of them"
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, title=title, title_fontsize=16)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.initialization", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("initialization.png"), help="where the picture goes")
    options = parser.parse_args(argv)
    try:
        import matplotlib.pyplot as plt
        import sklearn  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    X, y = load()
    print(f"{DEPTH} hidden layers of {WIDTH}: the standard deviation of the last one's activations, and that of the")
    print("first one's gradients, as a multiple of the last one's\n")
    print(f"{'':46}{'activations':>12}{'gradients':>23}")
    with plt.rc_context({"font.size": 13, "axes.titlesize": 15, "legend.fontsize": 12.5}):
        figure = draw(plt, X, y)
        figure.savefig(options.output, dpi=100)
        plt.close(figure)
    print(f"\npicture: {options.output.resolve()}")


if __name__ == "__main__":
    main()
