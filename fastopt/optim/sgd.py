"""Gradient descent, with momentum and Nesterov's momentum."""

from .base import Optimizer
from .types import Hyperparameters, Number, Params

__all__ = ["SGD"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum or Nesterov's momentum.

    .. math::
        v_t = \mu v_{t-1} + (1 - d) g_t, \qquad
        \theta_t = \theta_{t-1} - \eta v_t \quad\text{or, Nesterov,}\quad
        \theta_t = \theta_{t-1} - \eta (g_t + \mu v_t)

    with :math:`v_1 = g_1`, learning rate :math:`\eta`, momentum :math:`\mu` and dampening :math:`d`.

    Parameters
    ----------
    params : array, list or dict of arrays, or list of groups
        What to update in place: float32, float64 or the bfloat16 of ``ml_dtypes``, C-contiguous, writeable. A group
        is a dict with the arrays under ``"params"`` and hyperparameters of its own beside them.
    lr : float or callable
        The learning rate. A callable is given the number of steps done and returns the rate of the next; so may
        any other number below be given.
    momentum : float
    dampening : float
    weight_decay : float
    nesterov : bool
        Look ahead: needs a momentum and no dampening.
    lr_in_buffer : bool
        Keep :math:`v_t = \mu v_{t-1} - \eta g_t` and add it to the parameter, which differs when the learning
        rate changes: the form of Sutskever et al., Keras and scikit-learn (not of optax).
    weight_decay_mode : {"l2", "decoupled", "independent"}
        Add :math:`\lambda\theta` to the gradient; or take :math:`\eta\lambda\theta`, or :math:`\lambda\theta`,
        from the parameter before the update.
    maximize : bool
        Ascend instead.
    state_format : {"float32", "bfloat16", "8bit"}
        How moments (here the buffer of momentum) are kept, of parameters of float32: as they are, in 16 bits, or in 8
        bits with a scale for every 256 elements, of tensors with at least 4096. Updates are computed in float32.
    state_rounding : {"stochastic", "nearest"}
        Of bfloat16: up or down by chance, right in the mean, so that small changes are not lost; or to nearest.
    param_rounding : {"stochastic", "kahan", "nearest"}
        Of parameters of bfloat16, whose updates are computed in float32, too: up or down by chance, right in the mean;
        or to nearest, what that cuts off being kept in the state (``"kahan_comp"``, another 2 bytes) and added before
        the next update; or to nearest, by which updates of less than a 256th or so of the parameter are lost.
    state_seed : int
        Of the random numbers for both, which follow from it, the step and the element's place among all parameters.

    Raises
    ------
    TypeError, ValueError
        If an array cannot be updated in place, two overlap, or a hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.SGD(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w
    array([ 0.8, -1.6])

    References
    ----------
    Polyak, "Some methods of speeding up the convergence of iteration methods" (1964); Sutskever et al., "On the
    importance of initialization and momentum in deep learning" (2013). PyTorch: ``torch.optim.SGD``.
    """

    def __init__(self, params: Params, lr: Number = 1e-3, momentum: Number = 0.0, dampening: Number = 0.0,
                 weight_decay: Number = 0.0, nesterov: bool = False, *, lr_in_buffer: bool = False,
                 weight_decay_mode: str = "l2", maximize: bool = False, state_format: str = "float32",
                 state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov, lr_in_buffer=lr_in_buffer, weight_decay_mode=weight_decay_mode,
                         maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        check_nesterov(h)
        check_lr_in_buffer(h)
        return "sgd" if h["momentum"] == 0 else "momentum"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        lr, momentum = h["lr"], h["momentum"]
        if rule == "sgd":
            return (lr,)
        if h["lr_in_buffer"]:
            return momentum, -lr, *((-lr, momentum) if h["nesterov"] else (0.0, 1.0)), -1.0
        return momentum, first_undamped(h, t), *look_ahead(h), lr


def check_nesterov(h: Hyperparameters) -> None:
    """Nesterov's momentum is defined with momentum and without dampening."""
    if h["nesterov"] and (h["momentum"] == 0 or h.get("dampening", 0) != 0):
        raise ValueError(
            f"nesterov needs momentum > 0 and dampening = 0, not {h['momentum']} and {h.get('dampening', 0)}"
        )


def check_lr_in_buffer(h: Hyperparameters) -> None:
    """Nobody has defined dampening there."""
    if h["lr_in_buffer"] and h["dampening"] != 0:
        raise ValueError(f"lr_in_buffer has no dampening, so dampening must be 0, not {h['dampening']}")


def with_lr(
    h: Hyperparameters, momentum: float, into_buffer: float, directly: float, from_buffer: float
) -> tuple[float, ...]:
    """The weights of a step with momentum, and 1 as its learning rate, which is in the buffer already."""
    return momentum, h["lr"] * into_buffer, h["lr"] * directly, from_buffer, 1.0


def first_undamped(h: Hyperparameters, t: int) -> float:
    """The weight of a gradient in the buffer: the first one, and any without momentum, becomes it as it is."""
    return 1.0 if t == 1 or h["momentum"] == 0 else 1.0 - h["dampening"]


def look_ahead(h: Hyperparameters) -> tuple[float, float]:
    """The weights of the gradient and of the buffer in the update."""
    return (1.0, h["momentum"]) if h["nesterov"] else (0.0, 1.0)
