"""Other means of the gradient's history than Adam's: Adamax, RAdam, AdaBelief, Adan."""

import math

from .._checks import one_of
from .adam import check_eps, root_correction
from .base import Optimizer
from .hyperparameters import numbers
from .types import Hyperparameters, Number, Pair, Params, Triple

__all__ = ["AdaBelief", "Adamax", "Adan", "RAdam"]


class Adamax(Optimizer):
    r"""Adam with the largest gradient, decayed, in place of the root of the mean square.

    .. math::
        u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \quad
        \theta_t = \theta_{t-1} - \frac{\eta}{1 - \beta_1^t} \frac{m_t}{u_t}

    with m as in `Adam`.

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    betas, eps
        As for `Adam`.
    eps_outside : bool
        Add eps to :math:`u_t` where it divides, and not to the gradient: the form of Keras.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.Adamax(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w.round(6)
    array([ 0.9, -1.9])

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 2. PyTorch: ``torch.optim.Adamax``.
    """

    def __init__(self, params: Params, lr: Number = 2e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-8,
                 weight_decay: Number = 0.0, *, eps_outside: bool = False, weight_decay_mode: str = "l2",
                 maximize: bool = False, state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic",
                 state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, eps_outside=eps_outside,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adamax"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta1, beta2 = h["betas"]
        inside, outside = (0.0, 1.0) if h["eps_outside"] else (1.0, 0.0)
        return beta1, 1.0 - beta1, beta2, inside, outside, h["eps"], h["lr"] / (1.0 - beta1**t)


class RAdam(Optimizer):
    r"""Adam whose steps are rectified: small for as long as the second moment is known from few gradients only.

    .. math::
        \rho_\infty = \frac{2}{1 - \beta_2} - 1, \quad \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t}, \quad
        r_t = \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}

    .. math::
        \theta_t = \theta_{t-1} - \eta r_t \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m_t}{\sqrt{v_t} + \epsilon}
        \quad\text{if } \rho_t > 5, \text{ else}\quad
        \theta_t = \theta_{t-1} - \eta \frac{m_t}{1 - \beta_1^t}

    with m and v as in `Adam`.

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`; PyTorch's ``decoupled_weight_decay=True`` is ``weight_decay_mode="decoupled"``.
    betas, eps
        As for `Adam`.
    eps_hat : bool
        As for `Adam`, but True by default; False in optax.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.RAdam(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w
    array([ 0.8, -1.6])

    References
    ----------
    Liu et al., "On the variance of the adaptive learning rate and beyond" (2020), Algorithm 2. PyTorch:
    ``torch.optim.RAdam``.
    """

    def __init__(self, params: Params, lr: Number = 1e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-8,
                 weight_decay: Number = 0.0, *, eps_hat: bool = True, weight_decay_mode: str = "l2",
                 maximize: bool = False, state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic",
                 state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, eps_hat=eps_hat,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "radam"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta1, beta2 = h["betas"]
        correction, *steps = rectified_steps(h, t, h["eps_hat"])
        return beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction, h["eps"], *steps


class AdaBelief(Optimizer):
    r"""Adam by the belief in a gradient: steps divided by its distance from what was expected, and not by its size.

    .. math::
        s_t = \beta_2 s_{t-1} + (1 - \beta_2) (g_t - m_t)^2 + \epsilon', \quad
        \theta_t = \theta_{t-1} - \eta \frac{m_t / (1 - \beta_1^t)}{\sqrt{s_t / (1 - \beta_2^t)} + \epsilon}

    with m as in `Adam`; rectified, as in `RAdam` with s in place of v.

    Parameters
    ----------
    params, lr, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    betas : pair of floats
        As for `Adam`.
    eps : float
        Outside the root.
    weight_decay : float
    eps_root : float
        Added to s in every step. The authors' code has one number for both.
    rectify : bool
        False in the paper and in optax; True in the authors' code and in timm.
    weight_decay_mode : {"decoupled", "independent", "l2"}
        As for `SGD`, but decoupled by default.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.AdaBelief(w, lr=0.1, rectify=False)
    >>> opt.step(2 * w)
    >>> w.round(4)
    array([ 0.8889, -1.8889])

    References
    ----------
    Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients" (2020), Algorithm 2.
    The authors' ``adabelief_pytorch``; optax: ``adabelief``; timm: ``AdaBelief``.
    """

    def __init__(self, params: Params, lr: Number = 1e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-16,
                 weight_decay: Number = 0.0, *, eps_root: Number = 1e-16, rectify: bool = True,
                 weight_decay_mode: str = "decoupled", maximize: bool = False, state_format: str = "float32",
                 state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, eps_root=eps_root,
                         rectify=rectify, weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adabelief"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta1, beta2 = h["betas"]
        if h["rectify"]:
            correction, *steps = rectified_steps(h, t, eps_hat=True)
        else:
            step = h["lr"] / (1.0 - beta1**t)
            correction, *steps = 1.0 / math.sqrt(1.0 - beta2**t), 0.0, step
        return beta1, 1.0 - beta1, beta2, 1.0 - beta2, h["eps_root"], correction, h["eps"], *steps


class Adan(Optimizer):
    r"""Adam with Nesterov's look-ahead by the difference of the last two gradients.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad
        d_t = \beta_2 d_{t-1} + (1 - \beta_2) (g_t - g_{t-1}), \\
        n_t &= \beta_3 n_{t-1} + (1 - \beta_3) (g_t + \beta_2 (g_t - g_{t-1}))^2, \\
        \theta_t &= \frac{1}{1 + \eta \lambda} \left(\theta_{t-1} - \eta
        \frac{m_t / (1 - \beta_1^t) + \beta_2 d_t / (1 - \beta_2^t)}
        {\sqrt{n_t / (1 - \beta_3^t) + \epsilon'} + \epsilon}\right)

    The first step takes 0 for the difference.

    Parameters
    ----------
    params, lr, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    betas : three floats
        In [0, 1); the paper's are 1 minus these. Each may be a schedule.
    eps : float
        Outside the root.
    weight_decay : float
        :math:`\lambda`.
    eps_root : float
        Inside the root.
    weight_decay_mode : {"proximal", "decoupled", "independent", "l2"}
        "proximal": divide by :math:`1 + \eta\lambda` after the update, as above; "decoupled" is the authors'
        ``no_prox=True``; the others as for `SGD`.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.Adan(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w.round(6)
    array([ 0.9, -1.9])

    References
    ----------
    Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models" (2024), Algorithm 1. The
    authors' ``Adan``; timm: ``Adan``.
    """

    checks = {  # noqa: RUF012
        "betas": numbers(3),
        "weight_decay_mode": one_of("proximal", "decoupled", "independent", "l2"),
    }

    def __init__(self, params: Params, lr: Number = 1e-3, betas: Triple = (0.98, 0.92, 0.99), eps: Number = 1e-8,
                 weight_decay: Number = 0.0, *, eps_root: Number = 0.0, weight_decay_mode: str = "proximal",
                 maximize: bool = False, state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic",
                 state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, eps_root=eps_root,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adan"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta1, beta2, beta3 = h["betas"]
        averages = (beta1, 1.0 - beta1, beta2, 1.0 - beta2, beta3, 1.0 - beta3, 0.0 if t == 1 else 1.0)
        correction3, eps_root = root_correction(1.0 - beta3**t, h["eps_root"])
        steps = h["lr"] / (1.0 - beta1**t), h["lr"] * beta2 / (1.0 - beta2**t)
        shrink = 1.0 / (1.0 + h["lr"] * h["weight_decay"]) if h["weight_decay_mode"] == "proximal" else 1.0
        return *averages, eps_root, correction3, h["eps"], *steps, shrink


def rectified_steps(h: Hyperparameters, t: int, eps_hat: bool) -> tuple[float, ...]:
    """RAdam's bias correction of the root, and its step sizes: of the momentum, and of Adam's direction.

    One of the latter is 0.
    """
    beta1, beta2 = h["betas"]
    step, unbiased = h["lr"] / (1.0 - beta1**t), 1.0 - beta2**t
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * t * beta2**t / unbiased
    if not length > 5.0:
        return 1.0, step, 0.0
    step *= math.sqrt((length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length))
    return (1.0, 0.0, step * math.sqrt(unbiased)) if eps_hat else (1.0 / math.sqrt(unbiased), 0.0, step)
