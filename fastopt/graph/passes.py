"""Passes that come again: what has been interpreted a few times is bound, and then only repeated.

Each node keeps an array, in which `Node.value` is computed by an instruction, or by a call of Python, one after the
other as before. Whatever is no longer as it was bound, a value, a shape, the backend, is interpreted again.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import attrgetter, is_
from typing import Any

import numpy as np

from .. import _backends
from .._backends.environment import isolated
from .._pins import Pins
from ..functional.products import get_matmul
from ..nn.passes import aligned
from .lowering import Gradients, Lowering, Run
from .node import Node, order_of

_AFTER = 2  # so many passes are interpreted
_value = attrgetter("value")


class Passes:
    """What a node remembers of the passes that ended with it."""

    def __init__(self) -> None:
        self._count, self._enough = 0, _AFTER
        self._given: set[Node] = set()  # what has been given values: its arrays change, and are copied
        self._bound: _Bound | None = None

    def takes(self, given: Mapping[Node, Any]) -> bool:
        """Whether there is a bound pass for these values."""
        bound = self._bound
        return bound is not None and bound.takes(given) and bound.holds()

    def stands(self) -> bool:
        """Whether the values are those that a bound pass has computed."""
        return self._bound is not None and self._bound.takes({}) and self._bound.holds()

    def count(self, order: Sequence[Node], given: Mapping[Node, Any]) -> None:
        """A pass was interpreted: bind the next one, if there were enough."""
        self._bound = None
        self._given.update(given)
        self._count += 1
        if self._count >= self._enough:
            self._count, self._enough = 0, 2 * self._enough  # it may be that it never holds
            self._bound = _Bound(order, self._given)

    def evaluate(self, given: Mapping[Node, np.ndarray]) -> None:
        """Run the bound pass on these values."""
        assert self._bound is not None
        self._bound.evaluate(given)

    @property
    def bound(self) -> "_Bound":
        assert self._bound is not None
        return self._bound


class _Bound:
    """A graph's nodes, bound to arrays."""

    @isolated
    def __init__(self, order: Sequence[Node], given: set[Node]):
        self.backend, self.matmul = _backends.active, get_matmul()
        self.copies = {x: aligned(x.value.shape, x.value.dtype) for x in order if x in given and x.operation is None}
        for x, copy in self.copies.items():
            copy[...] = x.value
        arrays = dict(self.copies)
        for x in order:
            if x.operation is not None and not getattr(x.operation.bind, "views", False):
                whole = x.operation.reuses and x.value.flags.c_contiguous and x.value.flags.owndata
                arrays[x] = x.value if whole else aligned(x.value.shape, x.value.dtype)
        lowering = Lowering(order, set(order), arrays)
        self.arrays = lowering.arrays
        self._forward = Run(lowering.runs)
        self._program = self.backend.Program(self._forward.instructions)
        self._backward: _Backward | None = None
        for x in order:
            if x.operation is not None:
                if x in arrays:
                    np.copyto(self.arrays[x], x.value)
                x.value = self.arrays[x]
        self._nodes = [x for x in order if x not in self.copies]
        self._values = list(map(_value, self._nodes))
        self._pins = Pins(self._values)

    def holds(self) -> bool:
        """Whether all that is not given has the arrays that are bound, where they were."""
        return (
            all(map(is_, map(_value, self._nodes), self._values))
            and self._pins.hold()
            and self.backend is _backends.active
            and self.matmul == get_matmul()
        )

    def takes(self, given: Mapping[Node, Any]) -> bool:
        """Whether what is given has the shapes that are bound."""
        copies = self.copies
        for x, value in given.items():
            copy = copies.get(x)
            if copy is None or value.shape != copy.shape or value.dtype != copy.dtype:
                return False
        return not any(x.value.shape != copy.shape for x, copy in copies.items() if x not in given)

    def _take(self) -> None:
        for x, copy in self.copies.items():
            copy[...] = x.value

    def _run(self) -> None:
        self._take()
        for prepare in self._forward.before:
            prepare()
        self._program()

    def evaluate(self, given: Mapping[Node, np.ndarray]) -> None:
        """Compute all values, on these; or leave all as they were."""
        before = [x.value for x in given]
        try:
            for x, value in given.items():
                x.value = value
            self._run()
        except BaseException:
            for x, value in zip(given, before, strict=True):
                x.value = value
            with suppress(Exception):
                self._run()  # what has been written over
            raise

    @property
    def backward(self) -> "_Backward | None":
        """The bound backward pass, if there is one for the names that variables have."""
        bound = self._backward
        return bound if bound is not None and bound.names == [x.name for x in bound.variables] else None

    def bind_backward(
        self, order: Sequence[Node], named: Mapping[str, Node], found: Mapping[Node, Any], seed: Node
    ) -> None:
        """Bind the backward pass, given as nodes."""
        self._backward = _Backward(self, order, named, found, seed)

    def gradients(self) -> dict[str, np.ndarray]:
        """The derivatives, by one backward pass over the values there are."""
        assert self._backward is not None
        self._take()
        return self._backward()


class _Backward:
    """A backward pass over bound values."""

    def __init__(
        self, bound: _Bound, order: Sequence[Node], named: Mapping[str, Node], found: Mapping[Node, Any], seed: Node
    ):
        self.names, self.variables = list(named), list(named.values())
        self._gradients = {name: aligned(x.value.shape, x.value.dtype) for name, x in named.items()}
        results = Gradients(found, named, self._gradients, set(order))
        nodes = sorted({x for g in results.nodes for x in order_of(g)} - set(order), key=attrgetter("number"))
        lowering = Lowering(nodes, set(results.nodes), results.direct, seed, bound.arrays)
        self._run = Run([*lowering.runs, *results.copies(lowering.arrays)])
        self._program = bound.backend.Program(self._run.instructions)

    def __call__(self) -> dict[str, np.ndarray]:
        for prepare in self._run.before:
            prepare()
        self._program()
        return {name: gradient.copy() for name, gradient in self._gradients.items()}
