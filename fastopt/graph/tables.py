"""Forward and backward mode as tables: every node with its value, its partial derivative, and the derivative."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._backends.environment import isolated
from .modes import as_derivative, depends, partials, pull_back, push_forward, scalar
from .node import Node, formula_of, label, order_of

_LONGEST = 80  # characters of a part of a formula; and a shared node in it would double them each time


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes
    ----------
    node : Node
    name, formula : str
    value : ndarray
    partials : dict
        By the name of each node in the formula, the partial derivative with respect to it: a number, an array where the
        node depends on it element by element, or a text that names the map.
    derivative : ndarray
        Forward: of the node with respect to the variable. Backward: of the result with respect to the node.
    """

    node: Node
    name: str
    formula: str
    value: np.ndarray
    partials: dict[str, Any]
    derivative: np.ndarray


class Table(Sequence[Row]):
    """The rows of `forward_mode` or `backward_mode`; it prints itself, and shows as a table in a notebook.

    Attributes
    ----------
    derivative : float or ndarray
        Forward: of the result with respect to the variable.
    """

    def __init__(self, rows: list[Row], heading: str, derivatives: dict[Node, Any], derivative: Any = None):
        self._rows, self._heading, self._derivatives = rows, heading, derivatives
        self.derivative = derivative

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """A row by its number; the derivative of, or with respect to, a node."""
        if isinstance(key, Node):
            return _plain(as_derivative(self._derivatives.get(key), key))
        return self._rows[key]

    def _cells(self) -> list[tuple[str, ...]]:
        head = ("node", "formula", "value", "partial derivative", self._heading)
        return [head, *(
            (row.name, row.formula, as_text(row.value), ", ".join(
                f"∂{row.name}/∂{name} = {as_text(partial)}" for name, partial in row.partials.items()
            ), as_text(row.derivative))
            for row in self._rows
        )]  # fmt: skip

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *rows = ([html.escape(cell) for cell in row] for row in self._cells())
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        top = "".join(f"<th>{cell}</th>" for cell in head)
        return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _plain(x: np.ndarray) -> Any:
    return x.item() if x.ndim == 0 else x


def as_text(x: Any, digits: int = 6) -> str:
    """A number in full, an array by its shape and norm, a map by its name."""
    if isinstance(x, str):
        return x
    x = np.asarray(x)
    if x.size == 1:
        return f"{x.item():.8g}"
    if x.size <= 4:
        return np.array2string(x, precision=digits, separator=", ").replace("\n", "")
    return f"{x.shape}, norm {np.linalg.norm(x):.{digits}g}"


def folded(result: Node) -> list[Node]:
    """The nodes that have rows: those with names, or all if only variables and constants have one."""
    order = order_of(result)
    if any(node.operation and node.name for node in order):
        return [node for node in order if node.operation and (node.name or node is result)]
    return [node for node in order if node.operation]


def names_of(result: Node) -> dict[Node, str]:
    """What every node with a row, and every variable and constant, is called."""
    names, count = {}, 0
    rows = set(folded(result))
    for node in order_of(result):
        if node in rows and node.name is None:
            count += 1
            names[node] = "result" if node is result else f"v{count}"
        elif node in rows or node.operation is None:
            names[node] = label(node)
    return names


class Step:
    """A node with a row, and the nodes without names that it is folded with: a small graph between named ones."""

    def __init__(self, node: Node, names: dict[Node, str]):
        self.node, self.name = node, names[node]
        self.inside: list[Node] = []  # what is folded, inputs first, the node last
        self.inputs: list[Node] = []  # the nearest nodes with names, in the order of the formula
        seen: set[Node] = set()
        pending = [(node, False)]
        while pending:
            each, done = pending.pop()
            if done:
                self.inside.append(each)
            elif each not in seen:
                seen.add(each)
                if each is not node and each in names:
                    self.inputs.append(each)
                else:
                    pending.append((each, True))
                    pending += [(x, False) for x in reversed(each.inputs)]
        self.formula = self._formula(names)

    def _formula(self, names: dict[Node, str]) -> str:
        texts: dict[Node, tuple[str, int]] = {x: (names[x], 4) for x in self.inputs}
        for each in self.inside:
            operation = each.operation
            assert operation is not None
            shown, formula = [], operation.formula
            encloses = formula is None or "({})" in formula or "|{}|" in formula
            for i, x in enumerate(each.inputs):
                text, binds = texts[x]
                loose = binds < operation.binds or (binds == operation.binds < 4 and i > 0)
                negative = text.startswith("-") and i > 0
                shown.append(f"({text})" if not encloses and (loose or negative) else text)
            text = formula_of(each, shown)
            texts[each] = (text, operation.binds) if len(text) <= _LONGEST or each is self.node else ("…", 4)
        return texts[self.node][0]

    def partials(self, names: dict[Node, str], of: set[Node]) -> dict[str, Any]:
        """With respect to each of the inputs that depends on what the table is about."""
        shown: dict[str, Any] = {}
        inputs = [x for x in self.inputs if x in of]
        if not inputs:
            return shown
        if all(x.value.size == 1 for x in (*inputs, self.node)):  # other paths from input to input are other rows
            wanted = depends(self.inside, inputs)
            found = pull_back(self.inside, np.ones_like(self.node.value), wanted)
            return {names[x]: as_derivative(found.get(x), x) for x in inputs}
        return {names[x]: self._partial(x) for x in inputs}

    def _partial(self, x: Node) -> Any:
        """What is shown of the partial derivative with respect to one input, where there are arrays."""
        if len(self.inside) > 1:
            return "…"
        shown = [partial.shown for _, partial in partials(self.node, {x})]
        if any(isinstance(each, str) for each in shown):
            return shown[0] if len(shown) == 1 else "…"
        return sum(shown) if shown else 0.0


