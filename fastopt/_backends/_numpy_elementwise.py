"""Kernels that make each element of others in its place, the specification."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .._specification import transcendental
from .._specification.arithmetic import ARITHMETIC
from .._specification.kernels import ELEMENTWISE, UNARY
from . import memory as _memory
from .environment import isolated


def _elementwise(name):
    @isolated
    def function(*arrays: Any) -> None:
        arrays, number = arrays[:count], arrays[count:]
        *inputs, out = arrays
        _memory.check_written(out, *inputs)
        out[...] = getattr(transcendental.of(out.dtype.name), name)(*inputs, *map(out.dtype.type, number))

    count = 2 if name in UNARY else 3

    return function


# f(x, out) and f(x, y, out), and of some a number at the end; they raise ValueError, before anything is written, if out
# cannot be written to as it is, or overlaps a part of an input. So do the losses without weights for the elements, for
# dz, z and y.
FUNCTIONS = {name: _elementwise(name) for name in ELEMENTWISE}


@isolated
def bias_add(x: np.ndarray, bias: np.ndarray) -> None:
    """x += bias, row by row."""
    x += bias


def _with_bias(name: str) -> Callable[[np.ndarray, np.ndarray], None]:
    activate = FUNCTIONS[name]

    def biased(x: np.ndarray, bias: np.ndarray) -> None:
        """x = f(x + bias), row by row."""
        bias_add(x, bias)
        activate(x, x)

    return biased


bias_sigmoid, bias_tanh, bias_relu = map(_with_bias, ("sigmoid", "tanh", "relu"))


@isolated
def scale_rows(x: np.ndarray, weight: np.ndarray) -> None:
    """Every row of ``x`` times its weight."""
    np.multiply(x, weight.reshape(-1, *(1,) * (x.ndim - 1)), out=x)


@isolated
def highway(h: np.ndarray, t: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """y = h t + x (1 - t)."""
    y[...] = h * t + x * (x.dtype.type(1) - t)


@isolated
def highway_backward(
    dy: np.ndarray, h: np.ndarray, t: np.ndarray, x: np.ndarray, dh: np.ndarray, dt: np.ndarray, dx: np.ndarray
) -> None:
    """dt = (h - x) dy, dx = dy (1 - t), dh = dy t."""
    dt[...] = (h - x) * dy
    dx[...] = dy * (x.dtype.type(1) - t)
    dh[...] = dy * t


_OPERATIONS = tuple(ARITHMETIC.values())


@isolated
def arithmetic(a: np.ndarray, b: np.ndarray | None, out: np.ndarray, operation: int) -> None:
    """out = the operation of this number on the elements of ``a`` and, unless it is None, ``b``, with broadcasting."""
    out[...] = _OPERATIONS[operation](a) if b is None else _OPERATIONS[operation](a, b)
