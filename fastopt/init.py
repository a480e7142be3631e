r"""Initial values for weights, by the names of ``torch.nn.init``: in place, on float32 or float64 arrays.

Every function writes into the array it is given, of any shape and strides, and returns it. ``rng``, an int or a
`numpy.random.Generator`, is where the random numbers come from; without it they differ from call to call. They are
drawn in double and rounded to the array's type, so that a seed gives float32 and float64 weights the same values.

A weight has the layout of `fastopt.nn.Linear`, (outputs, inputs, ...): a unit has *fan in* =
``shape[1] * prod(shape[2:])`` connections to its inputs, and an input *fan out* = ``shape[0] * prod(shape[2:])`` to
units. For a weight that is used as ``x @ W``, of shape (inputs, outputs), give ``W.T``.

With m = fan in and n = fan out, what textbooks write as

- :math:`N(0, 1/m)` is ``kaiming_normal_(W, nonlinearity="linear")`` (LeCun), for sigmoid and tanh;
- :math:`N(0, 2/m)` is ``kaiming_normal_(W, nonlinearity="relu")`` (He), for ReLU;
- :math:`U(\pm\sqrt{6/(m+n)})` is ``xavier_uniform_(W)`` (Glorot);
- *k weights per unit that are not zero*, normally distributed, is ``sparse_(W.T, 1 - k / m, std)`` (Martens).

A model draws its first values as it is made; others are written over them afterwards:

>>> import numpy as np, fastopt as fo
>>> model = fo.nn.Sequential(fo.nn.Linear(30, 64), fo.nn.ReLU(), fo.nn.Linear(64, 1))
>>> rng = np.random.default_rng(0)
>>> for name, param in model.parameters().items():
...     if name.endswith("weight"):
...         _ = fo.init.kaiming_normal_(param, nonlinearity="relu", rng=rng)
...     else:
...         _ = fo.init.zeros_(param)
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._checks import a_number, generator_of, not_masked
from ._conversion import converted
from ._hints import unknown_names

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Rng = int | np.random.Generator | None

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

globals()["__getattr__"] = unknown_names(__name__)

_CONVOLUTIONS = [f"conv{transposed}{d}d" for transposed in ("", "_transpose") for d in (1, 2, 3)]
_GAINS = {
    **dict.fromkeys(["linear", *_CONVOLUTIONS, "sigmoid"], 1.0),
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.nan,  # follows from its slope
    "selu": 3 / 4,
}


def _writeable(array: Any) -> np.ndarray:
    """``array``, if it can be filled."""
    if not isinstance(not_masked("array", array), np.ndarray):
        raise TypeError(f"array must be a numpy.ndarray, not {type(array).__name__}")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"array must be float32 or float64, not {array.dtype}")
    if not array.flags.writeable:
        raise ValueError(f"array, of shape {array.shape}, is read-only, and would be filled in place")
    return array


def _fans(array: Any) -> tuple[int, int]:
    """Fan in and fan out of a weight."""
    array = _writeable(array)
    if array.ndim < 2:
        raise ValueError(f"array has shape {array.shape}: fan in and fan out need at least 2 dimensions")
    positions = math.prod(array.shape[2:])
    return array.shape[1] * positions, array.shape[0] * positions


def _fill(array: np.ndarray, values: np.ndarray | float) -> np.ndarray:
    """``values``, of double precision, into ``array``, if they are numbers of its type."""
    rounded = converted(np.asarray(values), array.dtype)
    if not np.isfinite(rounded).all():
        raise ValueError(f"the values to fill the array with are beyond the range of {array.dtype}")
    array[...] = rounded
    return array


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    r"""The factor that makes up for what an activation takes from the spread of its inputs.

    =========================================  ===========================
    nonlinearity                               gain
    =========================================  ===========================
    linear, conv{1,2,3}d, conv_transpose...    1
    sigmoid                                    1
    tanh                                       5 / 3
    relu                                       :math:`\sqrt{2}`
    leaky_relu                                 :math:`\sqrt{2 / (1 + a^2)}`
    selu                                       3 / 4
    =========================================  ===========================

    Parameters
    ----------
    nonlinearity : str
    param : float, optional
        For leaky_relu: :math:`a`, its slope below 0, by default 0.01.

    Raises
    ------
    TypeError, ValueError
        If there is no such nonlinearity, or ``param`` is no finite number.

    Examples
    --------
    >>> import fastopt as fo
    >>> fo.init.calculate_gain("relu")
    1.4142135623730951
    """
    if not isinstance(nonlinearity, str) or nonlinearity not in _GAINS:
        raise ValueError(f"nonlinearity must be one of {', '.join(map(repr, _GAINS))}, not {nonlinearity!r}")
    if param is not None:
        param = a_number("param", param)
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    return _GAINS[nonlinearity]


def uniform_(array: np.ndarray, a: float = 0.0, b: float = 1.0, *, rng: "Rng" = None) -> np.ndarray:
    """Fill with random numbers from :math:`U(a, b)`, evenly spread from ``a`` to ``b``.

    Parameters
    ----------
    array : ndarray of float32 or float64, any shape
    a, b : float
    rng : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        If ``array`` is no array of float32 or float64, or read-only; if ``a`` or ``b`` is no finite number, or ``a``
        is above ``b``; if the values are beyond the range of the array's type.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = fo.init.uniform_(np.empty((2, 3)), -1, 1, rng=0)
    >>> bool((abs(w) <= 1).all())
    True
    """
    array = _writeable(array)
    a, b = a_number("a", a), a_number("b", b)
    if a > b:
        raise ValueError(f"a must be at most b, and a is {a:g}, b is {b:g}")
    if math.isinf(b - a):
        raise ValueError(f"b - a must be finite, and a is {a:g}, b is {b:g}")
    return _fill(array, generator_of(rng).uniform(a, b, array.shape))


def normal_(array: np.ndarray, mean: float = 0.0, std: float = 1.0, *, rng: "Rng" = None) -> np.ndarray:
    r"""Fill with random numbers from :math:`N(\mathrm{mean}, \mathrm{std}^2)`.

    Parameters
    ----------
    array : ndarray of float32 or float64, any shape
    mean : float
    std : float, at least 0
    rng : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        As for `uniform_`; if ``std`` is below 0.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> round(float(fo.init.normal_(np.empty((200, 100)), std=0.5, rng=0).std()), 2)
    0.5
    """
    array = _writeable(array)
    mean, std = a_number("mean", mean), a_number("std", std, low=0)
    return _fill(array, generator_of(rng).normal(mean, std, array.shape))


def trunc_normal_(array: np.ndarray, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, *,
                  rng: "Rng" = None) -> np.ndarray:  # fmt: skip
    r"""Fill with random numbers from :math:`N(\mathrm{mean}, \mathrm{std}^2)`, given that they are from a to b.

    ``a`` and ``b`` are values, not multiples of ``std``. The distribution is exact wherever they lie, far out in
    a tail too.

    Parameters
    ----------
    array : ndarray of float32 or float64, any shape
    mean : float
    std : float, above 0
    a, b : float
        ``a`` below ``b``; they may be infinite.
    rng : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        As for `uniform_`; if ``std`` is not above 0.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = fo.init.trunc_normal_(np.empty((200, 100)), std=0.02, a=-0.04, b=0.04, rng=0)
    >>> bool(abs(w).max() <= 0.04), round(float(w.std()), 4)
    (True, 0.0175)

    References
    ----------
    C. P. Robert, "Simulation of truncated normal variables", Statistics and Computing 5, 1995.
    """
    array = _writeable(array)
    mean, std = a_number("mean", mean), a_number("std", std, low=0)
    if std == 0:
        raise ValueError("std must be above 0, not 0")
    for name, bound in (("a", a), ("b", b)):
        if not (isinstance(bound, (float, np.floating)) and math.isinf(bound)):
            a_number(name, bound)
    if not a < b:
        raise ValueError(f"a must be below b, and a is {a:g}, b is {b:g}")
    low, high = (min(max((bound - mean) / std, -1e300), 1e300) for bound in (float(a), float(b)))
    z = _truncated_normal(generator_of(rng), array.size, low, high)
    return _fill(array, np.clip(mean + std * z, a, b).reshape(array.shape))


def _truncated_normal(rng: "np.random.Generator", count: int, low: float, high: float) -> np.ndarray:
    """``count`` numbers from N(0, 1), given that they are from ``low`` to ``high``."""
    if low + high < 0:  # the mirror image, so that the tail, if it is one, is that of the positive numbers
        return -_truncated_normal(rng, count, -high, -low)
    share = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    rate = max(low, 0.0)
    found = np.empty(0)
    while len(found) < count:
        missing = count - len(found)
        if share > 0.2:
            z = rng.standard_normal(missing)
            z = z[(low <= z) & (z <= high)]
        else:  # from exp(-rate z), which is close to it, taken with the ratio of the densities
            u, width = rng.random(missing), high - low
            even = rate * width < 1e-9
            z = low + (u * width if even else -np.log1p(u * math.expm1(-rate * width)) / rate)
            z = z[rng.random(missing) <= np.exp(-((z - rate) ** 2) / 2)]
        found = np.concatenate([found, z])
    return found


def constant_(array: np.ndarray, val: float) -> np.ndarray:
    """Fill with the number ``val``.

    Parameters
    ----------
    array : ndarray of float32 or float64, any shape
    val : float

    Raises
    ------
    TypeError, ValueError
        As for `uniform_`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.init.constant_(np.empty(3), 0.1)
    array([0.1, 0.1, 0.1])
    """
    return _fill(_writeable(array), a_number("val", val))


def ones_(array: np.ndarray) -> np.ndarray:
    """Fill with 1; see `constant_`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.init.ones_(np.empty(3))
    array([1., 1., 1.])
    """
    return constant_(array, 1.0)


def zeros_(array: np.ndarray) -> np.ndarray:
    """Fill with 0; see `constant_`.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> fo.init.zeros_(np.empty(3))
    array([0., 0., 0.])
    """
    return constant_(array, 0.0)


def xavier_uniform_(array: np.ndarray, gain: float = 1.0, *, rng: "Rng" = None) -> np.ndarray:
    r"""Fill from :math:`U(-g\sqrt{6/(m+n)}, \, g\sqrt{6/(m+n)})`, m and n being fan in and fan out.

    Of variance :math:`2 g^2 / (m + n)`: a compromise between keeping the spread of the activations from layer to
    layer, which takes 1 / m, and that of the gradients, which takes 1 / n. With gain 1, it is the
    :math:`U(\pm\sqrt{6/(m+n)})` of the textbooks.

    Parameters
    ----------
    array : ndarray of float32 or float64 (outputs, inputs, ...)
    gain : float, at least 0
        See `calculate_gain`.
    rng : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        As for `uniform_`; if ``array`` has fewer than 2 dimensions, or ``gain`` is below 0.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = fo.init.xavier_uniform_(np.empty((50, 100)), rng=0)
    >>> bool(0.19 < abs(w).max() <= (6 / 150) ** 0.5)
    True

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010, equation 16.
    """
    bound = math.sqrt(3) * _xavier_std(array, gain)
    return uniform_(array, -bound, bound, rng=rng)


def xavier_normal_(array: np.ndarray, gain: float = 1.0, *, rng: "Rng" = None) -> np.ndarray:
    r"""Fill from :math:`N(0, \, 2 g^2 / (m + n))`, m and n being fan in and fan out.

    See `xavier_uniform_`, which has the same variance, for the parameters, what is raised and the source.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> round(float(fo.init.xavier_normal_(np.empty((100, 100)), rng=0).std()), 2)
    0.1
    """
    return normal_(array, 0.0, _xavier_std(array, gain), rng=rng)


def _xavier_std(array: np.ndarray, gain: float) -> float:
    fan_in, fan_out = _fans(array)
    return a_number("gain", gain, low=0) * math.sqrt(2 / max(fan_in + fan_out, 1))


def kaiming_uniform_(array: np.ndarray, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *,
                     rng: "Rng" = None) -> np.ndarray:  # fmt: skip
    r"""Fill from :math:`U(-g\sqrt{3/m}, \, g\sqrt{3/m})`, m being fan in (or fan out), g the gain.

    Of variance :math:`g^2 / m`: with that of `calculate_gain` for the activation that follows, the activations'
    spread stays the same from layer to layer, or with ``mode="fan_out"`` that of the gradients on their way back.

    Parameters
    ----------
    array : ndarray of float32 or float64 (outputs, inputs, ...)
    a : float
        The slope below 0 of the activation that follows, if it is leaky_relu; with 0 that is relu.
    mode : {"fan_in", "fan_out"}
    nonlinearity : str
        That of `calculate_gain`.
    rng : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        As for `uniform_`; if ``array`` has fewer than 2 dimensions; if ``mode`` or ``nonlinearity`` is unknown.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = fo.init.kaiming_uniform_(np.empty((50, 100)), nonlinearity="relu", rng=0)
    >>> bool(0.24 < abs(w).max() <= (6 / 100) ** 0.5)
    True

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
    classification", ICCV 2015, equations 10, 14 and 15.
    """
    bound = math.sqrt(3) * _kaiming_std(array, a, mode, nonlinearity)
    return uniform_(array, -bound, bound, rng=rng)


def kaiming_normal_(array: np.ndarray, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *,
                    rng: "Rng" = None) -> np.ndarray:  # fmt: skip
    r"""Fill from :math:`N(0, \, g^2 / m)`, m being fan in (or fan out), g the gain.

    With ``nonlinearity="linear"`` it is the :math:`N(0, 1/m)` of the textbooks, with ``"relu"``, or by default,
    :math:`N(0, 2/m)`. See `kaiming_uniform_`, which has the same variance, for the parameters, what is raised and
    the source.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> round(float(fo.init.kaiming_normal_(np.empty((100, 200)), nonlinearity="relu", rng=0).std()), 2)
    0.1
    """
    return normal_(array, 0.0, _kaiming_std(array, a, mode, nonlinearity), rng=rng)


def _kaiming_std(array: np.ndarray, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(array), strict=True))
    if not isinstance(mode, str) or mode not in fans:
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}")
    return calculate_gain(nonlinearity, a_number("a", a)) / math.sqrt(max(fans[mode], 1))


def orthogonal_(array: np.ndarray, gain: float = 1.0, *, rng: "Rng" = None) -> np.ndarray:
    r"""Fill with a random matrix whose rows, or columns if they are fewer, are orthonormal, times ``gain``.

    :math:`W W^\top = g^2 I` or :math:`W^\top W = g^2 I`, all such matrices being equally probable. What has more than
    2 dimensions is taken as the matrix (shape[0], product of the others).

    Parameters
    ----------
    array : ndarray of float32 or float64 (outputs, inputs, ...)
    gain : float
    rng : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        As for `uniform_`; if ``array`` has fewer than 2 dimensions.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> w = fo.init.orthogonal_(np.empty((2, 3)), rng=0)
    >>> np.allclose(w @ w.T, np.eye(2))
    True

    References
    ----------
    A. M. Saxe, J. L. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.
    F. Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the AMS 54, 2007.
    """
    _fans(array)
    gain = a_number("gain", gain)
    if array.size == 0:
        return array
    rows = array.shape[0]
    normal = generator_of(rng).standard_normal((rows, array.size // rows))
    wide = normal.shape[0] < normal.shape[1]
    q, r = np.linalg.qr(normal.T if wide else normal)
    q *= gain * np.copysign(1.0, np.diagonal(r))  # QR alone does not make all signs equally probable
    return _fill(array, (q.T if wide else q).reshape(array.shape))


def sparse_(array: np.ndarray, sparsity: float, std: float = 0.01, *, rng: "Rng" = None) -> np.ndarray:
    r"""Fill from :math:`N(0, \mathrm{std}^2)`, but with a part of every column, at random places, 0.

    The number of zeros in each column of length r is ``ceil(sparsity * r)``. For a weight (outputs, inputs), a column
    is what one input goes to. For k weights per *unit* that are not zero, give the transposed weight:
    ``sparse_(W.T, 1 - k / W.shape[1])``.

    Parameters
    ----------
    array : ndarray of float32 or float64 (rows, columns)
    sparsity : float from 0 to 1
        The part of every column that is 0.
    std : float, at least 0
    rng : int or numpy.random.Generator, optional

    Raises
    ------
    TypeError, ValueError
        As for `uniform_`; if ``array`` has not 2 dimensions, ``sparsity`` is not from 0 to 1, or ``std`` is below 0.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> W = np.empty((64, 100), np.float32)
    >>> _ = fo.init.sparse_(W.T, 1 - 15 / 100, std=15**-0.5, rng=0)
    >>> set(np.count_nonzero(W, axis=1).tolist())
    {15}

    References
    ----------
    J. Martens, "Deep learning via Hessian-free optimization", ICML 2010, section 5.
    """
    array = _writeable(array)
    if array.ndim != 2:
        raise ValueError(f"array has shape {array.shape}: it must have 2 dimensions")
    sparsity, std = a_number("sparsity", sparsity, low=0), a_number("std", std, low=0)
    if sparsity > 1:
        raise ValueError(f"sparsity must be from 0 to 1, not {sparsity:g}")
    zeros = math.ceil(round(sparsity * len(array), 6))  # 1 - k / m is not exact: 0.07 * 100 is above 7
    rng = generator_of(rng)
    values = rng.normal(0.0, std, array.shape)
    values[rng.random(array.shape).argsort(axis=0) < zeros] = 0.0
    return _fill(array, values)
