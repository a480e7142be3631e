"""Matrix products, with bias and activation."""

import os
from functools import partial
from typing import Any

import numpy as np
from numpy import empty, ndarray

from .. import _backends, config
from .._backends.program import Call, Runs
from .._specification.order import ACTIVATIONS
from .arrays import floats, output_of, read
from .normalization import activation_number

KINDS = "exact", "blas"


def _has_multiply_add() -> bool:
    """Whether this CPU fuses multiply-adds."""
    if config.lib is not None:
        return config.instruction_sets()[-1] != "baseline"
    import platform

    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    return platform.machine() in ("aarch64", "arm64") or bool(features.get("fma"))


_kind: str | None = None  # found out when it is first asked for, as that may load LLVM
_reason = ""


def set_matmul(kind: str) -> None:
    """Let matrix products be ``"exact"``, with the same bits everywhere, or ``"blas"``, those of NumPy's BLAS.

    Exact is the default where the CPU has fused multiply-adds, as every one of the last ten years has; without them it
    would take hundreds of times as long, so that there the default is ``"blas"``. The environment variable
    ``FASTOPT_MATMUL`` sets what to begin with. It holds for `matmul` and for `fastopt.nn.Linear`.

    Parameters
    ----------
    kind : {"exact", "blas"}

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> import fastopt as fo
    >>> before = fo.get_matmul()
    >>> fo.set_matmul("blas")
    >>> fo.get_matmul()
    'blas'
    >>> fo.set_matmul(before)
    """
    global _kind, _reason
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"matrix products are 'exact' or 'blas', not {kind!r}")
    _kind, _reason = kind, "set_matmul"


def get_matmul() -> str:
    """Which matrix products are in use: ``"exact"`` or ``"blas"``."""
    global _kind, _reason
    if _kind is None:
        exact = _has_multiply_add()
        _kind = "exact" if exact else "blas"
        _reason = f"this CPU has {'' if exact else 'no '}fused multiply-add"
    return _kind


def reason() -> str:
    """Why those are in use."""
    return _reason


def _begin() -> None:
    if forced := os.environ.get("FASTOPT_MATMUL"):
        if forced not in KINDS:
            raise ValueError(f"FASTOPT_MATMUL must be 'exact' or 'blas', not {forced!r}")
        global _kind, _reason
        _kind, _reason = forced, "FASTOPT_MATMUL"


_begin()


def multiply(a: ndarray, b: ndarray, out: ndarray, bias: ndarray | None, activation: int) -> None:
    """``matmul`` of the backend, or, if that is chosen, NumPy's product with the backend's bias and activation."""
    backend = _backends.active
    if (_kind or get_matmul()) == "exact":
        backend.matmul(a, b, out, bias, activation)
        return
    with np.errstate(all="ignore"):
        np.matmul(a, b, out=out)
    name = ACTIVATIONS[activation]
    if bias is not None:
        getattr(backend, f"bias_{name if activation else 'add'}")(out, bias)
    elif activation:
        getattr(backend, name)(out, out)


def bind_matmul(
    a: ndarray, b: ndarray, out: ndarray, bias: ndarray | None = None, activation: str | None = None
) -> list[Runs]:
    """Instructions that do so, for arrays that stay; a and b are C-contiguous, or their transposes are."""
    backend, number = _backends.active, activation_number(activation)
    if get_matmul() == "exact":
        return [backend.bind("matmul", (a, b, out, bias), (number,))]
    calls: list[Runs] = [Call(partial(np.dot, a, b, out))]
    if bias is not None:
        calls.append(backend.bind(f"bias_{activation or 'add'}", (out, bias)))
    elif activation:
        calls.append(backend.bind(activation, (out, out)))
    return calls


def _operand(x: Any, name: str) -> ndarray:
    """``x`` as the kernels read it: a matrix, aligned, one of whose strides is one element; else a copy."""
    x = floats(x, name)
    if not 1 <= x.ndim <= 2:
        raise ValueError(f"{name} must be a matrix or a vector; it has shape {x.shape}")
    matrix = x if x.ndim == 2 else x[None, :] if name == "a" else x[:, None]
    (rows, columns), (row, column), item = matrix.shape, matrix.strides, matrix.itemsize
    # numbers may be aligned to less than their size, as doubles on 32-bit x86 are
    whole = (row % item == 0 or rows == 1) and (column % item == 0 or columns == 1)
    if matrix.flags.aligned and whole and (row == item or column == item or rows == 1 or columns == 1):
        return matrix
    return matrix.copy()


