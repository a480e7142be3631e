"""The learning-rate range test."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._checks import a_number, positive, whole
from .._layer import Layer
from ..optim import Optimizer
from .figure import new_figure
from .interrupt import Interrupts
from .session import Session

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


class Suggestion(NamedTuple):
    """Learning rates: one to train with, and the bounds of a cyclical schedule."""

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
        The loss of the step's batch before the step; with validation data, theirs after it.
    smoothed : ndarray (steps done,)
        The losses, each averaged with those around it: the weight of one k steps away is ``smoothing ** k``. It does
        not lag behind, as an average of those before it would.
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
        lowest = int(np.argmin(self.smoothed)) if len(self.smoothed) else 0
        way_down = self.smoothed[: lowest + 1]
        noise = float(np.std(self.losses[: lowest + 1] - way_down)) if lowest else 0.0
        fall = float(way_down[0] - way_down[-1]) if lowest else 0.0
        if lowest < 2 or fall <= noise:
            raise ValueError(
                f"the loss did not fall clearly in {self!r}: begin with a lower rate, take more steps, or give"
                " validation data"
            )
        lrs = self.lrs[: lowest + 1]
        slopes = np.gradient(way_down, np.log(lrs) if self.mode == "exponential" else lrs)
        base, limit = (lrs[np.argmax(way_down <= way_down[0] - part * fall)] for part in (0.1, 0.9))
        return Suggestion(float(lrs[np.argmin(slopes)]), float(base), float(limit))

    def plot(self) -> Any:
        """Draw the loss over the learning rate, with what `suggest` says, if it says anything.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        figure, (axes,) = new_figure((7, 4), 1)
        self.draw(axes)
        return figure

    def draw(self, axes: Any) -> None:
        """`plot` into axes of a figure of one's own."""
        axes.plot(self.lrs, self.losses, ".", color="0.65", markersize=4, label="each step")
        axes.plot(self.lrs, self.smoothed, color="#1f5fa8", linewidth=1.8, label="smoothed")
        if self.mode == "exponential":
            axes.set_xscale("log")
        try:
            found = self.suggest()
        except ValueError:
            pass
        else:
            label = f"cyclical: {found.base_lr:.2g} to {found.max_lr:.2g}"
            axes.axvspan(found.base_lr, found.max_lr, color="#d1661f", alpha=0.13, linewidth=0, label=label)
            axes.axvline(found.lr, color="#d1661f", linewidth=1.6, label=f"steepest: {found.lr:.2g}")
        if len(self.smoothed):
            low, high = self.smoothed.min(), self.smoothed[: np.argmin(self.smoothed) + 1].max()
            margin = (high - low) or abs(high) or 1.0
            axes.set_ylim(low - 0.1 * margin, high + 0.5 * margin)
        axes.set(title="Learning-rate range test", xlabel="learning rate", ylabel="loss")
        axes.legend(facecolor="white", edgecolor="none", framealpha=0.85)


def lr_range_test(
    model: Layer,
    X: Any,
    y: Any,
    *,
    optimizer: Optimizer,
    loss: Any = "logistic",
    batch_size: int | None = 32,
    validation: Any = None,
    sample_weight: Any = None,
    rng: "int | Generator | None" = None,
    clip_norm: float | None = None,
    clip_norm_per_tensor: float | None = None,
    clip_value: float | None = None,
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
    model, X, y, optimizer, loss, batch_size, sample_weight, rng, clip_norm, clip_norm_per_tensor, clip_value
        As for `fit`. The rate is that of all groups of the optimizer.
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
        The test ends when the average loss, that of the steps so far, is this many times the least it has been, or if a
        loss or gradient is not finite.

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
    generator = np.random.default_rng(rng)
    session = Session(model, X, y, optimizer, loss, batch_size, validation, sample_weight, 1)
    clipping = {"clip_norm": clip_norm, "clip_norm_per_tensor": clip_norm_per_tensor, "clip_value": clip_value}
    parts = session.parts(session.update("raise", clipping, False))
    lrs = np.geomspace(low, high, steps) if mode == "exponential" else np.linspace(low, high, steps)
    losses: list[float] = []
    trailing = weight = 0.0
    least, diverged = math.inf, False
    quiet = np.errstate(over="ignore", invalid="ignore")
    with Interrupts() as interrupts, _put_back(model, optimizer, generator), quiet:
        for value in _losses_of_steps(session, parts, generator, lrs):
            if not math.isfinite(value):
                diverged = True
                break
            losses.append(value)
            trailing = smoothing * trailing + (1.0 - smoothing) * value
            weight = smoothing * weight + 1.0 - smoothing
            least = min(least, trailing / weight)
            if trailing / weight > divergence * least:
                diverged = True
                break
            if interrupts.requested:
                break
    if interrupts.requested:
        raise KeyboardInterrupt
    found = np.array(losses)
    distance = abs(np.subtract.outer(np.arange(len(found)), np.arange(len(found))))
    weights = np.power(float(smoothing), distance)
    return RangeTest(lrs[: len(found)], found, weights @ found / weights.sum(axis=1), diverged, mode)


def _losses_of_steps(session: Session, parts: Any, generator: Any, lrs: np.ndarray) -> Iterator[float]:
    """One step at each of the rates, and the loss that belongs to it: NaN for a step that is refused."""
    rates = iter(lrs.tolist())
    while True:
        session.check_arrays()
        session.batches.shuffle(generator)
        begin = 0
        for step, rows, arrays in parts:
            for batch in zip(*arrays, strict=False):
                rate = next(rates, None)
                if rate is None:
                    return
                session.optimizer.lr = rate
                try:
                    value = session.mean_loss(step(*batch), begin, rows)
                except FloatingPointError:
                    value = math.nan
                begin += rows
                yield session.validate().get("val_loss", value) if math.isfinite(value) else value


@contextmanager
def _put_back(model: Layer, optimizer: Optimizer, generator: Any) -> Iterator[None]:
    """After the ``with`` block everything that training changes is as it was."""
    weights, state, numbers = model.state_dict(), optimizer.state_dict(), generator.bit_generator.state
    hyperparameters, norm = [dict(group) for group in optimizer.groups], optimizer.grad_norm
    try:
        yield
    finally:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for group, values in zip(optimizer.groups, hyperparameters, strict=True):
            group.replace(values)
        optimizer.grad_norm = norm
        generator.bit_generator.state = numbers
