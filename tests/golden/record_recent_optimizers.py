"""Records recent_optimizers.npz: what PyTorch, optax, Keras, timm and schedulefree do in float64 with
optimizers that came after those of other_libraries.npz (see README.md).

python tests/golden/record_recent_optimizers.py, where all are installed.
"""

import inspect
import json
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import schedulefree
import torch
from record_other_libraries import FALLING, RUN, SHAPES, STEPS, flat, jax, optax, split
from torch.optim import _muon

torch.set_default_dtype(torch.float64)  # in which ASGD keeps its numbers

# library, its optimizer, its arguments, the learning rate (one, or one per step), fastopt's optimizer, its arguments
CASES = [
    ("torch", "Adamax", {}, FALLING, "Adamax", {}),
    ("torch", "Adamax", {"betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.2, "maximize": True}, FALLING, "Adamax",
     {"betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.2, "maximize": True}),
    ("optax", "adamax", {"eps": 0.1}, FALLING, "Adamax", {"eps": 0.1}),
    ("optax", "adamaxw", {"weight_decay": 0.2}, FALLING, "Adamax",
     {"weight_decay": 0.2, "weight_decay_mode": "decoupled"}),
    ("keras", "Adamax", {"epsilon": 0.1}, FALLING, "Adamax", {"eps": 0.1, "eps_outside": True}),
    ("torch", "RAdam", {}, FALLING, "RAdam", {}),
    ("torch", "RAdam", {"betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.2}, FALLING, "RAdam",
     {"betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.2}),
    ("torch", "RAdam", {"weight_decay": 0.2, "decoupled_weight_decay": True, "maximize": True}, FALLING, "RAdam",
     {"weight_decay": 0.2, "weight_decay_mode": "decoupled", "maximize": True}),
    ("optax", "radam", {"eps": 0.1}, FALLING, "RAdam", {"eps": 0.1, "eps_hat": False}),
    ("optax", "adabelief", {}, FALLING, "AdaBelief", {"rectify": False}),
    ("optax", "adabelief", {"eps": 0.1, "eps_root": 1e-3, "b2": 0.8}, FALLING, "AdaBelief",
     {"eps": 0.1, "eps_root": 1e-3, "betas": (0.9, 0.8), "rectify": False}),
    ("timm", "AdaBelief", {}, FALLING, "AdaBelief", {}),
    ("timm", "AdaBelief", {"eps": 1e-3, "weight_decay": 0.2}, FALLING, "AdaBelief",
     {"eps": 1e-3, "eps_root": 1e-3, "weight_decay": 0.2}),
    ("timm", "AdaBelief", {"eps": 1e-3, "weight_decay": 0.2, "decoupled_decay": False, "rectify": False}, FALLING,
     "AdaBelief",
     {"eps": 1e-3, "eps_root": 1e-3, "weight_decay": 0.2, "weight_decay_mode": "l2", "rectify": False}),
    ("timm", "Adan", {}, FALLING, "Adan", {}),
    ("timm", "Adan", {"betas": (0.9, 0.7, 0.8), "eps": 0.1, "weight_decay": 0.2}, FALLING, "Adan",
     {"betas": (0.9, 0.7, 0.8), "eps": 0.1, "weight_decay": 0.2}),
    ("timm", "Adan", {"weight_decay": 0.2, "no_prox": True}, FALLING, "Adan",
     {"weight_decay": 0.2, "weight_decay_mode": "decoupled"}),
    ("optax", "lion", {"weight_decay": 0.2}, FALLING, "Lion", {"weight_decay": 0.2}),
    ("optax", "lion", {"b1": 0.7, "b2": 0.8, "weight_decay": 0.0}, FALLING, "Lion", {"betas": (0.7, 0.8)}),
    ("keras", "Lion", {"weight_decay": 0.2}, FALLING, "Lion", {"weight_decay": 0.2}),
    ("torch", "Rprop", {}, 0.1, "Rprop", {}),
    ("torch", "Rprop", {"etas": (0.2, 2.0), "step_sizes": (0.05, 0.3), "maximize": True}, 0.1, "Rprop",
     {"etas": (0.2, 2.0), "step_sizes": (0.05, 0.3), "maximize": True}),
    ("torch", "ASGD", {}, 0.1, "ASGD", {}),
    ("torch", "ASGD", {"lambd": 0.3, "alpha": 0.5, "t0": 4, "weight_decay": 0.2, "maximize": True}, 0.1, "ASGD",
     {"lambd": 0.3, "alpha": 0.5, "t0": 4, "weight_decay": 0.2, "maximize": True}),
    ("torch", "Adafactor", {}, FALLING, "Adafactor", {}),
    ("torch", "Adafactor", {}, 2.0, "Adafactor", {}),
    ("torch", "Adafactor",
     {"beta2_decay": -0.5, "eps": (0.5, 1.5), "d": 1.25, "weight_decay": 0.2, "maximize": True}, FALLING, "Adafactor",
     {"beta2_decay": -0.5, "eps": (0.5, 1.5), "d": 1.25, "weight_decay": 0.2, "maximize": True}),
    ("optax in float64", "adafactor", {"min_dim_size_to_factor": 1}, FALLING, "Adafactor", {"eps": (1e-15, 1e-3)}),
    ("optax in float64", "adafactor", {"factored": False, "weight_decay_rate": 0.02, "decay_rate": 0.5}, FALLING,
     "Adafactor",
     {"factored": False, "weight_decay": 0.02, "weight_decay_mode": "independent", "eps": (1e-15, 1e-3),
      "beta2_decay": -0.5}),
    ("keras in float64", "Adafactor", {"clip_threshold": 1.25}, FALLING, "Adafactor",
     {"d": 1.25, "eps": (1e-15, 1e-3)}),
    ("torch in float64", "Muon", {}, FALLING, "Muon", {}),
    ("torch in float64", "Muon", {"nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3, "momentum": 0.6,
     "ns_coefficients": (2.0, -1.5, 0.5), "eps": 5.0, "weight_decay": 0.3}, FALLING, "Muon",
     {"nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3, "momentum": 0.6,
      "ns_coefficients": (2.0, -1.5, 0.5), "eps": 5.0, "weight_decay": 0.3}),
    ("schedulefree", "SGDScheduleFree", {}, 0.1, "SGDScheduleFree", {}),
    ("schedulefree", "SGDScheduleFree", {"momentum": 0.6, "weight_decay": 0.2, "warmup_steps": 5, "r": 1.0}, FALLING,
     "SGDScheduleFree", {"momentum": 0.6, "weight_decay": 0.2, "warmup_steps": 5, "r": 1.0}),
    ("schedulefree", "AdamWScheduleFree", {}, 0.1, "AdamWScheduleFree", {}),
    ("schedulefree", "AdamWScheduleFree",
     {"betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.2, "warmup_steps": 5, "weight_lr_power": 1.0}, FALLING,
     "AdamWScheduleFree",
     {"betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.2, "warmup_steps": 5, "weight_lr_power": 1.0}),
    ("schedulefree in evaluation", "SGDScheduleFree", {"warmup_steps": 3}, 0.1, "SGDScheduleFree", {"warmup_steps": 3}),
    ("schedulefree in evaluation", "AdamWScheduleFree", {"betas": (0.7, 0.9), "weight_decay": 0.2}, FALLING,
     "AdamWScheduleFree", {"betas": (0.7, 0.9), "weight_decay": 0.2}),
]  # fmt: skip


@cache
def newton_schulz_in_float64():
    """PyTorch's own iteration without its rounding to bfloat16."""
    source, names = inspect.getsource(_muon._zeropower_via_newtonschulz), dict(vars(_muon))
    assert "grad.bfloat16()" in source
    exec(source.replace("grad.bfloat16()", "grad.clone()"), names)
    return names["_zeropower_via_newtonschulz"]


def run_torch(name, kwargs, rates, x0, grads):
    params = [torch.tensor(array, requires_grad=True) for array in split(x0)]
    if name == "Muon":  # for matrices, and the iteration in the type of the parameters
        params = [p.detach().reshape(len(p), -1).requires_grad_() for p in params]
        _muon._zeropower_via_newtonschulz = newton_schulz_in_float64()
    else:
        kwargs = {**kwargs, "foreach": False}
    optimizer = getattr(torch.optim, name)(params, lr=rates[0], **kwargs)
    for rate, g in zip(rates, grads, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for param, grad in zip(params, split(g), strict=True):
            param.grad = torch.tensor(grad).reshape(param.shape)
        optimizer.step()
        yield flat([param.detach() for param in params])


def run_optax_in_float64(*case):
    """optax's Adafactor takes its decay from a float32."""
    scale = optax.scale_by_factored_rms
    scale.__defaults__ = *scale.__defaults__[:-1], lambda i, exponent: 1 - (i + jax.numpy.float64(1)) ** -exponent
    return RUN["optax"](*case)


def run_keras_in_float64(*case):
    """Keras takes means in float32."""
    with mock.patch("keras.src.ops.mean", lambda x, *a, **k: jax.numpy.mean(jax.numpy.array(x), *a, **k)):
        yield from RUN["keras"](*case)


def run_schedulefree(name, kwargs, rates, x0, grads, evaluating=False):
    params = [torch.tensor(array, requires_grad=True) for array in split(x0)]
    optimizer = getattr(schedulefree, name)(params, foreach=False, **kwargs)
    optimizer.train()
    for rate, g in zip(rates, grads, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for param, grad in zip(params, split(g), strict=True):
            param.grad = torch.tensor(grad)
        optimizer.step()
        if evaluating:
            optimizer.eval()
        yield flat([param.detach() for param in params])
        optimizer.train()


RUN = {
    **RUN,
    "torch": run_torch,
    "torch in float64": run_torch,
    "optax in float64": run_optax_in_float64,
    "keras in float64": run_keras_in_float64,
    "schedulefree": run_schedulefree,
    "schedulefree in evaluation": partial(run_schedulefree, evaluating=True),
}


def main():
    rng = np.random.default_rng(2025)
    size = sum(int(np.prod(shape)) for shape in SHAPES)
    x0, grads = rng.standard_normal(size), rng.standard_normal((STEPS, size))
    trajectories = []
    for library, name, kwargs, lr, *_ in CASES:
        rates = lr if isinstance(lr, list) else [lr] * STEPS
        trajectories.append(list(RUN[library](name, kwargs, rates, x0, grads)))
    names = ("library", "optimizer", "kwargs", "lr", "here", "arguments")
    libraries = sorted({library.split()[0] for library, *_ in CASES} | {"jax"})
    np.savez_compressed(
        Path(__file__).with_name("recent_optimizers.npz"),
        versions=json.dumps({library: version(library) for library in libraries}),
        shapes=json.dumps(SHAPES),
        cases=json.dumps([dict(zip(names, case, strict=True)) for case in CASES]),
        x0=x0,
        grads=grads,
        trajectories=np.array(trajectories),
    )


if __name__ == "__main__":
    main()
