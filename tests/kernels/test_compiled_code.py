"""That the compiled kernels are as wide as the instruction set, and do no more work than they did: nothing here looks
at a clock. Run it with: pytest -m guard

What is executed is found by running every function in single steps (instruction_counts.py), what stands in the library
by reading its object code (object_code.py). After a change that is meant, record the counts anew:

    python tests/golden/record_instruction_counts.py
"""

import json
from pathlib import Path

import instruction_counts
import object_code
import pytest

import fastopt as fo
from fastopt._specification.kernels import OF_INPUT
from fastopt._specification.rules import RULES

pytestmark = [
    pytest.mark.guard,
    pytest.mark.skipif(bool(object_code.why_not()), reason=object_code.why_not()),
]
SINGLE_STEPS = pytest.mark.skipif(bool(instruction_counts.why_not()), reason=instruction_counts.why_not())
SETS = [] if object_code.why_not() else list(object_code.REGISTER)
CASES = [] if object_code.why_not() or instruction_counts.why_not() else instruction_counts.cases()
RECORDED = json.loads(Path(__file__).parents[1].joinpath("golden").joinpath("instruction_counts.json").read_text())

# Functions whose steady state is not wholly made of full vectors in every instruction set, and why.
BROADCAST = "the baseline loads the channel's coefficients anew for every vector, one number at a time"
EMULATED = ("sigmoid", "tanh")  # beside so many instructions those do not count
FEW_COLUMNS = "row by row, and where vectors begin in one depends on where it lies"
SHORT_ROWS = "with so few columns, what is done once in a row counts"
ONE_ROW = "row by row, and its sums lane by lane"
NOT_FULL = {
    **{f"batch_norm of planes{mode}": BROADCAST for mode in instruction_counts.NORMS if not mode.endswith(EMULATED)},
    **{f"batch_norm_backward of planes{mode}": BROADCAST for mode in instruction_counts.NORMS},
    "column_sums": "columns.c adds up the blocks' sums, and is compiled for the baseline only",
    **dict.fromkeys(
        ("dropout", "dropout_backward"),
        "the baseline selects one by one, and multiplies half of a vector at a time",
    ),
    "matmul": "a vector of the baseline is one number, as it has no fused multiply-add",
    **dict.fromkeys(
        [f"{name} of few columns" for name in ("layer_norm", "layer_norm_backward", "row_sums", "scale_rows")],
        FEW_COLUMNS,
    ),
    "layer_norm": SHORT_ROWS,
    "layer_norm_backward": SHORT_ROWS,
    "soft_cross_entropy": ONE_ROW,
    "soft_cross_entropy of few classes": ONE_ROW,
    "adam step with 8bit state": "the baseline looks codes up one by one",
    "store_sum": "one number is rounded, and copied",
    **dict.fromkeys(
        ("argmax", "argmax of few columns", "softmax of few classes", "softmax_cross_entropy of few classes"),
        "the baseline transposes rows one number at a time",
    ),
}
# Kernels without any loop over full vectors, and why.
NO_FULL_LOOP = {
    "begin_channels": "gathers one element per channel",
    "matmul": "calls the functions that have them",
    "decode": "looks every code up in a table",
    "finish_channels": "a few operations per channel",
    "round": "a copy, done by memcpy or in two halves",
}
# Kernels that no case calls, and why.
NO_CASE = {
    "arithmetic": "a loop for every operation and way to lie, each as that of add",
    **dict.fromkeys(
        ("decode", "encode", "random", "join", "split"),
        "the cases are steps whose parameters are of full width, and whose loops decode and encode the states",
    ),
    **dict.fromkeys(("muon_direction_in", "divide", "combine"), "a step of matrices is mostly matrix products"),
    **dict.fromkeys(
        ("adafactor_squares", "adafactor_weights", "adafactor_sizes", "adafactor_move"),
        "a step waits for memory: three times for the gradient, twice for the parameter",
    ),
}
# Kernels with a multiply-add rounded once (math.inc), by parts of their names.
TRANSCENDENTAL = (
    *(
        "exp_",
        "log1p_",
        "sigmoid_loop",
        "tanh_loop",
        "bias_sigmoid",
        "bias_tanh",
        *(f"{name}_" for name in OF_INPUT if name not in ("elu", "leaky_relu")),
    ),
    *("forward_sigmoid_", "forward_tanh_", "logistic_loss", "softmax_", "soft_cross_entropy_"),
)

# The parts of matrix products (matmul.inc), which are made of them.
PRODUCTS = ("matmul_", "add_tiles_", "add_row_by_columns_")


def is_fused(instruction):
    return instruction.mnemonic.startswith(("vfmadd", "vfmsub", "vfnmadd", "vfnmsub"))


def is_full(profile):
    """Hardly any scalar instructions, by element or, where an element takes very many, among all."""
    return profile.scalar <= max(0.1, 0.03 * profile.instructions) and profile.full_width >= 0.5


def available(isa):
    if isa not in fo.instruction_sets():
        pytest.skip(f"this CPU has no {isa}")


# ---- what is executed -----------------------------------------------------------------------------


@SINGLE_STEPS
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_steady_state_is_full_vectors(case, isa):
    available(isa)
    found = instruction_counts.profile(case, isa)
    if case.name in NOT_FULL and not is_full(found):
        pytest.skip(f"known: {NOT_FULL[case.name]}")
    assert is_full(found), (
        f"{case} with {isa}: {found.scalar:.2f} scalar floating-point instructions per element,"
        f" and {found.full_width:.0%} of the vector instructions use {object_code.REGISTER[isa]} registers"
    )


