"""scikit-learn's documented ways of using a network, with only the import changed; and its own networks' results."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn.neural_network", reason="fastopt.sklearn is made for scikit-learn")

from sklearn import neural_network as theirs
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_friedman1,
    make_moons,
)
from sklearn.ensemble import BaggingClassifier, StackingRegressor, VotingClassifier
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    train_test_split,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastopt import sklearn as ours
from fastopt.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.slow  # with all else of this folder it is a stage of .ci/run

IRIS = load_iris(return_X_y=True)


@pytest.fixture(autouse=True)
def _unconverged():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer|lbfgs failed")
        yield


def test_the_user_guide():
    X, y = [[0.0, 0.0], [1.0, 1.0]], [0, 1]
    clf = MLPClassifier(solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(5, 2), random_state=1)
    clf.fit(X, y)
    assert clf.predict([[2.0, 2.0], [-1.0, -2.0]]).tolist() == [1, 0]
    assert [coef.shape for coef in clf.coefs_] == [(2, 5), (5, 2), (2, 1)]
    np.testing.assert_allclose(clf.predict_proba([[2.0, 2.0], [1.0, 2.0]]), [[0, 1], [0, 1]], atol=1e-3)
    clf = MLPClassifier(solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(15,), random_state=1)
    clf.fit(X, [[0, 1], [1, 1]])
    assert clf.predict([[1.0, 2.0]]).tolist() == [[1, 1]]
    assert clf.predict([[0.0, 0.0]]).tolist() == [[0, 1]]


def test_the_reference_pages():
    X, y = make_classification(n_samples=100, random_state=1)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=1)
    clf = MLPClassifier(random_state=1, max_iter=300).fit(X_train, y_train)
    np.testing.assert_allclose(clf.predict_proba(X_test[:1]), [[0.0383, 0.961]], atol=1e-3)
    assert clf.predict(X_test[:5, :]).tolist() == [1, 0, 1, 0, 1]
    assert clf.score(X_test, y_test) == pytest.approx(0.88)


def test_grid_search_over_a_pipeline():
    network = MLPClassifier(max_iter=30, learning_rate_init=0.05, random_state=0)
    pytest.importorskip("pandas", reason="set_output makes frames of pandas")
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), network)
    grid = {"mlpclassifier__hidden_layer_sizes": [(5,), (20,)], "mlpclassifier__dropout": [0.0, 0.2]}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=3).fit(*IRIS)
    again = GridSearchCV(pipeline, grid, cv=3).fit(*IRIS)
    assert (search.cv_results_["mean_test_score"] == again.cv_results_["mean_test_score"]).all()
    network = search.best_estimator_[-1]
    assert network.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]
    assert search.score(*IRIS) > 0.9


def test_cross_validation_calibration_and_inspection():
    X, y = StandardScaler().fit_transform(IRIS[0]), np.array(["setosa", "versicolor", "virginica"])[IRIS[1]]
    model = MLPClassifier((20,), learning_rate_init=0.01, max_iter=60, random_state=0)
    scores = cross_val_score(model, X, y, n_jobs=2)
    assert (scores == cross_val_score(model, X, y)).all()
    assert scores.mean() > 0.9
    assert cross_val_predict(model, X, y, method="predict_proba").shape == (150, 3)
    for method in ("sigmoid", "isotonic"):
        calibrated = CalibratedClassifierCV(model, method=method, cv=3).fit(X, y)
        np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
        assert calibrated.score(X, y) > 0.9
    fitted = model.fit(X, y)
    importance = permutation_importance(fitted, X, y, n_repeats=3, random_state=0, n_jobs=2).importances_mean
    assert importance.argmax() in (2, 3)
    assert partial_dependence(fitted, X, [0])["average"].shape[0] == 3
    sizes, _, validated = learning_curve(model, X, y, train_sizes=[0.5, 1.0], cv=3, shuffle=True, random_state=0)
    assert len(sizes) == len(validated) == 2


def test_in_ensembles():
    X, y = StandardScaler().fit_transform(IRIS[0]), IRIS[1]
    model = MLPClassifier((20,), learning_rate_init=0.01, max_iter=40, random_state=0)
    assert BaggingClassifier(model, n_estimators=3, random_state=0).fit(X, y).score(X, y) > 0.9
    assert VotingClassifier([("a", model), ("b", LogisticRegression())], voting="soft").fit(X, y).score(X, y) > 0.9
    regressor = MLPRegressor(max_iter=60, learning_rate_init=0.01, random_state=0)
    stacked = StackingRegressor([("a", regressor)], LinearRegression()).fit(X[:, :3], X[:, 3])
    assert stacked.score(X[:, :3], X[:, 3]) > 0.9
    assert MultiOutputRegressor(regressor).fit(X[:, :2], X[:, 2:]).predict(X[:, :2]).shape == (150, 2)


DATA = {
    "iris": ("MLPClassifier", IRIS),
    "wine": ("MLPClassifier", load_wine(return_X_y=True)),
    "breast cancer": ("MLPClassifier", load_breast_cancer(return_X_y=True)),
    "digits": ("MLPClassifier", load_digits(return_X_y=True)),
    "moons": ("MLPClassifier", make_moons(1000, noise=0.2, random_state=0)),
    "classification": ("MLPClassifier", make_classification(800, n_informative=10, n_classes=4, random_state=0)),
    "diabetes": ("MLPRegressor", load_diabetes(return_X_y=True)),
    "friedman1": ("MLPRegressor", make_friedman1(800, noise=1.0, random_state=0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_scores_are_within_the_spread_of_scikit_learns(name):
    kind, (X, y) = DATA[name]
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    if kind == "MLPRegressor":
        y, y_test = (y - y.mean()) / y.std(), (y_test - y.mean()) / y.std()
    own, peer = (
        [getattr(module, kind)(random_state=seed, max_iter=100).fit(X, y).score(X_test, y_test) for seed in range(5)]
        for module in (ours, theirs)
    )
    assert min(peer) - 1e-9 <= np.mean(own) <= max(peer) + 1e-9
