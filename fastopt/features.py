"""Features as networks like them: each with mean 0 and standard deviation 1."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ._checks import whole
from ._conversion import as_real_array
from .functional._arrays import output
from .losses import finite

_BLOCK = 1 << 14  # elements at a time, in float64: what is computed with stays in cache


class Standardizer:
    r"""Features shifted and scaled to mean 0 and standard deviation 1.

    .. math::
        z = \frac{x - \mu}{\sigma}, \quad \mu = \frac{1}{n} \sum_i x_i, \quad
        \sigma^2 = \frac{1}{n} \sum_i (x_i - \mu)^2

    with :math:`\mu` and :math:`\sigma` of each feature, from the data it is fitted to: the training data alone.

    Parameters
    ----------
    axis : int or tuple of int
        The axes that mean and deviation are taken over: 0, the rows, and maybe more. For images (rows, channels,
        height, width), ``axis=(0, 2, 3)`` takes them for each channel.

    Attributes
    ----------
    mean : ndarray of float64, or None before `fit`
        :math:`\mu`, of the shape of a row, 1 along the other axes it was taken over.
    scale : ndarray of float64, or None before `fit`
        :math:`\sigma`, and 1 for constant features, which so become 0. Those are constant whose deviation is no
        larger than the rounding of their numbers.

    Raises
    ------
    TypeError, ValueError
        If ``axis`` holds something other than ints from 0, or 0 is missing.

    Notes
    -----
    Everything is computed in float64 and rounded once, to float32 if that is what X is: also features whose mean is
    10⁴ times their deviation come out right. What is neither float32 nor float64 becomes float64.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> X = np.array([[1.0, 10.0, 7.0], [3.0, 30.0, 7.0]])
    >>> standardizer = fo.Standardizer()
    >>> standardizer.fit_transform(X)
    array([[-1., -1.,  0.],
           [ 1.,  1.,  0.]])
    >>> standardizer.mean, standardizer.scale
    (array([ 2., 20.,  7.]), array([ 1., 10.,  1.]))
    >>> standardizer.inverse_transform(np.array([[0.0, 2.0, 0.0]]))
    array([[ 2., 40.,  7.]])

    To be saved beside the model:

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "trained.npz")
    >>> fo.save(path, {"standardizer": standardizer.state_dict()})
    >>> again = fo.Standardizer()
    >>> again.load_state_dict(fo.load(path)["standardizer"])
    >>> again
    Standardizer(fitted to (rows, 3))

    References
    ----------
    LeCun et al., "Efficient BackProp" (1998), section 4.3. scikit-learn: ``StandardScaler``.
    """

    def __init__(self, axis: int | Sequence[int] = 0):
        axes = axis if isinstance(axis, (tuple, list)) else (axis,)
        self.axis = tuple(sorted({whole("axis", a, 0) for a in axes}))
        if 0 not in self.axis:
            raise ValueError(f"axis must contain 0, that of the rows; it is {axis}")
        self.mean: np.ndarray | None = None
        self.scale: np.ndarray | None = None

    def fit(self, X: Any) -> "Standardizer":
        """Take mean and deviation of every feature.

        Parameters
        ----------
        X : array (rows, ...)
            Real numbers, without NaN and infinities.

        Returns
        -------
        Standardizer
            This one.

        Raises
        ------
        TypeError, ValueError
            If X is something else, or has no rows. What was fitted before is then still there.
        """
        self.mean, self.scale = self._statistics(_features(X))
        return self

    def transform(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Standardize.

        Parameters
        ----------
        X : array (rows, ...)
            Features as those of `fit`; any number of rows.
        out : ndarray of X's shape and dtype, optional
            Where the result goes; X itself, to overwrite it.

        Returns
        -------
        ndarray
            ``out``, or a new array.

        Raises
        ------
        TypeError, ValueError
            If X has NaN, infinities or other features than `fit` has seen, ``out`` does not fit, or there was no `fit`.
            Nothing has then been written.
        """
        X, mean, scale = self._fitted_to(X)
        out = output(out, X, "X", X=X)
        for x, y in _blocks(X, out):
            np.divide(np.subtract(x, mean, dtype=np.float64), scale, out=y, casting="same_kind")
        return out

    def fit_transform(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        """`fit`, and then `transform`."""
        X = _features(X)
        out = output(out, X, "X", X=X)  # before anything is changed
        return self.fit(X).transform(X, out)

    def inverse_transform(self, X: Any, out: np.ndarray | None = None) -> np.ndarray:
        """The features that `transform` makes X of; constant features become what they were.

        Parameters, results and errors are those of `transform`.
        """
        X, mean, scale = self._fitted_to(X)
        out = output(out, X, "X", X=X)
        for x, y in _blocks(X, out):
            np.add(np.multiply(x, scale, dtype=np.float64), mean, out=y, casting="same_kind")
        return out

    def state_dict(self) -> dict[str, Any]:
        """A copy of what there is to save.

        Raises
        ------
        ValueError
            If there was no `fit`.
        """
        mean, scale = self._fitted()
        return {"axis": list(self.axis), "mean": mean.copy(), "scale": scale.copy()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Become what the Standardizer was that `state_dict` came from.

        Raises
        ------
        TypeError, ValueError
            If it is something else, or was fitted along other axes; nothing has then been changed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"the state dict must be a dict, not {type(state_dict).__name__}")
        if state_dict.keys() != {"axis", "mean", "scale"}:
            raise ValueError(f"the state dict must have axis, mean and scale, not {', '.join(state_dict) or 'nothing'}")
        if state_dict["axis"] != list(self.axis):
            raise ValueError(f"the state dict has axis={state_dict['axis']}, this Standardizer {list(self.axis)}")
        mean, scale = (np.array(as_real_array(key, state_dict[key]), np.float64) for key in ("mean", "scale"))
        if mean.shape != scale.shape:
            raise ValueError(f"mean has shape {mean.shape}, scale has {scale.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(f"mean must be finite, and scale finite and above 0, not {mean} and {scale}")
        self.mean, self.scale = mean, scale

    def __repr__(self) -> str:
        axis = "" if self.axis == (0,) else f"axis={self.axis}, "
        return f"Standardizer({axis}{'not fitted' if self.mean is None else f'fitted to {self._shape()}'})"

    # -- behind the scenes --

    def _statistics(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean, and what to divide by, in float64."""
        if X.ndim <= self.axis[-1]:
            raise ValueError(f"X has shape {X.shape}, mean and deviation are to be taken over axis {self.axis[-1]}")
        values = prod(X.shape[a] for a in self.axis)  # of each feature
        if values == 0:
            raise ValueError(f"X has shape {X.shape}: there is nothing to take a mean of")
        first = tuple(slice(1) if a in self.axis else slice(None) for a in range(X.ndim))
        # Differences from the first value: it is at most sqrt(n) deviations from the mean, so that in float64 no
        # digits that matter are lost, whatever the mean; and of a constant feature they are exactly 0.
        origin = np.array(X[first][0], np.float64)
        total, squares = np.zeros_like(origin), np.zeros_like(origin)
        with np.errstate(over="ignore", invalid="ignore"):
            for x, _ in _blocks(X, X):
                difference = np.subtract(x, origin, dtype=np.float64)
                total += difference.sum(self.axis, keepdims=True)[0]
                squares += np.square(difference, out=difference).sum(self.axis, keepdims=True)[0]
            shift = total / values
            mean, variance = origin + shift, squares / values - np.square(shift)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise ValueError("X has features whose variance overflows float64")
        deviation = np.sqrt(np.maximum(variance, 0))
        return np.asarray(mean), np.where(deviation > np.finfo(X.dtype).eps * np.abs(mean), deviation, 1.0)

    def _fitted(self) -> tuple[np.ndarray, np.ndarray]:
        if self.mean is None or self.scale is None:
            raise ValueError("the Standardizer has not been fitted: call fit with the training data first")
        return self.mean, self.scale

    def _fitted_to(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean, scale = self._fitted()
        X = _features(X)
        sizes = enumerate(zip(X.shape[1:], mean.shape, strict=False), 1)
        if X.ndim != mean.ndim + 1 or any(given != fitted for a, (given, fitted) in sizes if a not in self.axis):
            raise ValueError(f"X has shape {X.shape}, the Standardizer was fitted to {self._shape()}")
        return X, mean, scale

    def _shape(self) -> str:
        mean, _ = self._fitted()
        sizes = ["any" if a in self.axis else str(size) for a, size in enumerate(mean.shape, 1)]
        return f"({', '.join(['rows', *sizes])})"


def _features(X: Any) -> np.ndarray:
    """``X`` as a contiguous array of float32 or float64, the same if it is one, if all of it is finite."""
    X = as_real_array("X", X)
    if X.ndim == 0:
        raise ValueError("X is a single number: it must have rows")
    return finite("X", X, X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float64))


def _blocks(X: np.ndarray, out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same few rows of each, all in turn."""
    rows = max(1, _BLOCK * len(X) // max(X.size, 1))
    for begin in range(0, len(X), rows):
        yield X[begin : begin + rows], out[begin : begin + rows]
