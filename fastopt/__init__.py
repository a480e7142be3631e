"""fastopt: fast neural-network training on the CPU, from plain NumPy arrays.

Every optimizer of the canon as one fused update in place, losses and layers forward and backward, in C; the
same bits from the C core, the Numba fallback and the NumPy reference.
"""

from . import nn, optim
from ._backends import get_backend, set_backend
from ._runtime import (
    get_instruction_set,
    get_num_threads,
    instruction_sets,
    num_threads,
    set_instruction_set,
    set_num_threads,
    show_config,
)
from ._version import __version__
from .files import load, save
from .functional import logistic_loss, sigmoid, sigmoid_backward
from .optim import clip_grad_norm, global_norm
from .training import History, fit

__all__ = [
    "History",
    "__version__",
    "clip_grad_norm",
    "fit",
    "get_backend",
    "get_instruction_set",
    "get_num_threads",
    "global_norm",
    "instruction_sets",
    "load",
    "logistic_loss",
    "nn",
    "num_threads",
    "optim",
    "save",
    "set_backend",
    "set_instruction_set",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sigmoid_backward",
]
