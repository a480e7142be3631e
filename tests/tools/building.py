"""Builds a copy of the package whose core is made of changed C sources."""

import runpy
import shutil
import subprocess
from pathlib import Path

from helpers import CSRC

import fastopt as fo

COMPILER = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def c_sources(csrc):
    """What is compiled, with the kernels of the baseline alone."""
    return [path for path in csrc.rglob("*.c") if path.parent.name != "isa" or path.stem == "baseline"]


# The core as a plain shared library, through cffi's ABI mode: a second to build, and no Python headers.
CORE = """
from pathlib import Path
from cffi import FFI

here = Path(__file__).parent
ffi = FFI()
ffi.cdef((here / "fastopt.h").read_text())
lib = ffi.dlopen(str(here / "core.so"))
"""


EMULATED = Path(__file__).with_name("emulated_avx512.h")


def build(folder, change=None, *, package=Path(fo.__file__).parent, csrc=CSRC, emulated=False):
    """A copy of the package in ``folder`` whose core is made of the sources with one change in them.

    With ``emulated``, it has the kernels for AVX-512, too, and takes them, on any CPU that has AVX2.
    """
    original, sources_of_core = package, csrc
    package, csrc = folder / "fastopt", folder / "csrc"
    shutil.copytree(original, package, ignore=shutil.ignore_patterns("_core.*", "__pycache__"))
    shutil.copytree(sources_of_core, csrc)
    changes = [change] if change else []
    if emulated:
        changes.append(("dispatch.c", "{&fastopt_avx512, has_avx512}", "{&fastopt_avx512, always}"))
    for name, old, new in changes:
        path = next(csrc.rglob(name))
        text = path.read_text()
        assert old in text, f"{old!r} no longer stands in csrc/{name}: change the table of perturbations"
        path.write_text(text.replace(old, new, 1))
    sources = [str(path) for path in c_sources(csrc)]
    compiler = [COMPILER, "-std=gnu11", "-O1", "-ffp-contract=off", "-fPIC", "-w", "-I", str(csrc)]
    if emulated:
        kernels = str(folder / "avx512.o")
        sources += ["-DHAVE_AVX512", kernels]
        own = ["-Og", "-mavx2", "-mfma", "-Wno-psabi", "-include", str(EMULATED)]  # in a quarter of -O1's time
        own += ["-c", str(csrc / "isa" / "avx512.c"), "-o", kernels]
        subprocess.run([*compiler, *own], check=True, timeout=120)
    command = [*compiler, "-shared", "-pthread", *sources, "-lm", "-o", str(package / "core.so")]
    subprocess.run(command, check=True, timeout=120)
    declarations = runpy.run_path(str(package / "_build.py"))["declarations"]
    (package / "fastopt.h").write_text(declarations)
    (package / "_core.py").write_text(CORE)
    return folder
