"""Schedules that rise and fall."""

import math

from .._checks import a_number, one_of, whole
from .base import Schedule, above_0


class CosineAnnealingWarmRestarts(Schedule):
    r"""Half a cosine, again and again, each time over more steps.

    .. math::
        \eta_t = \eta_{\min} + \frac{\eta_0 - \eta_{\min}}{2} \left(1 + \cos \frac{T_{cur} \pi}{T_i}\right)

    with :math:`T_{cur}` steps since the last restart, and :math:`T_i = T_0 T_{mult}^i` from that to the next.

    Parameters
    ----------
    initial : float
        :math:`\eta_0`
    T_0 : int
        The steps to the first restart.
    T_mult : int
        How many times as long each period is as the one before.
    eta_min : float
        :math:`\eta_{\min}`

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = CosineAnnealingWarmRestarts(1.0, T_0=10, T_mult=2)
    >>> [round(schedule(t), 4) for t in (0, 9, 10, 29, 30)]
    [1.0, 0.0245, 1.0, 0.0062, 1.0]

    References
    ----------
    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), eq. 5. PyTorch:
    ``CosineAnnealingWarmRestarts``.
    """

    def __init__(self, initial: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0):
        self.initial = a_number("initial", initial)
        self.T_0 = whole("T_0", T_0, 1)
        self.T_mult = whole("T_mult", T_mult, 1)
        self.eta_min = a_number("eta_min", eta_min)

    def value(self, t: int) -> float:
        period = self.T_0
        if self.T_mult == 1:
            t %= period
        while t >= period:
            t -= period
            period *= self.T_mult
        return self.eta_min + (self.initial - self.eta_min) * (1 + math.cos(math.pi * t / period)) / 2


class Cycle(Schedule):
    """A learning rate that rises and falls again, and the momentum that does the opposite."""

    def between(self, t: int, initial: float, peak: float, final: float) -> float:
        """The cycle's value at step ``t``, were it to start, to culminate and to end at these."""
        raise NotImplementedError

    def momentum(self, base_momentum: float, max_momentum: float) -> Schedule:
        """A schedule that falls from ``max_momentum`` to ``base_momentum`` while this one rises, and vice versa."""
        return Momentum(self, base_momentum, max_momentum)


class Momentum(Schedule):
    """The momentum to a cycle of the learning rate: see `OneCycle.momentum`."""

    def __init__(self, cycle: Cycle, base_momentum: float, max_momentum: float):
        self.cycle = cycle
        self.base_momentum = a_number("base_momentum", base_momentum)
        self.max_momentum = a_number("max_momentum", max_momentum)
        if base_momentum > max_momentum:
            raise ValueError(f"base_momentum={base_momentum} is above max_momentum={max_momentum}")

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        return self.cycle.total_steps

    def value(self, t: int) -> float:
        return self.cycle.between(t, self.max_momentum, self.base_momentum, self.max_momentum)


