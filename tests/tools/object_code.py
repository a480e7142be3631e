"""The compiled core, read from its object code: which kernels each instruction set has, and their instructions.

The kernels are those that the tables in the library point at (``fastopt_avx2`` and so on), so a new one is there by
itself, whatever it is called.
"""

import re
import shutil
import subprocess
from functools import cache
from typing import NamedTuple

from helpers import HAVE_C

REGISTER = {"baseline": "xmm", "avx2": "ymm", "avx512": "zmm"}  # the widest that each set has


def why_not():
    """Why there is nothing to read here, or the empty string."""
    if not HAVE_C:
        return "this installation has no compiled core"
    if missing := [tool for tool in ("objdump", "readelf") if shutil.which(tool) is None]:
        return f"no {' and no '.join(missing)} (binutils) on this machine"
    if "x86-64" not in _run("objdump", "-f", library()):
        return "the core is not x86-64 code"
    return "" if _symbols() else "the core was stripped of its symbols"


_SCALAR = re.compile(r"v?(mov|add|sub|mul|div|sqrt|min|max|u?comi|cmp\w*|cvt\w*|round|rndscale|range)s[sd](2\w+)?")


class Instruction(NamedTuple):
    address: int
    mnemonic: str
    operands: str

    @property
    def target(self):
        """Where a jump goes; None for others."""
        found = re.match(r"([0-9a-f]+) <", self.operands) if self.mnemonic.startswith("j") else None
        return int(found[1], 16) if found else None

    @property
    def called(self):
        """The function that a call goes to, without what the linker puts behind its name; None for others."""
        found = re.search(r"<([^@>+]*)", self.operands) if self.mnemonic.startswith("call") else None
        return found[1] if found else None

    @property
    def scalar(self):
        """Whether it computes with, converts or moves one floating-point number (addss, vcvtsd2ss, movss ...)."""
        return _SCALAR.fullmatch(self.mnemonic) is not None

    @property
    def register(self):
        """The widest vector register among its operands."""
        return next((r for r in ("zmm", "ymm", "xmm") if f"%{r}" in self.operands), None)


@cache
def _run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def library():
    from fastopt import _core

    return _core.__file__


@cache
def _symbols():
    """address, section, size and name of every symbol, in the order of the table: a file's behind its name."""
    lines = _run("objdump", "-t", library()).splitlines()
    found = (re.match(r"([0-9a-f]{16}) .{7} (\S+)\t([0-9a-f]{16}) +(?:\.hidden )?(\S+)$", line) for line in lines)
    return [(int(m[1], 16), m[2], int(m[3], 16), m[4]) for m in found if m]


@cache
def functions():
    """The instructions of every function of the library, by address."""
    found, current = {}, None
    for line in _run("objdump", "-d", "--no-show-raw-insn", library()).splitlines():
        if head := re.match(r"([0-9a-f]+) <(.*)>:", line):
            current = found[int(head[1], 16)] = []
        elif body := re.match(r"\s+([0-9a-f]+):\s+(\S+)\s*(.*)", line):
            current.append(Instruction(int(body[1], 16), body[2], body[3]))
    return found


def instructions():
    """All instructions of the library."""
    return (i for function in functions().values() for i in function)


@cache
def kernels(isa):
    """The kernels in the table of an instruction set: their addresses by name."""
    begin, size = next((a, s) for a, _, s, name in _symbols() if name == f"fastopt_{isa}")
    names = {address: name for address, section, _, name in _symbols() if section == ".text"}
    pointers = [
        int(f[-1], 16)
        for f in map(str.split, _run("readelf", "-rW", library()).splitlines())
        if len(f) == 4 and f[2] == "R_X86_64_RELATIVE" and begin <= int(f[0], 16) < begin + size
    ]
    return {names[address]: address for address in pointers if address in names}


@cache
def functions_of(isa):
    """All functions compiled for an instruction set, by name."""
    found, of_isa = {}, False
    for address, section, _, name in _symbols():
        if section == "*ABS*":
            of_isa = name == f"{isa}.c"
        elif of_isa and section.startswith(".text") and address in functions():
            found[name] = functions()[address]
    return found


@cache
def code_of(isa):
    """All instructions compiled for an instruction set, whichever function they are in."""
    return [i for function in functions_of(isa).values() for i in function]


@cache
def compiler():
    """What the compiler says of itself in the library, such as "GCC 12"."""
    text = _run("readelf", "-p", ".comment", library())
    found = re.search(r"(GCC|clang)\D.*?(\d+)\.\d+\.\d+\s*$", text, re.MULTILINE)
    return f"{found[1]} {found[2]}" if found else "unknown"


def loops(instructions):
    """The innermost loops of a function: what lies between the target of a jump back and the jump."""
    at = {i.address: n for n, i in enumerate(instructions)}
    spans = {(at[i.target], n) for n, i in enumerate(instructions) if i.target in at and at[i.target] <= n}
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [instructions[a : b + 1] for a, b in sorted(inner)]
