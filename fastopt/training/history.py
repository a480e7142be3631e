"""What happened in training, epoch by epoch."""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._checks import whole
from .._figure import BLUE, ORANGE, draw_curve, figure_and_axes

RECORDED = ("loss", "accuracy", "val_loss", "val_accuracy", "lr", "grad_norm", "skipped_steps", "seconds")
_RATIO = "trust_ratio "  # before a parameter's name, the name of its column
_CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")


def _numbers(name: str, values: Any) -> list[Any]:
    """A copy of a list of numbers, NaN among them."""
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name} must be a list, not {type(values).__name__}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{name} must be of numbers, not {type(value).__name__}")
    return list(values)


def _named_lists(name: str, lists: Any) -> dict[str, list[Any]]:
    if not isinstance(lists, Mapping):
        raise TypeError(f"{name} must be a dict, not {type(lists).__name__}")
    return {key: _numbers(f"{name}[{key!r}]", values) for key, values in lists.items()}


@dataclass(repr=False)
class History:
    """What happened in each epoch, as lists with one number per epoch.

    The loss and accuracy on the training data are those met while training: each batch's before its step. Those
    on the validation data are taken at the end of the epoch, in evaluation mode. Lists of what there was not are empty:
    of the accuracy with the squared error, of the gradients' norm if it was not computed.
    A history is a mapping of the lists that are not empty: ``pandas.DataFrame(dict(history))`` is a table.

    Attributes
    ----------
    loss, accuracy, val_loss, val_accuracy : list of float
    lr : list of float
        The learning rate of the epoch's first step.
    grad_norm : list of float
        The mean, over the epoch's steps, of the norm of all gradients together before clipping.
    metrics : dict of list of float
        Those of ``metrics=``, by name, with ``val_`` before it for the validation data; ``history["val_f1"]`` and
        ``history.val_f1`` are ``history.metrics["val_f1"]``.
    trust_ratios : dict of list of float
        For LARS and LAMB: the trust ratio of every parameter in the epoch's last step, by the parameter's name. In the
        mapping, the list of the parameter ``"0.weight"`` is ``"trust_ratio 0.weight"``.
    skipped_steps : list of int
        With ``on_nonfinite="skip"``: how many steps were refused.
    seconds : list of float
        The time the epoch took, validation included.
    best_epoch : int or None
        The epoch, counted from 1, that early stopping found best.
    stopped : str
        Why training ended before its last epoch, an error's message among the reasons; empty if it did not.
    interrupted : bool
        Whether that was Ctrl-C. Of the epoch it came in there is nothing here.

    Examples
    --------
    >>> import fastopt as fo
    >>> history = fo.History(loss=[0.7, 0.3], accuracy=[0.5, 0.9])
    >>> history
    History(2 epochs: loss 0.7 -> 0.3, accuracy 0.5 -> 0.9)
    >>> history["loss"]
    [0.7, 0.3]
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    trust_ratios: dict[str, list[float]] = field(default_factory=dict)
    skipped_steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: str = ""
    interrupted: bool = False
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def append(self, measured: Mapping[str, float], trust_ratios: Mapping[str, float]) -> None:
        """Add an epoch: a number for each list; names that are not the history's own are those of metrics."""
        lists = [getattr(self, name) if name in RECORDED else self.metrics.setdefault(name, []) for name in measured]
        lists += [self.trust_ratios.setdefault(name, []) for name in trust_ratios]
        deque(map(list.append, lists, (*measured.values(), *trust_ratios.values())), 0)  # all of them, or none

    def truncate(self, epochs: int) -> None:
        """Leave out what comes after so many epochs."""
        own = [getattr(self, name) for name in RECORDED]
        for values in (*own, *self.trust_ratios.values(), *self.metrics.values()):
            del values[epochs:]

    def _columns(self) -> dict[str, list[Any]]:
        lists = {name: getattr(self, name) for name in RECORDED if getattr(self, name)}
        metrics = {name: values for name, values in self.metrics.items() if values}
        return {**lists, **metrics, **{f"{_RATIO}{name}": ratios for name, ratios in self.trust_ratios.items()}}

    def keys(self) -> list[str]:
        """The names of the lists that are not empty."""
        return list(self._columns())

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns())

    def __getitem__(self, name: str) -> list[float]:
        columns = self._columns()
        if name not in columns:
            raise KeyError(f"the history has no {name!r}, only {', '.join(columns) or 'empty lists'}")
        return columns[name]

    def __getattr__(self, name: str) -> list[float]:  # called where there is no such attribute
        metrics = self.__dict__.get("metrics", {})
        if name not in metrics:
            raise AttributeError(f"History has no attribute {name!r}")
        return metrics[name]

    def __len__(self) -> int:
        """How many epochs there were."""
        return len(self.loss)

    def __repr__(self) -> str:
        curves = [name for name in _CURVES if getattr(self, name)]
        parts = [f"{name} {self[name][0]:.4g} -> {self[name][-1]:.4g}" for name in curves]
        parts += [f"{name} {values[0]:.4g} -> {values[-1]:.4g}" for name, values in self.metrics.items() if values]
        parts += [f"best in epoch {self.best_epoch}"] if self.best_epoch else []
        parts += [f"{sum(self.skipped_steps)} steps skipped"] if any(self.skipped_steps) else []
        parts += [self.stopped] if self.stopped else []
        parts += [f"{sum(self.seconds):.3g} s"] if self.seconds else []
        epochs = f"{len(self)} epoch{'' if len(self) == 1 else 's'}"
        return f"History({epochs}{': ' if parts else ''}{', '.join(parts)})"

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with a line for each epoch: its number, counted from 1, and what is in the mapping.

        Numbers are written with all their digits: reading them gives the same floats.

        Examples
        --------
        >>> import fastopt as fo, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "history.csv")
        >>> fo.History(loss=[0.7, 0.3], lr=[0.1, 0.1]).to_csv(path)
        >>> print(path.read_text(), end="")
        epoch,loss,lr
        1,0.7,0.1
        2,0.3,0.1
        """
        import csv

        columns = self._columns()
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["epoch", *columns])
            writer.writerows(zip(range(1, len(self) + 1), *columns.values(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything, for `fastopt.save`."""
        lists = {name: list(getattr(self, name)) for name in RECORDED}
        ratios = {name: list(values) for name, values in self.trust_ratios.items()}
        metrics = {name: list(values) for name, values in self.metrics.items()}
        return {**lists, "trust_ratios": ratios, "best_epoch": self.best_epoch, "stopped": self.stopped,
                "interrupted": self.interrupted, "metrics": metrics}  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Become what the history was that `state_dict` came from.

        Raises
        ------
        TypeError, ValueError
            If something is missing, unknown, or of another type or length; nothing has then been changed.
        """
        self.take_over(self.checked(state_dict))

    def checked(self, state_dict: Any) -> dict[str, Any]:
        """A copy of a state dict, for `take_over`, or the error that it calls for."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"the state dict of a history must be a dict, not {type(state_dict).__name__}")
        own = self.state_dict().keys()
        if {*state_dict, "metrics"} != own:  # before there were any, files were without
            raise ValueError(f"a history has {', '.join(own)}; the state dict has {', '.join(state_dict) or 'nothing'}")
        ratios, metrics = (_named_lists(name, state_dict.get(name, {})) for name in ("trust_ratios", "metrics"))
        lists = {name: _numbers(name, state_dict[name]) for name in RECORDED}
        epochs = len(lists["loss"])
        for name, values in (*lists.items(), *ratios.items(), *metrics.items()):
            if len(values) not in (0, epochs):
                raise ValueError(f"{name} has {len(values)} numbers, loss {epochs}")
        best, stopped, interrupted = (state_dict[name] for name in ("best_epoch", "stopped", "interrupted"))
        if best is not None and not 1 <= whole("best_epoch", best, 1) <= epochs:
            raise ValueError(f"best_epoch must be from 1 to {epochs}, not {best}")
        if not isinstance(stopped, str) or not isinstance(interrupted, (bool, np.bool_)):
            raise TypeError("stopped must be a str, and interrupted True or False")
        return {**lists, "trust_ratios": ratios, "best_epoch": best, "stopped": stopped,
                "interrupted": bool(interrupted), "metrics": metrics}  # fmt: skip

    def take_over(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def plot(self, ax: Any = None) -> Any:
        """Draw the learning curves: loss, accuracy and metrics over the epochs, for training and validation data.

        A dotted line marks the epoch that early stopping found best. Epochs whose loss is no finite number are gaps.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or several of them, optional
            Where to draw: the loss, into the second the accuracy, and then the metrics. By default, in a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Of pyplot's: to be shown (``plt.show()``; a notebook does it by itself) or saved
            (``figure.savefig("curves.png")``), and kept until ``plt.close(figure)``.

        Raises
        ------
        TypeError, ValueError
            If ``ax`` is something else.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import fastopt as fo, matplotlib.pyplot as plt
        >>> figure, ax = plt.subplots()
        >>> fo.History(loss=[0.7, 0.3]).plot(ax=ax) is figure
        True
        >>> plt.close(figure)
        """
        names = ["loss", "accuracy"] if self.accuracy or self.val_accuracy else ["loss"]
        names += [name for name in self.metrics if not name.startswith("val_")]
        figure, both = figure_and_axes(ax, (4.5 * len(names), 3.6), len(names) if ax is None else max(2, len(names)))
        from matplotlib.ticker import MaxNLocator

        for axes, name in zip(both, names, strict=False):
            least = np.inf
            for curve, label, color in ((name, "training", BLUE), (f"val_{name}", "validation", ORANGE)):
                if values := getattr(self, curve, None):
                    draw_curve(axes, range(1, len(values) + 1), values, color=color)
                    axes.plot([], [], color=color, linewidth=1.8, label=f"{label}: {values[-1]:.4g} at the end")
                    least = min(least, *(value for value in values if np.isfinite(value)), np.inf)
            if self.best_epoch is not None and axes.lines:
                best = f"best: epoch {self.best_epoch}"
                axes.axvline(self.best_epoch, color="0.35", linewidth=1.2, linestyle=":", label=best)
            axes.set(title=name if name in self.metrics else name.capitalize(), xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
            if name == "loss" and 0 <= least < np.inf:
                axes.set_ylim(bottom=0)
            if axes.lines:
                axes.legend(facecolor="white", edgecolor="none", framealpha=0.85)
        return figure
