"""The cross-entropy with probabilities as targets: PyTorch's numbers, the same bits everywhere, in fit and by hand."""

import numpy as np
import pytest
from fitting import problem
from variants import assert_all_agree

import fastopt as fo
from fastopt import nn
from fastopt.losses import CrossEntropy

Z = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0], [0.25, 0.5, 0.125]])
P = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])
WEIGHT = [1.0, 2.0, 0.5]
X, _ = problem()
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
ONE_HOT = np.eye(3)[LABELS]

# torch.nn.functional.cross_entropy 2.13.0: options, the mean loss, and the gradient's first row.
RECORDED = [
    ({}, 1.878538243870487, [0.034582965382875266, -0.07331370414347532, 0.03873073876060007]),
    ({"label_smoothing": 0.1}, 1.8633993549815981, [0.04013852093843083, -0.0760914819212531, 0.03595296098282229]),
    ({"weight": WEIGHT}, 3.061809386444971, [0.05973916938906802, -0.1553945838280764, 0.09565541443900841]),
    (
        {"weight": WEIGHT, "label_smoothing": 0.3},
        2.8047132891994835,
        [0.07892145645635394, -0.1719360051298698, 0.0930145486735159],
    ),
]


@pytest.mark.parametrize(("options", "loss", "gradient"), RECORDED, ids=str)
def test_the_numbers_are_those_of_pytorch(options, loss, gradient, backend):
    criterion, dz = CrossEntropy(**options), np.empty_like(Z)
    given = {**options, "weight": np.array(WEIGHT)} if "weight" in options else options
    by_function = fo.softmax_cross_entropy(Z, P, **given)
    assert by_function[0] == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(by_function[1][0], gradient, rtol=1e-13)
    assert fo.softmax_cross_entropy(Z, P, **given, reduction="none")[0].mean() == pytest.approx(loss, rel=1e-14)
    assert criterion.mean(Z, P) == pytest.approx(loss, rel=1e-14)
    assert criterion.bind(Z, P, dz)() == pytest.approx(3 * loss, rel=1e-14)
    np.testing.assert_allclose(dz[0], gradient, rtol=1e-13)


@pytest.mark.parametrize("classes", [2, 3, 15, 16, 17, 70])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_backends_and_instruction_sets_agree(classes, dtype):
    rng = np.random.default_rng(classes)
    z = (10 * rng.standard_normal((300, classes))).astype(dtype)
    z[0], z[1, 0], z[2, :2] = -np.inf, np.inf, -np.inf
    p = rng.dirichlet(np.ones(classes), 300).astype(dtype)
    p[2, :2], p[3] = 0, 0
    w = rng.uniform(0.5, 2, classes).astype(dtype)

    def compute():
        results = []
        for weight, smoothing in ((None, 0.0), (w, 0.1)):
            losses, dz = np.empty(300, dtype), np.empty_like(z)
            total = fo._backends.active.soft_cross_entropy(z, p, weight, losses, dz, 0.01, smoothing)
            results += [np.float64(total), losses, dz]
        return results

    assert_all_agree(compute)


def test_what_has_no_part_counts_for_nothing():
    z = np.array([[-np.inf, 0.0, 0.0], [1000.0, 0.0, -1000.0]])
    p = np.array([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    dz = np.empty_like(z)
    assert CrossEntropy().bind(z, p, dz)() == pytest.approx(np.log(2))
    np.testing.assert_array_equal(dz, 0)


def fit(y, epochs=3, **options):
    model = nn.Sequential(nn.Linear(5, 3), rng=0, dtype=np.float64)
    opt = fo.optim.SGD(model.parameters(), lr=0.5)
    options = {"loss": "cross_entropy", "rng": 1, **options}
    return model, fo.fit(model, X, y, optimizer=opt, epochs=epochs, **options)


@pytest.mark.parametrize("one_hot", [ONE_HOT, ONE_HOT.astype(int), ONE_HOT.astype(bool), ONE_HOT.astype(np.float32)])
def test_one_hot_rows_are_the_labels(one_hot):
    for options in ({}, {"accumulate": 2}, {"sample_weight": np.arange(1.0, 71), "clip_norm": 0.5}):
        model, history = fit(one_hot, validation=(X, one_hot), **options)
        labels = fit(LABELS, validation=(X, LABELS), **options)
        np.testing.assert_allclose(model[0].weight, labels[0][0].weight, rtol=1e-12)
        assert history.loss == pytest.approx(labels[1].loss, rel=1e-12)
        assert history.accuracy == labels[1].accuracy
        assert history.val_loss == pytest.approx(labels[1].val_loss, rel=1e-12)
    smooth = fit(0.9 * ONE_HOT + 0.1 / 3)[1]
    assert smooth.loss == pytest.approx(fit(LABELS, loss=CrossEntropy(label_smoothing=0.1))[1].loss, rel=1e-12)


def test_mixed_up_rows_and_a_teacher():
    rng = np.random.default_rng(0)
    other, part = rng.permutation(70), rng.uniform(size=(70, 1))
    mixed = part * ONE_HOT + (1 - part) * ONE_HOT[other]
    model, history = fit(mixed, epochs=40, validation=(X, LABELS))
    assert history.loss[-1] < history.loss[0]
    teacher = model.predict_proba(X)
    pupil, history = fit(teacher, epochs=200, batch_size=None)
    np.testing.assert_allclose(pupil.predict_proba(X), teacher, atol=0.05)
    assert history.accuracy[-1] > 0.95
    step = fo.TrainingStep(pupil, fo.optim.SGD(pupil.parameters(), lr=0.1), loss="cross_entropy")
    assert step(X, LABELS) == pytest.approx(step(X, ONE_HOT), rel=0.1)
    balanced = fit(mixed, class_weight="balanced")[1]
    assert np.isfinite(balanced.loss).all()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (ONE_HOT * 2, "y must be probabilities, from 0 to 1, or labels of shape .*; it goes from 0.0 to 2.0"),
        (ONE_HOT - 0.5, "y must be probabilities, from 0 to 1"),
        (ONE_HOT * 0.9, "y must be probabilities: row 0 adds up to 0.9, not 1"),
        (np.where(ONE_HOT == 1, np.nan, 0.0), "y"),
        (ONE_HOT[:, :2], r"y must hold integer labels|y has shape \(70, 2\)"),
    ],
    ids=range(5),
)
def test_what_are_no_probabilities_is_refused(y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(y)
    with pytest.raises(ValueError, match="must be probabilities from 0 to 1 that add up to 1 in every row"):
        fo.softmax_cross_entropy(Z, 2 * P)
    with pytest.raises(ValueError, match="overlaps"):
        fo.softmax_cross_entropy(Z, P, out=P)
    with pytest.raises(ValueError, match="dz is the same array as y"):
        CrossEntropy().bind(Z, P, P)
    with pytest.raises(ValueError, match=r"weight \(2,\)"):
        CrossEntropy(weight=[1.0, 2.0]).bind(Z, P, np.empty_like(Z))
