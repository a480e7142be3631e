"""The functions of arrays: activations, losses, batch norm, dropout and matrix products, forward and backward."""

from .._hints import unknown_names
from .activations import (
    log_sigmoid,
    log_sigmoid_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from .losses import logistic_loss, mse_loss, softmax_cross_entropy
from .masking import dropout, dropout_backward
from .normalization import BatchNormSaved, batch_norm, batch_norm_backward
from .products import get_matmul, matmul, set_matmul

__all__ = [
    "BatchNormSaved",
    "batch_norm",
    "batch_norm_backward",
    "dropout",
    "dropout_backward",
    "get_matmul",
    "log_sigmoid",
    "log_sigmoid_backward",
    "logistic_loss",
    "matmul",
    "mse_loss",
    "relu",
    "relu_backward",
    "set_matmul",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]

globals()["__getattr__"] = unknown_names(__name__)
