"""Tell malignant from benign tumours: a sigmoid network on scikit-learn's breast cancer data.

Run it as ``python -m fastopt.examples.breast_cancer``. It trains a 30-100-1 network with the logistic loss and
AdamW, trains scikit-learn's MLPClassifier of the same shape beside it, and draws the learning curves.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fastopt as fo

EPOCHS, BATCH_SIZE, LR, HIDDEN = 100, 32, 1e-3, 100


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and targets for training, and the held-out third; standardized by the training part alone."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=1 / 3, random_state=0, stratify=y)
    mean, std = X.mean(axis=0), X.std(axis=0)
    X, X_test = ((part - mean) / std for part in (X, X_test))
    return X.astype(np.float32), y, X_test.astype(np.float32), y_test


def train(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> fo.History:
    model = fo.nn.Sequential(
        fo.nn.Linear(X.shape[1], HIDDEN),
        fo.nn.Sigmoid(),
        fo.nn.Linear(HIDDEN, 1),
        rng=0,
    )
    optimizer = fo.optim.AdamW(model.parameters(), lr=LR)
    return fo.fit(model, X, y, loss="logistic", optimizer=optimizer, epochs=EPOCHS, batch_size=BATCH_SIZE,
                  validation=(X_test, y_test), rng=0)  # fmt: skip


def train_sklearn(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> tuple[float, float, float]:
    """Loss and accuracy on the held-out data, and the seconds of training, of scikit-learn's network."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    peer = MLPClassifier((HIDDEN,), activation="logistic", solver="adam", batch_size=BATCH_SIZE, learning_rate_init=LR,
                         max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=0)  # fmt: skip
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is to do just these epochs
        peer.fit(X, y)
    seconds = time.perf_counter() - started
    return log_loss(y_test, peer.predict_proba(X_test)), peer.score(X_test, y_test), seconds


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.breast_cancer", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("breast_cancer.png"), help="where the picture goes")
    options = parser.parse_args(argv)
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    data = load()
    X, _, X_test, _ = data
    print(f"{len(X)} tumours to train on, {len(X_test)} held out, {X.shape[1]} features;", end=" ")
    print(f"a {X.shape[1]}-{HIDDEN}-1 sigmoid network, {EPOCHS} epochs in batches of {BATCH_SIZE}\n")
    history = train(*data)
    loss, accuracy, seconds = train_sklearn(*data)
    own_seconds = sum(history.seconds)
    print("on held-out data               loss  accuracy  training time")
    for name, *numbers in (
        ("fastopt, AdamW", history.val_loss[-1], history.val_accuracy[-1], own_seconds),
        ("scikit-learn, MLPClassifier", loss, accuracy, seconds),
    ):
        print("{:29}{:6.4f}  {:8.1%}  {:11.3f} s".format(name, *numbers))
    print(f"scikit-learn takes {seconds / own_seconds:.1f} times as long")

    figure = history.plot()
    figure.suptitle("Breast cancer, 30-100-1 sigmoid network: malignant or benign?")
    figure.savefig(options.output)
    print(f"\nlearning curves: {options.output.resolve()}")


if __name__ == "__main__":
    main()
