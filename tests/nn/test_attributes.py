"""What can be set on a layer takes effect, is checked, or is refused; copies; and what is said of mistakes."""

import copy
import pickle

import numpy as np
import pytest

import fastopt as fo
from fastopt import nn

X = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)


def model(p=0.5, **options):
    return nn.Sequential(nn.BatchNorm(6, **options), nn.Dropout(p), nn.Linear(6, 2), rng=0)


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [(1, "p", 0.0), (1, "p", 1.0), (1, "p", np.float32(0.25)), (0, "momentum", None), (0, "momentum", 1),
     (0, "eps", 2.0), (0, "unbiased", False), (0, "unbiased", np.False_)],
)  # fmt: skip
def test_what_is_set_after_a_pass_holds_from_the_next_on(backend, layer, name, value):
    changed, made_so, unchanged = model(), model(**{name: value}), model()
    dy = np.ones_like(changed(X))
    unchanged(X)
    setattr(changed[layer], name, value)
    np.testing.assert_array_equal(changed.backward(dy), unchanged.backward(dy))  # of the pass that was
    made_so.load_state_dict(changed.state_dict())
    np.testing.assert_array_equal(changed(X), made_so(X))
    np.testing.assert_array_equal(changed.backward(dy), made_so.backward(dy))
    np.testing.assert_array_equal(changed.predict(X), made_so.predict(X))
    for key, array in changed.state_dict().items():
        np.testing.assert_array_equal(array, made_so.state_dict()[key])


@pytest.mark.parametrize(
    ("layer", "name", "value", "error", "message"),
    [
        (nn.Dropout(), "p", 7.0, ValueError, "p must be from 0 to 1, not 7.0"),
        (nn.Dropout(), "p", np.nan, ValueError, "p must be a finite number"),
        (nn.Dropout(), "p", "x", TypeError, "p must be a number, not str"),
        (nn.Dropout(), "training", 2, TypeError, "training must be True or False, not 2"),
        (nn.BatchNorm(2), "momentum", 1.5, ValueError, "momentum must be from 0 to 1, not 1.5"),
        (nn.BatchNorm(2), "eps", -1.0, ValueError, "eps must be a finite number"),
        (nn.BatchNorm(2), "unbiased", "no", TypeError, "unbiased must be True or False, not 'no'"),
        (nn.BatchNorm(2), "num_features", 3, AttributeError, r"num_features of BatchNorm\(2\) cannot be replaced"),
        (nn.BatchNorm(2), "running_mean", np.zeros(2), AttributeError, "running_mean of .* cannot be replaced"),
        (nn.Linear(2, 3), "weight", np.zeros((3, 2)), AttributeError, r"write into the array, weight\[\.\.\.\] = "),
        (nn.Linear(2, 3), "in_features", 3, AttributeError, "make another layer"),
        (nn.Linear(2, 3), "params", {}, AttributeError, "params of .* cannot be replaced"),
        (nn.Linear(2, 3), "wieght", 1, AttributeError, "Linear has no attribute 'wieght': did you mean 'weight'"),
        (nn.BatchNorm(2), "momentun", 1, AttributeError, "did you mean 'momentum'"),
        (nn.Tanh(), "function", "relu", AttributeError, "function of .* cannot be replaced"),
        (nn.Tanh(), "xyz", 1, AttributeError, "Tanh has no attribute 'xyz'$"),
        (nn.Sequential(nn.Tanh()), "layers", (), AttributeError, "layers of .* cannot be replaced"),
        (nn.Residual(nn.Tanh()), "shortcut", nn.Tanh(), AttributeError, "shortcut of .* cannot be replaced"),
        (nn.Highway(2), "gate", nn.Tanh(), AttributeError, "gate of .* cannot be replaced"),
        (nn.Highway(2), "forward", print, AttributeError, "forward of .* cannot be replaced"),
    ],
)
def test_what_cannot_be_set(layer, name, value, error, message):
    before = dict(vars(layer))
    with pytest.raises(error, match=message):
        setattr(layer, name, value)
    assert vars(layer) == before


