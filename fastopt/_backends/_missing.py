"""Why there is no C core, and what to do about it."""

import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def _cores(package: Path) -> list[Path]:
    """The files in a folder from which Python would import the core."""
    return [core for suffix in EXTENSION_SUFFIXES if (core := package / f"_core{suffix}").exists()]


def why(error: ImportError, package: Path = Path(__file__).parents[1], path: Sequence[str] | None = None) -> str:
    """What ``error``, raised by the import of the core of the ``package`` in this folder, has as its reason."""
    if cores := _cores(package):
        return f"the C core {cores[0]} cannot be loaded: {error}"
    if not (package.parent / "csrc").is_dir():
        return "fastopt was installed without a working C compiler: have one, and install it again"
    here = f"fastopt is imported from the sources in {package.parent}, whose C core is not built"
    others = (Path(folder or ".").resolve() / "fastopt" for folder in (sys.path if path is None else path))
    for other in others:
        if other != package.resolve() and _cores(other):
            return f"{here}; the one installed in {other.parent} has its core: start Python in another folder"
    return f"{here}: pip install -e {package.parent} does that, with a C compiler"
