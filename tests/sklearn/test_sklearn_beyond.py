"""What goes beyond scikit-learn's networks: class weights, dropout, schedules, validation, callbacks, optimizers."""

import copy
import pickle
import warnings
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn.neural_network", reason="fastopt.sklearn is made for scikit-learn")

from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.utils.class_weight import compute_sample_weight

import fastopt as fo
from fastopt.sklearn import MLPClassifier, MLPRegressor
from fastopt.sklearn._network import activations
from fastopt.sklearn._solver import solvers

X, Y = make_classification(360, 10, n_informative=8, n_classes=3, weights=[0.7, 0.2, 0.1], random_state=0)
NAMES = np.array(["few", "many", "none"])
OPTIONS = {"hidden_layer_sizes": (12,), "max_iter": 6, "random_state": 0}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer")
        yield


def same(one, other):
    return one.model_.fingerprint() == other.model_.fingerprint() and one.loss_curve_ == other.loss_curve_


# ---- weights of classes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", ["balanced", {"few": 3.0, "none": 0.5}], ids=["balanced", "dict"])
def test_class_weights_are_sample_weights(weight):
    y = NAMES[Y]
    given = np.random.RandomState(0).rand(len(X))
    model = MLPClassifier(class_weight=weight, **OPTIONS).fit(X, y)
    by_row = compute_sample_weight(weight, y)
    assert same(model, MLPClassifier(**OPTIONS).fit(X, y, by_row))
    if weight != "balanced":
        both = MLPClassifier(class_weight=weight, **OPTIONS).fit(X, y, given)
        assert same(both, MLPClassifier(**OPTIONS).fit(X, y, given * by_row))
        first = MLPClassifier(class_weight=weight, **OPTIONS).partial_fit(X, y, classes=NAMES)
        assert same(first, MLPClassifier(**OPTIONS).partial_fit(X, y, by_row, classes=NAMES))


def test_class_weights_that_do_not_fit():
    with pytest.raises(ValueError, match="partial_fit has some: give a dict"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"\['x'\]"):
        MLPClassifier(class_weight={"x": 1.0}).fit(X, NAMES[Y])
    with pytest.raises(ValueError, match="class_weight must hold numbers of at least 0"):
        MLPClassifier(class_weight={0: -1.0}).fit(X, Y)
    with pytest.raises(ValueError, match="'class_weight' parameter"):
        MLPClassifier(class_weight="even").fit(X, Y)


def test_whole_weights_are_copies_of_rows():
    weight = np.arange(len(X)) % 3
    options = {**OPTIONS, "dropout": 0.3, "batch_norm": True}
    weighted = MLPClassifier(**options).fit(X, Y, weight)
    assert same(weighted, MLPClassifier(**options).fit(X.repeat(weight, 0), Y.repeat(weight)))
    order = np.random.RandomState(0).permutation(len(X))
    assert same(weighted, MLPClassifier(**options).fit(X[order], Y[order], weight[order]))


# ---- layers -------------------------------------------------------------------------------------------------------


def test_dropout_and_batch_norm_are_layers_of_the_model():
    model = MLPClassifier((12, 8), dropout=[0.5, 0.0], batch_norm=True, max_iter=1, random_state=0).fit(X, Y)
    kinds = [type(layer).__name__ for layer in model.model_]
    assert kinds == ["Linear", "BatchNorm", "ReLU", "Dropout", "Linear", "BatchNorm", "ReLU", "Linear"]
    assert [coef.shape for coef in model.coefs_] == [(10, 12), (12, 8), (8, 3)]
    assert same(
        model, MLPClassifier((12, 8), dropout=[0.5, 0.0], batch_norm=True, max_iter=1, random_state=0).fit(X, Y)
    )
    z = model.model_.predict(X.astype(np.float32))
    np.testing.assert_allclose(model.predict_proba(X), fo.softmax(z.astype(np.float64)))
    with pytest.raises(ValueError, match="dropout must be from 0 to 1, one number or 1"):
        MLPClassifier(dropout=[0.1, 0.2]).fit(X, Y)
    with pytest.raises(ValueError, match="'dropout' parameter"):
        MLPClassifier(dropout=1.5).fit(X, Y)
    with pytest.raises(ValueError, match="takes no dropout and no batch_norm"):
        MLPClassifier(solver="lbfgs", dropout=0.5).fit(X, Y)


