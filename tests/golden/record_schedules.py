"""Records torch_schedules.npz: what PyTorch's learning-rate schedulers give, step by step (see README.md).

python tests/golden/record_schedules.py, where PyTorch is installed. Every case is a row of arguments: the scheduler's
here, and in tests/schedules/test_schedules.py those of the schedule of fastopt with the same values.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.optim import lr_scheduler

LR, STEPS = 0.3, 200
ONE_CYCLE = {"max_lr": 0.3, "total_steps": STEPS}

# name of the case: the scheduler and its arguments; for a sequence, its parts and the milestones
CASES = {
    "constant": ("ConstantLR", {"factor": 0.25, "total_iters": 40}),
    "linear": ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 60}),
    "step": ("StepLR", {"step_size": 30, "gamma": 0.4}),
    "multi-step": ("MultiStepLR", {"milestones": [10, 50, 51, 120], "gamma": 0.3}),
    "exponential": ("ExponentialLR", {"gamma": 0.97}),
    "polynomial": ("PolynomialLR", {"total_iters": 150, "power": 1.7}),
    "polynomial, straight": ("PolynomialLR", {"total_iters": 150}),
    "cosine": ("CosineAnnealingLR", {"T_max": 100, "eta_min": 0.01}),
    "cosine, beyond its end": ("CosineAnnealingLR", {"T_max": 37}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 30, "eta_min": 0.02}),
    "restarts, growing": ("CosineAnnealingWarmRestarts", {"T_0": 7, "T_mult": 2}),
    "restarts, growing by 3": ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 3, "eta_min": 0.1}),
    "one cycle": ("OneCycleLR", ONE_CYCLE),
    "one cycle, linear": ("OneCycleLR", {**ONE_CYCLE, "anneal_strategy": "linear", "pct_start": 0.23}),
    "one cycle, three phases": ("OneCycleLR", {**ONE_CYCLE, "three_phase": True, "div_factor": 10.0}),
    "one cycle, three linear phases": (
        "OneCycleLR",
        {**ONE_CYCLE, "three_phase": True, "anneal_strategy": "linear", "pct_start": 0.412, "final_div_factor": 50.0},
    ),
    "one cycle, other momenta": ("OneCycleLR", {**ONE_CYCLE, "base_momentum": 0.5, "max_momentum": 0.99}),
    "triangular": ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 20}),
    "triangular, lopsided": ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 9, "step_size_down": 34}),
    "triangular2": ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 16, "mode": "triangular2"}),
    "exp_range": (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 13, "step_size_down": 21, "mode": "exp_range", "gamma": 0.99},
    ),
    "warm-up, then cosine": (
        "SequentialLR",
        [["LinearLR", {"total_iters": 20}], ["CosineAnnealingLR", {"T_max": 180, "eta_min": 0.001}]],
        [20],
    ),
    "three in sequence": (
        "SequentialLR",
        [["ConstantLR", {"factor": 0.5, "total_iters": 1000}], ["ExponentialLR", {"gamma": 0.9}],
         ["StepLR", {"step_size": 11}]],
        [25, 100],
    ),
}  # fmt: skip


def record(name, arguments, milestones=None):
    """The learning rate and the momentum of every step."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=LR, momentum=0.9)
    if milestones is None:
        scheduler = getattr(lr_scheduler, name)(optimizer, **arguments)
    else:
        parts = [getattr(lr_scheduler, part)(optimizer, **options) for part, options in arguments]
        scheduler = lr_scheduler.SequentialLR(optimizer, parts, milestones)
    values = []
    for step in range(STEPS):
        values.append([optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]])
        optimizer.step()
        if step < STEPS - 1:
            scheduler.step()
    return np.array(values).T


def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR uses a deprecated argument of its parts
        values = np.array([record(*case) for case in CASES.values()])
    np.savez_compressed(
        Path(__file__).with_name("torch_schedules.npz"),
        version=torch.__version__,
        lr=LR,
        cases=json.dumps(CASES),
        values=values,
    )


if __name__ == "__main__":
    main()
