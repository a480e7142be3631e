"""Records other_libraries.npz: what optax, scikit-learn, Keras and timm do in float64 (see README.md).

python tests/golden/record_other_libraries.py, where all four are installed. Every case says how the library's
optimizer is called and how fastopt's is, for the same results.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"

import jax
import keras
import numpy as np
import optax
import timm.optim
import torch
from sklearn.neural_network import _stochastic_optimizers as sklearn

keras.config.set_floatx("float64")

STEPS = 15
SHAPES = [(4, 3), (5,), (2, 2, 2), (1,)]
FALLING = [0.1 / (1 + 0.2 * t) for t in range(STEPS)]

# library, its optimizer, its arguments, the learning rate (one, or one per step), fastopt's optimizer, its arguments
CASES = [
    ("optax", "sgd", {}, FALLING, "SGD", {}),
    ("optax", "sgd", {"momentum": 0.9}, FALLING, "SGD", {"momentum": 0.9}),
    ("optax", "sgd", {"momentum": 0.9, "nesterov": True}, FALLING, "SGD", {"momentum": 0.9, "nesterov": True}),
    ("optax", "adam", {"eps": 1e-3}, FALLING, "Adam", {"eps": 1e-3}),
    ("optax", "adam", {"eps": 0.0, "eps_root": 1e-3}, FALLING, "Adam", {"eps": 0.0, "eps_root": 1e-3}),
    ("optax", "adamw", {"eps_root": 1e-3, "weight_decay": 0.1}, FALLING, "AdamW",
     {"eps_root": 1e-3, "weight_decay": 0.1}),
    ("optax", "amsgrad", {"b2": 0.8}, FALLING, "Adam", {"betas": (0.9, 0.8), "amsgrad": "corrected"}),
    ("optax", "nadam", {}, FALLING, "NAdam", {"momentum_decay": None}),
    ("optax", "nadamw", {"eps_root": 1e-3, "weight_decay": 0.1}, FALLING, "NAdam",
     {"momentum_decay": None, "eps_root": 1e-3, "weight_decay": 0.1, "weight_decay_mode": "decoupled"}),
    ("optax", "rmsprop", {"eps": 1e-3}, FALLING, "RMSprop", {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-3}),
    ("optax", "rmsprop", {"eps_in_sqrt": False}, FALLING, "RMSprop", {"alpha": 0.9}),
    ("optax", "rmsprop", {"initial_scale": 1.0}, FALLING, "RMSprop",
     {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-8, "initial_square_avg": 1.0}),
    ("optax", "rmsprop", {"centered": True, "eps": 1e-3}, FALLING, "RMSprop",
     {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-3, "centered": True}),
    ("optax", "rmsprop", {"momentum": 0.8, "nesterov": True}, 0.1, "RMSprop",
     {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-8, "momentum": 0.8, "nesterov": True}),
    ("optax", "rmsprop", {"centered": True, "momentum": 0.8, "nesterov": True, "eps": 1e-3}, 0.1, "RMSprop",
     {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-3, "centered": True, "momentum": 0.8, "nesterov": True}),
    ("optax", "adagrad", {}, FALLING, "Adagrad", {"initial_accumulator_value": 0.1, "eps": 0.0, "eps_root": 1e-7}),
    ("optax", "adadelta", {"weight_decay": 0.1}, FALLING, "Adadelta", {"weight_decay": 0.1}),
    ("optax", "lars", {"weight_decay": 0.1}, 0.5, "LARS", {"weight_decay": 0.1, "denominator": "sum"}),
    ("optax", "lars", {"weight_decay": 0.1, "nesterov": True, "trust_coefficient": 0.1, "eps": 0.5}, 0.5, "LARS",
     {"weight_decay": 0.1, "denominator": "sum", "nesterov": True, "trust_coefficient": 0.1, "eps": 0.5}),
    ("optax", "lamb", {}, FALLING, "LAMB", {"weight_decay": 0.0, "trust_clip": None}),
    ("optax", "lamb", {"weight_decay": 0.1, "eps_root": 1e-3}, FALLING, "LAMB",
     {"weight_decay": 0.1, "eps_root": 1e-3, "trust_clip": None}),
    ("scikit-learn", "SGDOptimizer", {"nesterov": False}, FALLING, "SGD", {"momentum": 0.9, "lr_in_buffer": True}),
    ("scikit-learn", "SGDOptimizer", {}, FALLING, "SGD", {"momentum": 0.9, "nesterov": True, "lr_in_buffer": True}),
    ("scikit-learn", "AdamOptimizer", {"epsilon": 1e-3}, 0.1, "Adam", {"eps": 1e-3, "eps_hat": True}),
    ("keras", "SGD", {"momentum": 0.9}, FALLING, "SGD", {"momentum": 0.9, "lr_in_buffer": True}),
    ("keras", "SGD", {"momentum": 0.9, "nesterov": True}, FALLING, "SGD",
     {"momentum": 0.9, "nesterov": True, "lr_in_buffer": True}),
    ("keras", "Adagrad", {}, FALLING, "Adagrad", {"initial_accumulator_value": 0.1, "eps": 0.0, "eps_root": 1e-7}),
    ("keras", "Adadelta", {}, FALLING, "Adadelta", {"rho": 0.95, "eps": 1e-7}),
    ("keras", "RMSprop", {"centered": True, "epsilon": 1e-3}, FALLING, "RMSprop",
     {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-3, "centered": True}),
    ("keras", "RMSprop", {"momentum": 0.8}, 0.1, "RMSprop",
     {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-7, "momentum": 0.8}),
    ("keras", "Adam", {"epsilon": 1e-3}, FALLING, "Adam", {"eps": 1e-3, "eps_hat": True}),
    ("keras", "Adam", {"epsilon": 1e-3, "amsgrad": True, "beta_2": 0.8}, FALLING, "Adam",
     {"betas": (0.9, 0.8), "eps": 1e-3, "eps_hat": True, "amsgrad": True}),
    ("keras", "AdamW", {"epsilon": 1e-3, "weight_decay": 0.1}, FALLING, "AdamW",
     {"eps": 1e-3, "eps_hat": True, "weight_decay": 0.1}),
    ("keras", "Nadam", {}, FALLING, "NAdam", {"eps": 1e-7, "momentum_decay": 1.0}),
    ("keras", "Lamb", {"weight_decay": 0.1}, FALLING, "LAMB",
     {"eps": 1e-7, "weight_decay": 0.1, "weight_decay_mode": "decoupled", "trust_clip": None}),
    ("timm", "RMSpropTF", {"alpha": 0.95, "eps": 1e-3}, FALLING, "RMSprop",
     {"alpha": 0.95, "eps": 0.0, "eps_root": 1e-3, "initial_square_avg": 1.0}),
    ("timm", "RMSpropTF", {"momentum": 0.8, "lr_in_momentum": False, "centered": True}, FALLING, "RMSprop",
     {"alpha": 0.9, "eps": 0.0, "eps_root": 1e-10, "initial_square_avg": 1.0, "momentum": 0.8, "centered": True}),
    ("timm", "Lars", {"momentum": 0.9, "weight_decay": 0.1}, FALLING, "LARS", {"weight_decay": 0.1, "eps": 1e-8}),
    ("timm", "Lars", {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True, "trust_coeff": 0.1, "trust_clip": True},
     FALLING, "LARS",
     {"weight_decay": 0.1, "eps": 1e-8, "nesterov": True, "trust_coefficient": 0.1, "trust_clip": True}),
    ("timm", "Lars", {"momentum": 0.9, "dampening": 0.3, "always_adapt": True}, FALLING, "LARS",
     {"dampening": 0.3, "eps": 1e-8}),
    ("timm", "Lars", {"momentum": 0.9}, FALLING, "LARS", {"eps": 1e-8, "always_adapt": False}),
    ("timm", "Lamb", {"max_grad_norm": None}, FALLING, "LAMB", {"trust_clip": None}),
    ("timm", "Lamb", {"max_grad_norm": None, "weight_decay": 0.0}, FALLING, "LAMB",
     {"weight_decay": 0.0, "always_adapt": False}),
    ("timm", "Lamb", {"max_grad_norm": None, "trust_clip": True, "weight_decay": 0.1}, FALLING, "LAMB",
     {"trust_clip": 1.0, "weight_decay": 0.1}),
    ("timm", "Lamb", {"max_grad_norm": None, "bias_correction": False, "grad_averaging": False}, FALLING, "LAMB",
     {"bias_correction": False, "grad_averaging": False, "trust_clip": None}),
    ("timm", "Lamb", {"max_grad_norm": None, "decoupled_decay": True, "weight_decay": 0.1}, FALLING, "LAMB",
     {"weight_decay_mode": "decoupled", "weight_decay": 0.1, "trust_clip": None}),
]  # fmt: skip


def split(flat):
    ends = np.cumsum([np.prod(shape) for shape in SHAPES])
    return [part.reshape(shape).copy() for part, shape in zip(np.split(flat, ends[:-1]), SHAPES, strict=True)]


def flat(arrays):
    return np.concatenate([np.asarray(array).reshape(-1) for array in arrays])


def run_optax(name, kwargs, rates, x0, grads):
    optimizer = getattr(optax, name)(lambda count: jax.numpy.asarray(rates)[count], **kwargs)
    params = split(x0)
    state = optimizer.init(params)
    for g in grads:
        updates, state = optimizer.update(split(g), state, params)
        params = optax.apply_updates(params, updates)
        yield flat(params)


def run_sklearn(name, kwargs, rates, x0, grads):
    params = split(x0)
    optimizer = getattr(sklearn, name)(params, rates[0], **kwargs)
    for rate, g in zip(rates, grads, strict=True):
        optimizer.learning_rate = rate
        optimizer.update_params(params, split(g))
        yield flat(params)


def run_keras(name, kwargs, rates, x0, grads):
    params = [keras.Variable(array) for array in split(x0)]
    optimizer = getattr(keras.optimizers, name)(**kwargs)
    for rate, g in zip(rates, grads, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply_gradients(zip(map(jax.numpy.asarray, split(g)), params, strict=True))
        yield flat(params)


def run_timm(name, kwargs, rates, x0, grads):
    params = [torch.tensor(array, requires_grad=True) for array in split(x0)]
    optimizer = getattr(timm.optim, name)(params, foreach=False, **kwargs)
    for rate, g in zip(rates, grads, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for param, grad in zip(params, split(g), strict=True):
            param.grad = torch.tensor(grad)
        optimizer.step()
        yield flat([param.detach() for param in params])


RUN = {"optax": run_optax, "scikit-learn": run_sklearn, "keras": run_keras, "timm": run_timm}


def main():
    rng = np.random.default_rng(2024)
    size = sum(int(np.prod(shape)) for shape in SHAPES)
    x0, grads = rng.standard_normal(size), rng.standard_normal((STEPS, size))
    trajectories = []
    for library, name, kwargs, lr, *_ in CASES:
        rates = lr if isinstance(lr, list) else [lr] * STEPS
        trajectories.append(list(RUN[library](name, kwargs, rates, x0, grads)))
    names = ("library", "optimizer", "kwargs", "lr", "here", "arguments")
    np.savez_compressed(
        Path(__file__).with_name("other_libraries.npz"),
        versions=json.dumps({library: version(library) for library in (*RUN, "jax", "torch")}),
        shapes=json.dumps(SHAPES),
        cases=json.dumps([dict(zip(names, case, strict=True)) for case in CASES]),
        x0=x0,
        grads=grads,
        trajectories=np.array(trajectories),
    )


if __name__ == "__main__":
    main()
