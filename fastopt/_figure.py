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
        from matplotlib import pyplot, rc_context
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plot() needs matplotlib: pip install fastopt[examples] ({error})") from error
    if ax is None:
        with rc_context({"figure.max_open_warning": 0}):  # which would be about calls that the user did not make
            figure = pyplot.figure(FigureClass=Figure, figsize=size, dpi=150, layout="constrained")
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
    """How IPython shows a figure that is the value of a cell: not at all if the cell's end will, which shows all."""
    import matplotlib
    from IPython.display import display
    from matplotlib import pyplot

    del vars(figure)["_ipython_display_"]  # in later cells, as other figures are
    at_the_end = "inline" in matplotlib.get_backend() and matplotlib.is_interactive()
    if not (at_the_end and pyplot.fignum_exists(figure.number)):
        display(figure)


def draw_curve(axes: Any, x: Any, values: Any, **style: Any) -> None:
    """A line through the finite values, and a mark at each that has no neighbour to draw a line to."""
    import numpy as np

    finite = np.isfinite(values := np.asarray(values, np.float64))
    padded = np.concatenate([[False], finite, [False]])
    alone = np.flatnonzero(finite & ~padded[:-2] & ~padded[2:])
    axes.plot(x, np.where(finite, values, np.nan), linewidth=1.8, marker="o", markevery=list(alone), **style)
