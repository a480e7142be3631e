"""fastopt.schedules: PyTorch's values, composition, every hyperparameter driven, resuming, and what is refused."""

import copy
import doctest
import json
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import fastopt as fo
from fastopt import schedules
from fastopt.schedules import (
    Constant,
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    Cyclic,
    Exponential,
    InverseTime,
    Lambda,
    Linear,
    MultiStep,
    OneCycle,
    Polynomial,
    Schedule,
    Step,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "torch_schedules.npz")
CASES = json.loads(str(GOLDEN["cases"]))
LR = float(GOLDEN["lr"])

# The recorded cases whose arguments are not just those of the class with the same name.
OTHERWISE = {
    "constant": Constant(0.25 * LR).then(LR, at=40),
    "linear": Linear(0.1 * LR, 0.7 * LR, total_iters=60),
    "warm-up, then cosine": CosineAnnealing(LR, T_max=180, eta_min=0.001).warm_up(20),
    "three in sequence": Constant(LR / 2).then(Exponential(LR, gamma=0.9), at=25).then(Step(LR, step_size=11), at=100),
}

EXAMPLES = [
    Constant(0.1),
    CosineAnnealing(0.1, T_max=50, eta_min=0.01),
    CosineAnnealingWarmRestarts(0.1, T_0=5, T_mult=2),
    Cyclic(0.1, 0.2, step_size_up=5, step_size_down=7, mode="exp_range", gamma=0.9),
    Cyclic(0.1, 0.2, step_size_up=5).momentum(),
    Exponential(0.1, gamma=0.9),
    InverseTime(0.1, decay=0.5, power=0.75),
    Lambda(math.sqrt),
    Linear(0.1, 0.2, total_iters=10),
    MultiStep(0.1, milestones=[3, 7], gamma=0.5),
    OneCycle(0.1, total_steps=30, three_phase=True),
    OneCycle(0.1, total_steps=30, anneal_strategy="linear").momentum(0.7, 0.9),
    Polynomial(0.1, total_iters=10, power=2.0, final=0.01),
    Step(0.1, step_size=3),
    Exponential(0.1, gamma=0.9) + Step(0.2, step_size=3),
    2 * (Constant(1.0) + math.sqrt),
    Step(0.1, step_size=3).then(Exponential(0.1, gamma=0.9) + 1, at=5).then(0, at=8),
    Step(0.1, step_size=3).warm_up(10),
    Exponential(0.1, gamma=0.9).every(7),
]


def values(schedule, steps=60):
    return np.array([schedule(t) for t in range(steps)])


# -- the values --


def here(case):
    """The schedules of the learning rate and, if it has one, of the momentum."""
    if case in OTHERWISE:
        return OTHERWISE[case], None
    name, arguments = CASES[case]
    made = getattr(schedules, name.removesuffix("LR"))
    momenta = {key: arguments.pop(key) for key in ("base_momentum", "max_momentum") if key in arguments}
    schedule = made(**arguments) if name in ("OneCycleLR", "CyclicLR") else made(LR, **arguments)
    return schedule, schedule.momentum(**momenta) if hasattr(schedule, "momentum") else None


@pytest.mark.parametrize(("case", "recorded"), list(zip(CASES, GOLDEN["values"], strict=True)), ids=list(CASES))
def test_values_are_those_of_pytorch(case, recorded):
    lr, momentum = here(json.loads(json.dumps(case)))
    np.testing.assert_allclose(values(lr, len(recorded[0])), recorded[0], rtol=1e-12, atol=1e-14)
    if momentum is None:
        assert (recorded[1] == 0.9).all()
    else:
        assert np.ptp(recorded[1]) > 0.08
        np.testing.assert_allclose(values(momentum, len(recorded[1])), recorded[1], rtol=1e-12)


def test_inverse_time_is_its_formula():
    t = np.arange(60)
    np.testing.assert_allclose(values(InverseTime(0.3, decay=0.1)), 0.3 / (1 + 0.1 * t), rtol=1e-15)
    np.testing.assert_allclose(values(InverseTime(0.3, 0.1, power=0.5)), 0.3 / np.sqrt(1 + 0.1 * t), rtol=1e-15)


