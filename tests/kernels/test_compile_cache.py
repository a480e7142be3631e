"""What Numba compiles is kept on disk: other processes compile nothing, unless something of it has changed."""

import shutil
from pathlib import Path

import pytest
from helpers import HAVE_C, run_python

import fastopt as fo
from fastopt._backends import _missing

pytestmark = pytest.mark.slow  # 20 seconds

# Of every kind of compiled function one that is compiled in little time.
CODE = """
import numpy as np, fastopt as fo
from numba.core.event import install_recorder
with install_recorder("numba:compile") as recorder:
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
    fo.relu_backward(x, x)
    loss, dx = fo.mse_loss(x, x[::-1].copy())
    y, saved = fo.batch_norm(x, activation="relu")
    fo.optim.SGD(x, lr=0.1, momentum=0.5).step(dx)
    fo.optim.LARS(x, lr=0.1).step(dx)
print(len(recorder.buffer), loss, x.tobytes().hex())
"""


RELU = """
import numpy as np, fastopt as fo
from numba.core.event import install_recorder
with install_recorder("numba:compile") as recorder:
    y = fo.relu(np.ones(12))
print(len(recorder.buffer), y.sum())
"""


def run(folder, package=Path(fo.__file__).parent.parent, code=CODE):
    """How often Numba compiled, and the results."""
    result = run_python("-c", code, package=package, FASTOPT_BACKEND="numba", NUMBA_CACHE_DIR=str(folder))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    compiled, results = result.stdout.split(maxsplit=1)
    return int(compiled), results


def test_a_second_process_compiles_nothing(tmp_path):
    compiled, results = run(tmp_path)
    assert compiled > 0
    assert run(tmp_path) == (0, results)


def test_damaged_files_are_replaced(tmp_path):
    compiled, results = run(tmp_path, code=RELU)
    for n, kept in enumerate(tmp_path.rglob("*.nb?")):  # a process was killed, or the disk was full
        kept.write_bytes(kept.read_bytes()[:100] if n % 2 else b"")
    assert run(tmp_path, code=RELU) == (compiled, results)
    assert run(tmp_path, code=RELU) == (0, results)


def test_a_change_of_any_source_is_noticed(tmp_path):
    shutil.copytree(Path(fo.__file__).parent, tmp_path / "fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    run(tmp_path / "cache", tmp_path, RELU)
    assert run(tmp_path / "cache", tmp_path, RELU)[0] == 0
    functions = tmp_path / "fastopt" / "_specification" / "transcendental.py"
    functions.write_text(functions.read_text().replace("return select(x < zero, zero, x)", "return x + x"))
    changed, results = run(tmp_path / "cache", tmp_path, RELU)
    assert changed > 0
    assert results == "24.0\n"


def test_where_nothing_can_be_written_numba_serves_all_the_same(tmp_path):
    (tmp_path / "file").touch()
    code = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n" + RELU
    assert run(tmp_path / "file", code=code)[0] > 0


# ---- the C core is not there ----------------------------------------------------------------------


def test_one_warning_where_numba_stands_in():
    code = (
        "import sys; sys.modules['fastopt._core'] = None\nimport numpy as np, fastopt as fo\nprint(fo.get_backend())\n"
    )
    code += "print('numba' in sys.modules)\nfor _ in range(2): fo.relu(np.ones(2))"
    result = run_python("-c", code)
    assert result.stdout.split() == ["numba", "False"]
    assert result.stderr.count("Warning") == 1
    assert "RuntimeWarning: the backend 'c' is not available: " in result.stderr
    assert "Numba serves in its place" in result.stderr
    assert "<string>:5" in result.stderr
    assert run_python("-W", "error", "-c", code, FASTOPT_BACKEND="numba").returncode == 0


def test_the_reason_is_the_true_one(tmp_path):
    installed, sources, error = tmp_path / "site", tmp_path / "clone", ImportError("no module")
    (installed / "fastopt").mkdir(parents=True)
    (sources / "fastopt").mkdir(parents=True)
    path = [str(sources), str(installed)]
    assert "installed without a working C compiler" in _missing.why(error, installed / "fastopt", path)
    (sources / "csrc").mkdir()
    assert f"pip install -e {sources} does that" in _missing.why(error, sources / "fastopt", path)
    (installed / "fastopt" / f"_core{_missing.EXTENSION_SUFFIXES[0]}").touch()
    assert f"the one installed in {installed} has its core" in _missing.why(error, sources / "fastopt", path)
    assert "cannot be loaded: no module" in _missing.why(error, installed / "fastopt", path)


@pytest.mark.skipif(HAVE_C, reason="this installation has a C core")
def test_without_a_core_python_m_fastopt_says_why():
    assert "installed without a working C compiler" in run_python("-m", "fastopt").stdout


def test_a_core_older_than_its_sources_is_to_be_built_again(tmp_path):
    check = pytest.importorskip("fastopt._interface", exc_type=ImportError).check
    header = tmp_path / "csrc" / "fastopt.h"
    check(header, [])  # installed: there are no sources
    header.parent.mkdir()
    header.write_text("/* fastopt_in_words(1) */\nint fastopt_old(int x);\nconst char *fastopt_new(void);\n")
    check(header, ["fastopt_new", "fastopt_old"])
    (header.parent / "kernels").mkdir()
    (header.parent / "kernels" / "kernels.def").write_text("#define LOSS(name) x\nLOSS(of_old)\nKERNEL(copy, 1)\n")
    with pytest.raises(ImportError, match="no fastopt_of_old"):
        check(header, ["fastopt_new", "fastopt_old"])
    (header.parent / "kernels" / "kernels.def").unlink()
    with pytest.raises(ImportError, match=f"no fastopt_new, .*: build the core again, by pip install -e {tmp_path}$"):
        check(header, ["fastopt_old"])
