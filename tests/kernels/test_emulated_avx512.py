"""The kernels of AVX-512 on CPUs that have none: their source, with the intrinsics written out lane by lane.

What the compiler makes of the other loops there is not seen so, but what is written for 512 bits is: tiles of
products, what they pack, and the codes of states.
"""

import platform

import pytest
from building import COMPILER, build
from helpers import CSRC, HAVE_C, ROOT, run_python

import fastopt as fo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAVE_C, reason="no C core in this installation"),
    pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests"),
    pytest.mark.skipif(COMPILER is None or platform.system() != "Linux", reason="no Unix C compiler on the path"),
    pytest.mark.skipif("avx2" not in fo.instruction_sets(), reason="this CPU has no AVX2"),
]

TESTS = {
    "functional/test_matmul.py": "avx512",
    "functional/test_layer_norm.py": "bits",
    "optim/test_state_formats.py": "bits or codes or ties",
    "optim/test_bfloat16.py": "bits",
}


def run_tests(folder, file, select):
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", f"({select}) and not numba"]
    result = run_python(*arguments, str(ROOT / "tests" / file), package=folder, FASTOPT_BACKEND="c")
    print(result.stdout[-2000:], result.stderr[-2000:])
    assert "no tests ran" not in result.stdout
    return result.returncode


def test_what_is_written_for_512_bits(tmp_path):
    folder = build(tmp_path, emulated=True)
    shown = run_python("-c", "import fastopt as fo; print(fo.get_instruction_set(), fo.__file__)", package=folder)
    assert shown.stdout.split() == ["avx512", str(folder / "fastopt" / "__init__.py")], shown.stderr
    failed = [file for file, select in TESTS.items() if run_tests(folder, file, select)]
    assert failed == []


def test_columns_that_are_packed_into_the_next_tile_are_noticed(tmp_path):
    """Vectors of 16 numbers go beyond a tile of 6 rows; those of 8 do not, so that only here it is seen."""
    change = "matmul.inc", "as_vectors && (k - i) * some >= SIZE", "as_vectors && i + 1 < k"
    assert run_tests(
        build(tmp_path, change, emulated=True), "functional/test_matmul.py", "blocks_and_threads and avx512"
    )
