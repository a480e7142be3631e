"""Weights of classes in both losses of classes: given as numbers, by class, or found in the training data."""

import numpy as np
import pytest
from fitting import problem

import fastopt as fo
from fastopt import nn
from fastopt.losses import CrossEntropy, LogisticLoss, SquaredError

X, _ = problem(200)
Y = (X[:, 0] + 0.3 * X[:, 1] > 0.9).astype(int)  # two classes, one of which is rare
LABELS = Y + (X[:, 2] > 1.2)


def fit(outputs, y, epochs=3, dtype=np.float64, **options):
    model = nn.Sequential(nn.Linear(5, outputs), rng=0, dtype=dtype)
    opt = fo.optim.SGD(model.parameters(), lr=0.5)
    return model, fo.fit(model, X, y, optimizer=opt, epochs=epochs, **{"rng": 1, **options})


def balanced(y):
    return len(y) / (len(np.unique(y)) * np.bincount(y))


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"drop_last": True}, {"sample_weight": np.arange(1.0, 201)},
                                     {"validation": 0.2}])  # fmt: skip
@pytest.mark.parametrize("outputs", [1, 3])
def test_all_ways_to_say_it_are_the_same(outputs, options):
    y = Y if outputs == 1 else LABELS
    rows = np.arange(200)
    if "validation" in options:  # those that are trained on; the loss of these rows is what the first epoch begins with
        from fastopt.training.splits import split

        rows = split(40, None, y, True, None)[0]
    numbers = balanced(y[rows])
    kind = LogisticLoss if outputs == 1 else CrossEntropy
    name, loss = ("class_weight", "logistic") if outputs == 1 else ("weight", "cross_entropy")
    first = fit(outputs, y, loss=kind(**{name: numbers}), **options)
    for again in (
        {"loss": loss, "class_weight": "balanced"},
        {"loss": loss, "class_weight": dict(enumerate(numbers))},
        {"loss": loss, "class_weight": list(numbers)},
        {"loss": kind(**{name: "balanced"})},
        {"loss": kind(), "class_weight": np.float32(1) * numbers},
    ):
        model, history = fit(outputs, y, **again, **options)
        assert history.loss == pytest.approx(first[1].loss, rel=1e-6)
        if "val_loss" in history:
            assert history.val_loss == pytest.approx(first[1].val_loss, rel=1e-6)
        np.testing.assert_allclose(model[0].weight, first[0][0].weight, rtol=1e-5)


def test_one_output_and_two_are_the_same():
    """The logistic loss of z is the cross-entropy of (0, z): also its mean by the classes' weights."""
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((50, 1)), rng.integers(0, 2, 50)
    one, two = LogisticLoss(class_weight=[0.5, 3.0]), CrossEntropy(weight=[0.5, 3.0])
    both = np.hstack([0 * z, z])
    target = y[:, None].astype(float)
    assert one.mean(z, target) == pytest.approx(two.mean(both, y), rel=1e-12)
    dz, dboth = np.empty_like(z), np.empty_like(both)
    one.bind(z, target, dz)(), two.bind(both, y, dboth)()
    np.testing.assert_allclose(dz[:, 0], dboth[:, 1], rtol=1e-12)


def test_the_numbers_are_those_of_scikit_learn():
    """n / (classes * n of the class): computed by hand, and the mean loss is the weighted average."""
    counts, weights = np.bincount(LABELS), balanced(LABELS)
    np.testing.assert_allclose(weights, 200 / (3 * counts))
    _, history = fit(3, LABELS, epochs=1, batch_size=None, loss="cross_entropy", class_weight="balanced")
    start = nn.Sequential(nn.Linear(5, 3), rng=0, dtype=np.float64)
    each = fo.softmax_cross_entropy(start(X.astype(np.float64)), LABELS, reduction="none")[0]
    assert history.loss[0] == pytest.approx(np.average(each, weights=weights[LABELS]), rel=1e-12)


def test_a_class_that_is_missing_weighs_1():
    loss = CrossEntropy(weight="balanced").resolved((10, 4), np.array([0, 0, 1, 3]))
    assert loss.weight.tolist() == [4 / 6, 4 / 3, 1.0, 4 / 3]
    assert LogisticLoss(class_weight="balanced").resolved((3, 1), np.ones(3)).pos_weight.tolist() == [1.0]
    step = fo.TrainingStep(model := nn.Linear(5, 3, rng=0), fo.optim.SGD(model.parameters(), lr=0.1),
                           loss=CrossEntropy(weight={2: 3.0}))  # fmt: skip
    expected = fo.softmax_cross_entropy(model(X[:9]), LABELS[:9], weight=np.array([1, 1, 3], np.float32))[0]
    assert step(X[:9], LABELS[:9]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"class_weight": "balance"}, ValueError, 'class_weight must be "balanced", a dict by class, or an array'),
        ({"class_weight": {"a": 1.0}}, TypeError, "class_weight must be by class, a whole number from 0, not by 'a'"),
        ({"class_weight": {0: -1.0}}, ValueError, "class_weight must hold finite numbers of at least 0"),
        ({"class_weight": {0: "x"}}, TypeError, r"class_weight\[0\] must be a number, not str"),
        ({"class_weight": {3: 1.0}}, ValueError, "weight has class 3, the model 3 classes"),
        ({"class_weight": [1.0, 2.0]}, ValueError, r"weight has shape \(2,\), the model has 3"),
        ({"class_weight": [[1.0, 2.0, 3.0]]}, ValueError, r"class_weight has shape \(1, 3\)"),
        ({"class_weight": "balanced", "loss": CrossEntropy(weight=[1, 2, 3])}, ValueError, "has weights already"),
        ({"class_weight": "balanced", "loss": SquaredError()}, ValueError, "class_weight is for the logistic loss and"),
        ({"class_weight": "balanced", "loss": "logistic"}, ValueError, "class_weight is for one output"),
        ({"class_weight": [0.0, 1.0], "loss": "logistic"}, ValueError, "class 0 must be above 0"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(options, error, message):
    y = (
        np.eye(3)[LABELS]
        if options.get("loss") == "logistic" or isinstance(options.get("loss"), SquaredError)
        else LABELS
    )
    with pytest.raises(error, match=message):
        fit(3, y, **{"loss": "cross_entropy", **options})


def test_what_only_fit_can_find_is_refused_by_hand():
    z = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"CrossEntropy\(weight='balanced'\) is for fastopt.fit"):
        CrossEntropy(weight="balanced").mean(z, np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="pos_weight and class_weight: give one of them"):
        LogisticLoss(2.0, class_weight="balanced")
    model = nn.Linear(5, 1, rng=0)
    step = fo.TrainingStep(model, fo.optim.SGD(model.parameters(), lr=0.1), loss=LogisticLoss(class_weight="balanced"))
    with pytest.raises(ValueError, match=r"LogisticLoss\(class_weight='balanced'\) is for fastopt.fit"):
        step(X, Y)
