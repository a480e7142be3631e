"""What surrounds a run: Ctrl-C, put off to where nothing is half done, and NumPy's warnings."""

import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, TypeVar

import numpy as np

from .._moving import surely

Result = TypeVar("Result")


def quietly(call: Callable[[], Result]) -> Result:
    """What ``call`` returns, without warnings or errors of NumPy's about numbers.

    A ``with`` block would be left without its end if a signal's exception came just there.
    """
    put_right = partial(np.seterr, **np.geterr())
    try:
        np.seterr(all="ignore")
        result = call()
        put_right()
        return result
    except BaseException:
        try:
            surely(put_right)
        except BaseException:  # a signal's, before the call had begun
            surely(put_right)
        raise


class Surroundings:
    """From `enter` to `leave`, Ctrl-C is noted in `requested`; a second one raises KeyboardInterrupt at once.

    Only in the main thread, where alone Python handles signals, and unless the program has a handler of its own.
    What overflows meanwhile ends in a gradient that is not finite, of which the optimizer tells: NumPy need not, and is
    not to raise where the caller wants it to. `leave` may come at any time, and again.
    """

    def __init__(self) -> None:
        self.requested = False
        self.forced = False
        self._errors: Any = {}
        self._before: Any = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self.forced = True
            raise KeyboardInterrupt
        self.requested = True

    def enter(self) -> None:
        self._errors = np.geterr()
        np.seterr(all="ignore")
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.default_int_handler
            signal.signal(signal.SIGINT, self._handle)

    def leave(self) -> None:
        np.seterr(**self._errors)
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)
