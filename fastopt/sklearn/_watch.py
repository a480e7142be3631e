"""What is done after every epoch: scikit-learn's attributes, its rules of when to stop, and its callbacks."""

import copy
import math
from typing import Any

import numpy as np

from ..training.callbacks import Run
from ._objective import Objective
from ._solver import name_of

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Without scikit-learn's callbacks."""


SMALLEST_RATE = 1e-6  # the learning rate "adaptive" divides no further


class Watch:
    """A callback of `fastopt.fit` that keeps an estimator's attributes, and stops training when it gets no better.

    ``validation`` is a pair of targets and weights, whose loss and outputs the ``objective`` has after every epoch.
    """

    def __init__(self, estimator: Any, rows: int, objective: Objective, validation: Any, context: Any, data: Any):
        self.estimator, self.rows, self.objective, self.validation = estimator, rows, objective, validation
        self.context, self.data = context, data
        self.stopped = ""

    def on_epoch(self, run: Run) -> None:
        own, loss = self.estimator, run.history.loss[-1]
        task = None if self.context is None else self.context.subcontext(task_name=f"epoch {own.n_iter_}")
        if task is not None:
            task.call_on_fit_task_begin(estimator=own, **self.data)
        own.n_iter_ += 1
        own.t_ += self.rows
        own.loss_ = loss
        own.loss_curve_.append(loss)
        if own.verbose and own.verbose != "tqdm":
            print(f"Iteration {own.n_iter_}, loss = {loss:.8f}")
        if self.validation is not None:
            self._validate(run)
        if not own.early_stopping:
            better, own.best_loss_ = loss <= own.best_loss_ - own.tol, min(own.best_loss_, loss)
            own._no_improvement_count = 0 if better else own._no_improvement_count + 1
        if name_of(own.solver) == "sgd" and own.learning_rate == "invscaling":
            run.optimizer.lr = own.learning_rate_init / (own.t_ + 1) ** own.power_t
        if own._no_improvement_count > own.n_iter_no_change:
            self._no_better(run)
        if task is not None and task.call_on_fit_task_end(
            estimator=own, **self.data, reconstruction_attributes=lambda: {"model_": copy.deepcopy(run.model)}
        ):
            self._stop(run, "stopped by a callback")

    def _validate(self, run: Run) -> None:
        own, z = self.estimator, self.objective.validated
        assert z is not None
        loss, score = run.history.val_loss[-1], own._score_of(z, *self.validation)
        own.validation_loss_curve_.append(loss)
        own.validation_scores_.append(score)
        if own.verbose and own.verbose != "tqdm":
            print(f"Validation score: {score:f}")
        if not own.early_stopping:
            return
        value, best = (score, own.best_validation_score_) if own.monitor == "score" else (-loss, -own._best_loss)
        own._no_improvement_count = 0 if value >= best + own.tol else own._no_improvement_count + 1
        if value > best:
            own.best_validation_score_, own._best_loss = score, loss
            own._best_weights = run.model.state_dict()

    def _no_better(self, run: Run) -> None:
        """Stop, or go on with a smaller learning rate if that is "adaptive"."""
        own = self.estimator
        what = f"Validation {own.monitor}" if own.early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={own.tol:f} for {own.n_iter_no_change} consecutive epochs."
        if name_of(own.solver) == "sgd" and own.learning_rate == "adaptive":
            if run.optimizer.lr > SMALLEST_RATE:
                run.optimizer.lr /= 5.0
                own._no_improvement_count = 0
                self._say(f"{message} Setting learning rate to {run.optimizer.lr:f}")
                return
            message += " Learning rate too small."
        self._say(f"{message} Stopping.")
        self._stop(run, message)

    def _say(self, message: str) -> None:
        if self.estimator.verbose:
            print(message)

    def _stop(self, run: Run, reason: str) -> None:
        self.stopped = reason
        run.stop(reason)


def r2(y: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
    """The mean R² of the outputs; of one that does not vary, 1 if it is met and else 0."""
    if len(y) < 2 or not np.isfinite(predicted).all():
        return math.nan
    y, predicted = y.astype(np.float64), predicted.astype(np.float64)
    of_squares = np.average((y - predicted) ** 2, axis=0, weights=weight)
    spread = np.average((y - np.average(y, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    scores = np.where(of_squares == 0, 1.0, 0.0)
    np.subtract(
        1, np.divide(of_squares, spread, out=np.ones_like(spread), where=spread > 0), out=scores, where=spread > 0
    )
    return float(scores.mean())
