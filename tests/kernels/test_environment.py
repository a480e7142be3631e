"""The caller's floating-point environment and ``np.errstate`` change no bit of a result."""

import ctypes
import os
import platform
import signal
import sys
from contextlib import contextmanager
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location

import helpers
import numpy as np
import pytest
from helpers import BACKENDS, CSRC, HAVE_C, OPTIMIZERS, run_python, use
from loss_truth import TRUTH
from test_backends import interface
from variants import assert_same_bits

import fastopt as fo
from fastopt import _backends, config
from fastopt._specification.arithmetic import ARITHMETIC, NUMBER
from fastopt._specification.kernels import ACTIVATIONS, NUMBERED, OF_PAIRS, UNARY, WITH_NUMBER
from fastopt._specification.rules import RULES

LINUX = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
NEEDS_LIBM = pytest.mark.skipif(not LINUX, reason="sets the environment through the Linux C library")
NEEDS_C = pytest.mark.skipif(not HAVE_C, reason="no C core in this installation")


# ---- setting the environment ----------------------------------------------------------------------

X86 = platform.machine() == "x86_64"
# In fenv_t: which 32-bit word controls, and what flushes subnormal numbers and rounds upwards.
WORD, FLUSH, UPWARD = (7, 0x8040, 0x4000) if X86 else (0, 1 << 24, 1 << 22)


def control(bits=None):
    """The control bits of this thread; given some, set them and return what was before."""
    libm, environment = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 16)()
    libm.fegetenv(environment)
    before = environment[WORD] & ~0x3F if X86 else environment[WORD]  # without what only records exceptions
    if bits is not None:
        environment[WORD] = bits
        libm.fesetenv(environment)
    return before


@contextmanager
def added(bits):
    before = control()
    control(before | bits)
    try:
        yield
        assert control() == before | bits, "the caller's environment was not restored"
    finally:
        control(before)


ENVIRONMENTS = {
    "flushing": lambda: added(FLUSH),
    "rounding upwards": lambda: added(UPWARD),
    "errstate": lambda: np.errstate(all="raise"),
}


# ---- what is called -------------------------------------------------------------------------------


@cache
def _edges(dtype, n):
    """Numbers of all sizes, subnormal and infinite ones, NaN; squares and products of them over- and underflow."""
    info = np.finfo(dtype)
    values = [0.0, -0.0, info.smallest_subnormal, -7 * info.smallest_subnormal, info.tiny / 3, info.tiny, -info.eps,
              0.1, -0.7, 1.0, 3.0, -80.0, -100.0, -700.0, -740.0, 1e4, info.max / 3, -info.max, np.inf, -np.inf, np.nan,
              float(info.tiny) ** 0.7, -(float(info.tiny) ** 0.5)]  # fmt: skip
    with np.errstate(all="ignore"):
        return np.resize(np.array(values).astype(dtype), n)


@cache
def _small(dtype, n):
    """Finite numbers, many subnormal."""
    x = _edges(dtype, n)
    return np.where(abs(x) < 1, x, np.finfo(dtype).tiny / 5).astype(dtype)


def edges(dtype, n):  # made once, as the environment would change them too
    return _edges(dtype, n).copy()


def small(dtype, n):
    return _small(dtype, n).copy()


def table(n):
    """The shape in which n numbers are rows of 8."""
    return n // 8, 8


