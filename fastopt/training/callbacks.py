"""What runs beside the training: callbacks, and early stopping among them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._checks import a_number, number, one_of, whole, yes_or_no
from .._warning import warn
from ..nn.layer import Layer
from ..optim import Optimizer
from .history import History

EVENTS = ("start", "batch", "epoch", "end")


class Run:
    """What a callback is given: where training stands, and the means to stop it.

    Attributes
    ----------
    model : fastopt.nn.Layer
    optimizer : fastopt.optim.Optimizer
    history : History
        Of the epochs that are over.
    epoch, epochs : int
        How many epochs are over, and how many there are to be.
    batch : int
        How many steps of the present epoch are over.
    batch_loss : float
        The mean loss of the last step's rows, before that step; NaN before the first.
    error : BaseException or None
        What ends training, if that is an error: for functions of "end".
    """

    def __init__(self, model: Layer, optimizer: Optimizer, history: History, epochs: int):
        self.model, self.optimizer, self.history, self.epochs = model, optimizer, history, epochs
        self.epoch = self.batch = 0
        self.batch_loss = float("nan")
        self.stopping = False
        self.error: BaseException | None = None

    def stop(self, reason: str = "stopped by a callback") -> None:
        """End training after this event; of an epoch that is not over, the history has nothing."""
        self.stopping = True
        self.history.stopped = reason


# How the names of what is to rise, and of what is to fall, end; scikit-learn's metrics are called so.
_RISING = ("accuracy", "auc", "f1", "precision", "r2", "recall", "score")
_FALLING = ("deviance", "error", "grad_norm", "loss", "lr", "mae", "mse", "rmse", "seconds", "skipped_steps")


class Monitor:
    """The base of callbacks that watch whether a value of the history gets better."""

    def __init__(self, monitor: str, mode: str | None):
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a str, not {type(monitor).__name__}")
        self.monitor, self.mode = monitor, one_of(None, "min", "max")("mode", mode)
        rises = monitor.lower().endswith(_RISING) if mode is None else mode == "max"
        self._sign = -1.0 if rises else 1.0  # times the value, it is to fall

    def check_recorded(self, recorded: Sequence[str]) -> None:
        """Raise ValueError if the value is not among what is recorded, or nobody knows whether it is to rise."""
        what = "early stopping" if isinstance(self, EarlyStopping) else type(self).__name__
        if self.monitor not in recorded:
            raise ValueError(
                f"{what} monitors {self.monitor!r}, which is not recorded: {', '.join(recorded)} are"
                + ("; val_... needs validation data" if self.monitor.startswith("val_") else "")
            )
        if self.mode is None and not self.monitor.lower().endswith((*_RISING, *_FALLING)):
            raise ValueError(f'{what} monitors {self.monitor!r}: say mode="max" if it is to rise, mode="min" if not')

    def check(self, optimizer: Optimizer) -> None:
        """Raise TypeError or ValueError if it cannot work with this optimizer."""


class EarlyStopping(Monitor):
    """Ends training when it no longer gets better, and puts the best weights back.

    Give it to `fastopt.fit` among the ``callbacks``.

    Parameters
    ----------
    monitor : str
        What is to get better: a name in the `History`, such as "val_loss", "val_accuracy" or that of a metric. NaN is
        never better.
    patience : int
        After how many epochs in a row without improvement to stop.
    min_delta : float
        By how much it must be better than the best so far to be an improvement.
    restore_best : bool
        Whether, when training ends, for whatever reason but an error, the model gets the weights of the best epoch
        back, with their running statistics. The optimizer stays as it is.
    mode : {"min", "max"}, optional
        Whether it is to fall or to rise. By default the name tells: accuracies, scores and what ends with ``auc``,
        ``f1``, ``precision``, ``recall`` or ``r2`` are to rise, losses and errors to fall; other metrics need it.

    Attributes
    ----------
    best : float or None
        The best value so far.
    best_epoch : int
        Where it was, counted from 1; also in the `History`, whose picture marks it.
    best_weights : dict of ndarray
        With ``restore_best``, a copy of what the model's ``state_dict`` was there, also after an error, after which
        the model keeps the weights of its last step; ``model.load_state_dict`` takes it. Empty before the first epoch.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type, or out of range; by ``fit``, if ``monitor`` is not what it records.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> X = np.random.default_rng(0).standard_normal((60, 20))
    >>> y = X[:, 0] > 0  # few rows, and many columns that do not matter
    >>> model = fo.nn.Sequential(fo.nn.Linear(20, 50), fo.nn.ReLU(), fo.nn.Linear(50, 1), rng=0)
    >>> opt = fo.optim.Adam(model.parameters(), lr=0.02)
    >>> stopping = fo.EarlyStopping(patience=5)
    >>> history = fo.fit(model, X, y, optimizer=opt, epochs=200, validation=0.3, callbacks=[stopping], rng=0)
    >>> len(history) == history.best_epoch + 5
    True
    >>> history.val_loss[history.best_epoch - 1] == min(history.val_loss) == stopping.best
    True

    References
    ----------
    L. Prechelt, "Early stopping - but when?" (1998).
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: str | None = None,
    ):
        super().__init__(monitor, mode)
        self.patience = whole("patience", patience, 1)
        self.min_delta = a_number("min_delta", min_delta, low=0)
        self.restore_best = yes_or_no("restore_best", restore_best)
        self._begin()

    def _begin(self) -> None:
        self.best: float | None = None
        self.best_epoch = 0
        self._weights: dict[str, np.ndarray] = {}

    def on_start(self, run: Run) -> None:
        if run.epoch == 0:
            self._begin()
        else:  # resumed, and perhaps from where it had stopped
            self._stop_if_idle(run)

    def on_epoch(self, run: Run) -> None:
        value = run.history[self.monitor][-1]
        gain = math.inf if self.best is None else self._sign * (self.best - value)
        if gain > self.min_delta and not math.isnan(value):
            if self.restore_best:
                self._weights = run.model.state_dict()
            self.best, self.best_epoch = value, run.epoch
            run.history.best_epoch = run.epoch
        self._stop_if_idle(run)

    def _stop_if_idle(self, run: Run) -> None:
        if run.epoch - self.best_epoch >= self.patience:
            run.stop(f"no better {self.monitor} for {self.patience} epoch{'' if self.patience == 1 else 's'}")

    def on_end(self, run: Run) -> None:
        if self._weights and run.error is None:
            run.model.load_state_dict(self._weights)

    @property
    def best_weights(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._weights.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best": self.best, "best_epoch": self.best_epoch,
                "weights": {name: array.copy() for name, array in self._weights.items()}}  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there: `state_dict` is a checkpoint's.

        Raises
        ------
        TypeError, ValueError
            If it is no state of early stopping, or of that of another value; nothing has then been changed.
        """
        if not isinstance(state_dict, Mapping) or state_dict.keys() != self.state_dict().keys():
            raise ValueError(f"a state of early stopping has {', '.join(self.state_dict())}")
        if state_dict["monitor"] != self.monitor:
            raise ValueError(f"the checkpoint monitors {state_dict['monitor']!r}, this run {self.monitor!r}")
        best = None if state_dict["best"] is None else float(number("best", state_dict["best"]))
        best_epoch = whole("best_epoch", state_dict["best_epoch"], 0)
        if (best is None) != (best_epoch == 0) or (best is not None and math.isnan(best)):
            raise ValueError(f"best={best} in best_epoch={best_epoch} cannot be")
        weights = state_dict["weights"]
        if not isinstance(weights, Mapping) or not all(isinstance(array, np.ndarray) for array in weights.values()):
            raise TypeError("the best weights must be a dict of arrays")
        weights = {name: array.copy() for name, array in weights.items()}
        self.best, self.best_epoch, self._weights = best, best_epoch, weights

    def _check_fits(self, model: Layer, epoch: int) -> None:
        """Raise ValueError if what was loaded is not of this model, after so many epochs."""
        if self._weights:
            model.check_state_dict(self._weights)
        if self.best_epoch > epoch:
            raise ValueError(f"the best epoch, {self.best_epoch}, is to come: {epoch} are over")


class Callbacks:
    """All callbacks of a run, by event."""

    def __init__(self, given: Any):
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
            given = [given]  # one by itself
        # the best weights are put back before others look at them
        self.given = sorted(given, key=lambda callback: not isinstance(callback, EarlyStopping))
        self._of: dict[str, list[Callable[[Run], Any]]] = {event: [] for event in EVENTS}
        for callback in self.given:
            for event, function in _functions(callback).items():
                self._of[event].append(function)
        self.watches_batches = bool(self._of["batch"])
        self._to_end = list(self._of["end"])

    def check_monitors(self, recorded: Sequence[str], optimizer: Optimizer) -> None:
        """Refuse callbacks that watch what is not recorded, or cannot change what they are to change."""
        for callback in self.given:
            if isinstance(callback, Monitor):
                callback.check_recorded(recorded)
                callback.check(optimizer)

    def call(self, event: str, run: Run) -> None:
        for function in self._of[event]:
            function(run)

    def end(self, run: Run) -> None:
        """The event "end", of which each is told once."""
        while self._to_end:
            self._to_end.pop(0)(run)

    def end_after(self, error: BaseException, run: Run) -> None:
        """Tell of the error that ends training; what is raised by those told is only warned of."""
        run.error = error
        while self._to_end:
            try:
                self._to_end.pop(0)(run)
            except Exception as another:
                warn(f'after {type(error).__name__}, a callback\'s "end" raised {another!r}', RuntimeWarning)

    def state_dict(self) -> list[Any]:
        """The states of those that have one."""
        return [callback.state_dict() for callback in self._stateful()]

    def check_states(self, states: Any) -> None:
        if not isinstance(states, Sequence) or isinstance(states, str):
            raise TypeError(f"the states of callbacks must be a list, not {type(states).__name__}")
        if len(states) != len(self._stateful()):
            raise ValueError(
                f"the checkpoint has the states of {len(states)} callbacks, this run {len(self._stateful())} with any"
            )

    def load_states(self, states: Sequence[Any], model: Layer | None = None, epoch: int = 0) -> None:
        """Give each its state; with a ``model``, see that those of early stopping are of it, after so many epochs."""
        for callback, state in zip(self._stateful(), states, strict=True):
            callback.load_state_dict(state)
            if model is not None and isinstance(callback, EarlyStopping):
                callback._check_fits(model, epoch)

    def _stateful(self) -> list[Any]:
        return [c for c in self.given if hasattr(c, "state_dict") and hasattr(c, "load_state_dict")]


def _functions(callback: Any) -> dict[str, Callable[[Run], Any]]:
    """The functions of a callback, by event."""
    if isinstance(callback, Mapping):
        if unknown := [repr(event) for event in callback if event not in EVENTS]:
            raise ValueError(f"a callback has functions for {', '.join(EVENTS)}, not for {', '.join(unknown)}")
        found = dict(callback)
    elif isinstance(callback, type):
        raise TypeError(f"a callback must be an object: {callback.__name__}(), not the class")
    else:
        found = {event: getattr(callback, f"on_{event}") for event in EVENTS if hasattr(callback, f"on_{event}")}
    if not found:
        raise TypeError(
            f"a callback must be a dict of functions, or an object with methods on_{', on_'.join(EVENTS)},"
            f" not {callback!r}"
        )
    for event, function in found.items():
        if not callable(function):
            raise TypeError(f"a callback's function for {event!r} must be callable, not {function!r}")
    return found
