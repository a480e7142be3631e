"""What the compiled kernels execute per element: every function of the C core is run one instruction at a time.

Each is called with two sizes. What the larger call executes beyond the smaller one is the steady state: the loops that
all the time goes to, without what a call costs by itself and without the last few elements. The functions are those of
``fastopt.h``, called by the names of their parameters, and the optimizers' rules; new ones are there by themselves.
"""

import ctypes
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from helpers import CSRC
from object_code import REGISTER, functions, instructions, kernels, library

import fastopt as fo
from fastopt._specification.order import ACTIVATIONS
from fastopt._specification.rules import RULES
from fastopt.optim.encoded import encode, kind_of

COMPILER = shutil.which("cc") or shutil.which("gcc")


def why_not():
    """Why functions cannot be run in single steps here, or the empty string."""
    if sys.platform != "linux":
        return "single steps are for Linux only"
    if COMPILER is None:
        return "no C compiler for single_step.c"
    return "" if CSRC.exists() else "the C sources are not here"


@dataclass(eq=False)
class Case:
    """A function of fastopt.h or, for fastopt_update, a rule; and the two shapes it is called with."""

    name: str
    function: str
    shapes: tuple[dict[str, int], dict[str, int]]
    dtype: str
    rule: str = ""
    state_format: str = "float32"
    numbers: dict[str, int] = field(default_factory=dict)

    def __str__(self):
        return f"{self.name}, {self.dtype}"

    @property
    def elements(self):
        """By how many elements the second call is larger."""
        small, large = (int(np.prod(list(shape.values()))) for shape in self.shapes)
        return large - small


# ---- the cases ------------------------------------------------------------------------------------

# Shapes by the names of the parameters that give them, small and large, and what the case is then called.
SHAPES = {
    ("m", "n", "k"): {"": ({"m": 12, "n": 64, "k": 64}, {"m": 12, "n": 64, "k": 128})},
    ("n", "position"): {"": ({"n": 256}, {"n": 512})},  # dropout: whole groups of random words
    ("n",): {"": ({"n": 128}, {"n": 256})},
    ("rows", "columns"): {
        "": ({"rows": 2, "columns": 128}, {"rows": 2, "columns": 256}),
        " of few columns": ({"rows": 80, "columns": 4}, {"rows": 144, "columns": 4}),
    },
    ("rows", "classes"): {
        "": ({"rows": 2, "classes": 128}, {"rows": 2, "classes": 256}),
        " of few classes": ({"rows": 32, "classes": 10}, {"rows": 64, "classes": 10}),
    },
    ("outer", "channels", "inner"): {
        "": ({"outer": 4, "channels": 64, "inner": 1}, {"outer": 8, "channels": 64, "inner": 1}),
        " of planes": ({"outer": 1, "channels": 2, "inner": 256}, {"outer": 2, "channels": 2, "inner": 256}),
    },
}
# Functions whose work depends on more than the shape.
NORMS = {
    mode + after: {"training": training, "activation": number}
    for mode, training in (("", 1), (" in evaluation", 0))
    for number, after in enumerate(["", *(f" and {name}" for name in ACTIVATIONS[1:])])
}
PRODUCT = {"a_row": 128, "a_k": 1, "b_k": 64, "b_column": 1, "activation": 0}
VARIANTS = {"batch_norm": NORMS, "batch_norm_backward": NORMS, "matmul": {"": PRODUCT}}
# Of steps with states in fewer bytes: whole blocks of 8 bits. The loops of other rules are as that of Adam.
ENCODED = {"bfloat16": ({"n": 256}, {"n": 512}), "8bit": ({"n": 4096}, {"n": 4608})}
OF_NO_KERNEL = ("arithmetic", "copy", "gather_rows", "pins_unchanged", "step")
# The values of numbers, by name.
NUMBERS = {
    "scale": 1.25, "eps": 0.1, "momentum": 0.1, "keep": 0.9, "correction": 1.0, "total_weight": 10.0, "smoothing": 0.0,
    "y_scale": 1.0, "y_shift": 0.0, "ignore_index": -1, "weight_period": 1, "pos_weight_period": 1, "position": 0,
    "seed": 1, "draw": 2, "threshold": 2**31, "grad_norm": -1.0, "certain": 0, "what": 1, "counted": 0, "share": 0.1,
    "number": 0.5, "factor": 1.0, "divisor": 2.0,
}  # fmt: skip


@cache
def header():
    """Of every function of fastopt.h, its parameters: their types by name."""
    declarations = runpy.run_path(str(CSRC.parent / "fastopt" / "_build.py"))["declarations"]
    text = re.sub(r"/\*.*?\*/", "", declarations, flags=re.DOTALL)
    found = re.findall(r"^\w[\w ]*[ *]fastopt_(\w+)\(([^)]*)\);", text, re.MULTILINE)
    split = {name: re.findall(r"([^,]+[ *])(\w+)(?:,|$)", " ".join(parameters.split())) for name, parameters in found}
    return {name: {p: kind.strip() for kind, p in parameters} for name, parameters in split.items()}


def stored_states(rule, form, size=1 << 14):
    """How each of a rule's states is stored in this format, where that is in fewer bytes."""
    kinds = {key: kind_of(form, key, True, size) for key in RULES[rule].states}
    return {key: kind for key, kind in kinds.items() if kind is not None}


