"""Norms and clipping apart from a step, and parameter groups."""

import numpy as np
import pytest

import fastopt as fo


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
