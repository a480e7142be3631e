"""The kernels of the core, one by one: every rule in the registry, and every function a backend offers.

A rule and a function of single elements get their cases from the registries; the others have theirs in `layers`. A
test fails if one has none.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import fastopt as fo
from fastopt import _backends
from fastopt._specification import transcendental
from fastopt._specification.kernels import KERNELS, NUMBERED
from fastopt._specification.rules import RULES

from . import layers
from .measure import FASTOPT, Case, Setup, Side, Spec, Sweep, fastopt_settings, returning
from .peers import torch_settings

# Parts of steps, which are timed with the steps; and kernels that are none of a program's.
PARTS = {"add", "add_up", "arithmetic", "copy", "dropout_backward", "dropout_forward", "gather_rows", "highway",
         "highway_backward", "move_average", "row_sums", "scale_rows", "store_sum"}  # fmt: skip
OTHERS = {"any_nonfinite", "count_labels", "square_sum"}


def kernels() -> set[str]:
    """The names of all kernels, which every backend has."""
    return (set(KERNELS) | OTHERS) - PARTS


def elementwise() -> dict[str, tuple[str, ...]]:
    """The kernels of single elements, and what they take."""
    formulas = transcendental.of("float32")
    found = {}
    for name in sorted(kernels() & vars(formulas).keys()):
        code = getattr(formulas, name).__code__
        takes = code.co_varnames[: code.co_argcount - (name in NUMBERED)]  # the number has a default
        if set(takes) <= {"x", "y", "dy"}:
            found[name] = takes
    return found


def specs(setup: Setup) -> Iterator[Spec]:
    for rule in (name for name, rule in RULES.items() if not rule.of_tensor):
        for dtype, size in _rule_sizes(setup):
            name = f"rule {rule}, {size:,} {dtype}"
            yield Spec("kernels", "rules", name, partial(_rule_case, rule, size, dtype, setup), (rule,))
    for kernel in elementwise():
        for shape in [(32, 100), (10**6,)] if setup.quick else [(16,), (32, 100), (100_000,), (10**6,), (16 * 10**6,)]:
            name = f"{kernel} {shape}"
            yield Spec("kernels", "elementwise", name, partial(_elementwise_case, kernel, shape, setup), (kernel,))
    yield from layers.specs(setup)


# ---- rules: the loops themselves, with made-up scalars -------------------------------------------------------------


def _rule_sizes(setup: Setup) -> list[tuple[str, int]]:
    if setup.quick:
        return [("float32", 10**5)]
    return [*(("float32", n) for n in (16, 4096, 10**5, 10**7)), ("float64", 10**5)]


def _rule_case(name: str, size: int, dtype: str, setup: Setup) -> Case:
    rule = RULES[name]
    fixed = {"grad_scale": 1.0, "clip_value": np.inf, "l2": 0.0, "keep": 1.0}
    scalars = rule.scalars(**{key: fixed.get(key, 0.5) for key in rule.scalars._fields})
    random = np.random.default_rng(0)
    start, grad = random.standard_normal((2, size))

    def plan(backend: Any, kind: str) -> tuple[Any, list[np.ndarray]]:
        arrays = [start.astype(kind), *(np.ones(size, kind) for _ in rule.states)]
        made = backend.Plan([name], [arrays[0]], [arrays[1:]], [0])
        made.bind(0, grad.astype(kind))
        return made, arrays

    ours, arrays = plan(_backends.active, dtype)

    def reference() -> list[np.ndarray]:
        exact, results = plan(_backends.load("numpy"), "float64")
        exact.update([tuple(scalars)], True)
        return results

    sides = [Side(FASTOPT, partial(ours.update, [tuple(scalars)], True), lambda: arrays, fastopt_settings(setup))]
    if "numpy" in setup.peers:
        sides.append(_formula_side(rule, scalars, start.astype(dtype), grad.astype(dtype)))
    bounds = {"bandwidth": [Sweep("update", [arrays[0], ours.grads[0], *arrays[1:]])]}
    return Case(size, sides, reference, bounds, facts={"dtype": dtype})


def _formula_side(rule: Any, scalars: Any, param: np.ndarray, grad: np.ndarray) -> Side:
    """The formula as the specification has it, on arrays: what a person would write in NumPy."""
    state = [param, *(np.ones_like(param) for _ in rule.states)]

    def call() -> None:
        p, *others = state
        if rule.direction is not None:
            rule.direction(scalars, p, grad, *others)
        state[:] = rule.update(scalars, p, grad, *others)

    return Side("numpy, plain", call, lambda: state, checked=rule.direction is None)


# ---- functions of single elements ----------------------------------------------------------------------------------


def _gelu_gate(x: np.ndarray) -> np.ndarray:
    """By which the tanh form of GELU multiplies."""
    return 1 / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _gelu_tanh_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    gate = _gelu_gate(x)
    return dy * gate * (1 + 2 * math.sqrt(2 / math.pi) * x * (1 + 3 * 0.044715 * x**2) * (1 - gate))


# As one would write them; in float64 they are the truth that the kernels are checked against.
# NumPy has no erf for GELU.
PLAIN: dict[str, Callable[..., np.ndarray]] = {
    "exp": np.exp,
    "log1p_unit": np.log1p,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sigmoid_backward": lambda dy, y: dy * y * (1 - y),
    "tanh": np.tanh,
    "tanh_backward": lambda dy, y: dy * (1 - y * y),
    "relu": lambda x: np.maximum(x, 0),
    "relu_backward": lambda dy, y: dy * (y > 0),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softplus_backward": lambda dy, x: dy / (1 + np.exp(-x)),
    "log_sigmoid": lambda x: -np.log1p(np.exp(-x)),
    "log_sigmoid_backward": lambda dy, x: dy / (1 + np.exp(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "silu_backward": lambda dy, x: dy / (1 + np.exp(-x)) * (1 + x / (1 + np.exp(x))),
    "gelu_tanh": lambda x: x * _gelu_gate(x),
    "gelu_tanh_backward": _gelu_tanh_backward,
    "leaky_relu": lambda x: np.maximum(x, 0) + 0.01 * np.minimum(x, 0),
    "leaky_relu_backward": lambda dy, x: dy * ((x > 0) + 0.01 * (x <= 0)),
    "elu": lambda x: np.maximum(x, 0) + np.expm1(np.minimum(x, 0)),
    "elu_backward": lambda dy, x: dy * np.exp(np.minimum(x, 0)),
}


def _sigmoid_in_place(x: np.ndarray, out: np.ndarray) -> None:
    np.negative(x, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.reciprocal(out, out)


def _sigmoid_backward_in_place(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    np.subtract(1, y, out)
    np.multiply(out, y, out)
    np.multiply(out, dy, out)


def _tanh_backward_in_place(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    np.multiply(y, y, out)
    np.subtract(1, out, out)
    np.multiply(out, dy, out)


def _softplus_backward_in_place(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    _sigmoid_in_place(x, out)
    np.multiply(out, dy, out)


def _log_sigmoid_in_place(x: np.ndarray, out: np.ndarray) -> None:
    np.negative(x, out)
    np.logaddexp(out, 0, out)
    np.negative(out, out)


def _log_sigmoid_backward_in_place(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    np.exp(x, out)
    np.add(out, 1, out)
    np.divide(dy, out, out)


def _silu_in_place(x: np.ndarray, out: np.ndarray) -> None:
    _sigmoid_in_place(x, out)
    np.multiply(out, x, out)


def _silu_backward_in_place(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    _sigmoid_in_place(x, out)
    np.multiply(out, 1 + x * (1 - out), out)
    np.multiply(out, dy, out)


IN_PLACE: dict[str, Callable[..., object]] = {
    "exp": np.exp,
    "log1p_unit": np.log1p,
    "sigmoid": _sigmoid_in_place,
    "sigmoid_backward": _sigmoid_backward_in_place,
    "tanh": np.tanh,
    "tanh_backward": _tanh_backward_in_place,
    "relu": lambda x, out: np.maximum(x, 0, out=out),
    "relu_backward": lambda dy, y, out: np.multiply(dy, y > 0, out),
    "softplus": lambda x, out: np.logaddexp(x, 0, out),
    "softplus_backward": _softplus_backward_in_place,
    "log_sigmoid": _log_sigmoid_in_place,
    "log_sigmoid_backward": _log_sigmoid_backward_in_place,
    "silu": _silu_in_place,
    "silu_backward": _silu_backward_in_place,
}


def _in_torch(torch: Any) -> dict[str, Callable[..., object]]:
    """PyTorch's own kernels, writing into a given tensor; that of log_sigmoid_backward wants more than x."""
    aten = torch.ops.aten
    return {
        "exp": lambda x, out: torch.exp(x, out=out),
        "log1p_unit": lambda x, out: torch.log1p(x, out=out),
        "sigmoid": lambda x, out: torch.sigmoid(x, out=out),
        "sigmoid_backward": lambda dy, y, out: aten.sigmoid_backward.grad_input(dy, y, grad_input=out),
        "tanh": lambda x, out: torch.tanh(x, out=out),
        "tanh_backward": lambda dy, y, out: aten.tanh_backward.grad_input(dy, y, grad_input=out),
        "relu": lambda x, out: torch.clamp_min(x, 0, out=out),
        "relu_backward": lambda dy, y, out: aten.threshold_backward.grad_input(dy, y, 0, grad_input=out),
        "softplus": lambda x, out: aten.softplus.out(x, 1, 20, out=out),
        "softplus_backward": lambda dy, x, out: aten.softplus_backward.grad_input(dy, x, 1, 20, grad_input=out),
        "log_sigmoid": lambda x, out: aten.log_sigmoid.out(x, out=out),
        "silu": lambda x, out: aten.silu.out(x, out=out),
        "silu_backward": lambda dy, x, out: aten.silu_backward.grad_input(dy, x, grad_input=out),
        "gelu": lambda x, out: aten.gelu.out(x, out=out),
        "gelu_backward": lambda dy, x, out: aten.gelu_backward.grad_input(dy, x, grad_input=out),
        "gelu_tanh": lambda x, out: aten.gelu.out(x, approximate="tanh", out=out),
        "gelu_tanh_backward": lambda dy, x, out: aten.gelu_backward.grad_input(
            dy, x, approximate="tanh", grad_input=out
        ),
        "leaky_relu": lambda x, out: aten.leaky_relu.out(x, 0.01, out=out),
        "leaky_relu_backward": lambda dy, x, out: aten.leaky_relu_backward.grad_input(
            dy, x, 0.01, False, grad_input=out
        ),
        "elu": lambda x, out: aten.elu.out(x, out=out),
        "elu_backward": lambda dy, x, out: aten.elu_backward.grad_input(dy, 1, 1, 1, False, x, grad_input=out),
    }


