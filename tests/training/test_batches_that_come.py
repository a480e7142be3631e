"""fastopt.fit on batches of an iterable: the same as on arrays, resumed to the bit, and what is refused."""

import numpy as np
import pytest
from fitting import network, problem

import fastopt as fo
from fastopt import nn

X, Y = problem()
T = Y[:, None].astype(np.float32)


class Again:
    """Batches that can be gone through again."""

    def __init__(self, size=16, weight=None):
        self.size, self.weight = size, weight

    def __iter__(self):
        for i in range(0, 70, self.size):
            rows = slice(i, i + self.size)
            yield (X[rows], Y[rows]) if self.weight is None else (X[rows], Y[rows], self.weight[rows])


def without_end():
    while True:
        yield from Again()


def made(dropout=False):
    layers = [nn.Linear(5, 9), nn.BatchNorm(9), nn.Tanh(), *([nn.Dropout(0.3)] if dropout else []), nn.Linear(9, 1)]
    model = nn.Sequential(*layers, rng=0)
    return model, fo.optim.Adam(model.parameters(), lr=0.05)


def fit(batches, y=None, epochs=3, dropout=False, **options):
    model, opt = made(dropout)
    return model, fo.fit(model, batches, y, optimizer=opt, epochs=epochs, **options)


def accuracy_again(y, z):
    return np.mean((z > 0) == y)


@pytest.mark.parametrize(
    "batches",
    [Again(), list(Again()), lambda epoch: Again(), lambda epoch: iter(Again()), (without_end(), 5), (Again(), 5)],
    ids=["again", "list", "function", "function of generators", "generator", "again, counted"],
)
@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 0.1, "ema": 0.9}, {"metrics": [accuracy_again], "validation": (X, Y)}], ids=str
)
def test_it_is_training_on_arrays(batches, options):
    """In their order, in batches of 16: the weights are the same to the bit, and the history but for rounding."""
    batches, steps = batches if isinstance(batches, tuple) else (batches, None)
    expected = fit(X, Y, batch_size=16, shuffle=False, dropout=True, **options)
    model, history = fit(batches, steps_per_epoch=steps, dropout=True, **options)
    if steps is not None and options.get("metrics"):  # the generator has been used
        return
    if steps is None or not isinstance(batches, type(without_end())):
        assert model.fingerprint() == expected[0].fingerprint()
        assert history.keys() == expected[1].keys()
        for name in history:
            if name != "seconds":
                assert history[name] == pytest.approx(expected[1][name], rel=1e-6), name


def test_a_generator_without_end_is_gone_on_with():
    seen = []

    def numbered():
        i = 0
        while True:
            seen.append(i)
            yield X[i % 70 : i % 70 + 1].repeat(4, 0), Y[i % 70 : i % 70 + 1].repeat(4, 0)
            i += 1

    fit(numbered(), epochs=3, steps_per_epoch=4)
    assert seen == list(range(12))  # none is taken that is not used
    seen.clear()
    model, history = fit(Again(), epochs=3, steps_per_epoch=3)  # of 5 that there are, and so on
    expected = [*Again(), *Again()][:9]
    again, opt = made()
    step = fo.TrainingStep(again, opt)
    for x, y in expected:
        step(x, y)
    assert model.fingerprint() == again.fingerprint()
    assert len(history) == 3


def test_weights_of_rows():
    """Of a batch of its own they are those of fit, whose mean over all rows is 1."""
    weight = np.arange(1.0, 71.0)
    expected = fit(X, Y, batch_size=None, sample_weight=weight, shuffle=False)
    model, history = fit([(X, Y, weight)])
    np.testing.assert_allclose(model[3].weight, expected[0][3].weight, rtol=1e-4)
    assert history.loss == pytest.approx(expected[1].loss, rel=1e-5)
    assert history.accuracy == pytest.approx(expected[1].accuracy)


def test_of_classes(tmp_path):
    labels = Y.astype(int) + (X[:, 2] > 1)
    model = nn.Sequential(nn.Linear(5, 3), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.5)
    batches = [(X[i : i + 35], labels[i : i + 35]) for i in (0, 35)]
    history = fo.fit(model, batches, optimizer=opt, epochs=2, loss="cross_entropy", class_weight={1: 2.0, 2: 5.0})
    again = nn.Sequential(nn.Linear(5, 3), rng=0)
    opt = fo.optim.SGD(again.parameters(), lr=0.5)
    options = {"batch_size": 35, "shuffle": False, "loss": "cross_entropy", "class_weight": {1: 2.0, 2: 5.0}}
    expected = fo.fit(again, X, labels, optimizer=opt, epochs=2, **options)
    assert model.fingerprint() == again.fingerprint()
    assert history.loss == pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.parametrize("batches", [Again, lambda: lambda epoch: (np.random.default_rng(epoch), Again())[1]])
