"""Training in several processes, which mpiexec starts, gives the bits of one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scenarios

import fastopt as fo

pytest.importorskip("mpi4py", reason="pip install fastopt[mpi] mpich")
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
OF_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


def run(command):
    environment = {**os.environ, **OF_OPEN_MPI, "FASTOPT_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    folder = Path(__file__).parent  # where there is no fastopt but the installed one
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def started(count, what, folder):
    """Processes that do this: how they ended, and what each has found."""
    command = [MPIEXEC, "-n", str(count), sys.executable, Path(__file__).with_name("process.py"), what, folder]
    ended = run(command)
    paths = [folder / f"{rank}.json" for rank in range(count)]
    return ended, [json.loads(path.read_text()) for path in paths if path.exists()]


@pytest.fixture(scope="module")
def of_one():
    """What a single process finds, without MPI."""
    return json.loads(json.dumps({name: scenario(None) for name, scenario in scenarios.SAME.items()}))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_same_bits_for_any_number_of_processes(count, of_one, tmp_path):
    ended, found = started(count, "same", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert len(found) == count
    for of_rank in found:
        assert [name for name in of_one if of_rank[name] != of_one[name]] == []
        assert of_rank.keys() == of_one.keys()


def test_processes_with_different_backends(of_one, tmp_path):
    ended, found = started(2, "mixed", tmp_path)
    assert ended.returncode == 0, ended.stderr
    for of_rank in found:
        assert [name for name in scenarios.SMALL if of_rank[name] != of_one[name]] == []


MESSAGES = {
    "in_a_layer": ("RuntimeError: rank 1 raised OverflowError: the layer's own", "OverflowError: the layer's own"),
    "in_a_callback": ('RuntimeError: rank 1 raised KeyError: "the callback\'s own"', 'KeyError: "the callback\'s own"'),
    "at_a_batch": ('RuntimeError: rank 1 raised KeyError: "the batch\'s own"', 'KeyError: "the batch\'s own"'),
    "other_data": ("ValueError: the processes were given different things: X is",) * 2,
    "other_arguments": ("ValueError: the processes were given different things: optimizer is Adam",) * 2,
    "other_weights": ("ValueError: the processes were given different things: model is",) * 2,
    "bad_data_in_one": ("RuntimeError: rank 1 raised ValueError: X holds NaN", "ValueError: X holds NaN"),
    "not_finite": ("FloatingPointError: ",) * 2,
    "too_few_shards": ("ValueError: there are 3 processes for shards=2: each needs one",) * 2,
    "parts_that_do_not_fit": ("ValueError: X has shape (70, 6): of total_rows=205, this process has those from",) * 2,
    "other_batches": ("ValueError: the processes were given different things: x is",) * 2,
    "another_shape": ("RuntimeError: the processes do not run the same program: ",) * 2,
}


def test_all_processes_end_together(tmp_path):
    ended, found = started(3, "ended", tmp_path)
    assert ended.returncode == 0, ended.stderr
    for rank, of_rank in enumerate(found):
        for name in scenarios.ENDED:
            assert MESSAGES[name][rank == 1] in of_rank[name], (name, rank)
        assert of_rank["interrupted"] == found[0]["interrupted"]
        assert of_rank["stopped by one"] == found[0]["stopped by one"]
        share, held = of_rank["sent"]
        assert share < 2.1 * 2 / 3  # a ring's least: of gradients and of parameters, all but this process's third
        assert 0.2 < held < 0.5  # its third of the optimizer's state
    assert found[0]["interrupted"][2] == "interrupted after 1 epoch"
    assert found[0]["stopped by one"][2] == "the second has seen enough"
    assert len(found[0]["stopped by one"][1]["loss"]) == 2


def test_a_process_that_dies_does_not_leave_the_others_waiting(tmp_path):
    ended, found = started(3, "died", tmp_path)
    assert ended.returncode != 0
    assert found == []


def test_an_error_while_others_wait_ends_all(tmp_path):
    ended, found = started(3, "broken", tmp_path)
    assert ended.returncode != 0
    assert found == []
    assert "MemoryError: no memory is left" in ended.stderr


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    for count, epochs in ((4, 2), (2, 3), (1, 4)):
        ended, found = started(count, str(epochs), tmp_path)
        assert ended.returncode == 0, ended.stderr
    expected = scenarios.fitted(None, "LAMB", epochs=4)
    assert found[0]["resumed"] == json.loads(json.dumps(expected))


def test_the_example(tmp_path):
    pytest.importorskip("sklearn.datasets", reason="the digits are scikit-learn's")
    command = [sys.executable, "-m", "fastopt.examples.data_parallel", "--epochs", "2"]
    printed = [run([*processes, *command]) for processes in ([], [MPIEXEC, "-n", "2"])]
    assert [ended.returncode for ended in printed] == [0, 0], printed
    alone, both = (ended.stdout for ended in printed)
    assert alone.startswith("1 process, 8 shards: ")
    assert both.startswith("2 processes, 8 shards: ")
    assert both.splitlines()[-1] == alone.splitlines()[-1]
    assert len(both.splitlines()[-1]) == len("fingerprint: ") + 64
    sent, size = re.search(
        r"^sent by each process: ([\d,]+) bytes a step, for ([\d,]+) of", both, re.MULTILINE
    ).groups()
    assert 0.5 < int(sent.replace(",", "")) / int(size.replace(",", "")) < 1.5  # slices of whole blocks; and statistics


def test_arguments():
    with pytest.raises(TypeError, match=r"comm must be an mpi4py\.MPI\.Intracomm, .* not int"):
        scenarios.fitted(3)
    with pytest.raises(ValueError, match="shards must be at least 1, not 0"):
        scenarios.fitted(None, shards=0)
    with pytest.raises(ValueError, match="batch_size=30 must be a multiple of shards=4"):
        scenarios.of_parts(None, batch_size=30)
    with pytest.raises(ValueError, match=r"validation=0\.2: where total_rows are spread .* it must be a pair"):
        scenarios.of_parts(None, validation=0.2)
    with pytest.raises(ValueError, match="batches of 64 rows cannot be cut into shards=65"):
        scenarios.fitted(None, shards=65)
    assert fo.parallel.traffic.bytes == 0
