"""The optimizer's step on a slice of all parameters: each process has the state of its own."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _backends
from .._backends.numpy import NO_NORM
from .._checks import positive
from .._pins import HEADER
from .._specification import clipping
from .._specification.clipping import MODERATE, norm_and_factors
from .._specification.order import BLOCK, in_order
from .._specification.rules import RULES, trust_ratio
from ..optim import Optimizer
from ..optim.bound import BoundStep
from ..optim.clip import clip_limit
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
        self.lock = optimizer._lock
        self._plan = plan = optimizer._plan
        rank, offsets = shards.company.rank, shards.layout.offsets
        params = [param.reshape(-1) for param in optimizer._plain]
        self._begins = shards.begins
        first, last = self._begins[rank : rank + 2]
        self._parts = {}  # of the tensors that the slice meets, which part is in it
        for i, (offset, param) in enumerate(zip(offsets, params, strict=True)):
            begin, end = max(first - offset, 0), min(last - offset, param.size)
            if begin < end:
                self._parts[i] = slice(begin, end)
        states: list[list[np.ndarray]] = [[s.reshape(-1) for s in of] for of in optimizer._states]  # type: ignore[union-attr]
        groups = plan._of_tensors
        self._own = _backends.active.Plan(
            plan._names,
            [params[i][part] for i, part in self._parts.items()],
            [[state[part] for state in states[i]] for i, part in self._parts.items()],
            [groups[i] for i in self._parts],
            optimizer._counts,
        )
        self._own.bind_all([shards.total[offsets[i] :][part] for i, part in self._parts.items()])
        self._groups = groups
        # every tensor's blocks, and those that each process's slice begins with
        counts = [-(-param.size // BLOCK) for param in params]
        ends = np.cumsum(counts).tolist()
        self._blocks = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        starts = [offset + k * BLOCK for offset, count in zip(offsets, counts, strict=True) for k in range(count)]
        self._first_blocks = [int(n) for n in np.searchsorted(starts, self._begins)]
        self._sums = {each: np.zeros((len(starts), each)) for each in (1, 2)}
        of_params = Layout.of(optimizer._plain)
        if of_params.whole is not None and of_params.offsets == offsets:
            self._in_place: np.ndarray | None = of_params.whole
        else:
            self._in_place = None
        self._params, self._gather = params, self.gather

    def check(self) -> None:
        """Refuse arrays that were replaced, or changed in place."""
        self._optimizer._look_for_changes(tuple(self._optimizer._arrays_now()))

    @property
    def is_current(self) -> bool:
        """Whether the optimizer has not, in between, done a step of other parameters."""
        return self._optimizer._plan is self._plan

    def __call__(self, grad_scale: float = 1.0) -> bool:
        """A step; whether it was done."""
        optimizer, own = self._optimizer, self._own
        if not self.is_current:
            raise RuntimeError("the optimizer was given other parameters, or gradients of others, in between")
        with self.lock:
            scale, norm, factors = self._clipped(grad_scale)
            scalars = optimizer._scalars(optimizer._done(0), scale, self._limit)
            check = self._check and (norm == NO_NORM or norm >= MODERATE)
            refuses = self._check is not None and not norm < math.inf
            each = None if factors is None else [factors[i] for i in self._parts]
            fits = not refuses and own.piecewise("LOOK", scalars, check, each)
            if self._company.vote("what a step looks at", not fits):
                return self._in_whole(grad_scale)
            self._company.committed = True
            if optimizer._spread is not self._gather:
                optimizer._complete_state()  # of other slices
                optimizer._spread, optimizer._copies = self._gather, True
            self._measure(scalars, check, each)
            own.piecewise("FINISH", scalars, check, each)
            self._plan.grad_norm = norm
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
        self._own.grad_square_sums()
        sums = self._all(1)[:, 0].tolist()
        self._company.committed = False
        clip, most = clip_limit(clip_norm, per_tensor)
        norm, factors = norm_and_factors(sums, grad_scale, clip, most, eps)
        whole = clip == clipping.ALL and norm == norm  # all factors are the same number
        return (grad_scale * factors[0], norm, None) if whole else (grad_scale, norm, factors)

    def _all(self, each: int) -> np.ndarray:
        """Of every tensor the sums of its blocks, of all processes, added in order."""
        table, (first, last) = self._sums[each], self._first_blocks[self._company.rank :][:2]
        table[first:last] = self._own.block_sums(each)
        self._company.share([(table, [each * n for n in self._first_blocks])])
        columns = [table[:, k].tolist() for k in range(each)]
        return np.array([[in_order(column[of]) for column in columns] for of in self._blocks])

    def _measure(self, scalars: list[tuple[float, ...]], check: bool | None, factors: list[float] | None) -> None:
        rules = [RULES[name] for name in self._plan._names]
        if all(rule.direction is None for rule in rules):
            return
        if self._parts:
            self._own.piecewise("MEASURE", scalars, check, factors)
        ratios = []
        for i, sums in enumerate(self._all(2)):
            rule, values = rules[self._groups[i]], scalars[self._groups[i]]
            ratio = 1.0
            if rule.direction is not None:
                exact = rule.scalars(*values)
                most = float(np.finfo(self._params[i].dtype).max)
                ratio = trust_ratio(
                    exact._replace(trust_cap=min(exact.trust_cap, most)), *map(math.sqrt, sums.tolist())
                )
            ratios.append(ratio)
        self._plan.trust_ratios = ratios
        self._own.trust_ratios = [ratios[i] for i in self._parts]

    def _tell_parameters(self) -> None:
        if self._in_place is not None:
            self._company.share([(self._in_place, self._begins)])
        else:
            self._exchange(self._params)

    def _exchange(self, arrays: list[np.ndarray]) -> None:
        """Fill arrays of the parameters' sizes, of which every process has its slice."""
        vector = np.zeros_like(self._shards.total)
        places = self._shards.layout.pieces(vector, arrays)
        for i, part in self._parts.items():
            places[i][part] = arrays[i][part]
        self._company.share([(vector, self._begins)])
        for array, place in zip(arrays, places, strict=True):
            array[...] = place

    def gather(self) -> None:
        """Complete the state, in all processes: they all have to call it."""
        optimizer = self._optimizer
        self._company.meet("the optimizer's state")
        self._company.committed = True
        for arrays in self._exchanged():
            self._exchange(arrays)
        self._company.committed = False
        optimizer._spread = None
        optimizer._plan.look_again()
        self._own.look_again()

    def _exchanged(self) -> list[list[np.ndarray]]:
        """The state's arrays, one of every parameter at a time."""
        states: list[list[np.ndarray]] = [[s.reshape(-1) for s in of] for of in self._optimizer._states]  # type: ignore[union-attr]
        nothing = np.zeros(0, self._shards.total.dtype)
        most = max(map(len, states))
        return [[of[k] if k < len(of) else nothing for of in states] for k in range(most)]

    def _in_whole(self, grad_scale: float) -> bool:
        optimizer = self._optimizer
        optimizer._complete_state()
        self._company.committed = True
        self._company.share([(self._shards.total, self._begins)])
        self._company.committed = False
        self._bound.check()
        optimizer._plan.look_again()
        self._own.look_again()
        return self._whole(grad_scale)


def sliced(
    optimizer: Optimizer, shards: Shards, whole: Update, bound: BoundStep, on_nonfinite: str, clipping: Clipping
) -> SlicedStep | None:
    """The step in slices, if the optimizer's is made of elements and of sums of blocks, in all processes."""
    plain: list[Callable[[], Any]] = [getattr(optimizer, name) for name in ("step", "eval", "train")]
    suits = (
        getattr(_backends.active.Plan, "piecewise", None) is not None
        and bool(HEADER)
        and all(getattr(f, "__func__", None) is getattr(Optimizer, f.__name__) for f in plain)
        and not any(RULES[name].of_tensor for name in optimizer._plan._names)
        and all(
            isinstance(state, np.ndarray) and (state.shape, state.dtype) == (param.shape, param.dtype)
            for param, of in zip(optimizer._plain, optimizer._states, strict=True)
            for state in of
        )
        and len(optimizer._plan.tensors) == len(optimizer._plain)
    )
    if shards.company.vote("who can step in slices", not suits):
        return None
    return SlicedStep(optimizer, shards, whole, bound, on_nonfinite, clipping)
