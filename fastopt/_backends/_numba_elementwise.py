"""Kernels of the Numba fallback that make each element of others in its place."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .._specification import transcendental
from .._specification.kernels import ELEMENTWISE, NUMBERED, UNARY
from . import memory as _memory
from ._jit import compiled, fma, kept, select
from .environment import isolated


@cache
def _loop(name, dtype):
    """The loop that applies a function of one or two arrays to every element."""
    function = getattr(transcendental.of(dtype, compiled, select, fma), name)

    def unary(x, out):
        for i in range(out.size):
            out[i] = function(x[i])

    def binary(x, y, out):
        for i in range(out.size):
            out[i] = function(x[i], y[i])

    def unary_with(x, out, number):
        for i in range(out.size):
            out[i] = function(x[i], number)

    def binary_with(x, y, out, number):
        for i in range(out.size):
            out[i] = function(x[i], y[i], number)

    forms = (unary_with, binary_with) if name in NUMBERED else (unary, binary)
    return kept(f"{name}_{dtype}")(forms[name not in UNARY])


def _elementwise(name):
    @isolated
    def function(*arrays: Any) -> None:
        arrays, number = arrays[:count], arrays[count:]
        *inputs, out = arrays
        _memory.check_written(out, *inputs)
        _loop(name, out.dtype.name)(*(array.reshape(-1) for array in arrays), *map(out.dtype.type, number))

    count = 2 if name in UNARY else 3

    return function


FUNCTIONS = {name: _elementwise(name) for name in ELEMENTWISE}


@kept("bias_add")
def _bias_add(x, bias):
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            x[row, column] += bias[column]


@isolated
def bias_add(x: np.ndarray, bias: np.ndarray) -> None:
    _bias_add(x, bias)


def _with_bias(name: str) -> Callable[[np.ndarray, np.ndarray], None]:
    activate = FUNCTIONS[name]

    def biased(x: np.ndarray, bias: np.ndarray) -> None:
        """x = f(x + bias), row by row."""
        bias_add(x, bias)
        activate(x, x)

    return biased


bias_sigmoid, bias_tanh, bias_relu = map(_with_bias, ("sigmoid", "tanh", "relu"))
