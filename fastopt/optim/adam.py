"""Adam and its kin."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from .._checks import one_of
from .base import Optimizer
from .hyperparameters import Group
from .momenta import Momenta, OfGroups, mu
from .types import Hyperparameters, Number, Pair, Params

__all__ = ["Adam", "AdamW", "NAdam"]

SMALLEST_NORMAL = 2.0**-126  # of float32


class Adam(Optimizer):
    r"""Adam: steps scaled by running averages of the gradient and of its square.

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad
        \theta_t = \theta_{t-1} - \eta \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t) + \epsilon'} + \epsilon}

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    betas : pair of floats
        The decay rates of the two averages, in [0, 1); each may be a schedule.
    eps : float
        Outside the root.
    amsgrad : bool or "corrected"
        Divide by the largest v so far, which is corrected then, as PyTorch and Keras do; "corrected": by the largest
        :math:`v_t / (1 - \beta_2^t)`, as optax does. Without correction of v they are the same.
    eps_root : float
        Inside the root (optax).
    eps_hat : bool
        Add eps before the bias correction: :math:`\eta \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) \cdot m_t /
        (\sqrt{v_t} + \epsilon)`, the form of Keras, ONNX and scikit-learn.
    bias_correction : bool or "exp_avg" or "exp_avg_sq"
        Of both averages, of none, or only of m or of v (optax's amsgrad with one of ``bias_correction_mu`` and
        ``bias_correction_nu``).

    Raises
    ------
    TypeError, ValueError
        As for `SGD`; and if eps and eps_root are both 0 in float32, as a zero gradient would then divide 0 by 0.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.Adam({"w": w}, lr=0.1)
    >>> opt.step({"w": 2 * w})
    >>> w.round(6)
    array([ 0.9, -1.9])

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1; Reddi et al., "On the convergence
    of Adam and beyond" (2018), Algorithm 2. PyTorch: ``torch.optim.Adam``.
    """

    def __init__(self, params: Params, lr: Number = 1e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-8,
                 weight_decay: Number = 0.0, amsgrad: bool | str = False, *, eps_root: Number = 0.0,
                 eps_hat: bool = False, bias_correction: bool | str = True, weight_decay_mode: str = "l2",
                 maximize: bool = False, state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic",
                 state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                         eps_root=eps_root, eps_hat=eps_hat, bias_correction=bias_correction,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    checks = {"bias_correction": one_of(False, True, "exp_avg", "exp_avg_sq")}  # noqa: RUF012

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adam_amsgrad" if h["amsgrad"] else "adam"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        return cls.scalars_by_step(rule, h)(t)

    @classmethod
    def scalars_by_step(cls, rule: str, h: Hyperparameters) -> Callable[[int], tuple[float, ...]]:
        (beta1, beta2), lr, eps, eps_root, eps_hat = h["betas"], h["lr"], h["eps"], h["eps_root"], h["eps_hat"]
        first = h["bias_correction"] in (True, "exp_avg")
        second = h["bias_correction"] in (True, "exp_avg_sq")
        corrected, amsgrad = h["amsgrad"] == "corrected", h["amsgrad"]
        averages = (beta1, 1.0 - beta1, beta2, 1.0 - beta2)

        def scalars(t: int) -> tuple[float, ...]:
            step_size, unbiased2 = lr, 1.0
            if first:
                step_size /= 1.0 - beta1**t
            if second:
                if eps_hat:
                    step_size *= math.sqrt(1.0 - beta2**t)
                else:
                    unbiased2 = 1.0 - beta2**t
            if corrected:
                return *averages, 1.0 / unbiased2, 1.0, eps_root, eps, step_size
            correction = root_correction(unbiased2, eps_root)
            if amsgrad:
                return *averages, 1.0, *correction, eps, step_size
            return *averages, *correction, eps, step_size

        return scalars


class AdamW(Adam):
    r"""Adam with decoupled weight decay: :math:`\theta \leftarrow \theta - \eta \lambda \theta` before Adam's update.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, eps_root, eps_hat, bias_correction, maximize,
    state_format, state_rounding, param_rounding, state_seed
        As for `Adam`.
    weight_decay : float
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
    >>> opt = fo.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    >>> opt.step([np.zeros(2)])
    >>> w
    array([ 0.95, -1.9 ])

    References
    ----------
    Loshchilov & Hutter, "Decoupled weight decay regularization" (2019), Algorithm 2. PyTorch: ``torch.optim.AdamW``.
    """

    def __init__(self, params: Params, lr: Number = 1e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-8,
                 weight_decay: Number = 1e-2, amsgrad: bool | str = False, *, eps_root: Number = 0.0,
                 eps_hat: bool = False, bias_correction: bool | str = True, weight_decay_mode: str = "decoupled",
                 maximize: bool = False, state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic",
                 state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, eps_root=eps_root, eps_hat=eps_hat,
                         bias_correction=bias_correction, weight_decay_mode=weight_decay_mode,
                         maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip


class NAdam(Optimizer):
    r"""Adam with Nesterov's look-ahead.

    .. math::
        \mu_t = \beta_1 \left(1 - \tfrac12 0.96^{t \psi}\right), \quad
        \hat m_t = \frac{\mu_{t+1} m_t}{1 - \prod_{i \le t+1} \mu_i}
        + \frac{(1 - \mu_t) g_t}{1 - \prod_{i \le t} \mu_i}, \quad
        \theta_t = \theta_{t-1} - \eta \frac{\hat m_t}{\sqrt{v_t / (1 - \beta_2^t) + \epsilon'} + \epsilon}

    with m and v as in `Adam` and the momentum decay :math:`\psi`.

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    betas, eps, eps_root
        As for `Adam`.
    momentum_decay : float or None
        1.0 in Keras; None leaves the schedule out, :math:`\mu_t = \beta_1`, as optax does.
    mu_product : {"float32", "float64", "beta1"}
        What the product of the :math:`\mu_i` is rounded to at every step: float32 in PyTorch, the parameters' type in
        Keras. "beta1": :math:`\beta_1^t` takes the place of both products, as in timm's ``NAdamW`` (with
        ``momentum_decay=None``). The product is computed from the step count and the schedules of betas and decay:
        each :math:`\mu_i` is that of its step, as in PyTorch, but setting these hyperparameters by hand changes all of
        them, from the first step on.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.NAdam(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w.round(4)
    array([ 0.8944, -1.8944])

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam" (2016), Algorithm 2. PyTorch: ``torch.optim.NAdam``.
    """

    def __init__(self, params: Params, lr: Number = 2e-3, betas: Pair = (0.9, 0.999), eps: Number = 1e-8,
                 weight_decay: Number = 0.0, momentum_decay: Number | None = 4e-3, *, mu_product: str = "float32",
                 eps_root: Number = 0.0, weight_decay_mode: str = "l2", maximize: bool = False,
                 state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
                         mu_product=mu_product, eps_root=eps_root, weight_decay_mode=weight_decay_mode,
                         maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip
        self._momenta = OfGroups(Momenta)

    def _at(self, group: Group, done: int, missed: int) -> Mapping[str, Any]:
        """With the product of all mu, too."""
        h = group.at(done)
        if h["mu_product"] == "beta1":
            return h
        return {**h, "product": self._momenta.of(group, missed).product(max(done - missed, 0) + 1)}

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "nadam"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        beta1, beta2 = h["betas"]
        lr, decay = h["lr"], h["momentum_decay"]
        now, ahead = mu(beta1, decay, t), mu(beta1, decay, t + 1)
        if h["mu_product"] == "beta1":
            unbiased = unbiased_ahead = 1.0 - beta1**t
        else:
            unbiased, unbiased_ahead = 1.0 - h["product"], 1.0 - h["product"] * ahead
        grad_step, avg_step = lr * (1.0 - now) / unbiased, lr * ahead / unbiased_ahead
        correction = root_correction(1.0 - beta2**t, h["eps_root"])
        return beta1, 1.0 - beta1, beta2, 1.0 - beta2, *correction, h["eps"], grad_step, avg_step


def root_correction(unbiased: float, eps_root: float) -> tuple[float, float]:
    """The bias correction outside a root, and what is then inside: not 0 if eps_root is not."""
    return 1.0 / math.sqrt(unbiased), max(eps_root * unbiased, SMALLEST_NORMAL) if eps_root else 0.0


def check_eps(h: Hyperparameters) -> None:
    """Without any epsilon, a parameter whose gradients have all been 0 would become 0 / 0."""
    eps = [h[name] for name in ("eps", "eps_root") if name in h]
    if not any(callable(e) or e >= SMALLEST_NORMAL for e in eps):
        raise ValueError(f"eps (or eps_root) must be at least {SMALLEST_NORMAL:g}, or 0 / 0 can occur, not {eps}")
