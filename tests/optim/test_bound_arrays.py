"""What an optimizer is bound to, changed behind its back: noticed at the next step, named, and nothing is updated."""

from unittest import mock

import numpy as np
import pytest
from helpers import HAVE_C, set_dtype

import fastopt as fo
from fastopt import _pins


@pytest.fixture(params=["pins in C", "pins in Python"] if HAVE_C else ["pins in Python"])
def pins(request, monkeypatch):
    """Both ways of comparing arrays: where the core reads them, and where it cannot."""
    if request.param == "pins in Python":
        monkeypatch.setattr(_pins, "HEADER", 0)
        if HAVE_C:
            monkeypatch.setattr("fastopt._backends.c.HEADER", 0)
    return request.param


def moved(array):
    """Give the array other memory, which frees that which it had."""
    array.__setstate__((1, array.shape, array.dtype, False, bytes(array.nbytes)))


CHANGES = {
    "shape": lambda a: a.resize((3, 2), refcheck=False),
    "dimensions": lambda a: a.resize((6,), refcheck=False),
    "dtype": lambda a: set_dtype(a, np.int64),
    "memory": moved,
}


def ones():
    return np.ones((2, 3)), np.ones(4)


@pytest.mark.parametrize("of", ["parameter", "gradient", "state"])
@pytest.mark.parametrize("change", [*CHANGES, "writeable"])
def test_a_change_in_place_is_noticed(backend, pins, of, change):
    params, grads = ones(), ones()
    opt = fo.optim.Adam(dict(zip("ab", params, strict=True)))
    given = dict(zip("ab", grads, strict=True))
    for _ in range(2):
        opt.step(given)
    array = {"parameter": params[0], "gradient": grads[0], "state": opt.state["a"]["exp_avg_sq"]}[of]
    if (of, change) == ("state", "dimensions"):
        change = "dtype"
    address = array.__array_interface__["data"][0]
    if change == "writeable":
        array.flags.writeable = False
    else:
        CHANGES[change](array)
    before = [params[1].copy(), opt.state["b"]["exp_avg"].copy(), opt.step_count]
    if of == "gradient" and change in ("writeable", "memory"):  # it is only read, at its new place
        opt.step(given)
        return
    if change == "memory" and array.__array_interface__["data"][0] == address:  # the same again
        return
    with pytest.raises((TypeError, ValueError), match="'a'"):
        opt.step(given)
    np.testing.assert_array_equal(params[1], before[0])
    np.testing.assert_array_equal(opt.state["b"]["exp_avg"], before[1])
    assert opt.step_count == before[2]


def test_the_memory_beneath_a_view_is_exchanged(backend, pins):
    for which in ("parameter", "gradient"):
        whole = np.ones(50_000)
        arrays = {"parameter": np.ones(40_000), "gradient": np.ones(40_000), which: whole[10_000:]}
        opt = fo.optim.SGD({"w": arrays["parameter"]})
        opt.step({"w": arrays["gradient"]})
        whole.__setstate__((1, (2,), np.dtype(float), False, bytes(16)))
        with pytest.raises(ValueError, match="'w' is a view of an array whose memory"):
            opt.step({"w": arrays["gradient"]})
        del opt, arrays


def test_changed_and_changed_back(backend, pins):
    p, g = np.zeros((2, 3)), np.ones((2, 3))
    opt = fo.optim.SGD([p], lr=1.0)
    opt.step([g])
    for array in (p, g):
        array.resize((6,), refcheck=False)
        array.resize((2, 3), refcheck=False)
        array.flags.writeable = False
        array.flags.writeable = True
    opt.step([g])
    assert (p == -2).all()


def test_objects_that_equal_everything(backend):
    p, q = np.zeros(3), np.zeros(3)
    opt = fo.optim.SGD([p, q], lr=1.0)
    grads = [np.ones(3), np.ones(3)]
    opt.step(grads)
    with pytest.raises(TypeError, match=r"gradient for '1' must be a numpy\.ndarray, not _ANY"):
        opt.step([grads[0], mock.ANY])
    params = [p, q]
    opt = fo.optim.SGD(params, lr=1.0)
    opt.step(grads)
    params[1] = mock.ANY
    with pytest.raises(ValueError, match="'1' was replaced"):
        opt.step(grads)
    assert (p == -2).all()


def test_arrays_off_their_alignment(backend):
    def off(n):
        return np.zeros(8 * n + 1, np.uint8)[1:].view(np.float64)

    with pytest.raises(ValueError, match="'w' begins at an address that is no multiple of 8"):
        fo.optim.SGD({"w": off(3)})
    p, g = np.zeros(3), off(3)
    g[...] = 1
    opt = fo.optim.SGD(p, lr=1.0)
    for _ in range(2):
        opt.step(g, clip_norm=100.0)
    assert (p == -2).all()


