"""What large batches cost: accuracy against batch size for SGD, Adam, LARS and LAMB, in equally many epochs.

Run it as ``python -m fastopt.examples.large_batch``. It reads scikit-learn's digits with a 64-128-128-10 network. From
32 examples in a batch to all of them there are ever fewer steps; each optimizer gets, for each batch size, the learning
rate with the least loss on validation data, and is then judged on held-out data, from other seeds. The schedule is
LAMB's: a warm-up, then a straight line down to 0.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastopt as fo

from .digits import load

EPOCHS, HIDDEN, WARM_UP, TUNING_SEEDS = 20, 128, 0.1, 3
BATCH_SIZES = (32, 64, 128, 256, 512, None)  # None: all examples

# Biases are not adapted, as is common; nothing has weight decay. The colours are Okabe and Ito's, which colour-blind
# people can tell apart.
OPTIMIZERS: dict[str, tuple[Callable[..., fo.optim.Optimizer], np.ndarray, str, str]] = {
    "SGD, momentum": (lambda p, lr: fo.optim.SGD(p, lr, momentum=0.9), 2.0 ** np.arange(-7, 2), "black", "s"),
    "Adam": (lambda p, lr: fo.optim.Adam(p, lr), 2.0 ** np.arange(-11, -2), "#D55E00", "o"),
    "LARS": (
        lambda p, lr: fo.optim.LARS(fo.optim.decay_groups(p, always_adapt=False), lr, trust_coefficient=0.02),
        2.0 ** np.arange(-6, 3), "#0072B2", "^",
    ),
    "LAMB": (
        lambda p, lr: fo.optim.LAMB(fo.optim.decay_groups(p, always_adapt=False), lr, weight_decay=0.0),
        2.0 ** np.arange(-10, -1), "#CC79A7", "v",
    ),
}  # fmt: skip


class Result(NamedTuple):
    lr: float
    accuracies: list[float]  # on held-out data, one for each seed


def train(make: Callable[..., fo.optim.Optimizer], lr: float, batch_size: int, X: np.ndarray, y: np.ndarray,
          epochs: int, seed: int) -> Any:  # fmt: skip
    """A trained network, or None where the learning rate was too large for one."""
    nn = fo.nn
    model = nn.Sequential(
        nn.Linear(X.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10), rng=seed
    )  # fmt: skip
    steps = epochs * math.ceil(len(X) / batch_size)
    warm_up = max(1, round(WARM_UP * steps))
    schedule = fo.schedules.Linear(lr, 0, max(1, steps - warm_up)).warm_up(warm_up, start_factor=1 / (warm_up + 1))
    try:
        fo.fit(model, X, y, loss="cross_entropy", optimizer=make(model.parameters(), schedule), epochs=epochs,
               batch_size=batch_size, rng=seed)  # fmt: skip
    except FloatingPointError:
        return None
    return model


def tune_and_judge(make: Callable[..., fo.optim.Optimizer], rates: np.ndarray, batch_size: int,
                   data: tuple[np.ndarray, ...], epochs: int, seeds: int) -> Result:  # fmt: skip
    """The learning rate with the least loss on validation data, and the accuracies it leads to on held-out data."""
    X, y, X_val, y_val, X_test, y_test = data
    losses = np.zeros(len(rates))
    for i, lr in enumerate(rates):
        for seed in range(TUNING_SEEDS):
            model = train(make, lr, batch_size, X, y, epochs, seed)
            losses[i] += fo.softmax_cross_entropy(model.predict(X_val), y_val)[0] if model else math.inf
    best = float(rates[np.nanargmin(losses)])
    models = [train(make, best, batch_size, X, y, epochs, TUNING_SEEDS + seed) for seed in range(seeds)]
    return Result(best, [float((m.predict(X_test).argmax(axis=1) == y_test).mean()) if m else 0.1 for m in models])


def draw(results: dict[str, list[Result]], sizes: Sequence[int], epochs: int) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(11.5, 4.6), dpi=130, layout="constrained")
    accuracy, rate = figure.subplots(1, 2)
    for name, of_size in results.items():
        _, _, color, marker = OPTIMIZERS[name]
        style = {"color": color, "marker": marker, "linewidth": 1.6}
        accuracies = np.array([result.accuracies for result in of_size])
        mean, deviation = accuracies.mean(axis=1), accuracies.std(axis=1)
        accuracy.plot(sizes, mean, label=name, **style)
        accuracy.fill_between(sizes, mean - deviation, mean + deviation, color=color, alpha=0.12, linewidth=0)
        rate.plot(sizes, [result.lr for result in of_size], label=name, **style)
    accuracy.set(title=f"Held-out accuracy (mean, deviation of {len(of_size[0].accuracies)} seeds)")
    accuracy.legend(frameon=False, loc="lower left")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    rate.set(title="The best learning rate", yscale="log")
    rate.yaxis.set_major_formatter("{x:g}")
    for axes in (accuracy, rate):
        axes.set(xscale="log", xlabel="batch size (below: steps in all)")
        steps = [epochs * math.ceil(sizes[-1] / size) for size in sizes]
        axes.set_xticks(sizes, [f"{size}\n{count}" for size, count in zip(sizes, steps, strict=True)])
        axes.minorticks_off()
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Digits, {epochs} epochs: fewer and larger steps, each with the learning rate that suits it")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.large_batch", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("large_batch.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="few rates, seeds and epochs: just to see it run")
    options = parser.parse_args(argv)
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    X, y, X_test, y_test = load()
    tuned = len(X) // 4
    data = X[tuned:], y[tuned:], X[:tuned], y[:tuned], X_test, y_test
    rows = len(X) - tuned
    epochs, seeds, every = (4, 1, 3) if options.quick else (EPOCHS, 5, 1)
    sizes = [size or rows for size in (BATCH_SIZES[::5] if options.quick else BATCH_SIZES)]
    print(f"{rows} digits to train on, {tuned} to choose learning rates by, {len(X_test)} held out; {epochs} epochs\n")
    print(f"{'held-out accuracy at':20}" + "".join(f"{f'batch size {size}':>18}" for size in sizes))
    started = time.perf_counter()
    results = {}
    for name, (make, rates, *_) in OPTIMIZERS.items():
        results[name] = [tune_and_judge(make, rates[::every], size, data, epochs, seeds) for size in sizes]
        cells = (f"{np.mean(result.accuracies):.1%} (lr {result.lr:.2g})" for result in results[name])
        print(f"{name:20}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")
    draw(results, sizes, epochs).savefig(options.output)
    print(f"the picture: {options.output.resolve()}")


if __name__ == "__main__":
    main()
