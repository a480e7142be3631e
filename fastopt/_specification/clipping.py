"""Clipping by norm: what multiplies each gradient, from the sums of their squares."""

import math
from collections.abc import Sequence

from .order import in_order

# By which norm (csrc/fastopt.h: FASTOPT_CLIP_).
NONE, ALL, EACH = range(3)
MODERATE = 2.0**39  # gradients of a smaller norm need not be looked at (rules.LARGE)


def clip_factor(limit: float, norm: float, eps: float) -> float:
    """min(1, limit / (norm + eps)); NaN if the norm is."""
    return 1.0 if norm + eps <= limit else limit / (norm + eps)


def norm_and_factors(
    sums: Sequence[float], scale: float, clip: int, limit: float, eps: float
) -> tuple[float, list[float]]:
    """The norm of all gradients together, and what clipping multiplies each of them by; all are scaled before."""
    norm = math.sqrt(in_order(sums)) * abs(scale)
    if clip == ALL:
        return norm, [clip_factor(limit, norm, eps)] * len(sums)
    return norm, [clip_factor(limit, math.sqrt(s) * abs(scale), eps) for s in sums]
