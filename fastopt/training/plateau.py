"""A learning rate that falls where training gets no better."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .._checks import a_number, number, one_of, whole
from .._moving import change_all
from ..optim import Optimizer
from .callbacks import Monitor, Run

_COUNTS = ("bad_epochs", "cooldown_left")


class ReduceOnPlateau(Monitor):
    r"""Multiplies the learning rate by a factor when a value no longer gets better.

    Give it to `fastopt.fit` among the ``callbacks``, or call `step` in a loop of your own. The meaning of all options
    is that of ``torch.optim.lr_scheduler.ReduceLROnPlateau``: a value v is better than the best so far, b, if
    :math:`v < b (1 - \text{threshold})`, or, ``threshold_mode="abs"``, :math:`v < b - \text{threshold}` (with
    ``mode="max"``: :math:`v > b (1 + \text{threshold})` and :math:`v > b + \text{threshold}`). NaN is never better.

    Parameters
    ----------
    monitor : str
        What is to get better: a name in the `History`, such as "loss", "val_accuracy" or that of a metric.
    mode : {"min", "max"}, optional
        Whether it is to fall or to rise; by default as for `EarlyStopping`.
    factor : float, at least 0 and below 1
        What the learning rate of every group is multiplied by.
    patience : int
        How many epochs without improvement are borne; with the next one, the rate is reduced.
    threshold : float
    threshold_mode : {"rel", "abs"}
    cooldown : int
        How many epochs after a reduction are not counted as bad.
    min_lr : float, or a list with one for every group
        Below this no rate is reduced.
    eps : float
        A reduction by this or less is left out.

    Attributes
    ----------
    best : float or None
        The best value so far.
    bad_epochs, cooldown_left : int
        How many epochs in a row there was no improvement, and how many more are not counted.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of another type, or out of range; by ``fit`` and `step`, if a learning rate is a schedule, or
        there are not as many of ``min_lr`` as groups; by ``fit``, if ``monitor`` is not what it records.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> opt = fo.optim.SGD(np.zeros(2), lr=0.1)
    >>> plateau = fo.ReduceOnPlateau("loss", patience=1)
    >>> rates = []
    >>> for loss in [1.0, 0.9, 0.9, 0.9, 0.9]:
    ...     plateau.step(loss, opt)
    ...     rates.append(round(opt.lr, 3))
    >>> rates
    [0.1, 0.1, 0.1, 0.01, 0.01]
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ):
        super().__init__(monitor, mode)
        self.factor = a_number("factor", factor, 0, 1)
        self.patience = whole("patience", patience, 0)
        self.threshold = a_number("threshold", threshold, 0)
        self.threshold_mode = one_of("rel", "abs")("threshold_mode", threshold_mode)
        self.cooldown = whole("cooldown", cooldown, 0)
        self.min_lr: float | list[float] = (
            [a_number(f"min_lr[{i}]", each, 0) for i, each in enumerate(min_lr)]
            if isinstance(min_lr, (list, tuple))
            else a_number("min_lr", min_lr, 0)
        )
        self.eps = a_number("eps", eps, 0)
        self._begin()

    def _begin(self) -> None:
        self.best: float | None = None
        self.bad_epochs = self.cooldown_left = 0

    def on_start(self, run: Run) -> None:
        self.check(run.optimizer)
        if run.epoch == 0:
            self._begin()

    def on_epoch(self, run: Run) -> None:
        self.step(run.history[self.monitor][-1], run.optimizer)

    def check(self, optimizer: Optimizer) -> None:
        """Raise TypeError or ValueError if the learning rates of this optimizer cannot be reduced."""
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of fastopt.optim, not {type(optimizer).__name__}")
        self._limits(optimizer)
        for group in optimizer.groups:
            if callable(group["lr"]):
                raise ValueError(f"lr is a schedule, {group['lr']!r}: ReduceOnPlateau reduces a rate that is a number")

    def _limits(self, optimizer: Optimizer) -> list[float]:
        count = len(optimizer.groups)
        if not isinstance(self.min_lr, list):
            return [self.min_lr] * count
        if len(self.min_lr) != count:
            raise ValueError(f"min_lr has {len(self.min_lr)} numbers, the optimizer {count} groups")
        return self.min_lr

    def step(self, value: float, optimizer: Optimizer) -> None:
        """Take in the value of an epoch, and reduce the optimizer's learning rates if it is time."""
        value = float(number("value", value))
        self.check(optimizer)
        best, bad, cooldown = self.best, self.bad_epochs + 1, self.cooldown_left
        if self._is_better(value):
            best, bad = value, 0
        if cooldown > 0:
            cooldown, bad = cooldown - 1, 0
        changes: list[tuple[Any, Any, Any]] = []
        if bad > self.patience:
            for group, least in zip(optimizer.groups, self._limits(optimizer), strict=True):
                reduced = max(group["lr"] * self.factor, least)
                if group["lr"] - reduced > self.eps:
                    changes += group.taking(group.changed("lr", reduced))
            cooldown, bad = self.cooldown, 0
        own = self.__dict__
        change_all([*changes, (own, "best", best), (own, "bad_epochs", bad), (own, "cooldown_left", cooldown)])

    def _is_better(self, value: float) -> bool:
        best = self._sign * math.inf if self.best is None else self.best
        if self.threshold_mode == "rel":
            return self._sign * value < self._sign * best * (1.0 - self._sign * self.threshold)
        return self._sign * value < self._sign * best - self.threshold

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best": self.best, **{name: getattr(self, name) for name in _COUNTS}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there: `state_dict` is a checkpoint's.

        Raises
        ------
        TypeError, ValueError
            If it is no state of this, or of that of another value; nothing has then been changed.
        """
        if not isinstance(state_dict, Mapping) or state_dict.keys() != self.state_dict().keys():
            raise ValueError(f"a state of ReduceOnPlateau has {', '.join(self.state_dict())}")
        if state_dict["monitor"] != self.monitor:
            raise ValueError(f"the checkpoint monitors {state_dict['monitor']!r}, this run {self.monitor!r}")
        best = None if state_dict["best"] is None else float(number("best", state_dict["best"]))
        if best is not None and math.isnan(best):
            raise ValueError("best is NaN, which is never better")
        bad, cooldown = (whole(name, state_dict[name], 0) for name in _COUNTS)
        own = self.__dict__
        change_all([(own, "best", best), (own, "bad_epochs", bad), (own, "cooldown_left", cooldown)])
