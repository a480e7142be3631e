"""Threads, processes, environment variables, and what show_config says about them."""

import hashlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import BACKENDS, HAVE_C, run_python, use

import fastopt as fo
from fastopt import config

NEEDS_C = pytest.mark.skipif(not HAVE_C, reason="no C core in this installation")
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def last_line(result):
    """The last line of what a process printed, which ended well."""
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


# ---- environment variables ------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
def test_fastopt_backend(name):
    code = "import fastopt as fo; print(fo.get_backend(), fo._backends.reason)"
    assert last_line(run_python("-c", code, FASTOPT_BACKEND=name)) == f"{name} FASTOPT_BACKEND"


@pytest.mark.skipif(HAVE_C, reason="this installation has a C core")
def test_a_core_that_is_not_there_cannot_be_forced():
    result = run_python("-c", "import fastopt", FASTOPT_BACKEND="c")
    assert result.returncode == 1
    assert "ImportError: the backend 'c' is not available" in result.stderr
    assert "without a working C compiler" in result.stderr


def test_the_default_is_c_where_there_is_a_core_and_numba_elsewhere():
    code = "import fastopt as fo; print(fo.get_backend())"
    assert last_line(run_python("-c", code)) == ("c" if HAVE_C else "numba")


WRONG = {
    "FASTOPT_BACKEND": (("cuda", "C"), "there is no backend {0!r}, only 'c', 'numba', 'numpy'"),
    "FASTOPT_NUM_THREADS": (
        ("0", "-1", "two", "1.5", " ", "\N{ARABIC-INDIC DIGIT TWO}", "1025", "99999999999"),
        "FASTOPT_NUM_THREADS must be a whole number from 1 to 1024, not {0!r}",
    ),
}
if HAVE_C:
    message = "FASTOPT_ISA={0}: there are no kernels for {0!r} here, only for: baseline"
    WRONG["FASTOPT_ISA"] = ("avx1024", "AVX2", "sse2"), message

TRY_EACH = """
import os, sys
variable, *values = sys.argv[1:]
for value in values:
    os.environ[variable] = value
    try:
        import fastopt
    except ValueError as error:
        print(error)
    for name in [name for name in sys.modules if name.startswith("fastopt")]:
        del sys.modules[name]
"""


@pytest.mark.parametrize("variable", WRONG)
def test_a_wrong_value_fails_loudly(variable):
    """Of one value after the other in one process, which takes up the library anew for each."""
    values, message = WRONG[variable]
    result = run_python("-X", "utf8", "-c", TRY_EACH, variable, *values)
    printed = result.stdout.splitlines()
    assert len(printed) == len(values), result.stderr
    for value, line in zip(values, printed, strict=True):
        assert message.format(value) in line


def test_an_empty_variable_is_none():
    code = "import fastopt as fo; print(fo.get_backend())"
    result = run_python("-c", code, FASTOPT_BACKEND="", FASTOPT_ISA="", FASTOPT_NUM_THREADS="")
    assert last_line(result) == ("c" if HAVE_C else "numba")


@NEEDS_C
def test_fastopt_isa_and_num_threads():
    code = "import fastopt as fo; print(fo.get_instruction_set(), fo.get_num_threads())"
    for isa in fo.instruction_sets():
        assert last_line(run_python("-c", code, FASTOPT_ISA=isa, FASTOPT_NUM_THREADS="5")) == f"{isa} 5"
    assert last_line(run_python("-c", code)).startswith(fo.instruction_sets()[-1])  # the best


@NEEDS_C
def test_numba_is_not_imported_where_the_core_serves():
    code = "import sys, fastopt; print(sorted({'numba', 'cffi', 'torch', 'scipy'} & set(sys.modules)))"
    assert last_line(run_python("-c", code)) == "[]"


# ---- show_config ----------------------------------------------------------------------------------


def test_show_config(capsys, monkeypatch):
    monkeypatch.delenv("FASTOPT_ISA", raising=False)
    use(BACKENDS[0], threads=2)
    fo.show_config()
    printed = capsys.readouterr().out
    assert f"fastopt {fo.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}" in printed
    assert f"backend          {BACKENDS[0]} (set_backend)" in printed
    if HAVE_C:
        assert f"instruction set  {fo.get_instruction_set()}; built for baseline" in printed
        assert "threads          2 (set_num_threads)" in printed
    fo.set_backend("numpy")
    fo.show_config()
    assert "threads          1 (numpy uses one)" in capsys.readouterr().out


