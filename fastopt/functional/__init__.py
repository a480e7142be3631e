"""The functions of arrays: activations, losses, batch norm and dropout, forward and backward."""

from .activations import sigmoid, sigmoid_backward
from .losses import logistic_loss, mse_loss, softmax_cross_entropy
from .normalization import BatchNormSaved, batch_norm, batch_norm_backward

__all__ = [
    "BatchNormSaved",
    "batch_norm",
    "batch_norm_backward",
    "logistic_loss",
    "mse_loss",
    "sigmoid",
    "sigmoid_backward",
    "softmax_cross_entropy",
]
