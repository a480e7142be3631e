"""What is as in scikit-learn: parameters, every number of a run in float64, attributes, exceptions and warnings."""

import inspect
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn.neural_network", reason="fastopt.sklearn is made for scikit-learn")

from sklearn import neural_network as theirs
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError

import fastopt.sklearn as ours

pytestmark = pytest.mark.slow  # with all else of this folder it is a stage of .ci/run
RNG = np.random.RandomState(0)
X, Y = make_classification(450, 12, n_informative=8, n_classes=3, random_state=0)
TASKS = {
    "classes": ("MLPClassifier", X, Y, {}),
    "two": ("MLPClassifier", X, Y == 1, {}),
    "labels": ("MLPClassifier", *make_multilabel_classification(310, random_state=0), {}),
    "number": ("MLPRegressor", X, X[:, 0] ** 2 + X[:, 1], {}),
    "numbers": ("MLPRegressor", X, np.column_stack([X[:, 0], np.sin(X[:, 1]), X[:, 2] * X[:, 3]]), {}),
    "counts": ("MLPRegressor", X, RNG.poisson(np.exp(X[:, 0] / 5)), {"loss": "poisson"}),
}
RUNS = [
    {},
    {"alpha": 1.0, "batch_size": 32, "activation": "logistic", "shuffle": False},
    {"hidden_layer_sizes": (20, 10), "activation": "tanh", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
    {"early_stopping": True, "n_iter_no_change": 2, "tol": 1e-2, "max_iter": 40},
    {"solver": "sgd", "learning_rate_init": 0.02, "learning_rate": "invscaling", "nesterovs_momentum": False},
    {"solver": "sgd", "learning_rate_init": 0.02, "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
    {"solver": "sgd", "momentum": 0.0, "activation": "identity", "early_stopping": True, "max_iter": 4},
]
ATTRIBUTES = ("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_", "n_iter_", "t_",
              "n_layers_", "n_outputs_", "out_activation_", "n_features_in_")  # fmt: skip


def pair(task, **options):
    name, X, y, own = TASKS[task]
    options = {"max_iter": 12, "hidden_layer_sizes": (15,), "random_state": 3, **own, **options}
    return getattr(ours, name)(dtype=None, **options), getattr(theirs, name)(**options), X, y


def fitted(*estimators, X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [estimator.fit(X, y, **options) for estimator in estimators]


def assert_same(own, peer, X):
    for name in ATTRIBUTES:
        value, expected = getattr(own, name), getattr(peer, name)
        assert type(value) is type(expected) or isinstance(value, float), name
        if isinstance(expected, (float, list)):
            np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=name)
        else:
            assert value == expected, name
    for values, expected in ((own.coefs_, peer.coefs_), (own.intercepts_, peer.intercepts_)):
        assert [v.shape for v in values] == [e.shape for e in expected]
        for value, other in zip(values, expected, strict=True):
            assert value.dtype == other.dtype
            np.testing.assert_allclose(value, other, rtol=1e-7, atol=1e-12)
    methods = ["predict"] + ["predict_proba", "predict_log_proba"] * hasattr(peer, "predict_proba")
    for method in methods:
        value, expected = getattr(own, method)(X), getattr(peer, method)(X)
        assert value.dtype == expected.dtype
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-10, err_msg=method)


@pytest.mark.parametrize("options", RUNS, ids=[", ".join(run) or "defaults" for run in RUNS])
@pytest.mark.parametrize("task", TASKS)
def test_a_run_in_float64_is_scikit_learns_up_to_rounding(task, options):
    own, peer, X, y = pair(task, **options)
    fitted(own, peer, X=X, y=y)
    assert_same(own, peer, X)
    assert own.score(X, y) == pytest.approx(peer.score(X, y))


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}], ids=["all", "early stopping"])
@pytest.mark.parametrize("task", TASKS)
def test_with_sample_weights(task, options):
    own, peer, X, y = pair(task, **options)
    fitted(own, peer, X=X, y=y, sample_weight=RNG.rand(len(X)) + (np.arange(len(X)) % 3 > 0))
    assert_same(own, peer, X)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("task", TASKS)