def test_polynomial_ends_at_its_final_value():
    t = np.minimum(np.arange(60), 40)
    expected = 0.1 + 0.2 * (1 - t / 40) ** 3
    np.testing.assert_allclose(values(Polynomial(0.3, total_iters=40, power=3, final=0.1)), expected, rtol=1e-15)


def test_what_has_an_end_stays_there():
    """And meets it exactly."""
    cycle = OneCycle(0.5, total_steps=20)
    for schedule, end, last in [
        (Linear(0.1, 0.7, 10), 10, 0.7),
        (Polynomial(0.3, 10, final=0.1), 10, 0.1),
        (cycle, 19, 0.5 / 25 / 1e4),
        (OneCycle(0.5, 20, three_phase=True), 19, 0.5 / 25 / 1e4),
        (OneCycle(0.5, 20, anneal_strategy="linear"), 19, 0.5 / 25 / 1e4),
        (cycle.momentum(0.8, 0.9), 19, 0.9),
        (CosineAnnealing(0.3, 10, eta_min=0.1).then(0.1, at=10), 10, 0.1),
    ]:
        assert schedule(end - 1) != last
        for t in (end, end + 1, 10**6):
            assert schedule(t) == last, schedule


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("pct_start", [0, 0.01, 0.1, 0.37, 0.5, 1])
@pytest.mark.parametrize("total_steps", [1, 2, 3, 10])
def test_the_shortest_cycles(total_steps, pct_start, three_phase):
    """Where PyTorch divides by zero, a cycle is what is left of it: between the bounds, and at its end."""
    if three_phase and pct_start > 0.5:
        return
    schedule = OneCycle(1.0, total_steps, pct_start, three_phase=three_phase)
    assert ((values(schedule) >= schedule(10**6)) & (values(schedule) <= 1)).all()
    if pct_start < 1:
        assert schedule(total_steps - 1) == 1 / 25 / 1e4


def test_restarts_far_away():
    """Where a logarithm would round to the wrong period."""
    schedule = CosineAnnealingWarmRestarts(1.0, T_0=1, T_mult=3)
    restart = 0
    for i in range(30):
        assert schedule(restart) == 1, i
        assert schedule(restart + 3**i - 1) < 1 or i == 0
        restart += 3**i


# -- putting together --


def test_sums_products_and_scaling():
    a, b = Exponential(0.3, gamma=0.9), Step(0.2, step_size=7)

    def f(t):
        return 0.01 * t

    for combined, expected in [
        (a + b, values(a) + values(b)),
        (a * b, values(a) * values(b)),
        (2 * a, 2 * values(a)),
        (a * 0.5 + 1, values(a) * 0.5 + 1),
        (1 + a + b, 1 + values(a) + values(b)),
        (a + f, values(a) + 0.01 * np.arange(60)),
        (f * a, values(a) * 0.01 * np.arange(60)),
        (np.float64(2) * a, 2 * values(a)),
        (np.float32(2) * a, 2 * values(a)),
        (a * np.int64(3), 3 * values(a)),
        (sum([a, b]), values(a) + values(b)),
    ]:
        assert isinstance(combined, Schedule)
        np.testing.assert_allclose(values(combined), expected, rtol=1e-15)


def test_one_after_the_other():
    a, b, c = Exponential(0.3, gamma=0.9), Linear(0.0, 1.0, 10), Step(0.2, step_size=7)
    expected = np.concatenate([values(a, 10), values(b, 15), values(c, 35)])
    np.testing.assert_array_equal(values(a.then(b, at=10).then(c, at=25)), expected)
    np.testing.assert_array_equal(values(a.then(b.then(c, at=15), at=10)), expected)
    assert (values(a.then(0.25, at=10))[10:] == 0.25).all()
    np.testing.assert_array_equal(values(a.then(lambda t: 2 * t, at=10))[10:], 2 * np.arange(50))


def test_warm_up():
    schedule = Exponential(0.3, gamma=0.9)
    expected = np.concatenate([np.linspace(0.03, 0.3, 10, endpoint=False), values(schedule, 50)])
    np.testing.assert_allclose(values(schedule.warm_up(10, start_factor=0.1)), expected, rtol=1e-14)
    assert schedule.warm_up(10, start_factor=0)(0) == 0


def test_a_schedule_of_epochs():
    schedule = Exponential(0.3, gamma=0.9)
    np.testing.assert_array_equal(values(schedule.every(6)), np.repeat(values(schedule, 10), 6))


