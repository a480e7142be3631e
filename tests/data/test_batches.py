"""fastopt.minibatches: the order of fastopt.fit, no copies, both ends, and what is refused."""

import doctest
import tracemalloc

import numpy as np
import pytest

import fastopt as fo
from fastopt import nn
from fastopt.data import batches


def data(rows=50, dtype=np.float32):
    """Every row differs from all others, and knows its number."""
    X = np.arange(rows * 3, dtype=dtype).reshape(rows, 3)
    return X, np.arange(rows)


def rows_of(minibatches):
    """The numbers of the rows of each batch of an epoch, once the batch's X has been seen to be theirs."""
    X, _ = data()
    seen = []
    for x, y in minibatches:
        np.testing.assert_array_equal(x, X[y])
        seen.append(y.tolist())
    return seen


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_is_that_of_fit(batch_size, shuffle):
    X, y = data()
    seen = []

    class Spy:
        def forward(self, x):
            if self.training:
                seen.append((x[:, 0] / 3).astype(int).tolist())
            return x

        def backward(self, dy):
            return dy

    model = nn.Sequential(Spy(), nn.Linear(3, 1), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.0)
    fo.fit(model, X, y > 20, optimizer=opt, epochs=3, batch_size=batch_size, shuffle=shuffle, rng=5)
    minibatches = fo.minibatches(X, y, batch_size=batch_size, shuffle=shuffle, rng=5)
    assert [rows for _ in range(3) for rows in rows_of(minibatches)] == seen


def test_an_epoch_has_every_row_once():
    X, y = data()
    minibatches = fo.minibatches(X, y, batch_size=8, rng=0)
    epochs = [rows_of(minibatches) for _ in range(3)]
    for epoch in epochs:
        assert len(minibatches) == len(epoch) == 7
        assert [len(rows) for rows in epoch] == [8] * 6 + [2]
        assert sorted(row for rows in epoch for row in rows) == list(range(50))
    assert epochs[0] != epochs[1] != epochs[2]
    generator = np.random.default_rng(0)
    assert [rows_of(fo.minibatches(X, y, batch_size=8, rng=generator)) for _ in range(3)] == epochs


def test_the_last_batch_may_be_left_out():
    X, y = data()
    whole = rows_of(fo.minibatches(X, y, batch_size=8, rng=0))
    for shuffle, expected in ((True, whole[:-1]), (False, np.arange(48).reshape(6, 8).tolist())):
        minibatches = fo.minibatches(X, y, batch_size=8, rng=0, shuffle=shuffle, drop_last=True)
        assert len(minibatches) == 6
        assert rows_of(minibatches) == expected
    assert len(rows_of(fo.minibatches(X, y, batch_size=10, drop_last=True))) == 5


def test_the_two_ends():
    X, y = data()
    single = rows_of(fo.minibatches(X, y, batch_size=1, rng=0))
    assert len(single) == 50
    assert all(len(rows) == 1 for rows in single)
    minibatches = fo.minibatches(X, y, batch_size=None)
    assert len(minibatches) == 1
    ((x, targets),) = minibatches
    assert np.shares_memory(x, X)
    assert np.shares_memory(targets, y)
    np.testing.assert_array_equal(x, X)


