"""Steps between which no Python has to be run are done many in one call, with the results that one by one have."""

import contextlib
import sys
from collections import Counter

import numpy as np
import pytest
from fitting import assert_same_bits, problem

import fastopt as fo
from fastopt import nn
from fastopt.schedules import Lambda, OneCycle

pytestmark = pytest.mark.skipif(fo.get_backend() != "c", reason="only the C core does many steps in one call")
X, Y = problem(rows=1200)
STEPS = 150  # of an epoch


def nothing(run):
    """A callback, between batches, for which each step is a call of its own."""


def network():
    layers = nn.Linear(5, 6), nn.BatchNorm(6), nn.Dropout(0.3), nn.Tanh(), nn.Linear(6, 1)
    return nn.Sequential(*layers, rng=0)


def run(optimizer, epochs=2, X=X, **options):
    model = network()
    opt = optimizer(model.parameters())
    history = fo.fit(model, X, Y, optimizer=opt, epochs=epochs, batch_size=8, rng=1, **options)
    return {**model.state_dict(), **opt.state_dict()["groups"][0], "steps": opt.step_count}, history


def adam(params):
    return fo.optim.Adam(params, lr=0.01)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.2, "ema": 0.9}, {"clip_norm_per_tensor": 0.1}], ids=str)
@pytest.mark.parametrize(
    "optimizer",
    [
        adam,
        lambda params: fo.optim.NAdam(params, lr=OneCycle(0.02, 2 * STEPS)),
        lambda params: fo.optim.LAMB(fo.optim.decay_groups(params), lr=0.01, betas=(OneCycle(0.9, 2 * STEPS), 0.99)),
        lambda params: fo.optim.AdamWScheduleFree(params),
    ],
    ids=["Adam", "NAdam, scheduled", "LAMB, groups and a scheduled beta", "schedule-free"],
)
def test_many_at_once_give_the_bits_of_one_by_one(optimizer, options):
    assert_same_bits(run(optimizer, **options), run(optimizer, callbacks={"batch": nothing}, **options))


@pytest.mark.parametrize("on_nonfinite", ["skip", "stop", "ignore"])
def test_a_step_that_is_refused_among_them(on_nonfinite):
    results = []
    for between in [{}, {"batch": nothing}]:
        data = X.copy()

        def spoil(run, data=data):
            data[777] = np.inf  # after the data was looked through

        weights, history = run(adam, X=data, on_nonfinite=on_nonfinite, callbacks={"start": spoil, **between})
        results.append((weights, repr({**history.state_dict(), "seconds": []})))
    assert results[0][1] == results[1][1]
    assert_same_arrays(results[0][0], results[1][0])


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip", "stop"])
@pytest.mark.parametrize("rate", [0.5, lambda step: 0.5], ids=["number", "function"])
def test_a_step_after_a_refused_one_takes_its_own_rate(on_nonfinite, rate):
    data, model = X.copy(), network()
    opt = fo.optim.SGD(model.parameters(), lr=rate)

    def spoil(run):
        data[-3] = np.inf

    options = {"on_nonfinite": on_nonfinite, "callbacks": {"start": spoil}, "shuffle": False}
    with contextlib.suppress(FloatingPointError):
        fo.fit(model, data, Y, optimizer=opt, epochs=1, batch_size=8, **options)
    opt.lr = 0.0
    before = model.state_dict()
    fo.TrainingStep(model, opt)(X[:8], Y[:8])
    for name in model.params:
        np.testing.assert_array_equal(model.state_dict()[name], before[name], err_msg=name)


def test_rates_that_an_exception_has_left_are_not_taken(monkeypatch):
    """Between the call that hands over the scalars of many steps and the one that does them, a signal may raise."""
    model = network()
    opt = fo.optim.SGD(model.parameters(), lr=0.5)
    queue = type(opt._plan).queue

    def interrupted(plan, steps):
        queue(plan, steps)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(opt._plan), "queue", interrupted)
        fo.fit(model, X, Y, optimizer=opt, epochs=1, batch_size=8)
    opt.lr = 0.0
    before = model.state_dict()
    fo.TrainingStep(model, opt)(X[:8], Y[:8])
    for name in model.params:
        np.testing.assert_array_equal(model.state_dict()[name], before[name], err_msg=name)


@pytest.mark.filterwarnings("ignore:Setting the strides:DeprecationWarning")
@pytest.mark.parametrize("how", ["strides", "alignment"])
def test_data_laid_out_otherwise_between_epochs(how):
    """What the core can no longer gather by itself, Python does."""
    results = []
    for between in [{}, {"batch": nothing}]:
        data = X.copy()

        def change(run, data=data):
            if how == "strides":
                data.strides = data.itemsize, data.itemsize * len(data)
            else:
                data.setflags(align=False)

        results.append(run(adam, X=data, callbacks={"epoch": change, **between})[0])
    assert_same_arrays(*results)


def assert_same_arrays(one, other):
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def crossings(call):
    calls = Counter()

    def watch(frame, event, function):
        if event == "c_call" and function.__name__.startswith("fastopt_run"):
            calls[function.__name__] += 1

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return calls


def test_an_epoch_crosses_a_few_times(monkeypatch):
    monkeypatch.setattr("fastopt.training.epochs._SECONDS_AT_ONCE", 1e9)  # however busy the machine is
    calls = crossings(lambda: run(adam, epochs=1))
    assert calls["fastopt_run_steps"] <= 12  # 1, 2, 4, ... 64


def test_a_function_in_place_of_a_schedule_is_called_at_its_step():
    """It may do more than answer, or answer something else later; a `Lambda` around it says that it does not."""
    asked, opt = [], None

    def watched(step):
        asked.append((step, opt.step_count))
        return 0.01

    def trained(lr):
        nonlocal opt
        model = network()
        opt = fo.optim.Adam(model.parameters(), lr=lr)
        fo.fit(model, X, Y, optimizer=opt, epochs=2, batch_size=8, rng=1)
        return model.state_dict()

    known = trained(0.01)
    assert_same_arrays(known, trained(Lambda(lambda step: 0.01)))
    assert_same_arrays(known, trained(watched))
    assert asked == sorted(asked)
    assert all(step == done for step, done in asked)


def test_a_schedule_that_raises_leaves_the_steps_before_it():
    schedule = Lambda(lambda step: 0.01 if step < 100 else 1 / 0)
    model = network()
    opt = fo.optim.Adam(model.parameters(), lr=schedule)
    with pytest.raises(ZeroDivisionError):
        fo.fit(model, X, Y, optimizer=opt, epochs=1, batch_size=8, rng=1)
    assert opt.step_count == 100
