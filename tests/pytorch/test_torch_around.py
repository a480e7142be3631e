"""What lives around an optimizer: closures, schedulers, scalers, averages, groups."""

import copy
import inspect
import math

import pytest
from beside import copies, ft, give_gradients, parameters, steps, torch
from torch.optim import lr_scheduler


def test_closures_run_first_with_gradients_enabled():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = ft.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 3.0
    assert p.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_come_and_go(set_to_none, backend):
    """None: left out, and behind in steps afterwards."""
    params = parameters()
    others = copies(params)
    ours, theirs = ft.NAdam(params, momentum_decay=0.1), torch.optim.NAdam(others, momentum_decay=0.1)
    for i in range(8):
        give_gradients(i, params, others)
        for k in range(len(params)):
            if (i + k) % 3 == 0:
                params[k].grad = others[k].grad = None
        ours.step()
        theirs.step()
        ours.zero_grad(set_to_none)
        assert all((p.grad is None) or (not set_to_none and not p.grad.any()) for p in params)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.state[p]["step"], theirs.state[q]["step"])


def test_no_gradients_at_all():
    optimizer = ft.AdamW(parameters())
    assert optimizer.step() is None
    assert optimizer.state == {}


SCHEDULERS = {
    "LambdaLR": {"lr_lambda": lambda i: 0.9**i},
    "MultiplicativeLR": {"lr_lambda": lambda i: 0.9},
    "StepLR": {"step_size": 3},
    "MultiStepLR": {"milestones": [2, 4]},
    "ConstantLR": {"total_iters": 3},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.1, "step_size_up": 3, "cycle_momentum": True},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 12},
    "ReduceLROnPlateau": {"patience": 1},
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, swa_lr=0.5, anneal_epochs=4),
}


def test_every_scheduler_is_tried():
    there = {
        name
        for name, value in vars(lr_scheduler).items()
        if inspect.isclass(value) and not name.startswith("_") and issubclass(value, lr_scheduler.LRScheduler)
    }
    assert there - {"LRScheduler"} <= SCHEDULERS.keys()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_schedulers(scheduler, tensor_lr):
    params = parameters()
    others = copies(params)
    lr = torch.tensor(0.05, dtype=torch.float64) if tensor_lr else 0.05
    ours = ft.SGD(params, lr=lr, momentum=0.8)
    theirs = torch.optim.SGD(others, lr=copy.copy(0.05), momentum=0.8)
    make = SCHEDULERS[scheduler]
    both = [make(o) if callable(make) else getattr(lr_scheduler, scheduler)(o, **make) for o in (ours, theirs)]
    for i in range(10):
        steps(ours, theirs, params, others, 1, begin=i)
        for each in both:
            each.step(*([1.0] if scheduler == "ReduceLROnPlateau" else []))
    assert float(ours.param_groups[0]["lr"]) == pytest.approx(float(theirs.param_groups[0]["lr"]), rel=1e-12)


def test_hyperparameters_are_read_at_every_step():
    params = parameters()
    others = copies(params)
    ours, theirs = ft.Adam(params), torch.optim.Adam(others)
    rate = torch.tensor(0.3, dtype=torch.float64)
    changes = [("lr", 0.1), ("betas", (0.5, 0.6)), ("eps", 1e-3), ("weight_decay", 0.1), ("maximize", True),
               ("decoupled_weight_decay", True), ("amsgrad", False), ("lr", rate)]  # fmt: skip
    for i, (name, value) in enumerate(changes):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0][name] = value
        steps(ours, theirs, params, others, 2, begin=2 * i)
    for optimizer in (ours, theirs):
        optimizer.param_groups[0]["lr"].fill_(0.01)
    steps(ours, theirs, params, others, 2, begin=40)


def test_momentum_from_a_later_step_on():
    params = parameters()
    others = copies(params)
    ours, theirs = ft.SGD(params, lr=0.1), torch.optim.SGD(others, lr=0.1)
    for i, momentum in enumerate((0.0, 0.9, 0.0, 0.9)):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["momentum"] = momentum
            optimizer.param_groups[0]["dampening"] = 0.5 * (momentum > 0)
        steps(ours, theirs, params, others, 3, begin=3 * i)


def test_groups_added_changed_and_taken_away():
    params, more = parameters(), parameters(seed=1)
    others, more_others = copies(params), copies(more)
    ours, theirs = ft.AdamW(params, lr=0.1), torch.optim.AdamW(others, lr=0.1)
    steps(ours, theirs, params, others, 2)
    ours.add_param_group({"params": more, "lr": 0.5, "weight_decay": 0.0})
    theirs.add_param_group({"params": more_others, "lr": 0.5, "weight_decay": 0.0})
    steps(ours, theirs, params + more, others + more_others, 3, begin=2)
    for optimizer in (ours, theirs):  # the last of the first group into the second
        groups = optimizer.param_groups
        groups[1]["params"].insert(0, groups[0]["params"].pop())
    steps(ours, theirs, params + more, others + more_others, 3, begin=5)
    for optimizer in (ours, theirs):
        del optimizer.param_groups[0]
    steps(ours, theirs, params + more, others + more_others, 3, begin=8)


