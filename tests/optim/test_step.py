"""The gradients that a step takes: their forms, their norms, and arrays that stay, change or are replaced."""

import math

import numpy as np
import pytest
from helpers import OPTIMIZERS, use
from recorded import flat, make

import fastopt as fo

# ---- gradients ------------------------------------------------------------------------------------


def sgd_on_ones(params):
    return fo.optim.SGD(params, lr=1.0)


def test_the_forms_that_params_and_gradients_take(backend):
    for params, grads in [
        (lambda w, b: [w, b], lambda dw, db: [dw, db]),
        (lambda w, b: (w, b), lambda dw, db: (dw, db)),
        (lambda w, b: {"w": w, "b": b}, lambda dw, db: {"w": dw, "b": db}),
        (lambda w, b: {"w": w, "b": b}, lambda dw, db: {"b": db, "w": dw}),
        (lambda w, b: {"w": w, "b": b}, lambda dw, db: [dw, db]),
        (lambda w, b: [{"params": w}, {"params": b}], lambda dw, db: [dw, db]),
    ]:
        w, b = np.full((2, 3), 9.0), np.full(3, 9.0, np.float32)
        opt = sgd_on_ones(params(w, b))
        for i in range(1, 3):
            opt.step(grads(np.full((2, 3), 1.0), np.full(3, 2.0, np.float32)))
            np.testing.assert_array_equal(w, 9.0 - i)
            np.testing.assert_array_equal(b, 9.0 - 2 * i)


def test_keys_need_not_be_text():
    p = np.ones(3)
    sgd_on_ones({0: p}).step({0: np.ones(3)})
    np.testing.assert_array_equal(p, 0.0)


def test_keys_that_print_alike_are_refused():
    with pytest.raises(ValueError, match="1"):
        fo.optim.Adam({1: np.ones(3), "1": np.ones(3)})


def test_a_single_array(backend):
    w = np.ones((2, 2))
    opt = sgd_on_ones(w)
    opt.step(np.ones((2, 2)))
    opt.step([np.ones((2, 2))])
    np.testing.assert_array_equal(w, -1.0)


def test_nothing_to_update(backend):
    for nothing in (np.empty(0), [np.empty((3, 0), np.float32)]):
        opt = fo.optim.Adam(nothing)
        for clipping in ({}, {"clip_norm": 1.0}, {"clip_norm_per_tensor": 1.0}):
            opt.step(nothing if isinstance(nothing, np.ndarray) else [np.empty((3, 0), np.float32)], **clipping)
        assert opt.step_count == 3
    for without in ([], {}, [{"params": {}}], fo.nn.ReLU().parameters()):
        with pytest.raises(ValueError, match="no parameters to optimize"):
            fo.optim.Adam(without)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_scalar_is_the_gradient_of_a_single_number(backend, shape):
    """As the sum of an array is that of a bias."""
    dz = np.full(3, 0.5, np.float32)
    for grad in (dz.sum(), np.array(1.5, np.float32), 1.5):
        p = np.ones(shape, np.float32)
        opt = fo.optim.SGD({"b": p}, lr=0.5)
        opt.step({"b": grad})
        opt.step({"b": grad}, clip_norm=0.5)
        assert p == 0
        assert p.shape == shape
    single = np.ones(1)
    fo.optim.SGD(single, lr=0.5).step(np.float64(1))
    assert single == 0.5
    for wrong, error in (
        (np.float64(1), TypeError),
        (np.int64(1), TypeError),
        (True, TypeError),
        (np.inf, ArithmeticError),
    ):
        with pytest.raises(error):
            opt.step({"b": wrong})
    with pytest.raises((TypeError, ValueError)):
        fo.optim.SGD(np.ones(2), lr=0.5).step(np.float64(1))
    assert p == 0


def test_no_dimensions(backend):
    p = np.array(1.0)
    sgd_on_ones(p).step(np.array(0.25))
    assert p == 0.75