def test_gradient_descent_by_hand():
    """Full batch, mini-batches and single examples all find the same least squares."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((64, 3))
    y = X @ [1.0, -2.0, 3.0]
    for batch_size, epochs in ((None, 100), (16, 30), (1, 5)):
        w = np.zeros(3)
        opt = fo.optim.SGD(w, lr=0.1)
        minibatches = fo.minibatches(X, y, batch_size=batch_size, rng=0)
        for _ in range(epochs):
            for x, t in minibatches:
                opt.step(2 * x.T @ (x @ w - t) / len(x))
        np.testing.assert_allclose(w, [1, -2, 3], atol=1e-6)


def test_arrays_of_all_kinds():
    X, y = data()
    orders = rows_of(fo.minibatches(X, y, batch_size=8, rng=0))
    images = np.arange(50 * 2 * 3, dtype=np.uint8).reshape(50, 2, 3)
    names = np.array([f"row {i}" for i in y])
    wide = np.zeros((50, 6), np.float32)
    wide[:, ::2] = X
    minibatches = fo.minibatches(X, np.asfortranarray(X), wide[:, ::2], X.tolist(), images, names, batch_size=8, rng=0)
    for rows, (x, fortran, strided, listed, image, name) in zip(orders, minibatches, strict=True):
        for given in (x, fortran, strided, listed):
            np.testing.assert_array_equal(given, X[rows])
            assert given.flags.c_contiguous
        np.testing.assert_array_equal(image, images[rows])
        assert image.dtype == np.uint8
        assert name.tolist() == [f"row {i}" for i in rows]
    for rows, x in zip(orders, fo.minibatches(X, batch_size=8, rng=0), strict=True):  # one array: no tuples
        np.testing.assert_array_equal(x, X[rows])


def test_data_in_a_file(tmp_path):
    X, y = data()
    X.tofile(tmp_path / "X")
    on_disk = np.memmap(tmp_path / "X", np.float32, "r", shape=X.shape)
    assert rows_of(fo.minibatches(on_disk, y, batch_size=8, rng=0)) == rows_of(
        fo.minibatches(X, y, batch_size=8, rng=0)
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_data_is_not_copied(order, shuffle):
    X = np.zeros((20_000, 50), order=order)
    tracemalloc.start()
    try:
        for _ in fo.minibatches(X, batch_size=16, rng=0, shuffle=shuffle):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 10


def test_two_loops_at_once_do_not_disturb_each_other():
    X, y = data()
    minibatches = fo.minibatches(X, y, batch_size=8, rng=0)
    first, second = rows_of(minibatches), rows_of(minibatches)
    again = fo.minibatches(X, y, batch_size=8, rng=0)
    for a, b, (x, i), (z, j) in zip(first, second, again, again, strict=True):
        assert (i.tolist(), j.tolist()) == (a, b)
        np.testing.assert_array_equal(x, X[a])
        np.testing.assert_array_equal(z, X[b])


def test_the_data_cannot_be_written_to_through_a_batch():
    X, y = data()
    before = X.copy()
    for x, _ in fo.minibatches(X, y, batch_size=8, rng=0):
        x[:] = -1  # a copy
    for minibatches in (fo.minibatches(X, y, batch_size=None), fo.minibatches(X, y, batch_size=8, shuffle=False)):
        x, _ = next(iter(minibatches))
        with pytest.raises(ValueError, match="read-only"):
            x[:] = -1
    np.testing.assert_array_equal(X, before)
    assert X.flags.writeable


@pytest.mark.parametrize("batch_size", [None, 1, 8])
@pytest.mark.parametrize("shuffle", [True, False])
def test_no_rows_give_no_batches(batch_size, shuffle):
    X, y = data(rows=0)
    for drop_last in (False, True):
        minibatches = fo.minibatches(X, y, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last)
        assert len(minibatches) == 0
        assert list(minibatches) == []


def test_repr_and_docstrings():
    X, y = data()
    assert repr(fo.minibatches(X, y, batch_size=8)) == "Minibatches(7 of 8 rows: (50, 3), (50,))"
    assert repr(fo.minibatches(X, batch_size=None)) == "Minibatches(1 of all rows: (50, 3))"
    done = doctest.testmod(batches)
    assert done.attempted > 0
    assert done.failed == 0


X, Y = data()


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((), {}, TypeError, "at least one array"),
        ((X, Y[1:]), {}, ValueError, "the arrays have 50, 49 rows"),
        ((X, 1.0), {}, ValueError, r"every array must have rows; the shapes are \(50, 3\), \(\)"),
        ((X, None), {}, ValueError, r"every array must have rows; the shapes are \(50, 3\), \(\)"),
        ((X, Y), {"batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
        ((X, Y), {"batch_size": 1.5}, TypeError, "batch_size must be an int, not float"),
        ((X, Y), {"shuffle": 1}, ValueError, "shuffle must be one of False, True, not 1"),
        ((X, Y), {"drop_last": None}, ValueError, "drop_last must be one of False, True, not None"),
        ((X, Y), {"batch_size": 51, "drop_last": True}, ValueError, "50 rows give no batch of batch_size=51"),
        ((X, Y), {"rng": "0"}, (TypeError, ValueError), None),
        ((X, Y), {"rng": -1}, ValueError, None),
    ],
)
def test_what_cannot_be_cut_into_batches(arrays, options, error, message):
    with pytest.raises(error, match=message):
        fo.minibatches(*arrays, **options)


def test_a_mask_is_not_dropped():
    X = np.ma.masked_array(np.ones((3, 2)), [[0, 1]] * 3)
    for call in (lambda: next(fo.minibatches(X)), lambda: fo.init.zeros_(X)):
        with pytest.raises(TypeError, match="is a masked array, and its mask would be lost"):
            call()
