"""Graphs as programs: forward, backward and the optimizer's step of a graph in one call into the core."""

from collections.abc import Mapping, Sequence
from operator import attrgetter, is_
from threading import RLock
from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._backends.program import Stopped
from .._checks import some
from .._pins import Pins
from ..functional.products import get_matmul
from ..nn.passes import aligned
from ..optim import Optimizer
from ..optim.bound import BoundStep, parameters_of
from ..training.updates import clipping_of, update_of
from .lowering import Gradients, Lowering, Run
from .modes import depends, named_nodes, new_value, pull_back, scalar, variables
from .node import Node, constant, describe, order_of

_KEPT = 8  # of the shapes that inputs have had
_value = attrgetter("value")


class CompiledGraph:
    """What `compile` makes of a graph; a call runs it.

    Attributes
    ----------
    gradients : dict of ndarray
        The derivatives of the last call, by the variables' names: always the same arrays.
    """

    def __init__(self, loss: Node, optimizer: Optimizer | None, on_nonfinite: str, clipping: dict[str, float | None]):
        scalar(loss, "compile")
        self._loss, self._optimizer = loss, optimizer
        self._variables = named_nodes(variables(loss))
        self._given = {name: x.value for name, x in self._variables.items()}
        self._gradients = {name: aligned(value.shape, value.dtype) for name, value in self._given.items()}
        self.gradients = {name: gradient.view() for name, gradient in self._gradients.items()}
        self._leaves = {x for x in order_of(loss) if x.operation is None}
        self._step: BoundStep | None = None
        self._update: Any = None
        if optimizer is not None:
            grads = _gradients_for(optimizer, self._variables, self._gradients)
            bound, self._update = update_of(optimizer, grads, on_nonfinite, clipping)
            if self._update is bound:
                self._step = bound
        self._programs: dict[Any, _OfShapes] = {}
        self._lock = RLock()

    def __call__(self, inputs: Mapping[Node, Any] | None = None) -> float:
        """Run on these inputs: the loss, before the optimizer's step if there is one.

        Parameters
        ----------
        inputs : dict, optional
            New values of constants, by node, as for `evaluate`; they are copied. Constants that are not given have the
            values of their nodes.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If a node of ``inputs`` is no constant of the graph, or a value does not fit; if a variable has been given
            another array, or its array another shape; nothing has then been changed.
        FloatingPointError
            If a gradient is not finite, unless ``on_nonfinite`` says otherwise; nothing has then been changed.
        """
        given = {} if inputs is None else {x: self._input(x, value) for x, value in inputs.items()}
        key = (*given, *(value.shape for value in given.values()), _backends.active, get_matmul())
        with self._lock:
            of_shapes = self._programs.get(key)
            if of_shapes is None or not of_shapes.holds():
                self._check_variables()
                if self._step is not None:
                    self._step.check()
                of_shapes = _OfShapes(self._loss, given, self._variables, self._gradients, self._step)
                self._programs[key] = of_shapes
                if len(self._programs) > _KEPT:
                    del self._programs[next(iter(self._programs))]
            return self._run(of_shapes, given)

    def _run(self, of_shapes: "_OfShapes", given: Mapping[Node, np.ndarray]) -> float:
        of_shapes.take(given)
        if (step := self._step) is None:
            of_shapes.program()
            loss = of_shapes.loss.item()
            if self._update is not None:
                self._update(1.0)
            return loss
        with step.lock:
            step.prepare()
            try:
                of_shapes.program()
            except Stopped:
                step.settle()
            return of_shapes.loss.item()

    def _input(self, x: Node, value: Any) -> np.ndarray:
        """What an input is given, as an array of its node's dtype."""
        if x not in self._leaves:
            raise TypeError(f"inputs are given by constants of this graph, and {x!r} is none")
        if x.trainable:
            raise TypeError(f"{describe(x)} is a variable: write into its array, as an optimizer does")
        if type(value) is np.ndarray and value.dtype is x.value.dtype:
            return value
        return new_value(x, value)

    def _check_variables(self) -> None:
        for name, x in self._variables.items():
            grad = self._gradients[name]
            if x.value is not self._given[name]:
                raise ValueError(f"the variable {name!r} has been given another array since the graph was compiled")
            if x.value.shape != grad.shape or x.value.dtype != grad.dtype:
                raise ValueError(
                    f"the variable {name!r} is {x.value.dtype} of shape {x.value.shape}; when it was compiled, the"
                    f" graph had {grad.dtype} of shape {grad.shape}"
                )


