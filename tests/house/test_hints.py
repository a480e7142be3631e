"""Names that a module does not have are answered with those that were meant."""

import copy
import pickle

import numpy as np
import pytest

import fastopt as fo
from fastopt import nn


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


def fit(**options):
    model = nn.Linear(2, 1, rng=0)
    given = {
        "optimizer": fo.optim.SGD(model.parameters()),
        "epochs": 1,
        "X": np.ones((4, 2)),
        "y": np.ones(4),
        **options,
    }
    return fo.fit(model, **given | options)


@pytest.mark.parametrize(
    ("mistake", "error", "advice"),
    [
        (lambda: fit(optimizer="adam"), TypeError, "fo.optim.Adam(model.parameters(), lr=0.001)"),
        (lambda: fit(optimizer=fo.optim.SGD), TypeError, "made over the model's parameters"),
        (lambda: fit(loss="BCEWithLogitsLoss"), ValueError, "did you mean 'logistic'?"),
        (lambda: fit(loss="crossentropy"), ValueError, "did you mean 'cross_entropy'?"),
        (lambda: fit(X=np.ones(4)), ValueError, "X[None] is one row, X[:, None] one column"),
        (lambda: nn.Linear(2, 1).predict(np.ones(2)), ValueError, "X[None] is one row"),
        (lambda: nn.Sequential([nn.ReLU()]), TypeError, "Sequential(*layers)"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, "make one, ReLU(...)"),
        (lambda: nn.Sequential(fo.tanh), TypeError, "as a layer that is fo.nn.Tanh()"),
        (lambda: nn.ReLU().fit, AttributeError, "fo.fit(model, X, y, optimizer=..., epochs=...) trains it"),
        (lambda: nn.ReLU().save, AttributeError, "fo.save(path, model.state_dict())"),
        (lambda: fo.save("x.npz", nn.ReLU()), TypeError, "save its state_dict()"),
        (lambda: fo.optim.Adam(nn.Linear(2, 1)), TypeError, "give it model.parameters()"),
        (lambda: fo.optim.Adam(np.ones(2)).zero_grad, AttributeError, "there is nothing to set to zero"),
        (lambda: fo.schedules.Step(0.1, 3).step(), AttributeError, "only optimizers have a step"),
        (
            lambda: fit(rng="x"),
            TypeError,
            "rng must be None, an int of at least 0 or a numpy.random.Generator, not 'x'",
        ),
        (lambda: nn.Linear(2, 1, rng=-1), ValueError, "rng must be None, an int of at least 0"),
        (lambda: fo.schedules.Step(0.1, 3).gama, AttributeError, "did you mean 'gamma'?"),
        (lambda: fo.optim.Adam(np.ones(2)).betas, AttributeError, "opt.groups[0]['betas']"),
        (
            lambda: fo.optim.Adam(np.ones(2)).stpe,
            AttributeError,
            "has no attribute 'stpe'; did you mean opt.step?",
        ),
    ],
)
def test_mistakes_are_answered_with_what_to_do(mistake, error, advice):
    with pytest.raises(error) as caught:
        mistake()
    assert advice in str(caught.value)
