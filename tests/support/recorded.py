"""The problem on which PyTorch's optimizers were recorded, and the cases that were (golden/torch_optimizers.npz)."""

import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest

import fastopt as fo

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "torch_optimizers.npz"))
SHAPES = json.loads(str(GOLDEN["shapes"]))

# PyTorch's arguments that go by another name here.
RENAMED = {("decoupled_weight_decay", True): ("weight_decay_mode", "decoupled")}


def recorded():
    """The recorded cases that the optimizers there are can be made for: name, arguments, trajectory."""
    found = []
    for case, trajectory in zip(json.loads(str(GOLDEN["cases"])), GOLDEN["trajectories"], strict=True):
        arguments = dict(RENAMED.get(item, item) for item in case["kwargs"].items())
        made = getattr(fo.optim, case["optimizer"], None)
        if made and arguments.keys() <= inspect.signature(made).parameters.keys():
            found.append(
                pytest.param(case["optimizer"], arguments, trajectory, id=f"{case['optimizer']}-{case['desc']}")
            )
    return found


RECORDED = recorded()
CASES = pytest.mark.parametrize(("name", "arguments"), [pytest.param(*c.values[:2], id=c.id) for c in RECORDED])


def tensors(flat, dtype=np.float64):
    """The 27 numbers of the recorded problem as its 3 tensors."""
    ends = np.cumsum([math.prod(shape) for shape in SHAPES])
    return [part.reshape(shape).astype(dtype) for part, shape in zip(np.split(flat, ends[:-1]), SHAPES, strict=True)]


def flat(arrays):
    return np.concatenate([array.reshape(-1) for array in arrays])


def make(name, params, **arguments):
    return getattr(fo.optim, name)(params, **arguments)
