"""The History, its picture and its table; and the progress bar."""

import builtins
import csv
import io
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fitting import assert_same_bits, problem, trained

import fastopt as fo
from fastopt import nn


def test_history():
    history = trained(epochs=3)[1]
    assert len(history) == 3
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert list(history) == list(dict(history)) == history.keys() == names
    assert all(len(history[name]) == 3 and type(history[name][0]) is float for name in history)
    assert repr(history).startswith(f"History(3 epochs: loss {history.loss[0]:.4g} -> {history.loss[-1]:.4g}, accuracy")
    empty = fo.History()
    assert list(empty) == []
    with pytest.raises(KeyError, match="the history has no 'val_loss', only loss"):
        fo.History(loss=[1.0])["val_loss"]


def test_history_plots_its_curves():
    pytest.importorskip("matplotlib")
    figure = trained(epochs=3)[1].plot()
    loss, accuracy = figure.axes
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        assert axes.get_title().lower() == name
        assert axes.get_xlabel() == "epoch"
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels[0].startswith("training")
        assert labels[1].startswith("validation")
    figure.savefig(io.BytesIO(), format="png")
    for history in (fo.History(), fo.History(loss=[1.0])):
        history.plot().savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("values", "low", "high", "marked"),
    [
        ([-1.0, -2.0], -2.0, -1.0, []),
        ([1.0, -2.0], -2.0, 1.0, []),
        ([0.0, 0.0], 0.0, 0.0, []),
        ([-0.5], -0.5, -0.5, [0]),
        ([1.0, np.nan, 2.0, 3.0, np.inf, 4.0], 0.0, 4.0, [0, 5]),
        ([1e300, 3e300], 0.0, 3e300, []),
        ([1e-300, 2e-300], 0.0, 2e-300, []),
        ([np.nan, np.nan], 0.0, 0.0, []),
        ([np.float32(0.5), 2], 0.0, 2.0, []),
    ],
)
def test_every_loss_is_within_its_picture(values, low, high, marked):
    pytest.importorskip("matplotlib")
    for history in (fo.History(loss=values), fo.History(loss=values, val_loss=values)):
        figure = history.plot()
        (axes,) = figure.axes
        bottom, top = axes.get_ylim()
        assert bottom <= low <= high <= top
        assert bottom < top
        assert bottom == 0 or low < 0 or np.isnan(values).all()
        assert list(axes.lines[0].get_markevery()) == marked
        np.testing.assert_array_equal(np.isfinite(axes.lines[0].get_ydata()), np.isfinite(values))
    figure.savefig(io.BytesIO(), format="png")


def test_pictures_are_shown_by_pyplot_or_drawn_into_axes_that_are_given():
    plt = pytest.importorskip("matplotlib.pyplot")
    schedule = fo.schedules.Linear(1.0, 0.0, total_iters=3)
    history = fo.History(loss=[0.7, 0.3], accuracy=[0.5, 0.9])
    for plot in (history.plot, lambda ax=None: schedule.plot(4, ax=ax)):
        figure = plot()
        assert plt.fignum_exists(figure.number)
        own, ax = plt.subplots()
        count = len(plt.get_fignums())
        assert plot(ax=ax) is own
        assert ax.lines
        assert len(plt.get_fignums()) == count
    own, (first, second) = plt.subplots(1, 2)
    assert history.plot(ax=(first, second)) is own
    assert (first.get_title(), second.get_title()) == ("Loss", "Accuracy")
    inner = own.subfigures(1, 1).subplots()
    assert history.plot(ax=inner) is own
    with pytest.raises(TypeError, match="ax must be matplotlib's axes, not Figure"):
        history.plot(ax=own)
    with pytest.raises(ValueError, match="ax must be 1 to 2 axes, not 3"):
        history.plot(ax=[first, second, first])
    for _ in range(25):
        history.plot()  # without a warning of too many figures


