"""Read handwritten digits: batch norm, dropout and one cycle of the learning rate, on scikit-learn's 8 x 8 images.

Run it as ``python -m fastopt.examples.digits``. It trains a 64-128-128-10 network from several seeds, trains
scikit-learn's MLPClassifier of the same widths beside it, and draws learning curves and the digits that were misread.
With ``--fingerprint`` it trains the network for four steps and prints the SHA-256 of all its weights, which is the same
on every machine.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastopt as fo

EPOCHS, BATCH_SIZE, HIDDEN, MAX_LR = 30, 32, 128, 0.01

# What `fingerprint` returned wherever it was run, and where that was.
FINGERPRINT = "cff82ccb9d547c5ae849a3be3625bc90df3aa6d640c586303cadbdb3fad2c1d5"
SEEN = (
    "AMD EPYC (Zen 5): baseline, AVX2, AVX-512, with 1, 2 and 7 threads; Numba; NumPy",
    "AArch64, emulated by qemu 7.2: baseline, NEON, with 1, 2 and 7 threads; Numba; NumPy",
)


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels and labels for training, and the held-out third; standardized by the training part, all pixels alike."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X.astype(np.float32), y, test_size=1 / 3, random_state=0, stratify=y)
    standardizer = fo.Standardizer(axis=(0, 1))
    return standardizer.fit_transform(X), y, standardizer.transform(X_test), y_test


def one_cycle(rows: int) -> fo.schedules.OneCycle:
    return fo.schedules.OneCycle(MAX_LR, total_steps=EPOCHS * -(-rows // BATCH_SIZE))


def network(pixels: int, seed: int, width: int = HIDDEN) -> Any:
    nn = fo.nn
    return nn.Sequential(
        nn.Linear(pixels, width), nn.BatchNorm(width), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(width, width), nn.BatchNorm(width), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(width, 10),
        rng=seed,
    )  # fmt: skip


def fingerprint(checkpoint: Path | None = None) -> str:
    """That of a network after two epochs of two steps, whose products are large enough for several threads.

    With ``checkpoint``, training stops after the first epoch, and a new network goes on from that file.
    """
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X, y = X[:1024].astype(np.float32) / 16, y[:1024]  # whole numbers to 16: nothing is rounded
    products = fo.get_matmul()
    fo.set_matmul("exact")
    try:
        for epochs in (2,) if checkpoint is None else (1, 2):
            model = network(X.shape[1], seed=0)
            fo.fit(model, X, y, loss="cross_entropy", optimizer=fo.optim.AdamW(model.parameters(), lr=MAX_LR),
                   epochs=epochs, batch_size=512, clip_norm=1.0, rng=0, checkpoint=checkpoint,
                   resume_from=checkpoint if epochs == 2 else None)  # fmt: skip
    finally:
        fo.set_matmul(products)
    return model.fingerprint()


def print_fingerprint() -> None:
    """Print it, by itself on the first line, and whether it is the recorded one; if not, exit with an error."""
    found = fingerprint()
    print(found)
    where = f"{fo.get_backend()} backend, {fo.get_instruction_set() or 'no instruction set of its own'}"
    print(f"of a 64-{HIDDEN}-{HIDDEN}-10 network after 4 steps, here: {where}, {fo.get_num_threads()} threads")
    if found != FINGERPRINT:
        sys.exit(f"another than the recorded one, which is {FINGERPRINT}")
    print("the recorded one, which was seen on", *SEEN, sep="\n  ")


def train(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, seed: int) -> tuple[Any, fo.History]:
    model = network(X.shape[1], seed)
    cycle = one_cycle(len(X))
    optimizer = fo.optim.AdamW(model.parameters(), lr=cycle, betas=(cycle.momentum(), 0.999))
    history = fo.fit(model, X, y, loss="cross_entropy", optimizer=optimizer, epochs=EPOCHS, batch_size=BATCH_SIZE,
                     validation=(X_test, y_test), rng=seed)  # fmt: skip
    return model, history


def train_sklearn(
    X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, seed: int
) -> tuple[float, float]:
    """The accuracy on held-out data, and the seconds of training, of scikit-learn's network."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    peer = MLPClassifier((HIDDEN, HIDDEN), batch_size=BATCH_SIZE, max_iter=EPOCHS, n_iter_no_change=EPOCHS,
                         random_state=seed)  # fmt: skip
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is to do just these epochs
        peer.fit(X, y)
    seconds = time.perf_counter() - started
    return peer.score(X_test, y_test), seconds


