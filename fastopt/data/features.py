"""Features as networks like them: each with mean 0 and standard deviation 1."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .._checks import a_number, whole
from .._conversion import as_real_array, refuse_not_finite
from ..functional.arrays import output_of

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
    n_features_in_, feature_names_in_
        As scikit-learn has them, after `fit`: the number of columns, and their names if X was a data frame.

    Raises
    ------
    TypeError, ValueError
        If ``axis`` holds something other than ints from 0, or 0 is missing.

    Notes
    -----
    Everything is computed in float64 and rounded once, to float32 if that is what X is: also features whose mean is
    10⁴ times their deviation come out right. What is neither float32 nor float64 becomes float64, a few rows at a time:
    of a memory map of bytes, no copy is made.

    It has the methods of scikit-learn's transformers, and stands in a ``Pipeline`` as they do.

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
        ordered = tuple(sorted({whole("axis", a, 0) for a in axes}))
        # scikit-learn's clone wants the very object back that get_params gave
        self.axis = axis if axis == ordered else ordered
        if 0 not in ordered:
            raise ValueError(f"axis must contain 0, that of the rows; it is {axis}")
        self.mean: np.ndarray | None = None
        self.scale: np.ndarray | None = None
        self._moments: _Moments | None = None

    def fit(self, X: Any, y: Any = None) -> "Standardizer":
        """Take mean and deviation of every feature.

        Parameters
        ----------
        X : array (rows, ...)
            Real numbers, without NaN and infinities.
        y : object
            Not looked at: scikit-learn's pipelines pass the targets.

        Returns
        -------
        Standardizer
            This one.

        Raises
        ------
        TypeError, ValueError
            If X is something else, or has no rows. What was fitted before is then still there.
        """
        names, X = _names(X), _features(X)
        self._take(_moments(X, self.axis), names, X)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> "Standardizer":
        r"""Take further rows into account: after several calls, mean and deviation are those of all rows together.

        .. math::
            \mu = \mu_a + \delta \frac{n_b}{n}, \quad
            n \sigma^2 = n_a \sigma_a^2 + n_b \sigma_b^2 + \delta^2 \frac{n_a n_b}{n}, \quad \delta = \mu_b - \mu_a

        Parameters, results and errors are those of `fit`. How the rows are cut into calls shows in the last bits.

        References
        ----------
        Chan, Golub & LeVeque, "Algorithms for computing the sample variance" (1983), eq. 2.1.
        """
        before = self._moments
        if before is None:
            if self.mean is not None:
                raise ValueError(
                    "this Standardizer was loaded without the number of its rows: it can only be fitted anew"
                )
            return self.fit(X)
        names, X = _names(X), _features(X)
        self._check_features(X, names)
        self._take(before.merged(_moments(X, self.axis)), names, X)
        return self

    def transform(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
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
        out = _output(out, X)
        with np.errstate(all="ignore"):
            for x, y in _blocks(X, out):
                np.divide(np.subtract(x, mean, dtype=np.float64), scale, out=y, casting="same_kind")
        return out

    def fit_transform(self, X: Any, y: Any = None, *, out: np.ndarray | None = None) -> np.ndarray:
        """`fit`, and then `transform`."""
        features = _features(X)
        out = _output(out, features)  # before anything is changed
        return self.fit(X).transform(features, out=out)

    def inverse_transform(self, X: Any, *, out: np.ndarray | None = None) -> np.ndarray:
        """The features that `transform` makes X of; constant features become what they were.

        Parameters, results and errors are those of `transform`.
        """
        X, mean, scale = self._fitted_to(X)
        out = _output(out, X)
        with np.errstate(all="ignore"):
            for x, y in _blocks(X, out):
                np.add(np.multiply(x, scale, dtype=np.float64), mean, out=y, casting="same_kind")
        return out

    # -- as scikit-learn asks for it --

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters it was made with."""
        return {"axis": self.axis}

    def set_params(self, **params: Any) -> "Standardizer":
        """Change parameters; what was fitted is forgotten. Returns this one.

        Raises
        ------
        TypeError, ValueError
            If there is no such parameter, or its value is none. Nothing has then been changed.
        """
        if unknown := params.keys() - {"axis"}:
            raise ValueError(f"Standardizer has no parameter {', '.join(sorted(unknown))}, only axis")
        if params:
            vars(self).clear()
            vars(self).update(vars(Standardizer(**params)))
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the features: those of the data frame it was fitted to, or those given, or x0, x1, ..."""
        mean, _ = self._fitted()
        count = mean.size
        own = getattr(self, "feature_names_in_", None)
        given = input_features if input_features is not None else own
        names = [f"x{i}" for i in range(count)] if given is None else given
        names = np.asarray(names, object)
        if len(names) != count or (own is not None and list(names) != list(own)):
            raise ValueError(f"input_features are {list(names)}, the Standardizer was fitted to {own or count}")
        return names

    def __sklearn_is_fitted__(self) -> bool:
        return self.mean is not None

    # -- saving --

    def state_dict(self) -> dict[str, Any]:
        """A copy of what there is to save.

        Raises
        ------
        ValueError
            If there was no `fit`.
        """
        mean, scale = self._fitted()
        state = {"axis": list(self.axis), "mean": mean.copy(), "scale": scale.copy()}
        if self._moments is not None:
            moments = self._moments
            state |= {"count": moments.values, "variance": moments.variance.copy(), "eps": moments.eps}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Become what the Standardizer was that `state_dict` came from.

        Raises
        ------
        TypeError, ValueError
            If it is something else, or was fitted along other axes; nothing has then been changed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"the state dict must be a dict, not {type(state_dict).__name__}")
        more = {"count", "variance", "eps"}
        if state_dict.keys() - more != {"axis", "mean", "scale"} or 0 < len(state_dict.keys() & more) < len(more):
            raise ValueError(f"the state dict must have axis, mean and scale, not {', '.join(state_dict) or 'nothing'}")
        if state_dict["axis"] != list(self.axis):
            raise ValueError(f"the state dict has axis={state_dict['axis']}, this Standardizer {list(self.axis)}")
        mean, scale = (np.array(as_real_array(key, state_dict[key]), np.float64) for key in ("mean", "scale"))
        if mean.shape != scale.shape:
            raise ValueError(f"mean has shape {mean.shape}, scale has {scale.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(f"mean must be finite, and scale finite and above 0, not {mean} and {scale}")
        moments = None
        if "count" in state_dict:
            variance = np.array(as_real_array("variance", state_dict["variance"]), np.float64)
            if variance.shape != mean.shape or not (np.isfinite(variance).all() and (variance >= 0).all()):
                raise ValueError(f"variance must be finite and at least 0, of shape {mean.shape}, not {variance}")
            count, eps = whole("count", state_dict["count"], 1), a_number("eps", state_dict["eps"], 0, 1)
            moments = _Moments(count, mean, variance, eps)
        vars(self).pop("feature_names_in_", None)
        self.mean, self.scale, self._moments = mean, scale, moments
        self.n_features_in_ = mean.shape[0] if mean.ndim else 1

    def __repr__(self) -> str:
        axis = "" if self.axis == (0,) else f"axis={self.axis}, "
        return f"Standardizer({axis}{'not fitted' if self.mean is None else f'fitted to {self._shape()}'})"

    # -- behind the scenes --

    def _take(self, moments: "_Moments", names: list[str] | None, X: np.ndarray) -> None:
        scale = moments.scale()
        vars(self).pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.asarray(names, object)
        self.n_features_in_ = X.shape[1] if X.ndim > 1 else 1
        self.mean, self.scale, self._moments = moments.mean, scale, moments

    def _fitted(self) -> tuple[np.ndarray, np.ndarray]:
        if self.mean is None or self.scale is None:
            raise ValueError("the Standardizer has not been fitted: call fit with the training data first")
        return self.mean, self.scale

    def _fitted_to(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean, scale = self._fitted()
        names, X = _names(X), _features(X)
        self._check_features(X, names)
        return X, mean, scale

    def _check_features(self, X: np.ndarray, names: list[str] | None) -> None:
        mean, _ = self._fitted()
        sizes = enumerate(zip(X.shape[1:], mean.shape, strict=False), 1)
        axes = self.axis
        if X.ndim != mean.ndim + 1 or any(given != fitted for a, (given, fitted) in sizes if a not in axes):
            raise ValueError(f"X has shape {X.shape}, the Standardizer was fitted to {self._shape()}")
        fitted = getattr(self, "feature_names_in_", None)
        if names is not None and fitted is not None and names != list(fitted):
            raise ValueError(f"X has the columns {names}, the Standardizer was fitted to {list(fitted)}")

    def _shape(self) -> str:
        mean, _ = self._fitted()
        axes = self.axis
        sizes = ["any" if a in axes else str(size) for a, size in enumerate(mean.shape, 1)]
        return f"({', '.join(['rows', *sizes])})"


class _Moments(NamedTuple):
    """Of every feature: how many values there are, their mean, their variance, and their rounding."""

    values: int
    mean: np.ndarray
    variance: np.ndarray
    eps: float

    def merged(self, other: "_Moments") -> "_Moments":
        count = self.values + other.values
        with np.errstate(all="ignore"):
            difference = other.mean - self.mean
            mean = self.mean + difference * (other.values / count)
            own, others = self.values / count, other.values / count
            variance = own * self.variance + others * other.variance + own * others * np.square(difference)
        return _Moments(count, mean, variance, max(self.eps, other.eps))

    def scale(self) -> np.ndarray:
        """What to divide by."""
        if not (np.isfinite(self.mean).all() and np.isfinite(self.variance).all()):
            raise ValueError("X has features whose variance overflows float64")
        deviation = np.sqrt(self.variance)
        return np.where(deviation > self.eps * np.abs(self.mean), deviation, 1.0)


def _moments(X: np.ndarray, axes: tuple[int, ...]) -> _Moments:
    if X.ndim <= axes[-1]:
        raise ValueError(f"X has shape {X.shape}, mean and deviation are to be taken over axis {axes[-1]}")
    values = prod(X.shape[a] for a in axes)  # of each feature
    if values == 0:
        raise ValueError(f"X has shape {X.shape}: there is nothing to take a mean of")
    first = tuple(slice(1) if a in axes else slice(None) for a in range(X.ndim))
    # Differences from the first value: it is at most sqrt(n) deviations from the mean, so that in float64 no digits
    # that matter are lost, whatever the mean; and of a constant feature they are exactly 0.
    origin = np.array(X[first][0], np.float64)
    total, squares = np.zeros_like(origin), np.zeros_like(origin)
    with np.errstate(all="ignore"):
        for x, _ in _blocks(X, X):
            difference = np.subtract(x, origin, dtype=np.float64)
            total += difference.sum(axes, keepdims=True)[0]
            squares += np.square(difference, out=difference).sum(axes, keepdims=True)[0]
        shift = total / values
        mean, variance = origin + shift, squares / values - np.square(shift)
    rounding = np.finfo(X.dtype if X.dtype == np.float32 else np.float64).eps
    return _Moments(values, np.asarray(mean), np.asarray(np.maximum(variance, 0)), float(rounding))


def _names(X: Any) -> list[str] | None:
    """The names of a data frame's columns, if all are strings."""
    names = list(X.columns) if hasattr(X, "columns") and hasattr(X, "dtypes") else []
    return names if names and all(isinstance(name, str) for name in names) else None


def _features(X: Any) -> np.ndarray:
    """``X`` as an array of real numbers, the same if it is one, if all of it is finite."""
    given, X = X, as_real_array("X", X)
    if X.ndim == 0:
        raise ValueError("X is a single number: it must have rows")
    if X.dtype.kind == "f":
        row = 0
        for x, _ in _blocks(X, X):
            if not np.isfinite(x).all():
                refuse_not_finite("X", x, row, given)
            row += len(x)
    return X


def _output(out: np.ndarray | None, X: np.ndarray) -> np.ndarray:
    """``out``, or a new array: of X's dtype if it is float32 or float64, else of float64."""
    dtype = X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    return output_of(out, X.shape, dtype, "X", X=X)


def _blocks(X: np.ndarray, out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same few rows of each, all in turn."""
    rows = max(1, _BLOCK * len(X) // max(X.size, 1))
    for begin in range(0, len(X), rows):
        yield X[begin : begin + rows], out[begin : begin + rows]
