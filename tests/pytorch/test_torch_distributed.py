"""Trained by PyTorch's own engines on two processes over gloo, which end where one process does."""

import subprocess
import sys
from pathlib import Path

import pytest
from beside import ft, torch

one_of_two = pytest.importorskip("one_of_two", reason="this PyTorch has no distributed package", exc_type=ImportError)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What both processes found."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-W", "ignore", Path(__file__).with_name("one_of_two.py")]
    running = [
        subprocess.Popen([*command, str(rank), str(folder)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", one_of_two.OPTIONS)
@pytest.mark.parametrize("engine", ["ddp", "zero", "fsdp"])
def test_two_processes_end_where_one_does(results, engine, name):
    if engine == "fsdp" and name in one_of_two.NEED_WHOLE_TENSORS:
        assert all("DTensor" in found[engine, name] and "the whole" in found[engine, name] for found in results)
        return
    model = one_of_two.net(name)
    one_of_two.train(model, getattr(ft, name)(model.parameters(), **one_of_two.OPTIONS[name]))
    for found in results:
        for key, expected in one_of_two.whole(model).items():
            torch.testing.assert_close(found[engine, name][key], expected, rtol=1e-12, atol=1e-12)


def test_the_state_of_all_processes_can_be_gathered(results):
    state = results[0]["zero state", "AdamW"]
    assert len(state) == 3
    assert {float(of["step"]) for of in state.values()} == {one_of_two.STEPS}


@pytest.mark.parametrize("form", one_of_two.FORMATS)
def test_states_in_fewer_bytes(results, form):
    model = one_of_two.wide_net()
    optimizer = ft.AdamW(model.parameters(), lr=0.05, **one_of_two.FORMATS[form])
    one_of_two.train(model, optimizer)
    for found in results:
        state = found["formats"]["state", form]
        assert state.keys() == {0, 1, 2, 3}
        for i, own in optimizer.state_dict()["state"].items():
            assert [(k, v.shape, v.dtype) for k, v in state[i].items()] == [
                (k, v.shape, v.dtype) for k, v in own.items()
            ]
    one_of_two.train(model, optimizer)
    for found in results:
        for key, expected in one_of_two.whole(model).items():
            torch.testing.assert_close(found["formats"]["zero", form][key], expected, rtol=1e-3, atol=2e-2)
            if form == "bfloat16":
                torch.testing.assert_close(found["formats"]["fsdp", form][key], expected, rtol=1e-3, atol=2e-2)
        if form == "8bit":
            assert "state_format='8bit' needs the whole" in found["formats"]["fsdp", form]
        assert "only with state_rounding='nearest'" in found["formats"]["random"]


def test_parameters_of_bfloat16_in_parts(results):
    model = one_of_two.wide_net().bfloat16()
    optimizer = ft.AdamW(model.parameters(), lr=0.01, param_rounding="kahan")
    for _ in range(2):
        one_of_two.train(model, optimizer)
    for found in results:
        refused, params, types = found["of bfloat16"]
        assert "only with param_rounding='kahan' or 'nearest'" in refused
        assert types == [torch.float32, torch.bfloat16]
        for key, expected in one_of_two.whole(model).items():
            assert (params[key] - expected).abs().mean() < 0.01  # gradients are averaged in bfloat16
