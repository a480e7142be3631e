"""The cffi build script; setup.py runs it."""

from pathlib import Path

from cffi import FFI

csrc = Path(__file__).parent.parent / "csrc"
header = (csrc / "fastopt.h").read_text(encoding="utf-8")

ffi = FFI()
ffi.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
ffi.set_source(
    "fastopt._core",
    '#include "fastopt.h"',
    sources=[
        f"csrc/{name}.c"
        for name in ("optim", "functions", "columns", "norm", "losses", "dropout", "math", "dispatch", "threads")
    ],
    include_dirs=["csrc"],
    depends=sorted(str(path.relative_to(csrc.parent)) for path in csrc.rglob("*.*")),
)
