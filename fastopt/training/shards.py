"""Steps of which every batch is cut into shards: their gradients are added in one order, whoever computes which.

The order is that of a tree, in which neighbours are added first: a node of n shards is the sum of its first 2**k
shards, 2**k being the largest power of two below n, and of the others. Whoever has neighbouring shards can so add them
up before anything is sent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from .. import _backends
from .._backends.program import Runs
from .._conversion import converted
from .._moving import copy_all
from .._specification.order import BLOCK, in_order
from ..losses import Loss
from ..nn.layer import Layer
from ..nn.passes import Pass, aligned
from ..optim import Optimizer
from ..optim.bound import BoundStep
from ..optim.tensors import span
from .data import Batches
from .steps import Computation, Part, Undo
from .updates import Clipping, Norms, Update

Arrays = dict[str, np.ndarray]
Result = TypeVar("Result")
Node = tuple[int, int]  # from one shard to before another

_LINE = 64


def cuts(rows: int, shards: int) -> list[int]:
    """Where the shards of a batch begin, and where the last one ends."""
    return [shard * rows // shards for shard in range(shards + 1)]


def middle(begin: int, end: int) -> int:
    """Where a node is divided."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


def nodes_within(shards: int, first: int, last: int) -> list[Node]:
    """The largest nodes of the tree that lie between two shards."""

    def within(begin: int, end: int) -> Iterator[Node]:
        if first <= begin and end <= last:
            yield begin, end
        elif begin < last and first < end:
            yield from within(begin, middle(begin, end))
            yield from within(middle(begin, end), end)

    return list(within(0, shards))


class Company(Protocol):
    """Those who share the shards: one process, or several that run the same program.

    Attributes
    ----------
    shards, rank, size : int
        How many shards there are, the number of this process, and how many of these there are.
    committed : bool
        Whether this process is to send what others already wait for: an error then ends all of them at once.
    """

    committed: bool
    shards: int
    rank: int
    size: int

    def range_of(self, rank: int) -> Node:
        """The shards of a process."""

    def meet(self, what: str) -> Any:
        """Wait until all have come here; raise if one of them did not come, or came for something else."""

    def compare(self, described: Mapping[str, Any]) -> None:
        """Refuse to go on where this is not the same in all of them."""

    def vote(self, what: str, value: float) -> float:
        """Meet, and answer with the largest of the values that all have come with."""

    def together(self, call: Callable[[], Result], optimizer: Any = None) -> Result:
        """``call``, which all of them make: if it raises in one, it does in all."""

    def tell(self, error: BaseException) -> None:
        """Tell the others of an error, wherever they are to meet next, unless all of them know it."""

    def share(self, arrays: Sequence[tuple[np.ndarray, Sequence[int]]]) -> None:
        """Fill arrays of which every process has a part: each begins with such an element, and ends before the next."""

    def deal(
        self, sent: Sequence[np.ndarray], received: np.ndarray, begins: Sequence[int], counts: Sequence[int]
    ) -> None:
        """Give every other process the elements of its slice of the vectors that are ``sent``.

        ``received`` has a row for each vector of all processes, in their order: ``counts`` says how many each has.
        """


class Alone:
    """A single process, which has all the shards."""

    rank, size, committed = 0, 1, False

    def __init__(self, shards: int):
        self.shards = shards

    def range_of(self, rank: int) -> Node:
        return 0, self.shards

    def meet(self, what: str) -> None:
        pass

    def compare(self, described: Mapping[str, Any]) -> None:
        pass

    def vote(self, what: str, value: float) -> float:
        return value

    def together(self, call: Callable[[], Result], optimizer: Any = None) -> Result:
        return call()

    def tell(self, error: BaseException) -> None:
        pass

    def share(self, arrays: Sequence[tuple[np.ndarray, Sequence[int]]]) -> None:
        pass

    def deal(
        self, sent: Sequence[np.ndarray], received: np.ndarray, begins: Sequence[int], counts: Sequence[int]
    ) -> None:
        raise AssertionError("there is nobody to deal to")


