"""Data parallel training over MPI: the same bits for any number of processes.

`fastopt.fit` and `fastopt.training.TrainingStep` take ``comm``, a communicator of mpi4py, and ``shards``. Every
batch is cut into so many shards, of neighbouring rows; each process computes the gradients of its shards, these are
added in an order that their number alone determines, and the step follows. So ``shards=8`` gives the same weights
to the bit on 1, 2, 3, 4 and 8 processes, and in a single one without ``comm``. Batch norm takes its statistics from
each shard (the running ones become the mean of what the shards make of them); the masks of dropout are those of the
whole batch.

Every process is given the same model, optimizer, data (or its part: `local_rows`) and arguments, which is checked at
the start. Loss, accuracy, validation and history are the same in all of them. Callbacks run in all; checkpoints are
written by the first. Early stopping, Ctrl-C, and an error in one process end all of them.

It needs mpi4py (``pip install fastopt[mpi]``) and an MPI, the cluster's or the ``mpich`` wheel; then::

    from mpi4py import MPI

    fo.fit(model, X, y, optimizer=opt, epochs=10, comm=MPI.COMM_WORLD, shards=8)  # mpiexec -n 4 python train.py
"""

from typing import Any

import numpy as np

from .._checks import whole
from ..training.company import company_of
from ..training.shards import cuts
from .traffic import Traffic, traffic

__all__ = ["Traffic", "local_rows", "traffic"]


def local_rows(rows: int, comm: Any, shards: int | None = None) -> np.ndarray:
    """Which of so many rows this process needs, where each is given a part of the data.

    Parameters
    ----------
    rows : int
        In all: what `fastopt.fit` is then told as ``total_rows``.
    comm : mpi4py.MPI.Intracomm or None
    shards : int, optional
        By default, one for each process.

    Returns
    -------
    array of int
        Neighbouring rows, in order.

    Raises
    ------
    TypeError, ValueError
        If ``rows`` or ``shards`` is no whole number of at least 1, or there are more processes than shards.

    Examples
    --------
    >>> import fastopt as fo
    >>> fo.parallel.local_rows(5, None, shards=4)
    array([0, 1, 2, 3, 4])
    """
    rows = whole("rows", rows, 1)
    company = company_of(comm, shards)
    if company is None:
        return np.arange(rows)
    begins = cuts(rows, company.shards)
    first, last = company.range_of(company.rank)
    return np.arange(begins[first], begins[last])
