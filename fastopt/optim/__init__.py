"""The optimizers: made once over arrays, which each step updates in place.

Names, defaults and results are those of ``torch.optim`` where that has the optimizer. What all have is `Optimizer`'s.
"""

from .._hints import unknown_names
from .adam import Adam, AdamW, NAdam
from .adaptive import Adadelta, Adagrad, RMSprop
from .averaging import ASGD
from .base import Optimizer
from .clip import clip_grad_norm, global_norm
from .encoded import StateArray
from .factored import Adafactor
from .groups import decay_groups
from .moments import AdaBelief, Adamax, Adan, RAdam
from .muon import Muon, muon_groups
from .schedule_free import AdamWScheduleFree, SGDScheduleFree
from .sgd import SGD
from .signs import Lion, Rprop
from .trust import LAMB, LARS

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGDScheduleFree",
    "StateArray",
    "clip_grad_norm",
    "decay_groups",
    "global_norm",
    "muon_groups",
]

globals()["__getattr__"] = unknown_names(__name__)
