"""Runs the C core under gcc's or clang's sanitizers, and measures what part of it the tests reach.

    python tests/tools/instrumented.py address [arguments of pytest]    the tests, with AddressSanitizer and
                                                                  UndefinedBehaviorSanitizer in the core
    python tests/tools/instrumented.py thread                           hammer.c, with ThreadSanitizer
    python tests/tools/instrumented.py coverage [arguments of pytest]   the tests, and the lines of C they did not reach

The core is built from a copy of the sources, by setup.py itself, so that flags and files are those of every build, but
for -O1, which takes half of the time; the installation at hand is left alone. The first finding of a sanitizer ends the
run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
THREAD = ["-fsanitize=thread", "-DIDLE_CHILDREN"]
ADDRESS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"


def change_source(folder, change):
    """Replace a text in one of the sources by another, such as a bug that is to be found."""
    name, old, new = change
    path = next(folder.rglob(name))
    text = path.read_text()
    assert old in text, f"{old!r} no longer stands in {name}"
    path.write_text(text.replace(old, new, 1))


def build(folder, flags, change=None):
    """The package, installed in a folder of ``folder``, its core compiled with more flags."""
    source, site = folder / "source", folder / "site"
    ignored = shutil.ignore_patterns("_core.*", "__pycache__", "*.egg-info")
    for name in ("csrc", "fastopt"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    change_source(source, ("setup.py", '"-O3"', '"-O1"'))
    if change:
        change_source(source / "csrc", change)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(source)]
    subprocess.run(command, check=True, env={**os.environ, "CFLAGS": flags, "LDFLAGS": flags})
    if not list(site.glob("fastopt/_core.*")):
        sys.exit(f"the core could not be built with {flags}")
    return site


def run_pytest(site, arguments, **environment):
    """pytest's exit code, on the package in ``site``."""
    # Not python -m pytest, which would find the fastopt of this folder first; and pytest's own capture of file
    # descriptors would swallow the finding that ends the process.
    command = [sys.executable, str(Path(sys.executable).with_name("pytest"))]
    command += ["-q", "-p", "no:cacheprovider", "--capture=sys", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site), "FASTOPT_BACKEND": "c", **environment}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def address(arguments, change=None):
    """pytest's exit code."""
    find = [COMPILER, "-print-file-name=libasan.so"], [COMPILER, "-print-file-name=libstdc++.so"]
    libraries = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() for command in find]
    with tempfile.TemporaryDirectory() as folder:
        return run_pytest(
            build(Path(folder), ADDRESS, change),
            arguments,
            # Numba's C++ exceptions pass through the sanitizer, which wants their library to be there before it
            LD_PRELOAD=" ".join(libraries),
            ASAN_OPTIONS="detect_leaks=0",  # Python itself frees little at its end
            UBSAN_OPTIONS="print_stacktrace=1",
        )


def coverage(arguments):
    """gcovr's exit code, or pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder).resolve() / "source"
        if code := run_pytest(build(source.parent, "--coverage -fprofile-update=atomic"), arguments):
            return code
        command = [
            sys.executable,
            "-m",
            "gcovr",
            "--root",
            str(source),
            "--filter",
            f"{source}/csrc/",
            "--txt-metric",
            "line",
        ]
        return subprocess.run([*command, "--merge-mode-functions", "separate", str(source)]).returncode


def hammer(*flags):
    """Compile hammer.c and run it; what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        program, csrc = str(Path(folder, "hammer")), ROOT / "csrc"
        sources = [Path(__file__).with_name("hammer.c"), *csrc.rglob("*.c")]
        sources = [path for path in sources if path.parent.name != "isa" or path.stem == "baseline"]
        options = ["-std=gnu11", "-O1", "-g", "-ffp-contract=off", "-pthread", *flags]
        command = [COMPILER, *options, "-I", str(csrc), *map(str, sources), "-lm", "-o", program]
        subprocess.run(command, check=True)
        environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1 exitcode=66"}
        return subprocess.run([program], env=environment, timeout=300, capture_output=True, text=True)


def main():
    match sys.argv[1:]:
        case ["address", *arguments]:
            sys.exit(address(arguments))
        case ["coverage", *arguments]:
            sys.exit(coverage(arguments))
        case ["thread"]:
            result = hammer(*THREAD)
            print(result.stdout, result.stderr, f"exit code {result.returncode}")
            sys.exit(result.returncode)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
