"""Neural networks on NumPy arrays: layers, and what is made of them.

Names, conventions and initial values are those of ``torch.nn``.

A layer of one's own is any object with two methods, ``forward(x)``, which returns the output for a batch, and
``backward(dy)``, which takes the gradient with respect to that output and returns the one with respect to ``x``.
``forward`` may keep ``x``, which is read-only, until ``backward``. If the layer has parameters, it keeps them in a
dict ``params`` and writes their gradients into the arrays of a dict ``grads`` with the same names. A `Sequential`
moves these arrays into its own memory, so the layer is to look them up in the dicts each time.

It may have more: its attribute ``training``, True at first, is set by `Sequential.train` and `Sequential.eval`; within
the two methods it is the mode of the run, True in `fastopt.fit` and False in a prediction. What else is to be saved
with the model, such as running statistics, it keeps in arrays in a dict ``buffers``; a method ``reset_parameters(rng)``
draws its initial values when the model is given an ``rng``. `check_gradients` tells whether its two methods agree.

The two methods are called on a twin, an object of the layer's class with its attributes, of which every run has one:
what ``forward`` keeps on ``self``, or in a dict, list or set there, is found by the ``backward`` that belongs to it,
even if there is a prediction in between, or in another thread. What a method has set is seen on the layer afterwards.
There is no twin of a layer with ``__slots__``, ``__del__`` or a property ``training``, or whose attributes refer to the
layer itself: one thread at a time runs it, its ``training`` is the run's meanwhile, a prediction undoes what it set.

>>> import numpy as np, fastopt as fo
>>> class Scale:
...     def __init__(self, width):
...         self.params = {"gain": np.ones(width, np.float32)}
...         self.grads = {"gain": np.zeros(width, np.float32)}
...
...     def forward(self, x):
...         self.x = x
...         return x * self.params["gain"]
...
...     def backward(self, dy):
...         self.grads["gain"][...] = (dy * self.x).sum(axis=0)
...         return dy * self.params["gain"]
>>> model = fo.nn.Sequential(fo.nn.Linear(3, 2), Scale(2))
>>> list(model.parameters())
['0.weight', '0.bias', '1.gain']
>>> fo.nn.check_gradients(Scale(2), np.array([[1.0, 2.0], [3.0, 4.0]])).ok
True
"""

from .._hints import unknown_names
from . import activations
from .activations import *  # noqa: F403
from .dropout import Dropout
from .gradients import GradientCheck, check_gradients
from .layer import Layer
from .layer_normalization import LayerNorm
from .linear import Linear
from .normalization import BatchNorm
from .residual import Highway, Residual
from .sequential import Sequential

__all__ = ["BatchNorm", "Dropout", "GradientCheck", "Highway", "Layer", "LayerNorm", "Linear",
           "Residual", "Sequential", "check_gradients"]  # fmt: skip
__all__ += activations.__all__

globals()["__getattr__"] = unknown_names(__name__)
