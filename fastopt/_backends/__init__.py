"""The three backends, ``c``, ``numba`` and ``numpy``, and the choice among them.

Each is a module with the same functions and the same ``Plan``; ``fastopt.set_backend`` chooses which one serves,
``FASTOPT_BACKEND`` which one to begin with.
"""

import importlib
import os
from types import ModuleType

NAMES = ("c", "numba", "numpy")

active: ModuleType  # the backend that serves
reason: str  # why it was chosen


def load(name: str) -> ModuleType:
    """The backend called ``name``; ImportError if this installation does not have it."""
    if name not in NAMES:
        raise ValueError(f"there is no backend {name!r}, only {', '.join(map(repr, NAMES))}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        hint = "; fastopt was installed without a working C compiler" if name == "c" else ""
        raise ImportError(f"the backend {name!r} is not available: {error}{hint}") from error


def set_backend(name: str) -> None:
    """Let ``"c"``, ``"numba"`` or ``"numpy"`` do the work from now on; all three give the same bits.

    Optimizers keep the backend they were made with.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If this installation does not have it.

    Examples
    --------
    >>> import fastopt as fo
    >>> before = fo.get_backend()
    >>> fo.set_backend("numpy")
    >>> fo.get_backend()
    'numpy'
    >>> fo.set_backend(before)
    """
    global active, reason
    active, reason = load(name), "set_backend"


def get_backend() -> str:
    """The name of the backend that does the work: ``"c"``, ``"numba"`` or ``"numpy"``."""
    return active.__name__.rpartition(".")[2]


def _choose() -> None:
    global active, reason
    forced = os.environ.get("FASTOPT_BACKEND")
    if forced:
        active, reason = load(forced), "FASTOPT_BACKEND"
        return
    try:
        active, reason = load("c"), "the compiled core is there"
    except ImportError as error:
        active, reason = load("numba"), str(error)


_choose()
