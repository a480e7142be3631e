"""Layers that are frozen: no gradient, no update, evaluation mode, in fit, in steps and in loops by hand."""

import copy
import pickle

import numpy as np
import pytest
from fitting import problem

import fastopt as fo
from fastopt import nn

X, Y = problem()


def made(rng=0):
    body = nn.Linear(5, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6), nn.Tanh()
    return nn.Sequential(*body, nn.Linear(6, 1), rng=rng)


def trained(model, optimizer=None, epochs=3, **options):
    opt = optimizer or fo.optim.Adam(model.parameters(), lr=0.05)
    return fo.fit(model, X, Y, optimizer=opt, epochs=epochs, rng=1, **options)


def assert_kept(model, before, layers):
    """Of these layers every array is the same, and of the others every parameter has moved."""
    for name, array in model.state_dict().items():
        if name.split(".")[0] in layers:
            assert array.tobytes() == before[name].tobytes(), name
        elif name in model.parameters():
            assert array.tobytes() != before[name].tobytes(), name


@pytest.mark.parametrize(
    ("frozen", "options"),
    [
        *(((0, 1, 3), o) for o in ({}, {"accumulate": 2}, {"clip_norm": 0.5, "ema": 0.9}, {"batch_size": None})),
        *((layers, {"clip_norm": 0.5}) for layers in ((1, 3, 4), (0, 1, 3, 4), (6,))),
    ],
    ids=str,
)
def test_fit_leaves_them_as_they_are(frozen, options):
    model = made()
    trained(model, epochs=1)
    for i in frozen:
        model[i].freeze()
    before = model.state_dict()
    trained(model, **options)
    assert_kept(model, before, set(map(str, frozen)))


def test_it_is_training_of_the_rest(backend):
    """With frozen layers in front, a run has the bits of one of the other layers, on what those in front give."""
    body, head = made(), nn.Sequential(nn.Linear(8, 1), rng=3)
    trained(body, epochs=1)
    front = nn.Sequential(*copy.deepcopy(body).layers[:4])
    both = nn.Sequential(*copy.deepcopy(front).layers, *copy.deepcopy(head).layers)
    for layer in both.layers[:4]:
        layer.freeze()
    features = front.predict(X)
    opt = fo.optim.Adam(head.parameters(), lr=0.1)
    one = fo.fit(head, features, Y, optimizer=opt, epochs=2, batch_size=16, rng=1, clip_norm=0.1)
    opt = fo.optim.Adam(both.parameters(), lr=0.1)
    other = fo.fit(both, X, Y, optimizer=opt, epochs=2, batch_size=16, rng=1, clip_norm=0.1)
    assert head[0].weight.tobytes() == both[4].weight.tobytes()
    assert (one.loss, one.grad_norm) == (other.loss, other.grad_norm)


@pytest.mark.parametrize("frozen", [(), (0, 1), (4,), (6,)], ids=str)
def test_steps_and_loops_by_hand_are_those_of_fit(frozen):
    models = [made() for _ in range(3)]
    for model in models:
        for i in (*frozen, 3):
            model[i].freeze()
    opts = [fo.optim.Adam(model.parameters(), lr=0.05) for model in models]
    fo.fit(models[0], X, Y, optimizer=opts[0], epochs=3, batch_size=None, shuffle=False)
    step = fo.TrainingStep(models[1], opts[1])
    for _ in range(3):
        step(X, Y)
        _, dz = fo.logistic_loss(models[2](X), Y[:, None].astype(np.float32))
        models[2].backward(dz, input_gradient=False)
        opts[2].step(models[2].gradients())
    assert models[0].fingerprint() == models[1].fingerprint() == models[2].fingerprint()


def test_gradients_are_none_and_go_through():
    model = made().eval()
    whole = copy.deepcopy(model)
    dy = np.ones((70, 1), np.float32)
    whole(X)
    dx = whole.backward(dy)
    assert model.freeze() is model
    assert model.frozen
    model(X)
    for grad in model.grads.values():
        grad.fill(7)
    np.testing.assert_array_equal(model.backward(dy), dx)
    assert set(model.gradients().values()) == {None}
    assert all((grad == 7).all() for grad in model.grads.values())
    model[4].unfreeze()
    assert not model.frozen
    assert [name for name, grad in model.gradients().items() if grad is not None] == ["4.weight", "4.bias"]
    model(X)
    model.backward(dy, input_gradient=False)
    np.testing.assert_array_equal(model.gradients()["4.weight"], whole.gradients()["4.weight"])
    assert model.unfreeze().gradients() is model.grads
    assert fo.global_norm({"a": np.array([3.0, 4.0]), "b": None}) == 5.0
    grads = {"a": np.array([3.0, 4.0]), "b": None}
    assert fo.clip_grad_norm(grads, 1.0) == 5.0
    np.testing.assert_allclose(grads["a"], [0.6, 0.8])


