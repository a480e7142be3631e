"""A small problem, a network for it, and whether two trainings gave the same bits."""

import numpy as np

import fastopt as fo
from fastopt import nn


def problem(rows=70, width=5, seed=0):
    """Inputs, and targets that a small network can learn."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, width)).astype(np.float32)
    return X, X[:, 0] * X[:, 1] > 0


def network(width=5, hidden=9, dtype=np.float32):
    return nn.Sequential(nn.Linear(width, hidden, dtype=dtype), nn.Sigmoid(), nn.Linear(hidden, 1, dtype=dtype), rng=0)


def trained(epochs=4, dtype=np.float32, X=None, y=None, **options):
    model = network(dtype=dtype)
    if X is None:
        X, y = problem()
    options.setdefault("rng", 1)
    opt = fo.optim.AdamW(model.parameters(), lr=0.02)
    history = fo.fit(model, X, y, optimizer=opt, epochs=epochs, validation=problem(seed=1), **options)
    return model.state_dict(), history


def assert_same_bits(one, other):
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name)
    histories = [{**result[1].state_dict(), "seconds": []} for result in (one, other)]
    assert histories[0] == histories[1]
