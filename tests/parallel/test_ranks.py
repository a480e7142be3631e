"""Ranks that are threads have the bits of one, too: what is sent and when, without MPI, which test_parallel.py has."""

import sys

import pytest
import scenarios
from ranks import module, ranks
from together import in_threads


@pytest.mark.parametrize("name", scenarios.SMALL)
@pytest.mark.parametrize("count", [2, 3])
def test_the_same_bits_for_any_number_of_ranks(name, count, monkeypatch):
    mpi4py, found = module(), [None] * count
    monkeypatch.setitem(sys.modules, "mpi4py", mpi4py)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi4py.MPI)

    def run(comm):
        found[comm.Get_rank()] = scenarios.SAME[name](comm)

    of_one = scenarios.SAME[name](None)
    in_threads(*[lambda comm=comm: run(comm) for comm in ranks(count)])
    assert found == [of_one] * count