def _matrices(a: Any, b: Any, out: Any, bias: Any) -> tuple[ndarray, ndarray, ndarray, ndarray | None, tuple[int, ...]]:
    """The arrays as the kernels take them, and the shape of the result."""
    left, right = _operand(a, "a"), _operand(b, "b")
    if left.dtype != right.dtype:
        raise TypeError(f"b is {right.dtype}, a is {left.dtype}")
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"a has shape {a.shape}, b has {b.shape}: the rows of a are not as long as the columns of b")
    shape = a.shape[:-1] + b.shape[1:]
    if bias is not None:
        bias = read(bias, "bias")
        if bias.shape != right.shape[1:]:
            raise ValueError(f"bias has shape {bias.shape}, the product has {right.shape[1]} columns")
        if bias.dtype != left.dtype:
            raise TypeError(f"bias is {bias.dtype}, a is {left.dtype}")
    result = output_of(out, shape, left.dtype, "the product")
    if out is not None:
        for name, x in (("a", a), ("b", b), ("bias", bias)):
            if x is not None and np.shares_memory(out, x):
                raise ValueError(f"out overlaps {name} in memory")
    return left, right, result.reshape(len(left), right.shape[1]), bias, shape


def _like(a: ndarray, b: ndarray) -> ndarray | None:
    """A new array for the product of two matrices, if they are such."""
    try:
        (rows, inner), (depth, columns) = a.shape, b.shape
    except ValueError:
        return None
    return empty((rows, columns), a.dtype) if inner == depth else None


def matmul(
    a: ndarray,
    b: ndarray,
    out: ndarray | None = None,
    *,
    bias: ndarray | None = None,
    activation: str | None = None,
) -> ndarray:
    r"""The matrix product, and on request the bias and the activation that follow it in a layer.

    .. math:: c_{ij} = f\Bigl(\sum_k a_{ik} b_{kj} + \beta_j\Bigr)

    Every sum is one chain of fused multiply-adds, ``c = fma(a[i, k], b[k, j], c)`` from +0 and for ascending k; after
    4096 links another chain begins, and the chains are added in order. So the result has the same bits in every
    backend, on every instruction set, with any number of threads and in whatever order the arrays lie in memory: those
    of a triple loop. Factors of 0 are not left out: 0 times inf is NaN. `set_matmul` can have NumPy's BLAS do the
    product instead.

    Parameters
    ----------
    a : ndarray (m, k) of float32 or float64
        Or (k,), for a single row; the result then lacks that axis.
    b : ndarray (k, n) like ``a``
        Or (k,), for a single column. Both may be transposed, or have rows or columns at a distance: they are read as
        they lie. Only where no axis has neighbours in memory, or elements are not aligned, a copy is made.
    out : ndarray (m, n), optional
        Where to put the result. It is C-contiguous and shares no memory with the others.
    bias : ndarray (n,), optional
        Added to every row.
    activation : {"relu", "sigmoid", "tanh"}, optional
        Applied to every element: the bits are those of `relu`, `sigmoid` or `tanh` of the result.

    Returns
    -------
    ndarray
        ``out``, or a new array.

    Raises
    ------
    TypeError
        If an array is not a plain ndarray of float32 or float64, or of another dtype than ``a``.
    ValueError
        If shapes do not match, ``out`` cannot be written to as it is or overlaps another array, or there is no such
        ``activation``. Nothing has been written then.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> x, W = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])
    >>> fo.matmul(x, W.T, bias=np.array([10.0, 1.0]), activation="relu")
    array([[11.,  0.],
           [13.,  0.]])
    """
    number = 0 if activation is None else activation_number(activation)
    if (
        type(a) is ndarray
        and type(b) is ndarray
        and (bias is None or type(bias) is ndarray)
        and (out is None or type(out) is ndarray)
        and (_kind or get_matmul()) == "exact"
    ):  # the common case in little time; what is of another kind, or does not lie as the kernel reads it, is refused
        c = _like(a, b) if out is None else out
        if c is not None and _backends.active.try_matmul(a, b, c, bias, number):
            return c
    left, right, result, bias, shape = _matrices(a, b, out, bias)
    multiply(left, right, result, bias, number)
    return result.reshape(shape) if out is None else out
