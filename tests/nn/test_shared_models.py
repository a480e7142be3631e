"""One model in several threads, and in several runs at once: each has a mode, and buffers, of its own."""

import gc
import threading
import weakref

import numpy as np
import pytest
from fitting import problem
from raising import raising_at
from together import in_threads

import fastopt as fo
from fastopt import nn
from fastopt.nn.passes import current


class Noisy:
    """A layer of one's own that keeps on itself what its backward pass needs, and looks at the mode."""

    def forward(self, x):
        self.factor = 3.0 if self.training else 1.0
        self.x = x * np.float32(self.factor)
        return self.x * self.x

    def backward(self, dy):
        return 2 * self.x * np.float32(self.factor) * dy


class Cached(Noisy):
    """One that puts what backward needs into a dict, and counts its runs in a list and in a set."""

    def __init__(self):
        self.cache, self.runs, self.seen = {}, [], set()

    def forward(self, x):
        self.cache["x"] = x
        self.runs.append(self.training)
        self.seen.add(len(x))
        return x * x

    def backward(self, dy):
        return 2 * self.cache["x"] * dy


class Composite:
    """One that holds a layer of this library, and runs it itself."""

    def __init__(self):
        self.inner = nn.BatchNorm(16)
        self.params, self.grads, self.buffers = self.inner.params, self.inner.grads, self.inner.buffers

    def forward(self, x):
        return self.inner(x)

    def backward(self, dy):
        return self.inner.backward(dy)


class Slotted:
    """One that there is no twin of."""

    __slots__ = ("training", "x")

    def forward(self, x):
        self.x = x
        return x * x * np.float32(5 if self.training else 1)

    def backward(self, dy):
        return dy * self.x * np.float32(10)


class Property(Noisy):
    """One that is told of its mode by a property, as those are that hold other layers."""

    mode = True

    @property
    def training(self):
        return self.mode

    @training.setter
    def training(self, mode):
        self.mode = mode


class Indirect(Noisy):
    """One whose attributes are functions that run on it."""

    def __init__(self):
        self.method = super().forward
        self.steps = [lambda x: self.method(x)]

    def forward(self, x):
        return self.steps[0](x)


def network(*more):
    return nn.Sequential(nn.Linear(3, 16), nn.BatchNorm(16), nn.ReLU(), nn.Dropout(0.5), *more, nn.Linear(16, 1), rng=0)


MODELS = {
    "plain": network,
    "own": lambda: network(Noisy()),
    "slotted": lambda: network(Slotted()),
    "cached": lambda: network(Cached()),
    "indirect": lambda: network(Indirect()),
    "property": lambda: network(Property()),
    "composite": lambda: network(Composite()),
}


def batch(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, 3)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_predictions_in_threads_are_right_and_leave_the_model_alone(name):
    model = MODELS[name]()
    model(batch(20))
    model[3].eval()
    x = [batch(rows, seed=rows) for rows in (1, 7, 150)]
    expected = [model.predict(each) for each in x]
    state, modes = model.state_dict(), [part.training for part in model.parts()]

    def predict():
        for _ in range(10):
            for each, y in zip(x, expected, strict=True):
                np.testing.assert_array_equal(model.predict(each), y)

    in_threads(*[predict] * 6)
    assert [part.training for part in model.parts()] == modes
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[key])


@pytest.mark.parametrize("name", MODELS)
def test_a_prediction_between_forward_and_backward_changes_neither(name):
    def gradients(predicts):
        model = MODELS[name]()
        y = model(batch(20))
        if predicts:
            model.predict(batch(20, seed=1))
        return y, model.backward(np.ones_like(y)), *model.gradients().values(), *model.state_dict().values()

    for one, other in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_backward_belongs_to_the_forward_of_its_thread():
    model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), Noisy(), nn.Linear(16, 1), rng=0)
    x = [batch(12, seed=seed) for seed in range(3)]
    expected = []
    for each in x:
        y = model(each)
        expected.append((y, model.backward(np.ones_like(y))))

    def steps(i):
        y, dx = expected[i]
        for _ in range(40):
            np.testing.assert_array_equal(model(x[i]), y)
            np.testing.assert_array_equal(model.backward(np.ones_like(y)), dx)

    in_threads(*[lambda i=i: steps(i) for i in range(3)])
    with pytest.raises(RuntimeError, match="backward needs a forward before it, in the same thread"):
        in_threads(lambda: model.backward(np.ones((12, 1), np.float32)))


@pytest.mark.filterwarnings(
    "ignore:evaluation mode was set"
)  # where there is no twin, a prediction sets it for a moment
@pytest.mark.parametrize("name", MODELS)
def test_fit_and_predictions_at_once(name):
    X, y = problem(rows=200, width=3)

    def trained(beside):
        model, done = MODELS[name](), threading.Event()
        opt = fo.optim.Adam(model.parameters())

        def fit():
            try:
                fo.fit(model, X, y, optimizer=opt, epochs=4, validation=(X, y), rng=0)
            finally:
                done.set()

        def predict():
            while not done.is_set():
                assert np.isfinite(model.predict(X[:32])).all()

        in_threads(fit, *[predict] * beside)
        return model.state_dict()

    alone, beside = trained(0), trained(2)
    for key, value in alone.items():
        np.testing.assert_array_equal(beside[key], value)