def test_masked_arrays():
    masked = np.ma.masked_array(np.ones(3), [True, False, False])
    with pytest.raises(TypeError, match="parameter 'w' is a masked array"):
        fo.optim.SGD({"w": masked})
    opt = fo.optim.SGD({"w": np.ones(3)})
    with pytest.raises(TypeError, match="gradient for 'w' is a masked array"):
        opt.step({"w": masked})
    state = fo.optim.Adam({"w": np.ones(3)}).state_dict()
    state["state"]["w"]["exp_avg"] = masked
    with pytest.raises(TypeError, match="exp_avg of 'w' is a masked array"):
        fo.optim.Adam({"w": np.ones(3)}).load_state_dict(state)


def test_containers_can_be_read_only():
    opt = fo.optim.SGD([{"params": [np.ones(2)], "lr": 0.1}, {"params": [np.ones(2)]}])
    for change in ("clear", "reverse", "append"):
        assert not hasattr(opt.groups, change)
    with pytest.raises(AttributeError):
        opt.groups = ()
    with pytest.raises(AttributeError):
        opt.state = {}
    with pytest.raises(TypeError):
        opt.state["x"] = {}
    with pytest.raises(AttributeError, match=r"group\['lr'\] = "):
        opt.groups[0].lr = 0.5
    assert isinstance(opt.groups[0].names, tuple)


def test_attributes_that_would_be_ignored():
    opt = fo.optim.SGD(np.ones(2), lr=0.1)
    with pytest.raises(AttributeError, match=r"opt\.groups\[0\]\['momentum'\] = "):
        opt.momentum = 0.5
    for name, meant in (
        ("weight_decoy", r"did you mean opt\.groups\[0\]\['weight_decay'\]"),
        ("step_cuont", r"did you mean opt\.step_count\?"),
        ("learning_rate", r"did you mean opt\.lr\?"),
    ):
        with pytest.raises(AttributeError, match=f"SGD has no attribute '{name}'.*{meant}"):
            setattr(opt, name, 0.5)

    class Own(fo.optim.SGD):
        def __init__(self, params, warmup):
            self.warmup = warmup
            super().__init__(params, lr=0.1)

    opt = Own(np.ones(2), 5)
    opt.further = 3
    with pytest.raises(AttributeError, match=r"Own\.weight_decay cannot be set"):
        opt.weight_decay = 0.5


def test_states_that_cannot_be():
    """NaN, inf, and negative where a state is a sum of squares; of every rule those that may be negative can be."""
    opt = fo.optim.Adam({"w": np.ones(3)})
    for key, value, message in (
        ("exp_avg", np.nan, "exp_avg of 'w' holds inf or NaN"),
        ("exp_avg_sq", np.inf, "exp_avg_sq of 'w' holds inf or NaN"),
        ("exp_avg_sq", -1.0, "exp_avg_sq of 'w' holds a negative number"),
    ):
        state = opt.state_dict()
        state["state"]["w"][key][1] = value
        state["step_count"] = 7
        with pytest.raises(ValueError, match=message):
            opt.load_state_dict(state)
        assert opt.step_count == 0
    state = opt.state_dict()
    state["state"]["w"]["exp_avg"][1] = -1.0
    opt.load_state_dict(state)
    assert opt.state["w"]["exp_avg"][1] == -1.0


def test_a_state_dict_made_of_the_optimizers_own_arrays():
    opt = fo.optim.Adam({"a": np.ones(3), "b": np.ones(3)})
    opt.step({"a": np.ones(3), "b": np.full(3, 2.0)})
    state = opt.state_dict()
    a, b = (opt.state[name]["exp_avg"].copy() for name in "ab")
    state["state"]["a"]["exp_avg"], state["state"]["b"]["exp_avg"] = (opt.state[name]["exp_avg"] for name in "ba")
    opt.load_state_dict(state)
    np.testing.assert_array_equal(opt.state["a"]["exp_avg"], b)
    np.testing.assert_array_equal(opt.state["b"]["exp_avg"], a)
    opt.state["b"]["exp_avg_sq"].flags.writeable = False
    state["step_count"] = 9
    with pytest.raises(ValueError, match="state 'exp_avg_sq' of 'b' is read-only"):
        opt.load_state_dict(state)
    assert opt.step_count == 1


