"""What all schedules share, and how they are put together."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from inspect import signature
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from .._attributes import UnknownAttribute
from .._checks import a_number, positive, whole
from .._figure import BLUE, draw_curve, figure_and_axes

Given = Callable[[int], float] | float  # what can be put together with a schedule


class Schedule:
    """A number that changes with the number of steps done; the base of all schedules.

    A subclass keeps its arguments as attributes of their names, and computes ``value(t)`` from them and from t, an
    int of at least 0. From the attributes come its repr and its equality. The arguments of this library's schedules
    cannot be changed afterwards.

    Attributes
    ----------
    total_steps : int or None
        How many steps it is for, if it has an end that is not a value to keep; `fastopt.fit` warns if training goes on.

    Examples
    --------
    >>> from fastopt.schedules import Constant, Linear, Step
    >>> schedule = Step(0.1, step_size=2, gamma=0.5)
    >>> [schedule(t) for t in range(5)]
    [0.1, 0.1, 0.05, 0.05, 0.025]
    >>> (2 * schedule + 1)(0)
    1.2
    >>> schedule
    Step(initial=0.1, step_size=2, gamma=0.5)
    """

    __array_ufunc__ = None  # a NumPy number times a schedule is a schedule
    total_steps: int | None = None

    def value(self, t: int) -> float:
        """The value after ``t`` steps."""
        raise NotImplementedError

    def __call__(self, step: int) -> float:
        t = whole("step", step, 0)
        try:
            return self.value(t)
        except OverflowError:
            raise ValueError(f"{self!r} overflows at step {step}") from None

    # -- putting schedules together --

    def __add__(self, other: Given) -> "Schedule":
        return Sum(self, other) if _can_be_schedule(other) else NotImplemented

    def __radd__(self, other: Given) -> "Schedule":
        return Sum(other, self) if _can_be_schedule(other) else NotImplemented

    def __mul__(self, other: Given) -> "Schedule":
        return Product(self, other) if _can_be_schedule(other) else NotImplemented

    def __rmul__(self, other: Given) -> "Schedule":
        return Product(other, self) if _can_be_schedule(other) else NotImplemented

    def then(self, other: Given, at: int) -> "Schedule":
        """This schedule for ``at`` steps, then another, which starts from its own step 0; a number stays the same.

        Raises
        ------
        TypeError, ValueError
            If ``other`` is no schedule, function or number; if ``at`` is not an int above 0, and above the step where
            the last schedule of a sequence begins.

        Examples
        --------
        >>> from fastopt.schedules import Linear, Step
        >>> schedule = Linear(0, 8, total_iters=4).then(Step(8, step_size=2, gamma=0.5), at=4).then(0, at=9)
        >>> [schedule(t) for t in range(10)]
        [0.0, 2.0, 4.0, 6.0, 8.0, 8.0, 4.0, 4.0, 2.0, 0.0]
        """
        return Chain([self, other], [whole("at", at, 1)])

    def warm_up(self, steps: int, start_factor: float = 1 / 3) -> "Schedule":
        """A straight line, from ``start_factor`` times the first value to it, in so many steps; then this schedule.

        Raises
        ------
        TypeError, ValueError
            If a number is out of its range.

        Examples
        --------
        >>> from fastopt.schedules import Exponential
        >>> schedule = Exponential(1.0, gamma=0.5).warm_up(4, start_factor=0.25)
        >>> [schedule(t) for t in range(7)]
        [0.25, 0.4375, 0.625, 0.8125, 1.0, 0.5, 0.25]

        References
        ----------
        Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour" (2017), section 2.2. PyTorch:
        ``LinearLR``, with the same default, in a ``SequentialLR``.
        """
        first, total_iters = self(0), whole("steps", steps, 1)
        return Linear(a_number("start_factor", start_factor) * first, first, total_iters).then(self, at=total_iters)

    def every(self, steps: int) -> "Schedule":
        """This schedule, going on by one in every so many steps: a schedule of epochs becomes one of steps.

        Raises
        ------
        TypeError, ValueError
            If ``steps`` is not an int above 0.

        Examples
        --------
        >>> from fastopt.schedules import Exponential
        >>> schedule = Exponential(1.0, gamma=0.5).every(3)  # of three batches in an epoch
        >>> [schedule(t) for t in range(7)]
        [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
        """
        return Every(self, steps)

    def plot(self, steps: int, label: str = "value", ax: Any = None) -> Any:
        """Draw the values of the first ``steps`` steps.

        Parameters
        ----------
        steps : int
        label : str
            What the values are: "learning rate", say.
        ax : matplotlib.axes.Axes, optional
            Where to draw. By default, in a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Of pyplot's, as ``History.plot`` returns it.

        Raises
        ------
        TypeError, ValueError
            If ``steps`` is not an int above 0, or ``ax`` something else.
        ImportError
            If matplotlib is not installed.
        """
        values = [self(t) for t in range(whole("steps", steps, 1))]
        from textwrap import fill

        figure, (axes,) = figure_and_axes(ax, (6, 3.6), 1)
        from matplotlib.ticker import MaxNLocator

        draw_curve(axes, range(steps), values, color=BLUE)
        axes.set_title(fill(repr(self), 90), fontsize="small")
        axes.set(xlabel="steps done", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        return figure

    # -- comparing and printing --

    _arguments: ClassVar[frozenset[str]] = frozenset()  # of this library's class, which a user's may derive from

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls._is_ours():
            cls._arguments = frozenset(signature(cls).parameters)

    @classmethod
    def _is_ours(cls) -> bool:
        return cls.__module__.startswith("fastopt.")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._arguments and name in vars(self):
            raise AttributeError(f"{name} of {self!r} cannot be changed: make another schedule")
        if self._is_ours() and name not in self._arguments:
            raise UnknownAttribute(self, name)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:  # called where there is no such attribute
        raise UnknownAttribute(self, name)

    def __delattr__(self, name: str) -> None:
        if name in self._arguments:
            raise AttributeError(f"{name} of {self!r} cannot be deleted")
        object.__delattr__(self, name)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Constant(Schedule):
    """Always the same.

    Examples
    --------
    >>> Constant(0.1)(1000)
    0.1
    """

    def __init__(self, constant: float):
        self.constant = a_number("constant", constant)

    def value(self, t: int) -> float:
        return self.constant


class Lambda(Schedule):
    """A function of one's own, of the number of steps done.

    A function alone serves as a schedule for an optimizer too; it becomes one of these when it is put together
    with another schedule. It can be pickled if the function can.

    Parameters
    ----------
    function : callable
        Of the number of steps done; it returns the value.

    Raises
    ------
    TypeError
        If the function cannot be called, or, later, if it returns something other than a number.
    ValueError
        If it returns NaN or an infinity.

    Examples
    --------
    >>> Lambda(lambda t: 0.1 / (1 + t) ** 0.5)(3)
    0.05
    """

    def __init__(self, function: Callable[[int], float]):
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}")
        self.function = function

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        return end_of(self.function)

    def value(self, t: int) -> float:
        return a_number(f"{self.function!r} at step {t}", self.function(t))


class Linear(Schedule):
    r"""A straight line; `final` from its end on.

    .. math::
        \eta_t = \eta_0 + (\eta_T - \eta_0) \, t / T

    Parameters
    ----------
    initial, final : float
        :math:`\eta_0` and :math:`\eta_T`
    total_iters : int
        T

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = Linear(1.0, 0.0, total_iters=4)
    >>> [schedule(t) for t in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    References
    ----------
    PyTorch: ``LinearLR``, which is given factors in their place.
    """

    def __init__(self, initial: float, final: float, total_iters: int):
        self.initial = a_number("initial", initial)
        self.final = a_number("final", final)
        self.total_iters = whole("total_iters", total_iters, 1)

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        return self.total_iters if self.final == 0 else None

    def value(self, t: int) -> float:
        if t >= self.total_iters:
            return self.final
        return self.initial + (self.final - self.initial) * t / self.total_iters


class Sum(Schedule):
    """The sum of two schedules."""

    def __init__(self, left: Given, right: Given):
        self.left, self.right = _schedule(left), _schedule(right)

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        return _earlier(self.left.total_steps, self.right.total_steps)

    def value(self, t: int) -> float:
        return self.left.value(t) + self.right.value(t)

    def __repr__(self) -> str:
        return f"({self.left!r} + {self.right!r})"


class Product(Schedule):
    """The product of two schedules."""

    def __init__(self, left: Given, right: Given):
        self.left, self.right = _schedule(left), _schedule(right)

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        return _earlier(self.left.total_steps, self.right.total_steps)

    def value(self, t: int) -> float:
        return self.left.value(t) * self.right.value(t)

    def __repr__(self) -> str:
        return f"({self.left!r} * {self.right!r})"


class Chain(Schedule):
    """Schedules one after the other, each from its own step 0 on: see `Schedule.then`."""

    def __init__(self, schedules: Sequence[Given], milestones: Sequence[int]):
        self.schedules = tuple(map(_schedule, schedules))
        self.milestones = increasing("milestones", milestones)

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        last = self.schedules[-1].total_steps
        return None if last is None else self.milestones[-1] + last

    def value(self, t: int) -> float:
        k = bisect_right(self.milestones, t)
        return self.schedules[k].value(t - self.milestones[k - 1] if k else t)

    def then(self, other: Given, at: int) -> Schedule:
        if whole("at", at, 1) <= self.milestones[-1]:
            raise ValueError(f"at={at}: the schedule before begins at step {self.milestones[-1]}, and would never be")
        return Chain([*self.schedules, other], [*self.milestones, at])

    def __repr__(self) -> str:
        following = zip(self.schedules[1:], self.milestones, strict=True)
        return repr(self.schedules[0]) + "".join(f".then({schedule!r}, at={at})" for schedule, at in following)


class Every(Schedule):
    """A schedule that goes on by one in every so many steps: see `Schedule.every`."""

    def __init__(self, schedule: Given, steps: int):
        self.schedule = _schedule(schedule)
        self.steps = whole("steps", steps, 1)

    @property
    def total_steps(self) -> int | None:  # type: ignore[override]
        return None if self.schedule.total_steps is None else self.schedule.total_steps * self.steps

    def value(self, t: int) -> float:
        return self.schedule.value(t // self.steps)

    def __repr__(self) -> str:
        return f"{self.schedule!r}.every({self.steps})"


def end_of(schedule: Any) -> int | None:
    """How many steps a schedule is for, be it one of these or a function that says so by its ``total_steps``."""
    end = getattr(schedule, "total_steps", None)
    return int(end) if isinstance(end, (int, np.integer)) and not isinstance(end, bool) else None


def _earlier(*ends: int | None) -> int | None:
    return min((end for end in ends if end is not None), default=None)


def increasing(name: str, steps: Sequence[int]) -> tuple[int, ...]:
    """``steps`` as a tuple of ints, if they are above 0 and increase."""
    if isinstance(steps, str) or not isinstance(steps, (Sequence, np.ndarray)):
        raise TypeError(f"{name} must be a sequence of ints, not {type(steps).__name__}")
    checked = tuple(whole(f"{name}[{i}]", step, 1) for i, step in enumerate(steps))
    for before, after in pairwise(checked):
        if before >= after:
            raise ValueError(f"{name} must increase: {after} comes after {before}")
    return checked


def above_0(name: str, value: float) -> float:
    """``value`` as a float, if it is a number, finite and above 0."""
    return a_number(name, positive(name, value))


def _can_be_schedule(given: Any) -> bool:
    return callable(given) or (isinstance(given, (int, float, np.integer, np.floating)) and not isinstance(given, bool))


def _schedule(given: Given) -> Schedule:
    if isinstance(given, Schedule):
        return given
    if not _can_be_schedule(given):
        raise TypeError(f"a schedule must be one of fastopt.schedules, a function or a number, not {given!r}")
    return Lambda(given) if callable(given) else Constant(given)
