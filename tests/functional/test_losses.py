"""The losses: against PyTorch's recorded results, closed forms, finite differences, and themselves in every backend."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import BACKENDS
from loss_truth import TRUTH
from variants import assert_all_agree, misaligned, numerical_gradient, using

import fastopt as fo
from fastopt._specification.kernels import OF_PAIRS
from fastopt.losses.standard import LOSSES

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "torch_functions.npz"))
CASES = json.loads(str(GOLDEN["cases"]))["bce"]
DTYPES = [np.float32, np.float64]
SIZES = [0, 1, 2, 17, 513, 8191, 20011]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_logistic_loss_equals_pytorchs(backend, case):
    z, y, weight, pos_weight, loss, dz = (
        GOLDEN.get(f"bce{case}_{key}") for key in ("z", "y", "weight", "pos_weight", "loss", "dz")
    )
    with using((backend, None, 1)):
        ours = fo.logistic_loss(z, y, weight=weight, pos_weight=pos_weight, reduction=CASES[case]["reduction"])
        signed = fo.logistic_loss(
            z, 2 * y - 1, weight=weight, pos_weight=pos_weight, reduction=CASES[case]["reduction"], targets="-1/+1"
        )
    np.testing.assert_allclose(ours[0], loss, rtol=1e-13)
    np.testing.assert_allclose(ours[1], dz, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(signed[0], loss, rtol=1e-12)
    np.testing.assert_allclose(signed[1], dz, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OF_PAIRS)
def test_bits_of_elementwise_losses_are_the_same_everywhere(name, size, dtype):
    rng = np.random.default_rng(size)
    z, y = (4 * rng.standard_normal(size)).astype(dtype), rng.random(size).astype(dtype)
    weights = {"weight": rng.random(size).astype(dtype), "pos_weight": rng.random(1).astype(dtype)}
    if size > 2:
        z[:3] = np.inf, -np.inf, np.nan
        y[:2] = 1, 0

    def compute(place=np.copy):
        loss = getattr(fo, name)
        total, dz = loss(place(z), place(y), reduction="sum")
        losses, dz_none = loss(place(z), y, reduction="none", out=place(z))
        results = [np.float64(total), dz, losses, dz_none]
        if name == "logistic_loss":
            total, dz = loss(z, y, **weights, reduction="sum")
            results += [np.float64(total), dz, *loss(z, 2 * y - 1, targets="-1/+1", reduction="none")]
        return results

    expected = assert_all_agree(compute)
    for result, again in zip(expected, compute(misaligned), strict=True):
        np.testing.assert_array_equal(result, again)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(0, 3), (1, 1), (5, 2), (900, 10), (37, 63), (33, 64), (20, 65), (9, 1000), (3, 9001)], ids=str
)
def test_bits_of_softmax_are_the_same_everywhere(shape, dtype):
    rng = np.random.default_rng(7)
    rows, classes = shape
    z = (3 * rng.standard_normal(shape)).astype(dtype)
    labels = rng.integers(0, classes, rows)
    labels[1::5] = -100
    weight = rng.random(classes).astype(dtype)
    if rows > 4 and classes > 1:
        z[0, 0] = np.inf
        z[2, :] = -np.inf
        z[3, classes // 2] = np.nan
        z[4, 0] = -np.inf

    def compute(place=np.copy):
        loss = fo.softmax_cross_entropy
        total, dz = loss(place(z), place(labels), reduction="sum")
        losses, dz_none = loss(z, labels, weight=place(weight), reduction="none", label_smoothing=0.1, out=place(z))
        return np.float64(total), dz, losses, dz_none

    expected = assert_all_agree(compute)
    for result, again in zip(expected, compute(misaligned), strict=True):
        np.testing.assert_array_equal(result, again)


@pytest.mark.parametrize("signed", [False, True])
def test_gradients_of_elementwise_losses_are_those_of_finite_differences(signed):
    rng = np.random.default_rng(8)
    z, y = rng.standard_normal((2, 4, 3))
    y = np.sign(y) if signed else rng.random((4, 3))
    options = {"targets": "-1/+1" if signed else "0/1", "weight": rng.random((4, 1)), "pos_weight": rng.random(3)}
    for reduction in ("mean", "sum"):
        for loss, more in ((fo.logistic_loss, options), *((getattr(fo, name), {}) for name in OF_PAIRS)):
            _, dz = loss(z, y, reduction=reduction, **more)
            expected = numerical_gradient(lambda v: loss(v, y, reduction=reduction, **more)[0], z)  # noqa: B023
            np.testing.assert_allclose(dz, expected, rtol=1e-7, atol=1e-9)


def test_every_loss_has_its_truth_and_its_class():
    assert set(TRUTH) == set(OF_PAIRS)
    for truth in TRUTH.values():
        assert LOSSES[truth.called] is getattr(fo.losses, truth.name)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_each_is_its_formula(name, backend):
    rng = np.random.default_rng(4)
    z, y, truth = 3 * rng.standard_normal((50, 4)), rng.random((50, 4)), TRUTH[name]
    losses, dz = getattr(fo, name)(z, y, reduction="none")
    np.testing.assert_allclose(losses, truth.loss(z, y), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(dz, truth.gradient(z, y), rtol=1e-12, atol=1e-15)
    weight, loss = rng.random(50), LOSSES[truth.called]()
    assert loss.mean(z, y, weight) == pytest.approx((truth.loss(z, y) * weight[:, None]).mean(), rel=1e-12)
    loss.bind(z, y, dz, weight)()
    np.testing.assert_allclose(dz, truth.gradient(z, y) * weight[:, None] / z.size, rtol=1e-12, atol=1e-15)


def reference_softmax(z, labels, weight, smoothing, ignore_index):
    """Losses and their weights, straight from the definition."""
    shifted = z - z.max(axis=1, keepdims=True)
    minus_log_p = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    used = labels != ignore_index
    safe = np.where(used, labels, 0)
    of_label = weight[safe] * minus_log_p[np.arange(len(z)), safe]
    losses = (1 - smoothing) * of_label + smoothing / z.shape[1] * (weight * minus_log_p).sum(axis=1)
    return np.where(used, losses, 0), np.where(used, weight[safe], 0)


@pytest.mark.parametrize("classes", [1, 4, 70])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_is_its_definition_and_its_gradient_that_of_finite_differences(classes, smoothing, weighted):
    rng = np.random.default_rng(9)
    z, labels = 2 * rng.standard_normal((6, classes)), rng.integers(0, classes, 6)
    labels[2] = -7
    weight = rng.uniform(0.2, 2, classes) if weighted else None
    options = {"weight": weight, "label_smoothing": smoothing, "ignore_index": -7}
    w = np.ones(classes) if weight is None else weight
    losses, weights = reference_softmax(z, labels, w, smoothing, -7)
    for reduction, expected in (("none", losses), ("sum", losses.sum()), ("mean", losses.sum() / weights.sum())):
        loss, dz = fo.softmax_cross_entropy(z, labels, reduction=reduction, **options)
        np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-14)

        denominator = weights.sum() if reduction == "mean" else 1.0

        def total(v, denominator=denominator):
            return reference_softmax(v, labels, w, smoothing, -7)[0].sum() / denominator

        np.testing.assert_allclose(dz, numerical_gradient(total, z), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_logistic_loss_at_extreme_logits(backend, dtype):
    big = np.finfo(dtype).max
    z = np.array([big, big, -big, -big, np.inf, np.inf, -np.inf, -np.inf, 200, -200, np.nan], dtype)
    y = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1], dtype)
    with using((backend, None, 1)):
        losses, dz = fo.logistic_loss(z, y, reduction="none")
        weighted, dz_weighted = fo.logistic_loss(z, y, reduction="none", pos_weight=np.array([2], dtype))
    np.testing.assert_array_equal(losses[:8], [0, big, big, 0, 0, np.inf, np.inf, 0])
    np.testing.assert_array_equal(dz[:8], [0, 1, -1, 0, 0, 1, -1, 0])
    np.testing.assert_allclose(losses[8:10], np.exp(np.float64(-200)), rtol=1e-6, atol=1e-45)
    np.testing.assert_array_equal(dz_weighted[:8], [0, 1, -2, 0, 0, 1, -2, 0])
    assert weighted[6] == np.inf
    for result in (losses, dz, weighted, dz_weighted):
        assert np.isnan(result[-1])
        assert not np.isnan(result[:-1]).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 80])
def test_softmax_at_extreme_logits(backend, dtype, classes):
    inf, nan, big = np.inf, np.nan, np.finfo(dtype).max
    z = np.zeros((7, classes), dtype)
    z[:, 3:] = -inf
    z[:, :3] = [
        [big, -big, 0], [inf, 0, 0], [inf, inf, 0], [-inf, 0, 0], [-inf, -inf, -inf], [nan, 0, 0], [12, 0, -inf]
    ]  # fmt: skip
    with using((backend, None, 1)):
        losses, dz = fo.softmax_cross_entropy(z, np.array([0, 0, 0, 0, 0, 1, 0]), reduction="none")
    np.testing.assert_allclose(losses[:4], [0, 0, np.log(2), inf], rtol=1e-6)
    np.testing.assert_allclose(dz[:4, :3], [[0, 0, 0], [0, 0, 0], [-0.5, 0.5, 0], [-1, 0.5, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(dz[:4, 3:], 0)
    assert np.isnan(losses[4:6]).all()
    assert np.isnan(dz[4:6]).all()
    tiny = np.exp(-12.0)  # the loss of a right answer that is nearly certain keeps its digits
    np.testing.assert_allclose(
        [losses[6], dz[6, 1], -dz[6, 0]], [np.log1p(tiny), tiny / (1 + tiny), tiny / (1 + tiny)], rtol=1e-6
    )


def test_large_sums_are_exact_enough():
    z = np.zeros(3_000_000, np.float32)
    loss, dz = fo.logistic_loss(z, np.ones_like(z))
    assert loss == pytest.approx(np.log(2), rel=1e-7)
    assert dz[0] == np.float32(-0.5 / z.size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_may_overwrite_the_logits(dtype):
    rng = np.random.default_rng(10)
    z, y, labels = rng.standard_normal((9, 4)).astype(dtype), rng.random((9, 4)).astype(dtype), rng.integers(0, 4, 9)
    pairs = [(getattr(fo, name), y) for name in OF_PAIRS]
    for loss, target in [*pairs, (fo.softmax_cross_entropy, labels)]:
        expected = loss(z, target)
        out = z.copy()
        result = loss(out, target, out=out)
        assert result[1] is out
        assert result[0] == expected[0]
        np.testing.assert_array_equal(out, expected[1])


LOGITS, TARGETS, LABELS = np.zeros((4, 3)), np.ones((4, 3)), np.array([0, 1, 2, 0])
BAD_CALLS = [
    (fo.logistic_loss, (LOGITS, TARGETS[:2]), {}, ValueError, r"y has shape \(2, 3\), z has \(4, 3\)"),
    (fo.logistic_loss, (LOGITS, TARGETS.astype("f")), {}, TypeError, "y is float32, z is float64"),
    (fo.logistic_loss, (LOGITS, TARGETS), {"reduction": "max"}, ValueError, "reduction must be .* not 'max'"),
    (fo.logistic_loss, (LOGITS, TARGETS), {"targets": "0/2"}, ValueError, "targets must be .* not '0/2'"),
    (fo.logistic_loss, (LOGITS, TARGETS), {"weight": np.ones(4)}, ValueError, r"weight has shape \(4,\), .* \(4, 3\)"),
    (fo.logistic_loss, (LOGITS, TARGETS), {"weight": np.ones((2, 4, 3))}, ValueError, "cannot be broadcast"),
    (fo.logistic_loss, (LOGITS, TARGETS), {"pos_weight": np.ones(3, "f")}, TypeError, "pos_weight is float32, z is"),
    (fo.logistic_loss, (LOGITS[:0], TARGETS[:0]), {}, ValueError, "the mean of no elements"),
    (fo.mse_loss, (LOGITS[:0], TARGETS[:0]), {}, ValueError, "the mean of no elements"),
    (fo.mse_loss, (LOGITS, TARGETS[:2]), {}, ValueError, r"y has shape \(2, 3\), z has \(4, 3\)"),
    (fo.softmax_cross_entropy, (LOGITS[0], LABELS), {}, ValueError, r"z has shape \(3,\); it must be \(rows"),
    (fo.softmax_cross_entropy, (LOGITS[:, :0], LABELS), {}, ValueError, r"z has shape \(4, 0\)"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS[:2]), {}, ValueError, r"labels has shape \(2,\), for z of shape \(4"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS + 0.5), {}, TypeError, "labels must be integers, not float64"),
    (fo.softmax_cross_entropy, (LOGITS, [0, 1, 2, 0]), {}, TypeError, "labels must be a plain numpy.ndarray, not list"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS + 1), {}, ValueError, r"labels\[2\] is 3: not one of the 3 classes"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS - 1), {}, ValueError, r"labels\[0\] is -1: not one of the 3"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS), {"weight": np.ones(4)}, ValueError, r"weight has shape \(4,\)"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS), {"label_smoothing": 1.1}, ValueError, "label_smoothing must be from"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS), {"ignore_index": None}, TypeError, "ignore_index must be an int"),
    (fo.softmax_cross_entropy, (LOGITS, LABELS * 0 - 100), {}, ValueError, "their mean is undefined"),
    (fo.softmax_cross_entropy, (LOGITS[:0], LABELS[:0]), {}, ValueError, "the mean of no elements"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "arguments", "options", "error", "message"), BAD_CALLS)
def test_bad_input_is_refused_before_anything_is_written(loss, arguments, options, error, message):
    out = np.full(arguments[0].shape, 7.0)
    with pytest.raises(error, match=message):
        loss(*arguments, **options, out=out)
    assert (out == 7).all()


def test_bad_outputs_are_refused():
    read_only, large = np.zeros((4, 3)), np.zeros((5, 3))
    read_only.flags.writeable = False
    pairs = [(getattr(fo, name), TARGETS) for name in OF_PAIRS]
    for loss, target in [*pairs, (fo.softmax_cross_entropy, LABELS)]:
        with pytest.raises(ValueError, match="out is read-only"):
            loss(LOGITS, target, out=read_only)
        with pytest.raises(TypeError, match="out is float32, z is float64"):
            loss(LOGITS, target, out=np.zeros((4, 3), np.float32))
        with pytest.raises(ValueError, match=r"out must be C-contiguous; its strides"):
            loss(LOGITS, target, out=np.zeros((3, 4)).T)
        with pytest.raises(ValueError, match="out overlaps a part of z"):
            loss(large[:4], target, out=large[1:])


def test_labels_of_any_integer_type():
    expected = fo.softmax_cross_entropy(LOGITS, LABELS)[1]
    for dtype in (np.uint8, np.int32, np.uint64):
        np.testing.assert_array_equal(fo.softmax_cross_entropy(LOGITS, LABELS.astype(dtype))[1], expected)
    np.testing.assert_array_equal(fo.softmax_cross_entropy(LOGITS, LABELS.repeat(2)[::2])[1], expected)


@pytest.mark.parametrize("classes", [3, 70])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_label_that_no_check_has_seen_makes_its_row_nan_and_nothing_else(classes, dtype, rng):
    """As those of `fit` are, if a callback has put other labels into its arrays."""
    z = rng.standard_normal((40, classes)).astype(dtype)
    labels = rng.integers(0, classes, 40)
    weight = rng.uniform(1, 2, classes).astype(dtype)
    wrong = labels.copy()
    wrong[[1, 7, 33]] = 10**15, -1, classes
    wrong[5] = labels[5] = -9

    def of(labels):
        losses, dz = np.empty(40, dtype), np.empty_like(z)
        fo._backends.active.softmax_cross_entropy(z, labels, weight, losses, dz, -9, 1.0, float(weight.sum()), 0.1)
        return losses, dz

    with using(("numpy", None, 1)):
        expected = of(labels)
    for array in expected:
        array[[1, 7, 33]] = np.nan
    for found, all_expected in zip(assert_all_agree(lambda: of(wrong)), expected, strict=True):
        np.testing.assert_array_equal(found, all_expected)


def test_labels_beyond_int64_are_no_classes(backend):
    labels = np.array([0, 2**64 - 1], np.uint64)  # as int64 it would be -1
    for ignore_index in (-1, -100):
        with pytest.raises(ValueError, match=rf"labels\[1\] is {2**64 - 1}: not one of the 3 classes"):
            fo.softmax_cross_entropy(np.zeros((2, 3)), labels, ignore_index=ignore_index)
    with pytest.raises(ValueError, match="ignore_index must be a whole number of 64 bits"):
        fo.softmax_cross_entropy(np.zeros((2, 3)), np.zeros(2, int), ignore_index=2**63)


@pytest.mark.parametrize("loss", [getattr(fo, name) for name in OF_PAIRS])
def test_targets_may_be_whole_numbers_and_all_may_be_numbers(loss):
    z, y = np.array([[0.5], [-1.0]], np.float32), np.array([[1], [0]])
    expected = loss(z, y.astype(np.float32))
    for kind in (int, bool, np.uint8):
        found = loss(z, y.astype(kind))
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1], strict=True)
    with pytest.raises(ValueError, match=r"y has shape \(2,\), z has \(2, 1\): y\[..., None\] would be alike"):
        loss(z, y[:, 0])
    value, dz = loss(0.5, 1)
    expected = loss(np.array([0.5]), np.array([1.0]))
    assert (value, dz) == (expected[0], expected[1][0])
    assert type(dz) is np.float64
    assert type(loss(np.float32(0.5), 1)[1]) is np.float32
    assert loss(0.5, 1.0, reduction="none")[0] == pytest.approx(value)


def test_logistic_loss_with_weights_takes_numbers_too():
    assert fo.logistic_loss(0.5, True, pos_weight=np.array(3.0))[0] == 3 * fo.logistic_loss(0.5, 1)[0]
