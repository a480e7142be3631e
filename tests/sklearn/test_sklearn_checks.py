"""scikit-learn's own judge of an estimator, with no expected failures."""

import warnings

import pytest

pytest.importorskip("sklearn.neural_network", reason="fastopt.sklearn is made for scikit-learn")

from sklearn.utils.estimator_checks import check_estimator

from fastopt.sklearn import MLPClassifier, MLPRegressor


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_iter": 60}, id="short"),
        pytest.param({}, id="plain", marks=pytest.mark.slow),
        pytest.param({"batch_norm": True, "dropout": 0.5}, id="batch norm and dropout", marks=pytest.mark.slow),
        pytest.param({"batch_norm": True}, id="batch norm", marks=pytest.mark.slow),
        pytest.param({"dropout": 0.3}, id="dropout", marks=pytest.mark.slow),
        pytest.param({"dtype": None}, id="float64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_every_check_of_check_estimator_passes(kind, options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(kind(**options), on_fail=None)
    assert len(results) > 50
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed
    assert not any(result["expected_to_fail"] for result in results)