# -- repr, equality, pickling, pictures --


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_repr_is_the_code_that_makes_it(schedule):
    if "built-in" in repr(schedule):
        return
    names = {name: getattr(schedules, name) for name in schedules.__all__}
    again = eval(repr(schedule), {**names, "Momentum": schedules.cycles.Momentum})
    assert again == schedule
    assert repr(again) == repr(schedule)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_pickled_or_copied_it_is_the_same(schedule):
    for again in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert again == schedule
        assert hash(again) == hash(schedule)
        np.testing.assert_array_equal(values(again), values(schedule))


def test_only_equal_ones_compare_equal():
    for i, one in enumerate(EXAMPLES):
        for j, other in enumerate(EXAMPLES):
            assert (one == other) == (i == j)
    assert Step(0.1, 3) == Step(initial=np.float64(0.1), step_size=np.int32(3), gamma=0.1)
    assert Step(0.1, 3) != Step(0.1, 3, gamma=0.2)
    assert Linear(0.0, 1.0, 5) != Polynomial(0.0, 5, final=1.0)
    assert Constant(0.5) != 0.5


def test_numbers_are_plain_floats():
    for schedule in EXAMPLES:
        assert {type(value) for value in values(schedule).tolist()} == {float}
    assert type(Step(np.float32(0.5), 3)(0)) is float
    assert type(Linear(0, 1, 5)(5)) is float


def test_schedules_are_what_they_were_made_as():
    """Nothing of them can be changed, unlearned or misspelt; copies are equal and have the same values."""
    for schedule in EXAMPLES:
        before = repr(schedule), values(schedule).tolist()
        for name in vars(schedule):
            with pytest.raises(AttributeError, match=rf"{name} of .* cannot be changed: make another schedule"):
                setattr(schedule, name, 7)
            with pytest.raises(AttributeError, match="cannot be deleted"):
                delattr(schedule, name)
        with pytest.raises(AttributeError, match="has no attribute 'gama'"):
            schedule.gama = 7
        for again in (copy.copy(schedule), copy.deepcopy(schedule)):
            assert (repr(again), values(again).tolist()) == before
    with pytest.raises(AttributeError, match="Step has no attribute 'gama': did you mean 'gamma'"):
        Step(0.1, 3).gama = 7
    assert OneCycle(0.1, np.int64(10), three_phase=np.False_) == OneCycle(0.1, 10)

    class Counting(Step):
        calls = 0
        total_steps = None

        def value(self, t):
            self.calls += 1
            return super().value(t)

    counting = Counting(0.1, 3)
    counting.total_steps = 9
    assert (counting(0), counting.calls, (2 * counting).total_steps) == (0.1, 1, 9)
    with pytest.raises(AttributeError, match=r"gamma of .* cannot be changed"):
        counting.gamma = 0.5


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (OneCycle(0.1, total_steps=7), 7),
        (OneCycle(0.1, total_steps=7).momentum(), 7),
        (OneCycle(0.1, total_steps=7) * Linear(1.0, 0.0, total_iters=5), 5),
        (OneCycle(0.1, total_steps=7).warm_up(3).every(2), 20),
        (Linear(0.1, 0.2, total_iters=5), None),
        (Polynomial(0.1, total_iters=5), 5),
        (Constant(0.1), None),
        (CosineAnnealing(0.1, T_max=5), None),
        (Lambda(abs) + 1, None),
    ],
    ids=repr,
)
def test_the_end_of_a_schedule(schedule, end):
    assert schedule.total_steps == end


def test_plot():
    pytest.importorskip("matplotlib")
    schedule = OneCycle(0.1, total_steps=30)
    axes = schedule.plot(30, label="learning rate").axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.arange(30))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), values(schedule, 30))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("steps done", "learning rate")
    assert axes.get_title().replace("\n", " ") == repr(schedule)
    schedule.plot(1)


def test_plot_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install fastopt\[examples\]"):
        Constant(1.0).plot(10)


@pytest.mark.parametrize(
    "module", [schedules, schedules.base, schedules.decay, schedules.cycles], ids=lambda m: m.__name__
)
def test_the_examples_of_the_docstrings(module):
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0


# -- in an optimizer --


def run(opt, p, begin, end, grads):
    for t in range(begin, end):
        opt.step(grads[t])
    return p.copy()


