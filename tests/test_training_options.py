"""Options of fastopt.fit: weights, validation, accumulation, clipping, steps that are refused, averages, memory."""

import tracemalloc

import numpy as np
import pytest
from fitting import problem

import fastopt as fo
from fastopt import nn

X, Y = problem()


# -- memory --


@pytest.mark.skipif(fo.get_backend() != "c", reason="only the C core makes no arrays of its own")
def test_a_step_allocates_nothing_large():
    """Hidden layers of 200 kB each; a step after the first epoch's stays far below that."""
    peaks = []

    class Probe:
        def forward(self, x):
            peaks.append(tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0])
            tracemalloc.reset_peak()
            return x

        def backward(self, dy):
            return dy

    X, y = problem(rows=400)
    model = nn.Sequential(
        nn.Linear(5, 500),
        nn.Sigmoid(),
        nn.Dropout(),
        nn.Linear(500, 500),
        nn.BatchNorm(500),
        nn.ReLU(),
        nn.Linear(500, 1),
        Probe(),
    )
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    tracemalloc.start()
    try:
        fo.fit(model, X, y, optimizer=opt, epochs=2, batch_size=100, rng=0)
    finally:
        tracemalloc.stop()
    assert len(peaks) == 9  # bound once, and run eight times
    assert max(peaks[5:]) < 20_000


# -- steps that are refused --


def test_a_gradient_that_is_not_finite_ends_training_with_the_parameters_whole():
    class Bursts:
        """Gives an infinite gradient at the third step."""

        steps = 0

        def forward(self, x):
            return x

        def backward(self, dy):
            self.steps += 1
            return dy * np.float32(np.inf if self.steps == 3 else 1)

    def model():
        return nn.Sequential(nn.Linear(5, 1, rng=0), Bursts())

    broken, whole = model(), model()
    opt = fo.optim.SGD(broken.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match=r"step 3: gradients hold inf or NaN: '0\.weight', '0\.bias'"):
        fo.fit(broken, X[:64], Y[:64], optimizer=opt, epochs=2, shuffle=False)
    assert opt.step_count == 2
    fo.fit(whole, X[:64], Y[:64], optimizer=fo.optim.SGD(whole.parameters(), lr=0.1), epochs=1, shuffle=False)
    for name, param in whole.parameters().items():
        np.testing.assert_array_equal(broken.parameters()[name], param)
