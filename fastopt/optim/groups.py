"""Parameter groups."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def decay_groups(params: Mapping[str, np.ndarray], **without_decay: Any) -> list[dict[str, Any]]:
    """Two groups: what weight decay is for, and what it is not for: biases and the parameters of norms.

    The latter are the arrays of fewer than two dimensions.

    Parameters
    ----------
    params : dict of arrays
        For instance ``model.parameters()``.
    **without_decay
        Further hyperparameters of the second group, beside ``weight_decay=0``; for LARS and LAMB commonly
        ``always_adapt=False``.

    Returns
    -------
    list of dict
        What an optimizer takes as ``params``; its steps then take one dict of gradients with all names.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> params = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
    >>> opt = fo.optim.AdamW(fo.optim.decay_groups(params), lr=0.1, weight_decay=0.5)
    >>> opt.step({"weight": np.zeros((2, 2)), "bias": np.zeros(2)})
    >>> params["weight"][0, 0], params["bias"][0]
    (np.float64(0.95), np.float64(1.0))
    """
    decayed = {name: param for name, param in params.items() if param.ndim >= 2}
    others = {name: param for name, param in params.items() if param.ndim < 2}
    return [{"params": decayed}, {"params": others, "weight_decay": 0.0, **without_decay}]
