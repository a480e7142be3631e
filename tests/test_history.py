"""The History, its picture and its table; and the progress bar."""

import builtins
import io
import sys

import pytest
from fitting import assert_same_bits, trained

import fastopt as fo


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


class Stderr(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


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
