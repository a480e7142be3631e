"""The C core, through cffi."""

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._interface import ffi, lib
from .._pins import HEADER, ITEMS, Pins, fit
from .._specification.rules import RULES, SQUARES, Overflow, refuse_scalars, scalar_limits
from . import memory as _memory
from . import numpy as reference
from .numpy import NO_NORM

_address, _WRITTEN, _NULL = ffi.from_buffer, ffi.typeof("char[]"), ffi.NULL
_update, _MOVED = lib.fastopt_update, lib.FASTOPT_MOVED
_DTYPE = {np.dtype(np.float32): lib.FASTOPT_FLOAT32, np.dtype(np.float64): lib.FASTOPT_FLOAT64}
_NO_PINS = ffi.new("fastopt_pin *")
Objects = tuple[Any, ...] | None


def _or_null(x: np.ndarray | None):
    return _NULL if x is None else _address(x)


class Plan:
    """A table in C of all tensors of an optimizer, filled once; a step then crosses into C once."""

    def __init__(
        self,
        rules: Sequence[str],
        params: Sequence[np.ndarray],
        states: Sequence[Sequence[np.ndarray]],
        groups: Sequence[int],
    ):
        self.counts = np.zeros(2, np.int64)
        self._names, self._of_tensors = list(rules), list(groups)
        self._arrays = list(params), list(states)
        self._tensors = ffi.new("fastopt_tensor[]", len(params))
        self._groups = ffi.new("fastopt_group[]", len(rules))
        self._plan = ffi.new(
            "fastopt_plan *",
            {"tensors": self._tensors, "groups": self._groups, "count": len(params), "group_count": len(rules)},
        )
        for tensor, param, state, group in zip(self._tensors, params, states, groups, strict=True):
            tensor.param = tensor.grad = _address(param)
            tensor.state[0 : len(state)] = [_address(s) for s in state]
            tensor.size, tensor.rows = param.size, param.shape[0] if param.ndim == 2 else 1
            tensor.trust_ratio = 1.0
            tensor.dtype = _DTYPE[param.dtype]
            tensor.group = group
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
        self._states = list(states)
        self.pin(params)
        self.bind_all(params)

    def pin(self, params: Sequence[np.ndarray]) -> None:
        """Take parameters and states as they now are; gradients are to be bound after that."""
        self._plan.given = _NULL
        self.own = Pins([*params, *(s for state in self._states for s in state)])

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

    def _fits(self, params: Objects, grads: Objects) -> bool:
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
            if not self._fits(params, grads):
                return None
            params = grads = None
        for group, values in enumerate(scalars):
            self._write[group](*values)
        # nobody may change a tuple, so C can read its objects
        own, given = id(params) + ITEMS if params else 0, id(grads) + ITEMS if grads else 0
        each = _NULL if factors is None else factors
        answer = _update(self._plan, own, given, each, norm, check_finite is True, check_finite is None)
        if not answer:
            return True
        if answer > _MOVED:
            self._refuse_overflow(answer, scalars, factors)
            answer = _update(self._plan, own, given, each, norm, 0, 1)
        return None if answer == _MOVED else not answer

    def _refuse_overflow(
        self, answer: int, scalars: Sequence[tuple[float, ...]], factors: Sequence[float] | None
    ) -> None:
        """Find out what C was not certain of."""
        params, states = self._arrays
        if answer == lib.FASTOPT_BAD_SCALAR:
            dtypes = reference._dtypes_of_groups(params, self._of_tensors, len(self._names))
            with np.errstate(all="ignore"):
                for name, values, of_group in zip(self._names, scalars, dtypes, strict=True):
                    refuse_scalars(RULES[name], values, of_group)
        factors = [1.0] * len(params) if factors is None else factors
        scales = [scalars[group][0] * factor for group, factor in zip(self._of_tensors, factors, strict=True)]
        arrays = params, self.grads, states, self._of_tensors
        if reference._step_results(self._names, *arrays, scales, scalars) is None:
            raise Overflow

    def look_again(self) -> None:
        self._plan.ordinary = 0

    def grad_square_sums(self, params: Objects = None, grads: Objects = None) -> list[float] | None:
        if not HEADER:
            if not self._fits(params, grads):
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


