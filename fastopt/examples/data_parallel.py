"""Train one network in several processes, over MPI: the same weights to the bit, however many they are.

Run it as ``python -m fastopt.examples.data_parallel``, alone or in several processes::

    mpiexec -n 4 python -m fastopt.examples.data_parallel

It trains a network on scikit-learn's digits, every batch in 8 shards, and prints the time, what was sent, and the
fingerprint of the network. Several processes need mpi4py and an MPI: ``pip install fastopt[mpi,examples] mpich``.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import fastopt as fo

from .digits import load, network


def communicator() -> Any:
    """All processes that were started together; None without mpi4py."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):  # the latter without an MPI
        return None
    return MPI.COMM_WORLD


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=8, help="into how many every batch is cut (%(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="how many epochs to train (%(default)s)")
    parser.add_argument("--width", type=int, default=128, help="of the hidden layers (%(default)s)")
    options = parser.parse_args(argv)

    comm = communicator()
    rank, size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
    X, y, X_test, y_test = load()
    model = network(X.shape[1], seed=0, width=options.width)
    optimizer = fo.optim.LAMB(model.parameters(), lr=0.01)
    fo.parallel.traffic.reset()
    begun = time.perf_counter()
    history = fo.fit(model, X, y, loss="cross_entropy", optimizer=optimizer, epochs=options.epochs, batch_size=128,
                     validation=(X_test, y_test), rng=0, clip_norm=1.0, comm=comm, shards=options.shards)  # fmt: skip
    seconds = time.perf_counter() - begun
    if rank:
        return
    sent, steps = fo.parallel.traffic, optimizer.step_count
    parameters = sum(param.nbytes for param in model.parameters().values())
    print(f"{size} process{'es' * (size > 1)}, {options.shards} shards: {seconds:.2f} s for {steps} steps")
    print(f"held-out accuracy: {history.val_accuracy[-1]:.1%}")
    print(f"sent by each process: {sent.bytes / max(steps, 1):,.0f} bytes a step, for {parameters:,} of parameters;"
          f" {sent.seconds / seconds:.0%} of the time, and {sent.waited / seconds:.0%} waiting for others")  # fmt: skip
    print(f"fingerprint: {model.fingerprint()}")


if __name__ == "__main__":
    main()