def scheduled(p):
    """Every number of these optimizers driven by a schedule, but those of NAdam's product: test_momenta."""
    cycle = OneCycle(0.1, total_steps=12)
    small = Exponential(0.1, gamma=0.9)
    return {
        "SGD": lambda: fo.optim.SGD(p, lr=cycle, momentum=cycle.momentum(), weight_decay=small, dampening=small),
        "RMSprop": lambda: fo.optim.RMSprop(p, lr=cycle, alpha=cycle.momentum(), eps=small, momentum=small),
        "Adadelta": lambda: fo.optim.Adadelta(p, lr=cycle, rho=cycle.momentum(), eps=small),
        "Adagrad": lambda: fo.optim.Adagrad(p, lr=cycle, lr_decay=small, eps=small),
        "Adam": lambda: fo.optim.Adam(p, lr=cycle, betas=(cycle.momentum(), 1 + -0.1 * small), weight_decay=small),
        "NAdam": lambda: fo.optim.NAdam(p, lr=cycle, betas=[0.9, cycle.momentum()], eps=small),
        "LARS": lambda: fo.optim.LARS(p, lr=cycle, momentum=cycle.momentum(), trust_coefficient=small, eps=small),
        "LAMB": lambda: fo.optim.LAMB(p, lr=cycle, betas=(cycle.momentum(), 0.99), weight_decay=small, eps_root=small),
    }


@pytest.mark.parametrize("name", scheduled(None))
def test_a_schedule_is_the_same_as_setting_the_numbers(name, rng):
    """And a run that was saved and resumed is the same as one that never stopped."""
    p0, grads = rng.standard_normal(7), rng.standard_normal((12, 7))
    p, q, r = p0.copy(), p0.copy(), p0.copy()
    opt = scheduled(p)[name]()
    expected = run(opt, p, 0, 12, grads)

    by_hand = getattr(fo.optim, name)(q, **{key: v(0) if callable(v) else v for key, v in opt.groups[0].items()})
    for t in range(12):
        for key, value in opt.groups[0].items():
            if callable(value):
                by_hand.groups[0][key] = value(t)
        by_hand.step(grads[t])
    np.testing.assert_array_equal(q, expected)

    before = scheduled(r)[name]()
    run(before, r, 0, 5, grads)
    resumed = scheduled(r)[name]()
    resumed.load_state_dict(before.state_dict())
    assert resumed.lr == opt.groups[0]["lr"](5)
    np.testing.assert_array_equal(run(resumed, r, 5, 12, grads), expected)


def test_one_cycle_of_sgd_is_the_formula(rng):
    """Learning rate and momentum in opposite cycles: the updates of Polyak's momentum, written out."""
    p, v = rng.standard_normal(5), np.zeros(5)
    lr, momentum = GOLDEN["values"][list(CASES).index("one cycle")]
    cycle = OneCycle(0.3, total_steps=200)
    expected, opt = p.copy(), fo.optim.SGD(p, lr=cycle, momentum=cycle.momentum())
    for t in range(200):
        v = momentum[t] * v + expected if t else expected.copy()
        expected -= lr[t] * v
        opt.step(p.copy())
        np.testing.assert_allclose(p, expected, rtol=1e-9, atol=1e-12)


def test_a_pair_with_a_schedule_in_it():
    schedule = Linear(0.9, 0.5, 10)
    opt = fo.optim.Adam(np.ones(2), betas=(schedule, 0.999))
    assert opt.groups[0]["betas"] == (schedule, 0.999)
    assert "betas" not in opt.state_dict()["groups"][0]
    opt.groups[0]["betas"] = (0.9, lambda t: 0.99)
    opt.step(np.ones(2))
    for betas, error in (((schedule,), TypeError), ((schedule, 1.0), ValueError), ((schedule, "x"), TypeError)):
        with pytest.raises(error, match="betas"):
            fo.optim.Adam(np.ones(2), betas=betas)
    with pytest.raises(TypeError, match="lr must be a number, not list"):
        fo.optim.Adam(np.ones(2), lr=[schedule, 0.1])
    for options in ({"lr": Linear}, {"betas": (0.9, Linear)}):
        with pytest.raises(TypeError, match=r"a schedule: Linear\(\.\.\.\), not the class"):
            fo.optim.Adam(np.ones(2), **options)


