"""A picture of a graph: values on the nodes, partial derivatives on the edges."""

from itertools import pairwise
from typing import Any

import numpy as np

from .node import Node, label, order_of
from .tables import Step, as_text, folded, names_of

_COLOURS = {"variable": "#56B4E9", "constant": "#DDDDDD", "result": "#E69F00", "node": "white"}  # Okabe and Ito's


def plot(result: Node, ax: Any = None) -> Any:
    """Draw the graph: inputs on the left and the result on the right.

    Parameters
    ----------
    result : Node
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure, which grows with the graph.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If ``result`` is no node.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastopt import graph
    >>> W, X = graph.variable(3.0, name="W"), graph.constant(3.0, name="X")
    >>> figure = graph.plot(graph.sigmoid(W * X).named("y"))
    """
    if not isinstance(result, Node):
        raise TypeError(f"plot takes a node, not {type(result).__name__}")
    names = names_of(result)
    steps = {node: Step(node, names) for node in folded(result)}
    places = _places(result, steps)
    if ax is None:
        import matplotlib.pyplot as plt

        width = 2.7 * (1 + max(x for x, _ in places.values()))
        height = 1.3 * (1 + max(y for _, y in places.values()))
        _, ax = plt.subplots(figsize=(max(4.0, width), max(2.2, height)), layout="constrained")
    ax.set_axis_off()
    boxes = {}
    for node, place in places.items():
        if isinstance(node, tuple):
            continue
        kind = (
            "result" if node is result else "node" if node.operation else "variable" if node.trainable else "constant"
        )
        name = names.get(node, label(node))
        formula = f"= {steps[node].formula}" if node in steps else ""
        value = _short(node.value)
        text = "\n".join(part for part in (f"{name} {formula}".strip(), value if value != name else "") if part)
        boxes[node] = ax.text(
            *place, text, ha="center", va="center", fontsize=9, zorder=3,
            bbox={"boxstyle": "round,pad=0.45", "facecolor": _COLOURS[kind], "edgecolor": "#333333"}, color="black",
        ).get_bbox_patch()  # fmt: skip
    for node, step in steps.items():
        inputs = [x for x in step.inputs if x in places]
        partials = step.partials(names, set(inputs))
        for x in inputs:
            way = [x, *_between(places, x, node), node]
            for begin, end in pairwise(way):
                arrow = {"arrowstyle": "-|>" if end is node else "-", "color": "#777777", "shrinkA": 0, "shrinkB": 0}
                if begin is x:
                    arrow.update(patchA=boxes[x], shrinkA=2)
                if end is node:
                    arrow.update(patchB=boxes[node], shrinkB=2)
                ax.annotate("", xy=places[end], xytext=places[begin], zorder=1, arrowprops=arrow)
            ax.text(
                *np.mean([places[way[-2]], places[node]], axis=0), _short(partials.get(names[x], "")), zorder=2,
                ha="center", va="center", fontsize=8, color="#0072B2",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
    ax.set_xlim(-0.6, max(x for x, _ in places.values()) + 0.6)
    ax.set_ylim(-0.6, max(y for _, y in places.values()) + 0.6)
    return ax.figure


def _between(places: Any, x: Node, node: Node) -> list[Any]:
    """The places that an edge goes through where it passes columns by."""
    own: list[Any] = [key for key in places if isinstance(key, tuple) and key[:2] == (x, node)]
    return sorted(own, key=lambda key: key[2])


def _places(result: Node, steps: dict[Node, Step]) -> dict[Any, tuple[float, float]]:
    """Columns by the longest way from an input; within a column, near the mean of what a node is made of.

    An edge that passes columns by has a place in each, (input, node, column), so that it does not cross nodes.
    """
    # plain numbers stand in formulas
    used = {x for step in steps.values() for x in step.inputs if x.operation or x.name}
    shown = [x for x in order_of(result) if x in used or x in steps or x is result]
    column: dict[Any, int] = {}
    for node in shown:
        inputs = [column[x] for x in steps[node].inputs if x in column] if node in steps else []
        column[node] = 1 + max(inputs, default=-1)
    for node in shown:  # inputs move to just before what they are used in
        if node not in steps and node is not result:
            column[node] = min(column[s.node] for s in steps.values() if node in s.inputs) - 1
    before: dict[Any, list[Any]] = {}  # of every place, those that lines come from
    for node, step in steps.items():
        before[node] = []
        for x in step.inputs:
            if x in column:
                way: list[Any] = [x, *((x, node, c) for c in range(column[x] + 1, column[node]))]
                before[node].append(way[-1])
                for previous, place in pairwise(way):
                    before[place], column[place] = [previous], place[2]
    columns: dict[int, list[Any]] = {}
    for place, c in column.items():
        columns.setdefault(c, []).append(place)
    tallest = max(map(len, columns.values()))
    height: dict[Any, float] = {}
    for c in sorted(columns):
        wish = {x: float(np.mean([height[i] for i in before[x]])) if before.get(x) else -x.number for x in columns[c]}
        for i, x in enumerate(sorted(columns[c], key=wish.__getitem__)):
            height[x] = (tallest - len(columns[c])) / 2 + i
    return {x: (float(column[x]), height[x]) for x in column}


def _short(shown: Any) -> str:
    text = as_text(shown, 3)
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text if len(text) <= 36 else text[:35] + "…"
