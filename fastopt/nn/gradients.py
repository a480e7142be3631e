"""Checks the gradients of any layer against differences of its output."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import positive, whole
from .._conversion import as_real_array
from .container import Container, checked_layer
from .layer import Layer, arrays_of, bind
from .passes import Context, aligned, run


@dataclass(frozen=True)
class Comparison:
    """One element of a gradient, as the layer gives it and as the differences do.

    ``error`` is how far the two are apart, divided by what is tolerated: above 1 is wrong.
    """

    index: tuple[int, ...]
    gradient: float
    difference: float
    error: float


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found.

    Attributes
    ----------
    worst_of : dict
        Of every parameter, by name, and of ``"x"``, the input, the element with the greatest error: its ``index``, its
        ``gradient``, the ``difference``, and the ``error``, how far the two are apart divided by what is tolerated.
    rtol, atol : float
        What was tolerated.
    """

    worst_of: dict[str, Comparison]
    rtol: float
    atol: float

    @property
    def worst(self) -> str:
        """The name of the array with the greatest error."""
        return max(self.worst_of, key=lambda name: self.worst_of[name].error)

    @property
    def ok(self) -> bool:
        """Whether all gradients are right."""
        return all(found.error <= 1 for found in self.worst_of.values())

    def __str__(self) -> str:
        found = self.worst_of[self.worst]
        place = f"{self.worst}[{', '.join(map(str, found.index))}]"
        verdict = "all gradients are right, the least exact being" if self.ok else "wrong is"
        lines = [f"{verdict} that of {place}: {found.gradient:.9g}, and the differences give {found.difference:.9g}"]
        width = max(map(len, ("array", *self.worst_of)))
        lines.append(f"{'array':{width}}  {'worst at':14}  {'gradient':>14}  {'difference':>14}  error / tolerance")
        for name, it in self.worst_of.items():
            numbers = f"{it.gradient:14.7g}  {it.difference:14.7g}  {it.error:17.3g}"
            lines.append(f"{name:{width}}  {it.index!s:14}  {numbers}")
        lines.append(f"tolerated: atol + rtol * size, with atol = {self.atol:g} and rtol = {self.rtol:g}")
        return "\n".join(lines)


