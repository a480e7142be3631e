"""The gradient checker: it passes what is right, finds what is wrong and where, and touches nothing."""

import copy
import threading

import numpy as np
import pytest

import fastopt as fo
from fastopt import nn


class Affine:
    """A layer of one's own; its subclasses are wrong in one place each."""

    def __init__(self, inputs=3, outputs=2, dtype=np.float64):
        rng = np.random.default_rng(0)
        self.params = {"W": rng.standard_normal((inputs, outputs)).astype(dtype), "b": np.zeros(outputs, dtype)}
        self.grads = {name: np.zeros_like(param) for name, param in self.params.items()}

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy):
        self.grads["W"][...] = self.x.T @ dy
        self.grads["b"][...] = dy.sum(axis=0)
        return dy @ self.params["W"].T


class OneElement(Affine):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"][2, 1] *= 1.001
        return dx


class Mean(Affine):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["b"] /= len(dy)
        return dx


class Unwritten(Affine):
    def backward(self, dy):
        self.grads["W"][...] = self.x.T @ dy
        return dy @ self.params["W"].T


class Adds(Affine):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["b"] += 0 * dx.sum()
        self.grads["W"] += self.x.T @ dy
        return dx


class OnlyAdds(Affine):
    def backward(self, dy):
        self.grads["W"][...] = self.x.T @ dy
        self.grads["b"] += dy.sum(axis=0)
        return dy @ self.params["W"].T


class Transposed(Affine):
    def backward(self, dy):
        dx = super().backward(dy)
        return dx[::-1]


class Elsewhere(Affine):
    """It has its weights in an attribute, which a Sequential would leave behind."""

    def __init__(self, **options):
        super().__init__(**options)
        self.W = self.params["W"]

    def forward(self, x):
        self.x = x
        return x @ self.W + self.params["b"]


def batch(rows=4, width=3):
    return np.random.default_rng(5).standard_normal((rows, width))


