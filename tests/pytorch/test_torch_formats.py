"""States in 16 and 8 bits as tensors: the bits of the optimizers of arrays, in every way that a state is moved."""

import copy
import pickle
import threading
from inspect import signature

import numpy as np
import pytest
from beside import ft, through_a_file, torch

import fastopt as fo

SHAPES = [(64, 65), (7,), (5000,), (80, 70)]
WITH_MOMENTS = {
    name: {"Adam": {"amsgrad": True}, "RMSprop": {"momentum": 0.9, "centered": True}, "SGD": {"momentum": 0.9},
           "LARS": {"momentum": 0.9}, "Adagrad": {"initial_accumulator_value": 0.1}}.get(name, {})
    for name in ft.__all__ if "state_format" in signature(getattr(fo.optim, name).__init__).parameters
}  # fmt: skip
FORMATS = {
    "bfloat16": {"state_format": "bfloat16", "state_seed": 3},
    "nearest": {"state_format": "bfloat16", "state_rounding": "nearest"},
    "8bit": {"state_format": "8bit"},
}
FEW, OTHERS = ("AdamW", "SGD"), {"8bit": ("LAMB", "Adagrad"), "bfloat16": ("NAdam", "LARS")}


def numbers(step, shapes):
    rng = np.random.default_rng(step)
    return [np.asarray(0.1 * rng.standard_normal(s), np.float32) for s in shapes]


def made(name, form, **options):
    shapes = [s for s in SHAPES if len(s) == 2 or name != "Muon"]
    params = [torch.nn.Parameter(torch.tensor(x)) for x in numbers(1000, shapes)]
    form = FORMATS[form] if form != "float32" else {}
    return getattr(ft, name)(params, **WITH_MOMENTS[name], **form, **options), params


def step(i, *several, without=()):
    """The same step of optimizers with their parameters; some of these have no gradient."""
    for optimizer, params in several:
        for k, (p, grad) in enumerate(zip(params, numbers(i, [p.shape for p in params]), strict=True)):
            p.grad = None if k in without else torch.tensor(grad)
        optimizer.step()


def assert_same(first, second):
    """Optimizers whose parameters and states are the same to the bit, each of the same type."""
    for (p, one), (q, other) in zip(first.state.items(), second.state.items(), strict=True):
        assert torch.equal(p, q)
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype, key
            assert torch.equal(one[key], other[key]), key


@pytest.mark.parametrize(("name", "form"), [(n, f) for f, names in OTHERS.items() for n in (*FEW, *names)])
def test_the_bits_are_those_of_arrays(name, form, backend):
    optimizer, params = made(name, form)
    arrays = [p.detach().numpy().copy() for p in params]
    of_arrays = signature(getattr(fo.optim, name).__init__).parameters
    options = {k: v for k, v in optimizer.param_groups[0].items() if k in of_arrays and k != "params"}
    plain = getattr(fo.optim, name)(arrays, **options)
    for i, without in enumerate([(), (0, 2), (2,), ()]):
        step(i, (optimizer, params), without=without)
        plain.step([None if k in without else p.grad.numpy() for k, p in enumerate(params)])
    for p, array in zip(params, arrays, strict=True):
        np.testing.assert_array_equal(p.detach().numpy().view(np.uint32), array.view(np.uint32))
    kept = plain.state_dict()["state"]
    for p, state in zip(params, kept.values(), strict=True):
        for key, value in state.items():
            ours = optimizer.state[p].get(key, optimizer.state[p].get(key + "_codes"))
            codes = value["codes"] if isinstance(value, dict) else value
            ours = ours.view(torch.int16) if ours.dtype == torch.bfloat16 else ours
            np.testing.assert_array_equal(ours.numpy().view(codes.dtype), codes)