def test_a_run_that_is_broken_off_leaves_modes_and_buffers_as_they_were():
    class Breaks:
        def forward(self, x):
            if self.broken:
                raise KeyboardInterrupt
            return x

        def backward(self, dy):
            return dy

    breaks = Breaks()
    model = network(breaks)
    x = batch(20)
    breaks.broken = False
    expected = model.predict(x)
    model(x)
    state = model.state_dict()
    breaks.broken = True
    for call in (model.predict, model):
        with pytest.raises(KeyboardInterrupt):
            call(x)
        assert all(part.training for part in model.parts())
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value, state[key])
    breaks.broken = False
    model[1].reset_running_stats()
    np.testing.assert_array_equal(model.predict(x), expected)


@pytest.mark.parametrize("every", [131, pytest.param(7, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_of_a_prediction_changes_nothing(every):
    model, x = network(Noisy(), Property(), Composite()), batch(5)
    model(batch(20))
    state, expected = model.state_dict(), model.predict(x)

    def predict():
        model._forget_passes()
        model.predict(x, batch_size=4)

    count, _ = raising_at(0, predict)
    for moment in range(1, count, every):
        assert raising_at(moment, predict)[1] or moment > 0.9 * count
        assert all(part.training for part in model.parts())
        assert current.context is None
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value, state[key])
        np.testing.assert_array_equal(model.predict(x), expected)


def test_what_passes_keep_is_bounded():
    model = nn.Sequential(nn.Linear(3, 16384, rng=0), nn.ReLU(), nn.Linear(16384, 1, rng=0))
    for rows in range(200, 210):
        model.predict(batch(rows), batch_size=rows)
        model(batch(rows))
    kept = model._own
    assert sum(each.context.nbytes for each in kept.predictions.values()) <= 16 * 2**20
    assert sum(each.context.nbytes for each in kept.passes.values()) <= 64 * 2**20


class Recorder:
    """A layer of one's own that tells which modes it was run in."""

    def __init__(self):
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return x

    def backward(self, dy):
        return dy


def test_the_mode_is_that_of_the_run():
    X, y = problem(width=3)
    recorder = Recorder()
    model = network(recorder).eval()
    model(X)
    assert recorder.modes.pop() is False
    fo.fit(model, X, y, optimizer=fo.optim.SGD(model.parameters(), lr=0.01), epochs=1, batch_size=None, rng=0)
    assert recorder.modes[-1] is True
    assert not any(part.training for part in model.parts())  # as before
    model.train().predict(X)
    assert recorder.modes[-1] is False
    model(X)
    assert recorder.modes[-1] is True


def test_what_a_custom_layer_puts_into_its_containers_is_there_afterwards():
    cached = Cached()
    model = nn.Sequential(nn.Linear(3, 2), cached)
    runs = cached.runs
    model(batch(4))
    model.predict(batch(5))
    model(batch(6))
    assert cached.runs is runs
    assert runs == [True, False, True]
    assert cached.seen == {4, 5, 6}
    assert len(cached.cache["x"]) == 6


def test_whatever_a_custom_layer_does_to_its_containers_is_done():
    class Forgetful(Recorder):
        def __init__(self):
            self.kept, self.seen, self.modes = {"first": 1, "second": 2}, {"first"}, [None]

        def forward(self, x):
            self.kept.pop("first", None)
            self.seen.discard("first")
            self.modes.insert(0, self.training)
            return x

    layer = Forgetful()
    nn.Sequential(layer)(batch(4))
    assert (layer.kept, layer.seen, layer.modes) == ({"second": 2}, set(), [True, None])


def test_what_runs_at_once_put_into_a_list_is_all_there():
    within = [lambda: model.predict(batch(2))]

    class Nested(Recorder):
        def forward(self, x):
            self.modes.append(self.training)
            if within:
                within.pop()()
            return x

    layer = Nested()
    model = nn.Sequential(layer)
    model(batch(4))
    assert layer.modes == [False, True]


def test_the_mode_is_not_for_a_custom_layer_to_set():
    class Eager(Recorder):
        def forward(self, x):
            self.training = True
            return x

    model = nn.Sequential(Eager()).eval()
    model.predict(batch(4))
    assert not model[0].training


def test_what_is_to_happen_once_does_not_happen_to_twins():
    ended = []

    class Closing(Noisy):
        def __del__(self):
            ended.append(self)

    model = nn.Sequential(Closing())
    for rows in range(1, 12):  # more than passes are kept
        model(batch(rows))
        model.predict(batch(rows))
    gc.collect()
    assert ended == []


def test_a_prediction_leaves_no_new_attribute_in_slots():
    layer = Slotted()
    nn.Sequential(layer).predict(batch(4))
    assert not hasattr(layer, "x")


def test_layers_that_a_custom_layer_makes_anew_in_every_run_do_not_stay():
    made = []

    class Temporary(Recorder):
        def forward(self, x):
            layer = nn.ReLU()
            made.append(weakref.ref(layer))
            return layer(x)

    model = nn.Sequential(Temporary())
    for _ in range(3):
        model(batch(4))
        model.predict(batch(4))
    gc.collect()
    assert [layer() for layer in made] == [None] * 6


def test_a_pass_takes_those_of_inner_layers_with_it():
    inner = nn.ReLU()

    class Holding(Recorder):
        def forward(self, x):
            return inner(x)

    model = nn.Sequential(Holding())
    for rows in range(1, 20):
        model(batch(rows))
    gc.collect()
    assert 0 < len(inner._own.within) <= 8
