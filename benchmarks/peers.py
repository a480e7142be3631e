"""The libraries fastopt is compared with: which are here, and how many threads they use."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout, suppress
from functools import partial
from types import ModuleType

from .measure import Setup

# the name on the command line, what is imported, and the distribution whose version is recorded
PEERS = {
    "numpy": ("numpy", "numpy"),
    "torch": ("torch", "torch"),
    "jax": ("jax", "jax"),
    "optax": ("optax", "optax"),
    "sklearn": ("sklearn.neural_network", "scikit-learn"),
    "timm": ("timm.optim", "timm"),
    "deepspeed": ("deepspeed.ops.adam", "deepspeed"),
    "bitsandbytes": ("bitsandbytes.optim", "bitsandbytes"),
}


def load(names: Iterable[str]) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """The peers that can be imported, and for each other one why not."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's memory in huge pages, as NumPy's is
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    found, absent = {}, {}
    for name in names:
        try:
            with redirect_stdout(sys.stderr):
                found[name] = importlib.import_module(PEERS[name][0])
        except Exception as failure:  # a broken installation raises anything
            absent[name] = f"{type(failure).__name__}: {failure}".splitlines()[0]
    return found, absent


def torch_settings(setup: Setup) -> dict[str, Callable[[], object]]:
    """PyTorch, and DeepSpeed with it, with one thread and with all."""
    set_threads = setup.peers["torch"].set_num_threads
    return {f"torch threads: {n}": partial(set_threads, n) for n in sorted({1, setup.all_threads})}


def blas_settings(setup: Setup) -> dict[str, Callable[[], object]]:
    """The BLAS that NumPy's matrix products use, with one thread and with all; as it is, without threadpoolctl."""
    with suppress(ImportError):
        from threadpoolctl import ThreadpoolController

        libraries = ThreadpoolController().select(user_api="blas").lib_controllers

        def set_threads(n: int) -> None:
            for library in libraries:
                library.set_num_threads(n)

        if libraries:
            return {f"BLAS threads: {n}": partial(set_threads, n) for n in sorted({1, setup.all_threads})}
    return {"BLAS threads: as found": lambda: None}
