"""Bad input of optimizers: refused with both sides named, and nothing changed."""

import copy
import math

import numpy as np
import pytest
from helpers import DTYPES, OPTIMIZERS

import fastopt as fo


class Unchanged:
    """Parameters and an optimizer that are to be the same, bit for bit, when the block ends."""

    def __init__(self, opt, params):
        self.opt, self.params = opt, params

    def now(self):
        saved = self.opt.state_dict()
        state = [a.tobytes() for each in saved.pop("state").values() for a in each.values()]
        return copy.deepcopy(saved), state, [p.tobytes() for p in self.params], self.opt.grad_norm

    def __enter__(self):
        self.before = self.now()

    def __exit__(self, *_):
        assert self.now() == self.before


def an_optimizer(name="Adam", dtype=np.float64, **arguments):
    """An optimizer that has done a step, and its parameters ``W`` and ``b``."""
    rng = np.random.default_rng(0)
    params = {"W": rng.standard_normal((2, 3)).astype(dtype), "b": rng.standard_normal(3).astype(dtype)}
    opt = getattr(fo.optim, name)(params, **arguments)
    opt.step(gradients(params), clip_norm=1.0)
    return opt, params


def gradients(params, **changed):
    return {**{name: np.ones_like(p) for name, p in params.items()}, **changed}


# ---- parameters -----------------------------------------------------------------------------------


def frozen(x):
    x.flags.writeable = False
    return x


ARENA = np.zeros(20)
W = np.zeros((4, 4))

BAD_PARAMS = {
    "not an array": ({"W": [1.0, 2.0]}, TypeError, "'W' must be a numpy.ndarray, not list"),
    "nothing": (None, TypeError, "params must be an array, or a list or dict of arrays, not NoneType"),
    "a number": (3.0, TypeError, "params must be an array.*not float"),
    "a generator": ((x for x in [W]), TypeError, "params must be an array.*not generator"),
    "nested": ({"layer": {"W": W}}, TypeError, "'layer' must be a numpy.ndarray, not dict"),
    "integers": ({"W": np.zeros(3, int)}, TypeError, "'W' must be float32 or float64, not int64"),
    "half": ({"W": np.zeros(3, np.float16)}, TypeError, "'W' must be float32 or float64, not float16"),
    "complex": ({"W": np.zeros(3, complex)}, TypeError, "'W' must be float32 or float64, not complex128"),
    "longdouble": ({"W": np.zeros(3, "O")}, TypeError, "'W' must be float32 or float64, not object"),
    "byte order": ({"W": np.zeros(3, np.dtype("f8").newbyteorder())}, TypeError, "'W' must be float32 or float64"),
    "transposed": ({"W": np.zeros((2, 3)).T}, ValueError, r"'W' must be C-contiguous.*shape is \(3, 2\).*strides"),
    "strided": ([W, np.zeros(6)[::2]], ValueError, "'1' must be C-contiguous"),
    "broadcast": ([np.broadcast_to(np.zeros(1), (3,))], ValueError, "'0' must be C-contiguous"),
    "read-only": ({"W": frozen(np.zeros(3))}, ValueError, "'W' is read-only"),
    "twice": ({"a": W, "b": W}, ValueError, "'a' and 'b' overlap"),
    "twice in groups": ([{"params": [W]}, {"params": [W]}], ValueError, r"'groups\[0\].0' and 'groups\[1\].0' overlap"),
    "views of one array": ({"a": W, "b": W[1:]}, ValueError, "'a' and 'b' overlap"),
    "one element": ({"a": ARENA[:11], "b": ARENA[10:]}, ValueError, "'a' and 'b' overlap"),
    "one element, other order": ({"a": ARENA[10:], "b": ARENA[:11]}, ValueError, "'b' and 'a' overlap"),
    "one within another": ([ARENA, np.zeros(3), ARENA[5:6]], ValueError, "'0' and '2' overlap"),
    "half an element": ([ARENA[:5], ARENA.view(np.float32)[9:12]], ValueError, "'0' and '1' overlap"),
    "group without params": ([{"lr": 0.1}], ValueError, "group 0 has no 'params', only 'lr'"),
    "group and array": ([{"params": np.zeros(2)}, np.zeros(3)], TypeError, "'0' must be a numpy.ndarray, not dict"),
    "unknown option": ([{"params": W, "beta": 1}], TypeError, "group 0: SGD has no hyperparameter beta"),
}