def labels(n):
    """One for each of these rows."""
    return np.arange(n // 8) % 8


def of_inputs(name, inputs):
    def call(backend, dtype, n):
        x = edges(dtype, n)
        out = np.empty_like(x)
        getattr(backend, name)(*(x, x[::-1].copy())[:inputs], out, *([0.3] if name in NUMBERED else []))
        return (out,)

    return call


def of_output(fill):
    def call(backend, dtype, n):
        out = np.empty(n, dtype)
        fill(backend, out, n)
        return (out,)

    return call


def of_bias(name):
    def call(backend, dtype, n):
        x = edges(dtype, n).reshape(table(n))
        getattr(backend, name)(x, small(dtype, 8))
        return (x,)

    return call


def of_rows(backend, dtype, n):
    x = edges(dtype, n).reshape(table(n))
    backend.scale_rows(x, small(dtype, len(x)))
    return (x,)


def of_arithmetic(backend, dtype, n):
    """Each operation, of arrays that lie apart, one of which is repeated."""
    x, y, out = (
        edges(dtype, n).reshape(table(n)).T,
        small(dtype, 8)[:, None],
        np.empty((len(ARITHMETIC), *table(n)[::-1]), dtype),
    )
    for number, each in enumerate(out):
        backend.arithmetic(x, None if number < NUMBER["add"] else y, each, number)
    return (out,)


def of_store_sum(backend, dtype, n):
    total, out = backend.bind("add_up", (small(dtype, n),)), np.empty(1, dtype)
    backend.Program([total, backend.bind("store_sum", (out, total), (3.0, 7.0))])()
    return (out,)


def of_loss(name, *scalars, weights=0, y=None, first=(), rows=False):
    def call(backend, dtype, n):
        z = edges(dtype, n).reshape(table(n))
        losses, dz = np.empty(n // 8 if rows or y is not None else table(n), dtype), np.empty_like(z)
        target = abs(small(dtype, n)).reshape(table(n)) if y is None else y(n)
        total = getattr(backend, name)(z, target, *[small(dtype, 8)] * weights, losses, dz, *first, 1e-3, *scalars)
        return np.float64(total), losses, dz

    return call


def of_batch_norm(backend, dtype, n):
    results = []
    for shape in ((50, 7, 3), (300, 8, 1)):
        for activation in range(4):
            x = (
                edges(dtype, np.prod(shape)).reshape(shape)
                if activation % 2
                else small(dtype, np.prod(shape)).reshape(shape)
            )
            c = shape[1]
            mean, var, y, statistics = np.zeros(c, dtype), np.ones(c, dtype), np.empty_like(x), np.empty((3, c), dtype)
            scratch, gamma = np.empty(backend.batch_norm_scratch(*shape)), small(dtype, c)
            backend.batch_norm(
                x, gamma, gamma, mean, var, y, statistics, scratch, None, None, True, activation, 1e-5, 0.1, 0.9, 1.1
            )
            dx, dgamma, dbeta = np.empty_like(x), np.empty(c, dtype), np.empty(c, dtype)
            backend.batch_norm_backward(
                small(dtype, x.size).reshape(shape), x, y, gamma, gamma, statistics, dx, dgamma, dbeta, scratch,
                None, True, activation,
            )  # fmt: skip
            results += [y, statistics, mean, var, dx, dgamma, dbeta]
    return results


def of_layer_norm(backend, dtype, n):
    x, results, gamma = edges(dtype, n).reshape(table(n)), [], small(dtype, 8)
    for values in (x, small(dtype, n).reshape(table(n))):
        y, statistics, dx = np.empty_like(x), np.empty((3, len(x)), dtype), np.empty_like(x)
        backend.layer_norm(values, gamma, gamma, y, statistics, 1e-5)
        sums, scratch = np.empty((2, 8), dtype), np.empty(backend.layer_norm_scratch(*table(n)))
        backend.layer_norm_backward(small(dtype, n).reshape(table(n)), values, gamma, statistics, dx, *sums, scratch)
        results += [y, statistics, dx, sums]
    return results


def of_softmax(backend, dtype, n):
    out = np.empty(table(n), dtype)
    backend.softmax(edges(dtype, n).reshape(table(n)), out)
    return (out,)


def of_product(backend, dtype, n):
    b, bias, results = small(dtype, 3 * 20).reshape(3, 20), small(dtype, 20), []
    for activation, values in enumerate((small, edges, edges, small)):
        results.append(np.empty((41, 20), dtype))
        arguments = values(dtype, 41 * 3).reshape(41, 3), b, results[-1], bias, activation
        if activation == 0 or not backend.try_matmul(*arguments):
            backend.matmul(*arguments)
    return results


def of_highway(backend, dtype, n):
    h, t, x = edges(dtype, n), small(dtype, n), edges(dtype, n)[::-1].copy()
    results = [np.empty(n, dtype) for _ in range(4)]
    backend.highway(h, t, x, results[0])
    backend.highway_backward(small(dtype, n)[::-1].copy(), h, t, x, *results[1:])
    return results


def of_dropout_layer(backend, dtype, n):
    seed, draw, used = np.uint64(3), np.zeros((), np.uint64), np.zeros(6, np.uint64)
    results = []
    for what in range(4):
        y, dx = np.empty(n, dtype), np.empty(n, dtype)
        backend.dropout_forward(edges(dtype, n), y, np.array(seed), draw, used, what, 10**9, 1.5)
        backend.dropout_backward(small(dtype, n), dx, used)
        results += [y, dx, draw.copy(), used.copy()]
    return results


def of_average(backend, dtype, n):
    average = small(dtype, n)
    backend.move_average(average, edges(dtype, n), np.ones(1, np.int64), 0, 0.1)
    return [average]


def of_gather_rows(backend, dtype, n):
    rows, results = np.arange(n // 8)[::-1].copy(), []
    for kind in (np.float32, np.float64):
        results.append(np.empty(table(n), dtype))
        backend.gather_rows(small(kind, n).reshape(table(n)), rows, results[-1])
    return results


def of_plan(backend, dtype, n):
    """A step of every rule."""
    results = []
    for name, rule in RULES.items():
        if rule.of_tensor:
            continue
        params, states = [small(dtype, n)], [[abs(small(dtype, n)) for _ in rule.states]]
        plan = backend.Plan([name], params, states, [0])
        plan.bind(0, small(dtype, n)[::-1].copy())
        assert plan.update([(0.5,) * len(rule.scalars._fields)], True)
        results += [*params, *states[0], np.array(plan.trust_ratios), np.array(plan.grad_square_sums())]
    return results


KERNELS = {
    **{name: of_inputs(name, 1) for name in UNARY},
    **{f"{name}_backward": of_inputs(f"{name}_backward", 2) for name in ACTIVATIONS},
    **{name: of_bias(name) for name in ("bias_add", "bias_sigmoid", "bias_tanh", "bias_relu")},
    **{name: of_loss(name, *([0.3] if name in WITH_NUMBER else [])) for name in OF_PAIRS},
    "weighted_logistic_loss": of_loss("weighted_logistic_loss", 0.5, 0.5, weights=2),
    "soft_cross_entropy": of_loss("soft_cross_entropy", 0.1, weights=1, rows=True),
    "softmax_cross_entropy": of_loss("softmax_cross_entropy", 8.0, 0.1, weights=1, y=labels, first=(-100,)),
    "softmax": of_softmax,
    "argmax": lambda backend, dtype, n: (backend.argmax(edges(dtype, n).reshape(table(n))),),
    "count_labels": lambda backend, dtype, n: (np.int64(backend.count_labels(labels(n), 8, -100)),),
    "column_sums": of_output(lambda b, out, n: b.column_sums(small(out.dtype.type, 3 * n).reshape(3, n), out)),
    **dict.fromkeys(("matmul", "try_matmul"), of_product),
    "batch_norm": of_batch_norm,
    "batch_norm_backward": of_batch_norm,
    **dict.fromkeys(("layer_norm", "layer_norm_backward"), of_layer_norm),
    **dict.fromkeys(
        ("batch_norm_scratch", "layer_norm_scratch", "bind_gather", "bind_average"), lambda backend, dtype, n: ()
    ),
    "dropout": of_output(lambda b, out, n: b.dropout(edges(out.dtype.type, n), out, 3, 1, 2, 10**9, 1.5)),
    "dropout_forward": of_dropout_layer,
    "dropout_backward": of_dropout_layer,
    "highway": of_highway,
    "highway_backward": of_highway,
    "gather_rows": of_gather_rows,
    "add": of_inputs("add", 2),
    "scale_rows": of_rows,
    "copy": of_inputs("copy", 1),
    "move_average": of_average,
    "arithmetic": of_arithmetic,
    "row_sums": of_output(lambda b, out, n: b.row_sums(small(out.dtype.type, 3 * n).reshape(n, 3), out)),
    "store_sum": of_store_sum,
    "add_up": lambda backend, dtype, n: (np.float64(backend.add_up(small(dtype, n))),),
    "any_nonfinite": lambda backend, dtype, n: (np.bool_(backend.any_nonfinite(small(dtype, n), 1e300)),),
    "square_sum": lambda backend, dtype, n: (np.float64(backend.square_sum(small(dtype, n))),),
    "bind": of_output(lambda b, out, n: b.bind("sigmoid", (edges(out.dtype.type, n), out))()),
    "Plan.update": of_plan,
}  # fmt: skip
KERNELS.update(
    dict.fromkeys(
        ("Plan.__init__", "Plan.pin", "Plan.bind", "Plan.bind_all", "Plan.grad_square_sums"), KERNELS["Plan.update"]
    )
)


def test_every_function_of_a_backend_is_called_here():
    assert set(KERNELS) == set(interface("numpy"))


@NEEDS_LIBM
@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("name", BACKENDS)
def test_kernels_compute_in_their_own_environment(name, environment):
    use(name, threads=2)
    size = 33_000 if name == "c" else 1000  # goes to the pool, where there is one
    for kernel in dict.fromkeys(KERNELS.values()):
        for dtype in (np.float32, np.float64) if name != "numba" else (np.float32,):  # to compile takes long
            expected = kernel(_backends.active, dtype, size)
            with ENVIRONMENTS[environment]():
                given = kernel(_backends.active, dtype, size)
            for a, e in zip(given, expected, strict=True):
                assert_same_bits(np.asarray(a), np.asarray(e), f"{name}, {dtype.__name__}")


# ---- what users call ------------------------------------------------------------------------------


def public_of_inputs(name, inputs):
    def call(dtype):
        x = edges(dtype, 500)
        return (getattr(fo, name)(*(x, x[::-1])[:inputs]),)

    return call


def public_losses(dtype):
    z, y, w = edges(dtype, 80).reshape(10, 8), abs(small(dtype, 80)).reshape(10, 8), abs(small(dtype, 8))
    results = []
    for reduction in ("mean", "sum", "none"):
        for name in OF_PAIRS:
            results += getattr(fo, name)(z, y, reduction=reduction)
        results += fo.logistic_loss(z, y, weight=w, pos_weight=w, reduction=reduction)
        results += fo.softmax_cross_entropy(z, labels(80), weight=w, label_smoothing=0.1, reduction=reduction)
    return results


def public_batch_norm(dtype):
    x, gamma = small(dtype, 80).reshape(10, 8), small(dtype, 8)
    mean, var = np.zeros(8, dtype), np.ones(8, dtype)
    y, saved = fo.batch_norm(x, gamma, gamma, mean, var, training=True, activation="sigmoid")
    return [y, mean, var, *fo.batch_norm_backward(x, saved)]


def public_layer_norm(dtype):
    x, gamma = small(dtype, 80).reshape(10, 8), small(dtype, 8)
    y, saved = fo.layer_norm(x, gamma, gamma)
    return [y, *fo.layer_norm_backward(x, saved)]


def public_product(dtype):
    a, b = small(dtype, 80).reshape(10, 8), small(dtype, 80).reshape(8, 10)
    before = fo.get_matmul()
    fo.set_matmul("exact")
    try:
        return fo.matmul(a, b), fo.matmul(b.T, a.T, bias=small(dtype, 10), activation="tanh")
    finally:
        fo.set_matmul(before)


def public_dropout(dtype):
    x = edges(dtype, 500)
    return fo.dropout(x, 0.3, seed=1), fo.dropout_backward(x, 0.3, seed=1)


def public_clipping(dtype):
    grads = [small(dtype, 100), np.full(100, 1e18, dtype)]
    return [np.float64(fo.global_norm(grads)), np.float64(fo.clip_grad_norm(grads, 1e-3)), *grads]


def loss_objects(dtype):
    z, y, w = edges(dtype, 80).reshape(10, 8), abs(small(dtype, 80)).reshape(10, 8), abs(small(np.float64, 10)) + 0.5
    losses = [(getattr(fo.losses, of.name)(), y) for of in TRUTH.values()] + [
        (fo.losses.LogisticLoss(pos_weight=2.0), y)
    ]
    losses += [(fo.losses.CrossEntropy(label_smoothing=0.1, weight=np.arange(1.0, 9.0)), labels(80))]
    results = []
    for loss, targets in losses:
        for weight in (None, w):
            dz = np.empty_like(z)
            results += [np.float64(loss.bind(z, targets, dz, weight)()), dz]
            results += [np.float64(loss.mean(z, targets, weight)), np.float64(loss.accuracy(z, targets, weight))]
    return results


def optimizer_steps(dtype):
    results = []
    for name in OPTIMIZERS:
        params = [small(dtype, 50) + dtype(0.25), small(dtype, 3)]
        opt = getattr(fo.optim, name)(params, lr=0.1, weight_decay=1e-40)
        for options in ({}, {"clip_norm": 1e-3, "clip_value": 1e-30}, {"clip_norm_per_tensor": 1e-40}):
            opt.step([small(dtype, 50), small(dtype, 3)], **options)
        results += [*params, np.float64(opt.grad_norm)]
    return results


def muon_steps(dtype):
    w, grad = (small(dtype, 12).reshape(3, 4) for _ in range(2))
    opt = fo.optim.Muon(w)
    opt.step(grad)
    return w, opt.state["0"]["momentum_buffer"]


PUBLIC = {
    **{name: public_of_inputs(name, 1) for name in UNARY[2:]},
    **{f"{name}_backward": public_of_inputs(f"{name}_backward", 2) for name in UNARY[2:]},
    "softmax": lambda dtype: (fo.softmax(edges(dtype, 80).reshape(10, 8)),),
    **dict.fromkeys(fo.functional.losses.__all__, public_losses),
    **dict.fromkeys(("batch_norm", "batch_norm_backward", "BatchNormSaved"), public_batch_norm),
    **dict.fromkeys(("layer_norm", "layer_norm_backward", "LayerNormSaved"), public_layer_norm),
    **dict.fromkeys(("matmul", "get_matmul", "set_matmul"), public_product),
    **dict.fromkeys(("dropout", "dropout_backward"), public_dropout),
    **dict.fromkeys(("clip_grad_norm", "global_norm"), public_clipping),
    **dict.fromkeys(fo.losses.__all__, loss_objects),
    **dict.fromkeys(OPTIMIZERS, optimizer_steps),
    "Muon": muon_steps,
}


def test_every_public_function_of_arrays_is_called_here():
    public = {*fo.functional.__all__, *fo.losses.__all__, *fo.optim.__all__}
    assert public - {"Optimizer", "StateArray", "decay_groups", "muon_groups"} == set(PUBLIC)


@NEEDS_LIBM
@pytest.mark.parametrize("environment", ["flushing", "errstate"])
@pytest.mark.parametrize("name", BACKENDS)
def test_public_functions_compute_in_their_own_environment(name, environment):
    use(name)
    for function in dict.fromkeys(PUBLIC.values()):
        for dtype in (np.float32, np.float64) if name != "numba" else (np.float32,):
            expected = function(dtype)
            with ENVIRONMENTS[environment]():
                given = function(dtype)
            for i, (a, e) in enumerate(zip(given, expected, strict=True)):
                assert_same_bits(np.asarray(a), np.asarray(e), f"{function.__name__}, {dtype.__name__}, result {i}")


# ---- the pool -------------------------------------------------------------------------------------

POOL = """
import signal, sys
sys.path[:0] = {tests}
import numpy as np, fastopt as fo
from pathlib import Path
from test_environment import FLUSH, added
fo.set_num_threads(3)
x = np.full(100_000, -100, np.float32)  # the results are subnormal
with added(FLUSH):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    y = fo.sigmoid(x)  # starts the workers
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
assert (y == fo.sigmoid(x[:1])).all() and y.all()
tasks = [(task / "status").read_text() for task in Path("/proc/self/task").iterdir()]
print(*(status.partition("SigBlk:")[2].split()[0] for status in tasks))
"""


@NEEDS_C
@NEEDS_LIBM
def test_workers_keep_their_own_environment_and_take_no_signals():
    result = run_python(
        "-c",
        POOL.format(tests=[os.path.dirname(file) for file in (__file__, helpers.__file__)]),
        FASTOPT_BACKEND="c",
        OPENBLAS_NUM_THREADS="1",
    )
    assert result.returncode == 0, result.stderr
    blocked = [int(mask, 16) for mask in result.stdout.split()]
    asynchronous = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
                                          signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}  # fmt: skip
    all_of_them = sum(1 << (number - 1) for number in asynchronous)
    assert sum(mask & all_of_them == all_of_them for mask in blocked) == 2  # workers; the calling thread is the third


@NEEDS_C
@pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests")
def test_every_function_of_the_core_enters_the_environment():
    specification = spec_from_file_location("_build", CSRC.parent / "fastopt" / "_build.py")
    build = module_from_spec(specification)
    specification.loader.exec_module(build)
    lines = build.in_environment(build.declarations).splitlines()
    wrapped = {line.split()[1] for line in lines if line.startswith("#define")}
    functions = {name for name in dir(config.lib) if name.startswith("fastopt_")}
    assert wrapped == functions - {"fastopt_environment_enter", "fastopt_environment_leave"}
    with pytest.raises(ValueError, match="does not understand"):
        build.in_environment("int fastopt_new(int (*callback)(void));")


@NEEDS_LIBM
def test_without_the_core_the_environment_is_set_by_the_c_library():
    """A package whose core cannot be imported: NumPy's results under flush-to-zero are those of the reference."""
    places = [os.path.dirname(file) for file in (__file__, helpers.__file__)]
    code = f"import sys; sys.modules['fastopt._core'] = None; sys.path[:0] = {places}\n"
    code += "import numpy as np, fastopt as fo\nfrom test_environment import FLUSH, added\n"
    code += (
        "assert fo._backends.environment.lib is None\nwith added(FLUSH):\n    y = fo.sigmoid(np.full(3, -100, 'f4'))\n"
    )
    code += "print(y.all())"
    assert run_python("-c", code, FASTOPT_BACKEND="numpy").stdout == "True\n"