def _elementwise_case(name: str, shape: tuple[int, ...], setup: Setup) -> Case:
    random = np.random.default_rng(0)
    low, high = (0, 1) if name == "log1p_unit" else (-3, 3)  # log1p_unit is for [0, 1]
    inputs = [random.uniform(low, high, shape).astype(np.float32) for _ in elementwise()[name]]
    out = np.empty(shape, np.float32)
    function = getattr(fo, name, None) or getattr(_backends.active, name)

    def reference() -> list[np.ndarray]:
        exact = [x.astype(np.float64) for x in inputs]
        if name in PLAIN:
            return [PLAIN[name](*exact)]
        result = np.empty(shape)
        getattr(_backends.load("numpy"), name)(*exact, result)
        return [result]

    sides = [Side(FASTOPT, partial(function, *inputs, out), lambda: [out], fastopt_settings(setup))]
    if "numpy" in setup.peers and name in PLAIN:
        sides.append(returning("numpy, plain", lambda: [PLAIN[name](*inputs)]))
    if "numpy" in setup.peers and name in IN_PLACE:
        numpy_out = np.empty_like(out)
        sides.append(Side("numpy, in place", partial(IN_PLACE[name], *inputs, numpy_out), lambda: [numpy_out]))
    if "torch" in setup.peers and name in (in_torch := _in_torch(setup.peers["torch"])):
        tensors = [setup.peers["torch"].from_numpy(x) for x in (*inputs, np.empty_like(out))]
        sides.append(
            Side("torch", partial(in_torch[name], *tensors), lambda: [tensors[-1].numpy()], torch_settings(setup))
        )
    return Case(out.size, sides, reference, {"bandwidth": [Sweep("map", [*inputs, out])]})
