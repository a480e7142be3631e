"""The table of a model's layers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checks import whole
from .activations import Activation
from .dropout import Dropout
from .layer import arrays_of, bind
from .passes import Context

if TYPE_CHECKING:
    from .container import Container


class Summary(str):
    """A text that shows itself in full at the prompt."""

    def __repr__(self) -> str:
        return str(self)


def summary(model: "Container", input_shape: tuple[int, ...] | None) -> Summary:
    """See `Container.summary`: the shapes are those of two rows of zeros on their way through the model."""
    if input_shape is None:
        input_shape = _expected_shape(model)
    if not isinstance(input_shape, tuple) or not input_shape:
        raise TypeError(f"input_shape must be a tuple of int, such as (30,), not {input_shape!r}")
    for size in input_shape:
        whole("input_shape", size, 1)
    dtype = model.dtype or np.dtype(np.float32)
    before = [buffer.copy() for buffer in model.buffers.values()]
    try:
        rows = list(_rows(model, np.zeros((2, *input_shape), dtype), "", Context(training=False)))
    finally:
        for buffer, value in zip(model.buffers.values(), before, strict=True):
            buffer[...] = value
    total = sum(param.size for param in model.params.values())
    table = [("name", "layer", "output", "parameters"), *rows, ("total", "", "", f"{total:,}")]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join([*map(str.ljust, cells, widths), count.rjust(widths[-1])]).rstrip() for *cells, count in table]
    lines.append(f"{total * dtype.itemsize:,} bytes of {dtype}, and as many of gradients")
    return Summary("\n".join(lines))


def _expected_shape(model: "Container") -> tuple[int]:
    for prefix, leaf in model.leaves():
        width = getattr(leaf, "in_features", None) or getattr(leaf, "num_features", None)
        if width is not None:
            return (width,)
        if not isinstance(leaf, (Activation, Dropout)):
            raise ValueError(f"summary needs input_shape: what layer {prefix[:-1]}, {leaf!r}, takes is not known")
    raise ValueError(f"summary needs input_shape: {model!r} takes any")


def _rows(layer: Any, x: np.ndarray, prefix: str, context: Context) -> Iterator[tuple[str, str, str, str]]:
    """Name, layer, output shape and number of parameters of each layer within ``layer``, which reads ``x``."""
    for name, child in layer.named_children():
        y = bind(child, x, context).y
        shape = f"({', '.join(['N', *map(str, y.shape[1:])])})"
        nested = hasattr(child, "named_children")
        count = sum(param.size for param in arrays_of(child, "params").values())
        yield (
            f"{prefix}{name}",
            type(child).__name__ if nested or "object at 0x" in repr(child) else repr(child),
            shape,
            "" if nested else f"{count:,}",
        )
        if nested:
            yield from _rows(child, x, f"{prefix}{name}.", context)
        x = y if layer.chained else x
