"""Layers made of layers, with their parameters and gradients in one block of memory."""

from collections.abc import Iterator, Mapping
from operator import getitem, is_
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._checks import generator_of, real_dtype
from .activations import Activation
from .dropout import Dropout
from .layer import Layer, arrays_of, make_writeable
from .passes import aligned
from .summary import Summary, summary

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


def _retire(param: np.ndarray) -> None:
    """Make a parameter read-only if it lies in a model's block; a user's own array stays as it is."""
    if isinstance(param.base, np.ndarray) and param.base.dtype == np.uint8:
        param.flags.writeable = False


class _Arrays(NamedTuple):
    """A parameter and its gradient, and where they are found: in a layer's dicts, under a key."""

    layer: Any
    key: str
    param: np.ndarray
    grad: np.ndarray


_OF_FUNCTION = {kind.function: kind.__name__ for kind in Activation.__subclasses__()}


class _Placed:
    """Where the arrays of a container were found: to look whether they still are takes no loop of Python's."""

    def __init__(self, container: "Container"):
        found = [(leaf, kind, arrays_of(leaf, kind)) for _, leaf in container.leaves() for kind, _ in container.kinds()]
        found = [each for each in found if each[2]]
        self._leaves, self._kinds = [leaf for leaf, _, _ in found], [kind for _, kind, _ in found]
        self._dicts = [arrays for _, _, arrays in found]
        self._holders = [arrays for arrays in self._dicts for _ in arrays]
        self._keys = [key for arrays in self._dicts for key in arrays]
        self._arrays = [array for arrays in self._dicts for array in arrays.values()]
        self._lengths = list(map(len, self._dicts))

    def all_there(self) -> bool:
        try:
            return (
                all(map(is_, map(getattr, self._leaves, self._kinds), self._dicts))
                and all(map(is_, map(getitem, self._holders, self._keys), self._arrays))
                and list(map(len, self._dicts)) == self._lengths
            )
        except (KeyError, AttributeError):
            return False


def checked_layer(what: str, layer: Any) -> Any:
    """``layer``, if it has the two methods."""
    if isinstance(layer, type) or not callable(getattr(layer, "forward", None)):
        hint = ""
        if isinstance(layer, type) and issubclass(layer, Layer):
            hint = f": make one, {layer.__name__}(...)"
        elif isinstance(layer, (list, tuple)):
            hint = ": give layers one by one, Sequential(*layers)"
        elif meant := _OF_FUNCTION.get(getattr(layer, "__name__", "")):
            hint = f": as a layer that is fo.nn.{meant}()"
        raise TypeError(f"{what} must be an object with forward(x) and backward(dy), not {layer!r}{hint}")
    if not callable(getattr(layer, "backward", None)):
        raise TypeError(f"{what}, {layer!r}, has no method backward(dy)")
    return layer


