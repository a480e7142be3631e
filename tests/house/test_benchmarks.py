"""The benchmarks run, are right before they are fast, leave nothing out, and the pages show what was recorded."""

import json
import re
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastopt as fo
from fastopt._specification.rules import RULES

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # last: the fastopt that is tested stays the one that is installed

from benchmarks import (  # noqa: E402
    __main__,
    bandwidth,
    kernels,
    machine,
    measure,
    networks,
    optimizers,
    pages,
    peak,
    processes,
    report,
    targets,
    training,
)
from benchmarks.measure import FASTOPT, Case, Setup, Side, Spec, Sweep  # noqa: E402

SETUP = Setup(threads=[1, 2], peers={"numpy": np}, quick=True)
ALL = Setup(threads=[1, 2], quick=False)


def specs(setup):
    return [spec for cases in __main__.CASES.values() for spec in cases(setup)]


# ---- nothing is left out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", [SETUP, ALL], ids=["quick", "all"])
def test_every_kernel_rule_and_optimizer_has_a_case(setup):
    covered = {name for spec in specs(setup) for name in spec.kernels}
    assert covered == kernels.kernels() | set(RULES) | set(optimizers.optimizers())


def test_kernels_are_those_of_the_core():
    core = runpy.run_path(str(ROOT / "fastopt" / "_build.py"))["declarations"]
    assert {name for name in kernels.kernels() if f"fastopt_{name}(" not in core} == set()
    assert len(kernels.kernels()) >= 25


def test_every_targeted_case_exists():
    names = {spec.name for spec in specs(ALL)} | {"import, beyond NumPy"}
    wanted = {name for target in targets.TARGETS for name in target.cases}
    assert {
        name for name in wanted if not name.startswith(("torch: ", "sklearn: "))
    } <= names  # they have their own tests
    assert {name for _, name in report.README} <= names


# ---- right before fast --------------------------------------------------------------------------------------------


def small(spec):
    large = ("1,000,000", "(1000000,)", "10,000,000", "(4096, 1024)", "(128, 32, 32, 32)")
    return spec.group not in ("BERT", "clip", "training") and not any(size in spec.name for size in large)


@pytest.mark.parametrize("spec", [spec for spec in specs(SETUP) if small(spec)], ids=lambda spec: spec.name)
def test_every_side_of_every_case_is_right(spec):
    right, errors, wrong = measure._check(spec.build(), spec.name)
    assert not wrong
    assert errors[FASTOPT] < 1e-5 or spec.suite == "step"
    assert len(right) > 1 or spec.name.startswith("gelu")  # NumPy's side too, but it has no erf


@pytest.mark.parametrize("net", [
    networks.Network((5, 8, 1), "sigmoid", batch_norm=False, batch=4, steps=3, epochs=2),
    networks.Network((12, 6, 6, 3), "relu", batch_norm=True, batch=8, steps=3),
], ids=lambda net: net.name)  # fmt: skip
def test_networks_are_trained_alike(net):
    _, errors, wrong = measure._check(training.case(net, SETUP), net.name)
    assert not wrong
    assert set(errors) == {FASTOPT, "numpy, plain", "numpy, in place"}
    assert max(errors.values()) < 1e-5


def a_case(ours, theirs):
    sides = [Side(name, lambda: None, lambda x=x: [np.array(x)]) for name, x in ((FASTOPT, ours), ("other", theirs))]
    return Spec("kernels", "group", "a case", lambda: Case(2, sides, lambda: [np.array([1.0, 2.0])]))


@pytest.mark.parametrize("result", [[1.0, 2.1], [np.nan, 2.0], [1.0, np.inf]], ids=str)
def test_what_is_wrong_is_not_timed(result):
    with pytest.raises(AssertionError, match=r"a case: fastopt's relative error is .*; it is not timed"):
        measure.measure(a_case(result, [1.0, 2.0]), SETUP)
    record = measure.measure(a_case([1.0, 2.0], result), SETUP)
    assert set(record["differ"]) == {"other"}
    assert set(record["sides"]) == {FASTOPT}


