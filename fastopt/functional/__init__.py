"""The functions of arrays: activations, losses, batch norm, dropout and matrix products, forward and backward."""

from .._hints import unknown_names
from . import activations, losses
from .activations import *  # noqa: F403
from .layer_normalization import LayerNormSaved, layer_norm, layer_norm_backward
from .losses import *  # noqa: F403
from .masking import dropout, dropout_backward
from .normalization import BatchNormSaved, batch_norm, batch_norm_backward
from .products import get_matmul, matmul, set_matmul

__all__ = [
    "BatchNormSaved",
    "LayerNormSaved",
    "batch_norm",
    "batch_norm_backward",
    "dropout",
    "dropout_backward",
    "get_matmul",
    "layer_norm",
    "layer_norm_backward",
    "matmul",
    "set_matmul",
]
__all__ += activations.__all__
__all__ += losses.__all__

globals()["__getattr__"] = unknown_names(__name__)
