"""The tensors: which are refused, whatever strides they have, and what happens to them behind the optimizer's back."""

import gc
import sys
import weakref

import pytest
from beside import copies, ft, give_gradients, parameters, steps, torch
from raising import raising_at
from together import in_threads

import fastopt as fo


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: torch.zeros(3, dtype=torch.float16), TypeError, r"parameter 0 of group 0 is torch\.float16"),
        (lambda: torch.zeros(3, dtype=torch.complex64), TypeError, r"complex, torch\.complex64"),
        (lambda: torch.eye(3).to_sparse(), TypeError, "sparse"),
        (lambda: torch.zeros(3, device="meta"), ValueError, "device meta"),
        (lambda: torch.zeros(1).expand(3), ValueError, "expanded"),
    ],
)
def test_what_cannot_be_updated_is_refused_at_once(make, error, message):
    with pytest.raises(error, match=message):
        ft.AdamW([make().requires_grad_()])
    optimizer = ft.AdamW(parameters())
    with pytest.raises(error, match=message.replace("group 0", "group 1")):
        optimizer.add_param_group({"params": [make().requires_grad_()]})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(error, match="parameter wrong is" if "group" in message else message):
        ft.AdamW([("wrong", make().requires_grad_())])


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("AdamW", {"differentiable": True}, ValueError, "differentiable"),
        ("AdamW", {"weight_decay_mode": "direction"}, ValueError, "weight_decay_mode"),
        ("AdamW", {"eps_root": -1.0}, ValueError, "eps_root"),
        ("AdamW", {"on_nonfinite": "warn"}, ValueError, "on_nonfinite"),
        ("AdamW", {"clip_norm": 0.0}, ValueError, "clip_norm"),
        ("AdamW", {"beta1": 0.9}, TypeError, "beta1"),
        ("LAMB", {"lr": -1.0}, ValueError, "lr"),
        ("LAMB", {"lr": lambda step: 0.1}, TypeError, "lr_scheduler"),
        ("LAMB", {"rho": 1}, TypeError, "rho"),
        ("SGD", {"nesterov": True}, ValueError, "(?i)nesterov"),
    ],
)
def test_options_that_are_refused(name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(ft, name)(parameters(), **options)


def test_sparse_gradients_are_refused():
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    before = embedding.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"AdamW of fastopt\.torch does not support sparse gradients"):
        ft.AdamW(embedding.parameters()).step()
    assert torch.equal(embedding.weight, before)


def test_parameters_that_share_memory_are_refused():
    memory = torch.zeros(10)
    params = [torch.nn.Parameter(memory[:6]), torch.nn.Parameter(memory[4:])]
    optimizer = ft.SGD(params)
    give_gradients(0, params)
    with pytest.raises(ValueError, match="parameter 0 of group 0 and parameter 1 of group 0 share memory"):
        optimizer.step()
    assert not memory.any()


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop"])
def test_any_strides(name, backend):
    """In place, whatever the strides of parameters and of gradients, which need not be the same."""
    base = torch.randn(4, 6, 5, 3, dtype=torch.float64)
    makers = [
        lambda x: x,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.permute(3, 1, 0, 2),
        lambda x: x[::2, 1::2],
        lambda x: x[1:, :, :, 1],
        lambda x: x.flatten()[3:10],
    ]
    params = [torch.nn.Parameter(make(base.clone())) for make in makers]
    others = copies(params)
    strides, places = [p.stride() for p in params], [p.data_ptr() for p in params]
    ours, theirs = getattr(ft, name)(params, lr=0.1), getattr(torch.optim, name)(others, lr=0.1)
    for i in range(6):
        give_gradients(i, params, others)
        if i % 2:
            for p in params:
                p.grad = p.grad.mT.contiguous().mT if p.dim() > 1 else p.grad
        ours.step()
        theirs.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert strides == [p.stride() for p in params]
    assert places == [p.data_ptr() for p in params]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: setattr(p, "data", p.data.clone()),
        lambda p: setattr(p, "data", p.data.mT.contiguous().mT),
        lambda p: p.data.set_(p.data.clone()),
        lambda p: p.data.resize_(3, 3).copy_(torch.ones(3, 3)),
        lambda p: setattr(p, "data", p.data[:2]),
        lambda p: setattr(p, "data", p.data.float()),
        lambda p: setattr(p, "data", p.data.mT),
        lambda p: torch.utils.swap_tensors(p, torch.nn.Parameter(p.detach().clone() + 1)),
    ],
)
def test_parameters_changed_behind_its_back(change, backend):
    """What was bound is noticed to be another, as PyTorch's step would work on what is there now."""
    start = torch.arange(9, dtype=torch.float64).reshape(3, 3)
    params, others = [torch.nn.Parameter(start.clone())], [torch.nn.Parameter(start.clone())]
    ours, theirs = ft.SGD(params, lr=0.1), torch.optim.SGD(others, lr=0.1)
    steps(ours, theirs, params, others, 2)
    for p in (*params, *others):
        p.grad = None
        change(p)
    steps(ours, theirs, params, others, 2, begin=2, within=1e-6)
    assert params[0].shape == others[0].shape


