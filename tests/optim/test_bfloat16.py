"""Parameters and gradients of bfloat16: updated in float32, rounded as they are to be, to the same bits everywhere."""

import re

import numpy as np
import pytest
from helpers import BACKENDS, HAVE_C, OPTIMIZERS, ROOT
from variants import C_VARIANTS, VARIANTS, assert_all_agree

import fastopt as fo

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 is a type that ml_dtypes adds to NumPy")
bfloat16 = ml_dtypes.bfloat16
ROUNDINGS = ["stochastic", "kahan", "nearest"]
EVERYWHERE = ("AdamW", "LAMB", "Muon", "Adafactor")


def odd(x, by):
    """A copy in bfloat16 that begins at an odd number of elements behind a cache line."""
    buffer = np.zeros(x.size + 64, bfloat16)
    start = -buffer.__array_interface__["data"][0] % 64 // 2 + by
    copy = buffer[start : start + x.size].reshape(x.shape)
    copy[...] = x
    return copy


def made(name, rounding="stochastic", seed=1, **options):
    """An optimizer of bfloat16 and float32 side by side: small, empty, of several tiles and blocks."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 1), (30, 70), (70, 30)] if name == "Muon" else [(), (3,), (9001,), (0,), (41, 100), (7,)]
    params = [odd(rng.standard_normal(s), 1 + 2 * i) for i, s in enumerate(shapes)]
    params[-1] = params[-1].astype(np.float32)
    return getattr(fo.optim, name)(params, lr=0.01, param_rounding=rounding, **options), params, rng


def gradients(params, rng, dtype=bfloat16):
    return [(0.1 * rng.standard_normal(p.shape)).astype(p.dtype if p.dtype == np.float32 else dtype) for p in params]


def codes(opt, params):
    """All bits of parameters and states."""
    states = [np.array(s).view(np.uint32) for state in opt.state.values() for s in state.values()]
    return [*(p.view(np.uint16) for p in params if p.size), *(s for s in states if s.size)]


def snapshot(opt, params):
    return [x.tobytes() for x in codes(opt, params)], opt.step_count


# ---- the same everywhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", [n if n in EVERYWHERE else pytest.param(n, marks=pytest.mark.slow)
                                  for n in [*OPTIMIZERS, "Muon"]])  # fmt: skip
def test_all_backends_give_the_same_bits(name, rounding):
    def steps():
        opt, params, rng = made(name, rounding, state_seed=5)
        for dtype in (bfloat16, np.float32):
            opt.step(gradients(params, rng, dtype), clip_norm=1.0)
        return codes(opt, params)

    few = [C_VARIANTS[-1], *VARIANTS[-2:]] if HAVE_C else VARIANTS
    assert_all_agree(steps, VARIANTS if name == "AdamW" else few)


def test_a_tensor_cut_in_two_gives_the_same_bits():
    rng = np.random.default_rng(0)
    whole = rng.standard_normal(9000).astype(bfloat16)
    cut = whole.copy()
    one, two = fo.optim.Adam([whole]), fo.optim.Adam([cut[:4111], cut[4111:]])
    for _ in range(3):
        g = rng.standard_normal(9000).astype(bfloat16)
        one.step([g])
        two.step([g[:4111], g[4111:]])
    assert whole.tobytes() == cut.tobytes()


# ---- rounding ------------------------------------------------------------------------------------------------------


def ordinary_and_extreme():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32)
    bits[:2000] = bits[:2000] & 0xFFFF0000 | 0x8000  # ties
    bits[2000:4000] = bits[2000:4000] & 0x807FFFFF  # subnormal
    x = bits.view(np.float32)
    return x[np.isfinite(x)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_to_nearest_is_the_rounding_of_ml_dtypes(backend):
    """Of x = 0 - (-x), but that what would become inf stays finite."""
    fo.set_backend(backend)
    x = ordinary_and_extreme()
    w = np.zeros(x.size, bfloat16)
    fo.optim.SGD(w, lr=1.0, param_rounding="nearest").step(-x)
    largest = np.float32(ml_dtypes.finfo(bfloat16).max)
    expected = np.clip(x.astype(bfloat16).astype(np.float32), -largest, largest).astype(bfloat16)
    assert w.tobytes() == expected.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_stochastic_rounding_is_unbiased(backend):
    """The mean of 10**5 roundings of a number lies within four standard errors of it; each is one of its neighbours."""
    fo.set_backend(backend)
    for value in (0.1, -3.0001, 1e-20, 2.0**-133 + 2.0**-140):
        w = np.zeros(10**5, bfloat16)
        fo.optim.SGD(w, lr=1.0, state_seed=3).step(np.full(w.shape, -value, np.float32))
        rounded, given = w.astype(np.float64), float(np.float32(value))
        low, high = np.unique(rounded)
        assert low < given < high
        p = (given - low) / (high - low)
        assert abs(rounded.mean() - given) < (high - low) * (4 * np.sqrt(p * (1 - p) / w.size) + 2**-16)
        other = np.zeros(10**5, bfloat16)
        fo.optim.SGD(other, lr=1.0, state_seed=4).step(np.full(w.shape, -value, np.float32))
        assert (other != w).any()


def distances(rounding, steps=100):
    """How far a run is from the one in float32, with small steps, in multiples of how far apart numbers are."""
    rng = np.random.default_rng(0)
    w = (1 + rng.random(4096)).astype(bfloat16)  # all 2**-7 apart
    exact = w.astype(np.float32)
    opt, of_exact = (fo.optim.AdamW(x, lr=1e-4, param_rounding=rounding) for x in (w, exact))
    for _ in range(steps):
        g = (1 + 0.1 * rng.standard_normal(w.shape)).astype(bfloat16)
        opt.step(g)
        of_exact.step(g.astype(np.float32))
    compensation = np.array(opt.state["0"].get("kahan_comp", np.zeros(w.shape, np.float32)))
    moved = w.astype(np.float32)
    kept = moved + compensation - exact
    return [float(x) * 2**7 for x in (np.abs(kept).mean(), np.abs(moved - exact).max(), abs((moved - exact).mean()))]


def test_kahan_tracks_the_run_in_float32_and_chance_does_in_the_mean():
    nearest, kahan, stochastic = map(distances, ("nearest", "kahan", "stochastic"))
    assert nearest[0] > 1.2  # every step was lost: lr is a 78th of what numbers are apart by
    assert kahan[0] < 0.02 * nearest[0]
    assert kahan[1] < 0.55  # its bfloat16 are those next to float32's
    assert stochastic[2] < 0.03


def test_a_step_beside_pytorchs():
    """PyTorch keeps moments in bfloat16, too, and rounds to nearest: so parameters agree within one of these."""
    torch = pytest.importorskip("torch", reason="its AdamW is what this is compared with")
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal(5000).astype(np.float32), rng.standard_normal(5000).astype(np.float32)
    w = start.astype(bfloat16)
    theirs = torch.nn.Parameter(torch.tensor(start).bfloat16())
    theirs.grad = torch.tensor(g).bfloat16()
    torch.optim.AdamW([theirs], lr=0.01).step()
    fo.optim.AdamW(w, lr=0.01, param_rounding="nearest").step(g.astype(bfloat16))
    np.testing.assert_allclose(w.astype(np.float32), theirs.detach().float().numpy(), rtol=2**-7, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["float32", "8bit"])
def test_50_steps_beside_float32(form):
    """The criteria of bitsandbytes' own tests for parameters of bfloat16, where float32 goes on from each result."""
    rng = np.random.default_rng(0)
    fewer = (0.1 * rng.standard_normal((1024, 1024), np.float32)).astype(bfloat16)
    exact = fewer.astype(np.float32)
    opt, of_fewer = fo.optim.Adam(exact), fo.optim.Adam(fewer, state_format=form, param_rounding="nearest")
    for _ in range(50):
        g = (np.float32(0.01) * rng.standard_normal(exact.shape, np.float32)).astype(bfloat16)
        opt.step(g.astype(np.float32))
        of_fewer.step(g)
        error = np.abs(exact - fewer.astype(np.float32))
        assert error.mean() <= 1.7e-4
        assert (error / (np.abs(exact) + np.float32(1e-9))).mean() <= 1.6e-3
        for key, state in opt.state["0"].items():
            state[...] = np.asarray(of_fewer.state["0"][key])
        exact[...] = fewer


