"""What both estimators have: parameters, training, the attributes and methods that do not depend on the targets."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any
from warnings import warn

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import fastopt as fo

from ..optim import Optimizer
from . import _lbfgs
from ._network import activations, linear_layers, network, shown, take_over, widths_of
from ._objective import Objective
from ._rows import RowOrder, dense, in_order, repeated
from ._solver import decays_by_batch, name_of, optimizer_for, solvers
from ._watch import CallbackSupportMixin, Watch

ROWS_AT_ONCE = 4096  # of sparse data, in a prediction
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class Perceptron(CallbackSupportMixin, BaseEstimator):
    """The base of both estimators."""

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(activations()))],
        "solver": [StrOptions({"lbfgs", *solvers(), *fo.optim.__all__}), callable],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose", StrOptions({"tqdm"})],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "batch_norm": ["boolean"],
        "schedule": [callable, None],
        "validation": [Interval(Real, 0, 1, closed="neither"), tuple, list, None],
        "monitor": [StrOptions({"score", "loss"})],
        "weight_decay_mode": [StrOptions({"l2", "decoupled", "independent"}), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "callbacks": [list, tuple, dict, None, object],
        "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
    }

    hidden_layer_sizes: Any
    activation: str
    solver: Any
    alpha: float
    batch_size: Any
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: Any
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    dropout: Any
    batch_norm: bool
    schedule: Any
    validation: Any
    monitor: str
    weight_decay_mode: str | None
    clip_norm: float | None
    callbacks: Any
    dtype: Any

    # -- what the targets decide --

    @abstractmethod
    def _checked_targets(self, y: Any, incremental: bool) -> np.ndarray:
        """The targets as the loss takes them: labels (n,), or numbers (n, outputs)."""

    @abstractmethod
    def _outputs(self, y: np.ndarray) -> tuple[int, str]:
        """How many outputs the network has, and the function that makes predictions of them."""

    @abstractmethod
    def _encoded(self, y: Any) -> np.ndarray:
        """Further targets, such as those to validate with."""

    @abstractmethod
    def _score_of(self, z: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        """The score of the network's outputs."""

    def _weighted(self, y: np.ndarray, weight: np.ndarray | None, incremental: bool) -> np.ndarray | None:
        """The rows' weights, those of their classes included."""
        return weight

    # -- training --

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Any:
        hidden = self._hidden()
        first = not hasattr(self, "model_") or not (self.warm_start or incremental)
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=not is_classifier(self),
            dtype=(np.float64, np.float32), reset=first,
        )  # fmt: skip
        y = self._checked_targets(y, incremental)
        rows = X.shape[0]
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            if not weight.any():
                raise ValueError("Sample weights must contain at least one non-zero number.")
        weight = self._weighted(y, weight, incremental)
        random = check_random_state(self.random_state)
        data = {"X": X, "y": y, "metadata": {} if sample_weight is None else {"sample_weight": sample_weight}}
        given = X.dtype
        X = dense(X, self._computed_in(given) if first else self.model_.dtype)
        if first:
            self._begin(X, given, y, hidden, random)
        elif widths_of(self.model_)[1:-1] != hidden:
            built = widths_of(self.model_)[1:-1]
            raise ValueError(f"hidden_layer_sizes are {hidden}, and the network to go on with has {built}")
        context = self._context()
        if context is not None:
            context.call_on_fit_task_begin(estimator=self, **data)
        self.n_iter_, self.stopped_ = 0, ""
        if self.solver == "lbfgs":
            objective = self._objective(weight)
            args = (objective, self.max_iter, self.max_fun, self.tol)
            self.loss_, self.n_iter_ = _lbfgs.minimized(self.model_, X, y, weight, *args)
        else:
            self._train(X, y, weight, rows, random, incremental, context, data)
        if not all(np.isfinite(array).all() for array in self.model_.parameters().values()):
            raise ValueError(NOT_FINITE)
        if context is not None:
            context.call_on_fit_task_end(estimator=self, **data, reconstruction_attributes=dict)
        return self

    def _hidden(self) -> list[int]:
        """The widths of the hidden layers; also checks what depends on more than one parameter."""
        hidden = self.hidden_layer_sizes
        hidden = list(hidden) if hasattr(hidden, "__iter__") else [hidden]
        if any(not isinstance(width, Integral) for width in hidden):
            raise ValueError(f"hidden_layer_sizes must be whole numbers, got {hidden}.")
        if any(width <= 0 for width in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        if self.solver == "lbfgs" and (self.batch_norm or any(self._dropout(hidden))):
            raise ValueError("solver='lbfgs' minimizes one fixed function: it takes no dropout and no batch_norm")
        if self.schedule is not None and name_of(self.solver) == "sgd" and self.learning_rate != "constant":
            raise ValueError(f"schedule and learning_rate={self.learning_rate!r} both set the rate: give one of them")
        return [int(width) for width in hidden]

    def _dropout(self, hidden: Sequence[int]) -> list[float]:
        if isinstance(self.dropout, Real):
            return [float(self.dropout)] * len(hidden)
        given = [float(p) for p in self.dropout]
        if len(given) != len(hidden) or not all(0 <= p <= 1 for p in given):
            raise ValueError(f"dropout must be from 0 to 1, one number or {len(hidden)}, not {self.dropout}")
        return given

    def _computed_in(self, given: np.dtype) -> np.dtype:
        """The type of a new network, for X of the type that was given."""
        if self.solver == "lbfgs":
            return np.dtype(np.float64)
        return given if self.dtype is None else np.dtype(self.dtype)

    def _begin(self, X: np.ndarray, given: np.dtype, y: np.ndarray, hidden: list[int], random: Any) -> None:
        """A new network, and attributes as they are before the first epoch."""
        self.n_outputs_, self.out_activation_ = self._outputs(y)
        self._input_dtype = given
        widths = [X.shape[1], *hidden, self.n_outputs_]
        self.model_ = network(widths, self.activation, self.batch_norm, self._dropout(hidden), X.dtype, random)
        self.n_layers_, self.t_ = len(widths), 0
        self._no_improvement_count = 0
        self.__dict__.pop("_optimizer", None)
        for name in ("loss_curve_", "validation_scores_", "validation_loss_curve_", "best_loss_"):
            self.__dict__.pop(name, None)

    def _begin_curves(self) -> None:
        """What is recorded, where a run before has not begun it; parameters may have changed since then."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = None
            self.validation_loss_curve_: list[float] | None = None
            self.best_loss_ = self.best_validation_score_ = None
        if (self.early_stopping or self.validation is not None) and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        if self.early_stopping and self.best_validation_score_ is None:
            self.best_loss_, self.best_validation_score_ = None, -math.inf
            self._best_loss, self._best_weights = math.inf, self.model_.state_dict()
        elif not self.early_stopping and self.best_loss_ is None:
            self.best_loss_, self.best_validation_score_ = math.inf, None

    def _objective(self, weight: np.ndarray | None, mean_weight: float = 1.0) -> Objective:
        alpha = self.alpha if decays_by_batch(self) else 0.0
        weights = [layer.weight for layer in linear_layers(self.model_)]
        return Objective(self.out_activation_, alpha, weights, mean_weight)

    def _train(
        self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, rows: int, random: Any, incremental: bool,
        context: Any, data: Any,
    ) -> None:  # fmt: skip
        if not (incremental and hasattr(self, "_optimizer")):
            self._optimizer: Optimizer = optimizer_for(self, self.model_)
        X, y, weight, validation = self._split(X, y, weight, random, incremental)
        self._begin_curves()
        rows = len(X)
        copies = repeated(weight)
        batch = self._batch_size(rows if copies is None else len(copies))
        if self.batch_norm or any(self._dropout(self._hidden())) or batch >= (rows if copies is None else len(copies)):
            # One result for any order of the rows, and for copies of a row and a weight of as much: to the bit
            if copies is not None:
                X, y, weight = X[copies], y[copies], None
            if self.shuffle:
                order = in_order(X, y)
                X, y, weight = X[order], y[order], None if weight is None else weight[order]
        batch = self._batch_size(len(X), warns=True)
        objective = self._objective(weight, 1.0 if weight is None else float(weight.mean()))
        if decays_by_batch(self):
            varies = weight is not None or len(X) % batch
            self._optimizer.groups[0]["weight_decay"] = objective.decay if varies else self.alpha / batch
        watched = None if validation is None else validation[1:]
        watch = Watch(self, rows, objective, watched, context if self._has_callbacks() else None, data)
        callbacks = () if self.callbacks is None else self.callbacks
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        epochs = 1 if incremental else self.max_iter
        try:
            history = fo.fit(
                self.model_, X, y, optimizer=self._optimizer, epochs=epochs, loss=objective, batch_size=batch,
                validation=validation, sample_weight=weight, shuffle=self.shuffle,
                rng=RowOrder(random, len(X)) if self.shuffle else None, clip_norm=self.clip_norm,
                callbacks=[watch, *callbacks], progress=self.verbose == "tqdm",
            )  # fmt: skip
        except FloatingPointError as error:
            raise ValueError(f"{NOT_FINITE} ({error})") from error
        finally:
            objective.validated = None
        self.stopped_ = watch.stopped or history.stopped
        if history.interrupted:
            warn("Training interrupted by user.", stacklevel=2)
        if self.early_stopping and (self.stopped_ or not incremental):
            self.model_.load_state_dict(self._best_weights)
            self._no_improvement_count = 0 if incremental else self._no_improvement_count
        if self.n_iter_ == self.max_iter and not (incremental or self.stopped_):
            warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't"
                " converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _batch_size(self, rows: int, warns: bool = False) -> int:
        if self.batch_size == "auto":
            size = min(200, rows)
        else:
            if warns and self.batch_size > rows:
                warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2)
            size = min(int(self.batch_size), rows)
        if self.batch_norm:
            if rows < 2:
                raise ValueError("batch_norm needs at least 2 rows to train on, and n_samples = 1 was given")
            size = max(size, 2)
            while rows % size == 1:  # no batch of a single row, which has no variance
                size += 1
        return size

    def _split(
        self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, random: Any, incremental: bool
    ) -> tuple[Any, Any, Any, Any]:
        """The rows to train on, and the triple to validate with, if there is to be one."""
        given = self.validation
        if isinstance(given, (tuple, list)):
            return X, y, weight, self._given_validation(given)
        if given is None and not self.early_stopping:
            return X, y, weight, None
        if incremental:
            what = "early_stopping=True" if self.early_stopping else f"validation={given}"
            raise ValueError(f"partial_fit does not support {what}, but with data to validate with: validation=(X, y)")
        if given is None:  # as scikit-learn does: where there are more than two classes, by chance
            stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        else:
            stratify = y if is_classifier(self) and (y.ndim == 1 or y.shape[1] == 1) else None
        fraction = self.validation_fraction if given is None else given
        train, held_out = train_test_split(
            np.arange(len(X)), random_state=random, test_size=fraction, stratify=stratify
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        if weight is None:
            return X[train], y[train], None, (X[held_out], y[held_out], None)
        if not (weight[train].any() and weight[held_out].any()):
            raise ValueError("sample_weight is 0 for all rows to train on, or for all to validate with")
        return X[train], y[train], weight[train], (X[held_out], y[held_out], weight[held_out])

    def _given_validation(self, given: Sequence[Any]) -> tuple[Any, Any, Any]:
        if len(given) not in (2, 3):
            raise ValueError(
                f"validation must be a fraction, or (X, y) or (X, y, sample_weight), not {len(given)} items"
            )
        X, y = validate_data(
            self, given[0], given[1], accept_sparse=["csr", "csc"], multi_output=True,
            y_numeric=not is_classifier(self), dtype=(np.float64, np.float32), reset=False,
        )  # fmt: skip
        weight = given[2] if len(given) == 3 else None
        if weight is not None:
            weight = _check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True)
        return dense(X, self.model_.dtype), self._encoded(y), weight

    # -- scikit-learn's callbacks --

    def _has_callbacks(self) -> bool:
        return bool(getattr(self, "_skl_callbacks", None))

    def _context(self) -> Any:
        """The context of scikit-learn's callbacks, where it has them."""
        if not hasattr(self, "_init_callback_context"):
            return None
        return self._init_callback_context(max_subtasks=self.max_iter)

    # -- what is fitted --

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, (inputs, outputs): of the network itself, or copies if X is of another type."""
        return [shown(layer.weight.T, self._input_dtype) for layer in linear_layers(self._fitted_model())]

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        take_over([layer.weight.T for layer in linear_layers(self._fitted_model())], values, "coefs_")

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer."""
        return [shown(layer.params["bias"], self._input_dtype) for layer in linear_layers(self._fitted_model())]

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        take_over([layer.params["bias"] for layer in linear_layers(self._fitted_model())], values, "intercepts_")

    def _fitted_model(self) -> fo.nn.Sequential:
        if "model_" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: it has no network")
        return self.model_

    def _predicted(self, X: Any) -> np.ndarray:
        """The network's outputs."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        dtype = self.model_.dtype
        if isinstance(X, np.ndarray):
            z = self.model_.predict(np.ascontiguousarray(X, dtype))
        else:
            X = X.tocsr()
            blocks = range(0, X.shape[0], ROWS_AT_ONCE)
            z = np.vstack([self.model_.predict(dense(X[begin : begin + ROWS_AT_ONCE], dtype)) for begin in blocks])
        return z.astype(self._input_dtype, copy=False)

    def plot(self, ax: Any = None) -> Any:
        """Draw the learning curves: the loss of training and, if there is any, of validation, and the scores of that.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or pair of them, optional
            As for `fastopt.History.plot`.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If there is nothing to draw yet.
        ValueError
            After solver="lbfgs", which has no epochs.
        """
        check_is_fitted(self)
        if not hasattr(self, "loss_curve_"):
            raise ValueError("solver='lbfgs' has no learning curve: its iterations are not epochs")
        history = fo.History(
            loss=self.loss_curve_,
            val_loss=self.validation_loss_curve_ or [],
            val_accuracy=self.validation_scores_ or [],
        )
        figure = history.plot(ax)
        for axes in figure.axes:
            if axes.get_title() == "Accuracy" and not is_classifier(self):
                axes.set_title("R²")
        return figure

    # -- copies: an optimizer belongs to the arrays of its network --

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        optimizer = state.pop("_optimizer", None)
        if optimizer is not None:
            state["_optimizer_state"] = optimizer.state_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        saved = state.pop("_optimizer_state", None)
        super().__setstate__(state)
        if saved is not None:
            self._optimizer = optimizer_for(self, self.model_)
            self._optimizer.load_state_dict(saved)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
