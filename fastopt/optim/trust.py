"""Large-batch optimizers, with a trust ratio per tensor: LARS and LAMB."""

import math

from .._checks import one_of
from .adam import check_eps, root_correction
from .base import Optimizer
from .hyperparameters import yes_or_no
from .sgd import check_lr_in_buffer, check_nesterov, first_undamped, look_ahead, with_lr
from .types import Hyperparameters, Number, Pair, Params

__all__ = ["LAMB", "LARS"]

_decay_modes = one_of("direction", "l2", "decoupled", "independent")
_NO_ADAPTATION = (1.0, 0.0, 0.0, 1.0, 1.0, 1.0)  # floor and cap are 1, and so is the ratio


class LARS(Optimizer):
    r"""Layer-wise adaptive rate scaling: momentum, each tensor's step in proportion to its norm.

    .. math::
        r = \frac{\kappa \|\theta\|}{\|g\| + \lambda \|\theta\| + \epsilon}, \quad
        v_t = \mu v_{t-1} + (1 - d) r (g + \lambda \theta), \quad \theta_t = \theta_{t-1} - \eta v_t

    with trust coefficient :math:`\kappa` and weight decay :math:`\lambda`. The trust ratio r is 1 where a norm is 0.

    Parameters
    ----------
    params, lr, momentum, dampening, weight_decay, nesterov, maximize, state_format, state_rounding, param_rounding,
    state_seed
        As for `SGD`. Biases and norm parameters commonly get a group with ``weight_decay=0, always_adapt=False``.
    trust_coefficient : float
    eps : float
    trust_clip : bool
        Clip the learning rate times r to it, that is, r to min(r / lr, 1) (timm's LARC; where a norm is 0, r stays
        1 here, and becomes min(1 / lr, 1) in timm).
    always_adapt : bool
        False: only tensors with weight decay have a trust ratio (timm's default), others take a step of `SGD`.
    denominator : {"separate", "sum"}
        "sum": :math:`\kappa \|\theta\| / (\|g + \lambda\theta\| + \epsilon)`, as optax does.
    lr_in_buffer : bool
        Keep :math:`v_t = \mu v_{t-1} + \eta r (g + \lambda \theta)` and take it from the parameter, which differs when
        the learning rate changes: Algorithm 1 of You et al., and optax. By default the rate is outside, as in timm.
    weight_decay_mode : {"direction", "l2", "decoupled", "independent"}
        "direction": as above; the others as for `SGD`, without the term in the trust ratio.

    Raises
    ------
    TypeError, ValueError
        As for `SGD`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([3.0, 4.0])
    >>> opt = fo.optim.LARS({"w": w}, lr=1.0, trust_coefficient=0.1)
    >>> opt.step({"w": np.array([0.0, 2.0])})
    >>> opt.trust_ratios
    {'w': 0.25}
    >>> w
    array([3. , 3.5])

    References
    ----------
    You, Gitman & Ginsburg, "Large batch training of convolutional networks" (2017), eq. 6 and Algorithm 1.
    timm: ``Lars``; optax: ``lars``.
    """

    checks = {"trust_clip": yes_or_no, "weight_decay_mode": _decay_modes}  # noqa: RUF012

    def __init__(self, params: Params, lr: Number = 1.0, momentum: Number = 0.9, dampening: Number = 0.0,
                 weight_decay: Number = 0.0, nesterov: bool = False, *, trust_coefficient: Number = 0.001,
                 eps: Number = 0.0, trust_clip: bool = False, always_adapt: bool = True,
                 denominator: str = "separate", lr_in_buffer: bool = False, weight_decay_mode: str = "direction",
                 maximize: bool = False, state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic",
                 state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov, trust_coefficient=trust_coefficient, eps=eps, trust_clip=trust_clip,
                         always_adapt=always_adapt, denominator=denominator, lr_in_buffer=lr_in_buffer,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        check_nesterov(h)
        check_lr_in_buffer(h)
        return "lars"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        decay = _in_direction(h)
        measured = decay if h["denominator"] == "sum" else 0.0
        weights = (h["momentum"], first_undamped(h, t), *look_ahead(h))
        return decay, measured, *(with_lr(h, *weights) if h["lr_in_buffer"] else (*weights, h["lr"])), 1.0

    @classmethod
    def trust(cls, h: Hyperparameters) -> tuple[float, ...]:
        if not (h["always_adapt"] or h["weight_decay"]):
            return _NO_ADAPTATION
        separate = _in_direction(h) if h["denominator"] == "separate" else 0.0
        scale, cap = (1.0 / h["lr"], 1.0) if h["trust_clip"] and h["lr"] > 0 else (1.0, math.inf)
        return h["trust_coefficient"], separate, h["eps"], scale, 0.0, cap


class LAMB(Optimizer):
    r"""Adam's direction, each tensor's step in proportion to its norm.

    .. math::
        u = \frac{\hat m_t}{\sqrt{\hat v_t + \epsilon'} + \epsilon} + \lambda \theta, \quad
        r = \min\left(\frac{\|\theta\|}{\|u\|}, c\right), \quad \theta_t = \theta_{t-1} - \eta r u

    with :math:`\hat m, \hat v` as in `Adam`. The trust ratio r is 1 where a norm is 0.

    Parameters
    ----------
    params, lr, weight_decay, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`. Biases and norm parameters commonly get a group with ``weight_decay=0, always_adapt=False``.
    betas : pair of floats
    eps : float
        Outside the root.
    bias_correction : bool
    grad_averaging : bool
        False: weigh the gradient by 1 in m, not by :math:`1 - \beta_1`.
    trust_clip : float or None
        c: the largest trust ratio, 10 by default; 1 in timm's option, None for no limit (optax, Keras,
        and timm by default, which also clips the gradients: ``clip_norm=1.0`` in `step`).
    always_adapt : bool
        False: only tensors with weight decay have a trust ratio (timm's default).
    eps_root : float
        Inside the root.
    weight_decay_mode : {"direction", "decoupled", "independent", "l2"}
        "direction": as above; the others as for `SGD`. Keras decays "decoupled", timm by its ``decoupled_decay``
        too.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([3.0, 4.0])
    >>> opt = fo.optim.LAMB({"w": w}, lr=0.1, weight_decay=0.0, trust_clip=None)
    >>> opt.step({"w": np.array([1.0, 1.0])})
    >>> round(opt.trust_ratios["w"], 4)
    3.5355
    >>> w.round(4)
    array([2.6464, 3.6464])

    References
    ----------
    You et al., "Large batch optimization for deep learning: training BERT in 76 minutes" (2020), Algorithm 2.
    timm: ``Lamb``; optax: ``lamb``.
    """

    checks = {"weight_decay_mode": _decay_modes}  # noqa: RUF012

    def __init__(self, params: Params, lr: Number = 1e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-6,
                 weight_decay: Number = 1e-2, *, bias_correction: bool | str = True, grad_averaging: bool = True,
                 trust_clip: float | None = 10.0, always_adapt: bool = True, eps_root: Number = 0.0,
                 weight_decay_mode: str = "direction", maximize: bool = False, state_format: str = "float32",
                 state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                         bias_correction=bias_correction, grad_averaging=grad_averaging, trust_clip=trust_clip,
                         always_adapt=always_adapt, eps_root=eps_root, weight_decay_mode=weight_decay_mode,
                         maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "lamb"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta1, beta2 = h["betas"]
        grad_weight = 1.0 - beta1 if h["grad_averaging"] else 1.0
        unbiased1, unbiased2 = (1.0 - beta1**t, 1.0 - beta2**t) if h["bias_correction"] else (1.0, 1.0)
        correction = (1.0 / unbiased1, *root_correction(unbiased2, h["eps_root"]))
        return beta1, grad_weight, beta2, 1.0 - beta2, *correction, h["eps"], _in_direction(h), h["lr"], 1.0

    @classmethod
    def trust(cls, h: Hyperparameters) -> tuple[float, ...]:
        if not (h["always_adapt"] or h["weight_decay"]):
            return _NO_ADAPTATION
        return 1.0, 0.0, 0.0, 1.0, 0.0, math.inf if h["trust_clip"] is None else h["trust_clip"]


def _in_direction(h: Hyperparameters) -> float:
    return h["weight_decay"] if h["weight_decay_mode"] == "direction" else 0.0
