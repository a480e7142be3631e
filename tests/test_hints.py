"""Names that a module does not have are answered with those that were meant."""

import copy
import pickle

import pytest

import fastopt as fo


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("Adam", "did you mean fo.optim.Adam?"),
        ("Linear", "did you mean fo.nn.Linear?"),
        ("BCELoss", "did you mean fo.losses.LogisticLoss, which takes logits?"),
        ("StandardScaler", "did you mean fo.Standardizer?"),
        ("fitt", "did you mean fo.fit?"),
        ("optim.Adagard", "did you mean fo.optim.Adagrad?"),
        ("optim.lr_scheduler", "did you mean fo.schedules?"),
        ("schedules.StepLR", "did you mean fo.schedules.Step?"),
        ("schedules.LinearLR", "did you mean fo.schedules.Linear?"),
        ("init.xavier_uniform", "did you mean fo.init.xavier_uniform_?"),
        ("init.he_normal", "did you mean fo.init.kaiming_normal_?"),
        ("losses.BCEWithLogitsLoss", "did you mean fo.losses.LogisticLoss, which takes logits?"),
        ("losses.MSELoss", "did you mean fo.losses.SquaredError?"),
        ("losses.NLLLoss", "did you mean fo.losses.CrossEntropy, which takes logits?"),
        ("nn.Conv2d", "fastopt has no such layer; help(fo.nn) says how to write one"),
        ("nn.Softmax", "did you mean fo.softmax?"),
        ("training.Histroy", "did you mean fo.training.History?"),
        ("functional.sigmiod", "did you mean fo.sigmoid?"),
    ],
)
def test_what_was_meant(path, meant):
    *modules, name = path.split(".")
    module = fo
    for each in modules:
        module = getattr(module, each)
    assert not hasattr(module, name)
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    full = ".".join(["fastopt", *modules])
    assert str(caught.value) == f"module {full!r} has no attribute {name!r}: {meant}"
    assert caught.value.name == name
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert str(again) == str(caught.value)


@pytest.mark.parametrize("name", ["xyz", "_adam", "__wrapped__", "__path_", ""])
def test_nothing_was_meant(name):
    with pytest.raises(AttributeError) as caught:
        getattr(fo.optim, name)
    assert str(caught.value) == f"module 'fastopt.optim' has no attribute {name!r}"
