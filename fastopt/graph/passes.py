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

_AFTER, _KEPT = 2, 4  # so many passes are interpreted; for so many shapes of what is given, bound ones are kept
_value = attrgetter("value")


class Passes:
    """What a node remembers of the passes that ended with it."""

    def __init__(self) -> None:
        self._given: set[Node] = set()  # what has been given values: its arrays change, and are copied
        self._counts: dict[Any, tuple[int, int]] = {}  # by the shapes of that: how often until a pass is bound
        self._bound: dict[Any, _Bound] = {}
        self._last: _Bound | None = None

    def bound_for(self, given: Mapping[Node, Any]) -> "_Bound | None":
        """A bound pass for such values, if there is one."""
        for bound in self._bound.values():
            if bound.takes(given) and bound.holds():
                self._last = bound
                return bound
        return None

    def standing(self) -> "_Bound | None":
        """The bound pass that has computed the values there are, if it was one."""
        last = self._last
        return last if last is not None and last.stands() and last.takes({}) and last.holds() else None

    def count(self, order: Sequence[Node], given: Mapping[Node, Any]) -> None:
        """A pass was interpreted: bind the next one, if there were enough."""
        self._last = None
        if not self._given.issuperset(given):
            self._given.update(given)
            self._bound.clear()
        key = tuple((x, x.value.shape) for x in sorted(self._given, key=attrgetter("number")))
        left, enough = self._counts.pop(key, (_AFTER, _AFTER))
        if left > 1:
            self._counts[key] = left - 1, enough
        else:
            self._counts[key] = 2 * enough, 2 * enough  # it may be that it never holds
            self._bound.pop(key, None)
            self._last = self._bound[key] = _Bound(order, self._given)
        for kept in (self._counts, self._bound):
            while len(kept) > _KEPT:
                del kept[next(iter(kept))]


class _Bound:
    """A graph's nodes, bound to arrays."""

    @isolated
    def __init__(self, order: Sequence[Node], given: set[Node]):
        self.backend, self._matmul = _backends.active, get_matmul()
        self._copies = {x: aligned(x.value.shape, x.value.dtype) for x in order if x in given and x.operation is None}
        arrays = dict(self._copies)
        for x in order:
            if x.operation is not None and not getattr(x.operation.bind, "views", False):
                whole = x.operation.reuses and x.value.flags.c_contiguous and x.value.flags.owndata
                arrays[x] = x.value if whole else aligned(x.value.shape, x.value.dtype)
        lowering = Lowering(order, set(order), arrays)
        self.arrays = lowering.arrays
        self._forward = Run(lowering.runs)
        self._program = self.backend.Program(self._forward.instructions)
        self.backward: _Backward | None = None
        for x, array in arrays.items():
            if x.operation is None or array is not x.value:
                np.copyto(array, x.value)
        self._nodes = [x for x in order if x.operation is not None]
        self._values = [self.arrays[x] for x in self._nodes]
        for x, array in zip(self._nodes, self._values, strict=True):
            x.value = array
        self._leaves = [x for x in order if x.operation is None and x not in self._copies]
        self._fixed = list(map(_value, self._leaves))
        self._pins = Pins([*self._fixed, *self._values])

    def holds(self) -> bool:
        """Whether what is not given has the arrays that are bound, and all arrays are where they were."""
        return (
            all(map(is_, map(_value, self._leaves), self._fixed))
            and self._pins.hold()
            and self.backend is _backends.active
            and self._matmul == get_matmul()
        )

    def stands(self) -> bool:
        """Whether the nodes' values are in the arrays that are bound."""
        return all(map(is_, map(_value, self._nodes), self._values))

    def takes(self, given: Mapping[Node, Any]) -> bool:
        """Whether what is given, and what has been before, has the shapes that are bound."""
        copies = self._copies
        for x, value in given.items():
            copy = copies.get(x)
            if copy is None or value.shape != copy.shape or value.dtype != copy.dtype:
                return False
        return not any(x.value.shape != copy.shape for x, copy in copies.items() if x not in given)

    def _run(self) -> None:
        for x, copy in self._copies.items():
            copy[...] = x.value
        for prepare in self._forward.before:
            prepare()
        self._program()

    def evaluate(self, given: Mapping[Node, np.ndarray]) -> None:
        """Compute all values, on these; or leave all as they were."""
        before = [x.value for x in given]
        changed = any(value.shape != array.shape for value, array in zip(given.values(), before, strict=True))
        stood = self.stands()
        others = [] if stood else list(map(_value, self._nodes))
        try:
            for x, value in given.items():
                x.value = value
            if not stood:
                self._set(self._values)
            self._run()
        except BaseException:
            for x, value in zip(given, before, strict=True):
                x.value = value
            if stood:
                with suppress(Exception):
                    self._run()  # what has been written over
            else:
                self._set(others)
            raise
        if changed:
            Node.latest_shapes += 1
            for x in (*self._leaves, *self._copies, *self._nodes):
                x.shapes = Node.latest_shapes

    def _set(self, values: Sequence[np.ndarray]) -> None:
        for x, value in zip(self._nodes, values, strict=True):
            x.value = value

    def bind_backward(
        self, order: Sequence[Node], named: Mapping[str, Node], found: Mapping[Node, Any], seed: Node
    ) -> None:
        """Bind the backward pass, given as nodes."""
        self.backward = _Backward(self, order, named, found, seed)

    def gradients(self) -> dict[str, np.ndarray]:
        """The derivatives, by one backward pass over the values there are."""
        assert self.backward is not None
        for x, copy in self._copies.items():
            copy[...] = x.value
        return self.backward()


class _Backward:
    """A backward pass over bound values."""

    def __init__(
        self, bound: _Bound, order: Sequence[Node], named: Mapping[str, Node], found: Mapping[Node, Any], seed: Node
    ):
        self._names, self._variables = list(named), list(named.values())
        self._gradients = {name: aligned(x.value.shape, x.value.dtype) for name, x in named.items()}
        results = Gradients(found, named, self._gradients, set(order))
        nodes = sorted({x for g in results.nodes for x in order_of(g)} - set(order), key=attrgetter("number"))
        lowering = Lowering(nodes, set(results.nodes), results.direct, seed, bound.arrays)
        self._run = Run([*lowering.runs, *results.copies(lowering.arrays)])
        self._program = bound.backend.Program(self._run.instructions)

    def fits(self) -> bool:
        """Whether the variables have the names that they had."""
        return self._names == [x.name for x in self._variables]

    def __call__(self) -> dict[str, np.ndarray]:
        for prepare in self._run.before:
            prepare()
        self._program()
        return {name: gradient.copy() for name, gradient in self._gradients.items()}
