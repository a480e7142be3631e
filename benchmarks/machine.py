"""On what was measured: processor, caches, memory, compiler and flags, instruction set, versions."""

import os
import platform
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import fastopt as fo

from .peers import PEERS

ROOT = Path(__file__).parent.parent
SYSTEM = Path("/sys/devices/system/cpu")


def processor() -> str:
    with suppress(OSError):
        found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def caches() -> dict[str, dict[str, int]]:
    """By level, the bytes of one data or unified cache, and how many of this process's CPUs share it."""
    found = {}
    for index in sorted(SYSTEM.glob("cpu0/cache/index*")):
        with suppress(OSError, ValueError):
            kind, level, size = ((index / what).read_text().strip() for what in ("type", "level", "size"))
            if kind != "Instruction":
                unit = {"K": 2**10, "M": 2**20}.get(size[-1], 1)
                shared = (index / "shared_cpu_list").read_text().strip()
                found[f"L{level}"] = {"bytes": int(size.rstrip("KM")) * unit, "cpus": _count(shared)}
    return found


def _count(cpus: str) -> int:
    """Of a list such as 0-3,8."""
    ranges = [part.split("-") for part in cpus.split(",")]
    return sum(int(part[-1]) - int(part[0]) + 1 for part in ranges)


def compiler() -> str | None:
    """What the C core says it was compiled with."""
    core = sys.modules.get("fastopt._core")
    if core is None or not core.__file__:
        return None
    found = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(core.__file__).read_bytes())
    return found[0].decode() if found else None


def flags() -> dict[str, list[str]]:
    """Those in setup.py, for gcc and clang: of all files, and of each instruction set."""
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    every = re.search(r"EVERYWHERE = .*?else \[(.*?)\]", source, re.DOTALL)
    found = {"all": re.findall(r'"(-[^"]+)"', every[1]) if every else []}
    for name, own in re.findall(r'"(\w+)": \[[^]]*\] if MSVC else \[(.*?)\]', source, re.DOTALL):
        found[name] = re.findall(r'"(-[^"]+)"', own)
    return found


def memory() -> int | None:
    with suppress(OSError):
        found = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


def versions() -> dict[str, str]:
    found = {"fastopt": fo.__version__, "python": platform.python_version()}
    for distribution in (*dict.fromkeys(distribution for _, distribution in PEERS.values()), "numba", "cffi"):
        with suppress(metadata.PackageNotFoundError):
            found[distribution] = metadata.version(distribution)
    return found


def blas() -> list[str]:
    """NumPy's BLAS, and the processor that its kernels are for; threadpoolctl knows."""
    with suppress(ImportError):
        from threadpoolctl import threadpool_info

        found = [library for library in threadpool_info() if library["user_api"] == "blas"]
        return [f"{b['internal_api']} {b['version']} for {b.get('architecture', 'any')}" for b in found]
    return []


def description() -> dict[str, Any]:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": cpus,
        "caches": caches(),
        "memory": memory(),
        "backend": fo.get_backend(),
        "instruction_set": fo.get_instruction_set(),
        "instruction_sets": fo.instruction_sets(),
        "compiler": compiler(),
        "flags": flags(),
        "versions": versions(),
        "blas": blas(),
    }