def test_what_is_not_there_is_said_with_the_name_that_was_meant():
    for get, message in [
        (lambda: nn.Linear(2, 3).wieght, "Linear has no attribute 'wieght': did you mean 'weight'"),
        (lambda: nn.BatchNorm1d, "did you mean fo.nn.BatchNorm"),
        (lambda: nn.Dense, "did you mean fo.nn.Linear"),
        (lambda: nn.Relu, "did you mean fo.nn.ReLU"),
        (lambda: nn.Sequentail, "did you mean fo.nn.Sequential"),
        (lambda: nn.Quux, "has no attribute 'Quux'$"),
    ]:
        with pytest.raises(AttributeError, match=message):
            get()


def test_a_subclass_may_have_attributes_and_methods_of_its_own():
    class Gain(nn.Linear):
        def __init__(self, width):
            super().__init__(width, width, dtype=np.float64)
            self.gain = 3.0

        def forward(self, x):
            return self.gain * super().forward(x)

        def backward(self, dy, *, input_gradient=True):
            return super().backward(self.gain * dy, input_gradient=input_gradient)

    gain = Gain(4)
    gain.other = 1
    with pytest.raises(AttributeError, match=r"in_features of .* cannot be replaced"):
        gain.in_features = 3
    x = np.random.default_rng(0).standard_normal((5, 4))
    plain = x @ gain.weight.T + gain.bias
    within = nn.Sequential(gain)
    for run in (gain, gain.predict, within, within.predict):
        np.testing.assert_allclose(run(x), 3 * plain, rtol=1e-12)
    assert nn.check_gradients(within, x).ok


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda layer: pickle.loads(pickle.dumps(layer))}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(
    "make", [model, lambda: nn.Residual(nn.Linear(6, 6)), lambda: nn.Highway(6), lambda: nn.Linear(6, 2)]
)
def test_copies_leave_the_original_as_it_was(make, how):
    original = make()
    dy = original(X)
    expected, state = original.predict(X), original.state_dict()
    opt = fo.optim.SGD(original.parameters(), lr=0.1)
    twin = COPIES[how](original)
    np.testing.assert_array_equal(twin.predict(X), expected)
    np.testing.assert_array_equal(original.predict(X), expected)
    for name, value in original.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    original.backward(dy)
    opt.step(original.gradients())
    assert (original.predict(X) != expected).any()
    shared = how == "copy"  # another layer over the same arrays; else one with arrays of its own
    np.testing.assert_array_equal(twin.predict(X), original.predict(X) if shared else expected)


def test_a_copy_of_a_layer_can_stand_in_another_model():
    layer, dropout = nn.Linear(6, 2, rng=0), nn.Dropout(0.5)
    first, second = nn.Sequential(layer, dropout), nn.Sequential(copy.copy(layer), copy.copy(dropout))
    expected = first.predict(X)
    second[0].weight[...] = 0
    second[1].p = 0.25
    second.eval()
    np.testing.assert_array_equal(first.predict(X), expected)
    assert (dropout.p, dropout.training) == (0.5, True)


def test_a_copy_runs_in_its_own_mode():
    norm = nn.BatchNorm(6)
    norm(X)
    twin = copy.copy(norm).eval()
    np.testing.assert_array_equal(twin(X), norm.predict(X))
    assert norm.num_batches_tracked == 1
    norm(X)
    assert norm.num_batches_tracked == 2


def test_masks_are_not_dropped():
    masked, network = np.ma.masked_array(X, X > 1), model()
    network(X)
    for call in (
        lambda: network(masked),
        lambda: network.predict(masked),
        lambda: network.predict_proba(masked),
        lambda: network.backward(np.ma.masked_array(np.ones((40, 2), np.float32))),
        lambda: network.load_state_dict({name: np.ma.masked_array(a) for name, a in network.state_dict().items()}),
        lambda: nn.check_gradients(network, masked),
    ):
        with pytest.raises(TypeError, match="is a masked array, and its mask would be lost"):
            call()