def test_python_m_fastopt():
    result = run_python("-m", "fastopt", FASTOPT_NUM_THREADS="3")
    assert result.returncode == 0
    assert result.stderr == ""
    assert f"fastopt {fo.__version__}" in result.stdout
    assert ("3 (FASTOPT_NUM_THREADS)" if HAVE_C else "1 (numba uses one)") in result.stdout
    result = run_python("-m", "fastopt", FASTOPT_BACKEND="numpy")
    assert "backend          numpy (FASTOPT_BACKEND)" in result.stdout


# ---- the number of threads ------------------------------------------------------------------------


@NEEDS_C
def test_num_threads():
    use("c", threads=3)
    with fo.num_threads(np.uint8(2)):
        assert fo.get_num_threads() == 2
        with fo.num_threads(1):
            assert fo.get_num_threads() == 1
        assert fo.get_num_threads() == 2
    assert fo.get_num_threads() == 3

    with pytest.raises(KeyError), fo.num_threads(2):
        raise KeyError
    assert fo.get_num_threads() == 3


def test_other_backends_use_one_thread():
    for name in ("numba", "numpy"):
        fo.set_backend(name)
        fo.set_num_threads(4)
        with fo.num_threads(2):
            assert fo.get_num_threads() == 1


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (1025, ValueError), (10**12, ValueError),
     (np.int64(0), ValueError), (np.uint64(2**63), ValueError), (1.0, TypeError), (np.float64(2), TypeError),
     (np.bool_(True), TypeError), ("2", TypeError), (True, TypeError), (None, TypeError)],
)  # fmt: skip
def test_a_wrong_number_of_threads(n, error):
    before = fo.get_num_threads()
    with pytest.raises(error, match="number of threads must be"):
        fo.set_num_threads(n)
    with pytest.raises(error, match="number of threads must be"), fo.num_threads(n):
        pass
    assert fo.get_num_threads() == before


def test_the_reason_is_restored_with_the_number(monkeypatch):
    monkeypatch.setattr(config, "_threads_reason", "as it was")
    with fo.num_threads(1):
        assert config._threads_reason == "set_num_threads"
    assert config._threads_reason == "as it was"


def test_unknown_instruction_set():
    before = fo.get_instruction_set()
    with pytest.raises(ValueError, match="there are no kernels for 'mmx' here, only for: "):
        fo.set_instruction_set("mmx")
    assert fo.get_instruction_set() == before
    if not HAVE_C:
        assert fo.instruction_sets() == []
        assert before is None


CGROUPS = [
    ({"cpu.max": "150000 100000\n"}, 1.5),
    ({"cpu.max": "max 100000\n"}, float("inf")),
    ({"cpu.max": "50000 100000\n"}, 0.5),
    ({"cpu.max": "garbage\n"}, float("inf")),
    ({"cpu.max": ""}, float("inf")),
    ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
    ({"cpu/cpu.cfs_quota_us": "300000\n"}, float("inf")),
    ({"cpu.max": "200000 100000\n", "cpu/cpu.cfs_quota_us": "1\n", "cpu/cpu.cfs_period_us": "1\n"}, 2.0),
    ({}, float("inf")),
]


@pytest.mark.parametrize(("files", "quota"), CGROUPS, ids=[" ".join(files) + f" {quota}" for files, quota in CGROUPS])
def test_cgroup_quota(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert config._cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("cpus", "quota", "threads", "reason"),
    [
        (8, float("inf"), 8, "the CPUs this process may use"),
        (8, 8.0, 8, "the CPUs this process may use"),
        (8, 2.5, 2, "the container's quota of 2.5 CPUs"),
        (8, 0.25, 1, "the container's quota of 0.25 CPUs"),
        (1, 4.0, 1, "the CPUs this process may use"),
    ],
)
def test_default_threads(monkeypatch, cpus, quota, threads, reason):
    for name in ("FASTOPT_NUM_THREADS", *config._LIMITS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cpus)), raising=False)
    monkeypatch.setattr(config, "_cgroup_quota", lambda: quota)
    assert config._default_threads() == (threads, reason)


