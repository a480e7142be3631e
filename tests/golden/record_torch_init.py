"""Records torch_init.npz: what torch.nn.init does, its random numbers aside (see README.md).

python tests/golden/record_torch_init.py, where PyTorch is installed. What a function draws from is recorded as the
arguments with which it calls ``uniform_`` and ``normal_``.
"""

import json
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn import init

SHAPES = [(3, 5), (64, 30), (7, 4, 3), (8, 3, 5, 5), (2, 6, 3, 2, 4)]
GAINS = [
    *((f"conv{transposed}{d}d", None) for transposed in ("", "_transpose") for d in (1, 2, 3)),
    *((nonlinearity, None) for nonlinearity in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu")),
    *(("leaky_relu", slope) for slope in (0.2, 0, -1.5)),
]
CALLS = [
    *(("xavier_uniform_", {"gain": gain}) for gain in (1.0, 5 / 3)),
    *(("xavier_normal_", {"gain": gain}) for gain in (1.0, 5 / 3)),
    *(
        (f"kaiming_{kind}_", {"a": a, "mode": mode, "nonlinearity": nonlinearity})
        for kind, mode, (a, nonlinearity) in product(
            ("uniform", "normal"),
            ("fan_in", "fan_out"),
            [(0, "leaky_relu"), (5**0.5, "leaky_relu"), (0, "relu"), (0, "linear"), (0, "tanh"), (0, "selu")],
        )
    ),
]
SPARSE = [(rows, sparsity) for rows in (1, 4, 10, 30, 64) for sparsity in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)]
ORTHOGONAL = [(4, 4), (3, 5), (6, 2), (3, 2, 2), (1, 4)]


def drawn_from(function, shape, kwargs):
    """The two numbers that ``function`` calls ``uniform_`` or ``normal_`` with: bounds, or mean and deviation."""
    with (
        mock.patch.object(torch.Tensor, "uniform_") as uniform,
        mock.patch.object(torch.Tensor, "normal_") as normal,
    ):
        getattr(init, function)(torch.empty(shape, dtype=torch.float64), **kwargs)
    (numbers,) = [call.args for each in (uniform, normal) for call in each.call_args_list]
    return numbers


def orthogonal(normal, gain):
    """What ``orthogonal_`` makes of these normally distributed numbers."""

    def normal_(tensor, mean=0, std=1, generator=None):
        return tensor.copy_(torch.tensor(normal.reshape(tensor.shape)))

    with mock.patch.object(torch.Tensor, "normal_", normal_):
        return init.orthogonal_(torch.empty(normal.shape, dtype=torch.float64), gain).numpy()


def main():
    draws = [
        {"function": function, "shape": shape, "kwargs": kwargs, "numbers": drawn_from(function, shape, kwargs)}
        for (function, kwargs), shape in product(CALLS, SHAPES)
    ]
    gains = [(*case, init.calculate_gain(*case)) for case in GAINS]
    zeros = [
        (rows, sparsity, (init.sparse_(torch.empty(rows, 3), sparsity) == 0).sum(dim=0).tolist())
        for rows, sparsity in SPARSE
    ]
    arrays = {}
    for i, shape in enumerate(ORTHOGONAL):
        arrays[f"normal{i}"] = np.random.default_rng(i).standard_normal(shape)
        arrays[f"orthogonal{i}"] = orthogonal(arrays[f"normal{i}"], -1.5)
    np.savez_compressed(
        Path(__file__).with_name("torch_init.npz"),
        source=f"torch.nn.init of PyTorch {torch.__version__}",
        draws=json.dumps(draws),
        gains=json.dumps(gains),
        zeros=json.dumps(zeros),
        **arrays,
    )


if __name__ == "__main__":
    main()
