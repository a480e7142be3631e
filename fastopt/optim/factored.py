"""Adafactor: the second moment of a matrix by its rows and columns."""

import math
import sys
from typing import Any, ClassVar

import numpy as np

from .._checks import a_number
from .adam import SMALLEST_NORMAL
from .base import Optimizer
from .types import Hyperparameters, Number, Params

__all__ = ["Adafactor"]


def _eps_pair(name: str, value: Any) -> tuple[float | None, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers, of which the first may be None, not {value!r}")
    first, second = value
    return None if first is None else a_number(f"{name}[0]", first, 0), a_number(f"{name}[1]", second, 0)


class Adafactor(Optimizer):
    r"""Adam's denominator in less memory: of a matrix, only the mean squares of rows and columns are kept.

    .. math::
        r_t = \beta_t r_{t-1} + (1 - \beta_t) \operatorname{mean}_\text{columns} g_t^2, \quad
        c_t = \beta_t c_{t-1} + (1 - \beta_t) \operatorname{mean}_\text{rows} g_t^2, \quad
        v_t = \frac{r_t c_t}{\max(\operatorname{mean} r_t, \epsilon_1)}

    .. math::
        u_t = \frac{g_t}{\max(\sqrt{v_t}, \epsilon_1)}, \quad
        \theta_t = \theta_{t-1} - \min(\eta, 1 / \sqrt{t})
        \frac{\max(\epsilon_2, \operatorname{RMS}(\theta_{t-1}))}{\max(1, \operatorname{RMS}(u_t) / d)} u_t

    with :math:`\beta_t = 1 - t^\tau` and :math:`\operatorname{RMS}(x) = \|x\| / \sqrt{n}`. Arrays of more than two
    dimensions are matrices of the last two; what has fewer, such as a bias, keeps :math:`v_t` itself:
    :math:`v_t = \beta_t v_{t-1} + (1 - \beta_t) g_t^2`.

    Parameters
    ----------
    params, lr, maximize, param_rounding, state_seed
        As for `SGD`. The learning rate is relative to the parameter's size.
    beta2_decay : float
        :math:`\tau`, at most 0.
    eps : pair of floats
        :math:`\epsilon_1`, which None makes the resolution of the parameter's type, and :math:`\epsilon_2`.
    d : float
        From which root mean square on a step is clipped; at least 1.
    weight_decay : float
    factored : bool
        False: matrices keep :math:`v_t`, too.
    weight_decay_mode : {"decoupled", "independent", "l2"}
        As for `SGD`, but decoupled by default.

    Raises
    ------
    TypeError, ValueError
        As for `Adam`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = np.array([[1.0, -2.0], [3.0, 0.5]])
    >>> opt = fo.optim.Adafactor({"w": w}, lr=0.1)
    >>> opt.step({"w": 2 * w})
    >>> w.round(4)
    array([[ 0.9044, -1.7067],
           [ 2.7892,  0.4461]])
    >>> opt.state["w"]["row_var"].shape, opt.state["w"]["col_var"].shape
    ((2, 1), (1, 2))

    References
    ----------
    Shazeer & Stern, "Adafactor: adaptive learning rates with sublinear memory cost" (2018), Algorithms 4 and 5.
    PyTorch: ``torch.optim.Adafactor``.
    """

    checks: ClassVar = {"eps": _eps_pair}

    def __init__(self, params: Params, lr: Number = 1e-2, beta2_decay: Number = -0.8,
                 eps: tuple[Number | None, Number] = (None, 1e-3), d: Number = 1.0, weight_decay: Number = 0.0, *,
                 factored: bool = True, weight_decay_mode: str = "decoupled", maximize: bool = False,
                 param_rounding: str = "stochastic", state_seed: int = 0):  # fmt: skip
        super().__init__(params, lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay,
                         factored=factored, weight_decay_mode=weight_decay_mode, maximize=maximize,
                         param_rounding=param_rounding, state_seed=state_seed)  # fmt: skip

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        first = h["eps"][0]
        if not callable(first) and first is not None and first < SMALLEST_NORMAL:
            raise ValueError(f"eps[0] must be at least {SMALLEST_NORMAL}, or None, not {first}: it divides")

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        return "adafactor" if h["factored"] else "adafactor_unfactored"

    @classmethod
    def rules(cls, h: Hyperparameters) -> tuple[str, ...]:
        return ("adafactor", "adafactor_unfactored") if h["factored"] else ("adafactor_unfactored",)

    @classmethod
    def rule_of_tensor(cls, h: Hyperparameters, shape: tuple[int, ...]) -> str:
        return cls.rule(h) if len(shape) > 1 else "adafactor_unfactored"

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        first, second = h["eps"]
        resolutions = (_RESOLUTION, sys.float_info.epsilon) if first is None else (first, first)
        new = float(t) ** h["beta2_decay"]
        return 1.0 - new, new, *resolutions, second, h["d"], min(h["lr"], 1.0 / math.sqrt(t))


_RESOLUTION = float(np.finfo(np.float32).eps)
