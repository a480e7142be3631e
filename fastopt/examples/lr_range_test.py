"""Find a learning rate by a range test, and see what it is worth: a small network for handwritten digits.

Run it as ``python -m fastopt.examples.lr_range_test``. On scikit-learn's digits it raises the learning rate of SGD with
momentum from step to step, takes the one at which the loss falls most steeply, and trains with it, with a hundredth of
it, and with ten times it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastopt as fo

EPOCHS, BATCH_SIZE, HIDDEN, MOMENTUM = 30, 32, 64, 0.9
FACTORS = {"a hundredth of it": 0.01, "suggested": 1.0, "ten times it": 10.0}
COLORS = {"a hundredth of it": "#009E73", "suggested": "#d1661f", "ten times it": "#7a3b8f"}


def load() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Pixels from 0 to 1 and labels from 0 to 9; a quarter of them, held out, by themselves."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split((X / 16).astype(np.float32), y, test_size=0.25, random_state=0, stratify=y)
    return X, y, (X_test, y_test)


def network_and_optimizer(lr: float) -> tuple[fo.nn.Sequential, fo.optim.SGD]:
    model = fo.nn.Sequential(fo.nn.Linear(64, HIDDEN), fo.nn.ReLU(), fo.nn.Linear(HIDDEN, 10), rng=0)
    return model, fo.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM)


def raise_the_rate(X: np.ndarray, y: np.ndarray) -> Any:
    model, optimizer = network_and_optimizer(lr=1.0)  # which the test does not use
    return fo.lr_range_test(model, X, y, loss="cross_entropy", optimizer=optimizer, batch_size=BATCH_SIZE, low=1e-5,
                            high=10.0, steps=200, rng=0)  # fmt: skip


def train(X: np.ndarray, y: np.ndarray, held_out: tuple[np.ndarray, np.ndarray], lr: float) -> fo.History:
    model, optimizer = network_and_optimizer(lr)
    return fo.fit(model, X, y, loss="cross_entropy", optimizer=optimizer, epochs=EPOCHS, batch_size=BATCH_SIZE,
                  validation=held_out, rng=0)  # fmt: skip


def draw(tested: Any, lr: float, histories: dict[str, fo.History]) -> Any:
    """The range test, and beside it how training went with each of the rates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), dpi=120, layout="constrained")
    rates, curves = figure.subplots(1, 2)
    tested.plot(ax=rates)
    for name, history in histories.items():
        accuracy = np.array(history.val_accuracy)
        label = f"{name}: {lr * FACTORS[name]:.2g}, {accuracy[-1]:.1%} at the end"
        curves.plot(range(1, len(accuracy) + 1), accuracy, color=COLORS[name], linewidth=1.8, label=label)
    curves.set(
        title="Training with it, and with rates far from it", xlabel="epoch", ylabel="accuracy on held-out digits"
    )
    curves.set_ylim(0, 1.02)
    curves.legend(frameon=False, loc="center right")
    curves.grid(color="0.9")
    curves.set_axisbelow(True)
    curves.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.lr_range_test", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("lr_range_test.png"), help="where the picture goes")
    options = parser.parse_args(argv)
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    X, y, held_out = load()
    print(f"{len(X)} digits to train on, {len(held_out[0])} held out; a 64-{HIDDEN}-10 network, SGD with momentum\n")
    tested = raise_the_rate(X, y)
    found = tested.suggest()
    print(f"{tested!r}")
    print(f"steepest descent at {found.lr:.3g}; for a cyclical schedule: {found.base_lr:.3g} to {found.max_lr:.3g}\n")
    histories = {name: train(X, y, held_out, found.lr * factor) for name, factor in FACTORS.items()}
    print(f"after {EPOCHS} epochs     learning rate    loss  accuracy, held out")
    for name, history in histories.items():
        lr = found.lr * FACTORS[name]
        print(f"{name:19}{lr:14.2g}  {history.val_loss[-1]:6.3f}  {history.val_accuracy[-1]:8.1%}")
    draw(tested, found.lr, histories).savefig(options.output)
    print(f"\nthe test, and the three trainings: {options.output.resolve()}")


if __name__ == "__main__":
    main()
