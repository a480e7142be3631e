"""The README says what is so: CI runs its commands, tables are complete (examples: test_docs.py), and it is short."""

import inspect
import re
from pathlib import Path

import fastopt as fo

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPTIMIZERS = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.search(r"and this runs the tests:\n\n```sh\n(.*)\n```", README).group(1)
    install, test = commands.rsplit(" && ", 1)
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert f"{install} && FASTOPT_BACKEND=c {test}" in map(str.strip, lines)


def test_every_optimizer_has_a_row():
    rows = set(re.findall(r"^\| `(\w+)` \|", OPTIMIZERS, re.MULTILINE))
    classes = {name for name in fo.optim.__all__ if name[0].isupper()} - {"Optimizer", "StateArray"}
    assert rows == classes


def test_every_example_has_a_row():
    rows = set(re.findall(r"^\| `fastopt\.examples\.(\w+)` \|", README, re.MULTILINE))
    assert rows == {path.stem for path in (ROOT / "fastopt" / "examples").glob("[!_]*.py")}


def test_every_option_is_in_its_row():
    shared = {"params", "lr", "weight_decay", "weight_decay_mode", "maximize"}
    shared |= {"state_format", "state_rounding", "state_seed", "param_rounding"}
    for name, listed in re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", OPTIMIZERS, re.MULTILINE):
        if like := re.fullmatch(r"as `(\w+)`", listed):
            listed = re.search(rf"^\| `{like[1]}` \|.*\| ([^|]*) \|$", OPTIMIZERS, re.MULTILINE)[1]
        options = inspect.signature(getattr(fo.optim, name)).parameters.keys() - shared
        assert set(listed.split(", ")) == options, name


def test_it_is_read_in_three_minutes():
    assert len(README.splitlines()) <= 200


def test_version_and_date_agree():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## (\d+\.\d+\.\d+) \((.*)\)$", changes, re.MULTILINE).groups()
    assert version == fo.__version__
    assert f"\nversion: {version}\ndate-released: {date}\n" in cited
