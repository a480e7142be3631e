"""Schedule-Free optimizers: their two points, and the weights of the mean."""

import math

import numpy as np
import pytest
from helpers import bits

import fastopt as fo
from fastopt.optim.schedule_free import _SUMMED

BOTH = pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree"])


def gradients(t):
    rng = np.random.default_rng(t)
    return {"w": rng.standard_normal((3, 2)).astype(np.float32), "b": rng.standard_normal(4)}


def an_optimizer(name, steps=3, **options):
    params = {"w": np.ones((3, 2), np.float32), "b": np.zeros(4)}
    opt = getattr(fo.optim, name)(params, lr=0.3, **options)
    for t in range(steps):
        opt.step(gradients(t))
    return opt, params


def everything(opt, params):
    return [bits(p) for p in params.values()], [bits(s) for of in opt.state.values() for s in of.values()]


@BOTH
def test_evaluation_changes_nothing_in_training(name, backend):
    opt, params = an_optimizer(name)
    other, plain = an_optimizer(name)
    for t in range(3, 8):
        before = everything(opt, params)
        opt.eval()
        opt.eval()  # once is enough
        assert everything(opt, params)[0] != before[0]
        opt.train()
        opt.train()
        assert everything(opt, params) == before
        opt.step(gradients(t))
        other.step(gradients(t))
    assert everything(opt, params) == everything(other, plain)


@BOTH
def test_before_the_first_step_both_points_are_one(name):
    opt, params = an_optimizer(name, steps=0)
    before = everything(opt, params)
    opt.eval()
    assert everything(opt, params) == before
    opt.train()
    params["b"][:] = 5.0  # initial weights come late: the first step begins there
    opt.step(gradients(0))
    np.testing.assert_allclose(opt.state["b"]["z"], 5.0, atol=1.0)


@BOTH
def test_no_step_at_the_mean(name, backend):
    opt, params = an_optimizer(name)
    opt.eval()
    before = everything(opt, params)
    with pytest.raises(RuntimeError, match=r"call train\(\) first"):
        opt.step(gradients(3))
    assert everything(opt, params) == before
    assert opt.step_count == 3


@BOTH
@pytest.mark.parametrize("evaluating", [False, True])
def test_a_checkpoint_knows_the_point(name, evaluating, tmp_path):
    opt, params = an_optimizer(name)
    if evaluating:
        opt.eval()
    fo.save(tmp_path / "checkpoint", {"params": params, "optimizer": opt.state_dict()})
    saved = fo.load(tmp_path / "checkpoint")
    other, resumed = an_optimizer(name, steps=1)
    other.eval()  # what it was at does not matter
    for key, value in saved["params"].items():
        resumed[key][...] = value
    other.load_state_dict(saved["optimizer"])
    for each in (opt, other):
        each.train()
        each.step(gradients(3))
    assert everything(other, resumed) == everything(opt, params)


@pytest.mark.parametrize("y", [{}, {"w": np.ones(2), "b": np.zeros(4)}, {"w": np.ones((3, 2)), "b": np.zeros(4)}, 3,
                               {"w": np.full((3, 2), np.nan, np.float32), "b": np.zeros(4)}])  # fmt: skip
def test_a_point_that_does_not_fit(y):
    opt, params = an_optimizer("SGDScheduleFree")
    before, saved = everything(opt, params), {**opt.state_dict(), "y": y}
    with pytest.raises(ValueError, match=r"^y (in|of)"):
        opt.load_state_dict(saved)
    assert everything(opt, params) == before
    opt.step(gradients(3))


def test_a_parameter_that_was_replaced_is_noticed():
    params = [np.ones(2)]
    opt = fo.optim.SGDScheduleFree(params)
    opt.step([np.ones(2)])
    params[0] = np.ones(2)
    with pytest.raises(ValueError, match="parameter '0' was replaced"):
        opt.eval()


@pytest.mark.parametrize("r", [0.0, 1.0, -0.5, -1.0, 2.5])
def test_the_weights_far_out(r):
    """Beyond the terms that are added up, the sum is that of all terms; and how one comes there does not matter."""
    t = _SUMMED + 12_345
    opt, w = fo.optim.SGDScheduleFree(p := np.zeros(1), lr=1.0, momentum=0.5, warmup_steps=9, r=r), p
    opt.step_count = t - 1
    opt.state["0"]["z"][:] = 1.0
    opt.step(np.zeros(1))
    terms = [i**r * min(1, i / 9) ** 2 for i in range(1, t + 1)]
    assert w[0] == pytest.approx(terms[-1] / math.fsum(terms), rel=1e-11)
    again, v = fo.optim.SGDScheduleFree(q := np.zeros(1), lr=1.0, momentum=0.5, warmup_steps=9, r=r), q
    for count in (3, _SUMMED + 7, 11, t - 1):
        again.step_count = count
        again.state["0"]["z"][:], v[:] = 1.0, 0.0
        again.step(np.zeros(1))
    assert bits(v) == bits(w)


def test_a_scheduled_rate_weighs_the_positions():
    """The largest rate so far, squared."""
    rates, p = [0.1, 0.4, 0.2, 0.2], np.zeros(1)
    opt = fo.optim.SGDScheduleFree(p, lr=rates.__getitem__)
    z = x = 0.0
    for c in (1.0, 0.16 / 0.17, 0.16 / 0.33, 0.16 / 0.49):
        z -= rates[opt.step_count] * 1.0
        x += c * (z - x)
        opt.step(np.ones(1))
    opt.eval()
    np.testing.assert_allclose(p, x, rtol=1e-13)


@BOTH
@pytest.mark.parametrize("ends", [False, True])
def test_fit_exchanges_the_points_by_itself(name, ends):
    """Validation, callbacks and whoever has the model afterwards see the mean; an error leaves it in training."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.standard_normal(40)
    model = fo.nn.Sequential(fo.nn.Linear(3, 1), rng=0, dtype=np.float64)
    opt = getattr(fo.optim, name)(model.parameters(), lr=0.1)
    seen = []

    def watch(run):
        assert run.history.val_loss[-1] == pytest.approx(np.mean((model.predict(X) - y[:, None]) ** 2), rel=1e-12)
        seen.append(model.fingerprint())
        if not ends and len(seen) == 3:
            raise KeyError("enough")

    def train():
        fo.fit(model, X, y[:, None], loss="mse", optimizer=opt, epochs=3, batch_size=8, validation=(X, y[:, None]),
               callbacks=[{"epoch": watch}], rng=0)  # fmt: skip

    if ends:
        train()
        assert model.fingerprint() == seen[-1]
        opt.train()
        assert model.fingerprint() != seen[-1]
        opt.eval()
        train()  # it goes on from there
        assert opt.step_count == 30
    else:
        with pytest.raises(KeyError):
            train()
        opt.step(model.gradients())  # no longer at the mean
