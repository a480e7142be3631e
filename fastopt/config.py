"""Threads, instruction sets, and what ``python -m fastopt`` prints about both."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from . import _backends
from ._version import __version__

try:
    from ._interface import ffi, lib
except ImportError:  # installed without a compiler
    lib = None


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """How many CPUs the container may use at once."""
    with suppress(OSError, ValueError):  # version 2
        quota, period = (root / "cpu.max").read_text().split()
        return float("inf") if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):  # version 1
        microseconds = int((root / "cpu/cpu.cfs_quota_us").read_text())
        period_v1 = int((root / "cpu/cpu.cfs_period_us").read_text())
        return microseconds / period_v1 if microseconds > 0 else float("inf")
    return float("inf")


# What others set to limit threads: joblib and loky do so, by the first, in the processes that they start.
_LIMITS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "LOKY_MAX_CPU_COUNT")


def _default_threads() -> tuple[int, str]:
    forced = os.environ.get("FASTOPT_NUM_THREADS")
    if forced:
        if not forced.isascii() or not forced.isdigit() or not 1 <= int(forced) <= 1024:
            raise ValueError(f"FASTOPT_NUM_THREADS must be a whole number from 1 to 1024, not {forced!r}")
        return int(forced), "FASTOPT_NUM_THREADS"
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, reason = cpus, "the CPUs this process may use"
    quota = _cgroup_quota()
    if quota < cpus:
        threads, reason = max(1, int(quota)), f"the container's quota of {quota:g} CPUs"
    for name in _LIMITS:
        first = os.environ.get(name, "").split(",")[0].strip()  # OpenMP's has a number for each level of nesting
        if first.isascii() and first.isdigit() and 1 <= int(first) < threads:
            threads, reason = int(first), name
    return threads, reason


_threads_reason = ""


def set_num_threads(n: int) -> None:
    """Let the C core use ``n`` threads, the calling one included. The results do not depend on it.

    The number holds for the whole process. The Numba and NumPy backends use the calling thread only.

    Parameters
    ----------
    n : int from 1 to 1024

    Raises
    ------
    TypeError, ValueError
        If ``n`` is not a whole number from 1 to 1024.

    Examples
    --------
    >>> import fastopt as fo
    >>> before = fo.get_num_threads()
    >>> fo.set_num_threads(1)
    >>> fo.get_num_threads()
    1
    >>> fo.set_num_threads(before)
    """
    global _threads_reason
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"the number of threads must be an int, not {type(n).__name__}")
    if not 1 <= n <= 1024:
        raise ValueError(f"the number of threads must be from 1 to 1024, not {n}")
    if lib is not None:
        lib.fastopt_threads_set(int(n))
    _threads_reason = "set_num_threads"


def get_num_threads() -> int:
    """How many threads work on a large array: 1 for the Numba and NumPy backends."""
    return lib.fastopt_threads_get() if lib is not None and _backends.get_backend() == "c" else 1


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Use ``n`` threads within a ``with`` block, as `set_num_threads` does, and then as many as before.

    Raises
    ------
    TypeError, ValueError
        As for `set_num_threads`.

    Examples
    --------
    >>> import fastopt as fo
    >>> with fo.num_threads(1):
    ...     fo.get_num_threads()
    1
    """
    global _threads_reason
    before, reason = lib.fastopt_threads_get() if lib is not None else 1, _threads_reason
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)
        _threads_reason = reason


def instruction_sets() -> list[str]:
    """The instruction sets that the C core was built for and this CPU has, best last; empty without the core."""
    return [name for i, name in enumerate(_compiled_sets()) if lib.fastopt_isa_supported(i)]


def _compiled_sets() -> list[str]:
    names: list[str] = []
    while lib is not None and (name := lib.fastopt_isa_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


def set_instruction_set(name: str) -> None:
    """Use the C kernels of one instruction set, one of `instruction_sets`. The results do not depend on it.

    Parameters
    ----------
    name : {"baseline", "avx2", "avx512", "neon"}

    Raises
    ------
    ValueError
        If the core was not built for it, or the CPU does not have it.

    Examples
    --------
    >>> import fastopt as fo
    >>> before = fo.get_instruction_set()
    >>> for name in fo.instruction_sets():
    ...     fo.set_instruction_set(name)
    >>> if before is not None:  # there is a core
    ...     fo.set_instruction_set(before)
    """
    available = instruction_sets()
    if name not in available:
        raise ValueError(f"there are no kernels for {name!r} here, only for: {', '.join(available) or 'none'}")
    lib.fastopt_isa_set(_compiled_sets().index(name))


def get_instruction_set() -> str | None:
    """The instruction set whose C kernels are in use; None without the C core."""
    return _compiled_sets()[lib.fastopt_isa_get()] if lib is not None else None


def _start() -> None:
    global _threads_reason
    threads, _threads_reason = _default_threads()
    if lib is not None:
        lib.fastopt_threads_set(threads)
        if forced := os.environ.get("FASTOPT_ISA"):
            try:
                set_instruction_set(forced)
            except ValueError as error:
                raise ValueError(f"FASTOPT_ISA={forced}: {error}") from None


def show_config() -> None:
    """Print which backend, instruction set and number of threads are in use, and why."""
    import cffi

    from .functional import products

    backend = _backends.get_backend()
    print(f"fastopt {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, cffi {cffi.__version__}")
    print(f"  machine          {platform.machine()}, {sys.platform}")
    print(f"  backend          {backend} ({_backends.reason})")
    if lib is not None:
        forced = " (FASTOPT_ISA)" if os.environ.get("FASTOPT_ISA") else ""
        built, available = ", ".join(_compiled_sets()), ", ".join(instruction_sets())
        print(f"  instruction set  {get_instruction_set()}{forced}; built for {built}; this CPU has {available}")
    print(f"  matrix products  {products.get_matmul()} ({products.reason()})")
    print(f"  threads          {get_num_threads()} ({_threads_reason if backend == 'c' else f'{backend} uses one'})")


def _register_with_threadpoolctl() -> None:
    """Let ``threadpoolctl.threadpool_limits`` and ``threadpool_info`` know the pool, if that package is there."""
    if lib is None:
        return
    try:
        import threadpoolctl
    except ImportError:
        return
    if not hasattr(threadpoolctl, "register"):  # before 3.2
        return

    class Controller(threadpoolctl.LibController):  # type: ignore[misc, name-defined, unused-ignore]
        user_api = internal_api = "fastopt"
        filename_prefixes = (os.path.basename(_core_file()),)

        def get_num_threads(self) -> int:
            return lib.fastopt_threads_get()

        def set_num_threads(self, num_threads: int) -> None:
            global _threads_reason
            set_num_threads(num_threads)
            _threads_reason = "threadpoolctl"

        def get_version(self) -> str:
            return __version__

    threadpoolctl.register(Controller)


def _core_file() -> str:
    from . import _core

    return str(_core.__file__)


_start()
_register_with_threadpoolctl()
