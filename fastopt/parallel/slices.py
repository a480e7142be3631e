"""The optimizer's step in slices: each process updates its own, with the state of it."""

import math

import numpy as np

from .._backends.numpy import NO_NORM
from .._checks import positive
from .._specification import clipping
from .._specification.clipping import MODERATE, norm_and_factors
from .._specification.order import BLOCK, in_order
from ..optim import Optimizer
from ..optim.bound import BoundStep
from ..optim.clip import clip_limit
from ..optim.slices import Slice, can_be_sliced, complete_state
from ..training.shards import Layout, Shards
from ..training.updates import Clipping, Update


class SlicedStep:
    """A step in which every process updates its slice, and all are then told the parameters.

    Of the state's arrays, which lie in whole with every process, each writes to its slice alone: what is never written
    to takes no memory. `gather` completes them; the optimizer itself calls it where that matters.

    A slice consists of whole blocks of tensors, whose sums are exchanged and added in the order of the blocks: so
    norms, clipping and trust ratios have the bits of a step by one process. Where a step may have to be refused, or is
    not certain to stay finite, all of it is done by ``whole`` instead, in every process alike.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        shards: Shards,
        whole: Update,
        bound: BoundStep,
        on_nonfinite: str,
        clipping: Clipping,
    ):
        self._optimizer, self._shards, self._company = optimizer, shards, shards.company
        self._whole, self._bound, self._clipping = whole, bound, clipping
        self._limit = math.inf if clipping["clip_value"] is None else positive("clip_value", clipping["clip_value"])
        self._check = None if on_nonfinite == "ignore" else True
        self.lock = bound.lock
        rank, offsets = shards.company.rank, shards.layout.offsets
        self._begins = shards.begins
        first, last = self._begins[rank : rank + 2]
        self._own = Slice(optimizer, shards.total, offsets, first, last, self.gather)
        # every tensor's blocks, and those that each process's slice begins with
        counts = [-(-param.size // BLOCK) for param in self._own.params]
        ends = np.cumsum(counts).tolist()
        self._blocks = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        starts = [offset + k * BLOCK for offset, count in zip(offsets, counts, strict=True) for k in range(count)]
        self._first_blocks = [int(n) for n in np.searchsorted(starts, self._begins)]
        self._sums = {each: np.zeros((len(starts), each)) for each in (1, 2)}
        of_params = Layout.of(self._own.params)
        self._in_place = of_params.whole if of_params.offsets == offsets else None  # all parameters in a row

    def check(self) -> None:
        """Refuse arrays that were replaced, or changed in place."""
        self._own.check()

    @property
    def is_current(self) -> bool:
        """Whether the optimizer has not, in between, done a step of other parameters."""
        return self._own.is_current

    def __call__(self, grad_scale: float = 1.0) -> bool:
        """A step; whether it was done."""
        own = self._own
        if not own.is_current:
            raise RuntimeError("the optimizer was given other parameters, or gradients of others, in between")
        with self.lock:
            scale, norm, factors = self._clipped(grad_scale)
            scalars = own.scalars(scale, self._limit)
            check = self._check and (norm == NO_NORM or norm >= MODERATE)
            refuses = self._check is not None and not norm < math.inf
            fits = not refuses and own.look(scalars, check, factors)
            if self._company.vote("what a step looks at", not fits):
                return self._in_whole(grad_scale)
            self._company.committed = True
            own.spread()
            if own.adapts:
                own.take_sums(scalars, self._all(own.measure(scalars, check, factors)))
            own.finish(scalars, check, factors, norm)
            self._tell_parameters()
            self._company.committed = False
            self._bound.then()
            return True

    def _clipped(self, grad_scale: float) -> tuple[float, float, list[float] | None]:
        """What scales all gradients, their norm, and what multiplies each."""
        limits = self._clipping
        clip_norm, per_tensor, eps = limits["clip_norm"], limits["clip_norm_per_tensor"], limits["clip_eps"] or 0.0
        if clip_norm is None and per_tensor is None:
            return grad_scale, NO_NORM, None
        self._company.committed = True
        sums = self._all(self._own.grad_square_sums())[:, 0].tolist()
        self._company.committed = False
        clip, most = clip_limit(clip_norm, per_tensor)
        norm, factors = norm_and_factors(sums, grad_scale, clip, most, eps)
        whole = clip == clipping.ALL and norm == norm  # all factors are the same number
        return (grad_scale * factors[0], norm, None) if whole else (grad_scale, norm, factors)

    def _all(self, mine: np.ndarray) -> np.ndarray:
        """Of every tensor the sums of its blocks, of all processes, added in order, from the sums of this one's."""
        each = mine.shape[1]
        table, (first, last) = self._sums[each], self._first_blocks[self._company.rank :][:2]
        table[first:last] = mine
        self._company.share([(table, [each * n for n in self._first_blocks])])
        columns = [table[:, k].tolist() for k in range(each)]
        return np.array([[in_order(column[of]) for column in columns] for of in self._blocks])

    def _tell_parameters(self) -> None:
        if self._in_place is not None:
            self._company.share([(self._in_place, self._begins)])
        else:
            self._exchange(self._own.params)

    def _exchange(self, arrays: list[np.ndarray]) -> None:
        """Fill arrays of the parameters' sizes, of which every process has its slice."""
        vector = np.zeros_like(self._shards.total)
        places = self._shards.layout.pieces(vector, arrays)
        for i, part in self._own.parts.items():
            places[i][part] = arrays[i][part]
        self._company.share([(vector, self._begins)])
        for array, place in zip(arrays, places, strict=True):
            array[...] = place

    def gather(self) -> None:
        """Complete the state, in all processes: they all have to call it."""
        self._company.meet("the optimizer's state")
        self._company.committed = True
        states, nothing = self._own.states(), np.zeros(0, self._shards.total.dtype)
        for k in range(max(map(len, states))):  # an array of every parameter at a time
            self._exchange([of[k] if k < len(of) else nothing for of in states])
        self._company.committed = False
        self._own.gathered()

    def _in_whole(self, grad_scale: float) -> bool:
        complete_state(self._optimizer)
        self._company.committed = True
        self._company.share([(self._shards.total, self._begins)])
        self._company.committed = False
        self._bound.check()
        self._own.look_again()
        return self._whole(grad_scale)


def sliced(
    optimizer: Optimizer, shards: Shards, whole: Update, bound: BoundStep, on_nonfinite: str, clipping: Clipping
) -> SlicedStep | None:
    """The step in slices, if the optimizer's can be cut so, in all processes."""
    if shards.company.vote("who can step in slices", not can_be_sliced(optimizer)):
        return None
    return SlicedStep(optimizer, shards, whole, bound, on_nonfinite, clipping)
