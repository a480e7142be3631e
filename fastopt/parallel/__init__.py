"""Data parallel training over MPI: the same bits for any number of processes.

`fastopt.fit` and `fastopt.TrainingStep` take ``comm``, a communicator of mpi4py, and ``shards``. Every batch is cut
into so many shards, of neighbouring rows; each process computes the gradients of its shards, these are added in an
order that their number alone determines, and the step follows. So ``shards=8`` gives the same weights to the bit on
1, 2, 3, 4 and 8 processes, and in a single one without ``comm``. Batch norm takes its statistics from each shard
(the running ones become the mean of what the shards make of them); the masks of dropout are those of the whole
batch.

Every process is given the same model, optimizer, data and arguments, which is checked at the start. Loss, accuracy,
validation and history are the same in all of them. Callbacks run in all; checkpoints are written by the first. Early
stopping, Ctrl-C, and an error in one process end all of them.

It needs mpi4py (``pip install fastopt[mpi]``) and an MPI, the cluster's or the ``mpich`` wheel; then::

    from mpi4py import MPI

    fo.fit(model, X, y, optimizer=opt, epochs=10, comm=MPI.COMM_WORLD, shards=8)  # mpiexec -n 4 python train.py
"""

from .team import Traffic, traffic

__all__ = ["Traffic", "traffic"]
