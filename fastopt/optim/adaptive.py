"""Step sizes from the history of squared gradients: AdaGrad, AdaDelta, RMSProp."""

from .adam import SMALLEST_NORMAL, check_eps
from .base import Optimizer
from .sgd import check_nesterov, look_ahead, with_lr
from .types import Hyperparameters, Number, Params

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class Adagrad(Optimizer):
    r"""AdaGrad: steps divided by the root of the sum of all squared gradients.

    .. math::
        s_t = s_{t-1} + g_t^2, \qquad
        \theta_t = \theta_{t-1} - \frac{\eta}{1 + (t - 1) \delta} \frac{g_t}{\sqrt{s_t + \epsilon'} + \epsilon}

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    lr_decay : float
        :math:`\delta`.
    initial_accumulator_value : float
        :math:`s_0`; 0.1 in Keras and optax.
    eps : float
        Outside the root.
    eps_root : float
        Inside the root; with eps=0 the form of Keras and optax.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.Adagrad(w, lr=0.1)
    >>> opt.step(2 * w)
    >>> w.round(6)
    array([ 0.9, -1.9])

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic optimization" (2011).
    PyTorch: ``torch.optim.Adagrad``.
    """

    def __init__(self, params: Params, lr: Number = 1e-2, lr_decay: Number = 0.0, weight_decay: Number = 0.0,
                 initial_accumulator_value: float = 0.0, eps: Number = 1e-10, *, eps_root: Number = 0.0,
                 weight_decay_mode: str = "l2", maximize: bool = False, state_format: str = "float32",
                 state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                         initial_accumulator_value=initial_accumulator_value, eps=eps, eps_root=eps_root,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        if h["initial_accumulator_value"] < SMALLEST_NORMAL:
            check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adagrad"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        return h["eps_root"], h["eps"], h["lr"] / (1.0 + (t - 1) * h["lr_decay"])

    @classmethod
    def initial_state(cls, h: Hyperparameters, key: str) -> float:
        return h["initial_accumulator_value"]


class Adadelta(Optimizer):
    r"""AdaDelta: steps in the ratio of the running sizes of past steps and gradients.

    .. math::
        v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \quad
        \Delta_t = \sqrt{\frac{u_{t-1} + \epsilon}{v_t + \epsilon}} g_t, \quad
        u_t = \rho u_{t-1} + (1 - \rho) \Delta_t^2, \quad \theta_t = \theta_{t-1} - \eta \Delta_t

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    rho : float
        In [0, 1].
    eps : float
        Inside both roots.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.Adadelta(w)
    >>> opt.step(2 * w)
    >>> w.round(6)
    array([ 0.996838, -1.996838])

    References
    ----------
    Zeiler, "ADADELTA: an adaptive learning rate method" (2012), Algorithm 1. PyTorch: ``torch.optim.Adadelta``.
    """

    def __init__(self, params: Params, lr: Number = 1.0, rho: Number = 0.9, eps: Number = 1e-6,
                 weight_decay: Number = 0.0, *, weight_decay_mode: str = "l2", maximize: bool = False,
                 state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adadelta"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        return h["rho"], 1.0 - h["rho"], h["eps"], h["lr"]


class RMSprop(Optimizer):
    r"""RMSProp: the gradient over the root of its running mean square, with momentum on the result.

    .. math::
        v_t = \alpha v_{t-1} + (1 - \alpha) g_t^2, \quad
        b_t = \mu b_{t-1} + \frac{g_t}{\sqrt{v_t + \epsilon'} + \epsilon}, \quad
        \theta_t = \theta_{t-1} - \eta b_t

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`.
    alpha : float
        In [0, 1].
    eps : float
        Outside the root.
    momentum : float
    centered : bool
        Take the square of the gradient's running mean from v, so that it is the variance.
    nesterov : bool
        Look ahead: :math:`\mu b_t` and this step's own term in place of :math:`b_t` (optax). Needs a momentum.
    eps_root : float
        Inside the root; with eps=0 the form of Keras, optax and timm.
    lr_in_buffer : bool
        Keep :math:`b_t = \mu b_{t-1} + \eta g_t / (\sqrt{v_t + \epsilon'} + \epsilon)` and take it from the parameter,
        which differs when the learning rate changes: the form of TensorFlow, Keras, optax and, by default, timm.
    initial_square_avg : float
        :math:`v_0`; 1 in timm, ``initial_scale`` in optax.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([1.0, -2.0])
    >>> opt = fo.optim.RMSprop(w, lr=0.01)
    >>> opt.step(2 * w)
    >>> w.round(6)
    array([ 0.9, -1.9])

    References
    ----------
    Tieleman & Hinton, "Lecture 6.5: rmsprop", Coursera (2012); Graves, "Generating sequences with recurrent neural
    networks" (2013), eq. 38-45. PyTorch: ``torch.optim.RMSprop``.
    """

    def __init__(self, params: Params, lr: Number = 1e-2, alpha: Number = 0.99, eps: Number = 1e-8,
                 weight_decay: Number = 0.0, momentum: Number = 0.0, centered: bool = False, *,
                 nesterov: bool = False, eps_root: Number = 0.0, initial_square_avg: float = 0.0,
                 lr_in_buffer: bool = False, weight_decay_mode: str = "l2", maximize: bool = False,
                 state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                         centered=centered, nesterov=nesterov, eps_root=eps_root,
                         initial_square_avg=initial_square_avg, lr_in_buffer=lr_in_buffer,
                         weight_decay_mode=weight_decay_mode, maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        check_eps(h)

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        check_nesterov(h)
        return "rmsprop" + "_centered" * h["centered"] + "_momentum" * (h["momentum"] != 0)

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        average = (h["alpha"], 1.0 - h["alpha"], h["eps_root"], h["eps"])
        if not rule.endswith("_momentum"):
            return *average, h["lr"]
        weights = (h["momentum"], 1.0, *look_ahead(h))
        return *average, *(with_lr(h, *weights) if h["lr_in_buffer"] else (*weights, h["lr"]))

    @classmethod
    def initial_state(cls, h: Hyperparameters, key: str) -> float:
        return h["initial_square_avg"] if key == "square_avg" else 0.0