# ---- the measurement ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 37, 40_000])
@pytest.mark.parametrize("kind", ["plain stores", "non-temporal stores"])
def test_sweeps_write_what_they_are_to(size, kind, rng):
    x, y = rng.standard_normal((2, size + 3), dtype=np.float32)[:, 3:]
    out = np.full(size + 5, 7, np.float32)
    bandwidth.streams([Sweep("map", [x, y, out[2:-3]])], 2)[kind]()
    np.testing.assert_array_equal(out[2:-3], x + y if kind == "non-temporal stores" else x)
    np.testing.assert_array_equal(out[[0, 1, -3, -2, -1]], 7)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_sweeps_leave_what_they_update(count, rng):
    arrays = [rng.standard_normal(1000) for _ in range(count)]
    before = [array.copy() for array in arrays]
    sweep = Sweep("update", arrays)
    bandwidth.Stream([sweep, Sweep("read", arrays)], 1)()
    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, was)
    reads, writes = count, 1 if count == 1 else count - 1  # of the second array nothing is written
    assert sweep.bytes_moved == 8000 * (reads + writes)


def test_a_record_has_ratios_of_the_same_rounds():
    record = measure.measure(next(s for s in specs(SETUP) if s.name == "sigmoid (32, 100)"), SETUP)
    assert record["rounds"] >= 3
    assert {"fastopt", "fastopt, 1 thread", "numpy, plain", "numpy, in place"} == set(record["sides"])
    for side in record["sides"].values():
        middle, low, high = side["seconds"]
        assert 0 < low <= middle <= high < 1
    assert record["bounds"]["bandwidth"]["bytes"] == 2 * 4 * 3200
    assert fo.get_num_threads() == (2 if fo.get_backend() == "c" else 1)


# ---- the command and what it writes -------------------------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    written, tables = tmp_path / "run.json", tmp_path / "tables.md"
    words = ["kernels", "--quick", "--peers", "numpy", "--threads", "1", "--only", "column sums"]
    __main__.main([*words, "--json", str(written), "--markdown", str(tables)])
    assert "column sums (32, 100)" in capsys.readouterr().err
    run = json.loads(written.read_text(encoding="utf-8"))
    assert [record["name"] for record in run["records"]] == ["column sums (32, 100)"]
    assert run["machine"]["versions"]["numpy"] == np.__version__
    assert run["threads"] == [1]
    assert "| column sums (32, 100) |" in tables.read_text(encoding="utf-8")
    __main__.main(["--from", str(written)])
    assert capsys.readouterr().out.count("not measured") == len(targets.TARGETS)
    assert pages.as_json(run) == written.read_text(encoding="utf-8")


@pytest.mark.parametrize(("arguments", "message"), [
    (["nets"], "'nets' is none of kernels, products, step, sklearn, torch, train, memory, import"),
    (["--peers", "numpy,tf"], "--peers: 'tf' is none of numpy, torch"),
    (["--threads", "two"], "--threads: 'two' is not a list of whole numbers"),
    (["--threads", "0,2"], "--threads: 0 is less than 1"),
])  # fmt: skip
def test_what_the_command_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit):
        __main__.main(arguments)
    assert message in capsys.readouterr().err


def test_absent_peers_are_named(monkeypatch):
    from benchmarks import peers

    monkeypatch.setitem(sys.modules, "jax", None)
    found, absent = peers.load(["numpy", "jax"])
    assert found == {"numpy": np}
    assert "jax" in absent["jax"]


def test_the_peak_is_of_as_many_multiply_adds():
    """And of all of them: a loop of twice as many takes longer."""
    few, many = peak.MultiplyAdds(10**6, [1, 2]), peak.MultiplyAdds(10**8, [1, 2])
    for setting in few.settings:
        few.settings[setting]()
        many.settings[setting]()
        lanes, threads = map(int, re.findall(r"\d+", setting))
        assert few._times * lanes * peak.CHAINS * threads >= 10**6
        few()
        begin = time.thread_time()
        few()
        between = time.thread_time()
        many()
        assert time.thread_time() - between > 5 * (between - begin)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_processes_report_their_memory():
    _, printed = processes.python("import fastopt; print(open('/proc/self/status').read())")
    assert 10 * 2**20 < processes.peak_memory(printed) < 2**30
    assert processes.peak_memory(["VmRSS: 5 kB"]) is None


