"""Optimizer state in 32, 16 and 8 bits: the same loss, and a half or a quarter of the memory.

Run it as ``python -m fastopt.examples.state_formats``. It trains one network three times with AdamW, whose moments are
kept as float32, bfloat16 and 8-bit codes, prints what each took and how well it learned, and draws both.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastopt as fo

FORMATS = ("float32", "bfloat16", "8bit")
HIDDEN, EPOCHS, BATCH_SIZE = 512, 12, 64


class Run(NamedTuple):
    """What came of training with one format."""

    losses: list[float]
    accuracy: float
    nbytes: int
    seconds: float


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Handwritten digits for training, and the held-out third."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X.astype(np.float32), y, test_size=1 / 3, random_state=0, stratify=y)
    standardizer = fo.Standardizer(axis=(0, 1))
    return standardizer.fit_transform(X), y, standardizer.transform(X_test), y_test


def train(form: str, data: Any, hidden: int = HIDDEN, epochs: int = EPOCHS, seed: int = 0) -> Run:
    """One training with the moments in this format."""
    X, y, X_test, y_test = data
    nn = fo.nn
    model = nn.Sequential(
        nn.Linear(X.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10), rng=seed
    )
    opt = fo.optim.AdamW(model.parameters(), lr=1e-3, state_format=form)
    start = time.perf_counter()
    history = fo.fit(model, X, y, loss="cross_entropy", optimizer=opt, epochs=epochs, batch_size=BATCH_SIZE, rng=seed)
    seconds = time.perf_counter() - start
    accuracy = float(np.mean(model.predict(X_test).argmax(axis=1) == y_test))
    return Run(list(history.loss), accuracy, opt.state_nbytes, seconds)


def draw(runs: dict[str, Run], path: Path) -> None:
    """Losses on the left, bytes on the right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (form, run), style in zip(runs.items(), ("-", "--", ":"), strict=False):
        left.plot(range(1, len(run.losses) + 1), run.losses, style, label=form)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    left.legend()
    right.bar(list(runs), [run.nbytes / 2**20 for run in runs.values()])
    right.set(ylabel="optimizer state, MiB")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.state_formats", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("state_formats.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="a small network for two epochs: just to see it run")
    options = parser.parse_args(argv)
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")
    data = load()
    hidden, epochs = (64, 2) if options.quick else (HIDDEN, EPOCHS)
    runs = {form: train(form, data, hidden, epochs) for form in FORMATS}
    print(f"{'state_format':12} {'loss':>10} {'accuracy':>9} {'state':>12} {'time':>8}")
    for form, run in runs.items():
        size = f"{run.nbytes / 2**20:.2f} MiB"
        print(f"{form:12} {run.losses[-1]:10.6f} {run.accuracy:9.4f} {size:>12} {run.seconds:6.2f} s")
    draw(runs, options.output)
    print(f"the picture: {options.output.resolve()}")


if __name__ == "__main__":
    main()
