"""The C core, through cffi."""

import struct
from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Any

import numpy as np

from .._interface import ffi, lib
from .._pins import HEADER, ITEMS, Pins, fit
from .._specification.kernels import ELEMENTWISE, KERNELS, NUMBERED, OF_PAIRS, UNARY
from .._specification.rules import RULES, SQUARES, Overflow, refuse_scalars, scalar_limits
from .._specification.state_formats import LIMITS, MAPS, SIGNED, Stored
from . import memory as _memory
from . import numpy as reference
from .layout import layout
from .numpy import NO_NORM, store_sum  # noqa: F401
from .program import Moving, Stopped, of_step

_address, _WRITTEN, _NULL = ffi.from_buffer, ffi.typeof("char[]"), ffi.NULL
_update, _MOVED = lib.fastopt_update, lib.FASTOPT_MOVED
_DTYPE = {np.dtype(np.float32): lib.FASTOPT_FLOAT32, np.dtype(np.float64): lib.FASTOPT_FLOAT64}
_NO_PINS = ffi.new("fastopt_pin *")
Objects = tuple[Any, ...] | None


@cache
def _codes(kind: int) -> Any:
    """The map of 8 bits of this kind, as C has it."""
    limits = LIMITS[kind].view(np.uint32)
    of_limit, low = (limits >> 16).astype(np.int64) - lib.FASTOPT_FIRST_BUCKET, limits & 0xFFFF
    upper = np.full(lib.FASTOPT_BUCKETS, 0xFFFF, np.uint32)
    upper[of_limit] = low  # each in a bucket of its own
    below = np.searchsorted(of_limit, np.arange(lib.FASTOPT_BUCKETS), side="left").astype(np.uint32)
    codes = ffi.new("fastopt_codes *", {"zero": 127 if kind == SIGNED else 0})
    np.frombuffer(ffi.buffer(codes.numbers), np.float32)[:] = MAPS[kind]
    np.frombuffer(ffi.buffer(codes.buckets), np.uint32)[:] = below << 16 | upper
    return codes


def _storage(tensor: Any, states: Sequence[np.ndarray | Stored]) -> Any:
    """Tells C how the states of a tensor are stored, if not all as they are; to be kept alive."""
    stored = [s for s in states if isinstance(s, Stored)]
    if not stored:
        return None
    table = ffi.new("fastopt_storage[]", len(states))
    for entry, state in zip(table, states, strict=True):
        if isinstance(state, Stored):
            entry.stochastic = state.seed is not None
            entry.seed = state.seed or 0
            entry.format = lib.FASTOPT_BFLOAT16 if state.scales is None else lib.FASTOPT_8BIT
            if state.scales is not None:
                entry.scales, entry.map = ffi.from_buffer("float[]", state.scales), _codes(state.kind)
    tensor.storage, tensor.position = table, stored[0].position
    return table