class _OfShapes:
    """The program for inputs of certain shapes, made of a copy of the graph and of its backward pass."""

    @isolated
    def __init__(
        self,
        loss: Node,
        given: Mapping[Node, np.ndarray],
        named: Mapping[str, Node],
        gradients: Mapping[str, np.ndarray],
        step: BoundStep | None,
    ):
        order = order_of(loss)
        leaves = [x for x in order if x.operation is None]
        self._bound = [x for x in leaves if x not in given]
        self._arrays = list(map(_value, self._bound))
        self._pins = Pins(self._arrays)
        self._inputs = {x: aligned(value.shape, value.dtype) for x, value in given.items()}
        self.take(given, ())
        copies = _copies(order, {x: self._inputs.get(x, x.value) for x in leaves})
        copy = [copies[x] for x in order]
        seed = constant(np.ones(loss.value.shape, loss.value.dtype))
        own = {name: copies[x] for name, x in named.items()}
        found = pull_back(copy, seed, depends(copy, own.values()), symbolic=True, trusted=False)
        results = Gradients(found, own, gradients, set(copy))
        ends = [copies[loss], *results.nodes]
        needed = sorted({x for end in ends for x in order_of(end)}, key=attrgetter("number"))
        lowering = Lowering(needed, set(ends), results.direct, seed)
        self.loss = lowering.arrays[copies[loss]]
        runs = Run([*lowering.runs, *results.copies(lowering.arrays)])
        self._before = runs.before
        self.program = _backends.active.Program([*runs.instructions, *([] if step is None else step.instructions)])

    def holds(self) -> bool:
        """Whether all that is not given has the arrays that are bound, where they were."""
        return all(map(is_, map(_value, self._bound), self._arrays)) and self._pins.hold()

    def take(self, given: Mapping[Node, np.ndarray], before: Sequence[Any] | None = None) -> None:
        """Take these inputs, if they are in order."""
        for x, value in given.items():
            self._inputs[x][...] = value
        for prepare in self._before if before is None else before:
            prepare()


def _copies(order: Sequence[Node], values: Mapping[Node, np.ndarray]) -> dict[Node, Node]:
    """The nodes once more, on these values of those that no operation made."""
    copies: dict[Node, Node] = {}
    for x in order:
        if x.operation is None:
            copy = constant(values[x])
            copy.value = values[x]
        else:
            copy = Node(x.operation, tuple(copies[each] for each in x.inputs), x.options)
        copy.name = x.name
        copies[x] = copy
    return copies


def _gradients_for(
    optimizer: Any, named: Mapping[str, Node], gradients: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The gradients of the optimizer's parameters, by the optimizer's names for them."""
    if not isinstance(optimizer, Optimizer):
        what = optimizer if isinstance(optimizer, (str, type)) else type(optimizer).__name__
        raise TypeError(
            f"optimizer must be one of fastopt.optim, not {what}: made over the graph's variables, as by"
            " fo.optim.Adam(graph.parameters(loss), lr=0.001)"
        )
    names = {id(x.value): name for name, x in named.items()}
    own = parameters_of(optimizer)
    foreign = [repr(name) for name, param in own.items() if id(param) not in names]
    if foreign or not own:
        raise ValueError(
            f"the optimizer is over {some(foreign) or 'nothing'}, which is no variable of this graph, whose variables"
            f" are {some([repr(name) for name in named]) or 'none'}: make it from graph.parameters(loss)"
        )
    return {name: gradients[names[id(param)]] for name, param in own.items()}


def compile(
    loss: Node,
    optimizer: Optimizer | None = None,
    *,
    clip_norm: float | None = None,
    clip_norm_per_tensor: float | None = None,
    clip_value: float | None = None,
    clip_eps: float = 0.0,
    on_nonfinite: str = "raise",
) -> CompiledGraph:
    r"""Make a program of a graph: its forward and backward pass and, with an optimizer, the step, as one call.

    .. math:: \ell = f(w, x), \qquad w \leftarrow \mathrm{step}(w, \nabla_w \ell)

    Everything is checked and bound once, with the first inputs of each shape, in memory that is used again; a call then
    crosses into the core once. Values and derivatives are, to the bit, those of `evaluate` and `gradients`. What has no
    kernel, as the logarithm, powers, and operations and layers of one's own, is called in between.

    Parameters
    ----------
    loss : Node
        One number.
    optimizer : Optimizer, optional
        Over variables of the graph: over `parameters`, or over those of a model that `apply` made nodes of. Without it,
        a call leaves the derivatives in ``gradients``.
    clip_norm, clip_norm_per_tensor, clip_value, clip_eps, on_nonfinite
        As for `fastopt.optim.Optimizer.step`.

    Returns
    -------
    CompiledGraph
        A function of a dict of inputs, by node, that returns the loss. It does not change the values of nodes.

    Raises
    ------
    TypeError, ValueError
        If ``loss`` is no node of one number; if a variable has no name, or two have the same; if the optimizer is over
        something else.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> from fastopt import graph
    >>> rng = np.random.default_rng(0)
    >>> x, y = graph.constant(np.zeros((32, 2)), name="x"), graph.constant(np.zeros(32), name="y")
    >>> w = graph.variable(np.zeros(2), name="w")
    >>> loss = graph.mse_loss(x @ w, y)
    >>> step = graph.compile(loss, fo.optim.Adam(graph.parameters(loss), lr=0.05))
    >>> for _ in range(300):
    ...     rows = rng.standard_normal((32, 2))
    ...     value = step({x: rows, y: rows @ [1.0, -2.0]})
    >>> w.value.round(2)
    array([ 1., -2.])
    """
    clipping = clipping_of(clip_norm, clip_norm_per_tensor, clip_value, clip_eps)
    return CompiledGraph(loss, optimizer, on_nonfinite, clipping)