# -- what is refused --


@pytest.mark.parametrize(
    ("betas", "error", "message"),
    [
        (
            (Linear(0.9, 1.5, 3), 0.999),
            ValueError,
            r"betas at step 1\[0\] must be a finite number in .*, not 1.1",
        ),
        ((0.9, lambda t: 0.9 if t == 0 else None), TypeError, r"betas at step 1\[1\] must be a number, not NoneType"),
        ((0.9, lambda t: math.nan if t else 0.9), ValueError, r"betas at step 1\[1\] must be a finite number .* nan"),
    ],
)
def test_a_bad_value_in_a_pair_changes_nothing(betas, error, message):
    p = np.ones(3)
    opt = fo.optim.Adam(p, betas=betas)
    opt.step(np.ones(3))
    before = p.copy(), opt.state["0"]["exp_avg"].copy()
    with pytest.raises(error, match=message):
        opt.step(np.ones(3))
    np.testing.assert_array_equal(p, before[0])
    np.testing.assert_array_equal(opt.state["0"]["exp_avg"], before[1])
    assert opt.step_count == 1


@pytest.mark.parametrize(
    ("lr", "error", "message"),
    [
        (Linear(0.1, -0.1, 1), ValueError, "lr at step 1 must be a finite number in .* not -0.1"),
        (Exponential(1e-280, 1e300) * 1e300, ValueError, "lr at step 1 must be a finite number .* not inf"),
        (
            Constant(1.0) + (lambda t: 0 if t < 1 else None),
            TypeError,
            "<lambda>.* at step 1 must be a number",
        ),
        (2 * Lambda(lambda t: math.nan if t else 1), ValueError, "<lambda>.* at step 1 must be a finite number .* nan"),
        (Lambda(lambda t: "0.1" if t else 0.1), TypeError, "<lambda>.* at step 1 must be a number, not str"),
        (Linear(1.0, 2.0, 1).then(lambda t: True, at=1), TypeError, "<lambda>.* at step 0 must be a number, not bool"),
    ],
)
def test_a_bad_value_changes_nothing(lr, error, message):
    p = np.zeros(3)
    opt = fo.optim.SGD(p, lr=lr)
    opt.step(np.ones(3))
    before = p.copy()
    with pytest.raises(error, match=message):
        opt.step(np.ones(3))
    np.testing.assert_array_equal(p, before)
    assert opt.step_count == 1


def test_a_power_beyond_the_floats():
    schedule = Exponential(1.0, gamma=2.0)
    assert schedule(1023) == 2.0**1023
    with pytest.raises(ValueError, match=r"Exponential\(initial=1.0, gamma=2.0\) overflows at step 1024"):
        schedule(1024)
    p = np.ones(3)
    opt = fo.optim.SGD(p, lr=schedule)
    opt.step_count = 5000
    with pytest.raises(ValueError, match="overflows at step 5000"):
        opt.step(np.ones(3))
    assert (p == 1).all()


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
@pytest.mark.parametrize("step", [-1, 1.0, True, None, "1", np.array([1]), np.array(1), np.float64(1)], ids=repr)
def test_steps_are_whole_numbers_from_0(schedule, step):
    error = ValueError if step == -1 else TypeError
    with pytest.raises(error, match="step must be "):
        schedule(step)
    assert schedule(np.int64(1)) == schedule(1)


