"""Norms and clipping apart from a step, and parameter groups."""

import math
import os

import numpy as np
import pytest
from raising import raising_at

import fastopt as fo
from fastopt.optim.bound import BoundStep

CLIP = os.path.join(os.path.dirname(fo.__file__), "optim", "clip")
ENVIRONMENT = os.path.join(os.path.dirname(fo.__file__), "_backends", "_environment")


def arrays(dtype):
    rng = np.random.default_rng(0)
    return {"w": rng.standard_normal((300, 70)).astype(dtype), "b": rng.standard_normal(5).astype(dtype)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_global_norm_against_float64(dtype):
    a = arrays(dtype)
    expected = np.linalg.norm(np.concatenate([x.ravel().astype(np.float64) for x in a.values()]))
    assert fo.global_norm(a) == pytest.approx(expected, rel=1e-14)
    assert fo.global_norm(list(a.values())) == fo.global_norm(a)
    assert fo.global_norm(a["w"].T) == pytest.approx(np.linalg.norm(a["w"].astype(np.float64)), rel=1e-14)
    assert fo.global_norm([]) == 0.0


def test_norms_are_added_one_after_the_other():
    """As Python's `sum` does up to 3.11; from 3.12 on it compensates for rounding."""
    parts = [np.array([10.0**k]) for k in (8, 0, -1, 7, -3, 0.5)] + [np.array([0.1])] * 50
    squares = 0.0
    for part in parts:
        squares += float(part[0] * part[0])
    assert squares != math.fsum(float(part[0] * part[0]) for part in parts)
    assert fo.global_norm(parts) == math.sqrt(squares)
    opt = fo.optim.SGD([np.zeros(1) for _ in parts], lr=1.0)
    opt.step(parts, clip_norm=math.inf)
    assert opt.grad_norm == math.sqrt(squares)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_grad_norm_scales_in_place_only_where_needed(dtype):
    a = arrays(dtype)
    before = {name: x.copy() for name, x in a.items()}
    norm = fo.clip_grad_norm(a, 2.5)
    assert norm == fo.global_norm(before)
    for name, x in a.items():
        np.testing.assert_array_equal(x, before[name] * dtype(2.5 / norm))
    small = {name: x.copy() for name, x in a.items()}
    assert fo.clip_grad_norm(a, 3.0) == pytest.approx(2.5, rel=1e-6)
    for name, x in a.items():
        assert x.tobytes() == small[name].tobytes()


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_clip_grad_norm_refuses_what_is_not_finite_and_changes_nothing(bad):
    a = arrays(np.float32)
    a["b"][3] = bad
    before = a["w"].copy()
    with pytest.raises(FloatingPointError, match="'b'"):
        fo.clip_grad_norm(a, 1.0)
    assert a["w"].tobytes() == before.tobytes()


def test_clip_grad_norm_refuses_bad_input():
    a = arrays(np.float32)
    with pytest.raises(ValueError, match="max_norm must be above 0, not 0"):
        fo.clip_grad_norm(a, 0)
    with pytest.raises(ValueError, match="'w' must be C-contiguous"):
        fo.clip_grad_norm({"w": a["w"].T}, 1.0)
    with pytest.raises(ValueError, match="overlap"):
        fo.clip_grad_norm([a["w"][:3], a["w"][2:]], 1.0)
    with pytest.raises(TypeError, match="'w' must be float32 or float64, not int64"):
        fo.clip_grad_norm({"w": np.arange(3)}, 1.0)
    with pytest.raises(TypeError, match="not list"):
        fo.global_norm({"w": [1.0]})


def test_the_same_norm_on_every_backend_and_thread_count(backend):
    a = np.random.default_rng(3).standard_normal(2_200_003).astype(np.float32)
    norms = [fo.global_norm(a)]
    fo.set_num_threads(1)
    norms.append(fo.global_norm(a))
    fo.set_backend("numpy")
    assert norms == [fo.global_norm(a)] * 2


def test_decay_groups_split_off_biases():
    params = {"w": np.ones((2, 2)), "b": np.ones(2), "scale": np.ones(())}
    decayed, others = fo.optim.decay_groups(params, always_adapt=False)
    assert list(decayed["params"]) == ["w"]
    assert list(others["params"]) == ["b", "scale"]
    opt = fo.optim.LAMB([decayed, others], lr=0.1)
    opt.step({name: np.ones_like(p) for name, p in params.items()})
    assert opt.trust_ratios["b"] == 1.0 != opt.trust_ratios["w"]


def test_an_epsilon_is_added_to_the_norm():
    """PyTorch's 1e-6; here one that matters, just above and just below what it changes."""
    g = {"w": np.array([3.0, 0.0]), "b": np.array([4.0])}
    copies = {name: x.copy() for name, x in g.items()}
    assert fo.clip_grad_norm(copies, 5.0, eps=0.5) == 5.0
    np.testing.assert_allclose(copies["w"], g["w"] * (5.0 / 5.5), rtol=1e-15)
    assert fo.clip_grad_norm(g, 5.5, eps=0.5) == 5.0
    assert g["w"][0] == 3.0
    for option, factors in (
        ("clip_norm", (5 / 5.5, 5 / 5.5)),
        ("clip_norm_per_tensor", (1.0, 1.0)),
    ):
        p = {name: np.zeros_like(x) for name, x in g.items()}
        opt = fo.optim.SGD(p, lr=1.0)
        opt.step(g, clip_eps=0.5, **{option: 5.0})
        np.testing.assert_allclose(p["w"], -g["w"] * factors[0], rtol=1e-15)
        np.testing.assert_allclose(p["b"], -g["b"] * factors[1], rtol=1e-15)
        with pytest.raises(ValueError, match="clip_eps must be a finite number in"):
            opt.step(g, clip_norm=1.0, clip_eps=-1.0)
    with pytest.raises(ValueError, match="eps must be a finite number in"):
        fo.clip_grad_norm(g, 5.0, eps=-1.0)


def test_training_takes_the_epsilon():
    X, y = np.ones((4, 2)), np.ones(4)
    for eps in (0.0, 1.0):
        model = fo.nn.Sequential(fo.nn.Linear(2, 1), rng=0)
        opt = fo.optim.SGD(model.parameters(), lr=1.0)
        before = [p.copy() for p in model.parameters().values()]
        fo.fit(model, X, y, optimizer=opt, epochs=1, clip_norm=0.1, clip_eps=eps, progress=False)
        moved = fo.global_norm([p - b for p, b in zip(model.parameters().values(), before, strict=True)])
        assert moved == pytest.approx(opt.grad_norm * 0.1 / (opt.grad_norm + eps), rel=1e-5)
        fo.lr_range_test(model, X, y, optimizer=opt, clip_norm=0.1, clip_eps=eps, steps=3)
    with pytest.raises(ValueError, match="clip_eps"):
        fo.fit(model, X, y, optimizer=opt, epochs=1, clip_eps=-1.0)
    with pytest.raises(ValueError, match="clip_eps"):
        fo.lr_range_test(model, X, y, optimizer=opt, clip_eps=-1.0)


def test_a_class_of_arrays_that_computes_otherwise():
    class Strange(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            return np.ones(2)

    g = np.array([3.0, 4.0])
    assert fo.clip_grad_norm(g.view(Strange), 1.0) == 5.0
    np.testing.assert_allclose(g, [0.6, 0.8], rtol=1e-15)


def test_all_arrays_are_scaled_or_none():
    """Whatever is raised, at whatever instruction."""
    before = [np.array([3.0, 4.0]), np.array([5.0], np.float32), np.ones(3)]
    both = set()
    for count in range(1, 10_000):
        grads = [g.copy() for g in before]
        _, raised = raising_at(count, lambda grads=grads: fo.clip_grad_norm(grads, 1.0), (CLIP, ENVIRONMENT))
        scaled = [not np.array_equal(g, b) for g, b in zip(grads, before, strict=True)]
        assert len(set(scaled)) == 1
        both.add(scaled[0])
        if not raised:
            break
    assert both == {False, True}


@pytest.mark.parametrize("clipping", [{"clip_norm": 0.1}, {"clip_norm_per_tensor": 0.05}], ids=str)
def test_a_bound_step_lets_nan_through_as_a_step_does(clipping, backend):
    """A factor that is NaN is no scalar of the step: by the norm of all it reaches every array, else its own alone."""
    grads = [np.array([1, np.nan, 2], np.float32), np.ones(2, np.float32)]
    bound, plain = ([np.ones(3, np.float32), np.ones(2, np.float32)] for _ in range(2))
    opt, other = fo.optim.Adam(bound, lr=0.1), fo.optim.Adam(plain, lr=0.1)
    assert BoundStep(opt, grads, {**clipping, "on_nonfinite": "ignore"})()
    other.step(grads, on_nonfinite="ignore", **clipping)
    for one, two in zip(bound, plain, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.isnan(bound[1]).all() == ("clip_norm" in clipping)
    assert not BoundStep(opt, grads, {**clipping, "on_nonfinite": "skip"})()
    assert (opt.step_count, opt.skipped_steps) == (1, 1)
