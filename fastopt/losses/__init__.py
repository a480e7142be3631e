r"""Losses for `fastopt.fit`, as objects that carry their options.

``fit`` takes them by name (``"logistic"``, ``"cross_entropy"``, ``"mse"``, ``"huber"``: without options), as objects of
this module, as a function, or as an object of a class of one's own.

A function is given the outputs and the targets of a batch, and returns the mean loss and its gradient with respect to
the outputs, as `fastopt.mse_loss` and its kin do: ``loss=lambda z, y: fo.logistic_loss(z, y, targets="-1/+1")``.

A class of one's own derives from `Loss` and has one method, `Loss.losses`. It can do what the others can: it takes
sample weights, and may check its targets (`Loss.targets`) and say what is right (`Loss.accuracy`).

>>> import numpy as np, fastopt as fo
>>> class LogCosh(fo.losses.Loss):
...     def losses(self, z, y, dz):
...         np.tanh(z - y, out=dz)
...         return np.logaddexp(z - y, y - z) - np.log(2)
>>> X = np.arange(8.0)[:, None]
>>> model = fo.nn.Linear(1, 1, dtype=np.float64, rng=0)
>>> opt = fo.optim.Adam(model.parameters(), lr=0.1)
>>> history = fo.fit(model, X, 2 * X - 1, loss=LogCosh(), optimizer=opt, epochs=300, rng=0)
>>> model.weight.round(1), model.bias.round(1)
(array([[2.]]), array([-1.]))
"""

from .._hints import unknown_names
from . import standard
from .base import Loss
from .standard import *  # noqa: F403

__all__ = ["Loss"]
__all__ += standard.__all__

globals()["__getattr__"] = unknown_names(__name__)
