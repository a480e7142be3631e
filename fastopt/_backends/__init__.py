"""The three backends, ``c``, ``numba`` and ``numpy``, and the choice among them.

Each is a module with the same functions and the same ``Plan``; ``fastopt.set_backend`` chooses which one serves,
``FASTOPT_BACKEND`` which one to begin with.
"""

import importlib
import os
import warnings
from types import ModuleType
from typing import Any

from ._missing import why

NAMES = ("c", "numba", "numpy")

active: ModuleType  # the backend that serves; where Numba stands in for the core, from its first use on
reason: str  # why it was chosen
_stands_in = False  # Numba for the core, which nobody has asked for


def load(name: str) -> ModuleType:
    """The backend called ``name``; ImportError if this installation does not have it."""
    if name not in NAMES:
        raise ValueError(f"there is no backend {name!r}, only {', '.join(map(repr, NAMES))}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        raise ImportError(f"the backend {name!r} is not available: {why(error) if name == 'c' else error}") from error


def set_backend(name: str) -> None:
    """Let ``"c"``, ``"numba"`` or ``"numpy"`` do the work from now on; all three give the same bits.

    Optimizers keep the backend they were made with.

    Parameters
    ----------
    name : {"c", "numba", "numpy"}

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
    global active, reason, _stands_in
    active, reason, _stands_in = load(name), "set_backend", False


def get_backend() -> str:
    """The name of the backend that does the work: ``"c"``, ``"numba"`` or ``"numpy"``."""
    return "numba" if _stands_in else active.__name__.rpartition(".")[2]


def _choose() -> None:
    global active, reason, _stands_in
    forced = os.environ.get("FASTOPT_BACKEND")
    if forced:
        active, reason = load(forced), "FASTOPT_BACKEND"
        return
    try:
        active, reason = load("c"), "the compiled core is there"
    except ImportError as error:
        reason, _stands_in = str(error), True


def __getattr__(name: str) -> Any:
    """``active``, when Numba is first to serve in place of the core."""
    global active, _stands_in
    if name != "active" or not _stands_in:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    active, _stands_in = load("numba"), False
    warnings.warn(
        f"{reason}. Numba serves in its place: on one thread, up to 10 times slower, and with a second of compiling for"
        " each function first called on this machine. FASTOPT_BACKEND=numba asks for it without this warning",
        RuntimeWarning,
        stacklevel=3,
    )
    return active


_choose()
