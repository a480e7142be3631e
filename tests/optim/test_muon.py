"""Muon: the same bits everywhere, its groups, and what it refuses."""

import numpy as np
import pytest
from helpers import DTYPES, assert_equal_everywhere, bits

import fastopt as fo
from fastopt.optim.muon import diverges

SHAPES = [(5, 9), (8, 3), (4, 4), (0, 3), (1, 7)]


def trained(shapes, dtype, steps=2, **options):
    rng = np.random.default_rng(0)
    params = {f"{i}": rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
    opt = fo.optim.Muon(params, lr=0.1, **options)
    for t in range(steps):
        grads = {name: rng.standard_normal(p.shape).astype(dtype) for name, p in params.items()}
        opt.step(grads, grad_scale=0.5, **({"clip_norm_per_tensor": 1.0} if t else {"clip_value": 0.7}))
    return [bits(x) for x in (*params.values(), *(s for of in opt.state.values() for s in of.values()))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw", "maximize": True}])
def test_the_same_bits_everywhere(dtype, options):
    assert_equal_everywhere(lambda: trained(SHAPES, dtype, **options))


def test_the_same_bits_on_many_threads():
    """Of matrices whose elements and products are shared out."""
    assert_equal_everywhere(lambda: trained([(150, 260), (230, 150)], np.float32, steps=1), "numba")


def test_what_is_no_matrix(backend):
    with pytest.raises(ValueError, match=r"Muon is for matrices, and one of w, b has shape \(2,\): .*muon_groups"):
        fo.optim.Muon({"w": np.ones((2, 2)), "b": np.ones(2)})
    with pytest.raises(ValueError, match="there are no parameters 'v'"):
        fo.optim.muon_groups({"w": np.ones((2, 2))}, names=["v"])


def test_groups():
    """Matrices by Muon; biases, and the matrices that are named, by AdamW, to the bit."""
    rng = np.random.default_rng(0)
    params = {"first": np.ones((3, 2)), "w": np.ones((2, 2)), "b": np.ones(2)}
    plain = {name: params[name].copy() for name in ("first", "b")}
    alone = params["w"].copy()
    groups = fo.optim.muon_groups(params, names=["first"], lr=0.01, weight_decay=0.3, eps=1e-8)
    opt = fo.optim.Muon(groups, lr=0.1)
    adamw = fo.optim.AdamW(plain, lr=0.01, weight_decay=0.3)
    muon = fo.optim.Muon(alone, lr=0.1)
    for _ in range(3):
        grads = {name: rng.standard_normal(p.shape) for name, p in params.items()}
        opt.step(grads)
        adamw.step({name: grads[name] for name in plain})
        muon.step(grads["w"])
    assert {name: bits(params[name]) for name in plain} == {name: bits(p) for name, p in plain.items()}
    assert bits(params["w"]) == bits(alone)
    assert set(opt.state["w"]) == {"momentum_buffer"}
    assert set(opt.state["b"]) == {"exp_avg", "exp_avg_sq"}


def test_every_singular_direction_moves_alike():
    rng = np.random.default_rng(0)
    w = np.zeros((20, 30))
    fo.optim.Muon(w, lr=1.0, weight_decay=0.0).step(rng.standard_normal((20, 30)))
    sizes = np.linalg.svd(w, compute_uv=False)
    assert 0.6 < sizes.min() < sizes.max() < 1.3


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("ns_coefficients", (1.0, 2.0), TypeError),
        ("ns_coefficients", (3.0, 3.0, 3.0), ValueError),
        ("ns_coefficients", (np.inf, 0.0, 0.0), ValueError),
        ("ns_steps", 100, ValueError),
        ("ns_steps", 2.0, TypeError),
        ("adjust_lr_fn", "adamw", ValueError),
        ("use_muon", 1, ValueError),
        ("eps", 0.0, ValueError),
        ("momentum", -0.1, ValueError),
    ],
)
def test_bad_hyperparameters(name, value, error):
    w = np.ones((2, 2))
    with pytest.raises(error, match=name):
        fo.optim.Muon(w, **{name: value})


def test_what_diverges():
    assert not diverges((3.4445, -4.775, 2.0315), 99)
    assert not diverges((2.0, -1.5, 0.5), 99)
    assert not diverges((100.0, 100.0, 100.0), 0)
    assert diverges((1.5, 0.5, 0.5), 20)


def test_resuming(backend):
    def fresh():
        w = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        return w, fo.optim.Muon({"w": w}, lr=lambda t: 0.1 / (t + 1))

    (w, opt), (v, other) = fresh(), fresh()
    grads = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)
    for g in grads[:3]:
        opt.step({"w": g})
    v[...] = w
    other.load_state_dict(opt.state_dict())
    for g in grads[3:]:
        opt.step({"w": g})
        other.step({"w": g})
    assert bits(v) == bits(w)


def test_a_refused_step_changes_nothing(backend):
    w = np.ones((2, 3), np.float32)
    opt = fo.optim.Muon({"w": w}, lr=0.1)
    opt.step({"w": np.ones((2, 3), np.float32)})
    before = bits(w), bits(opt.state["w"]["momentum_buffer"])
    with pytest.raises(FloatingPointError, match="gradients hold inf or NaN: 'w'"):
        opt.step({"w": np.full((2, 3), np.nan, np.float32)})
    with pytest.raises(ValueError, match="gradient for 'w' has shape"):
        opt.step({"w": np.ones((3, 2), np.float32)})
    assert (bits(w), bits(opt.state["w"]["momentum_buffer"])) == before
    assert opt.step_count == 1


def test_numbers_that_are_not_ordinary(backend):
    """They are looked at more closely, in no more than a moment; and the step is the same."""
    rng = np.random.default_rng(0)
    start, grad = rng.standard_normal((30, 80)).astype(np.float32), rng.standard_normal((30, 80)).astype(np.float32)
    expected, w = start.copy(), start.copy()
    fo.optim.Muon(expected, lr=0.1).step(grad)
    opt = fo.optim.Muon(w, lr=0.1)
    opt.step(grad * np.float32(2.0**80))  # no other direction
    np.testing.assert_allclose(w, expected, rtol=1e-4, atol=1e-4)
    w[0, 0] = 3e38
    opt.step(grad)
    assert w[0, 0] == pytest.approx(2.97e38, rel=1e-3)
