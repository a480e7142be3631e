"""The training loop."""

import math
import sys
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from .._checks import a_number, generator_of, whole, yes_or_no
from .._moving import surely
from ..nn.layer import Layer
from ..optim import Optimizer
from .advice import warn_of_modes, warn_of_outputs, warn_of_schedules
from .average import WeightAverage
from .callbacks import Callbacks, Run
from .checkpoints import Checkpoints, check_paths
from .company import description_of, together
from .epochs import Epochs
from .history import History
from .session import Session
from .shards import Company
from .steps import Undo
from .stream import Stream
from .surroundings import quietly
from .updates import Norms, clipping_of

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


@together
def fit(
    model: Layer,
    X: Any,
    y: Any = None,
    *,
    optimizer: Optimizer,
    epochs: int,
    loss: Any = "logistic",
    batch_size: int | None = 32,
    steps_per_epoch: int | None = None,
    validation: Any = None,
    split: str | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    metrics: Any = None,
    shuffle: bool = True,
    drop_last: bool = False,
    rng: "int | Generator | None" = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    clip_norm_per_tensor: float | None = None,
    clip_value: float | None = None,
    clip_eps: float = 0.0,
    grad_norm: bool = False,
    on_nonfinite: str = "raise",
    ema: float | None = None,
    callbacks: Any = (),
    checkpoint: Any = None,
    checkpoint_every: int = 1,
    resume_from: Any = None,
    progress: bool | None = None,
    comm: Any = None,
    shards: int | None = None,
    total_rows: int | None = None,
) -> History:
    r"""Train a model on mini-batches.

    Every epoch goes once through the data, in a new random order; the last batch of an epoch is smaller where
    the batch size does not divide the number of rows. A batch is gathered from the data, and converted to the model's
    dtype, as it is needed: inputs are not copied, whatever their type (`numpy.memmap` may be larger than memory),
    unless they are neither contiguous nor on disk; labels are, so that no one can change them any more.

    Every layer runs in training mode, whatever mode it was put into, unless it is frozen; that is left as it is.

    Parameters
    ----------
    model : fastopt.nn.Layer
        A `fastopt.nn.Sequential`, or a single layer such as `fastopt.nn.Linear`.
    X : array (rows, ...)
        The inputs: real numbers, without NaN and infinities. Or, without ``y``, batches: an iterable of pairs (x, y) or
        triples (x, y, sample_weight), as a data set larger than memory or made at random needs it, or a function of the
        epoch, counted from 0, that returns one. What can be gone through again is gone through in every epoch.
    y : array (rows, outputs), or (rows,)
        The targets: from 0 to 1 for the logistic loss; labels, integers from 0, of shape (rows,) for the cross-entropy,
        or probabilities (rows, classes); numbers for the squared error. For a model with one output, those of the first
        and the last may be (rows,).
    optimizer : fastopt.optim.Optimizer
        Made over parameters of this model, all or some of them. Its hyperparameters may be schedules.
    epochs : int
        How many there are to be in all, those before a resumption included.
    loss : {"logistic", "cross_entropy", "mse", "huber"}, `fastopt.losses.Loss`, or function
        `fastopt.logistic_loss` or `fastopt.softmax_cross_entropy`, which take the model's outputs as logits,
        `fastopt.mse_loss` or `fastopt.huber_loss`. For their options, or for a loss of one's own, see `fastopt.losses`.
    batch_size : int or None
        1: single examples; None: the whole set.
    steps_per_epoch : int, optional
        Of batches that come by themselves, how many make an epoch: for those without end. The next epoch goes on where
        this one ends, and begins again where they end; where they cannot, as those of a generator, training ends.
    validation : pair (X, y), triple (X, y, sample_weight), or fraction, optional
        Data to compute loss and accuracy on after every epoch. A fraction f between 0 and 1 holds out ``round(f *
        rows)`` rows, the same ones whatever ``rng`` is.
    split : {"stratified", "shuffled", "even", "last"}, optional
        Which rows a fraction holds out: random ones in proportion to their classes, so that each is on both sides if it
        has two rows; random ones; evenly spread ones, ``i * rows // n - 1`` for i from 1 to n; or the last ones, as
        time series need it. By default, the first for labels and for targets of 0 and 1, and else the second.
    sample_weight : array (rows,), optional
        How much each row counts, at least 0. Loss and accuracy are weighted averages; of the weights only the ratios
        matter. A batch's gradient is that of its weighted sum, divided by its number of rows and by the mean of all
        weights: on average over batches, the gradient of the weighted average. If the loss weighs classes, or ignores
        a label, the divisor is the sum of the class weights of the batch's rows (0 for those ignored) times the mean
        of all sample weights, weighted by those of the classes.
    class_weight : "balanced", dict or array (classes,), optional
        For the logistic loss with one output, and the cross-entropy: how much the rows of each class count, on top of
        ``sample_weight``; of a dict, classes that it does not have count 1. "balanced" is n / (classes * n of the
        class), n being the number of rows to train on. The same as ``LogisticLoss(class_weight=...)`` and
        ``CrossEntropy(weight=...)``: it is in loss and validation loss, and not in accuracies.
    metrics : dict of functions by name, or list of functions, optional
        Functions of targets and outputs, in this order, that return a number: recorded after every epoch under the
        name, and with ``val_`` before it for the validation data. They are given arrays of their own: the targets as
        the loss takes them and the outputs as `predict` gives them (logits, for the losses of classes); of a model
        with one output, both of shape (rows,). Those of the training data are met while training, as its loss is.
    shuffle : bool
        Whether the order is random; if not, it is that of the rows.
    drop_last : bool
        Whether to leave out an epoch's last batch where it is smaller than the others.
    rng : int or numpy.random.Generator, optional
        Where the order comes from; without it, every run has another.
    accumulate : int
        Of how many batches the gradients are averaged before a step, over all their rows: the step is that of one batch
        as many times as large, up to rounding (but batch norm takes its statistics, and dropout its masks, from each
        batch). The last step of an epoch takes what is left.
    clip_norm, clip_norm_per_tensor, clip_value, clip_eps : float, optional
        As for `fastopt.optim.Optimizer.step`.
    grad_norm : bool
        Record the norm of the gradients, which clipping by norm does anyway.
    on_nonfinite : {"raise", "stop", "skip", "ignore"}
        What to do if a gradient is not finite: raise FloatingPointError; end training as early stopping does, and let
        the history say why (``stopped``); leave out the step, and count it; or do not look, as for
        `fastopt.optim.Optimizer.step`. A step that is not done leaves running statistics and dropout masks where they
        were.
    ema : float, optional
        d: keep an exponential moving average of the parameters, :math:`a \leftarrow (1 - d) w + d a` after every step,
        from w after the first (as ``torch.optim.swa_utils`` does). It takes the place of the parameters for validation
        and for the callbacks at an epoch's end, and for good when training ends. Running statistics are the model's.
    callbacks : list, or one of its items
        Each is a dict with functions for some of "start", "batch", "epoch" and "end", or an object with methods
        ``on_start``, ``on_batch``, ``on_epoch`` and ``on_end``; all are given a `fastopt.training.Run`. "batch" comes
        after every step; "end" also comes after an error, which is then the run's ``error``. `EarlyStopping` is one.
        The state of one with methods ``state_dict`` and ``load_state_dict`` is saved in checkpoints.
    checkpoint : path, optional
        A file for all that a resumed run needs, written after every ``checkpoint_every`` epochs and after the last one,
        by `fastopt.save`: atomically.
    checkpoint_every : int
    resume_from : path, optional
        A checkpoint to go on from. What follows, History included, equals the run without interruption bit for bit, if
        data and arguments are the same; where they are not (of large data, some rows are compared), a warning says
        which. Hyperparameters are the checkpoint's, but for a learning rate that is given another value than the one
        that run began with: it is used; and schedules and functions are not in the file. ``rng`` is brought to where it
        was. One that does not fit is refused, and has then changed nothing.
    progress : bool, optional
        Whether to show a progress bar on stderr, by tqdm. By default: in a terminal (stderr)
        and in a notebook, if tqdm is there.
    comm : mpi4py.MPI.Intracomm, optional
        The processes that train together, all of which call this with the same model, data and arguments: see
        `fastopt.parallel`. Files are written, and progress is shown, by the first.
    shards : int, optional
        Into how many parts every batch is cut, whose gradients are added in a fixed order: what comes out, to the bit,
        depends on their number, but not on that of the processes, of which there may be one, without ``comm``, and at
        most as many. By default, one for each process.
    total_rows : int, optional
        How many rows there are in all, if each process is given only its own, which `fastopt.parallel.local_rows`
        names. A batch then has as many rows of each of the ``shards`` parts of the data, and the order is random within
        these; ``batch_size`` is a multiple of ``shards``.

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
    Whatever is raised in a run, by a signal's handler or a callback too: each step is done wholly or not at all, with
    all that belongs to it. The model has the weights of the last step (with ``ema``, not the average), and the
    exception carries the `History` so far as its attribute ``history``.

    The same data, initial values and ``rng`` give the same bits: in every run, with every backend and with any
    number of threads, on every processor. (The masks of dropout come from the model's own ``rng``.) Where matrix
    products are NumPy's, by choice or for want of fused multiply-adds (`set_matmul`), another number of threads of its
    BLAS, or another processor, may change the last bits.

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
    company: Company | None = comm  # see `together`
    team: Any = company if company is not None and company.size > 1 else None
    leads = team is None or team.rank == 0
    epochs, accumulate = whole("epochs", epochs, 0), whole("accumulate", accumulate, 1)
    checkpoint_every = whole("checkpoint_every", checkpoint_every, 1)
    shuffle, grad_norm = yes_or_no("shuffle", shuffle), yes_or_no("grad_norm", grad_norm)
    drop_last = yes_or_no("drop_last", drop_last)
    if on_nonfinite not in ("raise", "stop", "skip", "ignore"):
        raise ValueError(f'on_nonfinite must be "raise", "stop", "skip" or "ignore", not {on_nonfinite!r}')
    check_paths(checkpoint, resume_from)
    average_of = None if ema is None else a_number("ema", ema, 0, 1)
    watchers, tqdm = Callbacks(callbacks), _tqdm(progress if leads else False)
    clipping = clipping_of(clip_norm, clip_norm_per_tensor, clip_value, clip_eps)
    if grad_norm and clip_norm is None and clip_norm_per_tensor is None:
        clipping["clip_norm"] = math.inf
    generator = quietly(lambda: generator_of(rng))
    numbers = None if rng is None else f"in the state {crc32(repr(generator.bit_generator.state).encode()):08x}"

    def prepared() -> Epochs:
        if team is not None and rng is None:
            generator.bit_generator.state = team.of_first(generator.bit_generator.state)
        if y is None:
            of_arrays = {"split": split, "sample_weight": sample_weight, "drop_last": drop_last or None,
                         "accumulate": None if accumulate == 1 else accumulate, "shards": company}  # fmt: skip
            if given := [name for name, value in of_arrays.items() if value is not None]:
                raise ValueError(f"{', '.join(given)}: for arrays X and y, not for batches that come from an iterable")
            streamed = metrics, class_weight, steps_per_epoch, epochs
            session: Any = Stream(model, X, optimizer, loss, validation, *streamed)
        else:
            if steps_per_epoch is not None:
                raise ValueError("steps_per_epoch is for batches that come from an iterable, without y")
            data = model, X, y, optimizer, loss, batch_size, validation, sample_weight
            session = Session(*data, accumulate, split, metrics, drop_last, company, class_weight, total_rows)
        average = None if average_of is None else WeightAverage(model.parameters(), average_of)
        norms = Norms(optimizer) if clipping["clip_norm"] or clipping["clip_norm_per_tensor"] else None
        if_not = "raise" if on_nonfinite == "stop" else on_nonfinite
        undo = Undo(model, optimizer, average)
        then = () if average is None else average.runs

        def parts() -> Any:
            return session.parts(session.update(if_not, clipping, then), undo, norms)

        def bind_again() -> Any:
            session.bind_again()
            return parts()

        watchers.check_monitors(session.recorded() + ["grad_norm"] * (norms is not None), optimizer)
        warn_of_modes(model)
        warn_of_outputs(model, session.criterion)
        run = Run(model, optimizer, History(), epochs)
        left = Epochs(session, parts(), undo, average, watchers, run, norms, on_nonfinite)
        left.generator, left.bind_again = generator if shuffle else None, bind_again
        if checkpoint is not None or resume_from is not None or team is not None:
            asked: dict[str, Any] = {"drop_last": drop_last, "rng": numbers}
            asked |= {"shuffle": shuffle, "accumulate": accumulate, "on_nonfinite": on_nonfinite}
            asked["shards"] = 1 if company is None else company.shards
            asked |= {name: "none" if value is None else float(value) for name, value in clipping.items()}
            rows, description = session.rows, {**session.description(), **asked}
            if team is not None:
                left.in_team(team)
                random = crc32(repr(generator.bit_generator.state).encode())
                run_as = {"epochs": epochs, "ema": ema, "rng": random}
                team.compare(description | description_of(model, optimizer) | run_as)
            names = [*session.metrics.names, *(f"val_{n}" for n in session.metrics.names if session.validates)]
            checkpoints = Checkpoints(model, optimizer, average, generator, watchers, rows, description, names)
            if checkpoint is not None:
                left.save, left.save_every = partial(checkpoints.save, checkpoint), checkpoint_every
                left.saves = leads
            if resume_from is not None:
                checkpoints.load(resume_from, run)
                left.parts = bind_again()  # parameters may have missed steps
        if left.steps is not None:
            warn_of_schedules(optimizer, left.steps)
        return left

    left = quietly(prepared)
    try:
        left.go_through(tqdm)
    except BaseException as error:
        try:
            surely(left.put_right)
        except BaseException:  # a signal's, before the call had begun
            surely(left.put_right)
        left.end_after(error)
        raise
    return left.run.history


def _tqdm(progress: bool | None) -> Any:
    """What makes a progress bar, or None if there is to be none."""
    if progress is not None and not isinstance(progress, (bool, np.bool_)):
        raise TypeError(f"progress must be True, False or None, not {progress!r}")
    notebook = hasattr(getattr(sys.modules.get("__main__"), "get_ipython", object)(), "kernel")
    watched = notebook or (sys.stderr is not None and sys.stderr.isatty())
    if not (watched if progress is None else progress):
        return None
    try:
        import tqdm

        if notebook and find_spec("ipywidgets"):  # without them its bar for notebooks would only warn
            import tqdm.auto as tqdm
    except ImportError as error:
        if progress is None:
            return None
        raise ImportError(f"progress=True needs tqdm: pip install fastopt[examples] ({error})") from error
    return tqdm.tqdm
