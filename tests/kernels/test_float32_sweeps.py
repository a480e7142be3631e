"""The functions on every float32 there is, against the same in double: the largest error, and where it is.

The whole takes an hour: pytest -m slow tests/kernels/test_float32_sweeps.py -s. Those between 2^-14 and 128, where no
function is constant or linear to within rounding, take a tenth of that: -k matters; every 31st of them, which CI runs,
seconds: -k many.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from activation_truth import TRUTH
from helpers import HAVE_C, use

import fastopt as fo
from fastopt import _backends
from fastopt._specification.kernels import WITH_NUMBER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAVE_C, reason="the fallbacks have the same bits, but not the speed"),
]

BLOCK = 2**20
INFINITE = 0x7F800000  # the bits of inf; NaN lies above
WITHIN = [np.array(x, np.float32).view(np.uint32).item() for x in (2.0**-14, 128.0)]

# The largest error in units of the last place: the distance of the floats at the true value. Correct rounding is 0.5.
LIMITS = {
    "exp": 1.1,
    "log1p_unit": 1.5,
    "log_sigmoid_backward": 2.5,
    "logistic_loss": 2.0,
    "logistic_loss gradient": 2.5,
    "softplus_backward": 2.5,
    **{name: truth.float32 for name, truth in TRUTH.items()},
}


def results(x):
    """What is computed of x, and what it is in truth, in double: by name."""
    wide = x.astype(np.float64)
    e = np.exp(-np.abs(wide))
    log = np.log1p(e)
    sigmoid = np.where(wide < 0, e, 1.0) / (1.0 + e)
    softplus, minus_softplus = np.maximum(wide, 0.0) + log, np.minimum(wide, 0.0) - log
    one, out = np.ones_like(x), np.empty_like(x)

    def elementwise(name):
        if name in WITH_NUMBER:
            return getattr(fo, name)(x, out=out)
        getattr(_backends.active, name)(x, out)
        return out

    yield "exp", elementwise("exp"), np.exp(wide)
    for name, truth in TRUTH.items():
        yield name, elementwise(name), np.where(truth.ordinary(x), truth.exact(wide), out)
    yield "softplus_backward", fo.softplus_backward(one, x), sigmoid
    yield "log_sigmoid_backward", fo.log_sigmoid_backward(one, x), np.where(wide < 0, 1.0, e) / (1.0 + e)
    losses, gradient = fo.logistic_loss(x, 0 * one, reduction="none")
    yield "logistic_loss", losses, softplus
    yield "logistic_loss gradient", gradient, sigmoid
    losses, gradient = fo.logistic_loss(x, one, reduction="none")
    yield "logistic_loss", losses, -minus_softplus
    yield "logistic_loss gradient", gradient, -np.where(wide < 0, 1.0, e) / (1.0 + e)
    if x[0] >= 0 and x[-1] <= 1:
        yield "log1p_unit", elementwise("log1p_unit"), np.log1p(wide)


def worst_of(x):
    """The largest error of every function over x, and its argument."""
    found = {}
    with np.errstate(all="ignore"):
        for name, y, exact in results(x):
            rounded = exact.astype(np.float32)
            unit = np.spacing(np.abs(rounded)).astype(np.float64)
            error = np.where(y == rounded, 0.0, np.abs(y - exact) / unit)  # also where both are inf
            at = int(np.argmax(error))  # a NaN counts as the largest
            found[name] = max(found.get(name, (0.0, 0.0)), (float(error[at]), float(x[at])))
    return found


def sweep(begin, end, step=1):
    """The same over every ``step``-th float, of either sign, with bits from ``begin`` to below ``end``."""

    def block(start):
        x = np.arange(start, min(start + BLOCK * step, end), step, dtype=np.uint32).view(np.float32)
        return worst_of(x), worst_of(-x)

    use("c", threads=1)
    worst = dict.fromkeys(LIMITS, (0.0, 0.0))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy and the core both release the GIL
        for pair in pool.map(block, range(begin, end, BLOCK * step)):
            for found in pair:
                for name, error in found.items():
                    worst[name] = max(worst[name], error)
    return worst


def check(worst):
    for name, (error, argument) in worst.items():
        print(f"{name:24} {error:.4f} ulp at {argument!r} ({argument.hex()})")
    for name, (error, argument) in worst.items():
        assert error <= LIMITS[name], f"{name}({argument!r}) is off by {error} ulp"


def test_many_float32():
    check(sweep(*WITHIN, step=31))


def test_every_float32_that_matters():
    check(sweep(*WITHIN))


def test_every_float32():
    check(sweep(0, INFINITE + 1))
