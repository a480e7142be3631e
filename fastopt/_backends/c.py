"""The C core, through cffi."""

# ruff: noqa: F401  a backend has all functions by their names, wherever they are written

import struct
from array import array
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from .._interface import ffi, lib
from .._pins import HEADER, ITEMS, Pins, fit
from .._specification.kernels import KERNELS
from .._specification.rules import RULES, SQUARES, Overflow, refuse_scalars, scalar_limits
from .._specification.state_formats import Stored, codes_of
from . import _c_kernels
from . import numpy as reference
from ._c_arrays import DTYPES, NULL, address
from ._c_codes import codes as _codes
from ._c_kernels import (
    any_nonfinite,
    argmax,
    batch_norm_scratch,
    count_labels,
    layer_norm_scratch,
    square_sum,
    try_matmul,
)
from ._c_program import Instruction, Program, bind, bind_average, bind_gather
from .numpy import NO_NORM, store_sum

# The kernels have their names in the table, csrc/kernels/kernels.def.
globals().update((name, getattr(_c_kernels, name)) for name in KERNELS)

_update, _MOVED = lib.fastopt_update, lib.FASTOPT_MOVED
_NO_PINS = ffi.new("fastopt_pin *")
Objects = tuple[Any, ...] | None


def _storage(tensor: Any, param: np.ndarray | Stored, states: Sequence[np.ndarray | Stored]) -> Any:
    """Tells C how a tensor's arrays are stored, if not all as they are; to be kept alive."""
    stored = [s for s in (param, *states) if isinstance(s, Stored)]
    if not stored:
        return None
    table = ffi.new("fastopt_storage[]", lib.FASTOPT_STORED)
    for i, state in ((lib.FASTOPT_OF_PARAM, param), *enumerate(states)):
        if isinstance(state, Stored):
            entry = table[i]
            entry.stochastic = state.seed is not None
            entry.seed, entry.before = state.seed or 0, state.before
            entry.format = lib.FASTOPT_BFLOAT16 if state.scales is None else lib.FASTOPT_8BIT
            if state.scales is not None:
                entry.scales, entry.map = ffi.from_buffer("float[]", state.scales), _codes(state.kind)
            if state.rest is not None:
                entry.rest = ffi.from_buffer("uint16_t[]", state.rest)
    tensor.storage, tensor.position = table, stored[0].position
    return table


