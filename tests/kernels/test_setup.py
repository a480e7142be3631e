"""What setup.py asks setuptools for."""

import re
import runpy
import sysconfig

import pytest
from helpers import CSRC

setuptools = pytest.importorskip("setuptools")
pytestmark = [
    pytest.mark.skipif(not CSRC.exists(), reason="setup.py is not beside the tests"),
    pytest.mark.filterwarnings("ignore"),  # setuptools' own
]


@pytest.fixture
def asked(monkeypatch):
    """What setup.py asks for, when it is called."""

    def run():
        options = {}
        monkeypatch.setattr(setuptools, "setup", lambda **given: options.update(given))
        runpy.run_path(str(CSRC.parent / "setup.py"))
        return options

    return run


@pytest.mark.parametrize(("free_threaded", "api"), [(None, "cp310"), (0, "cp310"), (1, None)])
def test_a_free_threaded_python_gets_a_wheel_of_its_own(asked, monkeypatch, free_threaded, api):
    known = sysconfig.get_config_var
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: free_threaded if name == "Py_GIL_DISABLED" else known(name)
    )
    assert asked()["options"].get("bdist_wheel", {}).get("py_limited_api") == api


def test_an_index_shows_the_readme_without_what_it_does_not_have(asked):
    whole, shown = (CSRC.parent / "README.md").read_text(encoding="utf-8"), asked()["long_description"]
    assert "<picture>" in whole
    assert "<picture>" not in shown
    assert all(target.startswith("http") for target in re.findall(r"\]\(([^)]+)\)", shown))
    assert "How to cite it: CITATION.cff." in shown  # of a link the text stays
    assert 0.8 * len(whole) < len(shown) < len(whole)
