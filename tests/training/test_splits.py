"""Validation data held out of the training data: which rows they are."""

import numpy as np
import pytest
from fitting import problem

import fastopt as fo
from fastopt import nn

X, Y = problem()
WEIGHT = np.random.default_rng(5).integers(0, 4, 70)


def trained_on(y, fraction, loss="cross_entropy", **options):
    """The rows that a model sees in training."""
    seen = []

    class Spy:
        def forward(self, x):
            if self.training:
                seen.extend(x[:, 0].astype(int).tolist())
            return x

        def backward(self, dy):
            return dy

    rows = np.tile(np.arange(float(len(y)))[:, None], 2)
    model = nn.Sequential(Spy(), nn.Linear(2, int(y.max()) + 1 if loss == "cross_entropy" else 1))
    opt = fo.optim.SGD(model.parameters(), lr=1e-6)
    fo.fit(model, rows, y, optimizer=opt, epochs=1, validation=fraction, loss=loss, **options)
    return np.array(sorted(seen))


@pytest.mark.parametrize(("fraction", "held_out"), [(0.25, [3, 7, 11, 15, 19]), (0.05, [19]), (0.15, [5, 12, 19])])
def test_even_and_last(fraction, held_out):
    y = np.arange(20.0)
    rest = np.setdiff1d(np.arange(20), held_out)
    np.testing.assert_array_equal(trained_on(y, fraction, "mse", split="even"), rest)
    np.testing.assert_array_equal(trained_on(y, fraction, "mse", split="last"), np.arange(20 - len(held_out)))


def test_classes_that_follow_one_another_are_on_both_sides():
    """Every fourth row would be all of class 3."""
    y = np.arange(400) % 4
    seen = trained_on(y, 0.25)
    np.testing.assert_array_equal(np.bincount(y[seen]), [75] * 4)
    np.testing.assert_array_equal(seen, trained_on(y, 0.25, rng=7))  # whatever rng is
    assert 50 < np.count_nonzero(np.diff(seen) > 1) < 100  # and no pattern of rows
    binary = np.arange(400) % 10 == 0
    assert binary[trained_on(binary, 0.1, "logistic")].sum() == 36


@pytest.mark.parametrize("sizes", [[97, 2, 1], [50, 49, 1], [2] * 50, [1] * 30 + [70], [90, 10], [3, 3, 94]], ids=str)
@pytest.mark.parametrize("fraction", [0.03, 0.2, 0.5, 0.97])
@pytest.mark.filterwarnings("ignore:.* are held out for validation")
def test_every_class_that_can_be_is_on_both_sides(sizes, fraction):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    seen = trained_on(y, fraction)
    assert len(seen) == 100 - round(fraction * 100)
    held_out = np.setdiff1d(np.arange(100), seen)
    if min(len(seen), len(held_out)) >= len(sizes):
        for rows in (seen, held_out):
            assert set(y[rows]) >= {k for k, size in enumerate(sizes) if size > 1}


def test_a_class_missing_on_one_side_is_warned_of():
    y = np.repeat([0, 1, 2], [60, 39, 1])
    with pytest.warns(UserWarning, match=r"of 100 rows 20 are held out .* no class 2 in the rows to validate with$"):
        trained_on(y, 0.2)
    with pytest.warns(UserWarning, match="no class 2 in the rows to train on, and no classes 0, 1 in") as warned:
        trained_on(y, 0.01, split="last", batch_size=50)
    assert all(str(each.filename) == __file__ for each in warned)
    ignoring = fo.losses.CrossEntropy(ignore_index=2)
    model = nn.Linear(5, 2)
    fo.fit(model, X, np.arange(70) // 69 * 2, loss=ignoring, optimizer=fo.optim.SGD(model.parameters()), epochs=1,
           validation=0.2)  # fmt: skip


def test_targets_that_are_no_classes_are_only_shuffled():
    y = np.linspace(0, 1, 100)
    for loss in ("mse", "logistic"):
        assert len(trained_on(y, 0.2, loss)) == 80
    with pytest.raises(ValueError, match='split="stratified" needs labels'):
        trained_on(y, 0.2, "mse", split="stratified")
    with pytest.raises(ValueError, match=r"split must be one of None, 'shuffled', .*, not 'random'"):
        trained_on(y, 0.2, "mse", split="random")
    with pytest.raises(ValueError, match="split='even' is for a fraction"):
        trained_on(y, None, "mse", split="even")


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_a_fraction_is_as_data_held_out_by_hand(weight):
    def run(X, y, **options):
        model = nn.Sequential(nn.Linear(5, 9, dtype=float), nn.Tanh(), nn.Linear(9, 1, dtype=float), rng=0)
        opt = fo.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        return model, fo.fit(model, X, y, optimizer=opt, epochs=3, rng=1, **options)

    held_out = np.arange(4, 70, 5)
    rest = np.setdiff1d(np.arange(70), held_out)
    split, history = run(X, Y, validation=0.2, split="even", sample_weight=weight)
    validation, weights = (X[held_out], Y[held_out]), None
    if weight is not None:
        validation, weights = (*validation, weight[held_out]), weight[rest]
    by_hand, expected = run(X[rest], Y[rest], validation=validation, sample_weight=weights)
    for name, param in split.parameters().items():
        np.testing.assert_array_equal(param, by_hand.parameters()[name])
    assert history.val_loss == expected.val_loss
    assert history.loss == expected.loss


@pytest.mark.parametrize(("counting", "purpose"), [(slice(0, 6), "validate with"), (slice(6, 8), "train on")])
def test_a_side_on_which_no_label_counts_is_refused_before_training(counting, purpose):
    y = np.full(8, -100)
    y[counting] = 0
    model = nn.Linear(2, 2, rng=0)
    before = model.state_dict()
    opt = fo.optim.SGD(model.parameters(), lr=1.0)
    with (
        pytest.warns(UserWarning, match="no class 0"),
        pytest.raises(ValueError, match=f"rows to {purpose}, no label counts"),
    ):
        fo.fit(model, np.eye(8, 2), y, optimizer=opt, epochs=1, validation=0.25, split="last", loss="cross_entropy")
    assert all((before[name] == value).all() for name, value in model.state_dict().items())
