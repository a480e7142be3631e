"""fastopt's optimizers for PyTorch's tensors on the CPU: ``from fastopt.torch import AdamW``."""

from typing import Any

from .. import optim
from .._hints import unknown_names

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(f"fastopt.torch needs PyTorch: pip install fastopt[torch] ({error})") from error

from ._classes import made

__all__ = [name for name in optim.__all__ if optim.Optimizer in getattr(getattr(optim, name), "__mro__", ())[1:]]

globals().update({name: made(name, __name__) for name in __all__})

_unknown = unknown_names(__name__)


def __getattr__(name: str) -> Any:  # the classes are not written down, so that a type checker asks here
    return _unknown(name)
