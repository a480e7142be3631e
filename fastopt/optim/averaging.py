"""Averages of the positions: ASGD."""

from .base import Optimizer
from .hyperparameters import not_negative
from .types import Hyperparameters, Number, Params

__all__ = ["ASGD"]


class ASGD(Optimizer):
    r"""Averaged stochastic gradient descent.

    .. math::
        \eta_t = \frac{\eta}{(1 + \lambda' \eta (t - 1))^\alpha}, \quad
        \theta_t = (1 - \lambda' \eta_t) \theta_{t-1} - \eta_t g_t, \quad
        a_t = a_{t-1} + \mu_t (\theta_t - a_{t-1}), \quad \mu_t = \frac{1}{\max(1, t - 1 - t_0)}

    The mean a of the positions after :math:`t_0` steps is in ``opt.state[name]["ax"]``.

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, param_rounding, state_seed
        As for `SGD`. A learning rate that changes does so at once here; PyTorch notices it one step later.
    lambd : float
        :math:`\lambda'`.
    alpha : float
        At least 0.
    t0 : float
        Averaging begins after so many steps.

    Raises
    ------
    TypeError, ValueError
        As for `SGD`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.ASGD(w, lr=0.1, lambd=0.0, t0=0)
    >>> for _ in range(3):
    ...     opt.step(2 * w)
    >>> w, opt.state["0"]["ax"]
    (array([ 0.512, -1.024]), array([ 0.576, -1.152]))

    References
    ----------
    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging" (1992); Bottou, "Large-scale machine
    learning with stochastic gradient descent" (2010). PyTorch: ``torch.optim.ASGD``.
    """

    checks = {"alpha": not_negative}  # noqa: RUF012

    def __init__(self, params: Params, lr: Number = 1e-2, lambd: Number = 1e-4, alpha: Number = 0.75,
                 t0: Number = 1e6, weight_decay: Number = 0.0, *, weight_decay_mode: str = "l2",
                 maximize: bool = False, param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "asgd"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        eta, mu = h["rate_and_weight"] if "rate_and_weight" in h else rate_and_weight(h, t)
        return 1.0 - h["lambd"] * eta, eta, mu


def rate_and_weight(h: Hyperparameters, t: int) -> tuple[float, float]:
    """ASGD's learning rate in step t, and the weight of the position in the mean."""
    return h["lr"] * (1.0 + h["lambd"] * h["lr"] * (t - 1)) ** -h["alpha"], 1.0 / max(1.0, t - 1 - h["t0"])
