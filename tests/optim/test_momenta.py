"""NAdam's product of momenta: from the number of the step and the schedules alone, at the cost of one step."""

from time import perf_counter

import numpy as np
import pytest

import fastopt as fo


def run(steps, resumed_at=None, dtype=np.float32, **options):
    """Weights after each step; the run may be taken over by a new optimizer."""
    rng = np.random.default_rng(0)
    w = np.ones(4, dtype)
    opt, after = fo.optim.NAdam(w, lr=0.01, **options), []
    for t in range(steps):
        if t == resumed_at:
            state = opt.state_dict()
            opt = fo.optim.NAdam(w, lr=0.01, **options)
            opt.load_state_dict(state)
        opt.step(rng.standard_normal(4).astype(dtype))
        after.append(w.copy())
    return np.array(after)


def through_zero(step):
    return 0.0 if step == 10 else 0.9


SCHEDULED = [
    {},
    {"momentum_decay": 200.0},
    {"momentum_decay": 200.0, "mu_product": "float64"},
    {"betas": (lambda t: 0.5 + 0.4 / (1 + t), 0.999)},
    {"betas": (through_zero, 0.99), "momentum_decay": lambda t: 0.1 * t},
]


@pytest.mark.parametrize("options", SCHEDULED, ids=["constant", "settled", "float64", "schedule", "through 0"])
def test_a_resumed_run_has_the_same_bits(options):
    assert run(40, **options).tobytes() == run(40, resumed_at=25, **options).tobytes()


def test_a_schedule_has_the_momenta_of_its_steps():
    """As PyTorch keeps the product: once a momentum was 0, it stays 0."""
    w, m, v, product = np.ones(1), 0.0, 0.0, np.float32(1)
    opt = fo.optim.NAdam(w, lr=0.1, betas=(through_zero, 0.99))
    expected = 1.0
    for t in range(1, 21):
        g = 0.3 * t - 2
        opt.step(np.array([g]))
        beta1 = through_zero(t - 1)
        now, ahead = (beta1 * (1 - 0.5 * 0.96 ** (i * 0.004)) for i in (t, t + 1))
        product *= np.float32(now)
        m, v = beta1 * m + (1 - beta1) * g, 0.99 * v + 0.01 * g * g
        m_hat = ahead * m / (1 - float(product) * ahead) + (1 - now) * g / (1 - float(product))
        expected -= 0.1 * m_hat / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
        assert w[0] == pytest.approx(expected, rel=1e-12)
    assert product == 0


def test_what_is_set_by_hand_holds_from_the_first_step_on():
    """Also where the product had gone on already: earlier momenta, and earlier steps, are not remembered."""

    def step(first, changes=()):
        w = np.ones(4)
        opt = fo.optim.NAdam(w, lr=0.01, momentum_decay=200.0)
        for now, name, value in changes:
            opt.step_count = now
            opt.step(np.ones(4))
            opt.groups[0][name] = value
        if changes:
            w[:] = 1
            for array in opt.state["0"].values():
                array[:] = 0
        else:
            opt.groups[0]["betas"], opt.groups[0]["momentum_decay"] = (0.5, 0.9), 0.25
        opt.step_count = first
        opt.step(np.linspace(-1, 1, 4))
        return w.tobytes()

    changes = [(20, "betas", (0.5, 0.9)), (20, "momentum_decay", 0.25), (20, "eps", 1e-8)]
    for first in (3, 25):
        assert step(first, changes) == step(first)


@pytest.mark.parametrize("mu_product", ["float32", "float64", "beta1"])
@pytest.mark.parametrize("decay", [None, 0.0, 1e-9, 0.004, 1.0, 1e3, 1e300])
@pytest.mark.parametrize("beta1", [0.0, 5e-324, 0.5, 0.9999, 1 - 2**-24, 1 - 2**-25, 1 - 2**-53])
def test_any_beta_at_any_step(beta1, decay, mu_product):
    w = np.ones(2)
    opt = fo.optim.NAdam(w, lr=1e-3, betas=(beta1, 0.999), momentum_decay=decay, mu_product=mu_product)
    for first in (0, 1, 1000, 10**6):
        opt.step_count = first
        with np.errstate(all="raise"):
            opt.step(np.full(2, 0.1))
            opt.step(np.full(2, 0.1))
    assert np.isfinite(w).all()


def test_the_first_step_with_a_momentum_that_rounds_to_1():
    """The whole gradient, as for any other: (1 - mu) g / (1 - mu)."""
    w = np.zeros(1)
    fo.optim.NAdam(w, lr=1.0, betas=(1 - 2**-53, 0.0), momentum_decay=1e3, eps=1e-30).step(np.ones(1))
    assert -2.1 < w[0] < -1  # and half of the average, corrected


@pytest.mark.parametrize("betas", [(0.9, 0.999), (lambda t: 0.99999, 0.999)], ids=["constant", "schedule"])
def test_a_late_step_takes_no_longer(betas):
    opt = fo.optim.NAdam(np.ones(2), betas=betas, momentum_decay=100.0)
    opt.step_count = 100_000
    g = np.ones(2)
    opt.step(g)
    began = perf_counter()
    for _ in range(100):
        opt.step(g)
    assert perf_counter() - began < 0.1