def test_the_machine():
    described = machine.description()
    assert described["flags"]["all"][:2] == ["-std=c11", "-O3"]
    assert "-mavx2" in described["flags"]["avx2"]
    assert machine._count("0-3,8") == 5


# ---- targets, tables, charts --------------------------------------------------------------------------------------


def a_run():
    def record(name, seconds, share=None, **ratios):
        sides = {FASTOPT: {"seconds": [seconds] * 3}}
        facts = {"threads": 2} if "tanh" in name else {}
        sides |= {peer.replace("_", ", "): {"ratio": [ratio] * 3} for peer, ratio in ratios.items()}
        bounds = {"bandwidth with check": {"share": [share] * 3}} if share else {}
        return {"name": name, **facts, "sides": sides, "bounds": bounds}

    return {"records": [
        record("Adam, 64 tensors of 8", 3e-6, torch=61.0),
        record("Adam, 6 tensors of an MLP", 4e-6, torch=4.0),
        record("30-100-1 sigmoid, batch 32", 16e-6, numpy_plain=9.0, numpy_inplace=3.0, sklearn=15.0),
        record("4-32-16-4 tanh, batch 10000", 4e-4),
        record("LARS, BERT-base, 194 tensors", 0.1, share=0.9),
        record("batch norm forward + backward (256, 512)", 1e-3, torch=1.0),
        record("batch norm forward + backward (4096, 1024)", 1e-3, torch=4.0),
    ]}  # fmt: skip


def test_targets():
    found = {(o.target.work, o.target.against, o.target.mean): o for o in targets.outcomes(a_run())}

    def verdict(work, against, mean=False):
        (outcome,) = [o for key, o in found.items() if key[0].startswith(work) and key[1:] == (against, mean)]
        return outcome.measured, outcome.met, outcome.missing

    assert verdict("Adam, 64 tensors", "torch") == (61.0, True, 0)
    assert verdict("Adam, the 6 tensors", "torch") == (4.0, False, 0)
    step = "a training step, 30-100-1"
    assert verdict(step, "numpy") == (3.0, False, 0)  # the faster of the two
    assert verdict(step, "sklearn") == (15.0, True, 0)
    assert verdict(step, "jax") == (None, None, 1)
    products = 2 * 10_000 * (3 * (4 * 32 + 32 * 16 + 16 * 4) - 4 * 32)
    assert verdict("a training step, 4-32", targets.GFLOPS) == (pytest.approx(products / 4e-4 / 2 / 1e9), False, 0)
    assert verdict("LARS", "bandwidth with check") == (0.9, True, 0)
    assert verdict("LAMB", "AdamW, BERT-base, 194 tensors") == (None, None, 1)
    assert verdict("batch norm", "torch", mean=True) == (pytest.approx(2.0), False, 3)
    assert verdict("batch norm", "torch") == (1.0, False, 3)


def test_the_readme_says_what_was_disturbed():
    run = {**pages.newest(), "records": a_run()["records"][:2]}
    assert "isturbed" not in report.readme(run)
    run["records"][0]["disturbed"] = 0.5
    assert "| Adam, 64 tensors of 8 (disturbed) | 3.00 µs | 61.0 × |" in report.readme(run)
    assert "not to be trusted" in report.readme(run)


def test_numbers_are_readable():
    assert [report.seconds(s) for s in (3.456e-6, 2.6e-8, 0.0234, 1.5)] == ["3.46 µs", "0.03 µs", "23.4 ms", "1.50 s"]
    assert [report.size(n) for n in (800, 2048, 3 * 2**20)] == ["800 B", "2.00 KiB", "3.00 MiB"]


def test_the_pages_show_the_newest_recorded_run():
    run = pages.newest()
    shown = {page.relative_to(ROOT): pages.block(page) for page in pages.PAGES}
    assert shown[Path("benchmarks/README.md")] is not None
    for page, text in pages.PAGES.items():
        assert pages.block(page) in (None, text(run)), f"{page.name}: python -m benchmarks --record --from FILE"


@pytest.mark.slow
def test_charts(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import charts

    charts.draw(pages.newest(), tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn >= {f"{chart}-{theme}.svg" for chart in ("speed", "peers", "training") for theme in ("light", "dark")}
    assert drawn == {path.name for path in pages.CHARTS.iterdir()}
