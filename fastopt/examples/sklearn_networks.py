"""A rare class, found by a network in a scikit-learn pipeline: what its users miss, and how long it takes.

Run it as ``python -m fastopt.examples.sklearn_networks``. One class in twenty is to be found, from twenty features with
some wrong labels. scikit-learn's MLPClassifier, fastopt's in its place, and fastopt's with class weights, dropout and
early stopping by the loss on held-out data are trained; their learning curves are drawn.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 6000


def load(rows: int) -> list[np.ndarray]:
    """Inputs and labels for training, and the held-out third."""
    from sklearn.datasets import make_classification
    from sklearn.model_selection import train_test_split

    X, y = make_classification(rows, 20, n_informative=8, n_clusters_per_class=3, weights=[0.95], flip_y=0.02,
                               random_state=0)  # fmt: skip
    X, X_test, y, y_test = train_test_split(X, y, test_size=1 / 3, stratify=y, random_state=0)
    return [X, np.array(["common", "rare"])[y], X_test, np.array(["common", "rare"])[y_test]]


def estimators(epochs: int) -> dict[str, Any]:
    from sklearn import neural_network as theirs

    import fastopt as fo
    import fastopt.sklearn as ours

    options: dict[str, Any] = {"hidden_layer_sizes": (100,), "max_iter": epochs, "random_state": 0}
    return {
        "scikit-learn": theirs.MLPClassifier(**options),
        "fastopt, the same": ours.MLPClassifier(**options),
        "fastopt, with more": ours.MLPClassifier(
            **options, solver="adamw", class_weight="balanced", dropout=0.3, early_stopping=True, monitor="loss",
            validation=0.15, schedule=fo.schedules.CosineAnnealing(3e-3, T_max=epochs * 17),
        ),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.sklearn_networks", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("sklearn_networks.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs")
    options = parser.parse_args(argv)
    try:
        import matplotlib.pyplot as plt
        from sklearn.metrics import balanced_accuracy_score, recall_score
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    X, y, X_test, y_test = load(ROWS // 3 if options.quick else ROWS)
    epochs = 40 if options.quick else 150
    print(f"{len(X)} rows to train on, {np.mean(y == 'rare'):.1%} of them rare; {len(X_test)} held out\n")
    print("on held-out data      rare ones found  balanced accuracy  epochs  training time")
    networks = estimators(epochs)
    for name, network in networks.items():
        pipeline = make_pipeline(StandardScaler(), network)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of epochs that did not suffice
            pipeline.fit(X, y)
        seconds = time.perf_counter() - begin
        found = pipeline.predict(X_test)
        recall, balanced = recall_score(y_test, found, pos_label="rare"), balanced_accuracy_score(y_test, found)
        print(f"{name:20}  {recall:15.1%}  {balanced:17.1%}  {network.n_iter_:6}  {seconds:11.3f} s")

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    network.plot(ax=axes)
    figure.suptitle("Class weights, dropout, early stopping: the learning curves")
    figure.savefig(options.output)
    print(f"\nlearning curves: {options.output.resolve()}")


if __name__ == "__main__":
    main()
