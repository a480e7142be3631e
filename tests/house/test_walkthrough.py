"""CONTRIBUTING.md's "How to add ...", done: the steps in a copy of the source, and what each is needed for.

What the first section adds is not in fastopt: the steps are applied. What the others add has been added: the steps are
taken out, and so is each by itself.
"""

import re
import shutil
from typing import NamedTuple

import pytest
from building import COMPILER, build
from helpers import CSRC, HAVE_C, ROOT, run_python

OTHERS = "README.md", "pyproject.toml", "CONTRIBUTING.md", "CITATION.cff", "CHANGELOG.md", "docs/optimizers.md"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


class Walk(NamedTuple):
    """A section, and the tests of what it adds."""

    heading: str
    added: bool  # whether fastopt has it
    files: list[str]
    general: str  # what holds for all of the kind, and needs no compiler

    @property
    def steps(self):
        section = TEXT.partition(f"## {self.heading}\n")[2].partition("\n## ")[0]
        return re.split(r"^### ", section, flags=re.MULTILINE)[1:]

    @property
    def titles(self):
        return [step.partition(":")[0] for step in self.steps]


OF_REGISTRY = "truth or formula or bad_input or kernels_are_those_of_the_core"
WALKS = [
    Walk(
        "How to add an optimizer",
        False,
        ["rules", "optimizers", "optimizer_options", "convergence", "readme"],
        "every or same_scalars or name_their_states or recorded_trajectory and numpy-SGD",
    ),
    Walk("How to add an activation", True, ["activations", "programs"], OF_REGISTRY),
    Walk("How to add a loss", True, ["losses", "programs"], OF_REGISTRY),
]
EACH_STEP = [pytest.param(walk, title, id=f"{walk.heading}, {title}") for walk in WALKS for title in walk.titles]
NEEDS_SOURCES = pytest.mark.skipif(
    not (HAVE_C and CSRC.exists() and COMPILER), reason="no C sources, core or compiler here"
)
each_walk = pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.heading)


def path_of(step, folder):
    return folder / re.search(r"`([\w/.]+)`", step.splitlines()[0])[1]


def changes(step, back=False):
    """Of each diff, the text that stands there before it and the one after it."""
    for diff in re.findall(r"```diff\n(.*?)\n```", step, re.DOTALL):
        lines = diff.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[:1] != sign) for sign in "+-")
        yield (new, old) if back else (old, new)


def apply(step, folder, back=False):
    """Change the file that a step's title names by its diffs, or back; what they do not add must stand there once."""
    path = path_of(step, folder)
    text = path.read_text(encoding="utf-8")
    for old, new in changes(step, back):
        assert text.count(old) == 1, f"{path.name}: {old!r} stands there {text.count(old)} times"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def copy(folder, *walks, without=None):
    """A copy of all that the steps touch, with the steps of what fastopt lacks done, and of what it has undone.

    With ``without``, the title of a step, the thing is there but for that step.
    """
    for name in ("fastopt", "csrc", "tests"):
        ignored = shutil.ignore_patterns("_core*", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "docs").mkdir()
    for name in OTHERS:
        shutil.copy(ROOT / name, folder / name)
    for walk in walks:
        for title, step in zip(walk.titles, walk.steps, strict=True):
            if without is None or (title == without) == walk.added:
                apply(step, folder, back=walk.added)
    return folder


def run(folder, walk, select, backend):
    files = (str(next((folder / "tests").rglob(f"test_{name}.py"))) for name in walk.files)
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "-k", select, *files]
    result = run_python("-m", "pytest", *arguments, package=folder, FASTOPT_BACKEND=backend, timeout=400)
    print(result.stdout[-3000:], result.stderr[-1000:])
    return result


@each_walk
def test_what_was_added_stands_there_as_the_steps_say(walk):
    """And what the optimizer's find beside their lines. They are six files, or eight with those that are recorded."""
    assert len({path_of(step, ROOT) for step in walk.steps}) <= 6
    for step in walk.steps:
        text = path_of(step, ROOT).read_text(encoding="utf-8")
        for old, _ in changes(step, back=walk.added):
            assert text.count(old) == 1, f"{path_of(step, ROOT)}: {old!r} stands there {text.count(old)} times"


@pytest.mark.slow
@NEEDS_SOURCES
def test_the_steps_are_all_that_it_takes(tmp_path):
    """Compiled: the optimizer added, the activation and the loss taken out, of which nothing is left then."""
    source, built = tmp_path / "source", tmp_path / "built"
    copy(source, *WALKS)
    built.mkdir()
    build(built, package=source / "fastopt", csrc=source / "csrc")
    for name in ("tests", "docs"):
        shutil.copytree(source / name, built / name)
    for name in OTHERS:
        shutil.copy(source / name, built / name)
    for walk in WALKS:
        own = "" if walk.added else " or yogi or Yogi"
        result = run(built, walk, f"({walk.general}{own}) and not huber", "c")
        assert result.returncode == 0
        assert int(re.search(r"(\d+) passed", result.stdout)[1]) > (10 if walk.added else 100)
    code = "import fastopt as fo; print(hasattr(fo, 'silu'), hasattr(fo, 'huber_loss'), hasattr(fo.optim, 'Yogi'))"
    assert run_python("-c", code, package=built).stdout == "False False True\n"


@pytest.mark.slow
@NEEDS_SOURCES
@each_walk
def test_with_all_steps_done_nothing_fails_that_needs_no_compiler(walk, tmp_path):
    """Or the next test would say nothing."""
    assert run(copy(tmp_path, *([] if walk.added else [walk])), walk, walk.general, "numpy").returncode == 0


@pytest.mark.slow
@NEEDS_SOURCES
@pytest.mark.parametrize(("walk", "title"), EACH_STEP)
def test_no_step_can_be_left_out(walk, title, tmp_path):
    """A test fails; without the rule or the class the package cannot even be imported, which pytest answers with 4."""
    assert run(copy(tmp_path, walk, without=title), walk, walk.general, "numpy").returncode in (1, 4)
