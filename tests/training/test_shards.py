"""Batches in shards, by a single process: what several do over MPI is in tests/parallel."""

import numpy as np
import pytest
from helpers import BACKENDS, use

import fastopt as fo
from fastopt.training.shards import cuts, middle, nodes_within


def trained(shards, *, norm=False, dropout=0.4, dtype=np.float64, rows=103, loss="cross_entropy", **arguments):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, 5)), rng.integers(0, 3, rows)
    layers = [fo.nn.Linear(5, 12), *([fo.nn.BatchNorm(12)] if norm else []), fo.nn.Tanh(), fo.nn.Dropout(dropout)]
    model = fo.nn.Sequential(*layers, fo.nn.Linear(12, 3), rng=0, dtype=dtype)
    optimizer = fo.optim.Adam(model.parameters(), lr=0.01)
    given = {"epochs": 2, "batch_size": 32, "rng": 0, "loss": loss, "shards": shards} | arguments
    return model, fo.fit(model, X, y, optimizer=optimizer, **given)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"sample_weight": np.arange(103.0)},
                                     {"loss": fo.losses.CrossEntropy(weight=[1, 2, 3])}])  # fmt: skip
def test_shards_add_up_to_the_batch(options):
    """Also with dropout, whose masks are the batch's, and a last batch of 7 rows; with accumulation they are not."""
    options = {"dropout": 0.0, **options} if "accumulate" in options else options
    whole, expected = trained(None, **options)
    for shards in (2, 3, 8):
        model, history = trained(shards, **options)
        for name, param in model.parameters().items():
            np.testing.assert_allclose(param, whole.parameters()[name], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-12)
        np.testing.assert_allclose(history.accuracy, expected.accuracy, rtol=1e-12)


def test_one_shard_is_the_batch():
    assert trained(1, norm=True)[0].fingerprint() == trained(None, norm=True)[0].fingerprint()


def test_statistics_are_those_of_the_shards():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 3))
    model = fo.nn.Sequential(fo.nn.BatchNorm(3), fo.nn.Linear(3, 1), rng=0, dtype=np.float64)
    step = fo.TrainingStep(model, fo.optim.SGD(model.parameters(), lr=0.0), loss="mse", shards=4)
    step(X, X[:, :1])
    parts = X.reshape(4, 3, 3)
    np.testing.assert_allclose(model[0].running_mean, 0.1 * parts.mean(axis=1).mean(axis=0))
    np.testing.assert_allclose(model[0].running_var, 0.9 + 0.1 * parts.var(axis=1, ddof=1).mean(axis=0))
    assert model[0].num_batches_tracked == 1


@pytest.mark.parametrize("shards", [2, 5])
def test_backends_agree(shards):
    found = set()
    for backend in BACKENDS:
        use(backend)
        found.add(trained(shards, norm=True, dtype=np.float32, rows=50, batch_size=20)[0].fingerprint())
    assert len(found) == 1


def test_the_tree():
    assert cuts(10, 4) == [0, 2, 5, 7, 10]
    assert [middle(0, n) for n in (2, 3, 4, 5, 8, 9)] == [1, 2, 2, 4, 4, 8]
    assert nodes_within(8, 0, 8) == [(0, 8)]
    assert nodes_within(8, 2, 5) == [(2, 4), (4, 5)]
    assert nodes_within(6, 4, 6) == [(4, 6)]


def test_gradients_are_added_in_the_order_of_the_tree():
    """Of four shards ((0 + 1) + (2 + 3)), in float32, in which another order has other bits."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((8, 3)).astype(np.float32), rng.standard_normal((8, 1)).astype(np.float32)
    model = fo.nn.Linear(3, 1, rng=0)
    before = model.weight.copy()
    parts = []
    for part in range(4):
        rows = slice(2 * part, 2 * part + 2)
        z = model(X[rows])
        model.backward((2 * (z - y[rows]) / 8).astype(np.float32))
        parts.append(model.gradients()["weight"].copy())
    step = fo.TrainingStep(model, fo.optim.SGD(model.parameters(), lr=1.0), loss="mse", shards=4)
    step(X, y)
    tree = (parts[0] + parts[1]) + (parts[2] + parts[3])
    assert (model.weight == before - tree).all()


def test_a_step_that_is_left_out_changes_nothing():
    model = fo.nn.Sequential(fo.nn.BatchNorm(3), fo.nn.Dropout(0.5), fo.nn.Linear(3, 1), rng=0)
    step = fo.TrainingStep(model, fo.optim.Adam(model.parameters()), loss="mse", shards=2)
    X = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    step(X, X[:, :1])
    before = model.fingerprint()
    with pytest.raises(FloatingPointError):
        step(X, np.full((8, 1), 3e38, np.float32))
    assert model.fingerprint() == before


def test_bad_arguments():
    for shards, error in ((0, ValueError), (2.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="shards"):
            trained(shards)
    with pytest.raises(ValueError, match="batches of 32 rows cannot be cut into shards=33"):
        trained(33)
    with pytest.raises(ValueError, match=r"a batch of 32 rows in shards=32 gives one of 1: .*"):
        trained(32, norm=True)
    with pytest.raises(ImportError if _without_mpi() else TypeError, match="comm"):
        trained(2, comm="all")


def _without_mpi():
    from importlib.util import find_spec

    return find_spec("mpi4py") is None
