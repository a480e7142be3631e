"""Parameters of torch.bfloat16: the bits of the optimizers of arrays, and states that stay float32 wherever they go."""

import copy
import pickle

import numpy as np
import pytest
from beside import ft, through_a_file, torch

import fastopt as fo

ROUNDINGS = ["stochastic", "kahan", "nearest"]
SHAPES = [(64, 65), (7, 1), (90, 70)]


def numbers(step):
    rng = np.random.default_rng(step)
    return [torch.tensor(0.1 * rng.standard_normal(shape)).bfloat16() for shape in SHAPES]


def made(name="AdamW", rounding="stochastic", **options):
    params = [torch.nn.Parameter(x) for x in numbers(1000)]
    return getattr(ft, name)(params, lr=0.01, param_rounding=rounding, **options), params


def step(i, *several, without=()):
    for optimizer, params in several:
        for k, (p, grad) in enumerate(zip(params, numbers(i), strict=True)):
            p.grad = None if k in without else grad.clone()
        optimizer.step()


def codes(tensor):
    tensor = tensor.detach()
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def assert_same(one, other):
    """Parameters and states, of the same types."""
    for (p, state), (q, of_other) in zip(one.state.items(), other.state.items(), strict=True):
        assert torch.equal(p, q)
        assert {k: v.dtype for k, v in state.items()} == {k: v.dtype for k, v in of_other.items()}
        assert all(torch.equal(state[key], of_other[key]) for key in state)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", ["AdamW", "SGD", "LAMB", "Muon", "Adafactor", "Rprop"])
def test_the_bits_are_those_of_arrays(name, rounding, backend):
    bfloat16 = pytest.importorskip("ml_dtypes", reason="arrays of bfloat16 are its").bfloat16
    optimizer, params = made(name, rounding, state_seed=5)
    arrays = [codes(p).copy().view(bfloat16) for p in params]
    plain = getattr(fo.optim, name)(arrays, lr=0.01, param_rounding=rounding, state_seed=5)
    group = optimizer.param_groups[0]
    for option in ("weight_decay", "eps"):
        if option in group and option in plain.groups[0]:
            plain.groups[0][option] = group[option]
    for i, without in enumerate([(), (0, 2), ()]):
        step(i, (optimizer, params), without=without)
        plain.step([None if p.grad is None else codes(p.grad).view(bfloat16) for p in params])
    for p, array in zip(params, arrays, strict=True):
        np.testing.assert_array_equal(codes(p), array.view(np.uint16))


@pytest.mark.parametrize("form", ["float32", "8bit"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_copies_and_files_go_on_to_the_bit(rounding, form):
    optimizer, params = made("AdamW", rounding, state_format=form)
    step(0, (optimizer, params))
    loaded, others = made("AdamW", rounding, state_format=form)
    with torch.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    loaded.load_state_dict(through_a_file(optimizer.state_dict()))
    assert_same(optimizer, loaded)
    several = [optimizer, loaded, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    for i in range(1, 3):
        step(i, *((each, each.param_groups[0]["params"]) for each in several))
    for other in several[1:]:
        assert_same(optimizer, other)


def test_pytorchs_states_load_and_are_loaded():
    params = [torch.nn.Parameter(x) for x in numbers(1000)]
    theirs = torch.optim.AdamW(params, lr=0.01)
    step(0, (theirs, params))
    ours, others = made("AdamW", "nearest")
    with torch.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    ours.load_state_dict(through_a_file(theirs.state_dict()))
    step(1, (theirs, params), (ours, others))
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p.float(), q.float(), rtol=2**-7, atol=1e-3)
        assert ours.state[q]["exp_avg"].dtype == torch.float32
    theirs.load_state_dict(ours.state_dict())
    step(2, (theirs, params))


def test_a_group_can_change_its_rounding():
    optimizer, params = made("SGD", "kahan")
    step(0, (optimizer, params))
    assert optimizer.state[params[0]]["kahan_comp"].dtype == torch.bfloat16
    optimizer.param_groups[0]["param_rounding"] = "nearest"
    step(1, (optimizer, params))
    assert "kahan_comp" not in optimizer.state[params[0]]
    optimizer.param_groups[0]["param_rounding"] = "up"
    before = [codes(p).copy() for p in params]
    with pytest.raises(ValueError, match="param_rounding must be one of"):
        step(2, (optimizer, params))
    for p, code in zip(params, before, strict=True):
        np.testing.assert_array_equal(codes(p), code)


def test_tensors_that_lie_otherwise_and_steps_that_are_refused(backend):
    dense = torch.nn.Parameter(torch.ones(30, 40).bfloat16())
    other = torch.nn.Parameter(torch.ones(40, 30).bfloat16().t())
    gaps = torch.nn.Parameter(torch.ones(60, 80).bfloat16()[::2, ::2])
    optimizer = ft.AdamW([dense, other, gaps], lr=0.01, param_rounding="kahan", on_nonfinite="raise")
    grad = torch.randn(30, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    for _ in range(3):
        dense.grad, other.grad, gaps.grad = grad.clone(), grad.clone(), grad.t().clone().t()
        optimizer.step(clip_norm=1.0)
        assert torch.equal(dense, other)
        assert torch.equal(dense, gaps)
    dense.grad[3, 4] = torch.nan
    before = dense.detach().clone()
    with pytest.raises(FloatingPointError, match="hold inf or NaN: 0 of group 0;"):
        optimizer.step()
    assert torch.equal(dense, before)


def test_a_network_of_bfloat16_learns():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)).bfloat16()
    X = torch.randn(64, 8).bfloat16()
    y = torch.tanh(X[:, :1] - X[:, 1:2])
    optimizer = ft.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.mse_loss(model(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="this PyTorch gives gradients the parameter's type")
def test_gradients_of_float32_are_rounded():
    of_float32, of_bfloat16 = (torch.nn.Parameter(torch.ones(500).bfloat16()) for _ in range(2))
    of_float32.grad_dtype = torch.float32
    of_float32.grad = torch.linspace(-1, 1, 500)
    of_bfloat16.grad = of_float32.grad.bfloat16()
    for param in (of_float32, of_bfloat16):
        ft.SGD([param], lr=0.1).step()
    assert torch.equal(of_float32, of_bfloat16)
