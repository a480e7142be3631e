"""Many arrays written as one.

Python runs signal handlers, and so raises what they raise, between two of its own instructions. Where arrays must not
be left half written, a single call into C writes all of them.
"""

import operator
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat, starmap
from typing import Any

import numpy as np

_TRIES = 100
_write: Callable[[Any, Any, Any], None] = operator.setitem


def copy_all(targets: Iterable[np.ndarray], sources: Iterable[np.ndarray]) -> None:
    """Write each of ``sources`` into its target: all of them, whatever signal comes."""
    deque(map(_write, targets, repeat(...), sources), 0)


def change_all(changes: Iterable[tuple[Any, Any, Any]]) -> None:
    """``container[key] = value`` for each triple: all of them, whatever signal comes."""
    deque(starmap(_write, list(changes)), 0)


def surely(call: Callable[[], Any]) -> None:
    """Repeat ``call``, which may be repeated, until it is through: beside an exception on its way, others may come."""
    for left in reversed(range(_TRIES)):
        try:
            call()
        except BaseException:
            if not left:
                raise
        else:
            return
