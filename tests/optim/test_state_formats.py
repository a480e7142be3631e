"""States in 16 and 8 bits: the codes are the right ones, of the same bits everywhere, and nothing is half written."""

import re

import numpy as np
import pytest
from helpers import BACKENDS, bits
from variants import C_VARIANTS, VARIANTS, assert_all_agree, misaligned

import fastopt as fo
from fastopt._specification.state_formats import LIMITS, MAPS, SIGNED, UNSIGNED, random_words, to_8bit

FORMATS = ["bfloat16", "8bit"]
# Every optimizer whose rule has a moment, and what makes it have one.
WITH_MOMENTS = {
    "AdaBelief": {}, "Adadelta": {}, "Adagrad": {}, "Adam": {"amsgrad": True}, "AdamW": {}, "AdamWScheduleFree": {},
    "Adamax": {}, "Adan": {}, "LAMB": {}, "LARS": {}, "Lion": {}, "Muon": {}, "NAdam": {}, "RAdam": {},
    "RMSprop": {"momentum": 0.9, "centered": True}, "SGD": {"momentum": 0.9},
}  # fmt: skip


def made(name, seed=1, form="8bit", **options):
    """An optimizer of tensors of all kinds: small, with a part of a block, empty, of several tiles."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 1), (4096, 1), (70, 130)] if name == "Muon" else [(), (3,), (4096,), (9001,), (0,), (41, 100)]
    params = [misaligned(np.asarray(rng.standard_normal(s), np.float32), i) for i, s in enumerate(shapes)]
    return getattr(fo.optim, name)(params, lr=0.01, state_format=form, **WITH_MOMENTS[name], **options), params, rng


def gradients(params, rng, size=0.01):
    return [np.asarray(size * rng.standard_normal(p.shape), np.float32) for p in params]


def states(opt):
    return [np.array(s) for state in opt.state.values() for s in state.values()]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "name", [n if n in ("Adam", "LAMB") else pytest.param(n, marks=pytest.mark.slow) for n in WITH_MOMENTS]
)
def test_all_backends_give_the_same_bits(name, form):
    def steps():
        opt, params, rng = made(name, form=form, state_seed=5)
        for _ in range(2):
            opt.step(gradients(params, rng), clip_norm=1.0)
        return *params, *states(opt)

    everywhere = name in ("Adam", "LAMB", "Muon")
    assert_all_agree(steps, VARIANTS if everywhere else [C_VARIANTS[-1], *VARIANTS[-2:]])


def test_every_optimizer_with_a_moment_takes_the_format():
    from inspect import signature

    taking = {name for name in fo.optim.__all__ if isinstance(getattr(fo.optim, name), type)
              and "state_format" in signature(getattr(fo.optim, name)).parameters}  # fmt: skip
    assert taking == set(WITH_MOMENTS)
    for name in WITH_MOMENTS:
        opt = made(name)[0]
        big = list(opt.state.values())[-1]
        assert any(type(s) is fo.optim.StateArray for s in big.values()), name


def test_bytes_are_what_is_promised():
    w = np.zeros(2**16, np.float32)
    found = [fo.optim.Adam(w, state_format=form).state_nbytes / w.size for form in ("float32", *FORMATS)]
    assert found == [8, 4, 2 + 2 * 4 / 256]
    opt = fo.optim.Adam(w[:4095], state_format="8bit")
    assert opt.state_nbytes == 8 * 4095  # too few for 8 bits
    assert opt.state["0"]["exp_avg"].dtype == np.float32


# ---- codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "kind"), [("exp_avg", SIGNED), ("exp_avg_sq", UNSIGNED)])
def test_codes_of_8_bits_are_the_nearest(key, kind):
    """By a search through all 256 numbers, in blocks of all sizes; one beside the limits of the map too."""
    rng = np.random.default_rng(0)
    numbers = MAPS[kind].astype(np.float64)
    middles = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)
    near = np.concatenate([np.nextafter(middles, np.float32(s)) for s in (-1, 1)])
    x = np.exp(rng.uniform(-18, 0, (40, 256))).astype(np.float32) * rng.choice([-1, 1], (40, 256))
    x[:2, 1:] = near[: 2 * 255].reshape(2, 255)
    x[:, 0] = 1
    x = (x if kind == SIGNED else np.abs(x)) * np.exp2(rng.integers(-80, 80, (40, 1))).astype(np.float32)
    x = x.astype(np.float32).reshape(-1)
    state = fo.optim.Adam(np.zeros(x.size, np.float32), state_format="8bit").state["0"][key]
    state[...] = x
    scales = np.abs(x.reshape(-1, 256)).max(axis=1).repeat(256).astype(np.float64)
    nearest = np.abs(numbers[:, None] - x / scales).min(axis=0)
    assert (np.abs(state.copy() / scales - x / scales) <= nearest * (1 + 1e-6) + 1e-14).all()


@pytest.mark.parametrize(("name", "kind"), [("SGD", SIGNED), ("Adamax", UNSIGNED)])
def test_a_step_stores_the_codes_of_the_specification_up_to_the_limits(name, kind):
    """The numbers around every limit, too, where a set's own arithmetic could be wrong."""
    near = LIMITS[kind].view(np.uint32)[:, None] + np.arange(-25, 26, dtype=np.int32).view(np.uint32)
    near = near.reshape(-1).view(np.float32)
    rng = np.random.default_rng(0)
    x = np.concatenate([near[(near > 0) & (near <= 1)], np.exp(rng.uniform(-20, 0, 2000)).astype(np.float32)])
    x = np.insert(x[: x.size // 255 * 255].reshape(-1, 255), 0, 1, axis=1)
    x = (x if name == "Adamax" else x * rng.choice([-1, 1], x.shape)).astype(np.float32).reshape(-1)
    options = {"momentum": 0.5} if name == "SGD" else {"eps": 1e-30}

    def codes():
        opt = getattr(fo.optim, name)(np.zeros_like(x), lr=0.0, state_format="8bit", **options)
        opt.step(x)
        saved = opt.state_dict()["state"]["0"]
        return (saved["momentum_buffer" if name == "SGD" else "exp_inf"]["codes"],)

    assert_all_agree(codes, VARIANTS)
    assert codes()[0].tobytes() == to_8bit(x, kind)[0].tobytes()


def test_random_bits_of_neighbours_streams_and_steps_are_independent():
    """Of every bit, of pairs at all distances to 40, of both halves, and of two steps: within 5 standard errors."""
    size = 1 << 16
    words = [random_words(7, draw, 2**32 - 1000, size) for draw in (4, 5, 8)]
    signs = [1.0 - 2.0 * (w[:, None] >> np.arange(32, dtype=np.uint32) & 1) for w in words]  # of every bit
    found = [s.mean(axis=0) for s in signs]
    found += [(signs[0][distance:] * signs[0][:-distance]).mean(axis=0) for distance in range(1, 41)]
    found += [(signs[0][:, :16] * signs[0][:, 16:]).mean(axis=0)]
    found += [(signs[0] * other).mean(axis=0) for other in signs[1:]]
    assert np.abs(np.concatenate(found)).max() < 5 / np.sqrt(size - 40)
    below = [(w >> 16 < 0.1 * 2**16) - 0.1 for w in words]
    for a, b in ((below[0][1:], below[0][:-1]), (below[0], below[1]), (below[0], below[2])):
        assert abs((a * b).mean()) < 5 * 0.09 / np.sqrt(size - 1)


def test_the_map_is_that_of_the_literature():
    """As bitsandbytes makes it (create_dynamic_map), but in double."""
    for kind in (SIGNED, UNSIGNED):
        found = [0.0, 1.0]
        for i in range(7):
            edges = np.linspace(0.1, 1, 2 ** (i + (kind == UNSIGNED)) + 1)
            means = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
            found += [*means, *(-means if kind == SIGNED else [])]
        np.testing.assert_allclose(MAPS[kind], np.sort(found), rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stochastic_rounding_is_unbiased(backend):
    """The mean of 10**5 roundings of a number lies within four standard errors of it."""
    fo.set_backend(backend)
    for value in (0.1, -3.0001, 1e-20):
        w = np.zeros(10**5, np.float32)
        opt = fo.optim.SGD(w, lr=0.0, momentum=0.5, state_format="bfloat16", state_seed=3)
        opt.step(np.full(w.shape, value, np.float32))
        given = float(np.float32(value))
        rounded = opt.state["0"]["momentum_buffer"].copy().astype(np.float64)
        found = np.unique(rounded)
        assert len(found) == 2
        assert found[0] <= given <= found[1]
        step, p = found[1] - found[0], (given - found[0]) / (found[1] - found[0])
        assert abs(rounded.mean() - given) < 4 * step * np.sqrt(p * (1 - p) / w.size) + step * 2**-16
        again = fo.optim.SGD(w, lr=0.0, momentum=0.5, state_format="bfloat16", state_seed=4)
        again.step(np.full(w.shape, value, np.float32))
        assert (again.state["0"]["momentum_buffer"].copy() != rounded).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_bits_are_those_of_a_tensors_own_steps(backend):
    """One that missed steps goes on as it would have then."""
    fo.set_backend(backend)
    ends = []
    for missed in (0, 3):
        opt, params, rng = made("AdamW", form="bfloat16")
        for i in range(missed):
            opt.step([np.full_like(params[0], i), *[None] * (len(params) - 1)])
        rng = np.random.default_rng(0)
        for _ in range(3):
            grads = gradients(params, rng)
            opt.step([None if missed else grads[0], *grads[1:]])
        ends.append([*params[1:], *states(opt)[2:]])
    assert all(np.array_equal(bits(one), bits(other)) for one, other in zip(*ends, strict=True))


def test_rounding_to_nearest_is_ties_to_even():
    w = np.zeros(4, np.float32)
    opt = fo.optim.SGD(w, momentum=0.5, state_format="bfloat16", state_rounding="nearest")
    opt.step(np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9], np.float32))
    assert opt.state["0"]["momentum_buffer"].copy().tolist() == [1, 1 + 2**-6, 1 + 2**-7, -1]


@pytest.mark.parametrize("form", FORMATS)
def test_a_tensor_cut_in_two_gives_the_same_bits(form):
    rng = np.random.default_rng(0)
    whole = rng.standard_normal(2 * 4096 + 300).astype(np.float32)
    cut = whole.copy()
    one = fo.optim.Adam([whole], state_format=form)
    two = fo.optim.Adam([cut[:4096], cut[4096:]], state_format=form)
    for _ in range(3):
        g = rng.standard_normal(whole.size).astype(np.float32)
        one.step([g])
        two.step([g[:4096], g[4096:]])
    assert bits(whole) == bits(cut)
    for key, state in one.state["0"].items():
        assert bits(state.copy()) == bits(np.concatenate([two.state[i][key].copy() for i in "01"]))


def test_numbers_at_the_ends_of_float32():
    """What is finite stays finite, a block of zeros is one, and what was let through makes its block NaN."""
    huge = np.full(4096, 3.4e38, np.float32)
    huge[256:512] = 0
    huge[512:] = 2.0**-126
    for backend in BACKENDS:
        fo.set_backend(backend)
        for form in FORMATS:
            w = np.zeros(4096, np.float32)
            opt = fo.optim.SGD(w, lr=0.0, momentum=0.5, state_format=form)
            opt.step(huge)
            now = opt.state["0"]["momentum_buffer"].copy()
            assert np.isfinite(now).all()
            np.testing.assert_allclose(now, huge, rtol=0.01)
            opt.step(np.where(np.arange(4096) == 300, np.float32(np.nan), np.float32(0)), on_nonfinite="ignore")
            is_nan = np.isnan(opt.state["0"]["momentum_buffer"].copy())
            assert np.flatnonzero(is_nan).tolist() == ([300] if form == "bfloat16" else list(range(256, 512)))


# ---- as arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_state_is_read_and_written_as_an_array(form):
    w = np.zeros((64, 100), np.float32)
    opt = fo.optim.Adam({"w": w}, state_format=form)
    m, v = opt.state["w"]["exp_avg"], opt.state["w"]["exp_avg_sq"]
    assert (m.shape, m.dtype, m.size, len(m)) == ((64, 100), np.float32, 6400, 64)
    x = np.random.default_rng(0).standard_normal(w.shape).astype(np.float32)
    m[...] = x
    np.testing.assert_allclose(m, x, atol=0.02 * np.abs(x).max())
    once = m.copy()
    m[...] = m
    m[0, 0] = m[0, 0]
    assert bits(m.copy()) == bits(once)  # what does not change keeps its code
    m[3] = 0.5
    np.testing.assert_allclose(m[3], 0.5, atol=0.03)
    assert bits(m.copy()[30:]) == bits(once[30:])
    m *= 2
    np.testing.assert_allclose(m[30:], 2 * once[30:], rtol=0.02, atol=0.02)
    assert type(m + 1) is np.ndarray
    assert m.max() == m.copy().max()
    with pytest.raises(ValueError, match="read-only"):
        m[3][...] = 1.0
    before = bits(m.copy()), bits(v.copy())
    for state, values, wrong in ((m, np.nan, "inf or NaN"), (v, -1.0, "negative")):
        with pytest.raises(ValueError, match=wrong):
            state[...] = values
    with pytest.raises(ValueError, match="broadcast"):
        m[...] = np.zeros(7)
    assert (bits(m.copy()), bits(v.copy())) == before


def test_parameters_of_float64_are_refused():
    with pytest.raises(ValueError, match=re.escape("state_format='8bit' is for parameters of float32")):
        fo.optim.Adam({"w": np.zeros(3)}, state_format="8bit")
    for wrong in ("float16", None, 8):
        with pytest.raises((TypeError, ValueError), match="state_format"):
            fo.optim.Adam(np.zeros(3, np.float32), state_format=wrong)
    opt = fo.optim.Adam(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="state_format cannot become"):
        opt.groups[0]["state_format"] = "8bit"


# ---- nothing half written --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_step_that_is_refused_or_skipped_leaves_codes_and_scales(form, backend):
    fo.set_backend(backend)
    opt, params, rng = made("LAMB", form=form)
    opt.step(gradients(params, rng))
    before = [bits(x) for x in (*params, *states(opt))], opt.step_count
    grads = gradients(params, rng)
    grads[-1][-1, -1] = np.nan
    with pytest.raises(FloatingPointError, match="'5'"):
        opt.step(grads)
    opt.step(grads, on_nonfinite="skip")
    grads[-1][-1, -1] = 3e38
    with pytest.raises(FloatingPointError, match="so large"):
        opt.step(grads)
    assert ([bits(x) for x in (*params, *states(opt))], opt.step_count) == before


@pytest.mark.parametrize("form", FORMATS)
def test_resuming_from_a_file_is_never_having_stopped(form, tmp_path):
    opt, params, rng = made("AdamW", form=form)
    opt.step(gradients(params, rng))
    fo.save(tmp_path / "state", {"opt": opt.state_dict()})
    plain = made("AdamW", form="float32")[0]
    fo.save(tmp_path / "plain", plain.state_dict())
    assert (tmp_path / "state").stat().st_size < 0.7 * (tmp_path / "plain").stat().st_size
    other, others, _ = made("AdamW", form=form)
    for p, q in zip(params, others, strict=True):
        q[...] = p
    other.load_state_dict(fo.load(tmp_path / "state")["opt"])
    for _ in range(2):
        grads = gradients(params, rng)
        opt.step(grads)
        other.step(grads)
    assert [bits(x) for x in (*params, *states(opt))] == [bits(x) for x in (*others, *states(other))]


@pytest.mark.parametrize("to", ["float32", *FORMATS])
@pytest.mark.parametrize("of", ["float32", *FORMATS])
def test_a_state_of_one_format_loads_into_another(of, to):
    opt, params, rng = made("Adam", form=of)
    opt.step(gradients(params, rng))
    other = made("Adam", form=to)[0]
    other.load_state_dict(opt.state_dict())
    assert other.groups[0]["state_format"] == to
    for a, b in zip(states(opt), states(other), strict=True):
        np.testing.assert_allclose(b, a, rtol=0.01, atol=0.02 * np.abs(a).max(initial=0))


def test_a_damaged_state_is_refused():
    opt, params, rng = made("Adam")
    opt.step(gradients(params, rng))
    before = [bits(x) for x in states(opt)]

    def saved(**changes):
        good = opt.state_dict()
        good["state"]["2"]["exp_avg"].update(changes)
        return good

    for changes, wrong in (
        ({"scales": np.full(16, np.nan, np.float32)}, "scales of exp_avg of '2' hold"),
        ({"scales": np.zeros(17, np.float32)}, "should be float32 of (16,)"),
        ({"codes": np.zeros(4096, np.int8)}, "should be uint8"),
        ({"codes": np.zeros((2, 2048), np.uint8)}, "should be uint8"),
        ({"format": "4bit"}, "'4bit'"),
        ({"format": None}, "None"),
        ({"format": "bfloat16"}, "no state of fewer bytes"),
        ({"more": 1}, "no state of fewer bytes"),
    ):
        with pytest.raises(ValueError, match=re.escape(wrong)):
            opt.load_state_dict(saved(**changes))
    bad = made("Adam", form="bfloat16")[0]
    nan = bad.state_dict()
    nan["state"]["2"]["exp_avg"]["codes"][7] = 0x7F80
    with pytest.raises(ValueError, match="holds inf or NaN"):
        bad.load_state_dict(nan)
    nan["state"]["2"]["exp_avg"]["codes"][7] = 0
    nan["state"]["2"]["exp_avg_sq"]["codes"][7] = 0x8080
    with pytest.raises(ValueError, match="holds a negative number"):
        bad.load_state_dict(nan)
    assert [bits(x) for x in states(opt)] == before


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_fit_and_a_training_step_go_on_the_same(form):
    """A step within a program is the same as one of the optimizer's own."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((128, 64)).astype(np.float32), rng.standard_normal((128, 1)).astype(np.float32)
    found = []
    for backend in BACKENDS:
        fo.set_backend(backend)
        model = fo.nn.Sequential(fo.nn.Linear(64, 80, rng=0), fo.nn.Tanh(), fo.nn.Linear(80, 1, rng=1))
        opt = fo.optim.Adam(model.parameters(), state_format=form)
        fo.fit(model, X, y, loss="mse", optimizer=opt, epochs=2, batch_size=32, rng=0)
        found.append([bits(p) for p in model.parameters().values()])
    assert found[0] == found[1] == found[2]


# ---- truth -----------------------------------------------------------------------------------------


# How far 50 steps may lead from those of float32, as a share of the way: measured, and a half more.
DRIFT = {"8bit": 0.03, "bfloat16": 0.007}
OF_BITSANDBYTES = {
    "Adam": {"lr": 1e-3}, "Lion": {"lr": 1e-4, "betas": (0.9, 0.99)}, "RMSprop": {"lr": 1e-2, "alpha": 0.9},
    "SGD": {"lr": 1e-2, "momentum": 0.9},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "columns"), [*((name, 32) for name in OF_BITSANDBYTES), ("Adam", 1024), ("Adam", 4097)]
)
@pytest.mark.parametrize("form", FORMATS)
def test_50_steps_beside_float32(form, name, columns):
    """The criteria of bitsandbytes' own tests: after every step, float32 goes on from what the codes stand for.

    Those are met exactly, as a step is computed in float32. Beside a run in float32 of its own, which theirs leave out
    because "the parameters diverge quickly", what bfloat16 does to Adam stays within the same bound for all 50 steps.
    """
    rng = np.random.default_rng(0)
    start = (0.1 * rng.standard_normal((1024, columns), np.float32)).astype(np.float32)
    exact, fewer, apart = start.copy(), start.copy(), start.copy()
    options = OF_BITSANDBYTES[name]
    opt, of_apart = (getattr(fo.optim, name)(x, **options) for x in (exact, apart))
    of_fewer = getattr(fo.optim, name)(fewer, state_format=form, **options)
    for i in range(50):
        g = np.float32(0.01) * rng.standard_normal(start.shape, np.float32)
        for each in (opt, of_fewer, of_apart):
            each.step(g)
        error = np.abs(exact - fewer)
        assert error.mean() < 6e-5
        assert (error / (np.abs(exact) + np.float32(1e-9))).mean() < 6e-4
        for key, state in opt.state["0"].items():
            now = of_fewer.state["0"][key].copy()
            assert (~np.isclose(state, now, atol=3e-3, rtol=1e-3)).sum() < 20
            state[...] = now
        exact[...] = fewer
        if i % 10 == 9:
            saved = of_fewer.state_dict()
            of_fewer = getattr(fo.optim, name)(fewer, state_format=form, **options)
            of_fewer.load_state_dict(saved)
    drift = np.abs(fewer - apart).mean()
    assert drift < DRIFT[form] * np.abs(apart - start).mean()
    if (form, name) == ("bfloat16", "Adam"):
        assert drift < 6e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "hidden", "epochs", "seeds"), [("digits", 256, 6, 5), ("breast cancer", 256, 6, 5), ("digits", 1400, 4, 3)]
)
def test_training_reaches_the_same_accuracy(data, hidden, epochs, seeds):
    """Within the spread of the seeds; the last network has 2 million parameters."""
    from sklearn.datasets import load_breast_cancer

    from fastopt.examples import state_formats

    loaded = state_formats.load()
    if data == "breast cancer":
        X, y = load_breast_cancer(return_X_y=True)
        X = fo.Standardizer().fit_transform(X.astype(np.float32))
        loaded = X[::2], y[::2], X[1::2], y[1::2]
    found = {
        form: [state_formats.train(form, loaded, hidden, epochs, seed).accuracy for seed in range(seeds)]
        for form in state_formats.FORMATS
    }
    spread = max(found["float32"]) - min(found["float32"])
    for form in FORMATS:
        assert np.mean(found[form]) > np.mean(found["float32"]) - spread / 2 - 1e-3, found
