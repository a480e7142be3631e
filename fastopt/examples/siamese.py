"""One network for two inputs: handwritten digits placed in a plane so that equal ones lie together.

Run it as ``python -m fastopt.examples.siamese``. Pairs of scikit-learn's 8 x 8 images go through one 64-64-2 network,
twice in the same graph, and only whether a pair shows the same digit is told. The contrastive loss draws equal pairs
together, and pushes others apart to a distance of 1. A `Sequential` has one input, a graph as many as one likes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastopt as fo
from fastopt import graph

from .digits import load

STEPS, PAIRS, MARGIN = 2000, 64, 1.0


def pairs(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of pairs, of which every other shows the same digit twice."""
    first = rng.integers(len(y), size=PAIRS)
    second = rng.integers(len(y), size=PAIRS)
    for i in range(0, PAIRS, 2):
        second[i] = rng.choice(np.flatnonzero(y == y[first[i]]))
    return first, second


def train(X: np.ndarray, y: np.ndarray) -> tuple[fo.nn.Sequential, list[float]]:
    """The network, and the loss at every step."""
    rng = np.random.default_rng(0)
    model = fo.nn.Sequential(fo.nn.Linear(X.shape[1], 64), fo.nn.ReLU(), fo.nn.Linear(64, 2), rng=0)
    a, b = (graph.constant(X[:PAIRS], name=name) for name in "ab")
    same = graph.constant(np.zeros(PAIRS, X.dtype), name="same")
    difference = graph.apply(model, a) - graph.apply(model, b)
    square = graph.sum(difference * difference, axis=1).named("square of the distance")
    apart = graph.maximum(MARGIN - graph.sqrt(square + 1e-6), 0.0)
    loss = graph.mean(same * square + (1.0 - same) * apart * apart).named("contrastive loss")
    cycle = fo.schedules.OneCycle(0.01, total_steps=STEPS)
    step = graph.compile(loss, fo.optim.Adam(model.parameters(), lr=cycle))
    losses = []
    for _ in range(STEPS):
        first, second = pairs(y, rng)
        losses.append(step({a: X[first], b: X[second], same: y[first] == y[second]}))
    return model, losses


def nearest(places: np.ndarray, y: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The digit whose mean place is nearest."""
    centers = np.array([places[y == digit].mean(axis=0) for digit in range(10)])
    return np.linalg.norm(others[:, None] - centers, axis=2).argmin(axis=1)


def draw(losses: list[float], places: np.ndarray, y: np.ndarray, accuracy: float) -> Any:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), dpi=110, layout="constrained")
    figure.suptitle("A siamese network: told only which pairs show the same digit")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    mean = np.convolve(losses, np.ones(50) / 50, "valid")
    left.semilogy(range(50, STEPS + 1), mean, color="#1f5fa8")
    left.set(title="Contrastive loss, mean of 50 steps", xlabel="step")
    left.grid(color="0.9", which="both")
    colours = colormaps["tab10"]
    for digit in range(10):
        own = places[y == digit]
        right.scatter(*own.T, s=9, color=colours(digit), alpha=0.6, linewidths=0)
        box = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": colours(digit)}
        right.text(*np.median(own, axis=0), str(digit), fontsize=12, ha="center", va="center", bbox=box)
    right.set_title(f"Held-out digits; {accuracy:.1%} are nearest to their own digit's centre")
    right.set_aspect("equal", adjustable="datalim")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.siamese", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("siamese.png"), help="where the picture goes")
    options = parser.parse_args(argv)
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    X, y, X_test, y_test = load()
    model, losses = train(X, y)
    places, held_out = model.predict(X), model.predict(X_test)
    accuracy = float((nearest(places, y, held_out) == y_test).mean())
    print(f"{STEPS} steps of {PAIRS} pairs: contrastive loss {np.mean(losses[:50]):.3f} at first,", end=" ")
    print(f"{np.mean(losses[-50:]):.4f} at the end")
    print(f"held-out digits that lie nearest to the centre of their own: {accuracy:.1%}")
    draw(losses, held_out, y_test, accuracy).savefig(options.output)
    print(f"\npicture: {options.output.resolve()}")


if __name__ == "__main__":
    main()
