"""The training loop: `fit`, and the `History` it returns."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ._checks import whole
from ._layer import Layer, Pass, evaluating
from ._losses import LOSSES, Loss, finite, real
from .optim import Optimizer

__all__ = ["History", "fit"]


@dataclass(repr=False)
class History:
    """What happened in each epoch, as lists with one number per epoch.

    The loss and accuracy on the training data are those met while training: each batch's before its step. Those
    on the validation data are taken at the end of the epoch, in evaluation mode; their lists are empty if there is
    none. So are those of the accuracy if the loss is the squared error.
    ``dict(history)`` leaves the empty lists out, so that ``pandas.DataFrame(dict(history))`` is a table.

    Attributes
    ----------
    loss, accuracy, val_loss, val_accuracy : list of float
    lr : list of float
        The learning rate of the epoch's first step.
    seconds : list of float
        The time the epoch took, validation included.

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
    seconds: list[float] = field(default_factory=list)

    def keys(self) -> list[str]:
        """The names of the lists that are not empty."""
        return [f.name for f in fields(self) if getattr(self, f.name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.keys():
            raise KeyError(f"the history has no {name!r}, only {', '.join(self.keys()) or 'empty lists'}")
        return getattr(self, name)

    def __len__(self) -> int:
        """How many epochs there were."""
        return len(self.loss)

    def __repr__(self) -> str:
        curves = (name for name in self if name not in ("lr", "seconds"))
        parts = [f"{name} {self[name][0]:.4g} -> {self[name][-1]:.4g}" for name in curves]
        parts += [f"{sum(self.seconds):.3g} s"] if self.seconds else []
        epochs = f"{len(self)} epoch{'' if len(self) == 1 else 's'}"
        return f"History({epochs}{': ' if parts else ''}{', '.join(parts)})"

    def plot(self) -> Any:
        """Draw the learning curves: loss and accuracy over the epochs, for training and validation data.

        Returns
        -------
        matplotlib.figure.Figure
            To be saved (``figure.savefig("curves.png")``) or shown by a notebook; it belongs to no window.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ImportError(f"plot() needs matplotlib: pip install fastopt[examples] ({error})") from error
        figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for curve, label, color in ((name, "training", "#1f5fa8"), (f"val_{name}", "validation", "#d1661f")):
                values = getattr(self, curve)
                if values:
                    epochs = range(1, len(values) + 1)
                    marker = "o" if len(values) == 1 else None
                    axes.plot(epochs, values, color=color, linewidth=1.8, marker=marker)
                    axes.plot([], [], color=color, linewidth=1.8, label=f"{label}: {values[-1]:.3f} at the end")
            axes.set(title=name.capitalize(), xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            if name == "loss":
                axes.set_ylim(bottom=0)
            axes.grid(color="0.9")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.lines:
                axes.legend(frameon=False)
        return figure


def fit(
    model: Layer,
    X: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    epochs: int,
    loss: str = "logistic",
    batch_size: int = 32,
    validation: tuple[Any, Any] | None = None,
    shuffle: bool = True,
    rng: "int | np.random.Generator | None" = None,
    progress: bool | None = None,
) -> History:
    """Train a model on mini-batches.

    Every epoch goes once through the data, in a new random order; the last batch of an epoch is smaller where
    the batch size does not divide the number of rows. A batch is gathered from the data as it is needed: the
    data is not copied, unless it has to be converted to the model's dtype or made contiguous, once.

    Parameters
    ----------
    model : fastopt.nn.Layer
        A `fastopt.nn.Sequential`, or a single layer such as `fastopt.nn.Linear`.
    X : array (rows, ...)
        The inputs: real numbers, without NaN and infinities.
    y : array (rows, outputs), or (rows,)
        The targets: from 0 to 1 for the logistic loss; labels, integers from 0, of shape (rows,) for the cross-entropy;
        numbers for the squared error. For a model with one output, those of the first and the last may be (rows,).
    optimizer : fastopt.optim.Optimizer
        Made over parameters of this model, all or some of them.
    epochs : int
    loss : {"logistic", "cross_entropy", "mse"}
        `fastopt.logistic_loss` or `fastopt.softmax_cross_entropy`, which take the model's outputs as logits, or
        `fastopt.mse_loss`.
    batch_size : int
    validation : pair (X, y), optional
        Data to compute loss and accuracy on after every epoch.
    shuffle : bool
        Whether the order is random; if not, it is that of the rows.
    rng : int or numpy.random.Generator, optional
        Where the order comes from.
    progress : bool, optional
        Whether to show a progress bar on stderr, by tqdm. By default: if stderr is a terminal and tqdm is there.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If anything does not fit: see above. Nothing has then been changed.
    ImportError
        If ``progress`` is True and tqdm is not installed.
    FloatingPointError
        If a gradient becomes inf or NaN, by the optimizer; the step is not done. Running statistics have then
        seen its batch.

    Notes
    -----
    The same data, initial values and ``rng`` give the same bits: in every run, with every backend and with any
    number of threads of this library. Matrix products are NumPy's; where its BLAS cuts them up differently for
    another number of its own threads, or another processor, the last bits may differ.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 2))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> model = fo.nn.Sequential(fo.nn.Linear(2, 16), fo.nn.Sigmoid(), fo.nn.Linear(16, 1), rng=0)
    >>> opt = fo.optim.Adam(model.parameters(), lr=0.03)
    >>> history = fo.fit(model, X[:800], y[:800], optimizer=opt, epochs=30, validation=(X[800:], y[800:]), rng=0)
    >>> history.val_accuracy[-1] > 0.9
    True
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a fastopt.nn.Layer, such as a Sequential, not {type(model).__name__}")
    model.check_arrays()
    grads = _gradients_for(optimizer, model)
    whole("epochs", epochs, 0)
    whole("batch_size", batch_size, 1)
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(map(repr, LOSSES))}, not {loss!r}")
    criterion = LOSSES[loss]()
    generator = np.random.default_rng(rng)
    dtype = model.dtype or np.dtype(np.float32)
    X = _inputs("X", X, dtype)
    rows = len(X)
    batch_size = min(int(batch_size), rows)
    whole_batches = rows - rows % batch_size
    batches = [range(0, whole_batches, batch_size)]  # where they begin
    if whole_batches < rows:
        batches.append(range(whole_batches, rows, batch_size))
    with evaluating(model):
        try:
            passes = [model.run_on(X[begins[0] : begins[0] + batch_size]) for begins in batches]
        except ValueError as error:
            raise ValueError(f"X has shape {X.shape}, which the model does not take: {error}") from error
    with evaluating(model, training=True):
        for bound in passes:
            try:
                bound.check()
            except ValueError as error:
                raise ValueError(
                    f"{rows} rows in batches of {batch_size} give one of {len(bound.x)}: {error}"
                ) from error
    output_shape = passes[0].y.shape[1:]
    y = criterion.targets("y", y, (rows, *output_shape), dtype)
    if validation is not None:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation must be a pair (X, y), not {type(validation).__name__}")
        X_val = _inputs("validation X", validation[0], dtype)
        if X_val.shape[1:] != X.shape[1:]:
            raise ValueError(f"validation X has shape {X_val.shape}, X has {X.shape}: all but the rows must agree")
        y_val = criterion.targets("validation y", validation[1], (len(X_val), *output_shape), dtype)
    bar = _progress_bar(progress, epochs * -(-rows // batch_size))

    steps = [_bound_step(bound, X, y, criterion, optimizer, grads) for bound in passes]
    history = History()
    in_order = np.arange(rows)
    order = in_order.copy()
    outputs = np.empty((rows, *output_shape), dtype)  # of the epoch, for its accuracy
    put, width = outputs.reshape(-1).data, outputs[0].size  # a memoryview: the fastest way to copy a few numbers
    # what overflows ends in a gradient that is not finite, of which the optimizer tells
    quiet = np.errstate(over="ignore", invalid="ignore")
    with bar or nullcontext(), evaluating(model, training=True), quiet:
        for epoch in range(epochs):
            started, lr = time.perf_counter(), optimizer.lr
            if shuffle:
                order[...] = in_order
                generator.shuffle(order)  # the same as a permutation, in less time
            total = 0.0
            for begins, (step, z) in zip(batches, steps, strict=True):
                for begin in begins:
                    total += step(order[begin : begin + batch_size])
                    put[begin * width : begin * width + len(z)] = z
                    if bar is not None:
                        bar.update()
            history.loss.append(total / criterion.count(outputs))
            history.accuracy += _if_any(criterion.accuracy(outputs, y.take(order, 0)))
            if validation is not None:
                predicted = model.predict(X_val, max(batch_size, 64))
                history.val_loss.append(criterion.mean(predicted, y_val))
                history.val_accuracy += _if_any(criterion.accuracy(predicted, y_val))
            history.lr.append(lr)
            history.seconds.append(time.perf_counter() - started)
            if bar is not None:
                shown = {name: history[name][-1] for name in history if name not in ("lr", "seconds")}
                bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
                bar.set_postfix(shown)
    return history


def _if_any(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _bound_step(
    bound: Pass,
    X: np.ndarray,
    y: np.ndarray,
    criterion: Loss,
    optimizer: Optimizer,
    grads: dict[str, np.ndarray],
) -> tuple[Callable[[np.ndarray], float], memoryview]:
    """A whole training step on the rows it is given, which returns the sum of their losses; and the outputs."""
    x, forward, backward = bound.x, bound.forward, bound.backward(input_gradient=False)
    target = np.empty((len(x), *y.shape[1:]), y.dtype)
    loss = criterion.bind(bound.y, target, bound.dy)
    take_inputs, take_targets, update = X.take, y.take, optimizer.step

    def step(batch: np.ndarray) -> float:
        take_inputs(batch, 0, x, "clip")  # "clip": without it, take fills a copy of the output first
        take_targets(batch, 0, target, "clip")
        for call in forward:
            call()
        value = loss()
        for call in backward:
            call()
        update(grads)
        return value

    return step, bound.y.reshape(-1).data


def _gradients_for(optimizer: Any, model: Layer) -> dict[str, np.ndarray]:
    """The model's gradients of the optimizer's parameters, by the optimizer's names for them."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be one of fastopt.optim, not {type(optimizer).__name__}")
    name_of = {id(param): name for name, param in model.parameters().items()}
    foreign = [
        repr(name) for name, param in zip(optimizer._names, optimizer._params, strict=True) if id(param) not in name_of
    ]
    if foreign or not optimizer._params:
        raise ValueError(
            f"the optimizer is over {', '.join(foreign) or 'nothing'}, which is not of this model, whose parameters are"
            f" {', '.join(map(repr, model.parameters())) or 'none'}: make it from model.parameters()"
        )
    grads = model.gradients()
    if optimizer._names == tuple(grads):
        return grads
    return {n: grads[name_of[id(p)]] for n, p in zip(optimizer._names, optimizer._params, strict=True)}


def _inputs(name: str, X: Any, dtype: np.dtype) -> np.ndarray:
    """``X`` as batches can be taken from it: the same array if it is of the right kind, or else a copy."""
    X = real(name, X)
    if X.ndim < 2:
        raise ValueError(f"{name} has shape {X.shape}: it must have rows and columns")
    if len(X) == 0:
        raise ValueError(f"{name} has shape {X.shape}: it has no rows")
    return finite(name, X, dtype)


def _progress_bar(progress: bool | None, steps: int) -> Any:
    """A bar of ``steps`` steps, or None."""
    if progress not in (None, True, False):
        raise TypeError(f"progress must be True, False or None, not {progress!r}")
    if progress is False or (progress is None and not (sys.stderr and sys.stderr.isatty())):
        return None
    try:
        from tqdm import tqdm
    except ImportError as error:
        if progress is None:
            return None
        raise ImportError(f"progress=True needs tqdm: pip install fastopt[examples] ({error})") from error
    return tqdm(total=steps, unit="step", dynamic_ncols=True)
