"""Matrix products, the specification: every element is one chain of fused multiply-adds (csrc/kernels/matmul.inc)."""

import math

import numpy as np

from .._specification import fma
from .._specification.order import ACTIVATIONS as FUSED
from .._specification.order import CHAIN
from ._numpy_elementwise import FUNCTIONS, bias_add
from .environment import isolated

# float64 factors and summands below, and products above, with which `fma.float64` is exact
_LARGE, _SMALL = 2.0**900, 2.0**-900


def _exactly(a: float, b: float, c: float) -> float:
    """a * b + c rounded once, of finite numbers of any size."""
    (a_above, a_below), (b_above, b_below), (c_above, c_below) = (x.as_integer_ratio() for x in (a, b, c))
    above = a_above * b_above * c_below + c_above * a_below * b_below
    if above == 0:
        return a * b + c  # both summands are exact, and the sign of zero follows theirs
    try:
        return above / (a_below * b_below * c_below)  # Python rounds the quotient of whole numbers once
    except OverflowError:
        return math.inf if above > 0 else -math.inf


def multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c rounded once, for numbers of any size, inf and NaN included; ``c`` has the shape of the result."""
    if c.dtype == np.float32:
        return fma.float32(a, b, c)
    result, rounded = fma.float64(a, b, c), a * b
    a, b = np.broadcast_to(a, c.shape), np.broadcast_to(b, c.shape)
    sizes = np.abs(a), np.abs(b), np.abs(c), np.abs(rounded)
    regular = (np.maximum.reduce(sizes) < _LARGE) & (sizes[3] > _SMALL)
    if not regular.all():
        zero, finite_factors = (a == 0) | (b == 0), np.isfinite(a) & np.isfinite(b)
        result = np.where(zero | ~finite_factors, rounded + c, result)  # the product is exact, inf or NaN
        result = np.where(finite_factors & ~np.isfinite(c), c, result)
        for i in zip(*np.nonzero(~regular & ~zero & finite_factors & np.isfinite(c)), strict=True):
            result[i] = _exactly(float(a[i]), float(b[i]), float(c[i]))
    return result


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b, of shapes (m, k) and (k, n); after CHAIN links a chain ends, and the chains are added in order."""
    result = np.zeros((len(a), b.shape[1]), a.dtype)
    for begin in range(0, len(b), CHAIN):
        chain = np.zeros_like(result)
        for k in range(begin, min(begin + CHAIN, len(b))):
            chain = multiply_add(a[:, k, None], b[None, k, :], chain)
        result = chain if begin == 0 else result + chain
    return result


def try_matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> bool:
    """Only the C core does this, without asking Python for what it needs to know."""
    return False


@isolated
def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> None:
    """out = activation(a b + bias), of matrices; ``out`` is C-contiguous and shares no memory with another."""
    out[...] = product(a, b)
    if bias is not None:
        bias_add(out, bias)
    if activation:
        FUNCTIONS[FUSED[activation]](out, out)
