"""One of the processes that mpiexec starts: `process.py what folder`."""

import json
import sys
import warnings
from pathlib import Path

import scenarios
from helpers import HAVE_C
from mpi4py import MPI

import fastopt as fo

warnings.simplefilter("error")
what, folder = sys.argv[1], Path(sys.argv[2])
comm = MPI.COMM_WORLD
found = {}
if what == "same":
    found = {name: scenario(comm) for name, scenario in scenarios.SAME.items()}
elif what == "mixed":
    fo.set_backend(["c" if HAVE_C else "numba", "numpy"][comm.Get_rank()])
    found = {name: scenarios.SAME[name](comm) for name in scenarios.SMALL}
elif what == "ended":
    for name, scenario in scenarios.ENDED.items():
        try:
            scenario(comm)
            found[name] = "nothing was raised"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    found["interrupted"] = scenarios.interrupted(comm)
    found["stopped by one"] = scenarios.stopped_by_one(comm)
    found["sent"] = scenarios.sent(comm)
elif what in ("died", "broken"):
    getattr(scenarios, what)(comm)
else:  # the number of epochs; those before are in the checkpoint
    path, epochs = folder / "checkpoint", int(what)
    resumed = {"resume_from": path} if path.exists() else {}
    comm.Barrier()
    found["resumed"] = scenarios.fitted(comm, "LAMB", checkpoint=path, epochs=epochs, **resumed)
(folder / f"{comm.Get_rank()}.json").write_text(json.dumps(found))
