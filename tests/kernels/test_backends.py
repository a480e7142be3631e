"""The backends are interchangeable: the same public names, parameters and defaults."""

import inspect

import numpy as np
import pytest
from helpers import BACKENDS, HAVE_C

from fastopt import _backends

PLAN = ("__init__", "pin", "bind", "bind_all", "update", "grad_square_sums")
SHARED = ".order", ".environment", "._jit"
# Steps of the reference that are no part of what a backend offers, and what programs are made of.
OWN = {
    "dropout_of_layer",
    "arrays_of",
    "codes_of_all",
    "decoded",
    "layout",
    "numbers",
    "row_and_column_square_sums",
    "update_of_tensor",
    "Instruction",
    "Moving",
    "Program",
    "Stopped",
    "Call",
    "of_step",
    "Runs",
}
ANY_ARRAYS = [("arrays", inspect.Parameter.empty)]  # f(*arrays): inputs first, then out


def interface(name):
    """The functions and methods of a backend, with the names and defaults of their parameters."""
    module = _backends.load(name)
    found = {f"Plan.{method}": getattr(module.Plan, method) for method in PLAN}
    for key, value in vars(module).items():
        home = getattr(value, "__module__", None) or ""
        defined_here = home.startswith("fastopt._backends") and not home.endswith(SHARED)
        if not key.startswith("_") and key not in OWN and key != "Plan" and callable(value) and defined_here:
            found[key] = getattr(value, "py_func", value)
    return {
        key: [(p.name, p.default) for p in inspect.signature(function).parameters.values()]
        for key, function in found.items()
    }


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "numpy"])
def test_same_names_parameters_and_defaults(name):
    reference, other = interface("numpy"), interface(name)
    assert set(other) == set(reference)
    for key, signature in reference.items():
        assert other[key] == signature or ANY_ARRAYS in (other[key], signature), key


@pytest.mark.parametrize("name", BACKENDS)
def test_plans_have_the_same_attributes(name):
    plan = _backends.load(name).Plan(["sgd"], [np.ones(3)], [()], [0])
    assert len(plan.grads) == len(plan.trust_ratios) == 1
    assert plan.update([(1.0, np.inf, 0.0, 1.0, 0.5)], True, [0.5], 3.0)
    assert plan.counts.tolist() == [1, 0]
    assert plan.grad_norm == 3.0


@pytest.mark.parametrize("name", BACKENDS)
def test_set_backend(name):
    _backends.set_backend(name)
    assert _backends.get_backend() == name
    assert _backends.reason == "set_backend"


def test_an_unknown_backend_is_refused_and_the_old_one_kept():
    before = _backends.get_backend()
    with pytest.raises(ValueError, match="no backend 'cuda', only 'c', 'numba', 'numpy'"):
        _backends.set_backend("cuda")
    assert _backends.get_backend() == before


@pytest.mark.skipif(HAVE_C, reason="this installation has a C core")
def test_without_a_core_the_c_backend_says_why():
    with pytest.raises(ImportError, match="installed without a working C compiler"):
        _backends.set_backend("c")