class Container(Layer):
    """The base of layers that are made of others, their children.

    All parameters and then all gradients lie in one block of memory, each array on a cache line of its own, under
    names such as ``"0.weight"``: the child's, and the child's own for the array.
    """

    chained = False  # whether a child takes the output of the one before, and not the container's input

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """The layers that this one is made of, each with its name."""
        raise NotImplementedError

    def parts(self) -> Iterator[Any]:
        yield self
        for _, child in self.named_children():
            yield from child.parts() if isinstance(child, Layer) else [child]

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The layers that are not made of others, with what their arrays' names begin with."""
        for name, child in self.named_children():
            if isinstance(child, Container):
                yield from child.leaves(f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}.", child

    def summary(self, input_shape: tuple[int, ...] | None = None) -> Summary:
        """A table of the layers: names, output shapes and numbers of parameters.

        Parameters
        ----------
        input_shape : tuple of int, optional
            The shape of a single input, without the rows: ``(30,)``. It may be left out if the first layer that
            is no activation or dropout is a `Linear` or `BatchNorm`, or is made of such.

        Returns
        -------
        str
            It shows itself in full at the prompt; elsewhere, ``print`` it.

        Raises
        ------
        TypeError, ValueError
            If ``input_shape`` is missing and needed, or is no shape that the model takes.

        Examples
        --------
        >>> import fastopt as fo
        >>> model = fo.nn.Sequential(fo.nn.Linear(30, 64), fo.nn.Residual(fo.nn.Linear(64, 64)), fo.nn.Linear(64, 1))
        >>> model.summary()
        name    layer           output   parameters
        0       Linear(30, 64)  (N, 64)       1,984
        1       Residual        (N, 64)
        1.body  Linear(64, 64)  (N, 64)       4,160
        2       Linear(64, 1)   (N, 1)           65
        total                                 6,209
        24,836 bytes of float32, and as many of gradients
        """
        return summary(self, input_shape)

    # -- memory --

    def _assemble(self, rng: "int | Generator | None", dtype: Any = None) -> None:
        """What ends a container's ``__init__``: move the arrays, as ``dtype``, and, with ``rng``, draw new values."""
        if dtype is not None:
            self._convert(real_dtype(dtype))
        self._move_into_arena()
        for part in self.parts():
            if not hasattr(part, "training"):
                part.training = True
        if rng is not None:
            rng = generator_of(rng)
            # dropout comes last: with it and without it, a model begins with the same weights
            for part in sorted(self.parts(), key=lambda part: isinstance(part, Dropout)):
                if hasattr(part, "reset_parameters") and not getattr(part, "seeded", False):
                    part.reset_parameters(rng)
                    part.seeded = True

    def _convert(self, dtype: np.dtype) -> None:
        """Make the layers' arrays of floating-point numbers arrays of ``dtype``, once all are found to be fine."""
        self._checked_arrays(one_dtype=False)
        for _, leaf in self.leaves():
            for kind in ("params", "grads", "buffers"):
                arrays = arrays_of(leaf, kind)
                arrays.update((k, a.astype(dtype)) for k, a in arrays.items() if a.dtype in (np.float32, np.float64))

    def _move_into_arena(self) -> None:
        """Give every parameter and every gradient its place in one block: a half for each.

        A parameter that was in the block of another model becomes read-only there: an optimizer over it says so.
        """
        arrays = self._checked_arrays()
        line = 64
        starts = np.cumsum([0] + [-(-a.param.nbytes // line) * line for a in arrays])
        halves = aligned((2, int(starts[-1])), np.uint8)
        for (layer, key, *pair), start in zip(arrays, starts[:-1], strict=True):
            for owned, array, half in zip((layer.params, layer.grads), pair, halves, strict=True):
                owned[key] = half[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
                owned[key][...] = array
            _retire(pair[0])
        for part in self.parts():
            if isinstance(part, Layer):
                part._forget_passes()
            if isinstance(part, Container):
                for prefix, leaf in part.leaves():
                    for kind, own in part.kinds():
                        own.update((f"{prefix}{key}", array) for key, array in arrays_of(leaf, kind).items())

    def _checked_arrays(self, one_dtype: bool = True) -> list[_Arrays]:
        """All parameters with their gradients, or the error that they call for."""
        layers: dict[int, str] = {}
        names: dict[int, str] = {}
        found: list[_Arrays] = []
        for prefix, leaf in self.leaves():
            if (first := layers.setdefault(id(leaf), prefix)) != prefix:
                raise ValueError(f"layer {prefix[:-1]} is layer {first[:-1]}: a layer can stand in a model once")
            params, grads = arrays_of(leaf, "params"), arrays_of(leaf, "grads")
            if params.keys() != grads.keys():
                raise ValueError(f"layer {prefix[:-1]} has the params {list(params)}, and the grads {list(grads)}")
            for key, param in params.items():
                name, grad = f"{prefix}{key}", grads[key]
                if (first := names.setdefault(id(param), name)) != name:
                    raise ValueError(f"parameter {name!r} is the same array as {first!r}: parameters cannot be shared")
                if not isinstance(param, np.ndarray) or param.dtype not in (np.float32, np.float64):
                    given = str(param.dtype) if isinstance(param, np.ndarray) else type(param).__name__
                    raise TypeError(f"parameter {name!r} must be an array of float32 or float64, not {given}")
                if one_dtype and found and param.dtype != found[0].param.dtype:
                    raise TypeError(f"parameter {name!r} is {param.dtype}, those before it are {found[0].param.dtype}")
                if not isinstance(grad, np.ndarray) or grad.dtype != param.dtype or grad.shape != param.shape:
                    given = f"{grad.dtype} {grad.shape}" if isinstance(grad, np.ndarray) else type(grad).__name__
                    raise ValueError(f"gradient of {name!r} must be {param.dtype} {param.shape}, as it is, not {given}")
                found.append(_Arrays(leaf, key, param, grad))
            for key, buffer in arrays_of(leaf, "buffers").items():
                if not isinstance(buffer, np.ndarray):
                    raise TypeError(f"buffer '{prefix}{key}' must be an array, not {type(buffer).__name__}")
                if key in params:
                    raise ValueError(f"'{prefix}{key}' is a parameter and a buffer")
        return found

    def frozen_parameters(self) -> set[str]:
        frozen = ((prefix, leaf) for prefix, leaf in self.leaves() if getattr(leaf, "_frozen", False))
        return {f"{prefix}{key}" for prefix, leaf in frozen for key in arrays_of(leaf, "params")}

    def check_values(self, given: Mapping[str, np.ndarray], prefix: str = "") -> None:
        for name, leaf in self.leaves(prefix):
            if isinstance(leaf, Layer):
                leaf.check_values(given, name)

    def check_arrays(self) -> None:
        if self._placed is None or not self._placed.all_there():
            self._check_each_array()
            self._placed = _Placed(self)

    def _check_each_array(self) -> None:
        kinds = self.kinds()
        for prefix, leaf in self.leaves():
            for kind, own in kinds:
                for key, array in arrays_of(leaf, kind).items():
                    if own.get(f"{prefix}{key}") is not array:
                        raise ValueError(
                            f"{kind}[{key!r}] of layer {prefix[:-1]} is not the array this model was made with:"
                            f" it was replaced (write into it: [...] = ...), or another model took the layer over"
                        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in super().__getstate__().items() if name not in ("params", "grads", "buffers")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.params, self.grads, self.buffers = {}, {}, {}
        for _, leaf in self.leaves():
            make_writeable(leaf)
        self._move_into_arena()
