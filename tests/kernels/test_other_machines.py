"""The same bits on other machines: bits.c, compiled for AArch64 and Windows, too, prints the digests it prints here.

GCC's cross-compilers, without a warning, by the flags of setup.py; and run by qemu-aarch64 and wine, where they are.
"""

import collections
import os
import platform
import runpy
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from building import COMPILER
from helpers import CSRC

setuptools = pytest.importorskip("setuptools", reason="setup.py has the compilers' flags")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # setuptools' own
    pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests"),
    pytest.mark.skipif(not COMPILER or "gcc" not in os.path.realpath(COMPILER), reason="the compiler here is not GCC"),
]

# the compiler, what runs its programs, the machine, its instruction sets, and what a program needs to stand alone
OTHERS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", "aarch64", ["neon"], ["-static", "-pthread"]),
    "windows": ("x86_64-w64-mingw32-gcc", "wine", "AMD64", ["avx2"], ["-static", "-D__USE_MINGW_ANSI_STDIO=1"]),
}


def build(compiler, machine, sets, options, folder):
    """bits.c with the core."""
    with mock.patch.object(setuptools, "setup"):
        names = runpy.run_path(str(CSRC.parent / "setup.py"))
    flags = [*names["EVERYWHERE"], "-fno-thread-jumps", "-Wall", "-Wextra", "-Werror", "-I", str(CSRC)]
    commands = [
        [compiler, *flags, *own, "-c", str(CSRC / "isa" / f"{name}.c"), "-o", str(folder / f"{name}.o")]
        for name, own in {"baseline": [], **names["INSTRUCTION_SETS"][machine]}.items()
        if name in ("baseline", *sets)
    ]
    with ThreadPoolExecutor() as pool:
        for result in pool.map(lambda command: subprocess.run(command, capture_output=True, text=True), commands):
            assert result.returncode == 0, result.stderr
    sources = [Path(__file__).parents[1] / "tools" / "bits.c"]
    sources += [path for path in CSRC.rglob("*.c") if path.parent.name != "isa"]
    files = [*map(str, sources), *map(str, folder.glob("*.o"))]
    program = folder / "bits.exe"
    link = [compiler, *flags, *[f"-DHAVE_{name.upper()}" for name in sets], *files, *options, "-lm", "-o", str(program)]
    result = subprocess.run(link, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return program


def digests(command):
    """By type and kernel, in their order, all digests of all instruction sets and numbers of threads."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    found, order = collections.defaultdict(set), collections.Counter()
    for line in result.stdout.splitlines():
        isa, threads, kernel = line.split(" ", 2)
        kernel, digest = kernel.rsplit(" ", 1)
        order[isa, threads, kernel] += 1
        found[kernel, order[isa, threads, kernel]].add(digest)
    return dict(found)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    program = build(COMPILER, platform.machine(), [], ["-pthread"], tmp_path_factory.mktemp("here"))
    return digests([str(program)])


@pytest.mark.parametrize("name", OTHERS)
def test_another_machine_has_the_same_bits(name, here, tmp_path):
    assert len(here) > 100
    assert {key for key, values in here.items() if len(values) > 1} == set()  # of 1 and 3 threads
    compiler, runner, machine, sets, options = OTHERS[name]
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    program = build(compiler, machine, sets, options, tmp_path)
    if not shutil.which(runner):
        pytest.skip(f"compiled and linked, not run: there is no {runner}")
    assert digests([runner, str(program)]) == here