def model(dtype=np.float32):
    return nn.Sequential(
        nn.Linear(3, 6, dtype=dtype), nn.BatchNorm(6, dtype=dtype), nn.Tanh(), nn.Dropout(0.4),
        nn.Residual(nn.Highway(6, dtype=dtype)), Affine(6, 4, dtype), nn.BatchNorm(4, momentum=None, dtype=dtype),
        rng=0,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alone", [False, True])
def test_what_is_right_passes(alone, dtype):
    layer = Affine(dtype=dtype) if alone else model(dtype)
    report = nn.check_gradients(layer, batch().astype(np.float32), max_elements=None)
    assert report.ok
    names = ["W", "b"] if alone else list(layer.parameters())
    assert list(report.worst_of) == [*names, "x"]
    assert max(found.error for found in report.worst_of.values()) < 0.2
    assert "all gradients are right" in str(report)


@pytest.mark.parametrize(
    ("layer", "name", "index"),
    [(OneElement, "W", (2, 1)), (Mean, "b", None), (Unwritten, "b", None), (Adds, "W", None), (OnlyAdds, "b", None),
     (Transposed, "x", None), (Elsewhere, "W", None)],
)  # fmt: skip
@pytest.mark.parametrize("within", [False, True])
def test_what_is_wrong_is_found_and_named(layer, name, index, within):
    checked = layer()
    if within:
        first, beside = (nn.Linear(3, width, dtype=np.float64, rng=0) for width in (3, 2))
        checked = nn.Sequential(first, nn.Residual(checked, beside))
        name = name if name == "x" else f"1.body.{name}"
    report = nn.check_gradients(checked, batch(), max_elements=None, raise_exception=False)
    assert not report.ok
    assert report.worst == name
    found = report.worst_of[name]
    assert found.error > 1
    if index:
        assert found.index == index
        assert found.gradient == pytest.approx(1.001 * found.difference, rel=1e-6)
        assert all(other.error < 1 for each, other in report.worst_of.items() if each != name)
    worst = report.worst_of[report.worst]
    with pytest.raises(AssertionError) as raised:
        nn.check_gradients(checked, batch(), max_elements=None)
    assert f"wrong is that of {report.worst}[{', '.join(map(str, worst.index))}]: " in str(raised.value)
    assert f"{worst.difference:.7g}" in str(raised.value)


def test_some_elements_of_every_array():
    class Counts(Affine):
        runs = 0

        def forward(self, x):
            Counts.runs += 1
            return super().forward(x)

    assert nn.check_gradients(Counts(30, 20), batch(width=30), max_elements=7).ok
    assert Counts.runs == 3 + 2 * (7 + 7 + 7)  # two per element


def test_dy():
    report = nn.check_gradients(Affine(), batch(), dy=np.ones((4, 2), int))
    assert report.worst_of["b"].gradient == 4


def test_a_parameter_called_x():
    class Named(Affine):
        def __init__(self):
            super().__init__()
            self.params = {"x" if name == "b" else name: param for name, param in self.params.items()}
            self.grads = {"x" if name == "b" else name: grad for name, grad in self.grads.items()}

        def forward(self, x):
            self.x = x
            return x @ self.params["W"] + self.params["x"]

        def backward(self, dy):
            self.grads["W"][...] = self.x.T @ dy
            self.grads["x"][...] = 2 * dy.sum(axis=0)
            return dy @ self.params["W"].T

    report = nn.check_gradients(Named(), batch(), raise_exception=False)
    assert list(report.worst_of) == ["W", "x", "x (the input)"]
    assert report.worst == "x"


# -- nothing is touched --


def everything(layer):
    arrays = [(id(a), a.tobytes()) for _, arrays in layer.kinds() for a in arrays.values()]
    return arrays, [part.training for part in layer.parts()], [vars(part).keys() for part in layer.parts()]


@pytest.mark.parametrize("training", [True, False])
def test_the_layer_stays_as_it_was(training):
    checked = model().train(training)
    checked[3].train(not training)  # modes that differ
    twin, single = copy.deepcopy(checked), batch().astype(np.float32)
    y = checked(single)
    before, x = everything(checked), batch()
    nn.check_gradients(checked, x)
    assert everything(checked) == before
    np.testing.assert_array_equal(x, batch())
    np.testing.assert_array_equal(twin(single), y)
    np.testing.assert_array_equal(checked.backward(y), twin.backward(y))  # the check may come between the two
    np.testing.assert_array_equal(checked(single), twin(single))


def test_it_stays_after_an_exception():
    class Fails(Affine):
        calls = 0

        def forward(self, x):
            Fails.calls += 1
            if Fails.calls == self.at:
                raise KeyError("by the layer")
            return super().forward(x)

        def backward(self, dy):
            if Fails.calls >= self.at:
                raise KeyError("by the layer")
            return super().backward(dy)

    for at in (1, 2, 3, 20):
        layer = Fails()
        layer.at, Fails.calls = at, 0
        checked = nn.Sequential(nn.BatchNorm(3, dtype=np.float64), layer, nn.Dropout(rng=0), rng=0).eval()
        before = everything(checked)
        with pytest.raises(KeyError, match="by the layer"):
            nn.check_gradients(checked, batch())
        assert everything(checked) == before


def test_dropout_and_batch_norm_are_checked_in_their_modes():
    x = batch()
    for layer in (nn.Dropout(0.5, rng=0), nn.BatchNorm(3, dtype=np.float64)):
        layer(x)
        gradients = {}
        for mode in (True, False):
            report = nn.check_gradients(layer.train(mode), x, dy=x, max_elements=None)
            gradients[mode] = report.worst_of["x"]
        assert gradients[True] != gradients[False]


# -- what is refused --


class Random(Affine):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return super().forward(x) + self.rng.random()


class Single(Affine):
    def forward(self, x):
        return super().forward(x).astype(np.float32)


class Locked(Affine):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.check_gradients(3, batch()), TypeError, r"layer must be an object with forward\(x\) and backward"),
        (lambda: nn.check_gradients(Affine, batch()), TypeError, "layer must be an object"),
        (lambda: nn.check_gradients(Affine(), "x"), TypeError, "x must hold real numbers, not <U1"),
        (lambda: nn.check_gradients(Affine(), np.ones(3)), ValueError, r"x has shape \(3,\)"),
        (lambda: nn.check_gradients(Affine(), batch() * np.nan), ValueError, "x holds infinities or NaN"),
        (lambda: nn.check_gradients(nn.Linear(3, 2), batch(width=4)), ValueError, r"takes \(rows, 3\), and was given"),
        (lambda: nn.check_gradients(Affine(), batch(), dy=np.ones((4, 3))), ValueError,
         r"dy has shape \(4, 3\), the output has \(4, 2\)"),
        (lambda: nn.check_gradients(Affine(), batch(), eps=0), ValueError, "eps must be above 0, not 0"),
        (lambda: nn.check_gradients(Affine(), batch(), rtol="no"), TypeError, "rtol must be a number, not str"),
        (lambda: nn.check_gradients(Affine(), batch(), atol=-1), ValueError, "atol must be above 0, not -1"),
        (lambda: nn.check_gradients(Affine(), batch(), max_elements=0), ValueError, "max_elements must be at least 1"),
        (lambda: nn.check_gradients(Random(), batch()), ValueError, "gave different outputs: what a random layer"),
        (lambda: nn.check_gradients(Single(), batch()), TypeError, r"Single\.forward must return an array of float64"),
        (lambda: nn.check_gradients(Locked(), batch()), TypeError, "cannot be copied: cannot pickle"),
        (lambda: nn.check_gradients(nn.BatchNorm(3), batch(1)), ValueError, "training needs at least 2 values"),
        (lambda: nn.check_gradients(nn.Tanh(), batch(0)), ValueError, r"nothing to check: x has shape \(0, 3\)"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_output_that_is_not_finite():
    class Log:
        def forward(self, x):
            with np.errstate(all="ignore"):
                return np.log(x)

        def backward(self, dy):
            return dy

    with pytest.raises(ValueError, match="the output for x holds infinities or NaN"):
        nn.check_gradients(Log(), np.zeros((1, 2)))


def test_functions_of_this_library_serve_in_own_layers():
    class Softplus:
        def forward(self, x):
            self.x = x
            return fo.softplus(x)

        def backward(self, dy):
            return fo.softplus_backward(dy, self.x, out=dy)

    nn.check_gradients(Softplus(), batch())
    nn.check_gradients(nn.Residual(Softplus(), shortcut=Softplus()), batch())
