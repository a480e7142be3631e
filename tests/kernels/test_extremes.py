"""Numbers at the edges of their type: what is finite stays finite or the step is refused; what fades away ends at 0."""

import numpy as np
import pytest
from helpers import DTYPES, OPTIMIZERS
from recorded import make

import fastopt as fo

OPTIONS = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    "Adagrad": [{}, {"eps": 0.0, "initial_accumulator_value": 0.1}],
    "RMSprop": [{}, {"centered": True}, {"momentum": 0.9}, {"centered": True, "momentum": 0.9}],
    "Adam": [{}, {"amsgrad": True}, {"amsgrad": "corrected"}, {"eps_hat": True}, {"eps": 0.0, "eps_root": 1e-8}],
    "LARS": [{}, {"denominator": "sum"}, {"trust_clip": True}],
}


def arrays_of(opt):
    return [*opt._params, *(s for state in opt.state.values() for s in state.values())]


def step_or_nothing(opt, grads, **options):
    """Whether the step was done: then all is finite; otherwise nothing has changed."""
    before = [x.tobytes() for x in arrays_of(opt)]
    try:
        opt.step(grads, **options)
    except FloatingPointError:
        assert [x.tobytes() for x in arrays_of(opt)] == before
        return False
    assert all(np.isfinite(x).all() for x in arrays_of(opt)), (type(opt).__name__, grads)
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_from_finite_gradients_and_weights_nothing_becomes_infinite(name, dtype, backend):
    largest = float(np.finfo(dtype).max)
    for options in OPTIONS.get(name, [{}]):
        for decay, weight in ((0.0, 1.0), (0.0, largest), (0.1, largest)):
            for size in (largest**0.3, largest**0.49, largest**0.51, largest):
                opt = make(name, np.full(3, weight, dtype), lr=0.1, weight_decay=decay, **options)
                for g in ([0.0, size, -size], [0.0, 0.0, 0.0], [0.0, -size, 1.0]):
                    step_or_nothing(opt, np.array(g, dtype))
                step_or_nothing(opt, np.array([0.0, size, -size], dtype), clip_norm=largest**0.6)


@pytest.mark.parametrize(
    ("name", "options", "works", "refused"),
    [
        ("SGD", {}, 3e38, None),
        ("SGD", {"lr": 10.0}, 3e37, 4e37),
        ("Adagrad", {}, 1.8e19, 1.9e19),
        ("Adam", {}, 5.8e20, 5.9e20),  # as in PyTorch
        ("Adam", {"amsgrad": True}, 5.8e20, 5.9e20),
        ("NAdam", {}, 5.8e20, 5.9e20),
        ("LAMB", {}, 5.8e20, 5.9e20),
        ("RMSprop", {}, 1.8e20, 1.9e20),
        ("RMSprop", {"centered": True}, 1.8e20, 2e21),
        ("Adadelta", {}, 5.8e19, 5.9e19),
    ],
)
def test_the_largest_gradient_that_works(name, options, works, refused, backend):
    for size, done in ((works, True), (refused, False)):
        if size is not None:
            w = np.ones(2, np.float32)
            opt = make(name, w, **{"lr": 0.01, "weight_decay": 0.0, **options})
            assert step_or_nothing(opt, np.array([size, 1.0], np.float32)) == done
            assert (w[0] != 1) == done  # nor has it got stuck
            opt.step(np.array([refused or np.inf, 1.0], np.float32), on_nonfinite="skip")
            assert opt.skipped_steps == 1


def test_huge_states_and_weights_are_seen_when_they_are_not_the_steps_own(backend):
    w = np.ones(2, np.float32)
    opt = fo.optim.SGD(w, lr=1.0, momentum=0.9)
    opt.step(np.ones(2, np.float32))
    state = opt.state_dict()
    state["state"]["0"]["momentum_buffer"] = np.full(2, 3.4e38, np.float32)
    opt.load_state_dict(state)
    assert not step_or_nothing(opt, np.full(2, 1e38, np.float32))
    assert step_or_nothing(opt, np.full(2, 1e37, np.float32))
    assert not step_or_nothing(opt, np.full(2, 1e37, np.float32))


