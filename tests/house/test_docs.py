"""The documentation says what is so: its examples run and print what it prints, and no public name is missing."""

import ast
import contextlib
import doctest
import importlib
import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastopt as fo

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PUBLIC = {
    "fastopt": fo,
    **{f"fastopt.{n}": getattr(fo, n) for n in fo.__all__ if isinstance(getattr(fo, n), ModuleType)},
}
NAMES = sorted({(module, name) for module, value in PUBLIC.items() for name in value.__all__ if name != "__version__"})
BLOCKS = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_the_page_prints(page):
    """The blocks of a page are one program, in their order."""
    names = {}
    for code, expected in BLOCKS.findall(page.read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page.name, "exec"), names)
        assert printed.getvalue() == expected


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_docstring_examples(module, name):
    value = getattr(PUBLIC[module], name)
    assert value.__doc__, f"{module}.{name} has no docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(recurse=not isinstance(value, ModuleType)).find(value, f"{module}.{name}"):
        assert runner.run(test).failed == 0, test.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_modules_that_exist(page):
    for module in re.findall(r"python -m ([a-z_][\w.]*)", page.read_text(encoding="utf-8")):
        if module.split(".")[0] in ("fastopt", "benchmarks"):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_every_public_name_is_on_a_page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    text = "\n".join(importlib.import_module("reference").pages().values())
    sys.modules.pop("reference")
    for module, name in NAMES:
        qualified = re.escape(f"{module}.{name}")
        if not isinstance(getattr(PUBLIC[module], name), ModuleType):
            assert re.search(rf"(:: {qualified}|``{qualified}``)$|``{qualified}``:", text, re.MULTILINE), qualified
        else:
            assert f".. automodule:: {module}.{name}\n" in text


def test_every_option_for_another_library_is_in_a_recorded_run():
    """A row's options are among those that give a recorded run of that library's optimizer: test_optimizer_options."""
    cases = []
    for name in ("other_libraries", "recent_optimizers"):
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz") as recorded:
            cases += json.loads(str(recorded["cases"]))
    page = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, -]+): (\w+) \| .* \| `(.*)` \|$", page, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| .* \| `.*` \|$", page, re.MULTILINE)) > 0
    for libraries, optimizer, constructor in rows:
        call = ast.parse(constructor, mode="eval").body
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        options = json.loads(json.dumps(options))  # as recorded: lists
        for library in libraries.lower().split(", "):
            assert any(
                case["library"].split(" in ")[0] == library
                and case["optimizer"].lower().startswith(optimizer.lower())
                and case["here"] == call.func.id
                and options.items() <= case["arguments"].items()
                for case in cases
            ), f"no recorded run of {library}'s {optimizer} is that of {constructor}"
