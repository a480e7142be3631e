"""The optimizers. Each class says which rule of ``fastopt.rules`` its options ask for, and finishes its scalars.

Names, defaults and results are those of ``torch.optim`` where that has the optimizer.
"""

from ._optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


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
        What to update in place: float32 or float64, C-contiguous, writeable. A group is a dict with the arrays
        under ``"params"`` and hyperparameters of its own beside them.
    lr : float or callable
        The learning rate. A callable is given the number of steps done and returns the rate of the next; so may
        any other number below be given.
    momentum : float
    dampening : float
    weight_decay : float
    nesterov : bool
        Needs a momentum and no dampening.
    weight_decay_mode : {"l2", "decoupled", "independent"}
        Add :math:`\lambda\theta` to the gradient; or take :math:`\eta\lambda\theta`, or :math:`\lambda\theta`,
        from the parameter before the update.
    maximize : bool
        Ascend instead.

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

    def __init__(self, params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, *,
                 weight_decay_mode="l2", maximize=False):  # fmt: skip
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov, weight_decay_mode=weight_decay_mode, maximize=maximize)  # fmt: skip

    @classmethod
    def rule(cls, h):
        if h["nesterov"] and (h["momentum"] == 0 or h["dampening"] != 0):
            raise ValueError(f"nesterov needs momentum > 0 and dampening = 0, not {h['momentum']} and {h['dampening']}")
        return "sgd" if h["momentum"] == 0 else "momentum"

    @classmethod
    def scalars(cls, h, t):
        momentum = h["momentum"]
        if momentum == 0:
            return (h["lr"],)
        grad_weight = 1.0 if t == 1 else 1.0 - h["dampening"]
        return momentum, grad_weight, *((1.0, momentum) if h["nesterov"] else (0.0, 1.0)), h["lr"]


class Adam(Optimizer):
    r"""Adam: steps scaled by running averages of the gradient and of its square.

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad
        \theta_t = \theta_{t-1} - \eta \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    params, lr, weight_decay, weight_decay_mode, maximize
        As for `SGD`.
    betas : pair of floats
        The decay rates of the two averages, in [0, 1).
    eps : float

    Raises
    ------
    TypeError, ValueError
        As for `SGD`.

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
    Kingma & Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1. PyTorch: ``torch.optim.Adam``.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, *,
                 weight_decay_mode="l2", maximize=False):  # fmt: skip
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                         weight_decay_mode=weight_decay_mode, maximize=maximize)  # fmt: skip

    @classmethod
    def rule(cls, h):
        return "adam"

    @classmethod
    def scalars(cls, h, t):
        beta1, beta2 = h["betas"]
        correction1, correction2 = 1.0 - beta1**t, 1.0 - beta2**t
        return beta1, 1.0 - beta1, beta2, 1.0 - beta2, 1.0 / correction2, 0.0, h["eps"], h["lr"] / correction1


class AdamW(Adam):
    r"""Adam with decoupled weight decay: :math:`\theta \leftarrow \theta - \eta \lambda \theta` before Adam's update.

    Parameters
    ----------
    params, lr, betas, eps, maximize
        As for `Adam`.
    weight_decay : float
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
    >>> opt = fo.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    >>> opt.step([np.zeros(2)])
    >>> w
    array([ 0.95, -1.9 ])

    References
    ----------
    Loshchilov & Hutter, "Decoupled weight decay regularization" (2019), Algorithm 2. PyTorch: ``torch.optim.AdamW``.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, *,
                 weight_decay_mode="decoupled", maximize=False):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, weight_decay_mode=weight_decay_mode, maximize=maximize)
