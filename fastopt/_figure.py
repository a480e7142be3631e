"""The figures that results are drawn in."""

from collections.abc import Iterable
from functools import partial
from typing import Any

BLUE, ORANGE = "#1f5fa8", "#d1661f"


def figure_and_axes(ax: Any, size: tuple[float, float], panels: int) -> tuple[Any, list[Any]]:
    """A new figure of pyplot's with its axes, one beside the other; or the axes that were given, and their figure.

    Raises
    ------
    TypeError, ValueError
        If what was given are not so many axes, or fewer.
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot, rcParams
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plot() needs matplotlib: pip install fastopt[examples] ({error})") from error
    if ax is None:
        most, rcParams["figure.max_open_warning"] = rcParams["figure.max_open_warning"], 0
        try:  # without a warning, which is of the caller's own; rc_context would undo what a notebook's backend sets
            figure = pyplot.figure(FigureClass=Figure, figsize=size, dpi=150, layout="constrained")
        finally:
            rcParams["figure.max_open_warning"] = most
        axes = list(figure.subplots(1, panels, squeeze=False).flat)
        vars(figure)["_ipython_display_"] = partial(_display, figure)
    else:
        axes = list(ax) if isinstance(ax, Iterable) else [ax]
        for each in axes:
            if not isinstance(each, Axes):
                raise TypeError(f"ax must be matplotlib's axes, not {type(each).__name__}")
        if not 1 <= len(axes) <= panels:
            raise ValueError(f"ax must be {'one' if panels == 1 else f'1 to {panels}'} axes, not {len(axes)}")
        figure = axes[0].figure.figure  # that of a subfigure, too
    for each in axes:
        each.grid(color="0.9")
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _display(figure: Any) -> None:
    """How IPython shows a figure: once, where as the value of a cell it would show it again at the cell's end."""
    import matplotlib
    from IPython.display import display
    from matplotlib import pyplot

    del vars(figure)["_ipython_display_"]  # in later cells, as other figures are
    display(figure)
    if "inline" in matplotlib.get_backend():
        pyplot.close(figure)  # as it does with all at the end of the cell


def draw_curve(axes: Any, x: Any, values: Any, **style: Any) -> None:
    """A line through the finite values, and a mark at each that has no neighbour to draw a line to."""
    import numpy as np

    finite = np.isfinite(values := np.asarray(values, np.float64))
    padded = np.concatenate([[False], finite, [False]])
    alone = np.flatnonzero(finite & ~padded[:-2] & ~padded[2:])
    axes.plot(x, np.where(finite, values, np.nan), linewidth=1.8, marker="o", markevery=list(alone), **style)