class OneCycle(Cycle):
    r"""One cycle over the whole training: up to a large learning rate, and down to a very small one.

    From ``max_lr / div_factor`` to ``max_lr`` in the first ``pct_start`` of the steps, then down to
    ``max_lr / div_factor / final_div_factor``, which is reached with the last step and kept for any
    further ones (PyTorch raises an error; `fit` warns of a cycle shorter than the training). With ``three_phase``
    the way down first goes to ``max_lr / div_factor``, over as many steps as the way up. Each way from a to b is

    .. math::
        \eta = b + \frac{a - b}{2} (1 + \cos \pi x) \quad \text{or} \quad \eta = a + (b - a) x, \quad x = 0 \ldots 1

    Parameters
    ----------
    max_lr : float
    total_steps : int
        Of the whole training: epochs times batches per epoch.
    pct_start : float
        The share of the steps that lead up, from 0 to 1; with ``three_phase`` to 0.5.
    anneal_strategy : {"cos", "linear"}
    div_factor, final_div_factor : float
        Above 0.
    three_phase : bool

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> cycle = fo.schedules.OneCycle(1.0, total_steps=100)
    >>> [round(cycle(t), 7) for t in (0, 29, 99)]
    [0.04, 1.0, 4e-06]
    >>> opt = fo.optim.SGD(np.zeros(3), lr=cycle, momentum=cycle.momentum(0.85, 0.95))

    References
    ----------
    Smith & Topin, "Super-convergence: very fast training of neural networks using large learning rates" (2018).
    PyTorch: ``OneCycleLR``.
    """

    total_steps: int

    def __init__(self, max_lr: float, total_steps: int, pct_start: float = 0.3, anneal_strategy: str = "cos",
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False):  # fmt: skip
        self.max_lr = a_number("max_lr", max_lr)
        self.total_steps = whole("total_steps", total_steps, 1)
        self.pct_start = a_number("pct_start", pct_start, 0)
        self.anneal_strategy = one_of("cos", "linear")("anneal_strategy", anneal_strategy)
        self.div_factor = above_0("div_factor", div_factor)
        self.final_div_factor = above_0("final_div_factor", final_div_factor)
        self.three_phase = one_of(False, True)("three_phase", three_phase)
        if pct_start > (most := 0.5 if three_phase else 1.0):
            raise ValueError(f"pct_start must be at most {most} with three_phase={three_phase}, not {pct_start}")

    def momentum(self, base_momentum: float = 0.85, max_momentum: float = 0.95) -> Schedule:
        """A schedule that falls from ``max_momentum`` to ``base_momentum`` while this one rises, and rises again."""
        return super().momentum(base_momentum, max_momentum)

    def value(self, t: int) -> float:
        initial = self.max_lr / self.div_factor
        return self.between(t, initial, self.max_lr, initial / self.final_div_factor)

    def between(self, t: int, initial: float, peak: float, final: float) -> float:
        last = self.total_steps - 1
        top = self.pct_start * self.total_steps - 1  # need not be whole
        if t <= top:
            return self._way(t, 0.0, top, initial, peak)
        if not self.three_phase:
            return self._way(t, top, last, peak, final)
        if t <= 2 * top:
            return self._way(t, top, 2 * top, peak, initial)
        return self._way(t, 2 * top, last, initial, final)

    def _way(self, t: int, begin: float, end: float, first: float, last: float) -> float:
        """From ``first`` at step ``begin`` to ``last`` at ``end``, and no further."""
        if t >= end:
            return last
        x = (t - begin) / (end - begin)
        if self.anneal_strategy == "linear":
            return first + (last - first) * x
        return last + (first - last) / 2 * (1 + math.cos(math.pi * x))


class Cyclic(Cycle):
    r"""Up and down along straight lines, again and again.

    .. math::
        \eta_t = \eta_{base} + (\eta_{max} - \eta_{base}) \, h_t \, s_t

    with :math:`h_t` from 0 to 1 and back in every cycle, and :math:`s_t` = 1 (``mode="triangular"``), 1/2 to the
    number of cycles done (``"triangular2"``), or :math:`\gamma^t` (``"exp_range"``).

    Parameters
    ----------
    base_lr, max_lr : float
        What a learning-rate range test finds.
    step_size_up : int
        The steps up. Smith recommends two to ten epochs.
    step_size_down : int, optional
        The steps down; as many if it is not given.
    mode : {"triangular", "triangular2", "exp_range"}
    gamma : float
        At least 0; for ``mode="exp_range"`` only.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = Cyclic(1.0, 2.0, step_size_up=4, mode="triangular2")
    >>> [schedule(t) for t in (0, 2, 4, 8, 12, 16)]
    [1.0, 1.5, 2.0, 1.0, 1.5, 1.0]

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks" (2017). PyTorch: ``CyclicLR``.
    """

    def __init__(self, base_lr: float, max_lr: float, step_size_up: int = 2000, step_size_down: int | None = None,
                 mode: str = "triangular", gamma: float = 1.0):  # fmt: skip
        self.base_lr = a_number("base_lr", base_lr)
        self.max_lr = a_number("max_lr", max_lr)
        self.step_size_up = whole("step_size_up", step_size_up, 1)
        down = step_size_up if step_size_down is None else step_size_down
        self.step_size_down = whole("step_size_down", down, 1)
        self.mode = one_of("triangular", "triangular2", "exp_range")("mode", mode)
        self.gamma = a_number("gamma", gamma, 0)

    def momentum(self, base_momentum: float = 0.8, max_momentum: float = 0.9) -> Schedule:
        """A schedule that falls from ``max_momentum`` to ``base_momentum`` while this one rises, and vice versa."""
        return super().momentum(base_momentum, max_momentum)

    def value(self, t: int) -> float:
        return self.between(t, self.base_lr, self.max_lr, self.base_lr)

    def between(self, t: int, initial: float, peak: float, final: float) -> float:
        cycle, position = divmod(t, self.step_size_up + self.step_size_down)
        up = position / self.step_size_up
        height = up if up <= 1 else 1 - (position - self.step_size_up) / self.step_size_down
        if self.mode == "triangular2":
            height *= 0.5**cycle
        elif self.mode == "exp_range":
            height *= self.gamma**t
        return initial + (peak - initial) * height
