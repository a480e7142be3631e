"""Dropout, forward and backward."""

import numpy as np

from .. import _backends
from .._checks import a_number
from .._specification.kernels import DROP_ALL, DROP_NOTHING, DROP_SOME
from .arrays import output, read


def word(name: str, value: int) -> int:
    """A whole number of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value < 2**64:
        raise ValueError(f"{name} must be from 0 to 2**64 - 1, not {value}")
    return int(value)


def probability(p: float) -> float:
    p = a_number("p", p, low=0)
    if p > 1:
        raise ValueError(f"p must be from 0 to 1, not {p}")
    return p


def threshold_and_scale(p: float) -> tuple[int, float]:
    """What the kernels take for p below 1: random words of 32 bits below the threshold drop their elements."""
    return min(round(p * 2**32), 2**32 - 1), 1.0 / (1.0 - p)


def in_training(p: float) -> tuple[int, int, float]:
    """What the kernel of a layer takes."""
    if p in (0, 1):
        return DROP_ALL if p else DROP_NOTHING, 0, 1.0
    return DROP_SOME, *threshold_and_scale(p)


def dropout(
    x: np.ndarray,
    p: float = 0.5,
    *,
    seed: int,
    draw: int = 0,
    position: int = 0,
    training: bool = True,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Every element is 0 with probability p, or else is multiplied by 1 / (1 - p).

    .. math:: y_i = \frac{[u_i \ge p]}{1 - p} \, x_i

    The random number of an element follows from ``seed``, ``draw`` and its position in the array (in C order), by
    Philox 4x32-10. So the mask is the same in any backend and with any number of threads, and is not stored:
    `dropout_backward` computes it again.

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    p : float from 0 to 1
        The probability of 0, to within 2**-33.
    seed : int from 0 to 2**64 - 1
        The key of the generator; two layers should differ in it.
    draw : int from 0 to 2**64 - 1
        Which of the seed's masks: count up from step to step.
    position : int
        That of x's first element: of arrays cut into pieces, those to come get the sizes of those before, and what
        comes out is what comes out of the whole.
    training : bool
        If False, y is x.
    out : ndarray, optional
        Where to put the result: an array like ``x``, or ``x`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid`; if ``p`` or one of the whole numbers is out of range.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> y = fo.dropout(np.ones(1000), 0.25, seed=1)
    >>> sorted(set(y.round(3).tolist())), round(float(y.mean()), 1)
    ([0.0, 1.333], 1.0)
    """
    x = read(x, "x")
    p = probability(p)
    seed, draw, position = word("seed", seed), word("draw", draw), word("position", position)
    y = np.empty(x.shape, x.dtype) if out is None else output(out, x, "x", x=x)
    if not training or p == 0:
        if y is not x:
            y[...] = x
    elif p == 1:
        y.fill(0)
    else:
        _backends.active.dropout(x, y, position, seed, draw, *threshold_and_scale(p))
    return y


def dropout_backward(
    dy: np.ndarray,
    p: float = 0.5,
    *,
    seed: int,
    draw: int = 0,
    position: int = 0,
    training: bool = True,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""The gradient of dropout's input, from that of its output: the same mask and factor.

    Parameters
    ----------
    dy : ndarray of float32 or float64, any shape
    p, seed, draw, position, training
        As they were given to `dropout`.
    out : ndarray, optional
        Where to put the result: an array like ``dy``, or ``dy`` itself.

    Raises
    ------
    TypeError, ValueError
        As for `dropout`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> y = fo.dropout(np.ones(5), seed=3, draw=1)
    >>> bool((fo.dropout_backward(np.ones(5), seed=3, draw=1) == y).all())
    True
    """
    dy = read(dy, "dy")
    return dropout(dy, p, seed=seed, draw=draw, position=position, training=training, out=out)
