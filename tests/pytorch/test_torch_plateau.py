"""fo.ReduceOnPlateau beside PyTorch's own, on the same values."""

import math

import numpy as np
import pytest

import fastopt as fo

torch = pytest.importorskip("torch", reason="PyTorch is installed in a stage of CI of its own")


def test_rates_and_counts_are_the_same():
    rng = np.random.default_rng(0)
    for _ in range(50):
        options = {
            "mode": str(rng.choice(["min", "max"])), "factor": float(rng.choice([0.1, 0.5])),
            "patience": int(rng.integers(3)), "threshold": float(rng.choice([0.0, 1e-4, 0.2])),
            "threshold_mode": str(rng.choice(["rel", "abs"])), "cooldown": int(rng.integers(3)),
        }  # fmt: skip
        param = torch.nn.Parameter(torch.zeros(2))
        theirs = torch.optim.SGD([param], lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
        ours, plateau = fo.optim.SGD(np.zeros(2), lr=0.1), fo.ReduceOnPlateau("loss", **options)
        for value in rng.choice([1.0, 0.9, 0.8, 0.5, -1.0, math.nan, math.inf], size=30):
            scheduler.step(value)
            plateau.step(value, ours)
            assert ours.lr == theirs.param_groups[0]["lr"]
            assert plateau.bad_epochs == scheduler.num_bad_epochs
