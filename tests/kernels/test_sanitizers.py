"""What instrumented.py runs, and that it finds what is planted: a race, a read past the end, a shift too far."""

import sys

import instrumented
import pytest
from helpers import CSRC, HAVE_C

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAVE_C, reason="no C core in this installation"),
    pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests"),
    pytest.mark.skipif(sys.platform != "linux", reason="the sanitizers' libraries are looked for as on Linux"),
]


def test_the_pool_is_free_of_races():
    result = instrumented.hammer(*instrumented.THREAD)
    assert result.returncode == 0, result.stderr


def test_the_pool_works_in_forked_children_too():
    result = instrumented.hammer()
    assert result.returncode == 0, result.stderr


def test_a_race_is_found():
    result = instrumented.hammer(*instrumented.THREAD, "-DPLANTED_RACE")
    assert result.returncode == 66
    assert "data race" in result.stderr


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            ("reduce.inc", "= 4 * quarter; i < n;", "= 4 * quarter; i <= n;"),
            "AddressSanitizer: heap-buffer-overflow",
        ),
        (("reduce.inc", "+ carry;", "+ carry + (1 << (32 + (int)(carry & 1)));"), "runtime error: shift exponent"),
    ],
)
def test_what_is_planted_in_the_core_is_found(change, finding, capfd):
    code = instrumented.address(["-x", "tests/optim/test_bad_input.py", "-k", "not_finite"], change)
    output = "".join(capfd.readouterr())
    assert code != 0
    assert finding in output
