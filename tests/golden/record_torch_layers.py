"""Records what PyTorch's layer norm, Huber loss and parametric activations do in float64, into torch_layers.npz.

python tests/golden/record_torch_layers.py, with torch 2.13.0.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

LAYER_NORMS = [
    {"shape": [5, 7], "normalized": [7], "weight": True, "bias": True, "eps": 1e-5},
    {"shape": [4, 1], "normalized": [1], "weight": True, "bias": True, "eps": 1e-5},
    {"shape": [3, 2, 70], "normalized": [70], "weight": True, "bias": False, "eps": 1e-3},
    {"shape": [3, 4, 5], "normalized": [4, 5], "weight": False, "bias": False, "eps": 1e-5},
    {"shape": [20, 33], "normalized": [33], "weight": True, "bias": True, "eps": 0.1},
]
ACTIVATIONS = [
    ("gelu", {}, lambda x: F.gelu(x)),
    ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    ("leaky_relu", {}, lambda x: F.leaky_relu(x)),
    ("leaky_relu", {"negative_slope": -0.5}, lambda x: F.leaky_relu(x, -0.5)),
    ("elu", {}, lambda x: F.elu(x)),
    ("elu", {"alpha": 1.7}, lambda x: F.elu(x, 1.7)),
]
HUBER = [{"delta": 1.0, "reduction": "mean"}, {"delta": 0.3, "reduction": "sum"}, {"delta": 2.5, "reduction": "none"}]


def tensor(x):
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def main():
    rng = np.random.default_rng(0)
    found = {"version": torch.__version__.partition("+")[0]}
    for i, h in enumerate(LAYER_NORMS):
        x, dy = tensor(rng.standard_normal(h["shape"]) * 2 + 3), rng.standard_normal(h["shape"])
        weight, bias = (tensor(rng.standard_normal(h["normalized"])) if h[k] else None for k in ("weight", "bias"))
        y = F.layer_norm(x, h["normalized"], weight, bias, h["eps"])
        y.backward(torch.from_numpy(dy))
        arrays = {"x": x, "y": y, "w": weight, "b": bias, "dx": x.grad}
        arrays |= {f"d{k}": v.grad for k, v in (("w", weight), ("b", bias)) if v is not None}
        found |= {f"layer_norm{i}_{k}": v.detach().numpy() for k, v in arrays.items() if v is not None}
        found[f"layer_norm{i}_dy"] = dy
    x = np.concatenate([np.linspace(-6, 6, 49), [0.0, -1e-8, 1e-8, -30.0, 30.0]])
    found["x"] = x
    for i, (_, _, function) in enumerate(ACTIVATIONS):
        of_x = tensor(x)
        y = function(of_x)
        y.backward(torch.ones_like(y))
        found[f"activation{i}_y"], found[f"activation{i}_dx"] = y.detach().numpy(), of_x.grad.numpy()
    z, y = 2 * rng.standard_normal((2, 6, 4))
    found |= {"huber_z": z, "huber_y": y}
    for i, h in enumerate(HUBER):
        of_z = tensor(z)
        loss = F.huber_loss(of_z, torch.from_numpy(y), **h)
        loss.sum().backward()
        found[f"huber{i}_loss"], found[f"huber{i}_dz"] = loss.detach().numpy(), of_z.grad.numpy()
    cases = {"layer_norm": LAYER_NORMS, "activation": [case[:2] for case in ACTIVATIONS], "huber": HUBER}
    np.savez_compressed(Path(__file__).with_name("torch_layers.npz"), cases=json.dumps(cases), **found)


if __name__ == "__main__":
    main()
