"""The cffi build script; setup.py runs it."""

import re
from pathlib import Path

from cffi import FFI

csrc = Path(__file__).parent.parent / "csrc"


def declared(header: str, kernels: str) -> str:
    """The declarations of fastopt.h, and those that its macros make of the lines of kernels.def."""
    header = header.replace("\\\n", "")
    macros = dict(re.findall(r"^#define (\w+)\(name\) +(.*)", f"{kernels}\n{header}", re.MULTILINE))

    def made_of(macro: str, name: str) -> str:
        body = re.sub(r"(##)?\bname\b(##)?", name, macros[macro])
        return re.sub(r"\b([A-Z_]+)\((\w+)\) *", lambda nested: made_of(*nested.groups()) + "\n", body)

    plain = [line for line in header.splitlines() if not line.startswith("#")]
    own = re.findall(r"^([A-Z_]+)\((\w+)\)$", kernels, re.MULTILINE)
    return "\n".join([*plain, *(made_of(*line) for line in own)])


declarations = declared(*((csrc / name).read_text(encoding="utf-8") for name in ("fastopt.h", "kernels/kernels.def")))


def in_environment(declarations: str) -> str:
    """C for which every call of a declared function enters the core's floating-point environment, and leaves it.

    But for those that do nothing else.
    """
    code = re.sub(r"/\*.*?\*/", "", declarations, flags=re.DOTALL)
    functions = re.findall(r"^(\w[\w ]*[ *])(fastopt_\w+)\(([^()]*)\);", code, flags=re.MULTILINE)
    if len(functions) != len(re.findall(r"\bfastopt_\w+\s*\(", code)):
        raise ValueError("fastopt.h declares a function in a way that _build.py does not understand")
    lines = ['#include "platform/environment.h"']
    for result, name, parameters in functions:
        if name.startswith("fastopt_environment_"):
            continue
        names = ", ".join(re.findall(r"(\w+) *(?:,|$)", parameters)) if parameters != "void" else ""
        value, give = ("", "") if result.strip() == "void" else (f"{result} value = ", " return value;")
        lines += [
            f"static inline {result}{name}_in_environment({parameters})",
            "{ const uint64_t before = environment_enter();",
            f"  {value}{name}({names}); environment_leave(before);{give} }}",
            f"#define {name} {name}_in_environment",
        ]
    return "\n".join(lines)


ffi = FFI()
ffi.cdef(declarations)
ffi.set_source(
    "fastopt._core",
    f'#include "fastopt.h"\n{in_environment(declarations)}',
    sources=sorted(f"csrc/{path.relative_to(csrc)}" for path in csrc.rglob("*.c") if path.parent.name != "isa"),
    include_dirs=["csrc"],
    depends=sorted(str(path.relative_to(csrc.parent)) for path in csrc.rglob("*.*")),
)
