"""Schedules that fall, once."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from .._checks import a_number, whole
from .base import Schedule, above_0, increasing


class Step(Schedule):
    r"""A drop by a factor every so many steps.

    .. math::
        \eta_t = \eta_0 \gamma^{\lfloor t / s \rfloor}

    Parameters
    ----------
    initial : float
        :math:`\eta_0`
    step_size : int
        s
    gamma : float
        The factor, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = Step(1.0, step_size=30)
    >>> schedule(29), schedule(30), schedule(60)
    (1.0, 0.1, 0.010000000000000002)

    References
    ----------
    PyTorch: ``StepLR``.
    """

    def __init__(self, initial: float, step_size: int, gamma: float = 0.1):
        self.initial = a_number("initial", initial)
        self.step_size = whole("step_size", step_size, 1)
        self.gamma = a_number("gamma", gamma, 0)

    def value(self, t: int) -> float:
        return self.initial * self.gamma ** (t // self.step_size)


class MultiStep(Schedule):
    r"""A drop by a factor at each of some steps.

    .. math::
        \eta_t = \eta_0 \gamma^k, \quad k = \text{how many milestones are} \le t

    Parameters
    ----------
    initial : float
        :math:`\eta_0`
    milestones : sequence of int
        Increasing.
    gamma : float
        The factor, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range, or the milestones do not increase.

    Examples
    --------
    >>> schedule = MultiStep(1.0, milestones=[30, 80], gamma=0.5)
    >>> schedule(29), schedule(30), schedule(80)
    (1.0, 0.5, 0.25)

    References
    ----------
    PyTorch: ``MultiStepLR``.
    """

    def __init__(self, initial: float, milestones: Sequence[int], gamma: float = 0.1):
        self.initial = a_number("initial", initial)
        self.milestones = increasing("milestones", milestones)
        self.gamma = a_number("gamma", gamma, 0)

    def value(self, t: int) -> float:
        return self.initial * self.gamma ** bisect_right(self.milestones, t)


class Exponential(Schedule):
    r"""A factor in every step.

    .. math::
        \eta_t = \eta_0 \gamma^t

    Parameters
    ----------
    initial : float
        :math:`\eta_0`
    gamma : float
        At least 0; above 1, the schedule rises.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = Exponential(1.0, gamma=0.5)
    >>> schedule(0), schedule(1), schedule(2)
    (1.0, 0.5, 0.25)

    References
    ----------
    PyTorch: ``ExponentialLR``.
    """

    def __init__(self, initial: float, gamma: float):
        self.initial = a_number("initial", initial)
        self.gamma = a_number("gamma", gamma, 0)

    def value(self, t: int) -> float:
        return self.initial * self.gamma**t


class Polynomial(Schedule):
    r"""A descent along a power of the steps that are left; `final` from then on.

    .. math::
        \eta_t = \eta_T + (\eta_0 - \eta_T) (1 - t / T)^p

    Parameters
    ----------
    initial : float
        :math:`\eta_0`
    total_iters : int
        T
    power : float
        p, above 0.
    final : float
        :math:`\eta_T`

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = Polynomial(1.0, total_iters=10, power=2)
    >>> schedule(0), schedule(5), schedule(10), schedule(11)
    (1.0, 0.25, 0.0, 0.0)

    References
    ----------
    PyTorch: ``PolynomialLR``, whose `final` is 0.
    """

    def __init__(self, initial: float, total_iters: int, power: float = 1.0, final: float = 0.0):
        self.initial = a_number("initial", initial)
        self.total_iters = whole("total_iters", total_iters, 1)
        self.power = above_0("power", power)
        self.final = a_number("final", final)

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        return self.total_iters

    def value(self, t: int) -> float:
        left = 1 - min(t, self.total_iters) / self.total_iters
        return self.final + (self.initial - self.final) * left**self.power


class InverseTime(Schedule):
    r"""A descent as one over the time, or over a power of it.

    .. math::
        \eta_t = \frac{\eta_0}{(1 + k t)^p}

    The steps of gradient descent sum up to infinity, and their squares do not, if 1/2 < p ≤ 1: Robbins and Monro's
    condition for noise that averages out. ``power=0.5`` is the inverse square root.

    Parameters
    ----------
    initial : float
        :math:`\eta_0`
    decay : float
        k per step, at least 0: after 1 / k steps, with p = 1, half is left.
    power : float
        p, above 0.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = InverseTime(1.0, decay=0.01)
    >>> schedule(0), schedule(100), schedule(300)
    (1.0, 0.5, 0.25)

    References
    ----------
    Robbins & Monro, "A stochastic approximation method" (1951). Keras: ``InverseTimeDecay`` (p = 1).
    """

    def __init__(self, initial: float, decay: float, power: float = 1.0):
        self.initial = a_number("initial", initial)
        self.decay = a_number("decay", decay, 0)
        self.power = above_0("power", power)

    def value(self, t: int) -> float:
        return self.initial / (1 + self.decay * t) ** self.power


class CosineAnnealing(Schedule):
    r"""A descent along half a cosine.

    .. math::
        \eta_t = \eta_{\min} + \frac{\eta_0 - \eta_{\min}}{2} \left(1 + \cos \frac{t \pi}{T}\right)

    After T steps it rises again, as PyTorch's does; ``.then(eta_min, at=T_max)`` holds it where it is.

    Parameters
    ----------
    initial : float
        :math:`\eta_0`
    T_max : int
        T
    eta_min : float
        :math:`\eta_{\min}`

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = CosineAnnealing(1.0, T_max=100)
    >>> schedule(0), round(schedule(50), 12), schedule(100)
    (1.0, 0.5, 0.0)

    References
    ----------
    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), eq. 5, of which this is the
    first period. PyTorch: ``CosineAnnealingLR``.
    """

    def __init__(self, initial: float, T_max: int, eta_min: float = 0.0):
        self.initial = a_number("initial", initial)
        self.T_max = whole("T_max", T_max, 1)
        self.eta_min = a_number("eta_min", eta_min)

    def value(self, t: int) -> float:
        return self.eta_min + (self.initial - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2