def _elementwise(name: str) -> Callable[..., None]:
    kernel = getattr(lib, f"fastopt_{name}")

    def unary(x: np.ndarray, out: np.ndarray) -> None:
        if kernel(_DTYPE[x.dtype], _address(x), _address(_WRITTEN, out, True), x.size):
            raise ValueError("out overlaps a part of an input")

    def binary(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        if kernel(_DTYPE[x.dtype], _address(x), _address(y), _address(_WRITTEN, out, True), x.size):
            raise ValueError("out overlaps a part of an input")

    return binary if name.endswith("_backward") else unary


exp = _elementwise("exp")
log1p_unit = _elementwise("log1p_unit")
sigmoid = _elementwise("sigmoid")
sigmoid_backward = _elementwise("sigmoid_backward")
tanh = _elementwise("tanh")
tanh_backward = _elementwise("tanh_backward")
relu = _elementwise("relu")
relu_backward = _elementwise("relu_backward")
softplus = _elementwise("softplus")
softplus_backward = _elementwise("softplus_backward")
log_sigmoid = _elementwise("log_sigmoid")
log_sigmoid_backward = _elementwise("log_sigmoid_backward")


def bias_add(x: np.ndarray, bias: np.ndarray) -> None:
    lib.fastopt_bias_add(_DTYPE[x.dtype], _address(x), _address(bias), *x.shape)


def bias_sigmoid(x: np.ndarray, bias: np.ndarray) -> None:
    lib.fastopt_bias_sigmoid(_DTYPE[x.dtype], _address(x), _address(bias), *x.shape)


def bias_tanh(x: np.ndarray, bias: np.ndarray) -> None:
    lib.fastopt_bias_tanh(_DTYPE[x.dtype], _address(x), _address(bias), *x.shape)


def bias_relu(x: np.ndarray, bias: np.ndarray) -> None:
    lib.fastopt_bias_relu(_DTYPE[x.dtype], _address(x), _address(bias), *x.shape)


def _operand(x: np.ndarray) -> tuple[Any, int, int]:
    """Where a matrix that is not C-contiguous begins, and its strides in elements."""
    if x.flags.f_contiguous:
        return _address(x.T), 1, x.shape[0]
    (rows, columns), (row, column), item = x.shape, x.strides, x.itemsize
    if (row % item and rows > 1) or (column % item and columns > 1) or (item not in (row, column) and 1 not in x.shape):
        raise ValueError("neither rows nor columns lie in one piece")
    return ffi.cast("char *", _memory.address(x)), row // item, column // item


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int) -> None:
    (rows, columns), inner = out.shape, a.shape[1]
    left, a_row, a_k = (_address(a), inner, 1) if a.flags.c_contiguous else _operand(a)
    right, b_k, b_column = (_address(b), columns, 1) if b.flags.c_contiguous else _operand(b)
    to, bias = _address(_WRITTEN, out, True), _NULL if bias is None else _address(bias)
    if _matmul(_DTYPE[out.dtype], left, a_row, a_k, right, b_k, b_column, to, bias, rows, columns, inner, activation):
        raise ValueError("an array is not aligned")


_matmul = lib.fastopt_matmul


def column_sums(x: np.ndarray, out: np.ndarray) -> None:
    lib.fastopt_column_sums(_DTYPE[x.dtype], _address(x), _address(out), *x.shape)


def _loss(name: str) -> Callable[..., float]:
    kernel = getattr(lib, f"fastopt_{name}")

    def loss(z: np.ndarray, y: np.ndarray, losses: np.ndarray | None, dz: np.ndarray, scale: float) -> float:
        each = _NULL if losses is None else _address(losses)
        total = kernel(_DTYPE[z.dtype], _address(z), _address(y), each, _address(_WRITTEN, dz, True), z.size, scale)
        if total != total:  # of NaN, or refused
            _memory.check_written(dz, z, y)
        return total

    return loss


logistic_loss = _loss("logistic_loss")
mse_loss = _loss("mse_loss")


_BY_SHAPE = {"batch_norm", "batch_norm_backward", "bias_add", "bias_relu", "bias_sigmoid", "bias_tanh", "column_sums",
             "softmax_cross_entropy"}  # fmt: skip
_POINTER = {np.dtype(np.float32): "float[]", np.dtype(np.float64): "double[]", np.dtype(np.int64): "int64_t[]"}


def _bind_matmul(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None, activation: int
) -> Callable[[], Any]:
    (rows, columns), inner = out.shape, a.shape[1]
    operands = [(_address(x), x.shape[1], 1) if x.flags.c_contiguous else (_address(x.T), 1, len(x)) for x in (a, b)]
    sizes = rows, columns, inner, activation
    return partial(_matmul, _DTYPE[out.dtype], *operands[0], *operands[1], _address(out), _or_null(bias), *sizes)


