"""The norm of all gradients together, and clipping by it, apart from a step."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from operator import setitem
from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.memory import readable
from .._backends.numpy import numbers
from .._checks import a_number, positive
from .._specification import clipping
from .._specification.order import in_order
from .._specification.state_formats import codes_of, to_bfloat16
from .tensors import check_array, check_disjoint, check_writeable, named_arrays, plain, span

Arrays = np.ndarray | Sequence[np.ndarray | None] | Mapping[str, np.ndarray | None]


@isolated
def global_norm(arrays: Arrays) -> float:
    r"""The Euclidean norm of all elements of all arrays: :math:`\sqrt{\sum_i \sum_j a_{ij}^2}`.

    Summed in double precision in a fixed order: the same bits in every backend and with any number of threads.

    Parameters
    ----------
    arrays : array, or list or dict of arrays
        float32, float64 or the bfloat16 of ``ml_dtypes``, of any shapes; None stands for nothing.

    Raises
    ------
    TypeError
        If something else is among them.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.global_norm({"w": np.array([3.0, 0.0]), "b": np.array([4.0])})
    5.0
    """
    named = named_arrays(arrays, "arrays")
    return math.sqrt(in_order(_square_sums((name, array) for name, array in named if array is not None)))


@isolated
def clip_grad_norm(grads: Arrays, max_norm: float, *, eps: float = 0.0) -> float:
    """Scale gradients down in place so that their `global_norm` is at most ``max_norm``.

    The factor is min(1, max_norm / (norm + eps)). `Optimizer.step` does the same with ``clip_norm`` and ``clip_eps``,
    in passing and without changing the gradients.

    Parameters
    ----------
    grads : array, or list or dict of arrays
        float32, float64 or the bfloat16 of ``ml_dtypes``, which is rounded to nearest, C-contiguous, writeable; None,
        the gradient of what is frozen, is left out.
    max_norm : float
    eps : float
        1e-6 in PyTorch.

    Returns
    -------
    float
        The norm before.

    Raises
    ------
    TypeError, ValueError
        If an array cannot be changed in place, two overlap, or ``max_norm`` is not above 0, or ``eps`` is below.
    FloatingPointError
        If the norm is inf or NaN. Whatever is raised, nothing has been changed (or, by a signal's handler, all has).

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> g = np.array([3.0, 4.0])
    >>> fo.clip_grad_norm(g, 1.0)
    5.0
    >>> g
    array([0.6, 0.8])

    Notes
    -----
    PyTorch: ``torch.nn.utils.clip_grad_norm_``, with ``eps=1e-6``.
    """
    max_norm, eps = positive("max_norm", max_norm), a_number("eps", eps, 0)
    named = [(name, grad) for name, grad in named_arrays(grads, "grads") if grad is not None]
    for name, grad in named:
        check_array("gradient", name, grad, bfloat16=True)
        check_writeable("gradient", name, grad)
    named = [(name, codes_of(plain(grad))) for name, grad in named]
    check_disjoint(sorted((*span(g), name) for name, g in named if g.size))
    norm = math.sqrt(in_order([_backends.active.square_sum(numbers(grad)) for _, grad in named]))
    if not math.isfinite(norm):
        names = ", ".join(repr(name) for name, grad in named if not np.isfinite(numbers(grad)).all())
        raise FloatingPointError(
            f"gradients hold inf or NaN: {names}" if names else "the norm of the gradients overflows"
        )
    if (factor := clipping.clip_factor(max_norm, norm, eps)) < 1:
        stored = [grad for _, grad in named if grad.dtype == np.uint16]
        codes = [to_bfloat16(numbers(grad) * np.float32(factor), None) for grad in stored]
        arrays = [grad for _, grad in named if grad.dtype != np.uint16]
        factors = [grad.dtype.type(factor) for grad in arrays]
        changes = map(np.multiply, arrays, factors, arrays), map(setitem, stored, repeat(...), codes)
        deque(chain(*changes), 0)  # no instruction of Python's, so no signal, in between
    return norm


def clip_limit(clip_norm: float | None, clip_norm_per_tensor: float | None) -> tuple[int, float]:
    """By which norm gradients are clipped, and to what."""
    if clip_norm_per_tensor is None:
        return (clipping.NONE, math.inf) if clip_norm is None else (clipping.ALL, positive("clip_norm", clip_norm))
    if clip_norm is not None:
        raise ValueError(f"clip_norm={clip_norm} and clip_norm_per_tensor={clip_norm_per_tensor}: give one of them")
    return clipping.EACH, positive("clip_norm_per_tensor", clip_norm_per_tensor)


def _square_sums(named: Any) -> list[float]:
    arrays = []
    for name, array in named:
        check_array("array", name, array, bfloat16=True)
        arrays.append(numbers(readable(codes_of(plain(array)))))
    return [_backends.active.square_sum(array) for array in arrays]
