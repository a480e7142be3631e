"""fastopt: fast neural-network training on the CPU, from plain NumPy arrays.

Every optimizer of the canon as one fused update in place, losses and layers forward and backward, in C; the
same bits from the C core, the Numba fallback and the NumPy reference.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import init, nn, optim
from ._backends import get_backend, set_backend
from ._hints import UnknownName
from ._version import __version__
from .config import (
    get_instruction_set,
    get_num_threads,
    instruction_sets,
    num_threads,
    set_instruction_set,
    set_num_threads,
    show_config,
)
from .functional import activations as _activations
from .functional import (
    batch_norm,
    batch_norm_backward,
    dropout,
    dropout_backward,
    get_matmul,
    layer_norm,
    layer_norm_backward,
    matmul,
    set_matmul,
)
from .functional import losses as _losses
from .functional.activations import *  # noqa: F403
from .functional.losses import *  # noqa: F403
from .optim import clip_grad_norm, global_norm
from .saving import load, save

if TYPE_CHECKING:
    from . import data, graph, losses, parallel, schedules, training
    from .data.batches import minibatches
    from .data.features import Standardizer
    from .data.labels import LabelEncoder
    from .training import EarlyStopping, History, ReduceOnPlateau, TrainingStep, fit, lr_range_test

__all__ = [
    "EarlyStopping",
    "History",
    "LabelEncoder",
    "ReduceOnPlateau",
    "Standardizer",
    "TrainingStep",
    "__version__",
    "batch_norm",
    "batch_norm_backward",
    "clip_grad_norm",
    "data",
    "dropout",
    "dropout_backward",
    "fit",
    "get_backend",
    "get_instruction_set",
    "get_matmul",
    "get_num_threads",
    "global_norm",
    "graph",
    "init",
    "instruction_sets",
    "layer_norm",
    "layer_norm_backward",
    "load",
    "losses",
    "lr_range_test",
    "matmul",
    "minibatches",
    "nn",
    "num_threads",
    "optim",
    "parallel",
    "save",
    "schedules",
    "set_backend",
    "set_instruction_set",
    "set_matmul",
    "set_num_threads",
    "show_config",
    "training",
]
__all__ += _activations.__all__
__all__ += _losses.__all__

# Loaded when they are first used, so that importing fastopt costs little more than importing NumPy.
_LATER = {
    "EarlyStopping": ".training",
    "History": ".training",
    "LabelEncoder": ".data",
    "ReduceOnPlateau": ".training",
    "Standardizer": ".data",
    "TrainingStep": ".training",
    "data": ".data",
    "fit": ".training",
    "graph": ".graph",
    "losses": ".losses",
    "lr_range_test": ".training",
    "minibatches": ".data",
    "parallel": ".parallel",
    "schedules": ".schedules",
    "training": ".training",
}


if not TYPE_CHECKING:  # type checkers are to refuse names that there are not

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise UnknownName(__name__, name)
        module = import_module(_LATER[name], __name__)
        globals()[name] = value = getattr(module, name, module)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