@isolated
def forward_mode(result: Node, wrt: Node) -> Table:
    """Forward mode: the derivative of every node with respect to one variable, from the first to the last.

    Parameters
    ----------
    result : Node
    wrt : Node
        A variable, constant or any other node, of one number.

    Returns
    -------
    Table
        A row for each node that has a name, in the order of evaluation; nodes without one are folded into the next.
        ``table.derivative`` is that of the result, ``table[node]`` that of any node.

    Raises
    ------
    TypeError, ValueError
        If they are no nodes, or ``wrt`` is not one number.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable(2.0, name="x")
    >>> y = (x * x).named("y")
    >>> table = graph.forward_mode(graph.exp(y), x)
    >>> round(table.derivative, 4)
    218.3926
    >>> print(table)
    node    formula  value     partial derivative     derivative with respect to x
    ------------------------------------------------------------------------------
    y       x · x    4         ∂y/∂x = 4              4
    result  exp(y)   54.59815  ∂result/∂y = 54.59815  218.3926
    """
    if not isinstance(result, Node):
        raise TypeError(f"forward_mode takes a node, not {type(result).__name__}")
    scalar(wrt, "forward_mode with respect to a node")
    order, names = order_of(result), names_of(result)
    t = push_forward(order, {wrt: np.ones(wrt.value.shape, wrt.value.dtype)})
    dependent = depends(order, [wrt])
    rows = [
        Row(
            node, step.name, step.formula, node.value, step.partials(names, dependent), as_derivative(t.get(node), node)
        )
        for node in folded(result)
        for step in [Step(node, names)]
    ]
    heading = f"derivative with respect to {names.get(wrt, label(wrt))}"
    return Table(rows, heading, t, _plain(as_derivative(t.get(result), result)))


@isolated
def backward_mode(result: Node) -> Table:
    """Backward mode: the derivative of one number with respect to every node, from the last to the first.

    Parameters
    ----------
    result : Node
        One number.

    Returns
    -------
    Table
        A row for each node that has a name, from the end, and then for the variables and named constants;
        ``table[node]`` is the derivative with respect to any node.

    Raises
    ------
    TypeError, ValueError
        If ``result`` is no node of one number.

    Examples
    --------
    >>> from fastopt import graph
    >>> a, b = graph.variable(2.0, name="a"), graph.variable(3.0, name="b")
    >>> back = graph.backward_mode((a * b).named("c") + a)
    >>> back[a], back[b]
    (4.0, 2.0)
    """
    scalar(result, "backward_mode")
    order, names = order_of(result), names_of(result)
    wanted = {x for x in order if x.value.dtype.kind == "f"}
    gradients = pull_back(order, np.ones(result.value.shape, result.value.dtype), wanted)
    rows = []
    for node in reversed(folded(result)):
        step = Step(node, names)
        shown = step.partials(names, {x for x in step.inputs if x.operation or x.name})
        rows.append(Row(node, step.name, step.formula, node.value, shown, as_derivative(gradients.get(node), node)))
    for node in order:
        if node.operation is None and node.name and node in wanted:
            rows.append(Row(node, node.name, "", node.value, {}, as_derivative(gradients.get(node), node)))
    return Table(rows, f"d{names[result]}/dnode", gradients)


def first_nonfinite(result: Node) -> Node | None:
    """The first node, in the order of evaluation, whose value holds an inf or NaN; None if there is none.

    Examples
    --------
    >>> from fastopt import graph
    >>> x = graph.variable(-1.0, name="x")
    >>> graph.first_nonfinite(2 + graph.log(x).named("y"))
    <y>
    """
    if not isinstance(result, Node):
        raise TypeError(f"first_nonfinite takes a node, not {type(result).__name__}")
    return next((x for x in order_of(result) if not np.isfinite(x.value).all()), None)
