"""Networks in scikit-learn: `fastopt.sklearn` and scikit-learn's own, from the data to the fitted estimator.

What is compared first is the mean accuracy, or R², on held-out data over some seeds: fastopt's must be within the
spread of scikit-learn's. Parameters are scikit-learn's defaults; networks of 1000 units have 20 epochs.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .measure import FASTOPT, Case, Setup, Side, Spec, fastopt_settings
from .peers import blas_settings

CLASSIFIER, REGRESSOR = "MLPClassifier", "MLPRegressor"
DATA: dict[str, tuple[str, str, dict[str, Any]]] = {
    "iris": (CLASSIFIER, "load_iris", {"return_X_y": True}),
    "wine": (CLASSIFIER, "load_wine", {"return_X_y": True}),
    "breast cancer": (CLASSIFIER, "load_breast_cancer", {"return_X_y": True}),
    "digits": (CLASSIFIER, "load_digits", {"return_X_y": True}),
    "moons": (CLASSIFIER, "make_moons", {"n_samples": 1000, "noise": 0.2, "random_state": 0}),
    "four classes": (CLASSIFIER, "make_classification",
                     {"n_samples": 1000, "n_informative": 10, "n_classes": 4, "random_state": 0}),
    "diabetes": (REGRESSOR, "load_diabetes", {"return_X_y": True}),
    "friedman1": (REGRESSOR, "make_friedman1", {"n_samples": 1000, "noise": 1.0, "random_state": 0}),
}  # fmt: skip
SMALL = tuple(f"sklearn: {name}, 100 units" for name in DATA)
LARGE = tuple(f"sklearn: {name}, 1000 units" for name in ("digits", "friedman1"))


def specs(setup: Setup) -> Iterator[Spec]:
    if "sklearn" not in setup.peers:
        return
    for units, names in ((100, SMALL), (1000, LARGE)):
        for name in names[:1] if setup.quick else names:
            data = name.removeprefix("sklearn: ").rpartition(",")[0]
            yield Spec("sklearn", f"{units} units", name, partial(_case, data, units, setup))


def _split(data: str) -> list[np.ndarray]:
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    kind, function, options = DATA[data]
    X, y = getattr(datasets, function)(**options)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(X)
    if kind == REGRESSOR:
        y, y_test = (y - y.mean()) / y.std(), (y_test - y.mean()) / y.std()
    return [scaler.transform(X), scaler.transform(X_test), y, y_test]


def _case(data: str, units: int, setup: Setup) -> Case:
    import fastopt.sklearn as ours

    X, X_test, y, y_test = _split(data)
    options = {"hidden_layer_sizes": (units,), "max_iter": 200 if units <= 100 else 20}

    def runs(estimators: Any) -> tuple[Callable[[], None], list[float]]:
        """A call that trains with the next seed, and the scores so far."""
        scores: list[float] = []

        def call() -> None:
            estimator = getattr(estimators, DATA[data][0])(random_state=len(scores) % seeds, **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of epochs that do not suffice
                estimator.fit(X, y)
            scores.append(estimator.score(X_test, y_test))

        return call, scores

    seeds = 2 if setup.quick else 5
    (fit, scores), (their_fit, their_scores) = runs(ours), runs(setup.peers["sklearn"])
    for prepare in list(blas_settings(setup).values())[:1]:
        prepare()
    for _ in range(seeds):
        their_fit()
    expected = np.array(their_scores)
    spread = max(expected.max() - expected.mean(), expected.mean() - expected.min()) / abs(expected.mean())
    sides = [
        Side(FASTOPT, fit, lambda: [np.mean(scores)], fastopt_settings(setup)),
        Side("sklearn", their_fit, list, blas_settings(setup), checked=False),
    ]
    return Case(len(X) * units, sides, lambda: [expected.mean()], {}, seeds, tolerance=float(spread) + 1e-9)