def test_batch_norm_never_meets_a_single_row():
    for rows in (2, 3, 11, 101):
        MLPClassifier((4,), batch_norm=True, batch_size=min(rows, 10), max_iter=1).fit(X[:rows], np.arange(rows) % 2)
    MLPClassifier((4,), batch_norm=True, batch_size=1, max_iter=1).fit(X[:7], Y[:7])
    with pytest.raises(ValueError, match="n_samples = 1"):
        MLPRegressor(batch_norm=True).fit(X[:1], Y[:1])


@pytest.mark.parametrize("name", sorted(activations()))
def test_every_activation_trains(name):
    options = {**OPTIONS, "max_iter": 30, "learning_rate_init": 0.02}
    model = MLPClassifier(activation=name, **options).fit(X, Y)
    assert model.loss_curve_[-1] < 0.7 * model.loss_curve_[0]
    assert (pickle.loads(pickle.dumps(model)).predict_proba(X) == model.predict_proba(X)).all()
    if name == "sigmoid":
        assert same(model, MLPClassifier(activation="logistic", **options).fit(X, Y))


# ---- optimizers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(solvers()))
def test_every_optimizer_goes_on_after_pickling(name):
    model = MLPRegressor(solver=name, **OPTIONS)
    first = [model.partial_fit(X[:200], Y[:200]) and model.loss_ for _ in range(3)]
    assert first[-1] < first[0]
    other = pickle.loads(pickle.dumps(model))
    copied = copy.deepcopy(model)
    for each in (model, other, copied):
        each.partial_fit(X[:200], Y[:200])
    assert model.model_.fingerprint() == other.model_.fingerprint() == copied.model_.fingerprint()


def test_a_factory_and_names_in_any_case():
    made = MLPClassifier(solver=partial(fo.optim.AdamW, lr=0.01, weight_decay=0.1), **OPTIONS)
    assert same(clone(made).fit(X, Y), made.fit(X, Y))
    for name in ("Adam", "SGD", "NAdam"):
        upper, lower = (MLPClassifier(solver=each, **OPTIONS).fit(X, Y) for each in (name, name.lower()))
        assert same(upper, lower)
    with pytest.raises(TypeError, match=r"solver must make an optimizer of fastopt\.optim, not dict"):
        MLPClassifier(solver=dict).fit(X, Y)
    with pytest.raises(ValueError, match="'solver' parameter"):
        MLPClassifier(solver="newton").fit(X, Y)


def test_weight_decay_modes():
    plain = MLPClassifier(alpha=0.0, **OPTIONS).fit(X, Y)
    decoupled = MLPClassifier(alpha=5.0, weight_decay_mode="decoupled", learning_rate_init=1e-3, **OPTIONS).fit(X, Y)
    assert decoupled.loss_curve_[0] == pytest.approx(plain.loss_curve_[0], rel=1e-2)  # there is no L2 term in the loss
    norm = [np.linalg.norm(model.coefs_[0]) for model in (plain, decoupled)]
    assert norm[1] < 0.99 * norm[0]
    by_default = MLPClassifier(solver="adamw", alpha=0.1, **OPTIONS).fit(X, Y)
    assert same(by_default, clone(by_default).set_params(weight_decay_mode="decoupled").fit(X, Y))


def test_schedule_and_clipping():
    rates = []
    watch = {"batch": lambda run: rates.append(run.optimizer.lr)}
    MLPClassifier(schedule=fo.schedules.Step(0.01, step_size=2, gamma=0.5), callbacks=watch, **OPTIONS).fit(X, Y)
    assert rates[:4] == [0.01, 0.005, 0.005, 0.0025]  # after each step, that of the next
    with pytest.raises(ValueError, match="schedule and learning_rate='adaptive'"):
        MLPClassifier(solver="sgd", learning_rate="adaptive", schedule=lambda t: 0.1).fit(X, Y)
    step = {
        "solver": "sgd",
        "momentum": 0.0,
        "max_iter": 1,
        "batch_size": len(X),
        "learning_rate_init": 1.0,
        "alpha": 0,
    }
    start = MLPClassifier(**{**OPTIONS, **step, "learning_rate_init": 1e-12}).fit(X, Y).model_.state_dict()
    clipped = MLPClassifier(clip_norm=1e-2, **{**OPTIONS, **step}).fit(X, Y).model_.state_dict()
    assert fo.global_norm([clipped[name] - start[name] for name in start]) == pytest.approx(1e-2, rel=1e-3)


# ---- validation ---------------------------------------------------------------------------------------------------