def test_a_resumed_run_has_the_same_bits(batches, tmp_path):
    path, options = tmp_path / "run.npz", {"dropout": True, "validation": (X, Y), "metrics": [accuracy_again]}
    whole = fit(batches(), epochs=5, **options)
    fit(batches(), epochs=2, checkpoint=path, **options)
    model, history = fit(batches(), epochs=5, resume_from=path, **options)
    assert model.fingerprint() == whole[0].fingerprint()
    assert history.loss == whole[1].loss
    assert history.val_accuracy_again == whole[1].val_accuracy_again


def test_a_function_is_asked_by_epoch(tmp_path):
    asked = []
    path = tmp_path / "run.npz"
    fit(lambda epoch: asked.append(epoch) or Again(), epochs=2, checkpoint=path)
    fit(lambda epoch: asked.append(epoch) or Again(), epochs=4, resume_from=path)
    assert asked == [0, 1, 2, 3]


def test_callbacks_stop_within_an_epoch_or_at_its_last_step():
    for batch, epochs in ((1, 1), (5, 2)):
        losses = []

        def watch(run, batch=batch, losses=losses):
            losses.append(run.batch_loss)
            if run.epoch == 1 and run.batch == batch:
                run.stop()

        _, history = fit(Again(), epochs=4, callbacks={"batch": watch})
        assert len(history) == epochs
        assert np.average(losses[:5], weights=[16, 16, 16, 16, 6]) == pytest.approx(history.loss[0], rel=1e-9)


def test_what_ends_too_early_ends_training():
    _, history = fit(iter(list(Again()) * 2), epochs=4, steps_per_epoch=4)
    assert len(history) == 2
    assert history.stopped == "the batches ended after 2 of 4 steps of epoch 3"
    with pytest.raises(ValueError, match="there are no batches to train on"):
        fit([])
    with pytest.raises(ValueError, match="there are no batches to train on"):
        fit(iter([]), epochs=1)


def test_an_error_of_the_batches_keeps_the_history():
    def fails(epoch):
        yield X, Y
        if epoch == 2:
            raise OSError("the disk")

    model, opt = made()
    ends = []
    with pytest.raises(OSError, match="the disk") as caught:
        fo.fit(model, fails, optimizer=opt, epochs=4, callbacks={"end": lambda run: ends.append(run.error)})
    assert len(caught.value.history) == 2
    assert ends == [caught.value]


@pytest.mark.parametrize(
    ("batches", "options", "error", "message"),
    [
        (X, {}, TypeError, "y is missing: without it, X must be an iterable of batches .*, not ndarray"),
        (3, {}, TypeError, "y is missing"),
        (iter(Again()), {}, ValueError, "a generator is used up after one of 3 epochs: give steps_per_epoch"),
        (Again(), {"validation": 0.2}, TypeError, "validation must be data, as X comes in batches, not float"),
        (Again(), {"sample_weight": np.ones(70)}, ValueError, "sample_weight: for arrays X and y"),
        (Again(), {"drop_last": True, "accumulate": 2}, ValueError, "drop_last, accumulate: for arrays X and y"),
        (Again(), {"class_weight": "balanced"}, ValueError, "needs all labels at once"),
        (Again(), {"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be at least 1"),
        ([X, Y], {}, TypeError, r"batch 1 of an epoch must be \(x, y\) or \(x, y, sample_weight\), and has ndarray"),
        ([(X, Y), (X,)], {}, TypeError, "batch 2 of an epoch must be .*, and has 1 parts"),
        ([(X, Y[:3])], {}, ValueError, r"y has shape \(3, 1\)"),
        ([(X[:, :2], Y)], {}, ValueError, "takes"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(batches, options, error, message):
    model, opt = made()
    with pytest.raises(error, match=message):
        fo.fit(model, batches, optimizer=opt, epochs=3, **options)
    assert opt.step_count in (0, 1)
    with pytest.raises(ValueError, match="steps_per_epoch is for batches"):
        fit(X, Y, steps_per_epoch=3)


def test_a_memory_map_is_not_loaded(tmp_path):
    """64 MB on disk, and a run takes a small part of that; nor are they changed."""
    import tracemalloc

    rows = 160_000
    mapped = np.memmap(tmp_path / "X", np.float32, "w+", shape=(rows, 100))
    mapped[:1000] = np.random.default_rng(0).standard_normal((1000, 100))
    model = nn.Sequential(nn.Linear(100, 1), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.1)
    y = np.zeros(rows, np.float32)
    read = np.memmap(tmp_path / "X", np.float32, "r", shape=(rows, 100))
    for data in ((read, y), ([(read[i : i + 8000], y[i : i + 8000]) for i in range(0, rows, 8000)],)):
        tracemalloc.start()
        try:
            fo.fit(model, *data, optimizer=opt, epochs=1, batch_size=4000, shuffle=len(data) == 2, loss="mse", rng=0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < mapped.nbytes / 4


def test_networks_of_the_tests_train():
    model = network()
    opt = fo.optim.AdamW(model.parameters(), lr=0.02)
    history = fo.fit(model, Again(), optimizer=opt, epochs=30)
    assert history.loss[-1] < history.loss[0]
