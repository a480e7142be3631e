"""From nodes to instructions."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._backends.environment import isolated
from .._backends.program import Call
from .._specification.order import ACTIVATIONS
from ..nn.passes import Calls, aligned
from .binding import Before, arithmetic, product_into
from .elementwise import add, multiply, relu, sigmoid, tanh
from .layer_binding import pairs
from .node import Node, Operation, failed
from .shapes import transposition
from .sums import product

_FUSED: dict[Operation | None, str] = {relu: "relu", sigmoid: "sigmoid", tanh: "tanh"}
assert set(_FUSED.values()) == set(ACTIVATIONS[1:])


class Gradients:
    """Where the derivatives of variables go: into these arrays, directly where a node is no other's, or by copies."""

    def __init__(
        self,
        found: Mapping[Node, Any],
        named: Mapping[str, Node],
        gradients: Mapping[str, np.ndarray],
        others: set[Node],
    ):
        self.direct: dict[Node, np.ndarray] = {}
        self._copied: list[tuple[Node, np.ndarray]] = []
        self._zeros: list[np.ndarray] = []
        for name, x in named.items():
            g, gradient = found.get(x), gradients[name]
            if g is None:
                self._zeros.append(gradient)
            elif g.operation is None or g in self.direct or g in others or g.value.shape != x.value.shape:
                self._copied.append((g, gradient))
            else:
                self.direct[g] = gradient
        self.nodes = [*self.direct, *(g for g, _ in self._copied)]

    def copies(self, arrays: Mapping[Node, np.ndarray]) -> Calls:
        """What brings those there that are not yet."""
        calls: Calls = []
        copies = [(arrays[g], gradient) for g, gradient in self._copied]
        copies += [(np.zeros((), gradient.dtype), gradient) for gradient in self._zeros]
        for x, gradient in copies:
            copy = arithmetic("assign", x, None, gradient)
            calls += [Call(partial(np.copyto, gradient, x))] if copy is None else copy
        return calls


class Run:
    """Instructions and calls as a program, after what is to be looked at before every run."""

    def __init__(self, runs: Calls):
        self.before = [run.prepare for run in runs if isinstance(run, Before)]
        self.instructions = [run for run in runs if not isinstance(run, Before)]


