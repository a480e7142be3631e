"""CONTRIBUTING.md's "How to add an optimizer", done: its steps in a copy of the source, and what each is needed for."""

import re
import shutil

import pytest
from building import COMPILER, build
from helpers import CSRC, HAVE_C, ROOT, run_python

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEPS = re.split(r"^### ", TEXT.partition("## How to add an optimizer")[2], flags=re.MULTILINE)[1:]
TITLES = [step.partition(":")[0] for step in STEPS]
# What holds for all optimizers and rules, and needs no compiler.
GENERAL = "every or same_scalars or name_their_states or race or recorded_trajectory and numpy-SGD"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (HAVE_C and CSRC.exists() and COMPILER), reason="no C sources, core or compiler here"),
]


def apply(step, folder):
    """Change the file that a step's title names by its diffs; what they do not add must stand there once."""
    path = folder / re.search(r"`([\w/.]+)`", step.splitlines()[0])[1]
    text = path.read_text(encoding="utf-8")
    for diff in re.findall(r"```diff\n(.*?)\n```", step, re.DOTALL):
        lines = diff.splitlines()
        old = "\n".join(line[1:] for line in lines if line[:1] != "+")
        new = "\n".join(line[1:] for line in lines if line[:1] != "-")
        assert text.count(old) == 1, f"{path.name}: {old!r} stands there {text.count(old)} times"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def copy(folder, without=None):
    """A copy of all that the steps touch, with the steps done."""
    for name in ("fastopt", "csrc", "tests"):
        ignored = shutil.ignore_patterns("_core*", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "docs").mkdir()
    for name in (
        "README.md",
        "pyproject.toml",
        "CONTRIBUTING.md",
        "CITATION.cff",
        "CHANGELOG.md",
        "docs/optimizers.md",
    ):
        shutil.copy(ROOT / name, folder / name)
    for title, step in zip(TITLES, STEPS, strict=True):
        if title != without:
            apply(step, folder)
    return folder


def run(folder, select, backend):
    files = ["rules", "optimizers", "optimizer_options", "convergence", "race", "readme"]
    arguments = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        select,
        *(str(next((folder / "tests").rglob(f"test_{name}.py"))) for name in files),
    ]
    result = run_python("-m", "pytest", *arguments, package=folder, FASTOPT_BACKEND=backend, timeout=400)
    print(result.stdout[-3000:], result.stderr[-1000:])
    return result


def test_the_steps_add_an_optimizer(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    copy(source)
    built.mkdir()
    build(built, package=source / "fastopt", csrc=source / "csrc")
    for name in ("tests", "docs", "README.md", "pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        (shutil.copytree if name in ("tests", "docs") else shutil.copy)(source / name, built / name)
    result = run(built, f"{GENERAL} or yogi or Yogi", "c")
    assert result.returncode == 0
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 100


def test_with_all_steps_done_nothing_fails_that_needs_no_compiler(tmp_path):
    """Or the next test would say nothing."""
    assert run(copy(tmp_path), GENERAL, "numpy").returncode == 0


@pytest.mark.parametrize("title", TITLES)
def test_no_step_can_be_left_out(title, tmp_path):
    """A test fails; without the rule or the class the package cannot even be imported, which pytest answers with 4."""
    assert run(copy(tmp_path, without=title), GENERAL, "numpy").returncode in (1, 4)