class Layout(NamedTuple):
    """The places of some arrays in a vector, and the vector itself where they lie in one."""

    offsets: list[int]
    length: int
    dtype: np.dtype
    whole: np.ndarray | None

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> "Layout":
        """As they lie in memory, if they do so in order and at most a cache line apart; or one behind the other."""
        dtypes = {array.dtype for array in arrays}
        if len(dtypes) > 1:
            raise TypeError(
                f"shards are for parameters of one dtype; these are {' and '.join(sorted(map(str, dtypes)))}"
            )
        dtype = dtypes.pop()
        spans = [span(array) for array in arrays]
        together = all(0 <= begin - end < _LINE for (_, end), (begin, _) in pairwise(spans))
        root: Any = arrays[0]
        while isinstance(root.base, np.ndarray):
            root = root.base
        (low, high), (begin, end) = span(root), (spans[0][0], spans[-1][1])
        if together and root.flags.c_contiguous and low <= begin and end <= high:
            whole = root.reshape(-1).view(np.uint8)[begin - low : end - low].view(dtype)
            return cls([(first - begin) // dtype.itemsize for first, _ in spans], whole.size, dtype, whole)
        offsets, length = [], 0
        for array in arrays:
            offsets.append(length)
            length += -(-array.nbytes // _LINE) * _LINE // dtype.itemsize
        return cls(offsets, length, dtype, None)

    def pieces(self, vector: np.ndarray, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The places of the arrays in such a vector."""
        return [
            vector[offset : offset + array.size].reshape(array.shape)
            for offset, array in zip(self.offsets, arrays, strict=True)
        ]

    def slices(self, arrays: Sequence[np.ndarray], count: int) -> list[int]:
        """Where each of so many slices begins, and where the last one ends: all but that with a block of an array."""
        blocks = [
            offset + i for offset, array in zip(self.offsets, arrays, strict=True) for i in range(0, array.size, BLOCK)
        ]
        at = np.searchsorted(blocks, [self.length * i / count for i in range(count)])
        return [int(i) for i in np.array([*blocks, self.length])[at]] + [self.length]


class Buffers:
    """What a forward pass changes beside its results: every shard begins with the same, and the mean of them remains.

    That is, of running statistics; what is the same in all shards stays so, and whole numbers, such as counts of
    batches, are those of the first.
    """

    def __init__(self, buffers: Sequence[np.ndarray], shards: int):
        self._buffers = [buffer for buffer in buffers if buffer.size]
        self._before = [buffer.copy() for buffer in self._buffers]
        dtypes = sorted({buffer.dtype for buffer in self._buffers}, key=str)
        # for each dtype a table with a row for every shard
        sizes = {d: sum(buffer.size for buffer in self._buffers if buffer.dtype == d) for d in dtypes}
        self.tables = [np.zeros((shards, sizes[d]), d) for d in dtypes]
        self._places: list[tuple[np.ndarray, slice]] = []
        begins = dict.fromkeys(dtypes, 0)
        for buffer in self._buffers:
            begin = begins[buffer.dtype]
            begins[buffer.dtype] = end = begin + buffer.size
            self._places.append((self.tables[dtypes.index(buffer.dtype)], slice(begin, end)))

    def begin_step(self) -> None:
        copy_all(self._before, self._buffers)

    def begin_shard(self) -> None:
        copy_all(self._buffers, self._before)

    def end_shard(self, shard: int) -> None:
        for buffer, (table, place) in zip(self._buffers, self._places, strict=True):
            table[shard, place] = buffer.reshape(-1)

    def end_step(self, ran: Sequence[int]) -> None:
        """Take what the shards that have rows have come to."""
        results = [_mean(table[list(ran)]) for table in self.tables]
        of = {id(table): result for table, result in zip(self.tables, results, strict=True)}
        after = [
            of[id(table)][place].reshape(buffer.shape)
            for buffer, (table, place) in zip(self._buffers, self._places, strict=True)
        ]
        copy_all(self._buffers, after)


def _mean(rows: np.ndarray) -> np.ndarray:
    if rows.dtype.kind != "f" or len(rows) == 1:
        return rows[0]
    total = np.zeros(rows.shape[1])
    for row in rows:
        total += row
    return np.where((rows == rows[0]).all(axis=0), rows[0], (total / len(rows)).astype(rows.dtype))


class Leaf(NamedTuple):
    """What a shard contributes to a step: calls that each fill the gradients, and the sum of the losses' weights."""

    calls: Sequence[Callable[[], float]]
    weight: float


class Shards:
    """The shards of a step: those of this process are computed, and all are added up.

    Attributes
    ----------
    stepped : dict of ndarray
        The gradients of all shards together, by name, or, after `spread`, this process's slice of them.
    """

    def __init__(self, model: Layer, grads: Mapping[str, Any], company: Company):
        arrays = [grad for grad in grads.values() if grad is not None]
        self.layout = layout = Layout.of(arrays)
        self.company = company
        self.own = company.range_of(company.rank)
        self._nodes = nodes_within(company.shards, *self.own)
        all_nodes = [nodes_within(company.shards, *company.range_of(rank)) for rank in range(company.size)]
        self._counts = [len(nodes) for nodes in all_nodes]
        self.total = self._vector()
        pieces = iter(layout.pieces(self.total, arrays))
        self.stepped: dict[str, Any] = {name: None if grad is None else next(pieces) for name, grad in grads.items()}
        self._sums = [self.total] if company.size == 1 else [self._vector() for _ in self._nodes]
        self._spare = [self._vector() for _ in range(max(_depth(*node) for node in self._nodes))]
        self.begins = layout.slices(arrays, company.size)
        slice_of = slice(*self.begins[company.rank : company.rank + 2])
        self.slice = self.total[slice_of]
        self._received = aligned((sum(self._counts), self.slice.size), layout.dtype) if company.size > 1 else None
        self._summands: dict[
            Node, np.ndarray
        ] = {}  # what comes to be in the slice: of every node that somebody adds up
        if self._received is not None:
            self._summands.update(zip((node for nodes in all_nodes for node in nodes), self._received, strict=True))
            self._summands.update((node, own[slice_of]) for node, own in zip(self._nodes, self._sums, strict=True))
        self._pairs: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for vector in (*self._sums, *self._spare):
            pairs = list(zip(layout.pieces(vector, arrays), arrays, strict=True))
            self._pairs[id(vector)] = pairs if layout.whole is None else [(vector, layout.whole)]
        self._programs: dict[Any, Any] = {}
        self._sliced = False  # whether the gradients are wanted in this process's slice only
        self.buffers = Buffers(list(model.buffers.values()), company.shards)
        # of every shard the sum of its losses, that of their weights
        self._table = np.zeros((company.shards, 2))
        firsts = [company.range_of(rank)[0] for rank in range(company.size)] + [company.shards]
        self._shared = [(table, [f * table.shape[1] for f in firsts]) for table in (self._table, *self.buffers.tables)]

    def spread(
        self, optimizer: Optimizer, bound: BoundStep, update: Update, on_nonfinite: str, clipping: Clipping
    ) -> tuple[Any, Update]:
        """The optimizer's step, of which every process does its slice, if it can be done so."""
        if self.company.size == 1:
            return bound, update
        from ..parallel.slices import sliced

        step = sliced(optimizer, self, update, bound, on_nonfinite, clipping)
        self._sliced = step is not None
        return (bound, update) if step is None else (step, step)

    def share_outputs(self, batches: Batches) -> None:
        """Complete an epoch's outputs, of which each process has those of its shards."""
        company, outputs = self.company, batches.outputs
        company.meet("the outputs of an epoch")
        if company.size == 1:
            return
        of_ranks: list[list[np.ndarray]] = [[] for _ in range(company.size)]
        for begin in range(0, len(outputs), batches.size):
            begins = cuts(min(batches.size, len(outputs) - begin), company.shards)
            for rank, rows in enumerate(of_ranks):
                first, last = company.range_of(rank)
                rows.append(np.arange(begin + begins[first], begin + begins[last]))
        places = np.concatenate([each for of_rank in of_ranks for each in of_rank])
        counts = [sum(map(len, of_rank)) for of_rank in of_ranks]
        packed = outputs[places]
        width = packed[:1].size
        company.committed = True
        company.share([(packed, [width * int(n) for n in np.cumsum([0, *counts])])])
        company.committed = False
        outputs[places] = packed

    def _vector(self) -> np.ndarray:
        return aligned((self.layout.length,), self.layout.dtype)

    def step(self, leaves: Mapping[int, Leaf], ran: Sequence[int], what: str) -> tuple[float, float]:
        """Fill ``stepped``; the sum of the losses, and of their weights.

        ``leaves`` are this process's shards, all of them; ``ran`` says which of all shards have rows in this step.
        """
        self.buffers.begin_step()
        for node, vector in zip(self._nodes, self._sums, strict=True):
            self._fill(*node, vector, leaves, 0)
        self.company.meet(what)
        self.company.committed = True
        self.company.share(self._shared)
        if self._received is not None:
            self.company.deal(self._sums, self._received, self.begins, self._counts)
            self._add_up(0, self.company.shards, self.slice)
            if not self._sliced:
                self.company.share([(self.total, self.begins)])
        self.company.committed = False
        self.buffers.end_step(ran)
        values, weights = self._table.T.tolist()
        return in_order(values), in_order(weights)

    def _fill(self, begin: int, end: int, out: np.ndarray, leaves: Mapping[int, Leaf], depth: int) -> None:
        """The sum of the gradients of these shards."""
        if end - begin == 1:
            self._run(begin, leaves[begin], out)
            return
        half = middle(begin, end)
        self._fill(begin, half, out, leaves, depth)
        spare = self._spare[depth]
        self._fill(half, end, spare, leaves, depth + 1)
        self._add(out, spare)

    def _run(self, shard: int, leaf: Leaf, out: np.ndarray) -> None:
        if not leaf.calls:
            out.fill(0)
            self._table[shard] = 0
            return
        self.buffers.begin_shard()
        value = 0.0
        for i, call in enumerate(leaf.calls):
            value += call()
            self._take("add" if i else "copy", out)
        self.buffers.end_shard(shard)
        self._table[shard] = value, leaf.weight

    def _add(self, out: np.ndarray, other: np.ndarray) -> None:
        self._program("add", out, [(out, other)])()

    def _take(self, what: str, out: np.ndarray) -> None:
        """Copy the model's gradients, or add them."""
        self._program(what, out, self._pairs[id(out)])()

    def _program(self, what: str, out: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Any:
        backend = _backends.active
        key = what, id(out), id(pairs[0][1]), backend
        if (program := self._programs.get(key)) is None:
            runs: list[Runs] = [
                backend.bind("copy", (x, to)) if what == "copy" else backend.bind("add", (to, x, to)) for to, x in pairs
            ]
            program = self._programs[key] = backend.Program(runs)
        return program

    def _add_up(self, begin: int, end: int, out: np.ndarray | None = None) -> np.ndarray:
        """The sum of these shards in this process's slice, of its own sums and those that came from others."""
        if (found := self._summands.get((begin, end))) is not None:
            return found
        half = middle(begin, end)
        first, second = self._add_up(begin, half), self._add_up(half, end)
        return np.add(first, second, out=first if out is None else out)


def _depth(begin: int, end: int) -> int:
    """How many sums must be kept beside that of a node while it is computed."""
    return (end - begin - 1).bit_length()


def bound_to_parts(
    model: Layer, X: np.ndarray, sizes: Sequence[int], dtype: np.dtype, company: Company
) -> list[dict[int, Pass]]:
    """Of batches of each of these sizes, the model bound to this process's shards, so far as they have rows."""
    if sizes[0] < company.shards:
        raise ValueError(f"batches of {sizes[0]} rows cannot be cut into shards={company.shards} with a row each")
    found: list[dict[int, Pass]] = []
    for each in sizes:
        begins = cuts(each, company.shards)
        passes: dict[int, Pass] = {}
        for shard in range(*company.range_of(company.rank)):
            count = begins[shard + 1] - begins[shard]
            if not count:
                continue
            try:
                bound = model.bound_to(converted(X[:count], dtype).copy(), training=False, first_row=begins[shard])
            except ValueError as error:
                raise ValueError(f"X has shape {X.shape}, which the model does not take: {error}") from error
            bound.context.training = True  # from now on: to be bound has not moved the running statistics
            try:
                bound.prepare()
            except ValueError as error:
                raise ValueError(
                    f"a batch of {each} rows in shards={company.shards} gives one of {count}: {error}"
                ) from error
            passes[shard] = bound
        found.append(passes)
    return found


def parts_in_shards(
    shards: Shards,
    passes: list[dict[int, Pass]],
    undo: Undo,
    batches: Batches,
    criterion: Loss,
    update: Update,
    norms: Norms | None,
    accumulate: int,
    keeps: bool,
) -> list[Part]:
    """An epoch of steps on ``accumulate`` batches each, as `parts_of_an_epoch`, each batch in shards.

    Of several batches, every shard adds up its own gradients first, one batch after the other.
    """
    size, whole, count = batches.size, batches.whole, len(batches.order)
    varies = criterion.row_weights(batches.targets) is not None
    scaled = not varies and accumulate == 1
    batches_in_order: list[_Batch] = []
    for of_shard, (begin, end) in zip(passes, [(0, whole), (whole, count)][: len(passes)], strict=True):
        rows = min(size, end - begin)
        begins = cuts(rows, shards.company.shards)
        computations = {}
        for shard, bound in of_shard.items():
            scale = 1.0 / (rows * criterion.per_row(bound.y)) if scaled else 1.0
            computations[shard] = Computation(
                *(bound, batches, criterion, scale, begin, end, undo, None, None, (), (), keeps), rows, begins[shard]
            )
        ran = [shard for shard in range(shards.company.shards) if begins[shard + 1] > begins[shard]]
        batches_in_order += [_Batch(computations, k, ran, rows) for k in range((end - begin) // rows)]
    groups = [batches_in_order[i : i + accumulate] for i in range(0, len(batches_in_order), accumulate)]
    weight_of = partial(criterion.sum_of_weights, batches.outputs[:1])

    def step(group: list[_Batch]) -> float:
        undo.keep()
        leaves = {}
        for shard in range(*shards.own):
            of_shard = [(batch.computations[shard], batch.k) for batch in group if shard in batch.computations]
            weights = [weight_of(computation.targets(k)) for computation, k in of_shard]
            leaves[shard] = Leaf([partial(computation, k) for computation, k in of_shard], in_order(weights))
        ran = sorted({shard for batch in group for shard in batch.ran})
        value, total = shards.step(leaves, ran, "a step")
        done = update(1.0 if scaled or not total else 1.0 / total)
        if not done:
            undo.refused()
        elif norms is not None:
            norms()
        return value

    parts = []
    for rows, same in groupby(groups, key=lambda group: sum(batch.rows for batch in group)):
        steps = list(same)
        parts.append(Part(undo.guard(partial(_numbered, step, steps)), len(steps), rows))
    return parts


def _numbered(step: Callable[[list["_Batch"]], float], groups: list[list["_Batch"]], k: int) -> float:
    return step(groups[k])


class _Batch(NamedTuple):
    """One of an epoch: this process's computations by shard, its number in them, and all shards that have rows."""

    computations: dict[int, Computation]
    k: int
    ran: list[int]
    rows: int