class Plan:
    """A table in C of all tensors of an optimizer, filled once; a step then crosses into C once."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[np.ndarray | Stored],
        states: Sequence[Sequence[np.ndarray | Stored]],
        groups: Sequence[int],
        counts: np.ndarray | None = None,
    ):
        self.counts = np.zeros(2, np.int64) if counts is None else counts
        self._names, self.group_of_tensor = list(rules), list(groups)
        self._arrays = list(params), list(states)
        self._tensors = ffi.new("fastopt_tensor[]", len(params))
        self._groups = ffi.new("fastopt_group[]", len(rules))
        self._plan = ffi.new(
            "fastopt_plan *",
            {"tensors": self._tensors, "groups": self._groups, "count": len(params), "group_count": len(rules)},
        )
        codes = reference.codes_of_all(params)
        for tensor, param, state, group in zip(self._tensors, codes, states, groups, strict=True):
            tensor.param = tensor.grad = address(param)
            tensor.state[0 : len(state)] = [address(s.codes if isinstance(s, Stored) else s) for s in state]
            tensor.state_size[0 : len(state)] = [s.size for s in state]
            tensor.size, (tensor.rows, tensor.columns) = param.size, (1, 1, *param.shape)[-2:]
            tensor.trust_ratio = 1.0
            tensor.dtype = DTYPES.get(param.dtype, lib.FASTOPT_FLOAT32)
            tensor.group = group
        self._storage = list(map(_storage, self._tensors, params, states))
        self._of_bfloat16 = [i for i, param in enumerate(params) if isinstance(param, Stored)]
        self._write = []  # per group, a function that writes its scalars
        for group, name in zip(self._groups, rules, strict=True):
            rule, fields = RULES[name], RULES[name].scalars._fields
            group.rule = lib.fastopt_rule_index(name.encode())
            group.smallest[0 : len(fields)], group.largest[0 : len(fields)] = scalar_limits(rule)
            places = (fields.index(n) if n in fields else -1 for n in ("eps", "eps_root", "decay"))
            group.eps, group.eps_root, group.decay = places
            group.squares = sum(1 << k for k, key in enumerate(rule.states) if key in SQUARES)
            layout = struct.Struct(f"{lib.fastopt_rule_scalars(group.rule)}d")
            self._write.append(partial(layout.pack_into, ffi.buffer(group.scalars), 0))
        lib.fastopt_plan_blocks(self._plan)
        self._block_sums = ffi.new("double[]", 2 * self._plan.blocks)
        self._plan.block_sums = self._block_sums
        self._scratch = ffi.new("char[]", lib.fastopt_plan_scratch(self._plan))
        self._plan.scratch = self._scratch
        self._square_sums = ffi.new("double[]", len(params))
        self._plan.step_count = ffi.from_buffer("int64_t[]", self.counts)
        self._plan.grad_norm = NO_NORM
        self._plan.header = HEADER
        self._own_states = reference.arrays_of(states)
        self.pin(codes)
        self.bind_all(codes)

    def pin(self, params: Sequence[np.ndarray]) -> None:
        """Take parameters and states as they now are; gradients are to be bound after that."""
        self._plan.given = NULL
        self.own = Pins([*params, *self._own_states])

    def bind(self, i: int, grad: np.ndarray) -> None:
        self.bind_all([grad if k == i else before for k, before in enumerate(self.grads)])

    def bind_all(self, grads: Sequence[np.ndarray]) -> None:
        self._plan.given = NULL  # until all of them are bound
        self.grads = read = list(grads)
        self._given = Pins(grads)
        for i in self._of_bfloat16:
            read[i] = grad = codes_of(read[i])
            form = lib.FASTOPT_BFLOAT16 if grad.dtype == np.uint16 else lib.FASTOPT_PLAIN
            self._storage[i][lib.FASTOPT_OF_GRAD].format = form
        for tensor, grad in zip(self._tensors, read, strict=True):
            tensor.grad = address(grad)
        if HEADER:
            self._plan.own, self._plan.own_count = self.own.table, len(self.own.arrays)
        self._plan.given_count = len(self._given.arrays) if HEADER else 0
        self._plan.given = self._given.table if HEADER else _NO_PINS

    def fits(self, params: Objects, grads: Objects) -> bool:
        """Whether these are the arrays that are bound, and all are as they were; in a step, C looks for itself."""
        return self._plan.given != NULL and fit(self.own, self._given, params, grads)

    @property
    def grad_norm(self) -> float:
        return self._plan.grad_norm

    @grad_norm.setter
    def grad_norm(self, norm: float) -> None:
        self._plan.grad_norm = norm

    @property
    def trust_ratios(self) -> list[float]:
        return [tensor.trust_ratio for tensor in self._tensors]

    @trust_ratios.setter
    def trust_ratios(self, ratios: Sequence[float]) -> None:
        for tensor, ratio in zip(self._tensors, ratios, strict=True):
            tensor.trust_ratio = ratio

    def instruction(self) -> Any:
        if HEADER:
            return Instruction("step", [self._plan, self._square_sums], ())
        return reference.Plan.instruction(self)  # type: ignore[arg-type]

    def take_over(self, instruction: Any) -> None:
        if HEADER:
            instruction.replace([self._plan, self._square_sums])
        else:
            reference.Plan.take_over(self, instruction)  # type: ignore[arg-type]

    def prepare(self, scalars: Sequence[tuple[float, ...]]) -> None:
        self._plan.queued = 0  # what an exception may have left there
        self._next = scalars
        for group, values in enumerate(scalars):
            self._write[group](*values)

    def queue(self, steps: Sequence[Sequence[tuple[float, ...]]]) -> None:
        """Take these scalars in the next steps of `instruction`, one after the other; others are forgotten."""
        self._plan.queued = 0  # and so is their memory, from here on
        self._queue = array("d", chain.from_iterable(chain.from_iterable(steps)))
        self._plan.queue = ffi.from_buffer("double[]", self._queue)
        self._plan.queued = len(steps)

    def queued_norms(self, steps: int) -> list[float]:
        """`grad_norm` after each of the first steps that were queued, so many of which have been done."""
        scalars = sum(map(lib.fastopt_rule_scalars, [group.rule for group in self._groups]))
        return self._queue[: steps * scalars : scalars].tolist()

    def update(
        self,
        scalars: Sequence[tuple[float, ...]],
        check_finite: bool | None,
        factors: Sequence[float] | None = None,
        norm: float = NO_NORM,
        params: Objects = None,
        grads: Objects = None,
    ) -> bool | None:
        if not HEADER:
            if not self.fits(params, grads):
                return None
            params = grads = None
        self.prepare(scalars)
        # nobody may change a tuple, so C can read its objects
        own, given = id(params) + ITEMS if params else 0, id(grads) + ITEMS if grads else 0
        each = NULL if factors is None else factors
        answer = _update(self._plan, own, given, each, norm, check_finite is True, check_finite is None)
        if answer > _MOVED:
            self._refuse_overflow(answer, scalars, factors)
            answer = _update(self._plan, 0, 0, each, norm, 0, 1)
        return None if answer == _MOVED else not answer

    def piecewise(
        self,
        phase: str,
        scalars: Sequence[tuple[float, ...]],
        check_finite: bool | None,
        factors: Sequence[float] | None,
    ) -> bool:
        """A part of `update`, as fastopt.h says of phases: whether it went well, as the others do where "LOOK" did."""
        if phase == "LOOK":
            self.prepare(scalars)
        each = NULL if factors is None else factors
        self._plan.phase = getattr(lib, f"FASTOPT_{phase}")
        answer = _update(
            self._plan, 0, 0, each, NO_NORM, phase == "LOOK" and check_finite is True, check_finite is None
        )
        self._plan.phase = lib.FASTOPT_WHOLE
        return not answer

    def block_sums(self, each: int = 1) -> np.ndarray:
        """Those that the last call has left, so many for every block."""
        sums = np.frombuffer(ffi.buffer(self._block_sums))
        return sums[: each * self._plan.blocks].reshape(-1, each)

    def _refuse_overflow(
        self, answer: int, scalars: Sequence[tuple[float, ...]], factors: Sequence[float] | None
    ) -> None:
        """Find out what C was not certain of."""
        params, states = self._arrays
        if answer == lib.FASTOPT_BAD_SCALAR:
            dtypes = reference._dtypes_of_groups(params, self.group_of_tensor, len(self._names))
            with np.errstate(all="ignore"):
                for name, values, of_group in zip(self._names, scalars, dtypes, strict=True):
                    refuse_scalars(RULES[name], values, of_group)
        factors = [1.0] * len(params) if factors is None else factors
        scales = [scalars[group][0] * factor for group, factor in zip(self.group_of_tensor, factors, strict=True)]
        numbers = reference.decoded(params), reference.decoded(self.grads), list(map(reference.decoded, states))
        if reference._step_results(self._names, *numbers, self.group_of_tensor, scales, scalars) is None:
            raise Overflow

    def look_again(self) -> None:
        self._plan.ordinary = 0

    def grad_square_sums(self, params: Objects = None, grads: Objects = None) -> list[float] | None:
        if not HEADER:
            if not self.fits(params, grads):
                return None
            params = grads = None
        moved = lib.fastopt_grad_square_sums(
            self._plan,
            id(params) + ITEMS if params else 0,
            id(grads) + ITEMS if grads else 0,
            self._square_sums,
        )
        return None if moved else ffi.unpack(self._square_sums, len(self._square_sums))