def test_state_follows_parameters_of_another_type(backend):
    """``net.double()`` after the first step, as PyTorch's own optimizer cannot."""
    net = torch.nn.Linear(3, 2)
    optimizer = ft.AdamW(net.parameters())
    give_gradients(0, list(net.parameters()))
    optimizer.step()
    net.double()
    give_gradients(1, list(net.parameters()))
    optimizer.step()
    assert optimizer.state[net.weight]["exp_avg"].dtype == torch.float64


def test_gradients_of_other_kinds(backend):
    """A leaf's, a parameter, a view, without gaps or with, of no gradient's memory that stays."""
    params = parameters()
    others = copies(params)
    ours, theirs = ft.AdamW(params), torch.optim.AdamW(others)
    kinds = [lambda g: torch.nn.Parameter(g), lambda g: torch.stack([g, g], -1)[..., 0], lambda g: g[None][0],
             lambda g: torch._efficientzerotensor(g.shape, dtype=g.dtype), lambda g: torch._neg_view(g)]  # fmt: skip
    for i, kind in enumerate(kinds * 2):
        give_gradients(i, params, others)
        for p in (*params, *others):
            p.grad = kind(p.grad)
        ours.step()
        theirs.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_gradients_are_not_kept_alive(backend):
    params = parameters()
    optimizer = ft.AdamW(params)
    give_gradients(0, params)
    grads = [weakref.ref(p.grad) for p in params]
    optimizer.step()
    optimizer.zero_grad()
    gc.collect()
    assert not any(grad() is not None for grad in grads)


def test_backends_and_threads_give_the_same_bits(backend):
    def run():
        params = parameters(torch.float32, [(300, 400), (7,)])
        optimizer = ft.AdamW(params, clip_norm=0.5)
        for i in range(3):
            give_gradients(i, params)
            optimizer.step()
        return params

    mine = run()
    fo.set_backend("numpy")
    assert all(torch.equal(p, q) for p, q in zip(mine, run(), strict=True))


def test_two_threads_step_one_after_the_other():
    params = parameters()
    others = copies(params)
    optimizer, theirs = ft.SGD(params, lr=0.01), torch.optim.SGD(others, lr=0.01)
    give_gradients(0, params, others)
    in_threads(*[lambda: [optimizer.step() for _ in range(200)]] * 2)
    for _ in range(400):
        theirs.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("name", "begun"), [("AdamW", 0), ("AdamW", 2), ("NAdam", 1), ("SGD", 1)])
def test_raising_at_any_moment(name, begun, backend):
    """Whatever is raised when, in a step: all of it is done, or nothing, and the next ones go on from there."""
    options = {"lr": 0.1, **({"momentum": 0.9} if name == "SGD" else {})}
    seen, k, every = set(), 1, {"c": 13, "numba": 211, "numpy": 211}[backend]
    while True:
        params = parameters(shapes=[(5, 3)])
        others = copies(params)
        ours, theirs = getattr(ft, name)(params, **options), getattr(torch.optim, name)(others, **options)
        steps(ours, theirs, params, others, begun)
        give_gradients(begun, params, others)
        start = params[0].detach().clone()
        _, raised = raising_at(k, ours.step)
        done = not torch.equal(params[0], start)
        seen.add((raised, done))
        if done:
            theirs.step()
        steps(ours, theirs, params, others, 2, begin=begun)
        if not raised:
            break
        k += every
    assert (False, True) in seen
    assert backend != "c" or (True, False) in seen


def test_a_thousand_tensors():
    params = [torch.nn.Parameter(torch.randn(3)) for _ in range(1000)]
    others = copies(params)
    steps(ft.AdamW(params), torch.optim.AdamW(others), params, others, 3, within=1e-5)


def test_the_core_looks_at_tensors_itself():
    """With PyTorch of this version the fast way is taken."""
    from fastopt.torch._interface import INTERFACE

    assert (INTERFACE is not None) == fo.get_backend().startswith("c")
    assert INTERFACE is None or sys.platform == "win32" or INTERFACE.change  # and tells autograd what it has changed


def test_without_that_way(monkeypatch):
    """Of a PyTorch whose interface is another: the looks are Python's, the results the same."""
    monkeypatch.setattr("fastopt.torch._plans.INTERFACE", None)
    params = parameters()
    others = copies(params)
    ours, theirs = ft.NAdam(params), torch.optim.NAdam(others)
    steps(ours, theirs, params, others, 3)
    assert type(ours._binding.plan).__name__ == "Portable"
    for p in (params[1], others[1]):
        p.data = p.data.clone()
    steps(ours, theirs, params, others, 3, begin=3)


def test_autograd_knows_what_was_changed(backend):
    """As what a backward pass still needs is refused then; parameters made in inference mode know of no versions."""
    gaps = torch.nn.Parameter(torch.ones(4, 6)[:, ::2])
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3)), gaps]
    optimizer = ft.SGD(params, lr=0.1)
    for p in (params[0], gaps):
        p.grad = torch.ones_like(p)
    loss, before = (params[0] ** 3).sum(), [p._version for p in params]
    optimizer.step()
    now = [p._version for p in params]
    assert [after > first for after, first in zip(now, before, strict=True)] == [True, False, True]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with torch.inference_mode():
        fixed = torch.ones(3)
        fixed.grad = torch.ones(3)
        ft.SGD([fixed], lr=0.1).step()
    torch.testing.assert_close(fixed, torch.full((3,), 0.9))
