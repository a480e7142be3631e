"""Ctrl-C, put off to where nothing is half done."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Within a ``with`` block, Ctrl-C is noted in `requested`; a second one raises KeyboardInterrupt at once.

    Only in the main thread, where alone Python handles signals, and unless the program has a handler of its own.
    """

    def __init__(self) -> None:
        self.requested = False
        self.forced = False
        self._before: Any = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self.forced = True
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> "Interrupts":
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