# ---- what a step promises ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_nothing_finite_becomes_inf(rounding, backend):
    fo.set_backend(backend)
    largest = ml_dtypes.finfo(bfloat16).max
    w = np.full(300, largest, bfloat16)
    opt = fo.optim.SGD(w, lr=1.0, param_rounding=rounding)
    opt.step(np.full(300, -1e36, np.float32))  # beyond the largest bfloat16, not beyond the largest float32
    assert (w == largest).all()
    before = snapshot(opt, [w])
    with pytest.raises(FloatingPointError, match="so large"):
        opt.step(np.full(300, -3e38, np.float32))
    assert snapshot(opt, [w]) == before
    opt.step(np.full(300, -np.inf, bfloat16), on_nonfinite="ignore")
    assert np.isposinf(w.astype(np.float32)).all()
    assert all(np.isfinite(s).all() for s in opt.state["0"].values())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Adafactor"])
def test_a_step_that_is_refused_or_skipped_leaves_everything(name, backend):
    fo.set_backend(backend)
    opt, params, rng = made(name, "kahan")
    opt.step(gradients(params, rng))
    before = snapshot(opt, params)
    for value in (np.nan, -np.inf):
        grads = gradients(params, rng)
        grads[4][40, 99] = value
        with pytest.raises(FloatingPointError, match="'4'"):
            opt.step(grads)
        with pytest.raises(FloatingPointError, match=r"'4'|overflows"):
            opt.step(grads, clip_norm=1.0)
        opt.step(grads, on_nonfinite="skip")
    assert snapshot(opt, params) == before
    assert opt.skipped_steps == 2