def test_a_notebook_shows_a_picture_once(monkeypatch):
    """It shows what is the value of a cell, and what is open at the cell's end."""
    matplotlib = pytest.importorskip("matplotlib")
    plt = pytest.importorskip("matplotlib.pyplot")
    shown = []
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown.append))
    for backend, stays in (("inline", False), ("agg", True)):
        monkeypatch.setattr(matplotlib, "get_backend", lambda backend=backend: backend)
        figure = fo.History(loss=[0.7, 0.3]).plot()
        figure._ipython_display_()
        assert shown.pop() is figure
        assert plt.fignum_exists(figure.number) == stays
        assert not hasattr(figure, "_ipython_display_")
    pickle.loads(pickle.dumps(fo.History(loss=[0.7, 0.3]).plot()))


def test_everything_that_can_be_recorded():
    model = nn.Sequential(nn.Linear(5, 1), rng=0)
    X, y = problem()
    history = fo.fit(model, X, y, optimizer=fo.optim.LAMB(model.parameters()), epochs=2, clip_norm=1.0,
                     on_nonfinite="skip", validation=0.2)  # fmt: skip
    assert list(history) == [
        "loss", "accuracy", "val_loss", "val_accuracy", "lr", "grad_norm", "skipped_steps", "seconds",
        "trust_ratio 0.weight", "trust_ratio 0.bias",
    ]  # fmt: skip
    assert {len(values) for values in dict(history).values()} == {2}


def test_a_table(tmp_path):
    """Every number comes back from the file as it was, and so it does from an epoch that has none."""
    history = trained(epochs=3)[1]
    history.loss[1] = float("nan")
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["epoch", *history]
    assert [line[0] for line in lines] == ["1", "2", "3"]
    for name, *values in zip(header[1:], *(line[1:] for line in lines), strict=True):
        np.testing.assert_array_equal([float(value) for value in values], history[name])
    fo.History().to_csv(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == "epoch\n"


def test_a_round_trip_through_a_file(tmp_path):
    history = fo.History(loss=[0.1, float("inf")], trust_ratios={"w": [1.5, 0.1 + 0.2]}, best_epoch=2, stopped="so")
    fo.save(tmp_path / "history.npz", history.state_dict())
    again = fo.History()
    again.load_state_dict(fo.load(tmp_path / "history.npz"))
    assert again == history
    with pytest.raises(ValueError, match=r"a history has loss, .*; the state dict has loss$"):
        again.load_state_dict({"loss": []})
    assert again == history


def test_the_best_epoch_is_marked():
    pytest.importorskip("matplotlib")
    figure = fo.History(loss=[3.0, 2.0, 1.0], val_loss=[3.0, 2.0, 4.0], accuracy=[0.1, 0.2, 0.3], best_epoch=2).plot()
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels[-1] == "best: epoch 2"
        assert list(axes.lines[-1].get_xdata()) == [2, 2]


class Stderr(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


def test_progress_in_a_notebook(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Stderr(False))
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "get_ipython", lambda: SimpleNamespace(kernel=None), raising=False)
    trained()
    assert "12/12" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Stderr(False))
    monkeypatch.setattr(main, "get_ipython", lambda: SimpleNamespace())
    trained()  # IPython without a notebook
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_progress(monkeypatch, progress, terminal, shown):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Stderr(terminal))
    expected = trained(progress=False)
    assert sys.stderr.getvalue() == ""
    assert_same_bits(trained(progress=progress), expected)
    assert ("epoch 4/4" in sys.stderr.getvalue()) == shown
    assert ("12/12" in sys.stderr.getvalue()) == shown


def test_without_tqdm(monkeypatch):
    real_import = builtins.__import__

    def without_tqdm(name, *rest, **options):
        if name == "tqdm":
            raise ImportError("No module named 'tqdm'")
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    monkeypatch.setattr(sys, "stderr", Stderr(True))
    assert len(trained(progress=None)[1]) == 4
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: pip install fastopt\[examples\]"):
        trained(progress=True)
