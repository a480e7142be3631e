"""A whole training run has one fingerprint, whatever computes it."""

import numpy as np
import pytest
from helpers import DTYPES, HAVE_C
from variants import VARIANTS, using

import fastopt as fo
from fastopt import nn

pytestmark = pytest.mark.usefixtures("exact_products")


def trained(widths, dtype, rows, batch_size, epochs):
    """All kinds of layers, with and without what is fused with them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, widths[0])).astype(dtype)
    y = rng.integers(0, widths[-1], rows)
    first = nn.Linear(widths[0], widths[1], dtype=dtype)
    second = nn.Linear(widths[1], widths[2], dtype=dtype, bias=False)
    model = nn.Sequential(
        *(first, nn.BatchNorm(widths[1], dtype=dtype), nn.ReLU()),
        *(second, nn.Sigmoid(), nn.Dropout(0.2)),
        *(nn.Linear(widths[2], widths[2], dtype=dtype), nn.Tanh(), nn.Linear(widths[2], widths[3], dtype=dtype)),
        rng=0,
    )
    opt = fo.optim.AdamW(model.parameters(), lr=0.01)
    history = fo.fit(
        model, X, y, loss="cross_entropy", optimizer=opt, epochs=epochs, batch_size=batch_size, rng=1, clip_norm=1.0
    )
    return model.fingerprint(), *history["loss"], model.predict(X[:50]).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_run_is_the_same_in_every_backend(dtype):
    results = {}
    for variant in VARIANTS if dtype is np.float32 else [v for v in VARIANTS if v[0] != "numba"]:  # which compiles long
        with using(variant):
            results[variant] = trained((9, 21, 17, 3), dtype, rows=100, batch_size=32, epochs=2)
    expected = results["numpy", None, 1]
    assert {variant for variant, result in results.items() if result != expected} == set()


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
def test_a_run_is_the_same_with_any_number_of_threads():
    """Of products that are large enough to be shared out."""
    results = {}
    for isa in fo.instruction_sets():
        for threads in (1, 2, 7) if isa != "baseline" else (2,):
            with using(("c", isa, threads)):
                results[isa, threads] = trained((60, 300, 256, 5), np.float32, rows=256, batch_size=128, epochs=1)
    assert len(set(results.values())) == 1, results


def test_blas_is_taken_if_it_is_chosen():
    layer = nn.Linear(3000, 5, rng=0)
    x = np.random.default_rng(0).standard_normal((7, 3000), np.float32)
    exact = layer(x)
    np.testing.assert_array_equal(exact, fo.matmul(x, layer.weight.T, bias=layer.bias))
    fo.set_matmul("blas")
    np.testing.assert_array_equal(layer(x), x @ layer.weight.T + layer.bias)
    np.testing.assert_array_equal(layer.predict(x), x @ layer.weight.T + layer.bias)
    fo.set_matmul("exact")
    np.testing.assert_array_equal(layer(x), exact)


class TestFingerprint:
    def test_it_knows_every_bit(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), rng=0)
        seen = {model.fingerprint()}
        for array in (*model.params.values(), *model.buffers.values()):
            before = array.copy()
            array.reshape(-1).view(np.uint8)[-1] ^= 1
            seen.add(model.fingerprint())
            array[...] = before
        assert len(seen) == 1 + len(model.params) + len(model.buffers)

    def test_names_shapes_and_dtypes_count(self):
        layers = [nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 3, dtype=np.float64), nn.Linear(6, 1, bias=False)]
        for layer in layers:
            for array in layer.params.values():
                array[...] = 0
        layers.append(nn.Sequential(layers[0]))
        assert len({layer.fingerprint() for layer in layers}) == len(layers)

    def test_it_is_that_of_the_values(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), rng=0)
        other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), rng=1)
        assert other.fingerprint() != model.fingerprint()
        other.load_state_dict(model.state_dict())
        assert other.fingerprint() == model.fingerprint()