def test_the_state_takes_the_bytes_that_were_asked_for():
    for form, bytes_of in (("8bit", 2 * (1 + 4 / 256)), ("bfloat16", 4)):
        optimizer, params = made("AdamW", form)
        step(0, (optimizer, params))
        state = optimizer.state[params[2]]
        assert sum(t.nbytes for t in state.values()) - 4 == pytest.approx(bytes_of * 5000, rel=0.01)
        assert all(t.dtype != torch.uint8 for t in optimizer.state[params[1]].values())  # fewer than 4096 elements


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", WITH_MOMENTS)
def test_copies_and_files_go_on_to_the_bit(name, form):
    optimizer, params = made(name, form)
    for i in range(2):
        step(i, (optimizer, params))
    loaded, others = made(name, form)
    with torch.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    loaded.load_state_dict(through_a_file(optimizer.state_dict()))
    assert_same(optimizer, loaded)
    several = [optimizer, loaded, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    for i in range(2, 4):
        step(i, *((each, each.param_groups[0]["params"]) for each in several))
    for other in several[1:]:
        assert_same(optimizer, other)


@pytest.mark.parametrize("of", ["torch", "float32", *FORMATS])
@pytest.mark.parametrize("to", ["float32", *FORMATS])
def test_a_state_of_one_format_loads_into_another(of, to):
    optimizer, params = made("AdamW", "float32" if of == "torch" else of)
    if of == "torch":
        optimizer = torch.optim.AdamW(params)
    step(0, (optimizer, params))
    other, others = made("AdamW", to)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    group = other.param_groups[0]
    assert group.get("state_format", "float32") == {"nearest": "bfloat16"}.get(to, to)
    keys = ["step", "exp_avg_codes", "exp_avg_scales", "exp_avg_sq_codes", "exp_avg_sq_scales"]
    assert sorted(other.state[others[0]]) == sorted(keys if to == "8bit" else ["step", "exp_avg", "exp_avg_sq"])
    step(1, (optimizer, params), (other, others))
    within = {"float32": 1e-6, "bfloat16": 0.01, "nearest": 0.01, "8bit": 0.08}
    through, now = made("AdamW", "float32")
    through.load_state_dict(other.state_dict())
    exact, then = made("AdamW", "float32")
    exact.load_state_dict(optimizer.state_dict())
    for p, q in zip(now, then, strict=True):
        first, second = through.state[p]["exp_avg"], exact.state[q]["exp_avg"]
        assert (first - second).abs().max() <= (within[to] + within.get(of, 0)) * second.abs().max()


def test_pytorch_refuses_codes_that_it_cannot_read():
    """Rather than take them for moments; those of bfloat16 are numbers to it."""
    optimizer, params = made("AdamW", "8bit")
    step(0, (optimizer, params))
    theirs = torch.optim.AdamW(params)
    theirs.load_state_dict(optimizer.state_dict())
    with pytest.raises(KeyError, match="exp_avg"):
        theirs.step()
    optimizer, params = made("AdamW", "bfloat16")
    step(0, (optimizer, params))
    theirs.load_state_dict(optimizer.state_dict())
    theirs.step()


def test_the_format_of_a_group_may_change():
    optimizer, params = made("AdamW", "float32")
    optimizer.add_param_group({"params": [extra := torch.nn.Parameter(torch.ones(5000))], "state_format": "8bit"})
    step(0, (optimizer, [*params, extra]))
    assert optimizer.state[extra]["exp_avg_codes"].dtype == torch.uint8
    for form, dtype in (("bfloat16", torch.bfloat16), ("8bit", torch.uint8), ("float32", torch.float32)):
        optimizer.param_groups[0]["state_format"] = form
        step(1, (optimizer, [*params, extra]))
        state = optimizer.state[params[0]]
        assert len(state) == (5 if form == "8bit" else 3)
        assert state["exp_avg_codes" if form == "8bit" else "exp_avg"].dtype == dtype
    optimizer.param_groups[0]["state_format"] = "4bit"
    before = copy.deepcopy(optimizer)
    with pytest.raises(ValueError, match=r"state_format.*4bit"):
        step(2, (optimizer, [*params, extra]))
    assert_same(optimizer, before)


@pytest.mark.parametrize("form", FORMATS)
def test_strides_and_gaps(form):
    """A tensor's codes lie as its elements do; so the results are those of the same elements in that order."""
    values = torch.tensor(numbers(5, [(70, 80)])[0])
    odd = [values.clone().t(), torch.zeros(70, 160)[:, ::2].copy_(values), values.clone()]
    optimizers = [ft.AdamW([torch.nn.Parameter(p)], lr=0.1, **FORMATS[form]) for p in odd]
    for optimizer in optimizers:
        p = optimizer.param_groups[0]["params"][0]
        for i in range(2):
            grad = torch.tensor(numbers(i, [(70, 80)])[0])
            p.grad = grad.t() if p.shape != values.shape else grad
            optimizer.step()
    ends = [optimizer.param_groups[0]["params"][0] for optimizer in optimizers]
    assert torch.equal(ends[0].t(), ends[2])
    assert torch.equal(ends[1], ends[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.__setitem__("exp_avg_scales", s["exp_avg_scales"][1:]), "scales of exp_avg"),
        (lambda s: s.pop("exp_avg_scales"), "scales of exp_avg of parameter 0 are not there"),
        (lambda s: s.__setitem__("exp_avg_sq_codes", s["exp_avg_sq_codes"][:5]), "codes of exp_avg_sq"),
        (lambda s: s.__setitem__("exp_avg_codes", s["exp_avg_codes"] + 0.5), "whole numbers"),
        (lambda s: s.__setitem__("exp_avg_codes", "none"), "codes of exp_avg of parameter 0 are str"),
        (lambda s: s.__setitem__("exp_avg_scales", 1.0), "scales of exp_avg of parameter 0 are float"),
        (lambda s: s.__setitem__("exp_avg_sq_scales", -1 - s["exp_avg_sq_scales"]), "negative"),
        (lambda s: s.__setitem__("exp_avg_sq", torch.full((64, 65), -1.0)), "negative number, -1"),
    ],
)
def test_a_damaged_state_is_refused_and_nothing_is_loaded(change, message):
    optimizer, params = made("AdamW", "8bit")
    step(0, (optimizer, params))
    before, state_dict = copy.deepcopy(optimizer.state_dict()), optimizer.state_dict()
    change(state_dict["state"][0])
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(state_dict)
    other = copy.deepcopy(optimizer)
    for key, value in before["state"][0].items():
        assert torch.equal(optimizer.state[params[0]][key], value)
    step(1, (optimizer, params), (other, other.param_groups[0]["params"]))
    assert_same(optimizer, other)


