"""What PyTorch's own tests of optimizers ask of them beyond results: each point for every optimizer."""

import copy

import pytest
from beside import BOTH, copies, ft, give_gradients, parameters, steps, torch


@pytest.mark.parametrize("name", ft.__all__)
class TestEach:
    def test_zero_gradients_move_nothing(self, name):
        params = [torch.nn.Parameter(torch.ones(3, 2))]
        optimizer = getattr(ft, name)(params, weight_decay=0.0, **({"lambd": 0.0} if name == "ASGD" else {}))
        before = params[0].detach().clone()
        for _ in range(3):
            params[0].grad = torch.zeros(3, 2)
            optimizer.step()
        assert torch.equal(params[0], before)

    def test_state_is_there_after_a_step(self, name):
        params = [torch.nn.Parameter(torch.ones(3, 2))]
        optimizer = getattr(ft, name)(params, **({"momentum": 0.9} if name == "SGD" else {}))
        params[0].grad = torch.ones(3, 2)
        optimizer.step()
        assert all(value is not None for value in optimizer.state[params[0]].values())
        assert len(optimizer.state[params[0]]) >= 1

    def test_types_may_be_mixed(self, name):
        params = [torch.nn.Parameter(torch.ones(3, 2, dtype=dtype)) for dtype in (torch.float32, torch.float64) * 2]
        optimizer = getattr(ft, name)(params, lr=0.1)
        for p in params:
            p.grad = torch.full_like(p, 0.5)
        optimizer.step()
        assert not torch.equal(params[0], torch.ones(3, 2))
        for p in params[1:]:
            torch.testing.assert_close(p.float(), params[0])

    def test_a_copy_has_all_public_attributes(self, name):
        optimizer = getattr(ft, name)(parameters(name=name), clip_norm=2.0, on_nonfinite="skip")
        optimizer.skipped_steps = 3
        public = {key: value for key, value in vars(optimizer).items() if not key.startswith("_")}
        other = copy.deepcopy(optimizer)
        assert public.keys() == {key for key in vars(other) if not key.startswith("_")}
        assert (other.clip_norm, other.on_nonfinite, other.skipped_steps) == (2.0, "skip", 3)
        assert optimizer.defaults.items() <= other.defaults.items()


@pytest.mark.parametrize("name", BOTH)
def test_older_checkpoints(name):
    """Steps that are numbers, and groups without the options that came later."""
    params, options = parameters(name=name), {"momentum": 0.9} if name == "SGD" else {}
    others = copies(params)
    ours, theirs = getattr(ft, name)(params, **options), getattr(torch.optim, name)(others, **options)
    steps(ours, theirs, params, others, 2)
    saved = copy.deepcopy(theirs.state_dict())
    for group in saved["param_groups"]:
        for flag in ("foreach", "maximize", "capturable", "differentiable", "fused", "decoupled_weight_decay"):
            if flag != "decoupled_weight_decay" or name != "AdamW":
                group.pop(flag, None)
    for state in saved["state"].values():
        if "step" in state:
            state["step"] = state["step"].item()
    ours = getattr(ft, name)(params, **options)
    ours.load_state_dict(saved)
    steps(ours, theirs, params, others, 2, begin=2)


def test_named_parameters():
    net, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    named, plain = ft.AdamW(net.named_parameters()), ft.AdamW(other.parameters())
    give_gradients(0, list(net.parameters()))
    named.step()
    plain.load_state_dict(named.state_dict())
    assert plain.param_groups[0]["param_names"] == ["weight", "bias"]
    net.bias.grad = torch.full((2,), float("nan"))
    named.on_nonfinite = "raise"
    with pytest.raises(FloatingPointError, match="inf or NaN: bias"):
        named.step()


def test_default_type():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        params = parameters()
        others = copies(params)
        ours, theirs = ft.NAdam(params), torch.optim.NAdam(others)
        steps(ours, theirs, params, others, 3)
        for key, value in theirs.state[others[1]].items():
            assert ours.state[params[1]][key].dtype == value.dtype
    finally:
        torch.set_default_dtype(before)


def test_memory_that_is_shared_with_processes():
    params = parameters()
    others = copies(params)
    ours, theirs = ft.Adagrad(params), torch.optim.Adagrad(others)
    steps(ours, theirs, params, others, 2)
    ours.share_memory()
    assert ours.state[params[1]]["sum"].is_shared()
    steps(ours, theirs, params, others, 2, begin=2)


def test_codes_in_memory_that_is_shared():
    params = [torch.nn.Parameter(torch.ones(5000)) for _ in range(2)]
    shared, own = (ft.Adagrad([param], state_format="8bit") for param in params)
    for begin in range(2):
        for optimizer, param in zip((shared, own), params, strict=True):
            param.grad = torch.linspace(begin, 1, 5000)
            optimizer.step()
        if begin == 0:
            shared.share_memory()
    assert all(value.is_shared() for value in shared.state[params[0]].values())
    assert torch.equal(*params)


def test_distributed_checkpoints_of_state():
    module = pytest.importorskip("torch.distributed.checkpoint.state_dict", reason="a PyTorch without it")
    nets = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    optimizers = [ft.AdamW(net.parameters(), lr=lr) for net, lr in zip(nets, (0.1, 0.3), strict=True)]
    give_gradients(0, list(nets[0].parameters()))
    optimizers[0].step()
    of_model, of_optimizer = module.get_state_dict(nets[0], optimizers[0])
    module.set_state_dict(nets[1], optimizers[1], model_state_dict=of_model, optim_state_dict=of_optimizer)
    steps(*optimizers, list(nets[0].parameters()), list(nets[1].parameters()), 2, begin=1, within=0)