@SINGLE_STEPS
@pytest.mark.parametrize("name", NOT_FULL)
def test_what_is_known_not_to_be_full_is_so(name):
    """An entry of the table is taken out when its kernel has become better in every set of this architecture."""
    if missing := set(SETS) - set(fo.instruction_sets()):
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    found = [
        instruction_counts.profile(case, isa) for case in CASES if case.name == name for isa in fo.instruction_sets()
    ]
    assert found, f"there is no case {name!r}: take it out of NOT_FULL"
    assert not all(map(is_full, found)), f"{name} is full vectors everywhere now: take it out of NOT_FULL"


@SINGLE_STEPS
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_more_instructions_per_element_than_recorded(case, isa):
    available(isa)
    if NOT_FULL.get(case.name) == FEW_COLUMNS:
        pytest.skip(f"known: {FEW_COLUMNS}")
    if object_code.compiler() != RECORDED["compiler"]:
        pytest.skip(f"the core was compiled by {object_code.compiler()}, the counts are for {RECORDED['compiler']}")
    recorded = RECORDED["instructions per element"][isa].get(str(case))
    if recorded is None and any(str(case) in counts for counts in RECORDED["instructions per element"].values()):
        pytest.skip(f"not recorded for {isa} since the kernel has changed: run golden/record_instruction_counts.py")
    found = instruction_counts.profile(case, isa).instructions
    assert recorded is not None, f"{case} is not recorded for {isa}: run golden/record_instruction_counts.py"
    assert found <= 1.1 * recorded, f"{case} with {isa}: {found:.2f} instructions per element; recorded are {recorded}"


@SINGLE_STEPS
@pytest.mark.parametrize("isa", SETS)
def test_every_kernel_is_reached(isa):
    available(isa)
    reached = {name for case in CASES for name in instruction_counts.profile(case, isa).kernels}
    as_adam = {f"{rule}_update_{form}" for rule in RULES for form in instruction_counts.ENCODED}
    missed = {name for name in object_code.kernels(isa) if name.rpartition("_")[0] not in NO_CASE} - reached - as_adam
    assert not missed, f"no case of instruction_counts.py calls {', '.join(sorted(missed))}"


# ---- what stands in the object code ---------------------------------------------------------------


@pytest.mark.parametrize("isa", SETS)
def test_every_kernel_has_a_loop_over_full_vectors(isa):
    missing = []
    for name, address in object_code.kernels(isa).items():
        loops = object_code.loops(object_code.functions()[address])
        if not any(i.register == object_code.REGISTER[isa] and not i.scalar for loop in loops for i in loop):
            missing.append(name)
    unknown = [name for name in missing if name.rpartition("_")[0] not in NO_FULL_LOOP]
    assert not unknown, f"{isa}: no loop of {', '.join(unknown)} uses {object_code.REGISTER[isa]} registers"


@pytest.mark.parametrize("isa", SETS)
def test_only_where_math_inc_asks_for_it_is_a_multiply_add_fused(isa):
    """One that the compiler had contracted would round once where NumPy rounds twice."""
    code = object_code.functions()
    kernels = {n: a for n, a in object_code.kernels(isa).items() if not n.startswith(PRODUCTS)}
    others = (*PRODUCTS, "encode_block")
    products = [i for n, f in object_code.functions_of(isa).items() if n.startswith(others) for i in f]
    meant = {
        address
        for name, address in kernels.items()
        if f"_{name}".startswith("_elu_") or any(part in name for part in TRANSCENDENTAL)
    }
    # Numbers of codes lie on lines, exactly, and codes that a line leaves uncertain are looked up.
    meant |= {a for name, a in kernels.items() if name.endswith("_8bit") and any(map(is_fused, code[a]))}
    fused = {name for name, address in kernels.items() if any(map(is_fused, code[address]))}
    assert {name for name in fused if kernels[name] not in meant} == set()
    assert len(fused) == (0 if isa == "baseline" else len(meant))
    expected = sum(is_fused(i) for address in meant for i in code[address]) + sum(map(is_fused, products))
    assert sum(map(is_fused, object_code.code_of(isa))) == expected
    assert any(map(is_fused, products)) == (isa != "baseline")


@pytest.mark.parametrize("isa", SETS)
def test_kernels_do_not_leave_the_library(isa):
    """The bits of expf depend on the platform, and where fma is a call, it is slow (matrix products may)."""
    code = {name: {i.called for i in f if "@plt" in i.operands} for name, f in object_code.functions_of(isa).items()}
    assert len(object_code.code_of(isa)) > 1000
    known = {None, "memcpy", "memmove", "memset"}
    products = known | ({"fma", "fmaf"} if isa == "baseline" else set())
    outside = set().union(*(code[name] - (products if name.startswith(PRODUCTS) else known) for name in code))
    assert not outside, f"{isa}: calls of {', '.join(sorted(outside))}"


def test_the_tables_are_read():
    """The guard of the guard: the kernels of every rule and type are in every table."""
    for isa in SETS:
        rules = [name for name, rule in RULES.items() if not rule.of_tensor]
        names = {f"{rule}_update_{real}" for rule in rules for real in ("float", "double")}
        assert names <= object_code.kernels(isa).keys()
