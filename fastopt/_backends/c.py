"""The C core, through cffi."""

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._core import ffi, lib

_address = ffi.from_buffer
_DTYPE = {np.dtype(np.float32): lib.FASTOPT_FLOAT32, np.dtype(np.float64): lib.FASTOPT_FLOAT64}


class Plan:
    """A table in C of all tensors of an optimizer, filled once; a step then crosses into C once."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[np.ndarray],
        states: Sequence[Sequence[np.ndarray]],
        groups: Sequence[int],
    ):
        self._arrays = list(params), list(states)  # C points into these
        self.grads = list(params)
        self._tensors = ffi.new("fastopt_tensor[]", len(params))
        self._groups = ffi.new("fastopt_group[]", len(rules))
        self._plan = ffi.new(
            "fastopt_plan *",
            {"tensors": self._tensors, "groups": self._groups, "count": len(params), "group_count": len(rules)},
        )
        for tensor, param, state, group in zip(self._tensors, params, states, groups, strict=True):
            tensor.param = tensor.grad = _address(param)
            tensor.state[0 : len(state)] = [_address(s) for s in state]
            tensor.size = param.size
            tensor.grad_factor = tensor.trust_ratio = 1.0
            tensor.dtype = _DTYPE[param.dtype]
            tensor.group = group
        self._write = []  # per group, a function that writes its scalars
        for group, name in zip(self._groups, rules, strict=True):
            group.rule = lib.fastopt_rule_index(name.encode())
            layout = struct.Struct(f"{lib.fastopt_rule_scalars(group.rule)}d")
            self._write.append(partial(layout.pack_into, ffi.buffer(group.scalars), 0))
        lib.fastopt_plan_blocks(self._plan)
        self._block_sums = ffi.new("double[]", 2 * self._plan.blocks)
        self._plan.block_sums = self._block_sums
        self._square_sums = ffi.new("double[]", len(params))

    def bind(self, i: int, grad: np.ndarray) -> None:
        self.grads[i] = grad
        self._tensors[i].grad = _address(grad)

    @property
    def grad_factors(self) -> list[float]:
        return [tensor.grad_factor for tensor in self._tensors]

    @grad_factors.setter
    def grad_factors(self, factors: Sequence[float]) -> None:
        for tensor, factor in zip(self._tensors, factors, strict=True):
            tensor.grad_factor = factor

    @property
    def trust_ratios(self) -> list[float]:
        return [tensor.trust_ratio for tensor in self._tensors]

    def update(self, scalars: Sequence[tuple[float, ...]], check_finite: bool) -> bool:
        for write, values in zip(self._write, scalars, strict=True):
            write(*values)
        return not lib.fastopt_update(self._plan, check_finite)

    def grad_square_sums(self) -> list[float]:
        lib.fastopt_grad_square_sums(self._plan, self._square_sums)
        return list(self._square_sums)


def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    return bool(lib.fastopt_any_nonfinite(_DTYPE[x.dtype], _address(x), x.size, scale))


def square_sum(x: np.ndarray) -> float:
    return lib.fastopt_square_sum(_DTYPE[x.dtype], _address(x), x.size)


def exp(x: np.ndarray, out: np.ndarray) -> None:
    lib.fastopt_exp(_DTYPE[x.dtype], _address(x), _address(out), x.size)


def log1p_unit(x: np.ndarray, out: np.ndarray) -> None:
    lib.fastopt_log1p_unit(_DTYPE[x.dtype], _address(x), _address(out), x.size)


def sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    lib.fastopt_sigmoid(_DTYPE[x.dtype], _address(x), _address(out), x.size)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    lib.fastopt_sigmoid_backward(_DTYPE[y.dtype], _address(dy), _address(y), _address(out), y.size)


def bias_add(x: np.ndarray, bias: np.ndarray) -> None:
    lib.fastopt_bias_add(_DTYPE[x.dtype], _address(x), _address(bias), *x.shape)


def bias_sigmoid(x: np.ndarray, bias: np.ndarray) -> None:
    lib.fastopt_bias_sigmoid(_DTYPE[x.dtype], _address(x), _address(bias), *x.shape)


def column_sums(x: np.ndarray, out: np.ndarray) -> None:
    lib.fastopt_column_sums(_DTYPE[x.dtype], _address(x), _address(out), *x.shape)


def logistic_loss(z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float) -> float:
    each = ffi.NULL if losses is None else _address(losses)
    return lib.fastopt_logistic_loss(_DTYPE[z.dtype], _address(z), _address(y), each, _address(dz), z.size, scale)


_BY_ROWS = {"bias_add", "bias_sigmoid", "column_sums"}


def bind(kernel: str, *arguments: Any) -> Callable[[], Any]:
    first = arguments[0]
    pointers = [ffi.NULL if a is None else _address(a) for a in arguments if a is None or isinstance(a, np.ndarray)]
    sizes = first.shape if kernel in _BY_ROWS else (first.size,)
    scalars = arguments[len(pointers) :]
    return partial(getattr(lib, f"fastopt_{kernel}"), _DTYPE[first.dtype], *pointers, *sizes, *scalars)
