"""Schedule-Free optimizers: a mean of all positions in place of a falling learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .._backends.environment import isolated
from .._backends.numpy import numbers
from .._checks import one_of
from .._moving import change_all
from .._specification.state_formats import codes_of, to_bfloat16
from .adam import check_eps
from .base import Optimizer
from .hyperparameters import Group
from .momenta import OfGroups
from .types import Hyperparameters, Number, Pair, Params

__all__ = ["AdamWScheduleFree", "SGDScheduleFree"]

_SUMMED = 2**16  # so many terms are added up one by one


class ScheduleFree(Optimizer):
    """What both have: two points, of which one is in the parameters, and the weights of the mean."""

    checks: ClassVar = {"weight_decay_mode": one_of("direction", "l2", "decoupled", "independent")}

    def __init__(self, params: Params, **hyperparameters: Any):
        super().__init__(params, **hyperparameters)
        self._weights = OfGroups(Weights)
        self._training_point: tuple[np.ndarray, ...] | None = None  # y, while the parameters are x

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        momentum = cls.momentum(h)
        if not callable(momentum) and not 0.0 < momentum < 1.0:
            raise ValueError(f"the momentum of a Schedule-Free optimizer must lie between 0 and 1, not be {momentum}")

    @classmethod
    def momentum(cls, h: Mapping[str, Any]) -> Any:
        """How far the gradients are taken from z towards the mean."""
        raise NotImplementedError

    @classmethod
    def averaging(cls, h: Mapping[str, Any], t: int) -> tuple[float, ...]:
        """The last scalars of both rules, for step ``t``."""
        lr = warmed_up(h["lr"], h["warmup_steps"], t)
        decay = h["weight_decay"] if h["weight_decay_mode"] == "direction" else 0.0
        known = (0.0, 1.0) if t == 1 else (1.0, 0.0)
        return *known, decay, h["average"], lr * (1.0 - cls.momentum(h) * (1.0 - h["average"])), lr

    def _at(self, group: Group, done: int, missed: int) -> Mapping[str, Any]:
        """With the weight of the step in the mean, too."""
        if self._training_point is not None:
            raise RuntimeError("the parameters are the mean, at which no step can be done: call train() first")
        average = self._weights.of(group, missed).average(max(done - missed, 0) + 1)
        return {**group.at(done), "average": average}

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        with self._lock:
            if self._training_point is not None:
                raise RuntimeError("the parameters are the mean: call train() before add_param_group()")
            super().add_param_group(group)

    # -- the two points --

    def eval(self) -> None:
        """Put the mean of all positions, x, in place of the parameters, until `train`."""
        with self._lock:
            if self._training_point is not None:
                return
            self._look_for_changes(tuple(self._arrays_now()))
            done = self.step_count
            points = tuple(param.copy() for param in self._plain)
            groups = (group for group in self._groups for _ in group.names)
            weights = [
                1.0 - 1.0 / self.momentum(group.at(max(done - 1, 0))) if left.missed_of(done) < done else 0.0
                for group, left in zip(groups, self._left, strict=True)
            ]
            starts = [state["z"] for state in self._state.values()]
            self._exchange(_means(points, starts, weights) if done else points, points)

    def train(self) -> None:
        """Put the parameters back to where they were before `eval`, y, where gradients are taken."""
        with self._lock:
            if self._training_point is not None:
                self._look_for_changes(tuple(self._arrays_now()))
                self._exchange(self._training_point, None)

    def _exchange(self, values: Any, training_point: Any) -> None:
        self._plan.look_again()
        changes = [(param, ..., value) for param, value in zip(self._plain, values, strict=True)]
        change_all([*changes, (self.__dict__, "_training_point", training_point)])

    # -- what is saved --

    def state_dict(self) -> dict[str, Any]:
        """As of all optimizers; while the parameters are the mean, with what they are in training under ``"y"``."""
        with self._lock:
            saved = super().state_dict()
            if (y := self._training_point) is not None:
                saved["y"] = {name: array.copy() for name, array in zip(self._names, y, strict=True)}
            return saved

    def _changes_of_loading(self, state_dict: Any) -> list[tuple[Any, Any, Any]]:
        changes = super()._changes_of_loading(state_dict)
        y = checked_arrays(state_dict["y"], self._names, self._plain) if "y" in state_dict else None
        return [*changes, (self.__dict__, "_training_point", y)]


@isolated
def _means(points: Sequence[np.ndarray], starts: Sequence[np.ndarray], weights: Sequence[float]) -> list[np.ndarray]:
    """x of y, z and 1 - 1 / momentum."""
    found = []
    with np.errstate(all="ignore"):
        for point, z, w in zip(points, starts, weights, strict=True):
            y = numbers(codes_of(point))
            x = y + y.dtype.type(w) * (z - y)
            found.append(x if x.dtype == point.dtype else to_bfloat16(x, None).view(point.dtype))
    return found


def checked_arrays(saved: Any, names: Sequence[str], params: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """A saved y of these parameters, copied; or an error."""
    if not isinstance(saved, Mapping) or list(saved) != list(names):
        raise ValueError("y in the state dict is that of other parameters")
    found = []
    for name, param in zip(names, params, strict=True):
        y = np.asarray(saved[name])
        if y.shape != param.shape or y.dtype != param.dtype:
            of = f"{y.dtype} of shape {y.shape}, the parameter {param.dtype} of {param.shape}"
            raise ValueError(f"y of {name!r} is {of}")
        if not np.isfinite(y).all():
            raise ValueError(f"y of {name!r} holds inf or NaN")
        found.append(y.copy())
    return tuple(found)


def warmed_up(lr: float, warmup_steps: int, t: int) -> float:
    """The learning rate of step ``t``, which rises along a line in the first ``warmup_steps``."""
    return lr * (t / warmup_steps) if t < warmup_steps else lr


class Weights:
    """The weights of the steps in a group's mean: t**r, times a power of the largest learning rate so far.

    From nothing but the number of the step and the schedule of the learning rate: a constant rate cancels out. It goes
    on from the step it was last asked for, and what it answers is the same as if it began at the first.
    """

    def __init__(self, group: Group):
        self._group = group
        self._reached: tuple[Any, ...] = (None, 0, 0.0, 0.0, 0.0)

    def average(self, t: int) -> float:
        """The weight of step ``t`` in the sum of all up to it."""
        group = self._group
        lr, warmup, r, power = (group[name] for name in ("lr", "warmup_steps", "r", "weight_lr_power"))
        schedule = lr if callable(lr) else None
        of, done, largest, weight, total = self._reached
        if of is not schedule or done > t:
            done, largest, weight, total = 0, 0.0, 0.0, 0.0
        exact = t if schedule is not None else min(t, max(warmup, _SUMMED))
        while done < exact:
            done += 1
            rate = group.one_at("lr", done - 1) if schedule is not None else 1.0
            largest = max(largest, warmed_up(rate, warmup, done))
            weight = to_power(done, r) * to_power(largest, power)
            total += weight
        self._reached = schedule, done, largest, weight, total
        if done < t:  # the sum of the rest by Euler and Maclaurin's formula
            weight, last = to_power(t, r), to_power(done, r)
            whole = math.log(t / done) if r == -1.0 else (t * weight - done * last) / (r + 1.0)
            total += whole + (weight - last) / 2.0 + r * (weight / t - last / done) / 12.0
        return weight / total if 0.0 < total < math.inf else 0.0


def to_power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except (OverflowError, ValueError):  # the latter of 0 to a negative power
        return math.inf


class SGDScheduleFree(ScheduleFree):
    r"""Gradient descent whose gradients are taken between its position and the mean of all positions.

    .. math::
        y_t &= (1 - \beta) z_t + \beta x_t, \quad
        z_{t+1} = z_t - \eta_t g(y_t), \quad
        x_{t+1} = (1 - c_t) x_t + c_t z_{t+1}, \\
        \eta_t &= \eta \min(1, t / T), \quad
        c_t = \frac{w_t}{\sum_{i \le t} w_i}, \quad w_t = t^r \max_{i \le t} \eta_i^p

    The parameters are y, where gradients are to be taken; `eval` puts x in their place, what has been found, and
    `train` puts y back, to the bit. x is not stored.

    Parameters
    ----------
    params, maximize, param_rounding, state_seed
        As for `SGD`.
    lr : float or callable
        It needs no schedule, and is larger than that of `SGD`.
    momentum : float
        :math:`\beta`, between 0 and 1.
    weight_decay : float
    warmup_steps : int
        T: the learning rate rises along a line in so many steps.
    r : float
    weight_lr_power : float
        p.
    weight_decay_mode : {"direction", "l2", "decoupled", "independent"}
        "direction": add :math:`\lambda y` to what z and y move by; here that is "l2". The others are of y alone.

    Raises
    ------
    TypeError, ValueError
        As for `SGD`.
    RuntimeError
        By `step`, if `eval` has been called and `train` has not.

    Notes
    -----
    The weights are computed from the step count and the schedule of the learning rate: a rate set by hand counts as
    that of all steps, from the first on, where the authors' code keeps what has been summed up.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.SGDScheduleFree(w, lr=0.25)
    >>> for _ in range(2):
    ...     opt.step(2 * w)
    >>> w
    array([ 0.3625, -0.725 ])
    >>> opt.eval()
    >>> w
    array([ 0.375, -0.75 ])
    >>> opt.train()

    References
    ----------
    Defazio et al., "The road less scheduled" (2024), eq. 3-5. The authors' ``schedulefree.SGDScheduleFree``.
    """

    def __init__(self, params: Params, lr: Number = 1.0, momentum: Number = 0.9, weight_decay: Number = 0.0,
                 warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, *,
                 weight_decay_mode: str = "direction", maximize: bool = False,
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, warmup_steps=warmup_steps, r=r,
                         weight_lr_power=weight_lr_power, weight_decay_mode=weight_decay_mode,
                         maximize=maximize,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def momentum(cls, h: Hyperparameters) -> Any:
        return h["momentum"]

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "sgd_schedule_free"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        return cls.averaging(h, t)


class AdamWScheduleFree(ScheduleFree):
    r"""AdamW without a schedule, in the manner of `SGDScheduleFree`.

    .. math::
        z_{t+1} = z_t - \eta_t \left(\frac{g(y_t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon} + \lambda y_t\right)

    with x, y, :math:`\eta_t` and `eval` and `train` as there, with :math:`\beta_1` for :math:`\beta`, and v as in
    `Adam`.

    Parameters
    ----------
    params, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`; the moment is v.
    lr : float or callable
        It needs no schedule, and is one to ten times that of `AdamW`.
    betas : pair of floats
        The first between 0 and 1.
    eps : float
        Outside the root.
    weight_decay, warmup_steps, r, weight_lr_power
        As for `SGDScheduleFree`.
    weight_decay_mode : {"direction", "decoupled", "independent", "l2"}
        "direction": as above; the others as for `SGD`, of y alone.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.
    RuntimeError
        By `step`, if `eval` has been called and `train` has not.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.AdamWScheduleFree(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w.round(4)
    array([ 0.9, -1.9])

    References
    ----------
    Defazio et al., "The road less scheduled" (2024), Algorithm 1. The authors' ``schedulefree.AdamWScheduleFree``.
    """

    def __init__(self, params: Params, lr: Number = 2.5e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-8,
                 weight_decay: Number = 0.0, warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, *,
                 weight_decay_mode: str = "direction", maximize: bool = False, state_format: str = "float32",
                 state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, warmup_steps=warmup_steps,
                         r=r, weight_lr_power=weight_lr_power, weight_decay_mode=weight_decay_mode,
                         maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def momentum(cls, h: Hyperparameters) -> Any:
        betas = h["betas"]
        return betas if callable(betas) else betas[0]

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        super().check(h)
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adamw_schedule_free"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta2 = h["betas"][1]
        return beta2, 1.0 - beta2, 1.0 / math.sqrt(1.0 - beta2**t), h["eps"], *cls.averaging(h, t)