def bind(kernel: str, *arguments: Any) -> Callable[..., Any]:
    if kernel == "matmul":
        return _bind_matmul(*arguments)
    if kernel == "weighted_logistic_loss":
        return _bind_weighted_logistic_loss(*arguments)
    first = arguments[0]
    arrays = [a for a in arguments if a is None or isinstance(a, np.ndarray)]
    pointers = [_NULL if a is None else _address(_POINTER[a.dtype], a) for a in arrays]
    sizes = first.shape if kernel in _BY_SHAPE else (first.size,)
    scalars = arguments[len(pointers) :]
    return partial(getattr(lib, f"fastopt_{kernel}"), _DTYPE[first.dtype], *pointers, *sizes, *scalars)


def batch_norm_scratch(outer: int, channels: int, inner: int) -> int:
    return lib.fastopt_batch_norm_scratch(outer, channels, inner)


def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    y: np.ndarray,
    statistics: np.ndarray,
    scratch: np.ndarray,
    training: bool,
    eps: float,
    momentum: float,
    keep: float,
    correction: float,
    activation: int,
) -> None:
    lib.fastopt_batch_norm(
        _DTYPE[x.dtype],
        _address(x),
        _or_null(gamma),
        _or_null(beta),
        _or_null(running_mean),
        _or_null(running_var),
        _address(y),
        _address(statistics),
        _address("double[]", scratch),
        *x.shape,
        training,
        eps,
        momentum,
        keep,
        correction,
        activation,
    )


def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray | None,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    statistics: np.ndarray,
    dx: np.ndarray,
    dgamma: np.ndarray,
    dbeta: np.ndarray,
    scratch: np.ndarray,
    training: bool,
    activation: int,
) -> None:
    lib.fastopt_batch_norm_backward(
        _DTYPE[x.dtype],
        _address(dy),
        _address(x),
        _or_null(y),
        _or_null(gamma),
        _or_null(beta),
        _address(statistics),
        _address(dx),
        _address(dgamma),
        _address(dbeta),
        _address("double[]", scratch),
        *x.shape,
        training,
        activation,
    )


def weighted_logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    pos_weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    y_scale: float,
    y_shift: float,
) -> float:
    return _bind_weighted_logistic_loss(z, y, weight, pos_weight, losses, dz, scale, y_scale, y_shift)()


def _bind_weighted_logistic_loss(
    z: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    pos_weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    *scalars: float,
) -> Callable[..., float]:
    return partial(
        lib.fastopt_weighted_logistic_loss,
        _DTYPE[z.dtype],
        _address(z),
        _address(y),
        _or_null(weight),
        1 if weight is None else weight.size,
        _or_null(pos_weight),
        1 if pos_weight is None else pos_weight.size,
        _or_null(losses),
        _address(dz),
        z.size,
        *scalars,
    )


def softmax_cross_entropy(
    z: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None,
    losses: np.ndarray | None,
    dz: np.ndarray,
    scale: float,
    total_weight: float,
    smoothing: float,
    ignore_index: int,
) -> float:
    total = lib.fastopt_softmax_cross_entropy(
        _DTYPE[z.dtype],
        _address(z),
        _address("int64_t[]", labels),
        _or_null(weight),
        _or_null(losses),
        _address(_WRITTEN, dz, True),
        *z.shape,
        scale,
        total_weight,
        smoothing,
        ignore_index,
    )
    if total != total:  # of NaN, or refused
        _memory.check_written(dz, z)
    return total


def softmax(x: np.ndarray, out: np.ndarray) -> None:
    if lib.fastopt_softmax(_DTYPE[x.dtype], _address(x), _address(_WRITTEN, out, True), *x.shape):
        raise ValueError("out overlaps a part of an input, or an array is not aligned")


def count_labels(labels: np.ndarray, classes: int, ignore_index: int) -> int:
    return lib.fastopt_count_labels(_address("int64_t[]", labels), labels.size, classes, ignore_index)


def dropout(x: np.ndarray, out: np.ndarray, position: int, seed: int, draw: int, threshold: int, scale: float) -> None:
    lib.fastopt_dropout(_DTYPE[x.dtype], _address(x), _address(out), x.size, position, seed, draw, threshold, scale)