ONE = Constant(1.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Step(math.nan, 3), ValueError, "initial must be a finite number"),
        (lambda: Step("0.1", 3), TypeError, "initial must be a number, not str"),
        (lambda: Step(0.1, 0), ValueError, "step_size must be at least 1, not 0"),
        (lambda: Step(0.1, 2.5), TypeError, "step_size must be an int, not float"),
        (lambda: Step(0.1, 3, gamma=-0.5), ValueError, "gamma must be a finite number in .* not -0.5"),
        (lambda: MultiStep(0.1, [3, 3]), ValueError, "milestones must increase: 3 comes after 3"),
        (lambda: MultiStep(0.1, [3, 7, 5]), ValueError, "milestones must increase: 5 comes after 7"),
        (lambda: MultiStep(0.1, [-1, 3]), ValueError, r"milestones\[0\] must be at least 1, not -1"),
        (lambda: MultiStep(0.1, [3, 7.5]), TypeError, r"milestones\[1\] must be an int, not float"),
        (lambda: MultiStep(0.1, 3), TypeError, "milestones must be a sequence of ints, not int"),
        (lambda: MultiStep(0.1, "37"), TypeError, "milestones must be a sequence of ints, not str"),
        (lambda: Exponential(0.1, math.inf), ValueError, "gamma must be a finite number"),
        (lambda: Polynomial(0.1, 0), ValueError, "total_iters must be at least 1, not 0"),
        (lambda: Polynomial(0.1, 10, power=0), ValueError, "power must be above 0, not 0"),
        (lambda: Polynomial(0.1, 10, power=math.inf), ValueError, "power must be a finite number"),
        (lambda: InverseTime(0.1, decay=-1), ValueError, "decay must be a finite number in .* not -1"),
        (lambda: CosineAnnealing(0.1, -5), ValueError, "T_max must be at least 1, not -5"),
        (lambda: CosineAnnealing(0.1, 5, eta_min=None), TypeError, "eta_min must be a number, not NoneType"),
        (lambda: CosineAnnealingWarmRestarts(0.1, 0), ValueError, "T_0 must be at least 1, not 0"),
        (lambda: CosineAnnealingWarmRestarts(0.1, 5, 1.5), TypeError, "T_mult must be an int, not float"),
        (lambda: OneCycle(0.1, 0), ValueError, "total_steps must be at least 1, not 0"),
        (lambda: OneCycle(0.1, 10, pct_start=1.5), ValueError, "pct_start must be at most 1.0 .* not 1.5"),
        (lambda: OneCycle(0.1, 10, pct_start=0.6, three_phase=True), ValueError, "pct_start must be at most 0.5"),
        (lambda: OneCycle(0.1, 10, anneal_strategy="sin"), ValueError, "anneal_strategy must be one of 'cos'"),
        (lambda: OneCycle(0.1, 10, div_factor=0), ValueError, "div_factor must be above 0, not 0"),
        (lambda: OneCycle(0.1, 10, three_phase=1), ValueError, "three_phase must be one of False, True, not 1"),
        (lambda: OneCycle(0.1, 10).momentum(0.95, 0.85), ValueError, "base_momentum=0.95 is above max_momentum=0.85"),
        (lambda: Cyclic(0.1, 0.2, 0), ValueError, "step_size_up must be at least 1, not 0"),
        (lambda: Cyclic(0.1, 0.2, 5, 0), ValueError, "step_size_down must be at least 1, not 0"),
        (lambda: Cyclic(0.1, 0.2, mode="square"), ValueError, "mode must be one of 'triangular', .* not 'square'"),
        (lambda: Constant(True), TypeError, "constant must be a number, not bool"),
        (lambda: Lambda(0.1), TypeError, "function must be callable, not float"),
        (lambda: ONE.then(2.0, at=0), ValueError, r"at must be at least 1, not 0"),
        (lambda: ONE.then(2.0, at=1.5), TypeError, r"at must be an int, not float"),
        (lambda: ONE.then(2.0, at=9).then(3.0, at=9), ValueError, "at=9: the schedule before begins at step 9"),
        (lambda: ONE.then("2", at=9), TypeError, "a schedule must be one of .*, a function or a number, not '2'"),
        (lambda: ONE.then(math.nan, at=9), ValueError, "constant must be a finite number"),
        (lambda: ONE.warm_up(0), ValueError, "steps must be at least 1, not 0"),
        (lambda: ONE.warm_up(5, start_factor="1"), TypeError, "start_factor must be a number, not str"),
        (lambda: ONE.every(0), ValueError, "steps must be at least 1, not 0"),
        (lambda: ONE.plot(0), ValueError, "steps must be at least 1, not 0"),
        (lambda: ONE + "1", TypeError, "unsupported operand"),
        (lambda: None * ONE, TypeError, "unsupported operand"),
        (lambda: ONE + True, TypeError, "unsupported operand"),
        (lambda: ONE * np.ones(2), TypeError, "'Constant' does not support ufuncs"),
        (lambda: np.ones(2) * ONE, TypeError, "unsupported operand"),
    ],
)  # fmt: skip
def test_arguments_out_of_range(make, error, message):
    with pytest.raises(error, match=message):
        make()
