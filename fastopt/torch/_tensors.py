"""Tensors as the kernels need them: on the CPU, of float32, float64 or bfloat16, their elements in one piece."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What of a tensor is on this process: all of it, or a DTensor's shard."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def refuse(what: str, tensor: torch.Tensor) -> None:
    """TypeError or ValueError for a parameter that cannot be updated here."""
    if tensor.layout != torch.strided:
        raise TypeError(f"{what} is sparse (layout {tensor.layout}): fastopt.torch updates dense parameters")
    if tensor.device.type != "cpu":
        raise ValueError(f"{what} is on the device {tensor.device}: fastopt.torch works on the CPU")
    if tensor.dtype not in DTYPES:
        kind = "complex, " if tensor.is_complex() else ""
        raise TypeError(
            f"{what} is {kind}{tensor.dtype}: fastopt.torch updates torch.float32, torch.float64 and torch.bfloat16"
        )
    if any(stride == 0 and n > 1 for stride, n in zip(tensor.stride(), tensor.shape, strict=True)):
        raise ValueError(
            f"{what} is expanded: several of its elements are one in memory, and cannot be updated in place"
        )


def real_of(tensor: torch.Tensor) -> torch.dtype:
    """In which type a parameter is updated, and of which its state is."""
    return torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype


def dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements fill a piece of memory without gaps, in whatever order."""
    if tensor.data_ptr() % tensor.element_size() or tensor.is_neg() or tensor._is_zerotensor():
        return False  # the latter are not in memory as they are
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, length in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride != expected:
            return tensor.numel() == 0
        expected *= length
    return True


def alike(tensor: torch.Tensor, other: torch.Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether a tensor's elements lie in the same order as those of another, which is dense, and are of its type.

    Or of another type that is to be.
    """
    if tensor.layout != torch.strided or tensor.shape != other.shape or tensor.dtype != (dtype or other.dtype):
        return False
    if tensor.is_contiguous() and other.is_contiguous():
        return dense(tensor)
    return layout(tensor)[1:] == layout(other)[1:] and dense(tensor)


def layout(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What two tensors share whose elements lie in the same order."""
    strides = zip(tensor.stride(), tensor.shape, strict=True) if tensor.numel() else ()
    return tensor.dtype, tensor.shape, [stride for stride, length in strides if length != 1]


def like(tensor: torch.Tensor, values: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A copy of values whose elements lie as those of a dense tensor do, of its type, or another."""
    return torch.empty_like(tensor, dtype=dtype, requires_grad=False).copy_(values.detach())


def in_order_of(tensor: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values whose elements lie as those of a dense tensor do: these, or a copy."""
    return values if alike(values, tensor, values.dtype) else like(tensor, values, values.dtype)


def flat(tensor: torch.Tensor) -> np.ndarray:
    """A dense tensor's elements as they lie in memory; in its own shape, if that is their order.

    Those of bfloat16, which NumPy has not, are their 16 bits.
    """
    tensor = tensor.detach()
    if not tensor.is_contiguous():
        tensor = torch.as_strided(tensor, (tensor.numel(),), (1,))
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def refuse_overlap(named: list[tuple[str, torch.Tensor]]) -> None:
    """ValueError if two of what a step writes share memory: threads would write to it at once."""
    spans = sorted((t.data_ptr(), t.data_ptr() + t.nbytes, name) for name, t in named if t.numel())
    for (_, end, name), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise ValueError(f"{name} and {other} share memory: each element can be updated only once in a step")
