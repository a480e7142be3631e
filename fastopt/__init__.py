"""fastopt: fast neural-network training on the CPU, from plain NumPy arrays.

Every optimizer of the canon as one fused update in place, losses and layers forward and backward, in C; the
same bits from the C core, the Numba fallback and the NumPy reference.
"""

from . import optim
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
from .functional import (
    batch_norm,
    batch_norm_backward,
    dropout,
    dropout_backward,
    log_sigmoid,
    log_sigmoid_backward,
    logistic_loss,
    mse_loss,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax_cross_entropy,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)

__all__ = [
    "__version__",
    "batch_norm",
    "batch_norm_backward",
    "dropout",
    "dropout_backward",
    "get_backend",
    "get_instruction_set",
    "get_num_threads",
    "instruction_sets",
    "log_sigmoid",
    "log_sigmoid_backward",
    "logistic_loss",
    "mse_loss",
    "num_threads",
    "optim",
    "relu",
    "relu_backward",
    "set_backend",
    "set_instruction_set",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sigmoid_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]