def test_new_gradients_every_step_or_the_same_arrays(backend, rng):
    """The same numbers in the same arrays, in new ones, in non-contiguous and in read-only ones."""
    values = [[rng.standard_normal((30, 40)), rng.standard_normal(7)] for _ in range(5)]

    def run(grads_of):
        params = [np.ones((30, 40)), np.ones(7)]
        opt = fo.optim.Adam(params, lr=0.1)
        for step in range(5):
            opt.step(grads_of(step))
        return flat(params).tobytes()

    kept = [np.empty((30, 40)), np.empty(7)]
    kept_dict = {"0": kept[0], "1": kept[1]}

    def in_place(step, container):
        for array, value in zip(kept, values[step], strict=True):
            array[...] = value
        return container

    def strided(step):
        wide = np.empty((30, 80))
        wide[:, ::2] = values[step][0]
        return [wide[:, ::2], np.repeat(values[step][1], 3)[::3]]

    def frozen(step):
        grads = [value.copy() for value in values[step]]
        for grad in grads:
            grad.flags.writeable = False
        return grads

    expected = run(lambda step: [value.copy() for value in values[step]])
    assert run(lambda step: in_place(step, kept)) == expected
    assert run(lambda step: in_place(step, kept_dict)) == expected
    assert run(lambda step: tuple(in_place(step, kept))) == expected
    assert run(lambda step: [np.asfortranarray(values[step][0]), values[step][1][::-1][::-1]]) == expected
    assert run(strided) == expected
    assert run(frozen) == expected
    assert run(lambda step: strided(step) if step % 2 else in_place(step, kept)) == expected


def test_the_same_gradients_under_other_names(backend):
    """In the order of their keys they are the arrays of the step before; it is the names that say whose they are."""
    params = {"a": np.zeros(3), "b": np.zeros(3)}
    ones, twos = np.full(3, 1.0), np.full(3, 2.0)
    opt = sgd_on_ones(params)
    opt.step({"a": ones, "b": twos})
    opt.step({"b": ones, "a": twos})
    np.testing.assert_array_equal(params["a"], -3.0)
    np.testing.assert_array_equal(params["b"], -3.0)
    opt.step({"b": ones, "a": twos})
    np.testing.assert_array_equal(params["a"], -5.0)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2,)], ids=str)
def test_arrays_that_equal_those_before_are_others_all_the_same(backend, shape):
    """Arrays of one element compare as numbers do."""
    params = [np.zeros(2), np.ones(shape)]
    grads = [np.ones(2), np.ones(shape)]
    opt = sgd_on_ones(params)
    opt.step(grads)
    grads[1][...] = 0
    other = [grads[0], np.zeros(shape)]
    opt.step(other)
    other[1][...] = 3
    opt.step(other)
    np.testing.assert_array_equal(params[1], np.full(shape, -3.0))
    params[1] = params[1].copy()
    with pytest.raises(ValueError, match="'1' was replaced by another array"):
        opt.step(grads)


def test_a_replaced_gradient_is_never_read_stale(backend):
    p, q = np.zeros(3), np.zeros(3)
    opt = sgd_on_ones({"p": p, "q": q})
    grads = {"p": np.full(3, 1.0), "q": np.full(3, 10.0)}
    opt.step(grads)
    grads["p"] = np.full(3, 2.0)  # in the same dict
    opt.step(grads)
    np.testing.assert_array_equal(p, -3.0)
    grads["p"] = np.full((6, 2), 3.0)[::2, 0]  # not contiguous: copied at every step
    opt.step(grads)
    grads["p"].base[...] = 4.0
    opt.step(grads)
    np.testing.assert_array_equal(p, -10.0)
    grads["p"], grads["q"] = grads["q"], np.full(3, 100.0)
    opt.step(grads)
    np.testing.assert_array_equal(p, -20.0)
    np.testing.assert_array_equal(q, -140.0)