def test_a_dtype_for_all_layers_at_once():
    def layers(**options):
        return nn.Linear(6, 4, **options), nn.BatchNorm(4, **options), nn.Residual(nn.Linear(4, 4, **options))

    x = X.astype(np.float64)
    at_once, each = nn.Sequential(*layers(), rng=0, dtype=np.float64), nn.Sequential(*layers(dtype=np.float64), rng=0)
    assert at_once.dtype == np.float64
    np.testing.assert_array_equal(at_once(x), each(x))
    for name, array in at_once.state_dict().items():
        np.testing.assert_array_equal(array, each.state_dict()[name], strict=True)
    with pytest.raises(
        TypeError, match=r"x is float64, .* takes float32: x\.astype\(np\.float32\) .*dtype=np\.float64"
    ):
        model()(x)
    with pytest.raises(TypeError, match="dtype must be float32 or float64, not int64"):
        nn.Sequential(nn.Linear(2, 2), dtype=np.int64)


def test_probabilities():
    several, one = model(), nn.Sequential(nn.Linear(6, 1, rng=0))
    np.testing.assert_array_equal(several.predict_proba(X), fo.softmax(several.predict(X)))
    np.testing.assert_array_equal(one.predict_proba(X, 7), fo.sigmoid(one.predict(X, 7)))
    for loss in ("logistic", fo.losses.LogisticLoss()):
        np.testing.assert_array_equal(several.predict_proba(X, loss=loss), fo.sigmoid(several.predict(X)))
    assert (one.predict_proba(X, loss=fo.losses.CrossEntropy()) == 1).all()
    for loss in ("mse", fo.losses.SquaredError()):
        with pytest.raises(ValueError, match="whose outputs are logits, not"):
            several.predict_proba(X, loss=loss)
    with pytest.raises(ValueError, match="ends with a Sigmoid"):
        nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()).predict_proba(X)


def test_layers_that_do_not_fit_are_both_named():
    both = (
        r"Linear\(5, 1\) takes \(rows, 5\), and was given \(40, 4\) by the layer before: it is layer 2, after ReLU\(\)"
    )
    with pytest.raises(ValueError, match=both):
        nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(5, 1)).predict(X)


def test_numbers_of_numpy_are_numbers():
    def made(whole, real):
        return nn.Sequential(
            nn.Linear(whole(6), whole(4), bias=whole(1), rng=whole(3)),
            nn.BatchNorm(whole(4), eps=real(0.5), momentum=real(0.25)),
            nn.Dropout(real(0.5), rng=whole(1)),
            nn.Highway(whole(4), gate_bias=real(-2)),
            rng=whole(0),
        )

    expected = made(int, float)
    expected(X)
    for whole, real in [(np.int64, np.float64), (np.uint8, np.float32), (np.int16, np.float16)]:
        model = made(whole, real)
        model(X)
        np.testing.assert_array_equal(model.predict(X, batch_size=whole(7)), expected.predict(X, 7))
        assert repr(model) == repr(expected)
        assert str(model.summary((whole(6),))) == str(expected.summary((6,)))


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("change", ["another", "shape", "dtype", "read-only"])
def test_arrays_that_a_layer_cannot_work_with(backend, change, bound):
    for layer, kind, name in [
        (nn.Linear(6, 2), "params", "bias"),
        (nn.Linear(6, 2), "grads", "bias"),
        (nn.BatchNorm(6), "buffers", "running_var"),
        (nn.BatchNorm(6), "params", "bias"),
    ]:
        arrays = getattr(layer, kind)
        array = arrays[name]
        if bound:
            layer.backward(layer(X))
        if change == "another":
            arrays[name] = np.zeros(1, np.float32)
        elif change == "shape":
            array.resize((1, *array.shape), refcheck=False)
        elif change == "dtype":
            arrays[name] = array.astype(np.float64)
        else:
            array.flags.writeable = False
        if change == "read-only" and kind == "params":
            assert np.isfinite(layer(X)).all()
            continue
        with pytest.raises((TypeError, ValueError), match=rf"{kind}\['{name}'\] of"):
            layer.backward(layer(X))