def test_what_has_no_such_state_is_refused():
    wide = [torch.nn.Parameter(torch.zeros(5000, dtype=torch.float64))]
    with pytest.raises(ValueError, match=r"'8bit' is for parameters of float32, and parameter 0 of group 0 is"):
        ft.AdamW(wide, state_format="8bit")
    with pytest.raises(ValueError, match="state_format"):
        ft.AdamW(wide, state_format="16bit")
    with pytest.raises((ValueError, TypeError), match="state_seed"):
        ft.AdamW(wide, state_seed=-1)
    with pytest.raises(TypeError, match="state_format"):
        ft.Adafactor(wide, state_format="8bit")
    with pytest.raises(ValueError, match="state_format: Adafactor has no moments"):
        ft.Adafactor([{"params": wide, "state_format": "8bit"}])
    optimizer, _ = made("AdamW", "8bit")
    with pytest.raises(ValueError, match="parameter 0 of group 1"):
        optimizer.add_param_group({"params": wide})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_refused_leaves_codes_and_scales(form):
    optimizer, params = made("AdamW", form, on_nonfinite="raise")
    step(0, (optimizer, params))
    before = copy.deepcopy(optimizer)
    params[2].grad[0] = torch.nan
    with pytest.raises(FloatingPointError, match="2 of group 0"):
        optimizer.step()
    assert_same(optimizer, before)


def test_two_threads():
    """Steps of one optimizer come one after the other: as many of them as were asked for, and no random bits twice."""
    optimizer, params = made("AdamW", "bfloat16")
    one, of_one = made("AdamW", "bfloat16")
    for k, p in enumerate(params):
        p.grad, of_one[k].grad = torch.full_like(p, 0.5), torch.full_like(p, 0.5)
    threads = [threading.Thread(target=lambda: [optimizer.step() for _ in range(20)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(40):
        one.step()
    assert_same(optimizer, one)
