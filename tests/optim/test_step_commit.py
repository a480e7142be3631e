"""A step is done wholly or not at all: at whatever instruction something is raised, and whatever threads do.

By default something is raised at some of the instructions, at all of them with: pytest -m slow
"""

import numpy as np
import pytest
from helpers import OPTIMIZERS
from raising import raising_at
from recorded import make
from together import in_threads

import fastopt as fo

ALL_OR_SOME = pytest.mark.parametrize("every", [None, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])


def content(opt, params):
    arrays = [*params, *(s for state in opt.state.values() for s in state.values())]
    rest = opt.step_count, opt.skipped_steps, opt.grad_norm, str(opt.trust_ratios), str(opt.groups)
    return b"".join(array.tobytes() for array in arrays), rest


def falling(step):
    return 0.5 / (step + 1)


def all_or_nothing(made, act, every=1):
    """For each k a new optimizer of which ``act`` is interrupted at instruction k: as before, or as after it."""
    opt, params = made()
    act(opt)  # what is compiled or cached is so from now on
    opt, params = made()
    before = content(opt, params)
    act(opt)
    after = content(opt, params)
    assert after != before
    k, seen = 1, set()
    while True:
        opt, params = made()
        _, raised = raising_at(k, lambda opt=opt: act(opt))
        now = content(opt, params)
        assert now in (before, after), k
        seen.add(now == after)
        act(opt)  # usable after it
        assert now == after or content(opt, params) == after, k
        if not raised:
            return seen
        k += every


@ALL_OR_SOME
@pytest.mark.parametrize(("name", "options"), [("SGD", {}), ("LAMB", {"clip_norm_per_tensor": 0.5})])
def test_raising_within_a_step(backend, name, options, every):
    def made():
        params = [np.linspace(1, 2, 6).reshape(2, 3), np.ones(3, np.float32)]
        return make(name, params, lr=falling, weight_decay=0.1), params

    grads = [np.linspace(-1, 1, 6).reshape(2, 3), np.ones(3, np.float32)]
    every = every or {"c": 3, "numba": 97, "numpy": 43}[backend]
    assert True in all_or_nothing(made, lambda opt: opt.step(grads, **options), every)


@ALL_OR_SOME
@pytest.mark.parametrize("name", ["Adam", "LAMB"])
def test_raising_within_a_step_that_leaves_some_out(name, every):
    def made():
        params = [np.linspace(1, 2, 6).reshape(2, 3), np.ones(3, np.float32)]
        opt = make(name, params, lr=falling)
        opt.step([params[0].copy(), params[1].copy()], clip_norm=1.0)
        return opt, params

    grads = [np.linspace(-1, 1, 6).reshape(2, 3), None]
    assert all_or_nothing(made, lambda opt: opt.step(grads, clip_norm=0.5), every or 11) == {True, False}


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_raising_within_the_first_step_at_another_rate(name):
    """What is kept of the rate before is not taken, wherever what takes its place is interrupted."""

    def made():
        params = [np.ones(3, np.float32)]
        opt = make(name, params, lr=0.5)
        opt.step([params[0].copy()])
        opt.lr = 0.25
        return opt, params

    assert all_or_nothing(made, lambda opt: opt.step([np.ones(3, np.float32)])) == {True, False}


@ALL_OR_SOME
def test_raising_within_adding_a_group(every):
    def made():
        params = [np.linspace(1, 2, 6).reshape(2, 3), np.ones(3)]
        opt = fo.optim.Adam({"a": params[0]}, lr=0.5)
        opt.step({"a": params[0].copy()})
        return opt, params

    def add(opt, new):
        if len(opt.groups) == 1:
            opt.add_param_group({"params": {"b": new}})

    k, seen = 1, set()
    while True:
        opt, params = made()
        _, raised = raising_at(k, lambda opt=opt, params=params: add(opt, params[1]))
        seen.add(len(opt.groups))
        add(opt, params[1])
        opt.step({"a": np.ones((2, 3)), "b": np.ones(3)})
        assert params[1] == pytest.approx(0.5)  # the first step of its own
        if not raised:
            break
        k += every or 83
    assert seen == {1, 2}


@ALL_OR_SOME
def test_raising_within_loading(backend, every):
    saved = fo.optim.Adam([np.ones(3), np.ones(2)], lr=0.5)
    saved.step([np.ones(3), np.ones(2)])
    state = saved.state_dict()

    def made():
        params = [np.ones(3), np.ones(2)]
        return fo.optim.Adam(params), params

    assert all_or_nothing(made, lambda opt: opt.load_state_dict(state), every or 43) == {True, False}


@pytest.mark.parametrize("strided", [False, True])
def test_threads_step_one_after_the_other(backend, strided):
    """Also on gradients that are copied for a step, so that one thread's copy is not freed under another."""
    each, threads = 50, 4
    p, reference = np.zeros(40), np.zeros(40)
    opt = fo.optim.SGD(p, lr=0.5, momentum=0.5)

    def steps():
        for _ in range(each):
            opt.step(np.ones(80)[::2] if strided else np.ones(40), clip_norm_per_tensor=1.0)

    in_threads(*[steps] * threads)
    alone = fo.optim.SGD(reference, lr=0.5, momentum=0.5)
    for _ in range(each * threads):
        alone.step(np.ones(40), clip_norm_per_tensor=1.0)
    assert opt.step_count == each * threads
    assert p.tobytes() == reference.tobytes()


def test_a_state_is_not_read_or_loaded_within_a_step(backend):
    """After k steps every number of this state is k: those of one step and of another side by side would show."""
    n, rounds = 300_000, 60
    opt = fo.optim.SGD(np.zeros(n, np.float32), lr=0.0, momentum=1.0)
    ones = np.ones(n, np.float32)
    opt.step(ones)
    first = opt.state_dict()

    def consistent(state):
        (buffer,) = (tensor["momentum_buffer"] for tensor in state["state"].values())
        assert buffer.min() == buffer.max() == state["step_count"]

    def steps():
        for _ in range(rounds):
            opt.step(ones)

    def reads_and_loads():
        for _ in range(rounds):
            consistent(opt.state_dict())
            opt.load_state_dict(first)

    in_threads(steps, reads_and_loads)
    consistent(opt.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_out_of_memory_in_the_middle(name, monkeypatch):
    """The reference computes everything before it writes anything."""
    from fastopt._backends import numpy as reference

    fo.set_backend("numpy")
    params = [np.ones(3), np.ones(2)]
    opt = make(name, params)
    opt.step([np.ones(3), np.ones(2)])
    before, calls, prepare = content(opt, params), [], reference.prepare

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise MemoryError
        return prepare(*arguments)

    monkeypatch.setattr(reference, "prepare", failing)
    with pytest.raises(MemoryError):
        opt.step([np.ones(3), np.ones(2)])
    assert content(opt, params) == before
