"""The examples, run as their users do."""

import re
import subprocess
import sys

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


def test_breast_cancer(tmp_path, capsys, monkeypatch):
    from fastopt.examples import breast_cancer

    monkeypatch.chdir(tmp_path)
    breast_cancer.main([])
    printed = capsys.readouterr().out
    own, peer = (
        re.search(rf"^{name}, \w+ +([\d.]+) +([\d.]+)%", printed, re.MULTILINE).groups()
        for name in ("fastopt", "scikit-learn")
    )
    assert float(own[0]) < 0.15
    assert float(own[1]) > 94
    assert float(own[1]) > float(peer[1]) - 2
    assert str(tmp_path / "breast_cancer.png") in printed
    assert (tmp_path / "breast_cancer.png").read_bytes().startswith(b"\x89PNG")


def test_breast_cancer_without_its_libraries(tmp_path):
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from fastopt.examples.breast_cancer import main\n"
        "main(['--output', 'picture.png'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this example needs sklearn: pip install fastopt[examples]" in done.stderr
    assert not list(tmp_path.iterdir())
