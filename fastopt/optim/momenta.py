"""NAdam's momenta and their product, from nothing but the number of the step."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .hyperparameters import Group

GONE = 2.0**-54  # of a product: 1 minus it is 1
_BLOCK = 65536


def mu(beta1: float, decay: float | None, t: int) -> float:
    """The momentum of step ``t``, counted from 1."""
    return beta1 if decay is None else beta1 * (1.0 - 0.5 * 0.96 ** (t * decay))


class OfGroups:
    """Something for every group of an optimizer, and for each number of steps that parameters of it have missed."""

    def __init__(self, kind: Callable[[Group], Any]):
        self._kind = kind
        self._found: dict[tuple[int, int], Any] = {}

    def of(self, group: Group, missed: int) -> Any:
        found = self._found.pop((id(group), missed), None) or self._kind(group)
        while len(self._found) >= 4096:
            del self._found[next(iter(self._found))]
        self._found[id(group), missed] = found
        return found


class Momenta:
    """The product of all momenta of a group up to a step.

    It goes on from the step it was last asked for. What it answers is the same as if it began at the first step.
    """

    def __init__(self, group: Group):
        self._group = group
        self._reached: tuple[Any, ...] = (None, None, 0, np.float32(1), 1.0, None)

    def product(self, t: int) -> float:
        """That of the first ``t``; less than `GONE` may stand for any other such number."""
        group = self._group
        betas, decay = group["betas"], group["momentum_decay"]
        scheduled = callable(betas) or callable(decay)
        if decay is None and not scheduled:
            return betas[0] ** t
        *of, done, rounded, exact, settled = self._reached
        if of[0] is not betas or of[1] is not decay or done > t:
            done, rounded, exact, settled = 0, np.float32(1), 1.0, None
        while done < t and settled is None and max(rounded, exact) >= GONE:
            done += 1
            if scheduled:
                now = mu(group.one_at("betas", done - 1)[0], group.one_at("momentum_decay", done - 1), done)
            else:
                now = mu(betas[0], decay, done)
                settled = done if now == betas[0] else None  # all further ones are the same number
            now = now if now > GONE else 0.0  # no underflow, which np.errstate may raise
            rounded, exact = rounded * np.float32(now), exact * now
        if settled is not None and done < t:
            rounded, done = _times(rounded, np.float32(betas[0]), t - done), t
        self._reached = betas, decay, done, rounded, exact, settled
        if settled is not None:
            exact *= betas[0] ** (t - settled)
        # Momenta that round to 1 would leave 1 - 1 to divide by.
        return float(rounded) if group["mu_product"] == "float32" and rounded < 1 else exact


def _times(product: np.float32, factor: np.float32, count: int) -> np.float32:
    """A product multiplied by a factor so many times, and rounded every time."""
    while count and product >= GONE and product * factor != product:
        block = np.full(min(count, _BLOCK) + 1, factor)
        block[0] = product
        count -= len(block) - 1
        with np.errstate(all="ignore"):
            product = np.multiply.accumulate(block)[-1]
    return product
