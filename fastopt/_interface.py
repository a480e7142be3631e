"""The C core, if there is one and it has all that its header declares.

In a folder of sources it may not: these may be newer than what was built of them.
"""

import re
from pathlib import Path

from ._core import ffi, lib

__all__ = ["ffi", "lib"]


def check(header: Path, names: list[str]) -> None:
    """Refuse a core that has only these names, if the header is there and declares others."""
    if not header.is_file():
        return
    declared = re.findall(r"^\w[\w ]*[ *](fastopt_\w+)\(", header.read_text(encoding="utf-8"), re.MULTILINE)
    if (kernels := header.parent / "kernels" / "kernels.def").is_file():  # each line is declared by a macro
        lines = re.findall(r"^[A-Z_]+\((\w+)\)$", kernels.read_text(encoding="utf-8"), re.MULTILINE)
        declared += [f"fastopt_{name}" for name in lines]
    if missing := sorted(set(declared).difference(names)):
        raise ImportError(
            f"it has no {missing[0]}, which {header} declares: build the core again, by pip install -e"
            f" {header.parents[1]}"
        )


check(Path(__file__).parents[1] / "csrc" / "fastopt.h", dir(lib))
