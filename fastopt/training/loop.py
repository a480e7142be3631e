"""The training loop."""

import math
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checks import a_number, whole
from .._layer import Layer
from ..optim import Optimizer
from ..rules import RULES
from .average import WeightAverage
from .callbacks import Callbacks, Run
from .checkpoints import Checkpoints, check_paths
from .history import History
from .interrupt import Interrupts
from .session import Session
from .steps import Part, Update

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


def fit(
    model: Layer,
    X: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    epochs: int,
    loss: Any = "logistic",
    batch_size: int | None = 32,
    validation: Any = None,
    sample_weight: Any = None,
    shuffle: bool = True,
    rng: "int | Generator | None" = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    clip_norm_per_tensor: float | None = None,
    clip_value: float | None = None,
    grad_norm: bool = False,
    on_nonfinite: str = "raise",
    ema: float | None = None,
    callbacks: Any = (),
    checkpoint: Any = None,
    checkpoint_every: int = 1,
    resume_from: Any = None,
    progress: bool | None = None,
) -> History:
    r"""Train a model on mini-batches.

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
        Made over parameters of this model, all or some of them. Its hyperparameters may be schedules.
    epochs : int
        How many there are to be in all, those before a resumption included.
    loss : {"logistic", "cross_entropy", "mse"}, `fastopt.losses.Loss`, or function
        `fastopt.logistic_loss` or `fastopt.softmax_cross_entropy`, which take the model's outputs as logits, or
        `fastopt.mse_loss`. For their options, or for a loss of one's own, see `fastopt.losses`.
    batch_size : int or None
        1: single examples; None: the whole set.
    validation : pair (X, y), triple (X, y, sample_weight), or fraction, optional
        Data to compute loss and accuracy on after every epoch. A fraction f between 0 and 1 holds out n = round(f *
        rows) rows, evenly spread, the same ones whatever ``rng`` is: rows ``i * rows // n - 1`` for i from 1 to n
        (0.25: every fourth). Where rows resemble their neighbours, as in a time series, give data of your own choice.
    sample_weight : array (rows,), optional
        How much each row counts, at least 0. Loss and accuracy are weighted averages; of the weights only the ratios
        matter. A batch's gradient is that of its weighted sum, divided by its number of rows and by the mean of all
        weights: on average over batches, the gradient of the weighted average.
    shuffle : bool
        Whether the order is random; if not, it is that of the rows.
    rng : int or numpy.random.Generator, optional
        Where the order comes from.
    accumulate : int
        Of how many batches the gradients are averaged before a step, over all their rows: the step is that of one batch
        as many times as large, up to rounding (but batch norm takes its statistics, and dropout its masks, from each
        batch). The last step of an epoch takes what is left.
    clip_norm, clip_norm_per_tensor, clip_value : float, optional
        As for `fastopt.optim.Optimizer.step`.
    grad_norm : bool
        Record the norm of the gradients, which clipping by norm does anyway.
    on_nonfinite : {"raise", "skip"}
        What to do if a gradient is not finite: raise FloatingPointError, or leave out the step, and count it. A step
        that is not done leaves running statistics and dropout masks where they were.
    ema : float, optional
        d: keep an exponential moving average of the parameters, :math:`a \leftarrow (1 - d) w + d a` after every step,
        from w after the first (as ``torch.optim.swa_utils`` does). It takes the place of the parameters for validation
        and for the callbacks at an epoch's end, and for good when training ends. Running statistics are the model's.
    callbacks : list, or one of its items
        Each is a dict with functions for some of "start", "batch", "epoch" and "end", or an object with methods
        ``on_start``, ``on_batch``, ``on_epoch`` and ``on_end``; all are given a `fastopt.training.Run`. "batch" comes
        after every step; "end" does not come after an error. `EarlyStopping` is one. The state of one with methods
        ``state_dict`` and ``load_state_dict`` is saved in checkpoints.
    checkpoint : path, optional
        A file for all that a resumed run needs, written after every ``checkpoint_every`` epochs and after the last one,
        by `fastopt.save`: atomically.
    checkpoint_every : int
    resume_from : path, optional
        A checkpoint to go on from. What follows, History included, equals the run without interruption bit for bit, if
        data and arguments are the same; schedules and functions are not in the file. ``rng`` is brought to where it
        was.
    progress : bool, optional
        Whether to show a progress bar on stderr, by tqdm. By default: if stderr is a terminal and tqdm is there.

    Returns
    -------
    History
        Ctrl-C ends training after the step it comes in, as a callback's ``stop()`` does; the history then says so. A
        second Ctrl-C does not wait, and raises KeyboardInterrupt.

    Raises
    ------
    TypeError, ValueError
        If anything does not fit: see above. Nothing has then been changed.
    FileNotFoundError
        If there is no checkpoint at ``resume_from``, or no directory for one.
    ImportError
        If ``progress`` is True and tqdm is not installed.
    FloatingPointError
        If a gradient becomes inf or NaN, by the optimizer; the step is not done.

    Notes
    -----
    The same data, initial values and ``rng`` give the same bits: in every run, with every backend and with any
    number of threads of this library. (The masks of dropout come from the model's own ``rng``.) Matrix products are
    NumPy's; where its BLAS cuts them up differently for another number of its own threads, or another processor, the
    last bits may differ.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 2))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> model = fo.nn.Sequential(fo.nn.Linear(2, 16), fo.nn.Sigmoid(), fo.nn.Linear(16, 1), rng=0)
    >>> opt = fo.optim.Adam(model.parameters(), lr=0.03)
    >>> history = fo.fit(model, X, y, optimizer=opt, epochs=30, validation=0.2, rng=0)
    >>> history.val_accuracy[-1] > 0.9
    True
    """
    epochs, accumulate = whole("epochs", epochs, 0), whole("accumulate", accumulate, 1)
    checkpoint_every = whole("checkpoint_every", checkpoint_every, 1)
    check_paths(checkpoint, resume_from)
    average_of = None if ema is None else a_number("ema", ema, 0, 1)
    watchers, tqdm = Callbacks(callbacks), _tqdm(progress)
    clipping = {"clip_norm": clip_norm, "clip_norm_per_tensor": clip_norm_per_tensor, "clip_value": clip_value}
    if grad_norm and clip_norm is None and clip_norm_per_tensor is None:
        clipping["clip_norm"] = math.inf
    generator = np.random.default_rng(rng)
    session = Session(model, X, y, optimizer, loss, batch_size, validation, sample_weight, accumulate)
    average = None if average_of is None else WeightAverage(model.parameters(), average_of)
    norms: list[float] | None = [] if clipping["clip_norm"] or clipping["clip_norm_per_tensor"] else None
    update = session.update(on_nonfinite, clipping, watchers.watches_batches)
    parts = session.parts(_recording(update, optimizer, average, norms))
    watchers.check_monitors(session.recorded() + ["grad_norm"] * (norms is not None))
    history = History()
    run = Run(model, optimizer, history, epochs)
    checkpoints = Checkpoints(model, optimizer, average, generator, watchers, len(session.batches.order))
    if resume_from is not None:
        checkpoints.load(resume_from, run)
    steps = (epochs - run.epoch) * _steps_of(parts)
    bar = None if tqdm is None else tqdm(total=steps, unit="step", dynamic_ncols=True)

    # what overflows ends in a gradient that is not finite, of which the optimizer tells
    quiet = np.errstate(over="ignore", invalid="ignore")
    with bar or nullcontext(), quiet, Interrupts() as interrupts:
        try:
            watchers.call("start", run)
            while run.epoch < epochs and not (run.stopping or interrupts.requested):
                started, lr, skipped = time.perf_counter(), optimizer.lr, optimizer.skipped_steps
                session.check_arrays()
                if shuffle:
                    session.batches.shuffle(generator)
                total = _epoch(parts, interrupts, run, watchers, session, bar)
                if total is None:
                    break
                measured = {"loss": total / session.sum_of_weights, "lr": lr, **session.accuracy("accuracy")}
                if norms is not None:
                    measured["grad_norm"] = sum(norms) / len(norms) if norms else math.nan
                    norms.clear()
                if on_nonfinite == "skip":
                    measured["skipped_steps"] = optimizer.skipped_steps - skipped
                with nullcontext() if average is None else average.in_place():
                    measured |= session.validate()
                    history.append({**measured, "seconds": time.perf_counter() - started}, _trust_ratios(optimizer))
                    run.epoch += 1
                    watchers.call("epoch", run)
                last = run.epoch == epochs or run.stopping or interrupts.requested
                if checkpoint is not None and (last or run.epoch % checkpoint_every == 0):
                    checkpoints.save(checkpoint, run)
                if bar is not None:
                    shown = {name: measured[name] for name in session.recorded() if name != "lr"}
                    bar.set_description(f"epoch {run.epoch}/{epochs}", refresh=False)
                    bar.set_postfix(shown)
        except KeyboardInterrupt:  # from a callback, or from a layer of one's own; Ctrl-C itself is only noted
            if interrupts.forced:
                raise
            interrupts.requested = True
        if interrupts.requested:
            history.interrupted = True
            history.stopped = f"interrupted after {run.epoch} epoch{'' if run.epoch == 1 else 's'}"
        if average is not None:
            average.move_in()
        watchers.call("end", run)
    return history


