"""The guide, the docstrings and the example run, and print what stands there; what is not there is said."""

import contextlib
import doctest
import io
import re
import subprocess
import sys
import warnings

import pytest

pytest.importorskip("sklearn.neural_network", reason="fastopt.sklearn is made for scikit-learn")

from helpers import ROOT

import fastopt.sklearn as ours

BLOCKS = re.compile(r"```py\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


def test_the_guide():
    pytest.importorskip("matplotlib", reason="the guide draws learning curves").use("Agg")
    blocks = BLOCKS.findall((ROOT / "docs" / "scikit_learn.md").read_text(encoding="utf-8"))
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for code, expected in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of epochs that do not suffice
            exec(code, names)
        assert printed.getvalue() == expected


def test_metrics_in_the_guide_of_training():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    first = page[: page.index("```\n")].partition("```python\n")[2]
    blocks = BLOCKS.findall(page)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(first, names)
        printed.truncate(printed.seek(0))
        exec(blocks[0][0], names)
    assert printed.getvalue() == blocks[0][1]


def test_the_guide_names_every_further_parameter():
    import inspect

    from sklearn import neural_network as theirs

    page = (ROOT / "docs" / "scikit_learn.md").read_text(encoding="utf-8")
    for name in ours.__all__:
        own, peer = (inspect.signature(getattr(module, name)).parameters for module in (ours, theirs))
        assert [key for key in own if key not in peer and f"`{key}" not in page] == []


@pytest.mark.parametrize("name", ours.__all__)
def test_docstrings(name):
    found = doctest.DocTestFinder(recurse=False).find(getattr(ours, name), name, globs={})
    runner = doctest.DocTestRunner()
    assert found[0].examples
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert runner.run(found[0]).failed == 0
    for parameter in getattr(ours, name)().get_params():
        assert re.search(rf"\b{parameter}\b", getattr(ours, name).__doc__), parameter


def test_the_example(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the example draws")
    from fastopt.examples import sklearn_networks

    sklearn_networks.main(["--quick", "--output", str(tmp_path / "curves.png")])
    rows = re.findall(r"^(\S.*?)  +([\d.]+)% +([\d.]+)% +(\d+) ", capsys.readouterr().out, re.MULTILINE)
    found = {name: float(recall) for name, recall, _, _ in rows}
    assert set(found) == {"scikit-learn", "fastopt, the same", "fastopt, with more"}
    assert abs(found["fastopt, the same"] - found["scikit-learn"]) < 8
    assert found["fastopt, with more"] > found["scikit-learn"] + 20
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; import fastopt.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: fastopt.sklearn needs scikit-learn: pip install fastopt[sklearn]" in done.stderr


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match="MLPClasifier"):
        _ = ours.MLPClasifier
