"""The floating-point environment in which NumPy and Numba compute here: that of the C core (platform/environment.h)."""

import ctypes
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

try:
    from .._interface import lib
except ImportError:  # installed without a compiler
    lib = None


def _of_libc() -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """The same from the C library, for installations without the core."""
    library = ctypes.CDLL(None)
    default = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc and musl

    def enter() -> Any:
        before = ctypes.create_string_buffer(64)
        library.fegetenv(before)
        library.fesetenv(default)
        return before

    return enter, library.fesetenv


enter: Callable[[], Any]
leave: Callable[[Any], Any]
if lib is not None:
    enter, leave = lib.fastopt_environment_enter, lib.fastopt_environment_leave
elif sys.platform == "linux":
    enter, leave = _of_libc()
else:  # the caller's is used, as docs/contract.md says
    enter, leave = lambda: None, lambda before: None


def isolated(function):
    """``function`` computing in this environment, and silent about it whatever the caller's ``np.errstate``."""

    @wraps(function)
    def run(*args, **options):
        before = enter()
        try:
            with np.errstate(all="ignore"):
                return function(*args, **options)
        finally:
            leave(before)

    return run
