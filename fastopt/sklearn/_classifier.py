"""The classifier."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

import fastopt as fo

from ._base import Perceptron


def _is_stochastic(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
    return True


class MLPClassifier(ClassifierMixin, Perceptron):
    """scikit-learn's ``MLPClassifier``, trained by fastopt.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, \
    max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in scikit-learn. Beyond it, ``activation`` also takes the names of fastopt's layers ("sigmoid", ...),
        "softplus" and "log_sigmoid"; ``solver`` every name of `fastopt.optim`, in upper or lower case, with the rate
        ``learning_rate_init``, betas and epsilon if it is of Adam's kin, and ``alpha`` as its weight decay, or a
        function that is given the parameters, a dict, and returns an optimizer, which then has all its options;
        ``verbose`` "tqdm", for a progress bar. ``solver="lbfgs"`` is SciPy's, and always in float64.
    class_weight : dict, "balanced" or None
        The weights of the classes, by label; "balanced": such that all count alike. They multiply ``sample_weight``.
    dropout : float or list of float
        The probability of dropping a unit, of all hidden layers or of each.
    batch_norm : bool
        Whether batch norm stands between each hidden layer and its activation. No batch is left with a single row:
        batches are then made larger by a few rows.
    schedule : callable, optional
        The learning rate as a function of the number of steps done, such as one of `fastopt.schedules`.
    validation : pair (X, y), triple (X, y, sample_weight), or fraction, optional
        Data to compute loss and score on after every epoch. A fraction is held out at random, stratified by class.
        With ``early_stopping`` alone, ``validation_fraction`` is held out, in the way of scikit-learn.
    monitor : {"score", "loss"}
        By what ``early_stopping`` tells the best epoch, whose weights are put back in the end. With ``validation`` as
        data, `partial_fit` stops early, too: after ``n_iter_no_change`` calls that were no better, the best weights are
        put back, and ``stopped_`` says so.
    weight_decay_mode : {"l2", "decoupled", "independent"}, optional
        "l2" is scikit-learn's ``alpha``, in the loss and divided by the batch's number of rows. For the others,
        ``alpha`` is the decay of `fastopt.optim.SGD` and its kin itself. By default, that of the solver: "l2", but
        for AdamW and its like.
    clip_norm : float, optional
        The largest norm of all gradients together.
    callbacks : list, or one of its items, optional
        Those of `fastopt.fit`: `fastopt.EarlyStopping`, for instance. For scikit-learn's there is ``set_callbacks``.
    dtype : {"float32", "float64"} or None
        What is computed in; None: the type of X, as in scikit-learn.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, n_iter_, t_, \
    n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_, classes_
        As in scikit-learn. Where the network is of another type than X, ``coefs_`` and ``intercepts_`` are copies that
        cannot be written to, but lists of arrays can be assigned.
    validation_loss_curve_ : list of float, or None
        The loss on the validation data after every epoch.
    stopped_ : str
        Why training ended before ``max_iter``; empty if it did not.
    model_ : fastopt.nn.Sequential
        The network.

    Raises
    ------
    ValueError, TypeError, sklearn.exceptions.NotFittedError
        As in scikit-learn; and where two parameters do not go together.

    Notes
    -----
    The same data and ``random_state`` give the same bits, with any number of threads. If the rows fit into one batch,
    or with dropout or batch norm, that holds for every order of the rows, and a whole number as the weight of a row is
    as many copies of it. Sparse X is made dense, in a prediction part by part.

    Examples
    --------
    >>> from fastopt.sklearn import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((32,), max_iter=300, learning_rate_init=0.01, class_weight="balanced", random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        **Perceptron._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    class_weight: Any

    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", alpha=0.0001,
                 batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5, max_iter=200,
                 shuffle=True, random_state=None, tol=1e-4, verbose=False, warm_start=False, momentum=0.9,
                 nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1, beta_1=0.9, beta_2=0.999,
                 epsilon=1e-8, n_iter_no_change=10, max_fun=15000, class_weight=None, dropout=0.0, batch_norm=False,
                 schedule=None, validation=None, monitor="score", weight_decay_mode=None, clip_norm=None,
                 callbacks=None, dtype="float32"):  # fmt: skip
        given = dict(locals())
        self.__dict__.update((name, value) for name, value in given.items() if name not in ("self", "__class__"))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPClassifier":
        """Train on all rows, for up to ``max_iter`` epochs.

        Parameters
        ----------
        X : array or sparse matrix (rows, features)
        y : array (rows,) of labels, or (rows, labels) of 0 and 1
        sample_weight : array (rows,), optional
            How much each row counts.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(_is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> "MLPClassifier":
        """Train on the rows once, going on from what there is.

        Parameters
        ----------
        X : array or sparse matrix (rows, features)
        y : array (rows,) of labels, or (rows, labels) of 0 and 1
        sample_weight : array (rows,), optional
            How much each row counts.
        classes : array, optional
            All labels that there are to be; needed in the first call.

        Returns
        -------
        self
        """
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row; of several labels, those of a probability above 1/2."""
        z = self._predicted(X)
        if self.out_activation_ == "softmax":
            return self.classes_[z.argmax(axis=1)]
        p = fo.sigmoid(z)
        return self._label_binarizer.inverse_transform(p.ravel() if self.n_outputs_ == 1 else p)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of every label, (rows, classes), in the order of ``classes_``."""
        z = self._predicted(X)
        if self.out_activation_ == "softmax":
            return fo.softmax(z)
        p = fo.sigmoid(z)
        return np.hstack([1 - p, p]) if self.n_outputs_ == 1 else p

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of `predict_proba`."""
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)

    def _checked_targets(self, y: Any, incremental: bool) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return self._encoded(y)
        classes = unique_labels(y)
        if self.warm_start and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously"
                f" got {self.classes_}, `y` has {classes}"
            )
        return self._encoded(y)

    def _encoded(self, y: Any) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y)
        classes = unique_labels(y)
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        if self._label_binarizer.y_type_ == "multiclass":
            return np.searchsorted(self.classes_, y)
        return np.asarray(self._label_binarizer.transform(y), np.float64)

    def _outputs(self, y: np.ndarray) -> tuple[int, str]:
        if y.ndim == 1:
            return len(self.classes_), "softmax"
        return y.shape[1], "logistic"

    def _weighted(self, y: np.ndarray, weight: np.ndarray | None, incremental: bool) -> np.ndarray | None:
        if self.class_weight is None:
            return weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all data at once, and partial_fit has some: give a dict, as made by"
                " sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, y=y)"
            )
        if self._label_binarizer.y_type_.startswith("multilabel"):
            of_class = compute_sample_weight(self.class_weight, y.astype(np.int64))
        else:
            labels = (y if y.ndim == 1 else y[:, 0]).astype(np.int64)
            there = np.unique(labels)
            if self.class_weight == "balanced":
                of_class = compute_class_weight("balanced", classes=there, y=labels, sample_weight=weight)
                of_class = of_class[np.searchsorted(there, labels)]
            else:
                unknown = [label for label in self.class_weight if label not in self.classes_]
                if unknown:
                    raise ValueError(f"The classes, {unknown}, are not in class_weight: classes_ are {self.classes_}")
                each = np.array([self.class_weight.get(label, 1.0) for label in self.classes_.tolist()], np.float64)
                if not (np.isfinite(each).all() and (each >= 0).all()):
                    raise ValueError(f"class_weight must hold numbers of at least 0, not {self.class_weight}")
                of_class = each[labels]
        return of_class if weight is None else weight * of_class

    def _score_of(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        right = z.argmax(axis=1) == y if y.ndim == 1 else ((z > 0) == (y > 0.5)).all(axis=1)
        return float(np.average(right, weights=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
