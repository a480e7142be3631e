"""The functions of arrays: activations, losses, batch norm and dropout, forward and backward."""

from .activations import sigmoid, sigmoid_backward
from .losses import logistic_loss
from .normalization import BatchNormSaved, batch_norm, batch_norm_backward

__all__ = [
    "BatchNormSaved",
    "batch_norm",
    "batch_norm_backward",
    "logistic_loss",
    "sigmoid",
    "sigmoid_backward",
]
