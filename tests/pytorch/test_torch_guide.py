"""The guide's code runs, and prints what stands there."""

import contextlib
import io
import re

from beside import torch  # noqa: F401
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
