"""The test of the tests: a core with one thing wrong in it must make them fail, and an unchanged one must not.

The C sources are copied, changed in one place and compiled into a shared library, which a copy of the package
uses as its core; a part of the tests then runs on that package.
"""

import re
import sys

import pytest
from building import COMPILER, build
from helpers import CSRC, HAVE_C, ROOT, run_python

pytestmark = [
    pytest.mark.skipif(not HAVE_C, reason="no C core in this installation"),
    pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests"),
    pytest.mark.skipif(COMPILER is None or sys.platform == "win32", reason="no Unix C compiler on the path"),
]

RULES, FUNCTIONS, OPTIMIZERS = "test_rules.py", "test_functions.py", "test_optimizers.py"
IN_ONE_CALL, EACH_SIZE = "sizes_in_one_call and adam- and c-baseline-3", "each_size and adam- and c-baseline-1"
SUMS, BITS = "square_sums and c-baseline-1", "bits and c-baseline-1"

# What is changed: the file, a text that stands there, and what takes its place; the tests that are to notice.
PERTURBATIONS = {
    "beta1 for beta2": ("rules.h", "h.beta2 * *exp_avg_sq", "h.beta1 * *exp_avg_sq", RULES, IN_ONE_CALL),
    "eps inside the root": (
        "rules.h", "h.eps_root) * h.root_correction2 + h.eps)", "h.eps_root + h.eps) * h.root_correction2)",
        OPTIMIZERS, "recorded and c-Adam-",
    ),
    "two scalars change places": (
        "rules.h", "beta1, one_minus_beta1, beta2", "beta2, one_minus_beta1, beta1", RULES, IN_ONE_CALL,
    ),
    "clipping at one end": ("rules.h", "g = g > h.clip_value ? h.clip_value : g;", "", RULES, EACH_SIZE),
    "no weight decay": (
        "rules.h", "return TYPED(plus)(g, h.l2, p);", "return g;", OPTIMIZERS, "driver_treats and SGD and l2",
    ),
    "no tail": ("optim.inc", "for (size_t i = 0; i < n;", "for (size_t i = 0; i < n / 8 * 8;", RULES, EACH_SIZE),
    "elements left out": ("optim.c", "end = (i + 1) * BLOCK + ahead", "end = (i + 1) * BLOCK", RULES, IN_ONE_CALL),
    "blocks done twice": (
        "threads.c", "j->body(j->context, i);", "j->body(j->context, i), j->body(j->context, i);", RULES, IN_ONE_CALL,
    ),
    "order of the lanes": ("reduce.inc", "lane[l] += lane[l + half]", "lane[l] += lane[2 * half - 1 - l]", RULES, SUMS),
    "the last block's sum": ("optim.c", "i < first + blocks_of", "i + 1 < first + blocks_of", RULES, SUMS),
    "another block": ("internal.h", "BLOCK = 8192", "BLOCK = 4096", FUNCTIONS, f"logistic_loss_{BITS}"),
    "infinite gradients": ("reduce.inc", "(bits & (integer)-1 >> 1) + carry", "0 * bits", RULES, "not_finite"),
    "a coefficient of exp": ("math.inc", "0x1.5558f2p-5f", "0x1.5559f2p-5f", FUNCTIONS, f"elementwise_{BITS}"),
    "a less accurate exp": ("math.inc", "LN2_LOW 0x1.7f7d1cp-20f", "LN2_LOW 0.0f", FUNCTIONS, "accuracy"),
    "the sign of the slope": ("loss.inc", "z < 0 ? -slope : slope", "slope", FUNCTIONS, "derivative"),
    "another chain": ("matmul.h", "CHAIN = 4096", "CHAIN = 4095", "test_matmul.py", "chain_ends and baseline"),
    "the chain from its end": (
        "matmul.inc", "from += b_k;", "from += b_k, from += k == t->k ? (ptrdiff_t)(k - 1) * b_k : -2 * b_k;",
        "test_matmul.py", "to_40 and baseline",
    ),
    "the last of equal numbers": (
        "softmax.inc", "(y > most) |", "(y >= most) |", FUNCTIONS, "argmax and c-baseline-1",
    ),
    "chains in another order": (
        "matmul.c", "chains.sums + i * bytes, size", "chains.sums + (some - i) * bytes, size",
        "test_matmul.py", "chains_whose_sums",
    ),
    "zeros left out": (
        "matmul.inc", "sum[r][v] = MULTIPLY_ADD(", "if (factor != 0) sum[r][v] = MULTIPLY_ADD(",
        "test_matmul.py", "no_factor and baseline",
    ),
    "0 inf": ("loss.inc", "t == 0 ? (real)0 : size * t", "size * t", FUNCTIONS, "infinite"),
}  # fmt: skip
IN_SHORT = ("beta1 for beta2",)


def selections(names):
    """The tests that are to notice the perturbations, as file and selection."""
    noticing = [PERTURBATIONS[name][3:] for name in names]
    files = sorted({file for file, _ in noticing})
    return [(file, " or ".join(f"({select})" for f, select in noticing if f == file)) for file in files]


def run_tests(folder, file, select):
    """pytest's exit code for the selected tests of a file, run on the package in ``folder``."""
    select = f"({select}) and not numba"
    arguments = [
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        select,
        str(next((ROOT / "tests").rglob(file))),
    ]
    result = run_python(*arguments, package=folder, FASTOPT_BACKEND="c")
    print(result.stdout[-2000:], result.stderr[-2000:])
    assert "no tests ran" not in result.stdout
    return result.returncode, result.stdout


def test_what_is_changed_stands_in_the_sources():
    gone = [
        name
        for name, (file, old, *_) in PERTURBATIONS.items()
        if not any(old in path.read_text(encoding="utf-8") for path in CSRC.rglob(file))
    ]
    assert gone == []


@pytest.mark.slow
def test_the_unchanged_core_passes(tmp_path):
    folder = build(tmp_path)
    result = run_python("-c", "import fastopt; fastopt.show_config(); print(fastopt.__file__)", package=folder)
    assert str(folder) in result.stdout, result.stderr
    for file, select in selections(IN_SHORT):
        assert run_tests(folder, file, select)[0] == 0


@pytest.mark.slow
def test_the_unchanged_core_passes_all_that_is_selected(tmp_path):
    folder = build(tmp_path)
    for file, select in selections(PERTURBATIONS):
        assert run_tests(folder, file, select)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbed_core_fails(name, tmp_path):
    *change, file, select = PERTURBATIONS[name]
    code, output = run_tests(build(tmp_path, change), file, select)
    assert code == 1, f"{name}: nobody noticed"
    assert re.search(r"^FAILED", output, flags=re.MULTILINE)
