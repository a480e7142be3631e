"""Metrics of fastopt.fit: what they are given, where their values go, and what is refused."""

import numpy as np
import pytest
from fitting import network, problem

import fastopt as fo
from fastopt import nn

X, Y = problem()


def fit(model=None, X=X, y=Y, epochs=2, **options):
    model = network() if model is None else model
    opt = fo.optim.Adam(model.parameters(), lr=0.02)
    return model, fo.fit(model, X, y, optimizer=opt, epochs=epochs, rng=1, **options)


def accuracy_again(y, z):
    return np.mean((z > 0) == y)


def test_they_are_recorded_for_training_and_validation():
    """A metric that says what the accuracy does has its numbers, to the bit."""
    given = []

    def brier(y, z):
        given.append((y, z))
        return float(np.mean((y - fo.sigmoid(z)) ** 2))

    for options in ({}, {"accumulate": 2}, {"loss": "mse"}):
        given.clear()
        model, history = fit(validation=0.3, metrics=[accuracy_again, brier], **options)
        assert history.metrics.keys() == {"accuracy_again", "brier", "val_accuracy_again", "val_brier"}
        if "loss" not in options:
            assert history["accuracy_again"] == history.accuracy
            assert history.val_accuracy_again == history.val_accuracy
        assert [len(values) for values in history.metrics.values()] == [2] * 4
        assert [len(y) for y, _ in given] == [49, 21] * 2
        assert all(y.shape == z.shape == (len(y),) for y, z in given)
    assert given[1][1].tolist() != given[3][1].tolist()  # kept by the user, and not written over
    plain = fit(validation=0.3, loss="mse")
    assert plain[0].fingerprint() == model.fingerprint()


def test_of_classes_they_are_given_labels_and_an_output_for_each():
    labels = (X[:, 0] > 0) + 2 * (X[:, 1] > 0).astype(int)
    seen = []

    def recall_of_class_3(y, z):
        seen.append((y.dtype, y.shape, z.shape))
        return np.float32(np.mean(z[y == 3].argmax(1) == 3))

    model = nn.Sequential(nn.Linear(5, 4), rng=0)
    history = fit(model, y=labels, loss="cross_entropy", metrics=recall_of_class_3)[1]
    assert seen == [(np.int64, (70,), (70, 4))] * 2
    assert list(history.metrics) == ["recall_of_class_3"]


def test_they_can_be_monitored():
    falling = iter([5.0, 4.0, 3.0, 2.0])
    stopping = fo.EarlyStopping("mine", patience=2, mode="max")
    _, history = fit(epochs=9, metrics={"mine": lambda y, z: next(falling)}, callbacks=stopping)
    assert history.mine == [5.0, 4.0, 3.0]
    assert (stopping.best, history.best_epoch) == (5.0, 1)
    with pytest.raises(ValueError, match="early stopping monitors 'mine': say mode=\"max\" if it is to rise"):
        fit(metrics={"mine": lambda y, z: 0.0}, callbacks=fo.EarlyStopping("mine"))
    assert fo.EarlyStopping("val_f1")._sign == fo.EarlyStopping("my_score")._sign == -1
    assert fo.EarlyStopping("val_loss")._sign == fo.EarlyStopping("mean_squared_error")._sign == 1


def test_a_resumed_run_has_them_too(tmp_path):
    path, options = tmp_path / "run.npz", {"metrics": [accuracy_again], "validation": (X, Y)}
    whole = fit(epochs=4, **options)[1]
    fit(epochs=2, checkpoint=path, **options)
    resumed = fit(epochs=4, resume_from=path, **options)[1]
    assert resumed.metrics == whole.metrics
    model = network()
    before = model.fingerprint()
    for others in ({}, {"metrics": {"another": accuracy_again}}, {**options, "validation": None}):
        with pytest.raises(ValueError, match="it is of a run with the metrics 'accuracy_again', 'val_accuracy_again'"):
            fit(model, epochs=4, resume_from=path, **{"validation": (X, Y), **others})
    assert model.fingerprint() == before


def test_the_history_keeps_writes_and_draws_them(tmp_path):
    history = fit(metrics={"a": lambda y, z: 1.5}, validation=(X, Y))[1]
    again = fo.History()
    again.load_state_dict(history.state_dict())
    assert again == history
    assert dict(again)["val_a"] == [1.5, 1.5]
    history.to_csv(tmp_path / "history.csv")
    assert "a,val_a" in (tmp_path / "history.csv").read_text()
    assert "a 1.5 -> 1.5" in repr(history)
    state = history.state_dict()
    del state["metrics"]  # as files were before
    again.load_state_dict(state)
    assert not again.metrics
    with pytest.raises(AttributeError, match="History has no attribute 'val_a'"):
        again.val_a  # noqa: B018
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = history.plot()
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy", "a"]
    plt.close(figure)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ("f1", TypeError, "metrics must be functions of targets and outputs"),
        ({"f1": 3}, TypeError, "the metric 'f1' must be a function of targets and outputs, not 3"),
        ({"loss": accuracy_again}, ValueError, "a metric cannot be called 'loss'"),
        ({"val_f1": accuracy_again}, ValueError, "a metric cannot be called 'val_f1'"),
        ({3: accuracy_again}, TypeError, "the names of metrics must be str, not int"),
        ([lambda y, z: 0.0], TypeError, "a metric without a name needs one"),
        ([accuracy_again, accuracy_again], ValueError, "two metrics are called 'accuracy_again'"),
    ],
    ids=str,
)
def test_what_is_no_metric_is_refused(metrics, error, message):
    model = network()
    before = model.fingerprint()
    with pytest.raises(error, match=message):
        fit(model, metrics=metrics)
    assert model.fingerprint() == before


def test_what_returns_no_number_ends_training_with_a_history():
    with pytest.raises(TypeError, match="'wrong' must be a number, not ndarray: it must return one") as caught:
        fit(metrics={"wrong": lambda y, z: z})
    assert len(caught.value.history) == 0