class Plan:
    """A table in C of all tensors of an optimizer, filled once; a step then crosses into C once."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[np.ndarray],
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
        for tensor, param, state, group in zip(self._tensors, params, states, groups, strict=True):
            tensor.param = tensor.grad = _address(param)
            tensor.state[0 : len(state)] = [_address(s.codes if isinstance(s, Stored) else s) for s in state]
            tensor.state_size[0 : len(state)] = [s.codes.size if isinstance(s, Stored) else s.size for s in state]
            tensor.size, (tensor.rows, tensor.columns) = param.size, (1, 1, *param.shape)[-2:]
            tensor.trust_ratio = 1.0
            tensor.dtype = _DTYPE[param.dtype]
            tensor.group = group
        self._storage = [_storage(tensor, state) for tensor, state in zip(self._tensors, states, strict=True)]
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
        self.pin(params)
        self.bind_all(params)

    def pin(self, params: Sequence[np.ndarray]) -> None:
        """Take parameters and states as they now are; gradients are to be bound after that."""
        self._plan.given = _NULL
        self.own = Pins([*params, *self._own_states])

    def bind(self, i: int, grad: np.ndarray) -> None:
        self.bind_all([grad if k == i else before for k, before in enumerate(self.grads)])

    def bind_all(self, grads: Sequence[np.ndarray]) -> None:
        self._plan.given = _NULL  # until all of them are bound
        self.grads = list(grads)
        self._given = Pins(grads)
        for tensor, grad in zip(self._tensors, grads, strict=True):
            tensor.grad = _address(grad)
        if HEADER:
            self._plan.own, self._plan.own_count = self.own.table, len(self.own.arrays)
        self._plan.given_count = len(self._given.arrays) if HEADER else 0
        self._plan.given = self._given.table if HEADER else _NO_PINS

    def fits(self, params: Objects, grads: Objects) -> bool:
        """Whether these are the arrays that are bound, and all are as they were; in a step, C looks for itself."""
        return self._plan.given != _NULL and fit(self.own, self._given, params, grads)

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
        self._next = scalars
        for group, values in enumerate(scalars):
            self._write[group](*values)

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
        each = _NULL if factors is None else factors
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
        each = _NULL if factors is None else factors
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
        arrays = params, self.grads, list(map(reference.decoded, states)), self.group_of_tensor
        if reference._step_results(self._names, *arrays, scales, scalars) is None:
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


def any_nonfinite(x: np.ndarray, scale: float = 1.0) -> bool:
    return bool(lib.fastopt_any_nonfinite(_DTYPE[x.dtype], _address(x), x.size, scale))


def square_sum(x: np.ndarray) -> float:
    return lib.fastopt_square_sum(_DTYPE[x.dtype], _address(x), x.size)


# ---- kernels --------------------------------------------------------------------------------------


def _operand(x: np.ndarray) -> tuple[int, int]:
    """The strides of a matrix in elements, which has neighbours in memory along one of them."""
    (rows, columns), (row, column), item = x.shape, x.strides, x.itemsize
    if (row % item and rows > 1) or (column % item and columns > 1) or (item not in (row, column) and 1 not in x.shape):
        raise ValueError("neither rows nor columns lie in one piece")
    return row // item, column // item


def _first(x: np.ndarray) -> Any:
    """Where a matrix begins, however it lies."""
    flags = x.flags
    if flags.c_contiguous:
        return _address(x)
    return _address(x.T) if flags.f_contiguous else ffi.cast("char *", _memory.address(x))


def _pointer(x: Any) -> Any:
    """What an instruction holds for an array, or for what else C is to find."""
    if isinstance(x, np.ndarray):
        return ffi.cast("void *", _first(x))
    if isinstance(x, Instruction):
        return ffi.addressof(x.c, "result")
    return _NULL if x is None else ffi.cast("void *", x.table if isinstance(x, Pins) else x)


def _size(x: np.ndarray, *_: Any) -> tuple[int, ...]:
    return (x.size,)


def _shape(x: np.ndarray, *_: Any) -> tuple[int, ...]:
    return x.shape


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None) -> tuple[int, ...]:
    (rows, columns), inner = out.shape, a.shape[1]
    left = (inner, 1) if a.flags.c_contiguous else _operand(a)
    right = (columns, 1) if b.flags.c_contiguous else _operand(b)
    return rows, columns, inner, *left, *right


def _broadcast(a: np.ndarray, b: np.ndarray | None, out: np.ndarray) -> tuple[int, ...]:
    found = layout(a, b, out)
    if found is None:
        raise ValueError(f"arrays of shape {out.shape} do not lie as planes, rows and columns")
    return found


def _periods(
    z: np.ndarray, y: Any, weight: np.ndarray | None, pos_weight: np.ndarray | None, *_: Any
) -> tuple[int, ...]:
    return z.size, 1 if weight is None else weight.size, 1 if pos_weight is None else pos_weight.size


# The whole numbers that follow from the arrays, where they are not the size of the first.
_SIZES: dict[str, Callable[..., tuple[int, ...]]] = {
    **dict.fromkeys(
        ["batch_norm", "batch_norm_backward", "bias_add", "bias_relu", "bias_sigmoid", "bias_tanh", "column_sums",
         "layer_norm", "layer_norm_backward", "row_sums", "scale_rows", "softmax", "softmax_cross_entropy",
         "soft_cross_entropy"],
        _shape,
    ),
    "arithmetic": _broadcast,
    "copy": lambda x, *_: (x.nbytes,),
    "gather_rows": lambda X, rows, x: (*x.reshape(len(x), -1).shape, _DTYPE[X.dtype]),
    "matmul": _product,
    "move_average": lambda average, *_: (average.size,),
    "step": lambda *_: (),
    "pins_unchanged": lambda *_: (),
    "weighted_logistic_loss": _periods,
}  # fmt: skip


def _elementwise(name: str) -> Callable[..., None]:
    kernel = getattr(lib, f"fastopt_{name}")

    def unary(x: np.ndarray, out: np.ndarray) -> None:
        if kernel(_DTYPE[x.dtype], _address(x), _address(_WRITTEN, out, True), x.size):
            raise ValueError("out overlaps a part of an input")

    def binary(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        if kernel(_DTYPE[x.dtype], _address(x), _address(y), _address(_WRITTEN, out, True), x.size):
            raise ValueError("out overlaps a part of an input")

    def unary_with(x: np.ndarray, out: np.ndarray, number: float) -> None:
        if kernel(_DTYPE[x.dtype], _address(x), _address(_WRITTEN, out, True), x.size, number):
            raise ValueError("out overlaps a part of an input")

    def binary_with(x: np.ndarray, y: np.ndarray, out: np.ndarray, number: float) -> None:
        if kernel(_DTYPE[x.dtype], _address(x), _address(y), _address(_WRITTEN, out, True), x.size, number):
            raise ValueError("out overlaps a part of an input")

    forms = (unary_with, binary_with) if name in NUMBERED else (unary, binary)
    return wraps(getattr(reference, name))(forms[name not in UNARY])


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> None:
    (rows, columns), inner = out.shape, a.shape[1]
    left, a_row, a_k = (_address(a), inner, 1) if a.flags.c_contiguous else (_first(a), *_operand(a))
    right, b_k, b_column = (_address(b), columns, 1) if b.flags.c_contiguous else (_first(b), *_operand(b))
    to, added = _address(_WRITTEN, out, True), _NULL if bias is None else _address(bias)
    sizes = rows, columns, inner, a_row, a_k, b_k, b_column
    if _matmul(_DTYPE[out.dtype], left, right, to, added, *sizes, activation):
        raise ValueError("an array is not aligned")


def arithmetic(a: np.ndarray, b: np.ndarray | None, out: np.ndarray, operation: int) -> None:
    arrays = _pointer(a), _pointer(b), _pointer(out)
    lib.fastopt_arithmetic(_DTYPE[out.dtype], *arrays, *_broadcast(a, b, out), operation)


def dropout(x: np.ndarray, out: np.ndarray, position: int, seed: int, draw: int, threshold: int, scale: float) -> None:
    lib.fastopt_dropout(_DTYPE[x.dtype], _address(x), _address(out), x.size, position, seed, draw, threshold, scale)


_matmul = lib.fastopt_matmul


def try_matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> bool:
    """`matmul` of plain arrays, if C sees that they fit together and can be taken as they lie; else nothing is done."""
    if not HEADER:
        return False
    added = 0 if bias is None else id(bias) + HEADER
    return _matmul_arrays(_DTYPES, id(a) + HEADER, id(b) + HEADER, id(out) + HEADER, added, activation) == 1


_matmul_arrays = lib.fastopt_matmul_arrays
_DTYPES = ffi.new("fastopt_dtypes *", [id(dtype) for dtype in _DTYPE])


def _loss(name: str) -> Callable[..., float]:
    kernel = getattr(lib, f"fastopt_{name}")

    def loss(
        z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float, *number: float
    ) -> float:
        each, to = _NULL if losses is None else _address(losses), _address(_WRITTEN, dz, True)
        total = kernel(_DTYPE[z.dtype], _address(z), _address(y), each, to, z.size, scale, *number)
        if total != total:  # of NaN, or refused
            _memory.check_written(dz, z, y)
        return total

    return wraps(getattr(reference, name))(loss)


def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    ignore_index: int,
    scale: float,
    total_weight: float,
    smoothing: float,
) -> float:
    total = _softmax_cross_entropy(
        _DTYPE[z.dtype],
        _address(z),
        _address(_LABELS, labels),
        _NULL if weight is None else _address(weight),
        _NULL if losses is None else _address(losses),
        _address(_WRITTEN, dz, True),
        *z.shape,
        ignore_index,
        scale,
        total_weight,
        smoothing,
    )
    if total != total:  # of NaN, or refused
        _memory.check_written(dz, z)
    return total


_softmax_cross_entropy, _LABELS = lib.fastopt_softmax_cross_entropy, ffi.typeof("int64_t[]")


def softmax(x: np.ndarray, out: np.ndarray) -> None:
    if lib.fastopt_softmax(_DTYPE[x.dtype], _address(x), _address(_WRITTEN, out, True), *x.shape):
        raise ValueError("out overlaps a part of an input, or an array is not aligned")


def count_labels(labels: np.ndarray, classes: int, ignore_index: int) -> int:
    return lib.fastopt_count_labels(_address("int64_t[]", labels), labels.size, classes, ignore_index)


def batch_norm_scratch(outer: int, channels: int, inner: int) -> int:
    return lib.fastopt_batch_norm_scratch(outer, channels, inner)


def layer_norm_scratch(rows: int, columns: int) -> int:
    return lib.fastopt_layer_norm_scratch(rows, columns)


def _real(kernel: str, arrays: Sequence[Any]) -> int:
    """The number of the type that a kernel works in: that of its first array, but for rows that are converted."""
    return _DTYPE.get(getattr(arrays[2 if kernel == "gather_rows" else 0], "dtype", None), 0)


def _wrapper(kernel: str) -> Callable[..., Any]:
    """A call of the kernel: its arrays, then its scalars."""
    function, sizes = getattr(lib, f"fastopt_{kernel}"), _SIZES.get(kernel, _size)
    items = [argument.item for argument in ffi.typeof(function).args if argument.kind == "pointer"]
    types = [ffi.typeof("char[]" if item.kind == "void" else f"{item.cname}[]") for item in items]
    count, typed = len(types), 2 if kernel == "gather_rows" else 0

    def call(*arguments: Any) -> Any:
        arrays = arguments[:count]
        pointers = [_NULL if x is None else _address(kind, x) for kind, x in zip(types, arrays)]  # noqa: B905  in less time
        return function(_DTYPE.get(arrays[typed].dtype, 0), *pointers, *sizes(*arrays), *arguments[count:])

    return wraps(getattr(reference, kernel))(call)


# A function for every kernel of the table: its arrays, then its scalars.
for _kernel in KERNELS:
    if _kernel in ELEMENTWISE:
        globals()[_kernel] = _elementwise(_kernel)
    elif _kernel in OF_PAIRS:
        globals()[_kernel] = _loss(_kernel)
    elif _kernel not in globals():
        globals()[_kernel] = _wrapper(_kernel)


@cache
def _form(kernel: str) -> tuple[int, int, Callable[..., tuple[int, ...]], dict[int, tuple[Callable[..., None], int]]]:
    """Of a kernel its number, how many arrays it takes, and their sizes; by how many these are, what packs scalars."""
    index = lib.fastopt_kernel_index(kernel.encode())
    whole, reals = lib.fastopt_kernel_whole(index), lib.fastopt_kernel_reals(index)
    unused, begin = 8 * (lib.FASTOPT_MAX_WHOLE - whole), ffi.offsetof("fastopt_instruction", "whole")
    packs = {n: (struct.Struct(f"{whole - n}q{unused}x{reals}d").pack_into, begin + 8 * n) for n in range(whole + 1)}
    return index, lib.fastopt_kernel_arrays(index), _SIZES.get(kernel, _size), packs


class Instruction:
    """A kernel of the core with its arrays and scalars."""

    __slots__ = ("_arrays", "_pack", "_table", "c", "moving")

    def __init__(self, kernel: str, arrays: Sequence[Any], scalars: Sequence[Any]):
        index, count, sizes_of, packs = _form(kernel)
        if len(arrays) != count:
            raise ValueError(f"{kernel} takes {count} arrays, not {len(arrays)}")
        given = [of_step(array) for array in arrays]
        self._arrays = arrays  # they are not to be collected
        self.c = c = ffi.new("fastopt_instruction *")
        c.kernel, c.dtype = index, _real(kernel, given)
        c.array[0:count] = pointers = [_pointer(x) for x in given]
        self.moving = [
            (c, pointers[k], array.array.strides[0], k) for k, array in enumerate(arrays) if isinstance(array, Moving)
        ]
        sizes = sizes_of(*given)
        c.whole[0 : len(sizes)] = sizes
        pack, begin = packs[len(sizes)]
        self._pack = partial(pack, ffi.buffer(c), begin)
        self._table: Any = None
        if scalars:
            self.set(*scalars)

    def set(self, *scalars: Any) -> None:
        """Take these scalars from now on."""
        self._pack(*scalars)

    def replace(self, arrays: Sequence[Any]) -> None:
        """Take these arrays from now on, of the same sizes, in the place of some that do not move."""
        self._arrays = arrays
        self.c.array[0 : len(arrays)] = list(map(_pointer, arrays))

    @property
    def result(self) -> float:
        return self.c.result

    def __call__(self, step: int = 0) -> float:
        if self.moving:
            Program([self])(step)
            return self.c.result
        if self._table is None:
            self._table = ffi.new("fastopt_instruction *[]", [self.c])
        if not lib.fastopt_run(self._table, 1, _NULL, 0, 0):
            raise Stopped
        return self.c.result


class Program:
    """Instructions and calls of Python: what lies between two of the latter is one call into C."""

    def __init__(self, runs: Sequence[Any]):
        self._kept = tuple(runs)
        segments: list[Any] = []
        for run in runs:
            if not isinstance(run, Instruction):
                segments.append(run)
            elif segments and isinstance(segments[-1], list):
                segments[-1].append(run)
            else:
                segments.append([run])
        self._segments = [_segment(each) if isinstance(each, list) else each for each in segments]

    def __call__(self, step: int = 0) -> None:
        """Run all of it, as in this step."""
        for run in self._segments:
            run(step)


def _segment(instructions: list[Instruction]) -> Callable[[int], None]:
    """A call that runs them."""
    count = len(instructions)
    table = ffi.new("fastopt_instruction *[]", [instruction.c for instruction in instructions])
    operands = [operand for instruction in instructions for operand in instruction.moving]
    moving = ffi.new(
        "fastopt_operand[]", [dict(zip(("instruction", "first", "bytes", "array"), o, strict=True)) for o in operands]
    )
    run, moves = lib.fastopt_run, len(operands)

    def call(step: int = 0) -> None:
        if run(table, count, moving, moves, step) != count:
            raise Stopped

    return call


def bind_average(
    averages: Sequence[np.ndarray], arrays: Sequence[np.ndarray], steps: np.ndarray, share: float
) -> list[Instruction]:
    last = len(averages) - 1
    pairs = enumerate(zip(averages, arrays, strict=True))
    return [bind("move_average", (average, x, steps), (i == last, share)) for i, (average, x) in pairs]


def bind_gather(X: np.ndarray, order: Moving, x: np.ndarray) -> list[Instruction]:
    if not (HEADER and X.dtype in _DTYPE and X.flags.c_contiguous and X.flags.aligned):
        return []
    pins = Pins([X])
    return [bind("pins_unchanged", (pins,), (len(pins.arrays),)), bind("gather_rows", (X, order, x))]


def bind(kernel: str, arrays: Sequence[Any], scalars: Sequence[Any] = ()) -> Instruction:
    return Instruction(kernel, arrays, scalars)
