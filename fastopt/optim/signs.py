"""Steps by the sign of the gradient: Lion, Rprop."""

from .base import Optimizer
from .types import Hyperparameters, Number, Pair, Params

__all__ = ["Lion", "Rprop"]


class Lion(Optimizer):
    r"""The sign of an average of gradient and momentum: every element moves by the learning rate.

    .. math::
        \theta_t = \theta_{t-1} - \eta \operatorname{sign}(\beta_1 m_{t-1} + (1 - \beta_1) g_t), \quad
        m_t = \beta_2 m_{t-1} + (1 - \beta_2) g_t

    Parameters
    ----------
    params, lr, weight_decay, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`. The learning rate is commonly a third to a tenth of that of `AdamW`, weight decay as many times
        as large.
    betas : pair of floats
        In [0, 1); each may be a schedule.
    weight_decay_mode : {"decoupled", "independent", "l2"}
        As for `SGD`, but decoupled by default.

    Raises
    ------
    TypeError, ValueError
        As for `SGD`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.Lion(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w
    array([ 0.9, -1.9])

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms" (2023), Algorithm 2. The authors' ``Lion``; optax:
    ``lion``; Keras: ``Lion``.
    """

    def __init__(self, params: Params, lr: Number = 1e-4, betas: Pair = (0.9, 0.99), weight_decay: Number = 0.0, *,
                 weight_decay_mode: str = "decoupled", maximize: bool = False, state_format: str = "float32",
                 state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "lion"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta1, beta2 = h["betas"]
        return beta1, 1.0 - beta1, beta2, 1.0 - beta2, h["lr"]


class Rprop(Optimizer):
    r"""Resilient backpropagation: a step size of each element's own, which only signs of gradients change.

    .. math::
        \Delta_t = \begin{cases}
        \min(\eta_+ \Delta_{t-1}, \Delta_{max}) & \text{if } g_t g_{t-1} > 0 \\
        \max(\eta_- \Delta_{t-1}, \Delta_{min}) & \text{if } g_t g_{t-1} < 0 \text{, and then } g_t = 0 \\
        \Delta_{t-1} & \text{otherwise,}
        \end{cases} \qquad
        \theta_t = \theta_{t-1} - \Delta_t \operatorname{sign}(g_t)

    For whole data sets: between batches, signs change by chance.

    Parameters
    ----------
    params, weight_decay, weight_decay_mode, maximize, param_rounding, state_seed
        As for `SGD`. PyTorch's has no weight decay.
    lr : float or callable
        :math:`\Delta_0`; the rate of later steps matters to decoupled weight decay only.
    etas : pair of floats
        :math:`\eta_-` in (0, 1) and :math:`\eta_+` above 1.
    step_sizes : pair of floats
        :math:`\Delta_{min}` and :math:`\Delta_{max}`.

    Raises
    ------
    TypeError, ValueError
        As for `SGD`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.Rprop(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> opt.step(2 * w)
    >>> w
    array([ 0.78, -1.78])

    References
    ----------
    Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm" (1993);
    without its backtracking, as in Igel & Huesken, "Improving the Rprop learning algorithm" (2000). PyTorch:
    ``torch.optim.Rprop``.
    """

    def __init__(self, params: Params, lr: Number = 1e-2, etas: Pair = (0.5, 1.2), step_sizes: Pair = (1e-6, 50.0), *,
                 weight_decay: Number = 0.0, weight_decay_mode: str = "l2", maximize: bool = False,
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, etas=etas, step_sizes=step_sizes, weight_decay=weight_decay,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        known = (0.5, 1.2) if callable(h["etas"]) else h["etas"]
        if not 0.0 < known[0] < 1.0 < known[1]:
            raise ValueError(f"etas must be below and above 1, the first above 0, not {h['etas']}")
        if not callable(h["step_sizes"]) and h["step_sizes"][0] > h["step_sizes"][1]:
            raise ValueError(f"step_sizes must be the smallest and the largest, not {h['step_sizes']}")

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "rprop"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        return *h["etas"], *h["step_sizes"]

    @classmethod
    def initial_state(cls, h: Hyperparameters, key: str) -> float:
        return (h["lr"](0) if callable(h["lr"]) else h["lr"]) if key == "step_size" else 0.0
