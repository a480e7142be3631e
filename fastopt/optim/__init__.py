"""The optimizers: made once over arrays, which each step updates in place.

Names, defaults and results are those of ``torch.optim`` where that has the optimizer. What all have is `Optimizer`'s.
"""

from .._hints import unknown_names
from . import adam, adaptive, averaging, factored, moments, muon, schedule_free, sgd, signs, trust
from .adam import *  # noqa: F403
from .adaptive import *  # noqa: F403
from .averaging import *  # noqa: F403
from .base import Optimizer
from .clip import clip_grad_norm, global_norm
from .encoded import StateArray
from .factored import *  # noqa: F403
from .groups import decay_groups
from .moments import *  # noqa: F403
from .muon import *  # noqa: F403
from .schedule_free import *  # noqa: F403
from .sgd import *  # noqa: F403
from .signs import *  # noqa: F403
from .trust import *  # noqa: F403

__all__ = ["Optimizer", "StateArray", "clip_grad_norm", "decay_groups", "global_norm"]
__all__ += adam.__all__
__all__ += adaptive.__all__
__all__ += averaging.__all__
__all__ += factored.__all__
__all__ += moments.__all__
__all__ += muon.__all__
__all__ += schedule_free.__all__
__all__ += sgd.__all__
__all__ += signs.__all__
__all__ += trust.__all__

globals()["__getattr__"] = unknown_names(__name__)