@pytest.mark.parametrize("case", BAD_PARAMS)
def test_parameters_that_cannot_be_updated_in_place(case):
    params, error, message = BAD_PARAMS[case]
    with pytest.raises(error, match=message):
        fo.optim.SGD(params)


def test_of_many_parameters_the_overlapping_two_are_named():
    arena = np.zeros(1000)
    params = {f"p{i}": arena[10 * i : 10 * i + 10] for i in range(100)}
    fo.optim.SGD(params)
    params["q"] = arena[509:510]
    with pytest.raises(ValueError, match="'p50' and 'q' overlap"):
        fo.optim.SGD(params)


# ---- hyperparameters ------------------------------------------------------------------------------

# For every optimizer that has the parameter. Also what PyTorch refuses in its own tests.
BAD_NUMBERS = {
    "lr": [
        (-0.1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        ("0.1", TypeError),
        (None, TypeError),
        (True, TypeError),
        (np.array([0.1, 0.2]), TypeError),
        (1j, TypeError),
    ],
    "betas": [
        ((1.0, 0.0), ValueError),
        ((0.0, 1.0), ValueError),
        ((-0.1, 0.5), ValueError),
        ((0.9,), TypeError),
        (0.9, TypeError),
        ((0.9, math.nan), ValueError),
        (("0.9", 0.9), TypeError),
        ((0.9, 0.99, 0.9), TypeError),
    ],
    "eps": [(-1e-8, ValueError), (math.nan, ValueError), ("x", TypeError)],
    "eps_root": [(-1e-8, ValueError), (math.nan, ValueError)],
    "weight_decay": [(-1, ValueError), (-0.5, ValueError), (math.inf, ValueError), (None, TypeError)],
    "momentum": [(-1.0, ValueError), (-0.5, ValueError), (math.nan, ValueError)],
    "dampening": [(math.nan, ValueError), ("0", TypeError)],
    "rho": [(1.1, ValueError), (-0.1, ValueError)],
    "alpha": [(-0.1, ValueError), (math.nan, ValueError)],
    "lr_decay": [(-0.5, ValueError)],
    "initial_accumulator_value": [(-0.1, ValueError), (math.nan, ValueError)],
    "momentum_decay": [(-0.2, ValueError)],
    "trust_coefficient": [(-0.1, ValueError), (math.nan, ValueError)],
    "maximize": [(1, ValueError), ("yes", ValueError), (None, ValueError)],
    "nesterov": [(1, ValueError), ("yes", ValueError)],
    "weight_decay_mode": [("L2", ValueError), (None, ValueError), (True, ValueError)],
    "r": [(math.inf, ValueError), ("1", TypeError)],
    "warmup_steps": [(-1, ValueError), (1.5, TypeError)],
    "weight_lr_power": [(-1.0, ValueError), (None, TypeError)],
    "rectify": [(1, ValueError), ("yes", ValueError)],
    "etas": [
        ((0.0, 1.2), ValueError),
        ((1.0, 1.2), ValueError),
        ((0.5, 1.0), ValueError),
        ((1.2, 0.5), ValueError),
        ((0.5, math.inf), ValueError),
        (0.5, TypeError),
    ],
    "step_sizes": [((1.0, 0.5), ValueError), ((-1.0, 0.5), ValueError), ((0.1, math.inf), ValueError), (1, TypeError)],
    "lambd": [(-0.1, ValueError), (math.nan, ValueError), ("x", TypeError)],
    "t0": [(-1, ValueError), (math.inf, ValueError)],
    "beta2_decay": [(0.1, ValueError), (math.nan, ValueError), ("x", TypeError)],
    "d": [(0.9, ValueError), (math.inf, ValueError), (None, TypeError)],
    "factored": [(1, ValueError), (None, ValueError)],
}
OF_ADAFACTOR = {
    "eps": [(1e-3, TypeError), ((1e-30, 1e-3, 1e-3), TypeError), ((1e-30, None), TypeError),
            ((-1e-3, 1e-3), ValueError), ((1e-30, math.nan), ValueError), ((0.0, 1e-3), ValueError),
            (("x", 1e-3), TypeError)],
}  # fmt: skip


def cases_of(name):
    """The bad values of the hyperparameters that the optimizer has."""
    group = getattr(fo.optim, name)(np.zeros(2)).groups[0]
    bad = {**BAD_NUMBERS, **(OF_ADAFACTOR if name == "Adafactor" else {})}
    cases = [(key, value, error) for key in bad if key in group for value, error in bad[key]]
    if name == "Adan":  # which has three betas: a third one makes pairs as good or bad as they are, but three are right
        cases = [
            (key, (*value, 0.5) if key == "betas" and isinstance(value, tuple) and len(value) == 2 else value, error)
            for key, value, error in cases
            if not (key == "betas" and isinstance(value, tuple) and len(value) == 3)
        ]
    return cases


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hyperparameters_out_of_range(name):
    """Refused when the optimizer is made, in a group, when set later, and, as far as may be, from a schedule."""
    made = getattr(fo.optim, name)
    cases = cases_of(name)
    assert {key for key, _, _ in cases} >= {"lr", "weight_decay", "maximize", "weight_decay_mode"}
    for key, value, error in cases:
        p = np.ones(2)
        with pytest.raises(error, match=key):
            made(p, **{key: value})
        with pytest.raises(error, match=key):
            made([{"params": p, key: value}])
        opt = made(p)
        with Unchanged(opt, [p]):
            with pytest.raises(error, match=key):
                opt.groups[0][key] = value
            if key == "lr":
                with pytest.raises(error, match=key):
                    opt.lr = value


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_schedule_that_gives_a_bad_value(name):
    for value, error in ((math.nan, ValueError), (-1.0, ValueError), (math.inf, ValueError), (None, TypeError)):
        p = np.ones(3)
        opt = getattr(fo.optim, name)(p, lr=lambda step, value=value: value if step == 1 else 0.1)
        opt.step(np.ones(3))
        with Unchanged(opt, [p]), pytest.raises(error, match="lr at step 1"):
            opt.step(np.ones(3))


def test_a_schedule_that_raises():
    def lr(step):
        raise KeyError("no such step")

    p = np.ones(3)
    opt = fo.optim.Adam({"p": p}, lr=lr)
    for state in opt.state["p"].values():
        state[:] = 0.5
    with pytest.raises(KeyError, match="no such step"):
        opt.step({"p": np.ones(3)})
    assert (p == 1).all()
    assert opt.step_count == 0
    assert all((state == 0.5).all() for state in opt.state["p"].values())


def test_the_last_groups_schedule_is_checked_before_the_first_is_updated(backend):
    a, b = np.ones(3), np.ones(3)
    opt = fo.optim.Adam([{"params": a}, {"params": b, "lr": lambda step: math.nan}])
    with pytest.raises(ValueError, match="lr at step 0"):
        opt.step([np.ones(3), np.ones(3)])
    assert (a == 1).all()
    assert opt.step_count == 0


def test_an_epsilon_that_a_schedule_makes_zero():
    p = np.ones(3)
    opt = fo.optim.Adam(p, eps=lambda step: 1e-8 if step == 0 else 0.0)
    opt.step(np.zeros(3))
    with pytest.raises(ValueError, match="eps"):
        opt.step(np.zeros(3))
    assert (p == 1).all()
    assert opt.step_count == 1


def test_hyperparameters_that_give_numbers_beyond_float32():
    p = np.ones(3, np.float32)
    for opt in (fo.optim.SGD(p, lr=1e39), fo.optim.Adam(p, lr=1e38), fo.optim.SGD(p, lr=1e30, weight_decay=1e30)):
        opt.groups[0]["weight_decay"] = opt.groups[0]["weight_decay"] * 1e9
        with Unchanged(opt, [p]), pytest.raises(ValueError, match="beyond float32"):
            opt.step(np.ones(3, np.float32))


def test_nesterov_needs_momentum():
    for arguments in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov needs momentum > 0 and dampening = 0"):
            fo.optim.SGD(np.ones(3), nesterov=True, **arguments)


# ---- gradients ------------------------------------------------------------------------------------

BAD_GRADIENTS = {
    "shape": (lambda p: gradients(p, W=np.ones((3, 2))), ValueError, r"'W' has shape \(3, 2\).*parameter has \(2, 3\)"),
    "one dimension more": (lambda p: gradients(p, b=np.ones((1, 3))), ValueError, r"'b' has shape \(1, 3\)"),
    "a scalar array": (lambda p: gradients(p, b=np.array(1.0)), ValueError, r"'b' has shape \(\)"),
    "dtype": (lambda p: gradients(p, b=np.ones(3, np.float32)), TypeError, "'b' is float32, the parameter is float64"),
    "integers": (lambda p: gradients(p, b=np.ones(3, int)), TypeError, "'b' is int64, the parameter is float64"),
    "byte order": (lambda p: gradients(p, b=np.ones(3, np.dtype("f8").newbyteorder())), TypeError, "'b' is >f8"),
    "a list": (lambda p: gradients(p, b=[1.0, 2.0, 3.0]), TypeError, "'b' must be a numpy.ndarray, not list"),
    "a number": (lambda p: gradients(p, b=1.0), TypeError, "'b' must be a numpy.ndarray, not float"),
    "a string": (lambda p: gradients(p, b="None"), TypeError, "'b' must be a numpy.ndarray, not str"),
    "missing": (lambda p: {"W": np.ones((2, 3))}, ValueError, "gradients missing for: 'b'$"),
    "unknown": (lambda p: gradients(p, c=np.ones(3)), ValueError, "^gradients for no parameter: 'c'$"),
    "misnamed": (lambda p: {"w": p["W"], "b": p["b"]}, ValueError, "missing for: 'W'; gradients for no parameter: 'w'"),
    "too few": (lambda p: [np.ones((2, 3))], ValueError, "1 gradients given, for 2 parameters"),
    "too many": (lambda p: [*gradients(p).values(), np.ones(3)], ValueError, "3 gradients given, for 2 parameters"),
    "none at all": (lambda p: None, TypeError, "grads must be an array, or a list or dict of arrays, not NoneType"),
    "one array": (lambda p: np.ones((2, 3)), ValueError, "1 gradients given, for 2 parameters"),
    "the parameter": (lambda p: gradients(p, W=p["W"]), ValueError, "gradient for 'W' overlaps 'W'"),
    "another parameter": (lambda p: gradients(p, b=p["W"][0]), ValueError, "gradient for 'b' overlaps 'W'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_GRADIENTS)
def test_gradients_that_do_not_fit(backend, case):
    grads, error, message = BAD_GRADIENTS[case]
    opt, params = an_optimizer()
    with Unchanged(opt, params.values()), pytest.raises(error, match=message):
        opt.step(grads(params))
    opt.step(gradients(params))  # and the optimizer goes on as if nothing had been


def test_a_bad_gradient_after_a_good_one_leaves_the_good_ones_bound():
    """What was refused is not half bound: the next step uses none of it."""
    opt, params = an_optimizer("SGD", lr=1.0)
    before = params["W"].copy()
    with pytest.raises(ValueError, match="'b' has shape"):
        opt.step({"W": np.full((2, 3), 100.0), "b": np.ones(4)})
    opt.step(gradients(params))
    np.testing.assert_array_equal(params["W"], before - 1)


def test_gradients_that_overlap_the_state():
    opt, params = an_optimizer()
    for state in opt.state["b"].values():
        with Unchanged(opt, params.values()), pytest.raises(ValueError, match="'b' overlaps 'state of b'"):
            opt.step(gradients(params, b=state))
        with Unchanged(opt, params.values()), pytest.raises(ValueError, match="'W' overlaps 'state of W'"):
            opt.step(gradients(params, W=next(iter(opt.state["W"].values()))))


def test_gradients_that_overlap_by_one_element():
    arena = np.zeros(40)
    p, q = arena[10:20], arena[25:30]
    opt = fo.optim.SGD([p, q], lr=1.0)
    for begin in (1, 10, 19):
        with pytest.raises(ValueError, match="gradient for '0' overlaps '0'"):
            opt.step([arena[begin : begin + 10], np.ones(5)])
    with pytest.raises(ValueError, match="gradient for '0' overlaps '1'"):
        opt.step([arena[29:39], np.ones(5)])
    with pytest.raises(ValueError, match="gradient for '1' overlaps '0'"):
        opt.step([np.ones(10), arena[19:24]])
    assert not arena.any()
    opt.step([arena[:10], arena[20:25]])  # side by side is well
    opt.step([np.lib.stride_tricks.as_strided(arena[30:], (10,), (8,)), arena[35:40]])


def test_gradients_of_groups_that_do_not_fit():
    a, b = np.ones(2), np.ones(3)
    opt = fo.optim.SGD([{"params": {"a": a}}, {"params": {"b": b}}])
    with pytest.raises(ValueError, match="gradients for 1 groups given, the optimizer has 2"):
        opt.step([{"a": np.ones(2)}])
    with pytest.raises(ValueError, match=r"group 0 has the parameters \['a'\], the gradients \['b'\]"):
        opt.step([{"b": np.ones(3)}, {"a": np.ones(2)}])
    assert (a == 1).all()
    assert (b == 1).all()


def test_an_empty_gradient_within_a_parameter_overlaps_nothing():
    p, empty = np.ones(8), np.empty(0)
    fo.optim.SGD([p, empty], lr=1.0).step([np.ones(8), np.empty(0)])
    assert not p.any()


# ---- replaced arrays ------------------------------------------------------------------------------


def test_a_parameter_that_was_replaced():
    opt, params = an_optimizer()
    kept = dict(params)
    params["W"] = np.zeros((2, 3))
    with Unchanged(opt, kept.values()), pytest.raises(ValueError, match="'W' was replaced by another array"):
        opt.step(gradients(params))
    params["W"] = kept["W"]
    opt.step(gradients(params))
    del params["b"]
    with (
        Unchanged(opt, kept.values()),
        pytest.raises(ValueError, match="'b' was replaced by another array, moved or removed"),
    ):
        opt.step(gradients(kept))
    params.update(b=kept["b"], c=np.zeros(3))
    with Unchanged(opt, kept.values()), pytest.raises(ValueError, match="made with 2 parameters, now there are 3"):
        opt.step(gradients(kept))
    params["W"] += 1  # the same array still
    del params["c"]
    opt.step(gradients(params))


def test_a_parameter_that_was_replaced_in_a_list():
    params = [np.ones(2), np.ones(3)]
    opt = fo.optim.SGD(params)
    params[1] = params[1] - 1
    with pytest.raises(ValueError, match="'1' was replaced"):
        opt.step([np.ones(2), np.ones(3)])


def test_a_parameter_that_was_replaced_in_a_group():
    params = {"p": np.ones(2)}
    opt = fo.optim.SGD([{"params": params}])
    params["p"] = np.zeros(2)
    with pytest.raises(ValueError, match="'p' was replaced"):
        opt.step([{"p": np.ones(2)}])


def test_a_parameter_that_was_replaced_in_another_mapping():
    class Parameters(dict):
        pass

    params = Parameters(p=np.ones(2))
    opt = fo.optim.SGD(params)
    params["p"] = np.zeros(2)
    with pytest.raises(ValueError, match="'p' was replaced"):
        opt.step({"p": np.ones(2)})


def test_a_state_cannot_be_replaced():
    opt = fo.optim.Adam({"p": np.ones(2)})
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.state["p"]["exp_avg"] = np.ones(2)
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.state["p"] = {}


def test_a_negative_step_count():
    p = np.ones(2)
    opt = fo.optim.Adam(p)
    with pytest.raises(ValueError, match="step_count"):  # noqa: PT012
        opt.step_count = -5
        opt.step(np.ones(2))
    assert (p == 1).all()


def test_a_step_count_beyond_counting():
    opt = fo.optim.Adam(np.ones(2))
    with pytest.raises(ValueError, match=r"step_count must be from 0 to 2\*\*53"):
        opt.step_count = 2**53 + 1


def test_the_largest_step_count_is_no_work(backend):
    """NAdam's product of momenta is not taken factor by factor for ever, once it no longer changes."""
    for name in OPTIMIZERS:
        p = np.ones(2)
        opt = getattr(fo.optim, name)(p)
        opt.step_count = 2**53 - 1
        opt.step(np.ones(2))
        assert np.isfinite(p).all()


def test_a_group_checks_every_way_to_set_a_hyperparameter():
    opt = fo.optim.SGD(np.ones(2))
    with pytest.raises(ValueError, match="lr"):
        opt.groups[0].update(lr=-1.0)


# ---- the step's own options -----------------------------------------------------------------------

BAD_OPTIONS = [
    ({"clip_norm": 0.0}, ValueError, "clip_norm must be above 0, not 0"),
    ({"clip_norm": -1.0}, ValueError, "clip_norm must be above 0"),
    ({"clip_norm": math.nan}, ValueError, "clip_norm must be above 0, not nan"),
    ({"clip_norm": "1"}, TypeError, "clip_norm must be a number, not str"),
    ({"clip_norm": True}, TypeError, "clip_norm must be a number, not bool"),
    ({"clip_norm_per_tensor": -1.0}, ValueError, "clip_norm_per_tensor must be above 0"),
    ({"clip_norm_per_tensor": [1.0]}, TypeError, "clip_norm_per_tensor must be a number, not list"),
    ({"clip_norm": 1.0, "clip_norm_per_tensor": 1.0}, ValueError, "give one of them"),
    ({"clip_value": 0.0}, ValueError, "clip_value must be above 0"),
    ({"clip_value": math.nan}, ValueError, "clip_value must be above 0"),
    ({"clip_value": "1"}, TypeError, "clip_value must be a number, not str"),
    ({"grad_scale": math.nan}, ValueError, "grad_scale must be a finite number"),
    ({"grad_scale": math.inf}, ValueError, "grad_scale must be a finite number"),
    ({"grad_scale": 10**400}, ValueError, "grad_scale must be a finite number"),
    ({"grad_scale": None}, TypeError, "grad_scale must be a number, not NoneType"),
    ({"on_nonfinite": "silently"}, ValueError, "on_nonfinite must be"),
    ({"on_nonfinite": None}, ValueError, "on_nonfinite must be"),
    ({"clip": 1.0}, TypeError, "clip"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS, ids=str)
def test_options_of_the_step(options, error, message):
    opt, params = an_optimizer()
    with Unchanged(opt, params.values()), pytest.raises(error, match=message):
        opt.step(gradients(params), **options)


# ---- gradients that are not finite ----------------------------------------------------------------


@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 1.0}, {"clip_norm_per_tensor": 1.0}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_that_are_not_finite(backend, dtype, clipping):
    """In the first and last tensor, small and of several blocks, at either end and between."""
    sizes = {"a": 3, "b": 40_007, "c": 1}
    params = {name: np.ones(size, dtype) for name, size in sizes.items()}
    opt = fo.optim.Adam(params)
    grads = {name: np.ones(size, dtype) for name, size in sizes.items()}
    opt.step(grads, **clipping)
    skipped = 0
    for name, where in (("a", 0), ("b", 0), ("b", 20_000), ("b", 40_006), ("c", 0)):
        for value in (math.nan, math.inf, -math.inf):
            grads[name][where] = value
            with (
                Unchanged(opt, params.values()),
                pytest.raises(FloatingPointError, match=f"step 2.*: '{name}'; nothing"),
            ):
                opt.step(grads, **clipping)
            opt.step(grads, on_nonfinite="skip", **clipping)
            skipped += 1
            assert (opt.step_count, opt.skipped_steps) == (1, skipped)
        grads[name][where] = 1.0
    before = {name: p.copy() for name, p in params.items()}
    opt.step(grads, on_nonfinite="skip", **clipping)
    assert opt.step_count == 2
    assert all((params[name] < before[name]).all() for name in params)


def test_all_tensors_that_are_not_finite_are_named(backend):
    opt, params = an_optimizer()
    bad = {name: np.full_like(p, math.inf) for name, p in params.items()}
    with Unchanged(opt, params.values()), pytest.raises(FloatingPointError, match="'W', 'b'"):
        opt.step(bad)


def test_a_norm_that_overflows(backend):
    opt, params = an_optimizer()
    huge = {name: np.full_like(p, 1e200) for name, p in params.items()}
    with Unchanged(opt, params.values()), pytest.raises(FloatingPointError, match="norm of the gradients overflows"):
        opt.step(huge, clip_norm=1.0)
    with Unchanged(opt, params.values()), pytest.raises(FloatingPointError, match="a state would become inf"):
        opt.step(huge)


def test_a_finite_gradient_that_overflows_when_scaled(backend):
    p = np.ones(3, np.float32)
    opt = fo.optim.SGD(p)
    for options in ({}, {"clip_norm": math.inf}):
        with pytest.raises(FloatingPointError, match="overflow when scaled by 1000"):
            opt.step(np.full(3, 1e38, np.float32), grad_scale=1e3, **options)
    opt.step(np.full(3, 1e38, np.float32), grad_scale=1e3, on_nonfinite="skip")
    assert (p == 1).all()
    assert (opt.step_count, opt.skipped_steps) == (0, 1)


# ---- loading --------------------------------------------------------------------------------------


def without(d, key):
    return {k: v for k, v in d.items() if k != key}


def with_options(d, **options):
    return {**d, "groups": [{**d["groups"][0], **options}]}


def with_state(d, tensor, key, value):
    return {**d, "state": {**d["state"], tensor: {**d["state"][tensor], key: value}}}


BAD_STATES = {
    "nothing": (lambda d: {}, "has no groups, skipped_steps, state, step_count"),
    "no state": (lambda d: without(d, "state"), "has no state"),
    "step_count": (lambda d: {**d, "step_count": -1}, "step_count and skipped_steps must be whole numbers from 0"),
    "beyond counting": (lambda d: {**d, "skipped_steps": 2**54}, r"must be whole numbers from 0 to 2\*\*53"),
    "fraction": (lambda d: {**d, "step_count": 1.5}, "must be whole numbers"),
    "more groups": (lambda d: {**d, "groups": d["groups"] * 2}, "has 2 groups, the optimizer 1"),
    "lr": (lambda d: with_options(d, lr=-1.0), "lr must be"),
    "0 / 0": (lambda d: with_options(d, eps=0.0), "or 0 / 0 can occur"),
    "unknown": (lambda d: with_options(d, nu=1.0), "hyperparameters this optimizer has not: nu"),
    "maximize": (lambda d: with_options(d, maximize=True), "has maximize=True, the optimizer False"),
    "no W": (lambda d: {**d, "state": without(d["state"], "W")}, r"parameters \['b'\], the optimizer of \['W', 'b'\]"),
    "no states": (lambda d: {**d, "state": {**d["state"], "b": {}}}, "state of 'b' has"),
    "shape": (lambda d: with_state(d, "b", "exp_avg", np.ones(4)), r"exp_avg of 'b' is float64 of shape \(4,\)"),
    "dtype": (lambda d: with_state(d, "b", "exp_avg_sq", np.ones(3, np.float32)), "exp_avg_sq of 'b' is float32"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_dict_that_does_not_fit(case):
    """Also if what is wrong comes last: nothing is loaded then."""
    change, message = BAD_STATES[case]
    other, _ = an_optimizer(lr=0.5)
    opt, params = an_optimizer()
    opt.step(gradients(params))
    with Unchanged(opt, params.values()), pytest.raises((TypeError, ValueError), match=message):
        opt.load_state_dict(change(other.state_dict()))


def test_a_state_dict_of_another_rule():
    p = np.ones(3)
    saved = fo.optim.SGD(p, momentum=0.9).state_dict()
    opt = fo.optim.SGD(p)
    with Unchanged(opt, [p]), pytest.raises(ValueError, match="of rule 'momentum', the optimizer of 'sgd'"):
        opt.load_state_dict(saved)


def test_an_optimizer_is_not_copied():
    with pytest.raises(TypeError, match="give it this one's state_dict"):
        copy.deepcopy(fo.optim.SGD(np.ones(3)))
