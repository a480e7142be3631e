"""The code of the guide and of the docstrings runs, and prints what stands there; what is not there is said."""

import contextlib
import doctest
import io
import re
import subprocess
import sys

import pytest
from beside import ft
from helpers import ROOT

BLOCKS = re.compile(r"```py\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


def test_the_guide():
    blocks = BLOCKS.findall((ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8"))
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for code, expected in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        assert printed.getvalue() == expected


@pytest.mark.parametrize("name", ft.__all__)
def test_docstrings(name):
    found = doctest.DocTestFinder(recurse=False).find(getattr(ft, name), name, globs={})
    runner = doctest.DocTestRunner()
    assert found[0].examples
    assert runner.run(found[0]).failed == 0


def test_without_pytorch():
    code = "import sys; sys.modules['torch'] = None; import fastopt.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: fastopt.torch needs PyTorch: pip install fastopt[torch]" in done.stderr


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match="LBFGS"):
        _ = ft.LBFGS