@pytest.mark.parametrize("form", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_resuming_from_a_file_is_never_having_stopped(rounding, form, tmp_path):
    opt, params, rng = made("AdamW", rounding, state_format=form)
    opt.step(gradients(params, rng))
    fo.save(tmp_path / "all", {"params": params, "opt": opt.state_dict()})
    saved = fo.load(tmp_path / "all")
    others = saved["params"]
    assert [p.dtype for p in others] == [p.dtype for p in params]
    other = fo.optim.AdamW(others, lr=0.01, param_rounding=rounding, state_format=form)
    other.load_state_dict(saved["opt"])
    for _ in range(2):
        grads = gradients(params, rng)
        opt.step(grads)
        other.step(grads)
    assert snapshot(opt, params) == snapshot(other, others)


def test_what_is_kept_of_a_parameter():
    w, x = np.zeros(100, bfloat16), np.zeros(100, np.float32)
    opt = fo.optim.Adam({"w": w, "x": x}, param_rounding="kahan")
    assert {key: s.dtype for key, s in opt.state["w"].items()} == dict.fromkeys(
        ["exp_avg", "exp_avg_sq", "kahan_comp"], np.dtype(np.float32)
    )
    assert set(opt.state["x"]) == {"exp_avg", "exp_avg_sq"}
    assert opt.state_nbytes == 100 * (8 + 2) + 100 * 8
    assert fo.optim.Adam({"w": w}, state_format="bfloat16").state_nbytes == 400
    opt.state["w"]["kahan_comp"][...] = 2.0**-20
    opt.step({"w": np.zeros(100, bfloat16), "x": np.zeros(100, np.float32)})
    assert (w == bfloat16(2.0**-20)).all()


def test_groups_have_roundings_of_their_own_which_are_fixed():
    a, b = np.ones(3, bfloat16), np.ones(3, bfloat16)
    opt = fo.optim.SGD([{"params": {"a": a}, "param_rounding": "kahan"}, {"params": {"b": b}}], lr=2**-10)
    opt.step({"a": np.ones(3, bfloat16), "b": np.ones(3, np.float32)})
    assert [list(state) for state in opt.state.values()] == [["kahan_comp"], []]
    assert (a == 1).all()
    assert opt.state["a"]["kahan_comp"].copy().tolist() == [-(2.0**-10)] * 3
    with pytest.raises(ValueError, match="param_rounding cannot become 'nearest'"):
        opt.groups[1]["param_rounding"] = "nearest"
    with pytest.raises((TypeError, ValueError), match="param_rounding"):
        fo.optim.SGD(a, param_rounding="up")
    other = fo.optim.SGD([{"params": {"a": a}}, {"params": {"b": b}}], lr=2**-10)
    with pytest.raises(ValueError, match="param_rounding='kahan', the optimizer 'stochastic'"):
        other.load_state_dict(opt.state_dict())


def test_a_number_is_a_gradient_of_one():
    for grad in (1.0, bfloat16(1.0), np.float32(1.0), np.ones((), bfloat16)):
        w = np.ones(1, bfloat16)
        fo.optim.SGD(w, lr=0.5).step(grad)
        assert w.tolist() == [0.5]


def test_parameters_added_later_and_left_out_for_a_while():
    w, v = np.ones(3, bfloat16), np.ones(3, bfloat16)
    opt = fo.optim.SGD({"w": w}, lr=2**-10, param_rounding="kahan")
    opt.step({"w": np.ones(3, bfloat16)})
    opt.add_param_group({"params": {"v": v}, "lr": 0.5})
    opt.step({"w": None, "v": np.ones(3, bfloat16)})
    assert opt.state["w"]["kahan_comp"].copy().tolist() == [-(2.0**-10)] * 3
    assert v.tolist() == [0.5] * 3


def test_schedule_free_exchanges_points_of_bfloat16():
    rng = np.random.default_rng(0)
    w = rng.standard_normal(500).astype(bfloat16)
    opt = fo.optim.AdamWScheduleFree(w, lr=0.1)
    for _ in range(5):
        opt.step(w + bfloat16(1))
    y, z = w.copy(), opt.state["0"]["z"].copy()
    opt.eval()
    expected = y.astype(np.float64) + (1 - 1 / 0.9) * (z - y.astype(np.float64))
    np.testing.assert_allclose(w.astype(np.float64), expected, rtol=2**-8)
    opt.train()
    assert w.tobytes() == y.tobytes()


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_arrays_are_refused(backend):
    fo.set_backend(backend)
    w = np.ones(4, bfloat16)
    opt = fo.optim.SGD({"w": w})
    for grad, wrong in (
        (np.ones(4), "gradient for 'w' is float64, the parameter is bfloat16"),
        (np.ones(4, np.float16), "gradient for 'w' is float16"),
        (np.ones(4, np.uint16), "gradient for 'w' is uint16"),
    ):
        with pytest.raises(TypeError, match=wrong):
            opt.step({"w": grad})
    with pytest.raises(ValueError, match=re.escape("has shape (5,)")):
        opt.step({"w": np.ones(5, bfloat16)})
    with pytest.raises(ValueError, match="overlaps"):
        opt.step({"w": w[:]})
    with pytest.raises(TypeError, match="gradient for 'x' is bfloat16, the parameter is float32"):
        fo.optim.SGD({"x": np.ones(4, np.float32)}).step({"x": np.ones(4, bfloat16)})
    for dtype in (ml_dtypes.float8_e4m3fn, np.uint16, np.dtype(bfloat16).newbyteorder()):
        with pytest.raises(TypeError, match="parameter 'w' must be float32 or float64, not"):
            fo.optim.SGD({"w": np.ones(4, bfloat16).view(np.uint16).astype(np.uint16) if dtype == np.uint16
                          else np.zeros(4, dtype)})  # fmt: skip
    with pytest.raises(ValueError, match="no multiple of 2 bytes"):
        fo.optim.SGD({"w": np.zeros(9, np.uint8)[1:].view(bfloat16)})
    assert w.tolist() == [1] * 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_that_change_behind_ones_back_are_noticed(backend):
    fo.set_backend(backend)
    w, g = np.ones(4, bfloat16), np.ones(4, bfloat16)
    opt = fo.optim.SGD({"w": w}, lr=0.5)
    opt.step({"w": g})
    g.flags.writeable = False
    opt.step({"w": g})
    assert w.tolist() == [0] * 4
    opt.step({"w": np.ones(4, np.float32)})
    opt.step({"w": np.ones((4, 2), bfloat16)[:, 0]})
    assert w.tolist() == [-1] * 4
    w.shape = 2, 2
    with pytest.raises(ValueError, match=re.escape("of shape (4,) when the optimizer was made")):
        opt.step({"w": np.ones((2, 2), bfloat16)})


def test_where_bfloat16_cannot_go_says_so():
    x, layer = np.ones((3, 4), bfloat16), fo.nn.Linear(4, 2)
    for call in (
        lambda: fo.relu(x),
        lambda: layer(x),
        lambda: fo.nn.Linear(4, 2, dtype=bfloat16),
        lambda: fo.matmul(x, x.T),
    ):
        with pytest.raises(TypeError, match="bfloat16"):
            call()


def test_the_guides_example(capsys):
    page = ROOT / "docs" / "optimizers.md"
    if not page.exists():
        pytest.skip("the documentation is in the checkout, not beside an installed package")
    code, printed = re.search(
        r"```py\n(.*?)```\n\n```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    ).groups()
    exec(code, {})
    assert capsys.readouterr().out == printed


def test_gradients_are_clipped_in_place():
    """To the nearest of what the same does in float32; beside others, and as a step does it in passing."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 40)).astype(bfloat16), rng.standard_normal(50).astype(np.float32)
    wide = [x.astype(np.float32), y.copy()]
    assert fo.global_norm([x.T, y]) == pytest.approx(fo.global_norm(wide), rel=1e-12)
    assert fo.clip_grad_norm([x, y], 1.0) == fo.clip_grad_norm(wide, 1.0)
    assert x.tobytes() == wide[0].astype(bfloat16).tobytes()
    assert y.tobytes() == wide[1].tobytes()
    x[3, 4], before = np.inf, y.copy()
    with pytest.raises(FloatingPointError, match="'0'"):
        fo.clip_grad_norm([x, y], 0.5)
    assert y.tobytes() == before.tobytes()
