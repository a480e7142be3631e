"""Raising at any moment: what a signal's handler does between two of Python's instructions, at a chosen one."""

import os
import sys

import pytest

import fastopt

_PACKAGE = os.path.dirname(fastopt.__file__)
FILES = (os.path.join(_PACKAGE, "saving"),)

# No signal comes between `open` and its `with`, but a tracer can raise there: Python then closes the file, and warns.
LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


class Raised(BaseException):
    """What nothing else raises or catches."""


def raising_at(count, call, within=(_PACKAGE,)):
    """Call it, and raise at so manieth instruction of these files; the number there were, and whether it was raised.

    With a count of 0, nothing is raised.
    """
    done = 0

    def instruction(frame, event, argument):
        nonlocal done
        if event == "opcode":
            done += 1
            if done == count:
                raise Raised
        return instruction

    def function(frame, event, argument):
        if not frame.f_code.co_filename.startswith(within):
            return None
        frame.f_trace = instruction  # before the next line, for Python 3.13
        frame.f_trace_opcodes = True
        return instruction

    sys._getframe().f_trace_opcodes = True  # without one such frame, Python 3.12 traces no instructions from here on
    before = sys.gettrace()
    sys.settrace(function)
    try:
        call()
    except Raised:
        return done, True
    finally:
        sys.settrace(before)
    return done, False
