"""State and its dictionaries: exchanged with PyTorch's optimizers, saved, copied, and changed by hand."""

import copy
import pickle

import pytest
from beside import BOTH, copies, ft, give_gradients, parameters, steps, through_a_file, torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import fastopt as fo

RICH = {
    "SGD": {"momentum": 0.9, "dampening": 0.1},
    "Adam": {"amsgrad": True},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "LARS": {"momentum": 0.9},
}


def made(name, params, of=ft):
    return getattr(of, name)(params, **RICH.get(name, {}))


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("to_ours", [True, False])
def test_checkpoints_of_one_load_into_the_other(name, to_ours):
    params = parameters(name=name)
    others = copies(params)
    first, of_first, of_other = made(name, params, torch.optim if to_ours else ft), params, others
    for i in range(4):
        give_gradients(i, params)
        first.step()
    with torch.no_grad():
        for p, q in zip(of_first, of_other, strict=True):
            q.copy_(p)
    other = made(name, others, ft if to_ours else torch.optim)
    other.load_state_dict(through_a_file(first.state_dict()))
    assert other.state_dict()["param_groups"] == first.state_dict()["param_groups"]
    steps(first, other, params, others, 3, begin=4)


@pytest.mark.parametrize("name", ft.__all__)
@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), "file"], ids=["copy", "pickle", "file"]
)
def test_copies_go_on_alike(name, way):
    params = parameters(name=name)
    optimizer = made(name, params)
    for i in range(3):
        give_gradients(i, params)
        optimizer.step()
    if way == "file":
        others = copies(params)
        other = made(name, others)
        other.load_state_dict(through_a_file(optimizer.state_dict()))
    else:
        other = way(optimizer)
        others = other.param_groups[0]["params"]
        assert others[0] is not params[0]
    assert type(other) is type(optimizer)
    steps(optimizer, other, params, others, 3, begin=3, within=0)
    assert repr(other) == repr(optimizer)


def test_loading_copies_the_state():
    params = parameters()
    optimizer, other = ft.AdamW(params), ft.AdamW(others := copies(params))
    give_gradients(0, params)
    optimizer.step()
    other.load_state_dict(optimizer.state_dict())
    before = copy.deepcopy(optimizer.state_dict()["state"][1])
    give_gradients(1, others)
    other.step()
    for key, value in before.items():
        torch.testing.assert_close(optimizer.state_dict()["state"][1][key], value, rtol=0, atol=0)
    assert other.state[others[1]]["step"].item() == 2


def test_own_options_travel_and_outlast_pytorchs_checkpoints():
    params = parameters()
    optimizer = ft.AdamW(params, eps_root=1e-6, weight_decay_mode="independent")
    assert optimizer.param_groups[0]["eps_root"] == 1e-6
    other = ft.AdamW(copies(params))
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["weight_decay_mode"] == "independent"
    optimizer.load_state_dict(torch.optim.AdamW(copies(params), lr=7.0).state_dict())
    assert (optimizer.param_groups[0]["eps_root"], optimizer.param_groups[0]["lr"]) == (1e-6, 7.0)


def test_state_is_what_pytorch_has():
    params = parameters()
    optimizer = ft.AdamW(params)
    assert optimizer.state == {}
    give_gradients(0, params)
    params[1].grad = None
    optimizer.step()
    assert params[1] not in optimizer.state
    assert set(optimizer.state) == {p for i, p in enumerate(params) if i != 1}
    for p, state in optimizer.state.items():
        assert list(state) == ["step", "exp_avg", "exp_avg_sq"]
        assert state["exp_avg"].stride() == torch.zeros_like(p).stride()
        assert state["step"].shape == ()
    assert all(type(state) is dict for state in optimizer.state_dict()["state"].values())
    assert ft.SGD(params).state_dict()["state"] == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["step"].fill_(7),
        lambda state: state.__setitem__("step", torch.tensor(7.0)),
        lambda state: state.update(exp_avg=torch.ones_like(state["exp_avg"])),
        lambda state: state["exp_avg"].set_(torch.ones_like(state["exp_avg"])),
        lambda state: setattr(state["exp_avg"], "data", torch.ones_like(state["exp_avg"])),
        lambda state: state.__setitem__("exp_avg_sq", torch.full_like(state["exp_avg"].mT, 2.0).mT),
        lambda state: state.clear(),
    ],
)
def test_state_changed_by_hand_is_used(change, backend):
    params = [torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64))]
    others = copies(params)
    ours, theirs = ft.AdamW(params), torch.optim.AdamW(others)
    steps(ours, theirs, params, others, 2)
    change(ours.state[params[0]])
    change(theirs.state[others[0]])
    steps(ours, theirs, params, others, 2, begin=2)


def test_state_of_another_shape_is_refused():
    params = parameters()
    optimizer = ft.AdamW(params)
    give_gradients(0, params)
    optimizer.step()
    optimizer.state[params[1]]["exp_avg"] = torch.zeros(8, dtype=torch.float64)
    before = copies(params)
    with pytest.raises(ValueError, match=r"exp_avg of parameter 1 of group 0 has shape .*8.*7"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))


def test_all_hooks():
    params, seen = parameters(), []
    optimizer = ft.SGD(params, lr=0.1)
    for kind in (
        "step_pre",
        "step_post",
        "state_dict_pre",
        "state_dict_post",
        "load_state_dict_pre",
        "load_state_dict_post",
    ):
        getattr(optimizer, f"register_{kind}_hook")(lambda *_, kind=kind: seen.append(kind))
    handle = register_optimizer_step_post_hook(lambda *_: seen.append("global"))
    optimizer.step(lambda: seen.append("closure"))
    optimizer.load_state_dict(optimizer.state_dict())
    handle.remove()
    assert seen == ["step_pre", "closure", "step_post", "global", "state_dict_pre", "state_dict_post",
                    "load_state_dict_pre", "load_state_dict_post"]  # fmt: skip


def test_a_hook_may_change_the_arguments():
    params = parameters()
    optimizer = ft.SGD(params)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: "other"), kwargs))
    assert optimizer.step(lambda: "first") == "other"


@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree"])
def test_schedule_free_points(name, backend):
    """As fastopt's own, but for the sums, which are kept in the parameters' state; resumed in either point."""
    options = {"lr": 0.1, "weight_decay": 0.1, "warmup_steps": 3, "r": 0.5}
    params = [torch.nn.Parameter(torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3))]
    arrays = [params[0].detach().numpy().copy()]
    ours, plain = getattr(ft, name)(params, **options), getattr(fo.optim, name)(arrays, **options)
    ours.eval()  # before the first step
    ours.train()
    for i in range(5):
        give_gradients(i, params)
        ours.step()
        plain.step([params[0].grad.numpy()])
    torch.testing.assert_close(params[0].detach().numpy(), arrays[0], rtol=1e-6, atol=1e-6)
    y = params[0].detach().clone()
    for optimizer in (ours, plain):
        optimizer.eval()
        optimizer.eval()
    torch.testing.assert_close(params[0].detach().numpy(), arrays[0], rtol=1e-6, atol=1e-6)
    assert not torch.equal(params[0], y)
    with pytest.raises(RuntimeError, match="call train"):
        ours.step()
    others = copies(params)
    other = getattr(ft, name)(others, **options)
    other.load_state_dict(through_a_file(ours.state_dict()))
    with pytest.raises(RuntimeError, match="call train"):
        other.step()
    for optimizer in (ours, other):
        optimizer.train()
    assert torch.equal(params[0], y)
    assert "y" not in ours.state[params[0]]
    steps(ours, other, params, others, 3, begin=5, within=0)
