"""Builds the C core: one set of kernels per instruction set, each with its own compiler flags.

Of the README it takes what a package index can show. Everything else stands in pyproject.toml. Without a working
compiler the installation goes on without the core, and Numba serves in its place (``python -m fastopt`` says so).
"""

import os
import platform
import re
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

MSVC = sys.platform == "win32"
# contraction and fast-math would change bits (the core says itself where to fuse); errno and traps only keep loops
# from vectorising
EVERYWHERE = ["/std:c11", "/O2", "/fp:precise"] if MSVC else [
    "-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden",
]  # fmt: skip
X86_64 = {
    "avx2": ["/arch:AVX2"] if MSVC else ["-mavx2", "-mfma"],
    "avx512": ["/arch:AVX512"] if MSVC else [
        "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512",
    ],
}  # fmt: skip
INSTRUCTION_SETS: dict[str, dict[str, list[str]]] = {
    "x86_64": X86_64,
    "AMD64": X86_64,
    "aarch64": {"neon": []},
    "arm64": {"neon": []},
}


def readme():
    """The README without what leads to other files of the repository: pictures, and links, of which the text stays."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"<picture>.*?</picture>\n\n", "", text, flags=re.DOTALL)
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


class BuildCore(build_ext):
    def run(self):
        super().run()
        if self.extensions:  # for `python -m` in a checkout, which imports the checkout
            self.copy_extensions_to_source()

    def build_extension(self, ext):
        try:
            # gcc would thread the clamps of exp through all of it: half as many instructions without
            flags = EVERYWHERE + [flag for flag in ["-fno-thread-jumps"] if self.compiles(["-Werror", flag])]
            # Python's own flags often have -g: the core would be four times as large
            if not MSVC and not any(flag.startswith("-g") for flag in os.environ.get("CFLAGS", "").split()):
                flags.append("-g0")
            ext.extra_compile_args = flags
            sets = {"baseline": flags}
            for name, own in INSTRUCTION_SETS.get(platform.machine(), {}).items():
                if self.compiles(own):
                    sets[name] = flags + own
                    ext.define_macros.append((f"HAVE_{name.upper()}", None))
                else:
                    self.warn(f"the compiler does not know {' '.join(own)}: no kernels for {name}")
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = pool.map(self.compile_kernels, sets.keys(), sets.values())
                ext.extra_objects = [path for paths in made for path in paths]
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            self.warn(
                f"fastopt is installed WITHOUT its C core, since it could not be compiled ({error}); Numba will serve"
            )
            ext.optional = True
            self.extensions = []

    def compile_kernels(self, name, flags):
        return self.compiler.compile(
            [f"csrc/isa/{name}.c"], output_dir=self.build_temp, include_dirs=["csrc"], extra_postargs=flags
        )

    def compiles(self, flags):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("int probe(void) { return 0; }\n")
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
            except CompileError:
                return False
            return True


# One wheel serves all Pythons from 3.10 on; but for free-threaded ones there is no limited API, and each has its own.
# There cffi, from 2.0 on, builds the core without it, and speaks for its modules to the interpreter about the GIL.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    cffi_modules=["fastopt/_build.py:ffi"],
    cmdclass={"build_ext": BuildCore},
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp310"}},
)