@pytest.mark.parametrize("unscaled", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_grad_scaler(unscaled, clip, backend):
    """Both ways: the scaler's own unscaling, and the step's; one step is left out for an inf."""
    params = parameters(torch.float32)
    others = copies(params)
    ours, theirs = ft.AdamW(params, clip_norm=clip), torch.optim.AdamW(others)
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2) for _ in range(2)]
    for i in range(6):
        loss = torch.ones((), requires_grad=True)
        for scaler in scalers:
            scaler.scale(loss)
        give_gradients(i, params, others)
        for p in params + others:
            p.grad *= scalers[0].get_scale()
        if i == 3:
            params[1].grad[0] = others[1].grad[0] = math.inf
        before = [p.grad.clone() for p in params]
        if unscaled:
            scalers[0].unscale_(ours)
        scalers[1].unscale_(theirs)
        if clip:
            torch.nn.utils.clip_grad_norm_(others, clip)
        for scaler, optimizer in zip(scalers, (ours, theirs), strict=True):
            scaler.step(optimizer)
            scaler.update()
        if not unscaled:
            assert all(torch.equal(p.grad, g) for p, g in zip(params, before, strict=True))
    assert scalers[0].get_scale() == scalers[1].get_scale()
    assert ours.state[params[1]]["step"].item() == theirs.state[others[1]]["step"].item() == 5
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("where", ["constructor", "step"])
def test_clipping_as_clip_grad_norm(where, backend):
    params = parameters()
    others = copies(params)
    ours = ft.Adam(params, clip_norm=0.3 if where == "constructor" else None)
    theirs = torch.optim.Adam(others)
    for i in range(5):
        give_gradients(i, params, others)
        before = [p.grad.clone() for p in params]
        norm = torch.nn.utils.clip_grad_norm_(others, 0.3)
        ours.step(**({} if where == "constructor" else {"clip_norm": 0.3}))
        theirs.step()
        assert ours.grad_norm == pytest.approx(norm.item(), rel=1e-12)
        assert all(torch.equal(p.grad, g) for p, g in zip(params, before, strict=True))
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_nonfinite_gradients(backend):
    params = parameters()
    give_gradients(0, params)
    params[1].grad[2] = math.nan
    before = copies(params)
    optimizer = ft.AdamW(params, on_nonfinite="raise")
    with pytest.raises(FloatingPointError, match="parameters hold inf or NaN: 1 of group 0"):
        optimizer.step()
    with pytest.raises(FloatingPointError, match="parameters hold inf or NaN: 1 of group 0"):
        optimizer.step(clip_norm=1.0)
    assert optimizer.state == {}
    optimizer.on_nonfinite = "skip"
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    optimizer.on_nonfinite = "ignore"
    others = copies(params)
    theirs = torch.optim.AdamW(others)
    for p, q in zip(params, others, strict=True):
        q.grad = p.grad.clone()
    optimizer.step()
    theirs.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert params[1][2].isnan()


def test_averages_of_weights():
    net = torch.nn.Linear(4, 3).double()
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    optimizer, expected = ft.SGD(net.parameters(), lr=0.1), None
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(2, 4, dtype=torch.float64)).sum().backward()
        optimizer.step()
        averaged.update_parameters(net)
        now = net.weight.detach().clone()
        expected = now if expected is None else 0.5 * expected + 0.5 * now
    torch.testing.assert_close(averaged.module.weight, expected)


def test_autograd_sees_that_parameters_were_changed():
    p = torch.nn.Parameter(torch.ones(3))
    loss = (p * p).sum()
    p.grad = torch.ones(3)
    ft.SGD([p]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_profiler_shows_the_step():
    params = parameters()
    optimizer = ft.AdamW(params)
    give_gradients(0, params)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert "Optimizer.step#AdamW.step" in {event.key for event in profile.key_averages()}


def test_classes_are_pytorchs():
    assert issubclass(ft.AdamW, torch.optim.AdamW)
    assert issubclass(ft.LAMB, torch.optim.Optimizer)
    params = inspect.signature(ft.AdamW).parameters
    theirs = inspect.signature(torch.optim.AdamW).parameters
    assert {n: params[n].default for n in theirs} == {n: p.default for n, p in theirs.items()}
    assert {"eps_root", "clip_norm", "on_nonfinite"} <= params.keys()
    assert ft.LAMB.__module__ == "fastopt.torch"


def test_what_pytorch_has_not_equals_fastopts_own():
    import numpy as np

    import fastopt as fo

    for name in ("LAMB", "LARS"):
        params = [p for p in parameters() if p.is_contiguous()]
        arrays = [p.detach().numpy().copy() for p in params]
        ours, plain = getattr(ft, name)(params, weight_decay=0.1), getattr(fo.optim, name)(arrays, weight_decay=0.1)
        for i in range(4):
            give_gradients(i, params)
            ours.step()
            plain.step([p.grad.numpy() for p in params])
        for p, array in zip(params, arrays, strict=True):
            assert np.array_equal(p.detach().numpy(), array), name


def test_within_compiled_code():
    params = parameters(shapes=[(5, 3)])
    others = copies(params)
    ours, theirs = ft.AdamW(params, lr=0.1), torch.optim.AdamW(others, lr=0.1)
    step = torch.compile(lambda: ours.step(), backend="eager")
    for i in range(3):
        give_gradients(i, params, others)
        step()
        theirs.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