@pytest.mark.parametrize("of", ["parameter", "gradient", "base of the parameter", "base of the gradient"])
def test_an_array_in_use_cannot_be_resized(backend, of):
    """Its memory would be freed, and the next step would read or write there."""
    arrays = {"parameter": np.ones(30), "gradient": np.ones(30)}
    for name in ("parameter", "gradient"):
        arrays[f"base of the {name}"] = np.ones(40)
    on_bases = of.startswith("base")
    param, grad = (arrays[f"base of the {n}"][5:35] if on_bases else arrays[n] for n in ("parameter", "gradient"))
    opt = sgd_on_ones(param)
    opt.step(grad)
    with pytest.raises(ValueError, match="cannot resize"):
        arrays[of].resize(10**6, refcheck=False)
    opt.step(grad)
    np.testing.assert_array_equal(param, -1.0)
    del opt
    arrays["gradient"].resize(50, refcheck=False)


def test_gradients_may_share_memory_with_each_other(backend):
    p, q, g = np.zeros(3), np.zeros(3), np.arange(4.0)
    sgd_on_ones([p, q]).step([g[:3], g[1:]])
    np.testing.assert_array_equal(p, [0, -1, -2])
    np.testing.assert_array_equal(q, [-1, -2, -3])
    sgd_on_ones([p, q]).step([g[:3], g[:3]])
    np.testing.assert_array_equal(q, [-1, -3, -5])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_side_by_side_in_one_arena(name, backend):
    """Views of one array that touch but do not overlap, off the cache line."""
    arena = np.arange(1.0, 21.0)
    together = make(name, [arena[1:4], arena[4:4], arena[4:17]], lr=0.1)
    apart = arena[1:4].copy(), arena[4:17].copy()
    alone = make(name, list(apart), lr=0.1)
    for _ in range(3):
        together.step([np.ones(3), np.empty(0), np.ones(13)])
        alone.step([np.ones(3), np.ones(13)])
    assert arena[1:17].tobytes() == flat(apart).tobytes()
    assert (arena[[0, 17, 18, 19]] == [1, 18, 19, 20]).all()


def test_an_optimizer_keeps_the_backend_it_was_made_with():
    use("numpy")
    p = np.ones(3)
    opt = sgd_on_ones(p)
    use("numba")
    opt.step(np.ones(3))
    np.testing.assert_array_equal(p, 0.0)
    assert type(opt._plan).__module__ == "fastopt._backends.numpy"


# ---- norms ----------------------------------------------------------------------------------------


def test_grad_norm(backend):
    a, b = np.ones(2, np.float32), np.ones(1)
    opt = fo.optim.SGD([a, b], lr=1.0)
    opt.step([np.array([3.0, 0.0], np.float32), np.array([4.0])])
    assert opt.grad_norm is None
    opt.step([np.array([3.0, 0.0], np.float32), np.array([4.0])], clip_norm=math.inf)
    assert opt.grad_norm == 5.0
    opt.step([np.array([3.0, 0.0], np.float32), np.array([4.0])], clip_norm=0.5, grad_scale=-2.0)
    assert opt.grad_norm == 10.0
    np.testing.assert_allclose(a, [1 - 6 + 0.3, 1])
    opt.step([np.zeros(2, np.float32), np.zeros(1)], clip_norm=1.0)
    assert opt.grad_norm == 0.0


def test_clipping_with_an_empty_tensor(backend):
    a, empty = np.ones(2), np.empty((0, 3))
    opt = fo.optim.Adam([empty, a, np.empty(0)], lr=0.1)
    opt.step([np.empty((0, 3)), np.array([3.0, 4.0]), np.empty(0)], clip_norm=1.0)
    assert opt.grad_norm == 5.0
    opt.step([np.empty((0, 3)), np.array([3.0, 4.0]), np.empty(0)], clip_norm_per_tensor=1.0)
    assert (a < 1).all()


def test_a_factor_per_tensor_holds_for_its_step_only(backend):
    p = np.zeros(2)
    opt = fo.optim.SGD(p, lr=1.0)
    opt.step(np.array([3.0, 4.0]), clip_norm_per_tensor=1.0)
    np.testing.assert_allclose(p, [-0.6, -0.8])
    opt.step(np.array([3.0, 4.0]))
    np.testing.assert_allclose(p, [-3.6, -4.8])
