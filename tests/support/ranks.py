"""Stands in for mpi4py where there is none: the ranks are threads of one process, which meet at a barrier."""

import threading
from types import ModuleType, SimpleNamespace

import numpy as np

SECONDS = 60  # until a rank that waits for the others gives up


class Intracomm:
    """What `fastopt.parallel` asks of a communicator."""

    def __init__(self, rank, meeting):
        self._rank, self._meeting = rank, meeting

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return self._meeting.parties

    def allgather(self, value):
        self._meeting.values[self._rank] = value
        self._meeting.wait(SECONDS)
        values = list(self._meeting.values)
        self._meeting.wait(SECONDS)
        return values

    def bcast(self, value, root):
        return self.allgather(value)[root]

    def Allgather(self, mine, everyones):
        everyones[:] = self.allgather(mine.copy())

    def Iallgatherv(self, _, everyones):
        array, counts, places, _ = everyones
        parts = [slice(place, place + count) for place, count in zip(places, counts, strict=True)]
        memory = as_bytes(array)
        for part, there in zip(parts, self.allgather(memory[parts[self._rank]].copy()), strict=True):
            memory[part] = there

    def Ialltoallv(self, given, taken):
        array, counts, places, _ = given
        memory = np.empty(0, np.uint8) if array is None else as_bytes(array)
        sent = self.allgather([memory[p : p + n].copy() for p, n in zip(places, counts, strict=True)])
        array, counts, places, _ = taken
        memory = as_bytes(array)
        for of_rank, place, count in zip(sent, places, counts, strict=True):
            memory[place : place + count] = of_rank[self._rank]

    def Abort(self, code):
        self._meeting.abort()


def as_bytes(array):
    memory = array.reshape(-1).view(np.uint8)
    assert np.shares_memory(memory, array)
    return memory


def ranks(count):
    meeting = threading.Barrier(count)
    meeting.values = [None] * count
    return [Intracomm(rank, meeting) for rank in range(count)]


def module():
    """What is imported as mpi4py."""
    mpi4py, mpi = ModuleType("mpi4py"), ModuleType("mpi4py.MPI")
    mpi.Intracomm, mpi.IN_PLACE, mpi.BYTE = Intracomm, object(), object()
    mpi.Request = SimpleNamespace(Waitall=lambda requests: None)  # all has been sent when it was asked for
    mpi4py.MPI = mpi
    return mpi4py
