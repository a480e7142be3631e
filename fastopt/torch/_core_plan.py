"""The C core's plan of a step whose arrays are PyTorch's tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .._backends.c import Plan
from .._pins import ffi
from ._interface import INTERFACE
from ._plans import Tensors
from ._tensors import flat


class CorePlan(Plan):
    """In the call of the step the core looks whether tensors are as they were, and where gradients are."""

    def __init__(self, tensors: Tensors, seen: Any, *arguments: Any):
        self.now: Sequence[torch.Tensor] = ()  # the gradients of this step
        super().__init__(*arguments)
        self.steps = self.counts.item  # of 0: how many have been done
        self._of = tensors  # kept alive, as all below
        before, after = (ffi.from_buffer("double[]", numbers) for numbers in (tensors.before, tensors.after))
        self._counters = ffi.new("fastopt_torch_counter[]", len(tensors.counters))
        first = len(seen) - len(tensors.counters)
        for i, (number, place) in enumerate(zip(tensors.counters, tensors.places, strict=True)):
            is_double = number.dtype == torch.float64
            self._counters[i] = seen[first + i].data, before + place, after + place, is_double
        self._seen, self._objects = seen, ffi.new("uintptr_t[]", list(map(id, tensors.objects)))
        self._torch = ffi.new("fastopt_torch_tensors *")
        self._torch.of, self._torch.params, self._torch.seen = INTERFACE, self._objects, seen
        self._torch.counters, self._torch.counter_count = self._counters, len(tensors.counters)
        self._torch.param_count, self._torch.count = len(tensors.objects), len(seen)
        # those made in inference mode know of no changes, and cannot be told
        self.tells = INTERFACE.change != ffi.NULL and not any(param.is_inference() for param in tensors.params)
        self._torch.tells = self.tells
        self._plan.torch = self._torch

    @property
    def grads(self) -> list[np.ndarray]:
        return list(map(flat, self.now))

    @grads.setter
    def grads(self, grads: Any) -> None:
        """The base binds gradients once; here each step has its own."""

    def count(self) -> None:
        """The core has set the counters already."""

    def release(self) -> None:
        """Keep no gradients alive."""
        self.now = ()
