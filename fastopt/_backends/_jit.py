"""How Numba compiles here."""

from typing import Any

import numba
from numba.extending import intrinsic

# error_model="numpy" divides as the hardware does; without fastmath nothing is reordered or contracted.
compiled: Any = numba.njit(error_model="numpy", nogil=True)


@compiled
def select(condition, x, y):  # np.where would make an array of every scalar
    return x if condition else y


@intrinsic
def _fma(typing_context, a, b, c):
    """a * b + c rounded once: the CPU's instruction where it has one."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, a, a), generate


fma: Any = _fma  # called without the context