def check_gradients(
    layer: Any,
    x: Any,
    *,
    dy: Any = None,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    max_elements: int | None = 100,
    raise_exception: bool = True,
) -> GradientCheck:
    r"""Compare the gradients that a layer's ``backward`` gives with differences of its ``forward``.

    For L, the sum of all outputs times fixed weights ``dy``, and every element w of every parameter and of the input:

    .. math:: \frac{\partial L}{\partial w} \approx \frac{L(w + h) - L(w - h)}{2 h}

    All is done in double, on a copy: the layer, its arrays, modes and random state stay as they are, whatever happens.

    Parameters
    ----------
    layer : Layer, or any object with ``forward(x)`` and ``backward(dy)``
        A layer of one's own, one of this library's, or a whole model.
    x : array (rows, ...)
        A batch to check at; a few rows of random numbers do.
    dy : array like the output, optional
        By default normally distributed random numbers, the same in every call.
    eps : float
        h is this, times the element's size if that is above 1.
    rtol, atol : float
        An element is right if the two are at most ``atol + rtol * (the larger of their sizes)`` apart.
    max_elements : int or None
        How many elements of every array are checked, at random places; None: all.
    raise_exception : bool
        Whether wrong gradients raise an exception.

    Returns
    -------
    GradientCheck
        With ``ok``, ``worst`` and ``worst_of``; as a text, a table.

    Raises
    ------
    AssertionError
        If a gradient is wrong: it names the worst element, and lists the worst of every array.
    TypeError, ValueError
        If ``layer`` has not the two methods, cannot be copied or does not take ``x``; if an argument is of another
        type or out of range; if two forward passes in the same state give different results.

    Notes
    -----
    The layer is checked in the mode it is in; what is frozen has no gradients to check. In training, batch norm's mean
    and variance depend on ``x``, and this is part of what is checked; running statistics are put back before every
    forward pass. So is the state of a dropout layer, which therefore draws the same mask each time. A random layer of
    one's own can be checked if what its random numbers follow from is an array in its dict ``buffers``.

    Gradients are filled with NaN before the way back: one that is not written, or only added to, is noticed. So is a
    layer that has its parameters elsewhere than in the arrays of ``params``, which a `Sequential` would move.

    Where the output has a kink, as ReLU's has at 0, the differences mean nothing: take another ``x`` then.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> class Square:
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * x
    ...
    ...     def backward(self, dy):
    ...         return self.x * dy  # it should be 2 * self.x * dy
    >>> fo.nn.check_gradients(Square(), np.array([[1.0, 2.0]]), dy=np.ones((1, 2)))
    Traceback (most recent call last):
    AssertionError: wrong is that of x[0, 1]: 2, and the differences give 4
    array  worst at              gradient      difference  error / tolerance
    x      (0, 1)                       2               4           4.99e+04
    tolerated: atol + rtol * size, with atol = 1e-07 and rtol = 1e-05
    >>> model = fo.nn.Sequential(fo.nn.Linear(2, 5), fo.nn.BatchNorm(5), fo.nn.Tanh(), fo.nn.Dropout(), rng=0)
    >>> fo.nn.check_gradients(model, np.random.default_rng(0).standard_normal((4, 2))).ok
    True
    """
    checked_layer("layer", layer)
    for name, value in (("eps", eps), ("rtol", rtol), ("atol", atol)):
        positive(name, value)
    if max_elements is not None:
        whole("max_elements", max_elements, 1)
    x = _doubles("x", x)
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}: it must have rows and columns")
    layer = _copy_in_double(layer)
    leaves = [leaf for _, leaf in layer.leaves()] if isinstance(layer, Container) else [layer]
    state = [(a, a.copy()) for leaf in leaves for a in arrays_of(leaf, "buffers").values()]
    bound = bind(layer, x, Context(training=None))

    def output() -> np.ndarray:
        for buffer, value in state:
            buffer[...] = value
        for call in bound.prepare:
            call()
        run(bound.forward)
        return bound.y

    first = output().copy()
    if not np.isfinite(first).all():
        raise ValueError("the output for x holds infinities or NaN: it has no differences to compare with")
    if not np.array_equal(first, output()):
        raise ValueError(
            "two forward passes in the same state gave different outputs: what a random layer draws must follow from"
            " arrays in its dict buffers"
        )
    rng = np.random.default_rng(0)
    dy = rng.standard_normal(first.shape) if dy is None else _doubles("dy", dy)
    if dy.shape != first.shape:
        raise ValueError(f"dy has shape {dy.shape}, the output has {first.shape}")

    params, grads = arrays_of(layer, "params"), arrays_of(layer, "grads")
    dx = np.full(x.shape, math.nan)
    for grad in grads.values():
        grad.fill(math.nan)
    work = dy.copy()  # the way back may overwrite it
    run(bound.backward(work, dx))
    gradients = {name: grad.copy() for name, grad in grads.items()}

    worst_of: dict[str, Comparison] = {}
    frozen: set[str] = layer.frozen_parameters() if isinstance(layer, Layer) else set()
    arrays = [(name, params[name], gradients[name]) for name in params if name not in frozen]
    arrays.append(("x" if "x" not in params else "x (the input)", x, dx))
    for name, array, gradient in arrays:
        if array.size == 0:
            continue
        count = array.size if max_elements is None else min(max_elements, array.size)
        found = []
        for i in np.sort(rng.choice(array.size, count, replace=False)):
            index = np.unravel_index(i, array.shape)
            difference = _difference(output, array, index, dy, eps)
            tolerance = atol + rtol * max(abs(gradient[index]), abs(difference))
            error = abs(gradient[index] - difference) / tolerance
            place = tuple(map(int, index))
            error = math.inf if math.isnan(error) else float(error)
            found.append(Comparison(place, float(gradient[index]), difference, error))
        worst_of[name] = max(found, key=lambda each: each.error)
    if not worst_of:
        raise ValueError(f"there is nothing to check: x has shape {x.shape}, and there are no parameters")
    result = GradientCheck(worst_of, float(rtol), float(atol))
    if raise_exception and not result.ok:
        raise AssertionError(str(result))
    return result


def _difference(output: Callable[[], np.ndarray], array: np.ndarray, index: Any, dy: np.ndarray, eps: float) -> float:
    """The derivative of the sum of dy times the output, with respect to one element of ``array``."""
    value = array[index]
    h = eps * max(1.0, abs(value))
    array[index] = above = value + h
    y = output().copy()
    array[index] = below = value - h
    y -= output()  # of the outputs and not of the sums: outputs that do not change cancel without a rounding error
    array[index] = value
    return float((dy * y).sum() / (above - below))


def _doubles(name: str, x: Any) -> np.ndarray:
    """``x`` as a new array of float64, on a cache line."""
    x = as_real_array(name, x)
    if not np.isfinite(x).all():
        raise ValueError(f"{name} holds infinities or NaN")
    copied = aligned(x.shape, np.float64)
    copied[...] = x
    return copied


def _copy_in_double(layer: Any) -> Any:
    """A copy of the layer whose parameters, gradients and buffers are new arrays, in double where they are float32."""
    try:
        layer = copy.deepcopy(layer)
    except Exception as error:
        raise TypeError(f"check_gradients works on a copy, and {layer!r} cannot be copied: {error}") from error
    for leaf in [leaf for _, leaf in layer.leaves()] if isinstance(layer, Container) else [layer]:
        for kind in ("params", "grads", "buffers"):
            arrays = arrays_of(leaf, kind)
            for key, array in arrays.items():
                arrays[key] = array.astype(np.float64 if array.dtype == np.float32 else array.dtype)
    if isinstance(layer, Container):
        layer._move_into_arena()
    return layer