def test_validation_data_gives_both_curves():
    X_val, y_val = X[250:], NAMES[Y[250:]]
    model = MLPClassifier(validation=(X_val, y_val), **OPTIONS).fit(X[:250], NAMES[Y[:250]])
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == len(model.loss_curve_) == 6
    assert model.validation_scores_[-1] == model.score(X_val, y_val)
    p = model.predict_proba(X_val)[np.arange(len(X_val)), Y[250:]]
    assert model.validation_loss_curve_[-1] == pytest.approx(-np.log(p).mean(), rel=1e-5)
    assert same(model, MLPClassifier(**OPTIONS).fit(X[:250], NAMES[Y[:250]]))  # nothing else is changed by it
    y_val = X_val[:, 0] * 2
    regressor = MLPRegressor(validation=(X_val, y_val, np.arange(110.0)), **OPTIONS).fit(X[:250], X[:250, 0] * 2)
    assert regressor.validation_scores_[-1] == pytest.approx(regressor.score(X_val, y_val, np.arange(110.0)), rel=1e-5)


def test_a_fraction_is_stratified():
    seen = []
    model = MLPClassifier(validation=0.1, callbacks={"start": lambda run: seen.append(run)}, **OPTIONS).fit(X, Y)
    assert model.t_ == 6 * 324
    with pytest.raises(ValueError, match="least populated"):
        MLPClassifier(validation=0.1, **OPTIONS).fit(X[:30], np.arange(30))
    assert len(model.validation_scores_) == 6


@pytest.mark.parametrize("monitor", ["score", "loss"])
def test_early_stopping_puts_the_best_weights_back(monitor):
    options = {"early_stopping": True, "monitor": monitor, "n_iter_no_change": 4, "learning_rate_init": 0.05}
    model = MLPClassifier((50,), validation=(X[250:], Y[250:]), max_iter=200, random_state=0, **options)
    model.fit(X[:250], Y[:250])
    assert model.n_iter_ < 200
    assert "did not improve" in model.stopped_
    scores, losses = np.array(model.validation_scores_), np.array(model.validation_loss_curve_)
    best = scores.argmax() if monitor == "score" else losses.argmin()
    assert model.score(X[250:], Y[250:]) == scores[best] == model.best_validation_score_
    assert best < len(scores) - 1


def test_early_stopping_in_parts():
    options = {"early_stopping": True, "validation": (X[250:], Y[250:]), "n_iter_no_change": 3, "tol": 0.0}
    model = MLPClassifier((50,), learning_rate_init=0.05, random_state=0, **options)
    for _call in range(100):
        model.partial_fit(X[:250], Y[:250], classes=[0, 1, 2])
        if model.stopped_:
            break
    assert 4 < _call < 99
    assert model.score(X[250:], Y[250:]) == max(model.validation_scores_)
    model = pickle.loads(pickle.dumps(model))
    model.partial_fit(X[:250], Y[:250])
    assert model.stopped_ == ""


def test_validation_that_does_not_fit():
    wrong = {
        "not 1 items": (X,),
        "classes not in": (X, NAMES[Y]),
        "'validation' parameter": 0.0,
        "features": (X[:, 1:], Y),
    }
    for message, validation in wrong.items():
        with pytest.raises((ValueError, TypeError), match=message):
            MLPClassifier(validation=validation, **OPTIONS).fit(X, Y)
    with pytest.raises(ValueError, match=r"partial_fit does not support validation=0\.2"):
        MLPRegressor(validation=0.2).partial_fit(X, Y)


def test_parameters_may_change_between_warm_fits():
    model = MLPClassifier(solver="lbfgs", warm_start=True, **{**OPTIONS, "tol": 1.0}).fit(X, Y)
    assert len(model.set_params(solver="adam").fit(X, Y).loss_curve_) == 6
    assert len(model.set_params(early_stopping=True).fit(X, Y).validation_scores_) == 6
    assert model.best_loss_ is None
    assert model.set_params(early_stopping=False).fit(X, Y).best_loss_ <= min(model.loss_curve_[12:])
    assert model.best_validation_score_ is None
    with pytest.raises(ValueError, match=r"hidden_layer_sizes are \[3\], and the network to go on with has \[12\]"):
        model.set_params(hidden_layer_sizes=(3,)).fit(X, Y)


# ---- callbacks, pictures, progress --------------------------------------------------------------------------------


