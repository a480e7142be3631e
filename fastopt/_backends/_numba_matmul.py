"""Matrix products of the Numba fallback."""

import numpy as np

from .._specification.order import ACTIVATIONS, CHAIN
from ._jit import fma, kept
from ._numba_elementwise import FUNCTIONS, bias_add
from .environment import isolated
from .memory import readable


@kept("product")
def _product(a, b, out):
    """out = a b, all C-contiguous; along a row of b the multiply-adds are independent, and so fill vectors."""
    columns = b.shape[1]
    chain = np.empty(columns, out.dtype)
    for i in range(a.shape[0]):
        result = out[i]
        result[:] = 0
        for begin in range(0, a.shape[1], CHAIN):
            sums = result if begin == 0 else chain
            sums[:] = 0
            for k in range(begin, min(begin + CHAIN, a.shape[1])):
                factor, row = a[i, k], b[k]
                for j in range(columns):
                    sums[j] = fma(factor, row[j], sums[j])
            if begin > 0:
                for j in range(columns):
                    result[j] += chain[j]


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if b.shape[1] == 1 < len(a):  # a column's sums do not fill vectors: the row of the transposes' product does
        return product(b.T, a.T).T
    out = np.empty((len(a), b.shape[1]), a.dtype)
    _product(readable(a), readable(b), out)
    return out


@isolated
def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> None:
    out[...] = product(a, b)
    if bias is not None:
        bias_add(out, bias)
    if activation:
        FUNCTIONS[ACTIVATIONS[activation]](out, out)
