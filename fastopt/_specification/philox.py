"""The specification of the random numbers: Philox 4x32 with 10 rounds, as in ``csrc/kernels/dropout.inc``.

It turns a counter and a key into random bits, so that any number can be computed without those before it. On arrays
it is the NumPy reference; compiled by Numba, on scalars, the fallback.

J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import numpy as np

ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # the golden ratio and the square root of 3, less 1
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

# Element i of a mask belongs to group i // GROUP; words 0, 1, 2, 3 of the group's counters stand one after the other.
COUNTERS = 16
GROUP = 4 * COUNTERS


def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four random words from four words of counter and two of key, all of 32 bits, held in uint64."""
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> SHIFT) ^ c1 ^ k0, p1 & LOW, (p0 >> SHIFT) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def halves(word: int) -> tuple[np.uint64, np.uint64]:
    """The low and the high 32 bits of 64."""
    return np.uint64(word & 0xFFFFFFFF), np.uint64(word >> 32)