class Lowering:
    """Instructions that compute nodes, each into an array; of nodes without operation it is the one they have.

    ``ends`` are wanted afterwards, ``given`` are arrays for some nodes. A product with a bias added to it and an
    activation, or with its transpose, is one instruction, where nothing else needs what is between them; so are a loss
    and its gradient. What only looks at the elements of another array in another way is none. What is multiplied by
    ``seed``, which is 1, stays itself. ``known`` are the arrays of nodes that are computed elsewhere.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        ends: set[Node],
        given: Mapping[Node, np.ndarray],
        seed: Node | None = None,
        known: Mapping[Node, np.ndarray] | None = None,
    ):
        self.arrays: dict[Node, np.ndarray] = dict(known or {})
        self.runs: Calls = []
        self._given = given
        self._inputs: dict[Node, tuple[Node, ...]] = {}
        nodes = self._distinct(nodes, ends, seed)
        self._uses: dict[Node, int] = dict.fromkeys(ends, 2)
        for node in nodes:
            for x in self._inputs[node]:
                self._uses[x] = self._uses.get(x, 0) + 1
        users = {x: node for node in nodes for x in self._inputs[node]}
        gradient_of = {(x.operation, self._inputs[x]): x for x in nodes if x.operation is not None}
        done: set[Node] = set()
        for node in nodes:
            operation, inputs = node.operation, self._inputs[node]
            if node in done:
                continue
            if operation is None:
                self.arrays[node] = given.get(node, node.value)
            elif seed is not None and operation is multiply and seed in inputs:
                self._same(node, next((x for x in inputs if x is not seed), seed))
            elif operation in pairs:
                self._loss(node, gradient_of.get((pairs[operation][0], inputs)), done)
            elif operation is product and self._product(node, users, done):
                pass
            elif not self._view(node):
                self._computed(node)

    def _distinct(self, nodes: Sequence[Node], ends: set[Node], seed: Node | None) -> list[Node]:
        """The nodes without those that compute what another does: derivatives begin with the same steps."""
        first: dict[Any, Node] = {}
        same: dict[Node, Node] = {}
        for node in nodes:
            self._inputs[node] = inputs = tuple([same.get(x, x) for x in node.inputs])
            key: Any = node.operation, inputs, tuple(node.options.items())
            if node.operation is None:
                own = (
                    seed is not None and node.number > seed.number and not node.value.ndim
                )  # of a derivative's formula
                key = (node.value.dtype, node.value.tobytes()) if own else None
            elif node in ends or node.operation.bind is None:
                key = None
            try:
                if key is not None and first.setdefault(key, node) is not node:
                    same[node] = first[key]
            except TypeError:  # options that have no hash
                pass
        return [node for node in nodes if node not in same]

    def _array(self, node: Node) -> np.ndarray:
        """Where a node's value goes."""
        if node not in self.arrays:
            given = self._given.get(node)
            self.arrays[node] = aligned(node.value.shape, node.value.dtype) if given is None else given
        return self.arrays[node]

    def _same(self, node: Node, x: Node) -> None:
        """A node that is what another is."""
        if node in self._given or x.value.shape != node.value.shape:
            self._computed(node)
        else:
            self.arrays[node] = self.arrays[x]

    def _computed(self, node: Node) -> None:
        """By the operation's instructions, or by a call of it."""
        operation, values, out = node.operation, [self.arrays[x] for x in self._inputs[node]], self._array(node)
        assert operation is not None
        if not out.size:
            return
        calls = operation.bind(*values, out=out, **node.options) if operation.bind is not None else None
        self.runs += [Call(_evaluation(node, values, out))] if calls is None else calls

    def _view(self, node: Node) -> bool:
        """Whether the node is a view of its input."""
        operation = node.operation
        if node in self._given or operation is None or not getattr(operation.bind, "views", False):
            return False
        x = self.arrays[self._inputs[node][0]]
        found = operation.evaluate(x, **node.options)
        if not (isinstance(found, np.ndarray) and np.may_share_memory(found, x)):
            return False
        self.arrays[node] = found
        return True

    def _loss(self, node: Node, gradient: Node | None, done: set[Node]) -> None:
        """A loss, together with its gradient if that is needed."""
        assert node.operation is not None
        values = [self.arrays[x] for x in self._inputs[node]]
        calls = None
        if gradient is not None:
            calls = pairs[node.operation][1](*values, self._array(node), self._array(gradient))
        if calls is None or gradient is None:
            self._computed(node)
        else:
            self.runs += calls
            done.add(gradient)

    def _product(self, node: Node, users: Mapping[Node, Node], done: set[Node]) -> bool:
        """Whether the node is bound together with what follows it."""
        a, b = (self.arrays[x] for x in self._inputs[node])
        total = self._only_user(node, users)
        if total is not None and total.operation is transposition and node.value.ndim == 2:
            return self._transposed_product(node, total, done)
        if total is None or total.operation is not add or node.value.ndim != 2 or total.value.shape != node.value.shape:
            return False
        other = next((x for x in self._inputs[total] if x is not node), None)
        bias = None if other is None or other.number > node.number else self.arrays.get(other)
        if bias is None or bias.shape not in ((b.shape[1],), (1, b.shape[1])) or not bias.flags.c_contiguous:
            return False
        last, activation = total, self._only_user(total, users)
        name = None if activation is None else _FUSED.get(activation.operation)
        if activation is not None and name is not None:
            last = activation
        calls = product_into(a, b, self._array(last), bias.reshape(-1), name)
        if calls is None:
            return False
        self.runs += calls
        done.update({total, last})
        return True

    def _transposed_product(self, node: Node, transposed: Node, done: set[Node]) -> bool:
        """The transpose of a product is that of the transposes in the other order, with the same bits."""
        if transposed.options["axes"] not in (None, (1, 0)):
            return False
        a, b = (self.arrays[x] for x in self._inputs[node])
        calls = product_into(b.T, a.T, self._array(transposed))
        if calls is None:
            return False
        self.runs += calls
        done.add(transposed)
        return True

    def _only_user(self, node: Node, users: Mapping[Node, Node]) -> Node | None:
        return users.get(node) if self._uses[node] == 1 else None


def _evaluation(node: Node, values: Sequence[np.ndarray], out: np.ndarray) -> Any:
    operation = node.operation
    assert operation is not None

    @isolated
    def call() -> None:
        try:
            if operation.reuses:
                operation.evaluate(*values, out=out, **node.options)
                return
            found = np.asarray(operation.evaluate(*values, **node.options))
        except (ValueError, IndexError) as error:
            raise failed(operation, node.inputs, error) from error
        if found.shape != out.shape:
            raise ValueError(f"{operation.name} gave an array of shape {found.shape}, and before one of {out.shape}")
        out[...] = found

    return call
