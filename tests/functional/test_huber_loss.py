"""What is special about the Huber loss: PyTorch's recorded results, its corners and its delta."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastopt as fo

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "torch_layers.npz"))
CASES = json.loads(str(GOLDEN["cases"]))["huber"]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_huber_loss_equals_pytorchs(backend, case):
    loss, dz = fo.huber_loss(GOLDEN["huber_z"], GOLDEN["huber_y"], **CASES[case])
    np.testing.assert_allclose(loss, GOLDEN[f"huber{case}_loss"], rtol=1e-14)
    np.testing.assert_allclose(dz, GOLDEN[f"huber{case}_dz"], rtol=1e-14, atol=1e-17)


def test_the_huber_loss_at_its_corners(backend):
    """Where the line begins, both formulas agree; far away nothing overflows before the loss does."""
    delta, big = 0.7, np.finfo(np.float64).max
    z = np.array([delta, -delta, 0.0, big, -big, np.inf, -np.inf, np.nan])
    losses, dz = fo.huber_loss(z, np.zeros(8), delta=delta, reduction="none")
    np.testing.assert_allclose(losses[:5], [delta**2 / 2, delta**2 / 2, 0, delta * big, delta * big], rtol=1e-15)
    np.testing.assert_array_equal(losses[5:], [np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(dz, [delta, -delta, 0, delta, -delta, delta, -delta, np.nan])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"delta": 0.0}, ValueError, "delta must be above 0, not 0"),
        ({"delta": np.inf}, ValueError, "delta must be a finite number"),
        ({"delta": np.nan}, ValueError, "delta must be above 0, not nan"),
        ({"delta": "1"}, TypeError, "delta must be a number, not str"),
        ({"reduction": "max"}, ValueError, "reduction must be .* not 'max'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(options, error, message):
    z, out = np.zeros((4, 3)), np.full((4, 3), 7.0)
    with pytest.raises(error, match=message):
        fo.huber_loss(z, z + 1, **options, out=out)
    assert (out == 7).all()
    if "delta" in options:
        with pytest.raises(error, match=message):
            fo.losses.Huber(options["delta"])