def test_fastopts_callbacks():
    stopping = fo.EarlyStopping(patience=2)
    model = MLPRegressor(validation=0.3, callbacks=[stopping], max_iter=300, learning_rate_init=0.05, random_state=0)
    model.fit(X, Y)
    assert len(model.validation_loss_curve_) == model.n_iter_ < 300
    assert model.stopped_ == "no better val_loss for 2 epochs"
    with pytest.raises(KeyError, match="mine"):
        MLPRegressor(callbacks={"epoch": lambda run: {}["mine"]}, **OPTIONS).fit(X, Y)


def test_scikit_learns_callbacks():
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks since 1.9")
    events = []

    class Recorder:
        def setup(self, estimator, context):
            events.append("setup")

        def teardown(self, estimator, context):
            events.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            events.append("begin")

        def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
            events.append(fitted_estimator.predict(X))
            return context.task_name == "epoch 2"

    model = MLPClassifier(**OPTIONS).set_callbacks(Recorder())
    model.fit(X, Y)
    assert isinstance(model, callback.CallbackSupportMixin)
    assert model.n_iter_ == 3
    assert [event for event in events if isinstance(event, str)] == ["setup", *["begin"] * 4, "teardown"]
    assert not (events[3] == events[5]).all()  # each is of its epoch
    assert (events[-2] == model.predict(X)).all()


def test_plot_draws_the_curves():
    pytest.importorskip("matplotlib", reason="pictures are matplotlib's")
    import matplotlib as mpl

    mpl.use("Agg")
    model = MLPRegressor(validation=0.2, **OPTIONS).fit(X, Y)
    figure = model.plot()
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "R²"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == model.loss_curve_
    assert len(MLPClassifier(**OPTIONS).fit(X, Y).plot().axes) == 1
    with pytest.raises(ValueError, match="no learning curve"):
        MLPClassifier(solver="lbfgs", **{**OPTIONS, "tol": 1.0}).fit(X, Y).plot()


def test_a_progress_bar(capsys):
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    MLPRegressor(verbose="tqdm", **OPTIONS).fit(X, Y)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "epoch 6/6" in printed.err


# ---- kinds of data ------------------------------------------------------------------------------------------------


def test_sparse_data_frames_and_several_labels():
    sparse = pytest.importorskip("scipy.sparse")
    for made in (sparse.csr_array, sparse.csc_matrix):
        model = MLPClassifier(**OPTIONS).fit(made(X), Y)
        assert same(model, MLPClassifier(**OPTIONS).fit(X, Y))
        assert (model.predict_proba(made(X)) == model.predict_proba(X)).all()
    with pytest.raises(ValueError, match=r"would take \d+\.\d GiB when made dense.*call partial_fit"):
        MLPClassifier().fit(sparse.csr_array((2000, 10**6)), np.arange(2000) % 2)
    features, labels = make_multilabel_classification(100, random_state=0)
    model = MLPClassifier(**OPTIONS).fit(features, labels)
    assert model.predict(features).shape == model.predict_proba(features).shape == labels.shape
    pandas = pytest.importorskip("pandas", reason="frames are pandas's")
    frame = pandas.DataFrame(X, columns=[f"column {i}" for i in range(10)])
    model = MLPClassifier(**OPTIONS).fit(frame, pandas.Series(NAMES[Y]))
    assert model.feature_names_in_.tolist() == list(frame)
    assert set(model.predict(frame)) <= set(NAMES)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list(frame)[::-1]])


def test_what_is_computed_in():
    as_x = [MLPRegressor(dtype=None, **OPTIONS).fit(X.astype(kind), Y) for kind in ("float32", "float64")]
    assert [model.model_.dtype for model in as_x] == [np.float32, np.float64]
    assert same(as_x[0], MLPRegressor(**OPTIONS).fit(X.astype("float32"), Y))
    assert MLPRegressor(**OPTIONS).fit(X, Y).predict(X).dtype == np.float64
    assert as_x[0].predict(X.astype("float32")).dtype == np.float32
    assert as_x[1].loss_curve_ == pytest.approx(as_x[0].loss_curve_, rel=1e-4)
    with pytest.raises(ValueError, match="dtype"):
        MLPRegressor(dtype="float16").fit(X, Y)


def test_several_threads_fit_at_once():
    from joblib import Parallel, delayed

    alone = MLPClassifier(**OPTIONS).fit(X, Y)
    fitted = Parallel(n_jobs=4, backend="threading")(
        delayed(lambda model: model.fit(X, Y))(MLPClassifier(**OPTIONS)) for _ in range(8)
    )
    assert all(same(model, alone) for model in fitted)
    assert theirs.MLPClassifier.__name__ == MLPClassifier.__name__
