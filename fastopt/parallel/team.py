"""The processes of an MPI communicator that train together."""

import sys
import time
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from ..optim.slices import complete_state
from ..training.shards import Node
from .traffic import traffic

Result = TypeVar("Result")

_ERROR, _INTERRUPT, _STOP = 1, 2, 4
_PASSED_ON = 0.5  # seconds in which mpiexec passes on what a process has printed: after Abort it reads no more


class Team:
    """All processes of a communicator, each with neighbouring shards.

    Nothing is sent before all have met: each says that it has come, what for, and whether something was raised. So an
    error in one process ends all of them, with its message.
    """

    def __init__(self, comm: Any, shards: int | None):
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ImportError(f"comm={comm!r} needs mpi4py: pip install fastopt[mpi] ({error})") from error
        if not isinstance(comm, MPI.Intracomm):
            raise TypeError(f"comm must be an mpi4py.MPI.Intracomm, such as MPI.COMM_WORLD, not {type(comm).__name__}")
        self._mpi, self._comm = MPI, comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.shards = self.size if shards is None else shards
        if self.size > self.shards:
            raise ValueError(f"there are {self.size} processes for shards={shards}: each needs one, at least")
        self._wish: Callable[[], tuple[bool, str | None]] = lambda: (False, None)
        self.interrupted = False
        self.stopped: str | None = None
        self.committed = self._sending = self._over = False
        self._mine, self._all = np.zeros(3), np.zeros((self.size, 3))

    def range_of(self, rank: int) -> Node:
        """The shards of a process."""
        return rank * self.shards // self.size, (rank + 1) * self.shards // self.size

    # -- meeting --

    def watch(self, wish: Callable[[], tuple[bool, str | None]]) -> None:
        """Take part with a wish to end: whether there was Ctrl-C, and why a callback stops training, if one does."""
        self._wish, self.interrupted, self.stopped = wish, False, None

    def meet(self, what: str, value: float = 0.0) -> float:
        """Wait until all have come here, and answer with the first one's ``value``.

        Raises
        ------
        RuntimeError
            If one of them has raised something, or has come for something else.
        """
        interrupt, stop = self._wish()
        status = _INTERRUPT * interrupt + _STOP * (stop is not None)
        said = self._say(status, what, value)
        statuses = said[:, 0].astype(np.int64)
        if (statuses & _ERROR).any():
            self._over = True
            self._raise(self._comm.allgather(None))
        if (said[:, 1] != said[0, 1]).any():
            self._over = True
            each = "; ".join(f"rank {rank} {there}" for rank, there in enumerate(self._comm.allgather(what)))
            raise RuntimeError(f"the processes do not run the same program: they come to different places: {each}")
        self.interrupted |= bool((statuses & _INTERRUPT).any())
        if self.stopped is None and (statuses & _STOP).any():
            self.stopped = self._comm.bcast(stop, int(np.argmax(statuses & _STOP)))
        return float(said[0, 2])

    def vote(self, what: str, value: float) -> float:
        """Meet, and answer with the largest of the values that all have come with."""
        self.meet(what, value)
        return float(self._all[:, 2].max())

    def _say(self, status: int, what: str, value: float = 0.0) -> np.ndarray:
        begun = time.perf_counter()
        self._sending = True
        self._mine[:] = status, zlib.crc32(what.encode()), value
        self._comm.Allgather(self._mine, self._all)
        self._sending = False
        traffic.waited += time.perf_counter() - begun
        return self._all

    def _raise(self, errors: Sequence[str | None]) -> None:
        each = [f"rank {rank} raised {error}" for rank, error in enumerate(errors) if error is not None]
        raise RuntimeError("; ".join(each))

    def together(self, call: Callable[[], Result], optimizer: Any = None) -> Result:
        """``call``, which all processes make: if it raises in one, it does in all."""
        try:
            result = call()
            self.meet("the end")
            return result
        except BaseException as error:
            self.tell(error)
            if optimizer is not None:
                complete_state(optimizer)
            raise

    def tell(self, error: BaseException) -> None:
        """Tell the others of an error, wherever they are to meet next, unless all of them know it."""
        if self._over:
            self._over = False
            return
        if self._sending or self.committed:  # they wait for what will never come
            sys.stderr.write("".join(traceback.format_exception(error)))
            sys.stderr.flush()
            try:
                time.sleep(_PASSED_ON)
            finally:
                self._comm.Abort(1)
        self._say(_ERROR, "")
        self._comm.allgather(f"{type(error).__name__}: {error}")

    def compare(self, described: Mapping[str, Any]) -> None:
        """Refuse to go on where the processes were given different things: in each of them, by name."""
        self.meet("a comparison")
        digest = zlib.crc32(repr(sorted(described.items())).encode())
        if len(set(self._comm.allgather(digest))) == 1:
            return
        each = self._comm.allgather(dict(described))
        different = [
            f"{name} is {each[0].get(name)} on rank 0, and {other.get(name)} on rank {rank}"
            for name in each[0]
            for rank, other in enumerate(each)
            if other.get(name) != each[0][name]
        ]
        self._over = True
        raise ValueError(f"the processes were given different things: {'; '.join(different[:8])}")

    def of_first(self, value: Any) -> Any:
        """What the first process has."""
        self.meet("what the first one has")
        return self._comm.bcast(value, 0)

    # -- sending --

    def share(self, arrays: Sequence[tuple[np.ndarray, Sequence[int]]]) -> None:
        """Fill arrays of which every process has a part: each begins with such an element, and ends before the next."""
        begun = time.perf_counter()
        self._sending = True
        requests = []
        for array, begins in arrays:
            if not array.size:
                continue
            item = array.itemsize
            counts = [(end - begin) * item for begin, end in pairwise(begins)]
            places = [begin * item for begin in begins[:-1]]
            requests.append(self._comm.Iallgatherv(self._mpi.IN_PLACE, [array, counts, places, self._mpi.BYTE]))
            traffic.bytes += sum(counts) - counts[self.rank] if self.size > 1 else 0
        self._mpi.Request.Waitall(requests)
        self._sending = False
        traffic.seconds += time.perf_counter() - begun

    def deal(
        self, sent: Sequence[np.ndarray], received: np.ndarray, begins: Sequence[int], counts: Sequence[int]
    ) -> None:
        """Give every other process the elements of its slice of the vectors that are ``sent``.

        ``received`` has a row for each vector of all processes, in their order: ``counts`` says how many each has.
        """
        begun = time.perf_counter()
        self._sending = True
        item, row = received.itemsize, received.shape[1] * received.itemsize
        sizes = [(end - begin) * item for begin, end in pairwise(begins)]
        sizes[self.rank] = 0
        places = [begin * item for begin in begins[:-1]]
        nothing = [0] * self.size
        rows_before = [sum(counts[:rank]) for rank in range(self.size)]
        requests = []
        for j in range(max(counts)):
            take = [row if j < count and rank != self.rank else 0 for rank, count in enumerate(counts)]
            at = [(before + j) * row if j < count else 0 for before, count in zip(rows_before, counts, strict=True)]
            mine = j < len(sent)
            give: Any = [sent[j], sizes, places, self._mpi.BYTE] if mine else [None, nothing, nothing, self._mpi.BYTE]
            requests.append(self._comm.Ialltoallv(give, [received, take, at, self._mpi.BYTE]))
            traffic.bytes += sum(sizes) * mine
        self._mpi.Request.Waitall(requests)
        self._sending = False
        traffic.seconds += time.perf_counter() - begun
