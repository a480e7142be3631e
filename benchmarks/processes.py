"""What a Python process of its own takes: time and memory of importing a library, and of training a network with it."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import fastopt

from .measure import FASTOPT, Setup, quartiles

# what is imported, and whether that is the whole of it: numpy is there before, and again as the floor
IMPORTS = {
    FASTOPT: "import fastopt",
    "numpy": "import numpy",
    "torch": "import torch",
    "jax": "import jax, jax.numpy",
    "optax": "import optax",
    "sklearn": "from sklearn.neural_network import MLPClassifier",
}
IMPORT = """
import sys; from time import perf_counter
import numpy
begin = perf_counter()
{statement}
print(perf_counter() - begin, len(sys.modules))
with open("/proc/self/status") as status: print(status.read())
"""
TRAIN = "from benchmarks.processes import train; train({name!r})"


def python(code: str) -> tuple[float, list[str]]:
    """Seconds that a new Python takes to run ``code``, and what it prints, with this fastopt and this package."""
    places = [str(Path(fastopt.__file__).parent.parent), str(Path(__file__).parent.parent)]
    path = os.pathsep.join([*places, *filter(None, [os.environ.get("PYTHONPATH")])])
    begin = perf_counter()
    # an installation has its bytecode, which a checkout is to keep, too
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=places[1],
                         stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
    return perf_counter() - begin, run.stdout.splitlines()


def peak_memory(status: list[str]) -> int | None:
    """The most bytes resident at once, from /proc/self/status: what `getrusage` says begins with the parent's."""
    for line in status:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def imports(setup: Setup) -> dict[str, Any]:
    """How long importing takes, beyond NumPy, in turns; and the memory of a process that has done it."""
    wanted = {name: code for name, code in IMPORTS.items() if name == FASTOPT or name in setup.peers}
    seconds: dict[str, list[float]] = {name: [] for name in wanted}
    memory = {}
    for turn in range(3 if setup.quick else 6):
        for name, statement in wanted.items():
            _, printed = python(IMPORT.format(statement=statement))
            if turn:  # the first brings the files into memory
                seconds[name].append(float(printed[0].split()[0]))
                memory[name] = peak_memory(printed)
    sides = {name: {"seconds": quartiles(values), "memory": memory[name]} for name, values in seconds.items()}
    record = {"suite": "import", "group": "import", "name": "import, beyond NumPy", "sides": sides}
    floor = "import numpy"
    whole = [float(python(f"from time import perf_counter as t; b = t(); {floor}; print(t() - b)")[1][0])
             for _ in range(3 if setup.quick else 7)]  # fmt: skip
    return {**record, "numpy": quartiles(whole)}


# ---- a process that trains ----------------------------------------------------------------------------------------


def train(name: str) -> None:
    """Train the largest network for an epoch, and print what memory was needed; in a process of its own."""
    from . import networks, peers, training

    setup = Setup(threads=[1], quick=True)
    setup.peers = peers.load(["jax", "optax"] if name == "jax" else [name] if name in peers.PEERS else [])[0]
    net = training.all_networks(setup)[-1]
    before = Path("/proc/self/status").read_text().splitlines()
    call = {
        FASTOPT: lambda: training.fastopt_fit(net),
        "numpy": lambda: networks.plain(net),
        "torch": lambda: training.pytorch(net, setup.peers["torch"]),
        "sklearn": lambda: training.scikit_learn(net, setup.peers["sklearn"]),
        "jax": lambda: training.jax_scan(net, setup.peers["jax"], setup.peers["optax"]),
    }[name]()
    call()
    after = Path("/proc/self/status").read_text().splitlines()
    print(json.dumps([peak_memory(before), peak_memory(after)]))


def memory_of_training(setup: Setup) -> dict[str, Any] | None:
    """Peak resident memory of training, by library; None where /proc does not tell."""
    from .training import all_networks

    if not Path("/proc/self/status").exists():
        return None
    sides = {}
    for name in (FASTOPT, "numpy", "torch", "sklearn", "jax"):
        if name == FASTOPT or (name in setup.peers and (name != "jax" or "optax" in setup.peers)):
            with suppress(subprocess.CalledProcessError):
                imported, peak = json.loads(python(TRAIN.format(name=name))[1][-1])
                sides[name] = {"imported": imported, "memory": peak}
    name = f"peak memory of training {all_networks(setup)[-1].name}"
    return {"suite": "memory", "group": "resident", "name": name, "sides": sides}


def allocations(setup: Setup) -> list[dict[str, Any]]:
    """Bytes that Python and NumPy allocate within a step, at most at once, when everything has been warmed up."""
    import tracemalloc

    from . import optimizers, training

    small = Setup(threads=setup.threads, peers={k: v for k, v in setup.peers.items() if k == "numpy"}, quick=True)
    cases = [spec for spec in optimizers.specs(small) if spec.name in ("Adam, one array of 1,000,000",
             "Adam, 6 tensors of an MLP", "LAMB, 64 tensors of 8")]  # fmt: skip
    cases += list(training.specs(small))[:2]
    records = []
    for spec in cases:
        case = spec.build()
        sides = {}
        for side in case.sides:
            if side.checked:
                for _ in range(3):
                    side.call()
                tracemalloc.start()
                before = tracemalloc.get_traced_memory()[0]
                side.call()
                sides[side.name] = {"memory": tracemalloc.get_traced_memory()[1] - before}
                tracemalloc.stop()
        name = f"allocated in a call: {spec.name}"
        records.append({"suite": "memory", "group": "allocated", "name": name, "sides": sides})
    return records


def memory(setup: Setup) -> list[dict[str, Any]]:
    resident = memory_of_training(setup)
    return [*allocations(setup), *([resident] if resident else [])]
