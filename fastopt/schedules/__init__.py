"""Schedules: hyperparameters that change while training goes on.

A schedule is a function of the number of steps done, and of nothing else: 0 before the first step. Most numbers of an
optimizer (a learning rate, a momentum, a weight decay) may be one; a pair such as Adam's ``betas`` may hold some. A
resumed run needs no more than its step count. Schedules can be added, multiplied, scaled, and put one after the other,
also with plain functions and numbers: ``0.5 * a``, ``a + b``, ``a.then(b, at=1000)``, ``a.warm_up(500)``. Values, names
and defaults are those of PyTorch's schedulers where it has the schedule, with the first value in the place of the
optimizer's learning rate.

>>> import numpy as np, fastopt as fo
>>> lr = fo.schedules.CosineAnnealing(0.1, T_max=1000).warm_up(100)
>>> lr(0), lr(100), lr(1100)
(0.03333333333333333, 0.1, 0.0)
>>> opt = fo.optim.SGD(np.zeros(3), lr=lr, momentum=0.9)
"""

from .._hints import unknown_names
from .base import Constant, Lambda, Linear, Schedule
from .cycles import CosineAnnealingWarmRestarts, Cyclic, OneCycle
from .decay import CosineAnnealing, Exponential, InverseTime, MultiStep, Polynomial, Step

__all__ = [
    "Constant",
    "CosineAnnealing",
    "CosineAnnealingWarmRestarts",
    "Cyclic",
    "Exponential",
    "InverseTime",
    "Lambda",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "Step",
]

globals()["__getattr__"] = unknown_names(__name__)