def draw(history: fo.History, rows: int, peer_accuracy: float, X: np.ndarray, y: np.ndarray, read: np.ndarray) -> Any:
    """Learning curves and the cycle above, misread digits below."""
    from matplotlib.figure import Figure

    blue, orange = "#1f5fa8", "#d1661f"
    figure = Figure(figsize=(12, 6.2), dpi=130, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.3, 1))
    above, below = parts
    above.suptitle(f"Handwritten digits: a 64-{HIDDEN}-{HIDDEN}-10 network with batch norm and dropout")
    loss, accuracy, cycle = above.subplots(1, 3)
    epochs = range(1, len(history) + 1)
    loss.semilogy(epochs, history.loss, color=blue, label="training (with dropout)")
    loss.semilogy(epochs, history.val_loss, color=orange, label="held out")
    loss.set(title="Cross-entropy", xlabel="epoch")
    accuracy.plot(epochs, history.accuracy, color=blue, label="training (with dropout)")
    accuracy.plot(
        epochs, history.val_accuracy, color=orange, label=f"held out: {history.val_accuracy[-1]:.1%} at the end"
    )
    accuracy.axhline(peer_accuracy, color="0.5", linestyle="--", label=f"held out, MLPClassifier: {peer_accuracy:.1%}")
    accuracy.set(title="Accuracy", xlabel="epoch", ylim=(0.85, 1.005))
    lr = one_cycle(rows)
    steps = range(lr.total_steps)
    cycle.plot([t / lr.total_steps * EPOCHS for t in steps], [lr(t) for t in steps], color=blue)
    cycle.set(title="One cycle of the learning rate (AdamW)", xlabel="epoch")
    cycle.set_ylabel("learning rate", color=blue)
    right = cycle.twinx()
    momentum = lr.momentum()
    right.plot([t / lr.total_steps * EPOCHS for t in steps], [momentum(t) for t in steps], color="#2a8a57")
    right.set_ylabel("momentum (β₁)", color="#2a8a57")
    for axes in (loss, accuracy, cycle):
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    right.spines["top"].set_visible(False)
    loss.legend(frameon=False)
    accuracy.legend(frameon=False, loc="lower right")

    wrong = np.flatnonzero(read != y)
    shown = wrong[:12]
    below.suptitle(
        f"{len(wrong)} of {len(y)} held-out digits are misread" + ("; 12 of them" if len(wrong) > 12 else "")
    )
    for place, i in enumerate(shown):
        axes = below.add_subplot(1, len(shown), place + 1)
        axes.imshow(X[i].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"{y[i]} read as {read[i]}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.digits", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("digits.png"), help="where the picture goes")
    parser.add_argument("--seeds", type=int, default=5, help="how many times to train")
    parser.add_argument("--fingerprint", action="store_true", help="train for four steps only, and print the bits")
    options = parser.parse_args(argv)
    try:
        import sklearn  # noqa: F401

        if options.fingerprint:
            print_fingerprint()
            return
        import matplotlib  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    data = load()
    X, _, X_test, y_test = data
    print(f"{len(X)} digits to train on, {len(X_test)} held out; a 64-{HIDDEN}-{HIDDEN}-10 network,", end=" ")
    print(f"{EPOCHS} epochs in batches of {BATCH_SIZE}, from {options.seeds} seeds\n")
    own, peer = [], []
    for seed in range(options.seeds):  # by turns, so that whatever else the machine does slows both alike
        own.append(train(*data, seed))
        peer.append(train_sklearn(*data, seed))
    rows = [
        ("fastopt", [history.val_accuracy[-1] for _, history in own], [sum(history.seconds) for _, history in own]),
        ("scikit-learn", [accuracy for accuracy, _ in peer], [seconds for _, seconds in peer]),
    ]
    print("held-out accuracy     mean    worst     best   training time, median")
    for name, accuracies, seconds in rows:
        print(f"{name:18}{np.mean(accuracies):8.1%} {min(accuracies):8.1%} {max(accuracies):8.1%}", end="")
        print(f"{np.median(seconds):20.3f} s")
    print(f"scikit-learn takes {np.median(rows[1][2]) / np.median(rows[0][2]):.1f} times as long, without batch norm")
    print("and dropout, which it does not have")

    model, history = own[0]
    figure = draw(history, len(X), peer[0][0], X_test, y_test, model.predict(X_test).argmax(axis=1))
    figure.savefig(options.output)
    print(f"\nlearning curves and misread digits: {options.output.resolve()}")


if __name__ == "__main__":
    main()
