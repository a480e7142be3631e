"""The learning-rate range test."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._checks import a_number, generator_of, positive, whole
from .._figure import BLUE, ORANGE, figure_and_axes
from .._moving import copy_all, surely
from ..losses.arrays import near_one
from ..nn.layer import Layer
from ..optim import Optimizer
from .advice import warn_of_modes
from .session import Session
from .steps import Undo
from .surroundings import Surroundings, quietly
from .updates import clipping_of

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator

_ROUNDING = 1e-12  # how much sums of the same losses may differ, relatively


class Suggestion(NamedTuple):
    """Learning rates, as `RangeTest.suggest` finds them.

    Attributes
    ----------
    lr : float
        One to train with.
    base_lr, max_lr : float
        The bounds of a cyclical schedule, such as `fastopt.schedules.Cyclic`.
    """

    lr: float
    base_lr: float
    max_lr: float


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What `lr_range_test` found.

    Attributes
    ----------
    lrs : ndarray (steps done,)
        The learning rate of each step.
    losses : ndarray (steps done,)
        The loss of the step's batch before the step; with validation data, theirs after it. It may be NaN.
    smoothed : ndarray (steps done,)
        The losses, each averaged with those around it: the weight of one k steps away is ``smoothing ** k``. It does
        not lag behind, as an average of those before it would. Losses that lie higher above the highest before the
        lowest than that above the lowest are cut off there, so that the explosion at the end is not seen before it.
    diverged : bool
        Whether the test ended because the loss had risen too far.
    mode : {"exponential", "linear"}
    """

    lrs: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: bool
    mode: str

    def __repr__(self) -> str:
        steps = f"{len(self.lrs)} steps" + (f", lr {self.lrs[0]:.3g} to {self.lrs[-1]:.3g}" if len(self.lrs) else "")
        return f"RangeTest({steps}{', diverged' if self.diverged else ''})"

    def suggest(self) -> Suggestion:
        """The learning rates to go on with.

        ``lr`` is where the smoothed loss falls most steeply, over the logarithm of the rate (over the rate itself, if
        that rose linearly). ``base_lr`` and ``max_lr`` are where it has fallen by a tenth, and by nine tenths, of its
        way down: where it begins to fall, and shortly before it does not fall any more.

        Raises
        ------
        ValueError
            If the loss did not fall clearly, so that there is nothing to suggest.
        """
        known = np.isfinite(self.smoothed) & np.isfinite(self.losses)
        rates, losses = self.lrs[known], self.losses[known]
        losses, smoothed = (near_one(each, abs(losses)) for each in (losses, self.smoothed[known]))
        lowest = int(np.argmin(smoothed)) if len(smoothed) else 0
        way_down = smoothed[: lowest + 1]
        noise = float(np.std(losses[: lowest + 1] - way_down)) if lowest else 0.0
        fall = float(way_down[0] - way_down[-1]) if lowest else 0.0
        if lowest < 2 or fall <= max(noise, _ROUNDING):
            raise ValueError(
                f"the loss did not fall clearly in {self!r}: begin with a lower rate, take more steps, or give"
                " validation data"
            )
        lrs = rates[: lowest + 1]
        slopes = np.gradient(way_down, np.log(lrs) if self.mode == "exponential" else lrs)
        base, limit = (lrs[np.argmax(way_down <= way_down[0] - part * fall)] for part in (0.1, 0.9))
        return Suggestion(float(lrs[np.argmin(slopes)]), float(base), float(limit))

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss over the learning rate, with what `suggest` says, if it says anything.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. By default, in a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Of pyplot's, as ``History.plot`` returns it.

        Raises
        ------
        TypeError, ValueError
            If ``ax`` is something else.
        ImportError
            If matplotlib is not installed.
        """
        figure, (axes,) = figure_and_axes(ax, (7, 4), 1)
        axes.plot(self.lrs, self.losses, ".", color="0.65", markersize=4, label="each step")
        axes.plot(self.lrs, self.smoothed, color=BLUE, linewidth=1.8, label="smoothed")
        if self.mode == "exponential":
            axes.set_xscale("log")
        try:
            found = self.suggest()
        except ValueError:
            pass
        else:
            label = f"cyclical: {found.base_lr:.2g} to {found.max_lr:.2g}"
            axes.axvspan(found.base_lr, found.max_lr, color=ORANGE, alpha=0.13, linewidth=0, label=label)
            axes.axvline(found.lr, color=ORANGE, linewidth=1.6, label=f"steepest: {found.lr:.2g}")
        known = self.smoothed[np.isfinite(self.smoothed)]
        if len(known):
            low, high = known.min(), known[: np.argmin(known) + 1].max()
            margin = (high - low) or abs(high) or 1.0
            axes.set_ylim(low - 0.1 * margin, high + 0.5 * margin)
        axes.set(title="Learning-rate range test", xlabel="learning rate", ylabel="loss")
        axes.legend(facecolor="white", edgecolor="none", framealpha=0.85)
        return figure


def lr_range_test(
    model: Layer,
    X: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    loss: Any = "logistic",
    batch_size: int | None = 32,
    validation: Any = None,
    split: str | None = None,
    sample_weight: Any = None,
    rng: "int | Generator | None" = None,
    clip_norm: float | None = None,
    clip_norm_per_tensor: float | None = None,
    clip_value: float | None = None,
    clip_eps: float = 0.0,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    mode: str = "exponential",
    smoothing: float = 0.8,
    divergence: float = 4.0,
) -> RangeTest:
    r"""Raise the learning rate from step to step, and see at which rates the loss falls.

    .. math:: \eta_i = low \, (high / low)^{i / (n - 1)} \quad\text{or}\quad \eta_i = low + (high - low) \, i / (n - 1)

    are the rates of the n steps. Afterwards weights, optimizer, running statistics and random numbers are as they were,
    bit for bit, also if the test is ended by an error or by Ctrl-C.

    Parameters
    ----------
    model, X, y, optimizer, loss, batch_size, split, sample_weight, rng
        As for `fit`. The rate is that of all groups of the optimizer.
    clip_norm, clip_norm_per_tensor, clip_value, clip_eps
        As for `fit`.
    validation : pair (X, y), triple (X, y, sample_weight), or fraction, optional
        If given, the loss that is looked at is theirs, after each step. It is less noisy, and takes time.
    low, high : float
        The rates of the first and of the last step.
    steps : int
        How many steps, and so rates, there are to be. Data that is gone through is shuffled and gone through again.
    mode : {"exponential", "linear"}
    smoothing : float
        In [0, 1): how far the losses are averaged with their neighbours.
    divergence : float
        The test ends if a gradient is not finite, or when the loss has risen too far: when its average over the steps
        so far, relative to the losses of the same batches before any step, lies ``divergence - 1`` times as much above
        the least it has been as the largest of: the loss there, in absolute value; what it had fallen by; and the
        standard deviation of the batches' losses before any step. A loss of NaN, of a batch without rows that count
        for instance, is passed over.

    Returns
    -------
    RangeTest

    Raises
    ------
    TypeError, ValueError
        As for `fit`; or if a rate, ``steps``, ``mode``, ``smoothing`` or ``divergence`` is out of range.
    KeyboardInterrupt
        After Ctrl-C.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 2))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> model = fo.nn.Sequential(fo.nn.Linear(2, 16), fo.nn.Sigmoid(), fo.nn.Linear(16, 1), rng=0)
    >>> opt = fo.optim.Adam(model.parameters())
    >>> found = fo.lr_range_test(model, X, y, optimizer=opt, low=1e-4, high=10.0, validation=0.2, rng=0).suggest()
    >>> found.base_lr < found.lr < found.max_lr
    True
    >>> opt.step_count, opt.lr  # as before
    (0, 0.001)
    >>> opt.lr = found.lr

    References
    ----------
    L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3.
    """
    low = positive("low", a_number("low", low))
    high = a_number("high", high)
    if not high > low:
        raise ValueError(f"high must be above low={low}, not {high}")
    steps = whole("steps", steps, 3)
    if mode not in ("exponential", "linear"):
        raise ValueError(f'mode must be "exponential" or "linear", not {mode!r}')
    smoothing = a_number("smoothing", smoothing, 0, 1)
    if not positive("divergence", divergence) > 1:
        raise ValueError(f"divergence must be above 1, not {divergence}")
    generator = quietly(lambda: generator_of(rng))
    clipping = clipping_of(clip_norm, clip_norm_per_tensor, clip_value, clip_eps)
    lrs = np.geomspace(low, high, steps) if mode == "exponential" else np.linspace(low, high, steps)

    def prepared() -> tuple[Session, Any, Any]:
        session = Session(model, X, y, optimizer, loss, batch_size, validation, sample_weight, 1, split)
        undo = Undo(model, optimizer, None)
        trained = session.parts(session.update("raise", clipping), undo)
        warn_of_modes(model)
        return session, trained, session.parts(lambda _: True, undo)

    session, trained, untrained = quietly(prepared)
    losses: list[float] = []
    around, before = Surroundings(), _Before(model, optimizer, generator)

    def put_right() -> None:
        before.put_back()
        around.leave()

    try:
        around.enter()
        session.batches.shuffle(generator)
        watch = _Divergence(_losses_before(session, untrained, steps), smoothing, divergence)
        before.put_statistics_back()
        for value in _losses_of_steps(session, trained, generator, lrs):
            losses.append(value)
            if around.requested or watch.diverged(value):
                break
        put_right()
    except BaseException:
        try:
            surely(put_right)
        except BaseException:  # a signal's, before the call had begun
            surely(put_right)
        raise
    if around.requested:
        raise KeyboardInterrupt
    if losses and losses[-1] in (math.inf, -math.inf):  # of a step that was not done
        losses.pop()
    found = np.array(losses)
    return RangeTest(lrs[: len(found)], found, _smoothed(found, smoothing), watch.found, mode)


def _smoothed(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """Each loss averaged with those around it, where it explodes cut off; NaN only where all are."""
    distance = abs(np.subtract.outer(np.arange(len(losses)), np.arange(len(losses))))
    known = np.isfinite(losses)
    weights = np.power(float(smoothing), distance) * known
    total = weights.sum(axis=1)
    values = np.where(known, losses, 0.0)
    if known.any():
        lowest = int(np.nanargmin(np.where(known, losses, np.nan)))
        highest = losses[: lowest + 1][known[: lowest + 1]].max()
        values = np.minimum(values, np.where(known, 2 * highest - losses[lowest], 0.0))
    return np.divide(weights @ values, total, out=np.full(len(losses), np.nan), where=total > 0)


class _Divergence:
    """Whether losses have risen too far, given the losses of the same batches before any step.

    That takes the noise of batches out, and says how large a change is: a loss may have any sign, or be nearly 0.
    """

    def __init__(self, before: list[float], smoothing: float, limit: float):
        known = np.array(before)[np.isfinite(before)]
        self._level, self._noise = (float(known.mean()), float(known.std())) if known.size else (0.0, 0.0)
        self._before, self._smoothing, self._limit = before, smoothing, limit
        self._average = self._weight = self._least = 0.0
        self._steps = 0
        self.found = False

    def diverged(self, value: float) -> bool:
        """Take in the loss of a step; NaN says nothing, and inf that the step was refused."""
        before = self._before[self._steps] if self._steps < len(self._before) else self._level
        self._steps += 1
        if math.isinf(value):
            self.found = True
        elif math.isfinite(value):
            before = before if math.isfinite(before) else self._level
            self._average = self._smoothing * self._average + (1.0 - self._smoothing) * (value - before)
            self._weight = self._smoothing * self._weight + 1.0 - self._smoothing
            change = self._average / self._weight
            self._least = min(self._least, change)
            scale = max(abs(self._level + self._least), -self._least, self._noise)
            self.found = change - self._least > (self._limit - 1.0) * scale
        return self.found


def _losses_before(session: Session, parts: Any, steps: int) -> list[float]:
    """The losses of the batches of the first epoch, of no more than ``steps``, without a step."""
    losses: list[float] = []
    if session.validates:
        return [session.validate()["val_loss"]] * steps
    begin = 0
    for step, count, rows, _ in parts:
        for k in range(count):
            if len(losses) == steps:
                return losses
            losses.append(session.mean_loss(step(k), begin, rows))
            begin += rows
    return losses


def _losses_of_steps(session: Session, parts: Any, generator: Any, lrs: np.ndarray) -> Iterator[float]:
    """One step at each of the rates, and the loss that belongs to it: inf for a step that is refused."""
    rates = iter(lrs.tolist())
    session.optimizer.train()
    while True:
        session.check_arrays()
        begin = 0
        for step, count, rows, _ in parts:
            for k in range(count):
                rate = next(rates, None)
                if rate is None:
                    return
                session.optimizer.lr = rate
                try:
                    value = session.mean_loss(step(k), begin, rows)
                except FloatingPointError:
                    value = math.inf
                begin += rows
                yield session.validate().get("val_loss", value) if math.isfinite(value) else value
        session.batches.shuffle(generator)


class _Before:
    """Everything that training changes, as it was."""

    def __init__(self, model: Layer, optimizer: Optimizer, generator: Any):
        self._buffers = list(model.buffers.values())
        self._arrays = [*model.params.values(), *self._buffers]
        self._values = [array.copy() for array in self._arrays]
        self._optimizer, self._state, self._norm = optimizer, optimizer.state_dict(), optimizer.grad_norm
        self._hyperparameters = [dict(group) for group in optimizer.groups]
        self._generator, self._numbers = generator, generator.bit_generator.state

    def put_statistics_back(self) -> None:
        """The running statistics and the like alone."""
        copy_all(self._buffers, self._values[len(self._arrays) - len(self._buffers) :])

    def put_back(self) -> None:
        copy_all(self._arrays, self._values)
        self._optimizer.load_state_dict(self._state)
        for group, values in zip(self._optimizer.groups, self._hyperparameters, strict=True):
            group.replace(values)
        self._optimizer.grad_norm = self._norm
        self._generator.bit_generator.state = self._numbers