@cache
def cases():
    found = []
    for dtype in ("float32", "float64"):
        shapes = SHAPES["n",][""]
        elementwise = (name for name, rule in RULES.items() if not rule.of_tensor)
        found += [Case(f"{rule} step", "update", shapes, dtype, rule) for rule in elementwise]
        if dtype == "float32":
            found += [
                Case(f"adam step with {form} state", "update", sizes, dtype, "adam", form)
                for form, sizes in ENCODED.items()
            ]
        found.append(Case("grad_square_sums", "grad_square_sums", shapes, dtype, "sgd"))
        for function, parameters in header().items():
            if "dtype" not in parameters or function in OF_NO_KERNEL:
                continue
            by_shape = next(of for shape, of in SHAPES.items() if set(shape) <= set(parameters))
            for form, shapes in by_shape.items():
                for variant, numbers in VARIANTS.get(function, {"": {}}).items():
                    found.append(Case(function + form + variant, function, shapes, dtype, numbers=numbers))
    return found


# ---- running them ---------------------------------------------------------------------------------


@cache
def single_step():
    """The function of single_step.c, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = str(Path(folder, "single_step.so"))
        source = str(Path(__file__).with_name("single_step.c"))
        subprocess.run([COMPILER, "-O2", "-mno-red-zone", "-shared", "-fPIC", "-o", compiled, source], check=True)
        return ctypes.CDLL(compiled).single_step


@cache
def code():
    """Where the library's code lies in this process, for address 0 of the file, and how much there is of it."""
    starts = [
        line.split("-")[0] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(library())
    ]
    return int(starts[0], 16), max(f[-1].address for f in functions().values() if f) + 1


def executed(case, shape):
    """How often the instruction at each address of the library is executed by one call."""
    from fastopt._backends import c

    rng = np.random.default_rng(0)
    doubles, integers, alive = [], [], []

    def array():
        alive.append(rng.uniform(0.1, 0.9, 1 << 14).astype(case.dtype))
        return alive[-1].ctypes.data

    if case.rule:
        size = shape["n"]
        param, *states = (
            rng.uniform(0.1, 0.9, size).astype(case.dtype) for _ in range(1 + len(RULES[case.rule].states))
        )
        stored = stored_states(case.rule, case.state_format)
        states = [
            encode(stored[key], state) if key in stored else state
            for key, state in zip(RULES[case.rule].states, states, strict=True)
        ]
        plan = c.Plan([case.rule], [param], [states], [0])
        plan.bind(0, rng.uniform(0.1, 0.9, size).astype(case.dtype))
        scalars = [0.5] * c.lib.fastopt_rule_scalars(c.lib.fastopt_rule_index(case.rule.encode()))
        scalars[2] = 0.0  # l2
        plan._write[0](*scalars)
        plan._plan.ordinary = 9  # as after the first step
        alive.append(plan)
    for name, kind in header()[case.function].items():
        if name == "plan":
            integers.append(int(c.ffi.cast("uintptr_t", alive[-1]._plan)))
        elif name == "check_finite":
            integers.append(1)
        elif name in (
            "params",
            "grads",
            "factors",
            "tracked",
            "trained",
        ):  # the arrays that are bound; all else as usual
            integers.append(0)
        elif name == "dtype":
            integers.append(c.DTYPES[np.dtype(case.dtype)])
        elif "*" in kind:
            integers.append(array())
            if "int64_t" in kind:
                alive[-1].view(np.int64)[:] = 1
        elif kind == "double":
            doubles.append(NUMBERS[name])
        else:
            integers.append({**NUMBERS, **shape, **case.numbers}[name])
    base, size = code()
    counts = np.zeros(size, np.uint32)
    function = int(c.ffi.cast("uintptr_t", c.ffi.addressof(c.lib, f"fastopt_{case.function}")))
    single_step()(
        ctypes.c_void_p(function),
        (ctypes.c_long * 20)(*integers),
        (ctypes.c_double * 8)(*doubles),
        ctypes.c_void_p(base),
        ctypes.c_size_t(size),
        ctypes.c_void_p(counts.ctypes.data),
    )
    return counts


class Profile(NamedTuple):
    """The steady state of a case: instructions executed per element, and which."""

    instructions: float
    scalar: float  # those among them that compute with, or move, single floating-point numbers
    full_width: float  # of the others with vector registers, the part with the widest that the set has
    kernels: frozenset[str]  # those of the set's table that were called


@cache
def addresses():
    """Of all instructions of the library; what follows says of each what it is."""
    return np.array([i.address for i in instructions()])


@cache
def is_scalar():
    return np.array([i.scalar for i in instructions()])


@cache
def by_register():
    registers = np.array([i.register or "" for i in instructions()])
    return {register: registers == register for register in set(registers.tolist()) - {""}}


@cache
def profile(case, isa):
    fo.set_instruction_set(isa)
    fo.set_num_threads(1)
    small, large = (executed(case, shape).astype(np.int64) for shape in case.shapes)
    more = large - small
    total, more = int(more.sum()), more[addresses()]
    scalar = more[is_scalar()].sum()
    vector = {register: more[~is_scalar() & where].sum() for register, where in by_register().items()}
    full = vector.get(REGISTER[isa], 0) / max(sum(vector.values()), 1)
    called = frozenset(name for name, address in kernels(isa).items() if large[address])
    return Profile(total / case.elements, scalar / case.elements, full, called)
