"""What setup.py asks setuptools for."""

import runpy
import sysconfig

import pytest
from helpers import CSRC

setuptools = pytest.importorskip("setuptools")


@pytest.mark.skipif(not CSRC.exists(), reason="setup.py is not beside the tests")
@pytest.mark.filterwarnings("ignore")  # setuptools' own
@pytest.mark.parametrize(("free_threaded", "api"), [(None, "cp310"), (0, "cp310"), (1, None)])
def test_a_free_threaded_python_gets_a_wheel_of_its_own(monkeypatch, free_threaded, api):
    asked = {}
    known = sysconfig.get_config_var
    monkeypatch.setattr(setuptools, "setup", lambda **options: asked.update(options))
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: free_threaded if name == "Py_GIL_DISABLED" else known(name)
    )
    runpy.run_path(str(CSRC.parent / "setup.py"))
    assert asked["options"].get("bdist_wheel", {}).get("py_limited_api") == api
