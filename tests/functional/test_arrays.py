"""What the functions of arrays accept, refuse and leave alone: views, overlaps, unusual dtypes and shapes."""

import numpy as np
import pytest
from helpers import DTYPES

import fastopt as fo
from fastopt._specification.kernels import ACTIVATIONS as FORWARD
from fastopt._specification.kernels import OF_PAIRS as LOSSES


def forward(name):
    return lambda x, y, out: getattr(fo, name)(x, out=out)


def backward(name):
    return lambda x, y, out: getattr(fo, f"{name}_backward")(x, y, out=out)


def loss(name, reduction):
    return lambda x, y, out: getattr(fo, name)(x, y, out=out, reduction=reduction)[1]


# Every function of one or two arrays like one another, as f(x, y, out).
ONE = {name: forward(name) for name in FORWARD}
TWO = {f"{name}_backward": backward(name) for name in FORWARD}
TWO |= {f"{name}-{reduction}": loss(name, reduction) for name in LOSSES for reduction in ("mean", "none")}
CALLS = ONE | TWO
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@each_call
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_may_be_an_input_or_lie_beside_it_but_not_within(backend, call, dtype, rng):
    """By views of one buffer, shifted against one another, in both directions."""
    n = 40
    values = rng.standard_normal(3 * n).astype(dtype)
    for shift in (0, 1, -1, n - 1, 1 - n, n, -n):
        for other in (False, True) if call in TWO.values() else (False,):  # whether the second input is near to out
            buffer = values.copy()
            near, far = buffer[n : 2 * n], values[:n].copy()
            x, y = (far, near) if other else (near, far)
            out = buffer[n + shift : 2 * n + shift]
            expected = call(x.copy(), y.copy(), None)
            if 0 < abs(shift) < n:
                with pytest.raises(ValueError, match="out overlaps a part of"):
                    call(x, y, out)
                assert buffer.tobytes() == values.tobytes()
            else:
                assert call(x, y, out) is out
                assert out.tobytes() == expected.tobytes()
                around = np.ones(3 * n, bool)
                around[n + shift : 2 * n + shift] = False
                assert buffer[around].tobytes() == values[around].tobytes()


@each_call
def test_what_out_must_be(backend, call):
    x, y = np.linspace(-1, 1, 6).reshape(2, 3), np.full((2, 3), 0.5)
    frozen = np.full((2, 3), 7.0)
    frozen.flags.writeable = False
    bad = [
        (np.full((3, 2), 7.0), ValueError, r"out has shape \(3, 2\), . has \(2, 3\)"),
        (np.full(6, 7.0), ValueError, r"out has shape \(6,\), . has \(2, 3\)"),
        (np.full((1, 2, 3), 7.0), ValueError, r"out has shape \(1, 2, 3\), . has \(2, 3\)"),
        (np.full((2, 3), 7.0, np.float32), TypeError, "out is float32, . is float64"),
        (np.full((2, 3), 7.0, ">f8"), TypeError, "out is >f8, . is float64"),
        (np.full((3, 2), 7.0).T, ValueError, "out must be C-contiguous; its strides"),
        (np.full((2, 6), 7.0)[:, ::2], ValueError, "out must be C-contiguous; its strides"),
        (frozen, ValueError, "out is read-only"),
        (np.full((2, 3), 7.0).view(np.recarray), TypeError, "out must be a plain numpy.ndarray, not recarray"),
        (np.float64(7.0), TypeError, "out must be a plain numpy.ndarray, not float64"),
    ]
    for out, error, message in bad:
        with pytest.raises(error, match=message) as raised:
            call(x, y, out)
        assert raised.value.__context__ is None  # nothing else is told of
        assert (np.asarray(out) == 7).all()


@each_call
def test_what_inputs_must_be(backend, call):
    x, out = np.full((2, 3), 0.5), np.full((2, 3), 7.0)
    structured = np.zeros((2, 3), [("a", "f8")])
    bad = [
        (x.astype(">f8"), TypeError, "must be float32 or float64, not >f8"),
        (structured, TypeError, r"must be float32 or float64, not \[\('a', '<f8'\)\]"),
        (x.astype(np.float16), TypeError, "must be float32 or float64, not float16"),
        (x.astype(int), TypeError, "must be float32 or float64, not int"),
        (x.view(np.recarray), TypeError, r"must be a plain numpy.ndarray, not recarray: np\.asarray\((\w+)\) is one"),
        (x.tolist(), TypeError, "must be a plain numpy.ndarray, not list"),
    ]
    for each, error, message in bad:
        for written in (out, None):
            with pytest.raises(error, match=message):
                call(each, each, written)
        assert (out == 7).all()


@each_call
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_is_read(backend, call, dtype, rng):
    """Transposed, strided, reversed, off their alignment, read-only, on disk: the result is that of a plain copy."""
    x = rng.standard_normal((4, 6)).astype(dtype)
    unaligned = np.frombuffer(b"0" + x.tobytes(), dtype, offset=1).reshape(x.shape)
    layouts = [x.T, x[:, ::2], x[::-1], np.broadcast_to(x[0], x.shape), unaligned, x[:2], np.asfortranarray(x)]
    layouts.append(x[:2].view(np.memmap))
    for view in layouts:
        plain = np.array(view)
        expected = call(plain, plain, None)
        assert call(view, view, None).tobytes() == expected.tobytes()
        assert call(plain, view, np.empty_like(plain, order="C")).tobytes() == expected.tobytes()
        assert call(view, plain, np.empty(view.shape, dtype)).tobytes() == expected.tobytes()


