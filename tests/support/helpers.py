"""What several test modules share: which backends there are, and how bits are compared."""

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastopt as fo

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"  # the sources, where the tests run from a checkout

HAVE_C = find_spec("fastopt._core") is not None
BACKENDS = ["c", "numba", "numpy"] if HAVE_C else ["numba", "numpy"]
# In whole trainings in float64: Numba's kernels are compared one by one, and take long to compile.
COMPARED_IN_DOUBLE = [name for name in BACKENDS if name != "numba"]

# What must agree with the NumPy reference: backend, instruction set, number of threads.
CONFIGURATIONS = [("numba", "", 1)] + [("c", isa, n) for isa in fo.instruction_sets() for n in (1, 2, 3, 7)]
DTYPES = (np.float32, np.float64)
# All that take arrays of any shape: Muon takes matrices.
OPTIMIZERS = [
    name
    for name, value in ((name, getattr(fo.optim, name)) for name in fo.optim.__all__)
    if isinstance(value, type) and issubclass(value, fo.optim.Optimizer) and name not in ("Optimizer", "Muon")
]

# Nothing, around every vector width, several blocks of 8192 elements, and beyond the size that goes to the pool.
SIZES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 8191, 2 * 8192 + 5, 5 * 8192 + 3)


def use(backend, isa="", threads=1):
    """Let a configuration do the work; the fixture in conftest.py restores what was before."""
    fo.set_backend(backend)
    if backend == "c":
        fo.set_instruction_set(isa or fo.instruction_sets()[-1])
        fo.set_num_threads(threads)


def assert_equal_everywhere(compute, reference="numpy", configurations=CONFIGURATIONS):
    """What ``compute()`` gives on one thread of the reference, it gives in each of the configurations."""
    use(reference)
    expected = compute()
    for configuration in configurations:
        if configuration[0] != reference:
            use(*configuration)
            assert compute() == expected, configuration


def bits(x):
    """The bytes of an array, every NaN made the same: which NaN comes of two is the processor's choice."""
    x = np.array(x)
    x[np.isnan(x)] = np.nan
    return x.tobytes()


def shifted(x, offset):
    """A copy of ``x`` that begins ``offset`` elements behind where NumPy puts an array."""
    buffer = np.empty(x.size + offset, x.dtype)
    buffer[offset:] = x.reshape(-1)
    return buffer[offset:].reshape(x.shape)


def special_values(dtype):
    """Zeros, subnormals, the smallest and largest numbers, and ordinary ones, of both signs; all finite."""
    info = np.finfo(dtype)
    tiny = [0.0, info.smallest_subnormal, 7 * info.smallest_subnormal, info.tiny / 2, info.tiny, info.eps]
    ordinary = [0.1, 0.5, 1 - info.epsneg, 1.0, 1 + info.eps, 3.0, 1e4]
    values = np.array([*tiny, *ordinary, info.max**0.5, info.max / 2, info.max], dtype)
    return np.concatenate([values, -values])


def run_python(*arguments, package=Path(fo.__file__).parent.parent, timeout=120, **environment):
    """Run Python on its own, with the fastopt found in ``package`` and these environment variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTOPT_")}
    path = os.pathsep.join([str(package), inherited.pop("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, "PYTHONPATH": path, **environment},
        cwd=package,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def set_dtype(array, dtype):
    """Change it in place, for as long as NumPy allows that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        array.dtype = dtype
