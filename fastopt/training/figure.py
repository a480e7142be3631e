"""The figures that results are drawn in."""

from typing import Any


def new_figure(size: tuple[float, float], columns: int) -> tuple[Any, list[Any]]:
    """A figure that belongs to no window, and its axes, one beside the other."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plot() needs matplotlib: pip install fastopt[examples] ({error})") from error
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for each in axes:
        each.grid(color="0.9")
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes
