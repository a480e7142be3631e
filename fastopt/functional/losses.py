"""Losses: value and gradient in one pass."""

from typing import Literal, overload

import numpy as np

from .. import _backends
from ._arrays import output, read, read_like


@overload
def logistic_loss(
    z: np.ndarray, y: np.ndarray, *, reduction: Literal["mean", "sum"] = ..., out: np.ndarray | None = ...
) -> tuple[float, np.ndarray]: ...
@overload
def logistic_loss(
    z: np.ndarray, y: np.ndarray, *, reduction: Literal["none"], out: np.ndarray | None = ...
) -> tuple[np.ndarray, np.ndarray]: ...
def logistic_loss(z, y, *, reduction="mean", out=None):
    r"""The logistic loss (binary cross-entropy) of logits, and its gradient, in one pass.

    .. math::
        \ell_i = -y_i \log \sigma(z_i) - (1 - y_i) \log(1 - \sigma(z_i)), \qquad
        \frac{\partial \ell_i}{\partial z_i} = \sigma(z_i) - y_i

    Computed from :math:`e^{-|z|}`, so that nothing overflows or cancels at any logit; an infinite logit on the
    target's side loses nothing. NaN stays NaN. The sum is taken in double precision, in a fixed order.

    Parameters
    ----------
    z : ndarray of float32 or float64, any shape
        The logits.
    y : ndarray like ``z``
        The targets, from 0 to 1.
    reduction : {"mean", "sum", "none"}
        Of the losses; the gradient is that of the mean, or of the sum.
    out : ndarray, optional
        Where to put the gradient: an array like ``z``, or ``z`` itself.

    Returns
    -------
    loss : float, or ndarray for reduction="none"
    dz : ndarray
        The gradient with respect to ``z``.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`; if ``z`` and ``y`` differ in shape or dtype; if ``reduction`` is another word; if the
        mean of no elements is asked for.

    Notes
    -----
    PyTorch: ``binary_cross_entropy_with_logits``. The targets are not looked through: outside of [0, 1] the
    formula still holds for the gradient, but the loss is no longer a cross-entropy.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> loss, dz = fo.logistic_loss(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    >>> round(loss, 6)
    0.410038
    >>> dz.round(6)
    array([-0.25    , -0.059601])
    """
    z = read(z, "z")
    y = read_like(y, "y", z, "z")
    dz = np.empty(z.shape, z.dtype) if out is None else output(out, z, "z", z, y)
    if reduction == "mean":
        if z.size == 0:
            raise ValueError(f"z has shape {z.shape}: the mean of no elements is undefined")
        return _backends.active.logistic_loss(z, y, None, dz, 1.0 / z.size) / z.size, dz
    if reduction == "sum":
        return _backends.active.logistic_loss(z, y, None, dz, 1.0), dz
    if reduction == "none":
        losses = np.empty(z.shape, z.dtype)
        _backends.active.logistic_loss(z, y, losses, dz, 1.0)
        return losses, dz
    raise ValueError(f'reduction must be "mean", "sum" or "none", not {reduction!r}')
