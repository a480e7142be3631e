"""The maps of 8 bits as C has them: tables, and lines, which fit into registers (`fastopt_codes` in fastopt.h)."""

from functools import cache
from typing import Any

import numpy as np

from .._interface import ffi, lib
from .._specification.state_formats import LIMITS, MAPS, SIGNED, decades


def _buckets(limits: np.ndarray) -> np.ndarray:
    """How many limits lie below each upper half of a float, and the lower half of the one that lies in it."""
    bits = limits.view(np.uint32)
    of_limit, low = (bits >> 16).astype(np.int64) - lib.FASTOPT_FIRST_BUCKET, bits & 0xFFFF
    upper = np.full(lib.FASTOPT_BUCKETS, 0xFFFF, np.uint32)
    upper[of_limit] = low  # each in a bucket of its own
    below = np.searchsorted(of_limit, np.arange(lib.FASTOPT_BUCKETS), side="left").astype(np.uint32)
    return below << 16 | upper


def _lines(kind: int) -> dict[str, Any]:
    """By the lowest bits of an exponent, from codes to numbers and from magnitudes to places."""
    first = 1 if kind == SIGNED else 2
    factor, offset = (
        (2.0**-10, -127 * 2.0**-10) if kind == SIGNED else (1.0, 1.0)
    )  # no two decades, nor 0, share 4 bits
    lines = decades(first)
    slopes, starts = np.zeros(16), np.zeros(16)
    for line in lines[1:]:
        entry = int(np.float32((line.first + first - 1) * factor).view(np.uint32) >> 23) & 15
        slopes[entry], starts[entry] = float(line.slope) / factor, line.start
    per_size, start, most, to_next = (np.zeros(32) for _ in range(4))
    borders = LIMITS[kind][[line.first - 1 for line in lines[1:]]]
    for exponent in range(104, 128):
        i, smallest = exponent & 31, 2.0 ** (exponent - 127)
        k = int((borders < smallest).sum())
        line = lines[k]
        if k < len(borders) and borders[k] < 2 * smallest:
            to_next[i] = 2**23 - 1 - int(borders[k].view(np.uint32) & 0x7FFFFF)
        most[i] = 2**16 * (line.first + line.parts - 0.5)
        per_size[i] = 2**16 / float(line.slope) if line.slope else 0
        start[i] = 2**16 * (1.5 - first) - float(line.start) * per_size[i] if line.slope else most[i]
    return {
        "factor": factor, "offset": offset, "slopes": slopes.tolist(), "starts": starts.tolist(),
        "per_size": per_size.tolist(), "from": start.tolist(), "most": most.tolist(),
        "to_next": to_next.astype(int).tolist(),
    }  # fmt: skip


def _decades(kind: int) -> dict[str, Any]:
    """The same by decades, of which number 0 is that of 0 and of 1: their lines, and where they end."""
    first = 1 if kind == SIGNED else 2
    factor, offset = (2.0**-6, -127 * 2.0**-6) if kind == SIGNED else (2.0**-7, 2.0**-7)
    *lines, one = decades(first)
    slopes, starts, per_size, start, most = (np.zeros(8) for _ in range(5))
    slopes[0] = np.float32(1 / (2 - max(offset, 0)))  # 1 is that of the line's point 2, and 0 that of offset or 0
    starts[0] = -max(offset, 0) * slopes[0]
    per_size[0], start[0], most[0] = one.first << 16, 2**15, 2.0**30
    for decade, line in enumerate(lines[1:], 1):
        slopes[decade], starts[decade] = float(line.slope) / factor, line.start
        per_size[decade] = 2**16 / float(line.slope)
        start[decade] = 2**16 * (1.5 - first) - float(line.start) * per_size[decade]
        most[decade] = 2**16 * (line.first + line.parts - 0.5)
    borders = LIMITS[kind][[line.first - 1 for line in (*lines[1:], one)]]
    return {
        "factor": factor, "offset": offset, "slopes": slopes.tolist(), "starts": starts.tolist(),
        "per_size": per_size.tolist(), "from": start.tolist(), "most": most.tolist(),
        "borders": borders.view(np.uint32).tolist(),
    }  # fmt: skip


@cache
def codes(kind: int) -> Any:
    """The map of this kind."""
    made = ffi.new("fastopt_codes *", {"zero": 127 if kind == SIGNED else 0, **_lines(kind), "narrow": _decades(kind)})
    np.frombuffer(ffi.buffer(made.numbers), np.float32)[:] = MAPS[kind]
    np.frombuffer(ffi.buffer(made.buckets), np.uint32)[:] = _buckets(LIMITS[kind])
    return made
