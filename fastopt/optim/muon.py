"""Muon: momentum, made orthogonal."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .._checks import one_of
from .adam import AdamW
from .base import Optimizer
from .hyperparameters import Group
from .types import Hyperparameters, Number, Pair, Params

__all__ = ["Muon", "muon_groups"]

_ADAM = {"amsgrad": False, "bias_correction": True, "eps_hat": False, "eps_root": 0.0}
_LARGEST = 2.0**20  # of singular values within the iteration


class Muon(Optimizer):
    r"""Momentum, made orthogonal: of a weight matrix every singular direction moves alike.

    .. math::
        B_t = \mu B_{t-1} + (1 - \mu) G_t, \quad O_t = \text{NewtonSchulz}(\mu B_t + (1 - \mu) G_t), \quad
        \theta_t = \theta_{t-1} - \eta \rho O_t

    where, from :math:`X = D / \max(\|D\|, \epsilon)` on, every iteration makes of X

    .. math::
        a X + (b X X^T + c (X X^T)^2) X

    in the parameter's own type, by fastopt's matrix products (PyTorch: in bfloat16). :math:`\rho` is
    :math:`\sqrt{\max(1, \text{rows} / \text{columns})}`, or :math:`0.2 \sqrt{\max(\text{rows}, \text{columns})}`.

    For the weights of hidden layers. Other parameters, also the first and last layer's, are for `AdamW`, which a group
    with ``use_muon=False`` is given; `muon_groups` makes these groups.

    Parameters
    ----------
    params, lr, maximize, state_format, state_rounding, param_rounding, state_seed
        As for `SGD`; arrays of two dimensions.
    weight_decay : float
    momentum : float
    nesterov : bool
        False: :math:`D = B_t`.
    ns_coefficients : three floats
        a, b, c; fixed once the optimizer is made, as is the number of iterations. They must not let singular values
        grow without bound.
    eps : float
    ns_steps : int
        The number of iterations, less than 100.
    adjust_lr_fn : {None, "original", "match_rms_adamw"}
        The first :math:`\rho` (None or "original"), or the second, for learning rate and decay as with `AdamW`.
    use_muon : bool
        False: the group's parameters, of any shape, take the steps of `AdamW` with its ``betas``, ``eps``, ``lr`` and
        ``weight_decay``.
    betas : pair of floats
        Of `AdamW`.
    weight_decay_mode : {"decoupled", "independent", "l2"}
        As for `SGD`, but decoupled by default.

    Raises
    ------
    TypeError, ValueError
        As for `SGD`; and if a parameter is no matrix.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.eye(2)
    >>> opt = fo.optim.Muon({"w": w}, lr=0.1, weight_decay=0.0)
    >>> opt.step({"w": np.array([[3.0, 0.0], [0.0, 0.1]])})
    >>> w.round(3)
    array([[0.93 , 0.   ],
           [0.   , 0.887]])

    References
    ----------
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); Liu et al., "Muon is scalable for
    LLM training" (2025). PyTorch: ``torch.optim.Muon``.
    """

    checks: ClassVar = {
        "weight_decay_mode": one_of("decoupled", "independent", "l2"),
    }

    def __init__(self, params: Params, lr: Number = 1e-3, weight_decay: Number = 0.1, momentum: Number = 0.95,
                 nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
                 eps: Number = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None, *, use_muon: bool = True,
                 betas: Pair = (0.9, 0.999), weight_decay_mode: str = "decoupled", maximize: bool = False,
                 state_format: str = "float32", state_rounding: str = "stochastic",
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
                         ns_coefficients=ns_coefficients, eps=eps, ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn,
                         use_muon=use_muon, betas=betas, weight_decay_mode=weight_decay_mode,
                         maximize=maximize,
                         state_format=state_format, state_rounding=state_rounding,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    def _new_state(self, param: np.ndarray, group: Group, rule: str) -> Mapping[str, Any]:
        if group["use_muon"] and param.ndim != 2:
            raise ValueError(
                f"Muon is for matrices, and one of {', '.join(group.names)} has shape {param.shape}: give it a group"
                " with use_muon=False (fastopt.optim.muon_groups makes the groups)"
            )
        return super()._new_state(param, group, rule)

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        AdamW.check(h)
        if not diverges(h["ns_coefficients"], h["ns_steps"]):
            return
        raise ValueError(f"with ns_coefficients {h['ns_coefficients']} singular values grow in {h['ns_steps']} steps")

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "muon" if h["use_muon"] else "adam"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        if rule == "adam":
            return AdamW.scalars(rule, {**h, **_ADAM}, t)
        momentum = h["momentum"]
        direction = (1.0 - momentum, momentum) if h["nesterov"] else (0.0, 1.0)
        weights = (0.0, 0.2) if h["adjust_lr_fn"] == "match_rms_adamw" else (1.0, 0.0)
        steps = float(h["ns_steps"])
        return momentum, 1.0 - momentum, *direction, *h["ns_coefficients"], h["eps"], steps, *weights, h["lr"]


def diverges(coefficients: tuple[float, float, float], steps: int) -> bool:
    """Whether a singular value of at most 1 can grow beyond measure in so many iterations of a s + b s^3 + c s^5."""
    a, b, c = coefficients
    bound = 1.0
    for _ in range(steps):
        # largest where the derivative a + 3 b s^2 + 5 c s^4 is 0, or at the end
        inside = [r.real for r in np.roots([5.0 * c, 3.0 * b, a]) if abs(r.imag) < 1e-12 and 0.0 < r.real < bound**2]
        bound = max(abs(s * (a + b * s**2 + c * s**4)) for s in (bound, *map(math.sqrt, inside)))
        bound *= 1.0 + 2.0**-10  # rounding
        if not bound < _LARGEST:
            return True
    return False


def muon_groups(params: Mapping[str, np.ndarray], **others: Any) -> list[dict[str, Any]]:
    """The two groups of `Muon`: the matrices, and what is for `AdamW`.

    Parameters
    ----------
    params : dict of arrays
        For instance ``model.parameters()``.
    **others
        Hyperparameters of the second group beside ``use_muon=False``: commonly a smaller ``lr``.
        ``names``: also the parameters called so belong there, such as the first and the last layer's weights.

    Returns
    -------
    list of dict
        What `Muon` takes as ``params``; its steps then take one dict of gradients with all names.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> params = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
    >>> opt = fo.optim.Muon(fo.optim.muon_groups(params, lr=3e-4), lr=0.02)
    >>> [(group.names, group["lr"], group["use_muon"]) for group in opt.groups]
    [(('weight',), 0.02, True), (('bias',), 0.0003, False)]
    """
    named = set(others.pop("names", ()))
    if unknown := named - params.keys():
        raise ValueError(f"there are no parameters {', '.join(sorted(map(repr, unknown)))}")
    matrices = {name: param for name, param in params.items() if param.ndim == 2 and name not in named}
    rest = {name: param for name, param in params.items() if name not in matrices}
    return [{"params": matrices}, {"params": rest, "use_muon": False, **others}]