def test_in_parts_and_warm(task, solver):
    own, peer, X, y = pair(task, solver=solver)
    for begin in (0, 130, 260):
        for estimator in (own, peer):
            labels = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
            classes = {"classes": labels} if is_classifier(estimator) and begin == 0 else {}
            estimator.partial_fit(X[begin : begin + 130], y[begin : begin + 130], **classes)
        own = pickle.loads(pickle.dumps(own))  # with the optimizer's state
    assert_same(own, peer, X)
    own, peer, X, y = pair(task, solver=solver, warm_start=True)
    for _ in range(2):
        fitted(own, peer, X=X, y=y)
    assert_same(own, peer, X)
    assert len(own.loss_curve_) == 2 * own.n_iter_


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_are_scikit_learns_and_then_further_ones(name):
    own, peer = (inspect.signature(getattr(module, name)).parameters for module in (ours, theirs))
    assert [own[key] for key in list(own)[: len(peer)]] == list(peer.values())
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in list(own.values())[len(peer) :])


def test_lbfgs_is_scipys():
    own, peer, X, y = pair("classes", solver="lbfgs", max_iter=8)
    fitted(own, peer, X=X, y=y)
    assert own.n_iter_ == peer.n_iter_
    assert own.loss_ == pytest.approx(peer.loss_, rel=1e-6)
    np.testing.assert_allclose(own.predict_proba(X), peer.predict_proba(X), rtol=1e-4, atol=1e-6)
    assert not hasattr(own, "partial_fit")
    assert not hasattr(own, "loss_curve_")
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge after 8"):
        clone(own).fit(X, y)


def test_coefficients_can_be_read_written_and_assigned():
    model = fitted(ours.MLPClassifier((15,), dtype=None, max_iter=2, random_state=0), X=X, y=Y)[0]
    assert np.shares_memory(model.coefs_[0], model.model_[0].weight)
    model.coefs_[0][:] = 0
    assert not model.model_[0].weight.any()
    float32 = fitted(ours.MLPClassifier((15,), max_iter=2, random_state=0), X=X, y=Y)[0]
    assert (float32.coefs_[0].dtype, float32.model_.dtype) == (np.float64, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        float32.coefs_[0][:] = 0  # a copy, and nobody would see it
    float32.coefs_ = [np.ones((12, 15)), np.zeros((15, 3))]
    assert (float32.model_[0].weight == 1).all()
    with pytest.raises(ValueError, match=r"coefs_\[1\] must have shape \(15, 3\), not \(3, 15\)"):
        float32.coefs_ = [np.zeros((12, 15)), np.zeros((3, 15))]
    assert (float32.model_[0].weight == 1).all()


def test_exceptions_and_warnings_are_scikit_learns():
    model = ours.MLPClassifier((5,), max_iter=2, random_state=0)
    for attribute in ("coefs_", "intercepts_", "classes_"):
        assert not hasattr(model, attribute)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        model.fit(X, Y)
    with pytest.warns(DataConversionWarning):
        ours.MLPClassifier((5,), tol=1e9, n_iter_no_change=1).fit(X, Y[:, None])
    with pytest.warns(UserWarning, match="clipped"):
        ours.MLPRegressor(batch_size=1000, random_state=0, tol=1e9, n_iter_no_change=1).fit(X, Y)
    with pytest.raises(ValueError, match="The 'alpha' parameter of MLPClassifier must be"):
        ours.MLPClassifier(alpha=-1).fit(X, Y)
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0"):
        ours.MLPClassifier(hidden_layer_sizes=(5, 0)).fit(X, Y)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        ours.MLPClassifier(early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes not in"):
        ours.MLPClassifier().partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        model.set_params(warm_start=True).fit(X, Y > 0)
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        ours.MLPRegressor(solver="sgd", learning_rate_init=1e6, dtype=None).fit(X, 1e9 * X)
    with pytest.raises(ValueError, match="at least one non-zero"):
        model.set_params(warm_start=False).fit(X, Y, np.zeros(len(X)))


def test_printed_lines(capsys):
    own, peer, X, y = pair("two", verbose=True, early_stopping=True, tol=1.0, n_iter_no_change=2)
    fitted(own, X=X, y=y)
    printed = capsys.readouterr().out
    fitted(peer, X=X, y=y)
    assert printed == capsys.readouterr().out


def test_the_same_bits_with_any_number_of_threads_and_backend():
    import fastopt as fo

    X, y = load_digits(return_X_y=True)
    options = {"max_iter": 2, "random_state": 5, "batch_norm": True, "dropout": 0.2, "early_stopping": True}
    prints = set()
    for backend, threads in (("c", 1), ("c", 2), ("numpy", 1)):
        try:
            fo.set_backend(backend)
        except ImportError:
            continue
        fo.set_num_threads(threads)
        model = fitted(ours.MLPClassifier((30,), **options), X=X[:400], y=y[:400])[0]
        prints.add((model.model_.fingerprint(), *model.loss_curve_))
    assert len(prints) == 1