def test_a_step_that_is_bound_follows():
    """Also where another optimizer's, or a hand's, step came in between."""
    model, other = made(), made()
    for each in (model, other):
        each[3].freeze()
    opt, theirs = (fo.optim.Adam(each.parameters(), lr=0.05) for each in (model, other))
    step = fo.TrainingStep(model, opt)
    for frozen in ((), (4,), (0, 4), ()):
        for each in (model, other):
            each.unfreeze()
            for i in (*frozen, 3):
                each[i].freeze()
        step(X, Y)
        fo.TrainingStep(other, theirs)(X, Y)
        by_hand = {name: None if name != "6.bias" else np.ones(1, np.float32) for name in model.parameters()}
        opt.step(by_hand)
        theirs.step(by_hand)
        assert model.fingerprint() == other.fingerprint()
    assert opt.state_dict()["missed_steps"] == theirs.state_dict()["missed_steps"]


def test_layers_can_thaw_between_epochs(tmp_path):
    """In a callback, as in two calls of fit; and resumed from a checkpoint, to the bit."""

    def thaw(run):
        if run.epoch == 2:
            run.model.unfreeze()

    def begun():
        model = made()
        for i in (0, 1):
            model[i].freeze()
        return model, fo.optim.Adam(model.parameters(), lr=0.05)

    one, opt = begun()
    before = one.state_dict()
    within = trained(one, opt, epochs=4, callbacks={"epoch": thaw})
    two, opt = begun()
    rng, path = np.random.default_rng(1), tmp_path / "run.npz"
    fo.fit(two, X, Y, optimizer=opt, epochs=2, rng=rng)
    assert_kept(two, before, {"0", "1"})
    two.unfreeze()
    fo.fit(two, X, Y, optimizer=opt, epochs=2, rng=rng)
    assert one.fingerprint() == two.fingerprint()
    three, opt = begun()
    trained(three, opt, epochs=2, checkpoint=path, callbacks={"epoch": thaw})
    three, opt = begun()
    three.unfreeze()
    resumed = trained(three, opt, epochs=4, resume_from=path)
    assert one.fingerprint() == three.fingerprint()
    assert resumed.loss == within.loss
    three, opt = begun()
    with pytest.warns(UserWarning, match="frozen was nothing, and is 0.bias, 0.weight, 1.bias, 1.weight now"):
        trained(three, opt, epochs=4, resume_from=path)
    model, _ = begun()
    with pytest.raises(RuntimeError, match="frozen or unfrozen within an epoch"):
        trained(model, callbacks={"batch": lambda run: run.model.unfreeze()})


def test_what_is_within_other_layers():
    norm = nn.Sequential(nn.LayerNorm(6))
    model = nn.Sequential(nn.Linear(5, 6), nn.Residual(nn.Linear(6, 6)), nn.Highway(6), norm, nn.Linear(6, 1), rng=0)
    for frozen in (1, 2, 3):
        model.unfreeze()
        model[frozen].freeze()
        before = model.state_dict()
        trained(model, epochs=1)
        assert_kept(model, before, {str(frozen)})
    model[3].unfreeze()
    model[2].gate.freeze()
    before = model.state_dict()
    trained(model, epochs=1)
    kept = {name for name, array in model.state_dict().items() if array.tobytes() == before[name].tobytes()}
    assert kept == {"2.gate.weight", "2.gate.bias"}
    assert nn.check_gradients(model, np.random.default_rng(0).standard_normal((4, 5))).ok


def test_layers_of_ones_own_run_in_evaluation_mode():
    modes = []

    class Scale:
        def __init__(self):
            self.params, self.grads = {"s": np.ones(1, np.float32)}, {"s": np.zeros(1, np.float32)}

        def forward(self, x):
            modes.append(self.training)
            return x * self.params["s"]

        def backward(self, dy):
            self.grads["s"][...] = dy.sum()
            return dy * self.params["s"]

    model = nn.Sequential(nn.Linear(5, 1), Scale(), rng=0).freeze()
    model[0].unfreeze()
    trained(model, epochs=1)
    assert set(modes) == {False}
    assert model[1].params["s"][0] == 1.0


def test_copies_pickles_and_state():
    model = made()
    model[0].freeze()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.copy(model)):
        assert again[0].frozen
        assert not again[4].frozen
    fresh = made()
    fresh.load_state_dict(model.state_dict())
    assert not fresh[0].frozen


def test_what_cannot_be_is_refused():
    model = made().freeze()
    with pytest.raises(ValueError, match="all parameters of the optimizer are of frozen layers"):
        trained(model)
    with pytest.raises(ValueError, match="all parameters of the optimizer are of frozen layers"):
        fo.TrainingStep(model, fo.optim.SGD(model.parameters(), lr=0.1))

    class Bare:
        __slots__ = ("training",)

        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

    model = nn.Sequential(nn.Linear(5, 1), Bare())
    with pytest.raises(TypeError, match="cannot be frozen: it can have no attributes"):
        model.freeze()
    assert not model[0].frozen
