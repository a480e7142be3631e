"""How Numba compiles here."""

from typing import Any

import numba

# error_model="numpy" divides as the hardware does; without fastmath nothing is reordered or contracted.
compiled: Any = numba.njit(error_model="numpy", nogil=True)


@compiled
def select(condition, x, y):  # np.where would make an array of every scalar
    return x if condition else y