def test_a_trust_ratio_beyond_float32_does_not_make_nan(backend):
    for name in ("LARS", "LAMB"):
        w, g = np.ones(1000, np.float32), np.zeros(1000, np.float32)
        g[0] = 1e-42
        opt = make(name, w, lr=0.1, weight_decay=0.0)
        opt.step(g)
        assert np.isfinite(w).all()
        assert (w[1:] == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_that_fade_away_end_at_zero(dtype, backend):
    w = np.ones(3, dtype)
    opt = fo.optim.SGD(w, lr=0.1, momentum=0.5)
    opt.step(np.full(3, np.finfo(dtype).smallest_normal * 4))
    for _ in range(3):
        opt.step(np.zeros(3, dtype))
    assert (opt.state["0"]["momentum_buffer"] == 0).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_state_is_ever_subnormal(name, backend):
    for dtype in DTYPES:
        small = np.finfo(dtype).smallest_normal
        for options in OPTIONS.get(name, [{}]):
            opt = make(name, np.ones(4, dtype), lr=0.1, weight_decay=0.0, **options)
            for scale in (1.0, small, small**0.5):
                opt.step(np.array([0, 3, -0.3, 1.5], dtype) * dtype(scale))
                for state in opt.state["0"].values():
                    assert ((state == 0) | (np.abs(state) >= small)).all()
            assert all(np.isfinite(x).all() for x in arrays_of(opt))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_decay_an_infinite_weight_stays_one(name, backend):
    """As in PyTorch: a factor of 0 for what is not asked for is not multiplied with it."""
    if name in ("ASGD", "SGDScheduleFree", "AdamWScheduleFree", "Adafactor"):
        return  # they would have an infinite mean, or measure one
    for options in OPTIONS.get(name, [{}]):
        w = np.array([np.inf, 1.0, -np.inf], np.float32)
        make(name, w, lr=0.1, weight_decay=0.0, **options).step(np.ones(3, np.float32))
        assert w[0] == np.inf
        assert w[2] == -np.inf
        assert np.isfinite(w[1])


@pytest.mark.parametrize(
    ("name", "hyperparameters", "scalar"),
    [
        ("SGD", {"lr": 1e39}, "lr"),
        ("SGD", {"lr": 1e39, "weight_decay": 1.0, "weight_decay_mode": "decoupled"}, "keep"),  # whose sum is 1
        ("SGD", {"weight_decay": 1e39}, "l2"),
        ("Adam", {"eps": 1e39}, "eps"),
        ("LARS", {"lr": 5e-324, "trust_clip": True}, "trust_scale"),
    ],
)
def test_scalars_that_are_not_finite_in_the_arrays_type(name, hyperparameters, scalar, backend):
    w = np.ones(3, np.float32)
    opt = make(name, w, **hyperparameters)
    with pytest.raises(ValueError, match=f"beyond float.*: {scalar} of "):
        opt.step(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="beyond float32: grad_scale of "):
        fo.optim.SGD(w).step(np.ones(3, np.float32), grad_scale=1e39)
    assert (w == 1).all()
    assert opt.step_count == 0


def test_float64_has_the_limits_of_float64(backend):
    w = np.ones(3)
    fo.optim.SGD(w, lr=1e39).step(np.full(3, 1e-39))
    np.testing.assert_allclose(w, 0.0, atol=1e-15)


def test_states_begin_with_finite_numbers():
    with pytest.raises(ValueError, match=r"sum of 0 cannot start at 1e\+39, which is beyond float32"):
        fo.optim.Adagrad(np.ones(3, np.float32), initial_accumulator_value=1e39)
    with pytest.raises(ValueError, match="square_avg"):
        fo.optim.RMSprop(np.ones(3, np.float32), initial_square_avg=1e39)
    fo.optim.Adagrad(np.ones(3), initial_accumulator_value=1e39)


def test_trust_ratios_are_computed_in_double_for_float32_too(backend):
    w = np.full(3, 2.0, np.float32)
    opt = fo.optim.LARS([w], lr=1e-40, trust_clip=True)  # of which 1 / lr is taken
    opt.step([np.ones(3, np.float32)])
    assert opt.trust_ratios == {"0": 1.0}


def test_denominators_are_not_zero_in_float32():
    for options in ({"initial_accumulator_value": 1e-60}, {}):
        with pytest.raises(ValueError, match="eps"):
            fo.optim.Adagrad(np.ones(3, np.float32), eps=0.0, **options)
    w = np.ones(3, np.float32)
    for beta2 in (0.999, 1 - 2**-53):  # eps_root is multiplied by 1 - beta2
        fo.optim.Adam(w, betas=(0.9, beta2), eps=0.0, eps_root=2.0**-126).step(np.zeros(3, np.float32))
    assert (w == 1).all()


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_parameters_that_have_become_large_before_they_are_decayed(decay, backend):
    """Without decay nobody looks at parameters after every step; when it is set, what they have become counts."""
    w = np.zeros(3, np.float32)
    opt = fo.optim.Adam(w, lr=200.0, betas=(0.9, 0.0), eps=2.0**-49, weight_decay=decay)
    assert step_or_nothing(opt, np.full(3, 2.0**39, np.float32))
    if decay == 0.0:
        assert step_or_nothing(opt, np.zeros(3, np.float32))  # m / eps
        assert abs(w).min() > 2.0**80
        assert step_or_nothing(opt, np.zeros(3, np.float32))
        opt.groups[0]["weight_decay"] = 0.5
    else:
        w.fill(2.0**80)
        opt.load_state_dict(opt.state_dict())  # after which weights are looked at
    assert not step_or_nothing(opt, np.zeros(3, np.float32))