def _epoch(
    parts: list[Part], interrupts: Interrupts, run: Run, watchers: Callbacks, session: Session, bar: Any
) -> float | None:
    """Go through the data once; the sum of the losses, or None if that was cut short."""
    total, begin, run.batch = 0.0, 0, 0
    watched = watchers.watches_batches or bar is not None
    for part in parts:
        step, batches = part.step, zip(*part.arrays, strict=False)
        for rows, targets, weights, outputs in batches:
            value = step(rows, targets, weights, outputs)
            total += value
            if watched:
                run.batch += 1
                if watchers.watches_batches:
                    run.batch_loss = session.mean_loss(value, begin, part.rows)
                    watchers.call("batch", run)
                if bar is not None:
                    bar.update()
                begin += part.rows
            if (interrupts.requested or run.stopping) and not (part is parts[-1] and next(batches, None) is None):
                return None
    run.batch = _steps_of(parts)
    return total


def _steps_of(parts: list[Part]) -> int:
    """How many steps an epoch has."""
    return sum(len(part.arrays[0]) for part in parts)


def _recording(
    update: Update, optimizer: Optimizer, average: WeightAverage | None, norms: list[float] | None
) -> Update:
    """``update``, and what is to be done after every step."""
    if average is None and norms is None:
        return update

    def update_and_record(grad_scale: float) -> bool:
        done = update(grad_scale)
        if done:
            if norms is not None and optimizer.grad_norm is not None:
                norms.append(optimizer.grad_norm)
            if average is not None:
                average.update()
        return done

    return update_and_record


def _trust_ratios(optimizer: Optimizer) -> dict[str, float]:
    """Those of the last step, of an optimizer that has any."""
    if all(RULES[group.rule].direction is None for group in optimizer.groups):
        return {}
    return optimizer.trust_ratios


def _tqdm(progress: bool | None) -> Any:
    """What makes a progress bar, or None if there is to be none."""
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
    return tqdm
