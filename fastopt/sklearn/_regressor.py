"""The regressor."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from ._base import Perceptron
from ._classifier import _is_stochastic
from ._objective import exponential
from ._watch import r2


class MLPRegressor(RegressorMixin, Perceptron):
    """scikit-learn's ``MLPRegressor``, trained by fastopt.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        As in scikit-learn.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, \
    max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in scikit-learn. Beyond it, ``activation`` also takes the names of fastopt's layers ("sigmoid", ...),
        "softplus" and "log_sigmoid"; ``solver`` every name of `fastopt.optim`, in upper or lower case, with the rate
        ``learning_rate_init``, betas and epsilon if it is of Adam's kin, and ``alpha`` as its weight decay, or a
        function that is given the parameters, a dict, and returns an optimizer, which then has all its options;
        ``verbose`` "tqdm", for a progress bar. ``solver="lbfgs"`` is SciPy's, and always in float64.
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
    n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
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
    >>> from fastopt.sklearn import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> model = MLPRegressor(random_state=1, max_iter=500, solver="lamb", learning_rate_init=0.1)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        **Perceptron._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    loss: str

    def __init__(self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", *, solver="adam",
                 alpha=0.0001, batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5,
                 max_iter=200, shuffle=True, random_state=None, tol=1e-4, verbose=False, warm_start=False,
                 momentum=0.9, nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1, beta_1=0.9,
                 beta_2=0.999, epsilon=1e-8, n_iter_no_change=10, max_fun=15000, dropout=0.0, batch_norm=False,
                 schedule=None, validation=None, monitor="score", weight_decay_mode=None, clip_norm=None,
                 callbacks=None, dtype="float32"):  # fmt: skip
        given = dict(locals())
        self.__dict__.update((name, value) for name, value in given.items() if name not in ("self", "__class__"))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train on all rows, for up to ``max_iter`` epochs.

        Parameters
        ----------
        X : array or sparse matrix (rows, features)
        y : array (rows,) or (rows, outputs)
        sample_weight : array (rows,), optional
            How much each row counts.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(_is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train on the rows once, going on from what there is.

        Parameters
        ----------
        X : array or sparse matrix (rows, features)
        y : array (rows,) or (rows, outputs)
        sample_weight : array (rows,), optional
            How much each row counts.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The predicted numbers, (rows,) or (rows, outputs)."""
        z = self._predicted(X)
        y = exponential(z) if self.out_activation_ == "exp" else z
        return y.ravel() if y.shape[1] == 1 else y

    def _checked_targets(self, y: Any, incremental: bool) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return self._encoded(y)

    def _encoded(self, y: Any) -> np.ndarray:
        y = np.asarray(y, np.float64).reshape(len(y), -1)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(f"y must be at least 0 for loss='poisson', and its least is {y.min()}")
        return y

    def _outputs(self, y: np.ndarray) -> tuple[int, str]:
        return y.shape[1], "exp" if self.loss == "poisson" else "identity"

    def _score_of(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        return r2(y, exponential(z) if self.out_activation_ == "exp" else z, weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