@pytest.mark.parametrize(
    ("variables", "threads", "reason"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "4,2"}, 4, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "4", "LOKY_MAX_CPU_COUNT": "2"}, 2, "LOKY_MAX_CPU_COUNT"),
        ({"OMP_NUM_THREADS": "4", "OMP_THREAD_LIMIT": "5"}, 4, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "64"}, 8, "the CPUs this process may use"),
        ({"OMP_NUM_THREADS": "x"}, 8, "the CPUs this process may use"),
        ({"OMP_NUM_THREADS": "3", "FASTOPT_NUM_THREADS": "6"}, 6, "FASTOPT_NUM_THREADS"),
    ],
    ids=str,
)
def test_limits_that_others_set(monkeypatch, variables, threads, reason):
    for name in ("FASTOPT_NUM_THREADS", *config._LIMITS):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(config, "_cgroup_quota", lambda: float("inf"))
    assert config._default_threads() == (threads, reason)


@pytest.mark.skipif(not HAVE_C, reason="only the C core has threads")
def test_processes_of_joblib_share_the_cpus():
    """Its processes are given a limit by joblib, which a process started by hand does not have."""
    code = (
        "import os; [os.environ.pop(name, None) for name in ('FASTOPT_NUM_THREADS', 'OMP_NUM_THREADS')]\n"
        "import joblib, fastopt as fo; print(joblib.cpu_count(),"
        " *joblib.Parallel(n_jobs=2)(joblib.delayed(fo.get_num_threads)() for _ in range(2)))"
    )
    cpus, *threads = map(int, last_line(run_python("-c", code, FASTOPT_BACKEND="c")).split())
    assert threads == [max(1, cpus // 2)] * 2


@pytest.mark.skipif(not HAVE_C, reason="only the C core has threads")
@pytest.mark.parametrize("imports", ["import fastopt as fo, threadpoolctl", "import threadpoolctl, fastopt as fo"])
def test_threadpoolctl_limits_the_pool(imports):
    pytest.importorskip("threadpoolctl", reason="a package that fastopt can do without")
    code = (
        f"{imports}\n"
        "fo.set_num_threads(4)\n"
        "with threadpoolctl.threadpool_limits(2):\n"
        "    inside = fo.get_num_threads()\n"
        "with threadpoolctl.threadpool_limits(2, user_api='blas'):\n"
        "    others = fo.get_num_threads()\n"
        "(info,) = [each for each in threadpoolctl.threadpool_info() if each['user_api'] == 'fastopt']\n"
        "print(inside, others, fo.get_num_threads(), info['num_threads'], info['version'] == fo.__version__)"
    )
    assert last_line(run_python("-c", code, FASTOPT_BACKEND="c")) == "2 4 4 4 True"


@NEEDS_C
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no sched_setaffinity")
def test_the_affinity_counts():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import fastopt; fastopt.show_config()"
    assert last_line(run_python("-c", code)).split(maxsplit=2)[1] == "1"


# ---- several Python threads -----------------------------------------------------------------------


def train(seed):
    """The bytes of parameters and losses after a few steps on arrays large enough for the pool."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(60_000).astype(np.float32)
    b = rng.standard_normal(100)
    opt = fo.optim.Adam({"w": w, "b": b}, lr=0.01)
    digest = hashlib.sha256()
    for _ in range(4):
        loss, dw = fo.logistic_loss(w, fo.sigmoid(w))
        opt.step({"w": dw, "b": np.ones(100)}, clip_norm=1.0)
        digest.update(np.float64(loss).tobytes() + w.tobytes() + b.tobytes())
    return digest.hexdigest()


def test_python_threads_calling_at_once(backend):
    expected = [train(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(train, seed % 3) for seed in range(6)]
        assert [future.result(timeout=60) for future in futures] == expected * 2


@NEEDS_C
def test_changing_the_number_of_threads_while_another_computes():
    use("c", threads=2)
    expected = train(0)
    with ThreadPoolExecutor(1) as pool:
        for n in (1, 4, 2, 7, 3) * 3:
            future = pool.submit(train, 0)
            fo.set_num_threads(n)
            assert future.result(timeout=60) == expected


@NEEDS_C
def test_the_pool_is_reliable():
    """Many small jobs, one behind the other: no item is lost, none done twice."""
    use("c", threads=4)
    x = np.ones(5 * 8192 + 1, np.float32)
    opt = fo.optim.SGD(x, lr=1.0)
    for _ in range(2000):
        opt.step(np.ones_like(x))
    assert (x == -1999).all()


@NEEDS_C
def test_idle_threads_sleep():
    """They do not spin: that would slow down the matrix products between two steps."""
    use("c", threads=4)
    x = np.zeros(1_000_000, np.float32)
    fo.sigmoid(x, out=x)
    time.sleep(0.01)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1


# ---- fork -----------------------------------------------------------------------------------------

# Each process on its own, so that a hang ends it, not the tests. `work` uses the pool; child and parent must agree.
WORK = """
import hashlib, os, sys, threading
import numpy as np
import fastopt as fo

fo.set_num_threads(3)
x = np.linspace(-9, 9, 200_003, dtype=np.float32)

def work(_=None):
    import hashlib, numpy as np, fastopt as fo
    p = x.copy()
    fo.optim.Adam(p).step(fo.sigmoid(x), clip_norm=1.0)
    loss, dz = fo.logistic_loss(x, fo.sigmoid(x))
    return hashlib.sha256(p.tobytes() + dz.tobytes() + np.float64(loss).tobytes()).hexdigest()

expected = work()
"""
FORKS = {
    "multiprocessing": """
import multiprocessing
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(work, range(6)) == [expected] * 6
""",
    "joblib-loky": """
import joblib
assert joblib.Parallel(2, backend="loky")(joblib.delayed(work)() for _ in range(4)) == [expected] * 4
""",
    "joblib-multiprocessing": """
import joblib
assert joblib.Parallel(2, backend="multiprocessing")(joblib.delayed(work)() for _ in range(4)) == [expected] * 4
""",
    "joblib-threading": """
import joblib
assert joblib.Parallel(3, backend="threading")(joblib.delayed(work)() for _ in range(6)) == [expected] * 6
""",
    "child of a child": """
def fork_and_work(generations):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
    else:
        ok = work() == expected
        if ok and generations > 1:
            fork_and_work(generations - 1)
        os._exit(not ok)
fork_and_work(3)
""",
    "while another thread computes": """
stop = threading.Event()
def compute():
    while not stop.is_set():
        assert work() == expected
computing = [threading.Thread(target=compute) for _ in range(2)]
for thread in computing:
    thread.start()
for _ in range(15):
    child = os.fork()
    if not child:
        os._exit(work() != expected)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in computing:
    thread.join()
""",
}


# Without the core there is no pool: one case will do, as Numba compiles in every process anew.
@NEEDS_FORK
@pytest.mark.parametrize("case", FORKS if HAVE_C else ["multiprocessing"])
def test_fork_after_use(case):
    code = WORK + FORKS[case] + "\nassert work() == expected\nprint('the same')"
    result = run_python("-W", "ignore", "-c", code, timeout=90, FASTOPT_BACKEND=fo.get_backend())
    assert last_line(result) == "the same"


@NEEDS_C
@NEEDS_FORK
def test_fork_before_use():
    """Then the handlers of the pool are not there yet; the child starts its own."""
    code = "import os, numpy as np, fastopt as fo; fo.set_num_threads(3)\n"
    code += "child = os.fork()\nfo.sigmoid(np.zeros(100_000))\n"
    code += "os._exit(0) if not child else print(os.waitpid(child, 0)[1])"
    assert last_line(run_python("-W", "ignore", "-c", code, timeout=60, FASTOPT_BACKEND=fo.get_backend())) == "0"


@NEEDS_C
def test_the_interpreter_ends_with_sleeping_and_working_threads():
    code = WORK + "threading.Thread(target=lambda: [work() for _ in range(50)], daemon=True).start(); print('ends')"
    assert last_line(run_python("-c", code, timeout=60, FASTOPT_BACKEND=fo.get_backend())) == "ends"
