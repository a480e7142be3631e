"""The README says what is so: its example is run and its output compared, its commands are those of CI."""

import contextlib
import io
import re
from pathlib import Path

import fastopt as fo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_prints_what_the_readme_prints():
    code, expected = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL).groups()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == expected


def test_ci_runs_the_test_command_of_the_readme():
    commands = re.search(r"and this runs the tests:\n\n```sh\n(.*)\n```", README).group(1)
    install, test = commands.rsplit(" && ", 1)
    last = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert last == f"{install} && FASTOPT_BACKEND=c {test}"


def test_every_optimizer_has_a_row():
    rows = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    classes = {name for name in fo.optim.__all__ if name[0].isupper()} - {"Optimizer"}
    assert rows == classes
