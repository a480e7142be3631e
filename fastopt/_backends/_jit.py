"""How Numba compiles here, and what it keeps on disk, so that only a first process waits for it."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

# error_model="numpy" divides as the hardware does; without fastmath nothing is reordered or contracted.
compiled: Any = numba.njit(error_model="numpy", nogil=True)


def _hash_of_sources() -> str:
    """Changes with whatever a compiled function may be made of."""
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    here = Path(__file__).parent
    for source in sorted([*here.glob("*.py"), *(here.parent / "_specification").glob("*.py")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()


_SOURCES = _hash_of_sources()


class _Cache(FunctionCache):
    """Numba's cache, which knows the signature, the CPU and the function's own file, told of all other sources.

    Numba itself would look at the functions that a function calls: not at all at global ones, and at those of a closure
    by a number that is another one in each process.
    """

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), _SOURCES

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file may raise anything; what is compiled anew replaces it
            return None

    def save_overload(self, sig, data):
        for _ in range(2):
            try:
                return super().save_overload(sig, data)
            except Exception:  # of a damaged index, which is begun anew; or the disk is full: it serves all the same
                with suppress(OSError):
                    self.flush()


def kept(name: str) -> Callable[[Any], Any]:
    """A decorator: compiled, and kept on disk under ``name``, which says with what a function was made.

    It is for functions that Python calls, on arrays and numbers; what they call is part of them.
    """

    def decorate(function):
        function.__qualname__ = name
        dispatcher = compiled(function)
        with suppress(RuntimeError, OSError):  # where nothing can be written: beside the sources, the user's folder
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate


@compiled
def select(condition, x, y):  # np.where would make an array of every scalar
    return x if condition else y


@intrinsic
def _fma(typing_context, a, b, c):
    """a * b + c rounded once: the CPU's instruction where it has one."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, a, a), generate


fma: Any = _fma  # called without the context