@each_call
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_dimension_and_one_element(backend, call, dtype):
    for shape in ((), (1,), (1, 1)):
        x, y, out = np.full(shape, 0.5, dtype), np.full(shape, 0.25, dtype), np.zeros(shape, dtype)
        expected = call(np.full(2, 0.5, dtype), np.full(2, 0.25, dtype), None)
        got = call(x, y, out)
        assert got is out
        assert got.shape == shape
        halves = {1.0, 2.0}  # the gradient of a mean is half as large for two
        assert float(got.reshape(-1)[0] / expected[0]) in halves


@pytest.mark.parametrize("name", FORWARD)
def test_nothing_comes_of_nothing(backend, name):
    for shape in ((0,), (0, 3), (3, 0)):
        x, out = np.empty(shape), np.empty(shape)
        assert getattr(fo, name)(x, out=out) is out
        assert getattr(fo, name)(x).shape == shape
        assert getattr(fo, f"{name}_backward")(x, x, out=x) is x
    for loss in LOSSES:
        assert getattr(fo, loss)(x, x, reduction="sum") == (0.0, pytest.approx(x))


def test_no_elements_may_lie_at_an_odd_address(backend):
    """For NumPy they are aligned there."""

    def empty(*shape):
        return np.zeros(17, np.uint8)[1:].view(np.float32)[:0].reshape(shape)

    for name, call in CALLS.items():
        if not name.endswith("mean"):
            call(empty(0), empty(0), empty(0))
    assert fo.softmax(empty(0, 3)).shape == (0, 3)
    assert (fo.matmul(empty(3, 0), empty(0, 2)) == 0).all()
    assert fo.matmul(empty(0, 3), np.zeros((3, 2), np.float32), empty(0, 2)).shape == (0, 2)


def test_an_array_whose_shape_was_changed_in_place(backend):
    """Nothing is remembered of an array from call to call."""
    x, out = np.arange(6.0), np.empty(6)
    fo.sigmoid(x, out=out)
    x.resize((2, 3), refcheck=False)
    with pytest.raises(ValueError, match=r"out has shape \(6,\), x has \(2, 3\)"):
        fo.sigmoid(x, out=out)
    out.resize((2, 3), refcheck=False)
    assert fo.sigmoid(x, out=out) is out
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        fo.sigmoid(x, out=out)
    with pytest.raises(ValueError, match="out is read-only"):
        fo.sigmoid(out, out=out)


def test_a_dtype_that_equals_float32_without_being_it(backend):
    noted = np.dtype(np.float32, metadata={"unit": "m"})
    x = np.array([0.0, 1.0], noted)
    plain, out = np.array([0.0, 1.0], np.float32), np.empty(2, noted)
    for y in (fo.sigmoid(x), fo.sigmoid(x, out=out), fo.sigmoid(plain, out=np.empty(2, noted))):
        assert y.tobytes() == fo.sigmoid(plain).tobytes()
    assert fo.logistic_loss(x, plain, out=out)[0] == fo.logistic_loss(plain, plain)[0]


def test_a_loss_of_nan_is_not_taken_for_a_refusal(backend):
    """Where arrays lie well, NaN is what the numbers give, and the gradient is there too."""
    z = np.array([np.nan, 1.0])
    y, out = np.ones(2), np.zeros(4)[1:3]
    for loss in LOSSES:
        value, dz = getattr(fo, loss)(z, y, out=out)
        assert np.isnan(value)
        assert dz is out
        assert np.isnan(dz[0])
        assert dz[1] == getattr(fo, loss)(z[1:], y[1:], reduction="sum")[1][0] / 2
    value, dz = fo.softmax_cross_entropy(z.reshape(1, 2), np.array([0]), out=np.zeros((1, 2)))
    assert np.isnan(value)
    assert np.isnan(dz).all()


def test_softmax_does_not_write_over_what_it_reads(backend):
    buffer = np.linspace(-1, 1, 40)
    z, labels = buffer[10:22].reshape(4, 3), np.array([0, 1, 2, 0])
    before = buffer.copy()
    for begin in (9, 11, 21, 0):
        with pytest.raises(ValueError, match="out overlaps a part of z"):
            fo.softmax_cross_entropy(z, labels, out=buffer[begin : begin + 12].reshape(4, 3))
    near = np.ones(16)
    out, within = near[:12].reshape(4, 3), near[:4].view(np.int64)
    within[...] = labels
    kept = near.copy()
    with pytest.raises(ValueError, match="out overlaps labels"):
        fo.softmax_cross_entropy(z, within, out=out)
    with pytest.raises(ValueError, match="out overlaps weight"):
        fo.softmax_cross_entropy(z, labels, weight=near[5:8], out=out)
    assert near.tobytes() == kept.tobytes()
    assert buffer.tobytes() == before.tobytes()
    apart = buffer[22:34].reshape(4, 3)
    expected = fo.softmax_cross_entropy(z.copy(), labels)
    value, dz = fo.softmax_cross_entropy(z, labels, out=apart)
    assert (value, dz.tobytes()) == (expected[0], expected[1].tobytes())
    assert fo.softmax_cross_entropy(z, labels, out=z)[1].tobytes() == expected[1].tobytes()


@each_call
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_that_are_not_aligned_are_read_and_not_written(backend, call, dtype, rng):
    x, y = rng.uniform(0.1, 0.9, (2, 30)).astype(dtype)

    def unaligned(values):
        buffer = np.zeros(values.nbytes + 1, np.uint8)
        array = buffer[1:].view(dtype)
        array[...] = values
        return array

    expected = call(x, y, None)
    np.testing.assert_array_equal(call(unaligned(x), unaligned(y), None), expected)
    with pytest.raises(ValueError, match="out must be aligned"):
        call(x, y, unaligned(x))
