"""PyTorch's C interface, through which the core looks at tensors without asking Python for each (csrc/torch.c)."""

import ctypes
import sys
from pathlib import Path
from typing import Any

import torch

from .._pins import HEADER, ffi, lib

_FUNCTIONS = {
    "data": "get_data_ptr",
    "dtype": "get_dtype",
    "dimensions": "get_dim",
    "lengths": "get_sizes",
    "strides": "get_strides",
}
# autograd's own, which C can call as it is: by a pointer to a tensor, without an answer
_CHANGE = "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE"
_LIBRARY = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")


def _word(address: int) -> int:
    return ffi.cast("uintptr_t *", address)[0]


def _interface() -> Any:
    """The functions, and where a tensor lies in its Python object; None if anything is not as csrc/torch.c has it."""
    if not HEADER:
        return None
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / _LIBRARY))
        address = {
            name: ctypes.cast(getattr(library, f"aoti_torch_{function}"), ctypes.c_void_p).value
            for name, function in _FUNCTIONS.items()
        }
    except (OSError, AttributeError):
        return None
    base = torch.arange(24.0).reshape(4, 6)
    tensors = [base, base[1:, ::2].t(), torch.zeros((), dtype=torch.float64), torch.nn.Parameter(torch.zeros(3))]
    # torch.Tensor is larger than this: what is read lies within the object
    places = range(HEADER, torch.Tensor.__basicsize__ - 7, ffi.sizeof("void *"))
    cells = [at for at in places if all(_word(id(t) + at) == t._cdata for t in tensors)]
    type_at = HEADER - ffi.sizeof("void *")
    if len(cells) != 1 or any(_word(id(t) + type_at) != id(type(t)) for t in tensors):
        return None
    interface = ffi.new("fastopt_torch_interface *")
    for name, where in address.items():
        setattr(interface, name, ffi.cast(ffi.typeof(getattr(interface, name)), where))
    interface.cell, interface.type_at, interface.type = cells[0], type_at, id(torch.Tensor)
    if not all(_is_seen(interface, t) for t in tensors):
        return None
    if change := getattr(library, _CHANGE, None):
        interface.change = ffi.cast(ffi.typeof(interface.change), ctypes.cast(change, ctypes.c_void_p).value)
        before = base._version
        interface.change(ffi.cast("void *", id(base) + interface.cell))
        if base._version != before + 1:
            interface.change = ffi.NULL
    return interface


def _is_seen(interface: Any, tensor: torch.Tensor) -> bool:
    """Whether the functions say of a tensor what Python does."""
    cell = ffi.cast("void *", id(tensor) + interface.cell)
    data, number = ffi.new("void **"), ffi.new("int64_t *")
    lengths, strides = ffi.new("int64_t **"), ffi.new("int64_t **")
    dtype = ffi.new("int32_t *")
    answers = (
        interface.data(cell, data),
        interface.dimensions(cell, number),
        interface.lengths(cell, lengths),
        interface.strides(cell, strides),
        interface.dtype(cell, dtype),
    )
    return (
        not any(answers)
        and int(ffi.cast("uintptr_t", data[0])) == tensor.data_ptr()
        and number[0] == tensor.dim()
        and tuple(lengths[0][0 : number[0]]) == tensor.shape
        and tuple(strides[0][0 : number[0]]) == tensor.stride()
    )


INTERFACE = _interface()


def look(tensors: list[torch.Tensor]) -> Any:
    """What the core sees of these tensors, as a table for it; None if one is not where tensors are."""
    if any(_word(id(t) + INTERFACE.cell) != t._cdata for t in tensors):
        return None
    seen = ffi.new("fastopt_torch_tensor[]", len(tensors))
    lib.fastopt_torch_look(INTERFACE, list(map(id, tensors)), len(tensors), seen)
    return seen
