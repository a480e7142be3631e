"""Adafactor: the same bits everywhere, the shapes of its states, resuming, and numbers at the edge."""

import numpy as np
import pytest
from helpers import CONFIGURATIONS, DTYPES, assert_equal_everywhere, bits

import fastopt as fo

# Narrow rows and wide ones, many matrices, no elements, no dimensions.
SHAPES = [(5, 9), (70, 300), (300, 2), (1, 7), (3, 4, 5, 3), (2, 40, 70), (0, 3), (3, 0), (), (9000,)]
# Several chunks of rows, rows longer than a chunk.
LARGE = [(150, 900), (2, 70_000), (30_000, 3), (9, 100, 90), (50_000,)]


def trained(
    shapes, dtype, steps=2, fill=None, step_options=({"clip_value": 0.7}, {"clip_norm_per_tensor": 1.0}), **options
):
    rng = np.random.default_rng(0)
    params = {f"{i}": rng.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
    params = {name: np.asarray(p) for name, p in params.items()}
    opt = fo.optim.Adafactor(params, lr=0.1, **options)
    for t in range(steps):
        grads = {name: np.asarray(rng.standard_normal(p.shape), dtype) for name, p in params.items()}
        if fill is not None:
            for grad in grads.values():
                grad.reshape(-1)[grad.size // 2 :: 11] = fill
        opt.step(grads, grad_scale=0.5, on_nonfinite="ignore", **step_options[t % len(step_options)])
    return [bits(x) for x in (*params.values(), *(s for of in opt.state.values() for s in of.values()))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [{}, {"factored": False, "maximize": True}, {"weight_decay": 0.1, "weight_decay_mode": "l2", "eps": (0.5, 2.0)}],
)
def test_the_same_bits_everywhere(dtype, options):
    assert_equal_everywhere(lambda: trained(SHAPES, dtype, **options))


def test_the_same_bits_on_many_threads():
    assert_equal_everywhere(lambda: trained(LARGE, np.float32, steps=1), "numba")


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e-42, 0.0])
def test_unusual_gradients_give_the_same_bits(fill):
    """What is not finite, and let through; subnormal numbers; rows and columns of zeros."""
    some = CONFIGURATIONS[:2] + CONFIGURATIONS[-1:]
    assert_equal_everywhere(lambda: trained(SHAPES, np.float32, fill=fill, step_options=({},)), configurations=some)


def test_the_states_are_those_of_rows_and_columns(backend):
    params = {"w": np.ones((2, 3, 4)), "b": np.ones(5)}
    opt = fo.optim.Adafactor(params)
    shapes = {name: {key: s.shape for key, s in state.items()} for name, state in opt.state.items()}
    assert shapes == {"w": {"row_var": (2, 3, 1), "col_var": (2, 1, 4)}, "b": {"variance": (5,)}}
    opt = fo.optim.Adafactor(params, factored=False)
    assert {name: list(state) for name, state in opt.state.items()} == {"w": ["variance"], "b": ["variance"]}


def test_a_gradient_of_zeros_moves_nothing(backend):
    params = [np.ones((3, 4), np.float32), np.ones(3)]
    opt = fo.optim.Adafactor(params)
    for _ in range(2):
        opt.step([np.zeros_like(p) for p in params])
    assert all((p == 1).all() for p in params)


def test_a_step_that_would_overflow_changes_nothing(backend):
    """Squares beyond the type; a parameter, in proportion to whose size the steps are."""
    for size, grad in ((1.0, 1e30), (3e38, 1.0)):
        p = np.full((2, 3), size, np.float32)
        opt = fo.optim.Adafactor({"p": p}, lr=1.0, weight_decay=0.0, maximize=True)
        with pytest.raises(FloatingPointError, match="nothing was updated"):
            opt.step({"p": np.full((2, 3), grad, np.float32)})
        assert (p == np.float32(size)).all()
        assert opt.step_count == 0
        assert not opt.state["p"]["row_var"].any()


def test_a_parameter_that_grows_is_watched(backend):
    """It doubles in every step, and is refused before it is inf."""
    p = np.ones((2, 2), np.float32)
    opt = fo.optim.Adafactor({"p": p}, lr=1.0, beta2_decay=0.0, maximize=True)
    for _ in range(127):
        opt.step_count = 0
        opt.step({"p": np.ones_like(p)})
    assert (p == 2.0**127).all()
    opt.step_count = 0
    with pytest.raises(FloatingPointError, match="nothing was updated"):
        opt.step({"p": np.ones_like(p)})
    assert (p == 2.0**127).all()


def test_resuming(backend, tmp_path):
    def fresh():
        params = {"w": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4), "b": np.ones(3)}
        return params, fo.optim.Adafactor(params, lr=lambda t: 0.1 / (t + 1), eps=(None, 1e-2))

    (params, opt), (others, other) = fresh(), fresh()
    rng = np.random.default_rng(0)
    grads = [{n: rng.standard_normal(p.shape).astype(p.dtype) for n, p in params.items()} for _ in range(6)]
    for g in grads[:3]:
        opt.step(g)
    fo.save(tmp_path / "state", opt.state_dict())
    for name, p in params.items():
        others[name][...] = p
    other.load_state_dict(fo.load(tmp_path / "state"))
    for g in grads[3:]:
        opt.step(g)
        other.step(g)
    assert [bits(p) for p in others.values()] == [bits(p) for p in params.values()]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("row_var", np.zeros((3, 4)), r"row_var of 'w' is float64 of shape \(3, 4\),.*shape \(3, 1\)"),
        ("col_var", np.full((1, 4), -1.0), "col_var of 'w' holds a negative number"),
        ("row_var", np.full((3, 1), np.nan), "row_var of 'w' holds inf or NaN"),
    ],
)
def test_a_state_that_does_not_fit(key, value, message):
    opt = fo.optim.Adafactor({"w": np.ones((3, 4))})
    saved = opt.state_dict()
    saved["state"]["w"][key] = value
    with pytest.raises(ValueError, match=message):
        opt.load_state_dict(saved)


def test_one_fit_in_c_and_numpy():
    """A layer's weights are factored, its bias is not; a program's step is the optimizer's."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 2, (40, 1)).astype(np.float32)

    def fingerprint():
        model = fo.nn.Sequential(fo.nn.Linear(5, 70), fo.nn.Tanh(), fo.nn.Linear(70, 1), rng=0)
        opt = fo.optim.Adafactor(model.parameters(), lr=0.1)
        fo.fit(model, x, y, optimizer=opt, epochs=2, batch_size=16, rng=0)
        return model.fingerprint()

    assert_equal_everywhere(fingerprint, configurations=[c for c in CONFIGURATIONS if c[0] == "c"])