def test_the_last_step_that_is_counted(backend):
    p = np.ones(2)
    opt = fo.optim.SGD(p, lr=0.1)
    opt.step_count = 2**53 - 1
    opt.step(np.ones(2))
    opt.load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match=r"steps are counted to 2\*\*53"):
        opt.step(np.ones(2))
    assert opt.step_count == 2**53


def test_what_is_not_finite_is_let_through(backend):
    p, q = np.ones(3), np.ones(2)
    opt = fo.optim.SGD([p, q], lr=1.0)
    grads = [np.array([1.0, np.nan, np.inf]), np.ones(2)]
    opt.step(grads, on_nonfinite="ignore")
    np.testing.assert_array_equal(p, [0.0, np.nan, -np.inf])
    opt.step([np.array([1.0, 0.0, 0.0]), np.full(2, np.inf)], on_nonfinite="ignore", clip_norm=1.0)
    np.testing.assert_array_equal(q, [np.nan, np.nan])  # inf / inf, as in PyTorch
    assert p[0] == 0.0
    assert opt.grad_norm == np.inf
    opt.step([np.full(3, np.nan), np.ones(2)], on_nonfinite="ignore", clip_norm=1.0)
    assert np.isnan(p).all()
    assert np.isnan(opt.grad_norm)
    assert opt.step_count == 3


def test_repr_and_messages():
    opt = fo.optim.SGD({"w": np.ones((2, 3)), "b": np.ones(1)}, lr=0.1)
    assert repr(opt).startswith("SGD(2 tensors of 7 elements, lr=0.1, momentum=0.0")
    opt = fo.optim.SGD([{"params": [np.ones(2)]}, {"params": [np.ones(2)], "lr": 0.25}])
    assert "in 2 groups" in repr(opt)
    assert "lr=0.25" in repr(opt)
    with pytest.raises(TypeError, match="an iterator is used up after one pass"):
        fo.optim.SGD(np.ones(2) for _ in range(2))


def test_a_model_made_anew_of_the_layers(backend):
    model = fo.nn.Sequential(fo.nn.Linear(2, 3), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    old = model.gradients()
    opt.step(old)
    model = fo.nn.Sequential(*model.layers, fo.nn.Tanh())
    for grads in (model.gradients(), old):
        with pytest.raises(ValueError, match=r"'0\.weight' is read-only.* a model made anew of its layers has others"):
            opt.step(grads)
    assert opt.step_count == 1
    fo.optim.SGD(model.parameters(), lr=0.1).step(model.gradients())


class Lying(np.ndarray):
    """Of another size, shape, dtype and flags than its memory, if it is asked as users' classes are."""

    shape = property(lambda self: (1000, 1000))
    size = property(lambda self: 10**6)
    nbytes = property(lambda self: 8)
    dtype = property(lambda self: np.dtype(np.float64))
    strides = property(lambda self: (8000, 8))
    __array_interface__ = property(lambda self: {"data": (64, False), "shape": (10**6,), "typestr": "<f8"})

    @property
    def flags(self):
        return np.ones(1).flags


@pytest.mark.parametrize("kind", [Lying, np.matrix, np.memmap])
def test_subclasses_are_taken_for_what_numpy_has_of_them(backend, pins, kind, tmp_path):
    def of(array):
        if kind is np.memmap:
            mapped = np.memmap(tmp_path / str(array[0, 0]), array.dtype, "w+", shape=array.shape)
            mapped[...] = array
            return mapped
        return np.ndarray.view(array, kind)

    p, g, plain = np.ones((2, 3)), np.full((2, 3), 2.0), np.ones((2, 3))
    param, grad = of(p), of(g)
    opt, other = fo.optim.LAMB([param], lr=0.1), fo.optim.LAMB([plain], lr=0.1)
    for clipping in ({}, {"clip_norm": 1.0}):
        opt.step([grad], **clipping)
        other.step([g], **clipping)
    assert np.ndarray.view(param, np.ndarray).tobytes() == plain.tobytes()
    assert fo.global_norm([grad]) == fo.global_norm([g])
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        fo.optim.SGD([np.ones((1000, 1000))], lr=0.1).step([grad])
    fo.clip_grad_norm([grad], 1.0)
    np.testing.assert_allclose(np.ndarray.view(grad, np.ndarray), 1 / np.sqrt(6))
    if kind is not np.memmap:
        p.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            fo.optim.SGD([np.ndarray.view(p, kind)], lr=0.1)
        with pytest.raises(ValueError, match="contiguous"):
            fo.optim.SGD([np.ndarray.view(np.ones((4, 3))[::2], kind)], lr=0.1)
        with pytest.raises(TypeError, match="float32 or float64, not int64"):
            fo.global_norm([np.ndarray.view(np.ones((2, 3), np.int64), kind)])
