"""The specification of states in fewer bytes: how float32 numbers become codes of 16 or 8 bits, and numbers again.

bfloat16: the upper half of a float32, rounded to nearest (ties to even) or stochastically: up with a probability of
what is cut off, by 16 random bits of the element's own. A finite number stays finite.

8 bit: blocks of 256 elements with one float32 scale each, their largest magnitude; a code is the place of a number in
a dynamic map (Dettmers et al. 2022, "8-bit optimizers via block-wise quantization"), of which the scale is a factor. It
is that of the nearest number, or of the smaller one of two. A block with an inf or NaN becomes NaN as a whole.

Parameters and gradients of bfloat16 are decoded and encoded in the same way. A parameter may have a compensation,
another bfloat16: what rounding to nearest has cut off from it, which is added when it is decoded (Kahan 1965, "Further
remarks on reducing truncation errors"; Zamirai et al. 2020, "Revisiting BFloat16 training").
``csrc/kernels/state_formats.inc`` says the same in C.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .philox import halves, philox4x32

FORMATS = ("float32", "bfloat16", "8bit")
BFLOAT16, SIGNED, UNSIGNED = 1, 2, 3  # how an array is stored; the numbers of csrc/fastopt.h
BLOCK = 256  # elements that share a scale
LEAST = 4096  # tensors of fewer elements are not worth 8 bits
STREAMS = 8  # kinds of random bits of one step: those of every state, ...
PARAMETER = 4  # ... and of the parameter

COMPENSATION = "kahan_comp"  # the state of a parameter of bfloat16 that is none of a rule's

# The states that are moments: averages and sums of gradients and of their squares. Others keep their type.
MOMENTS = frozenset(
    {
        "acc_delta", "exp_avg", "exp_avg_diff", "exp_avg_sq", "exp_avg_var", "exp_inf", "grad_avg", "max_exp_avg_sq",
        "momentum_buffer", "pre_grad", "square_avg", "sum",
    }
)  # fmt: skip


class Line(NamedTuple):
    """The magnitudes of a decade: slope * (place + shift) + start, computed in one rounding."""

    first: int  # the place of the first
    parts: int
    slope: np.float32
    start: np.float32


def decades(first: int) -> list[Line]:
    """Those of a dynamic map: of each of seven decades twice as many magnitudes as of the last, before them 0, then 1.

    Those of a decade are the middles of ``first``, 2 ``first``, ... equal parts of it.
    """
    lines, place = [Line(0, 1, np.float32(0), np.float32(0))], 1
    for decade in range(7):
        parts, size = first << decade, 10.0 ** (decade - 6)
        slope, start = 0.9 * size / parts, size * (0.1 - 0.9 + 0.45 / parts)
        lines.append(Line(place, parts, np.float32(slope), np.float32(start)))
        place += parts
    return [*lines, Line(place, 1, np.float32(0), np.float32(1))]


def magnitudes(first: int) -> np.ndarray:
    """All of them, from 0 to 1; ``place + first - 1`` is a power of two where a decade begins."""
    found = []
    for line in decades(first):
        x = np.arange(line.first, line.first + line.parts) + (first - 1.0)
        found.append(x * float(line.slope) + float(line.start))  # exact in double, or to 2**-53
    return np.concatenate(found).astype(np.float32)


def _limits(numbers: np.ndarray) -> np.ndarray:
    """Up to where a number is nearest, or as near as the next: the middle between both, rounded down."""
    middles = (numbers[:-1].astype(np.float64) + numbers[1:]) / 2
    rounded = middles.astype(np.float32)
    return np.where(rounded > middles, np.nextafter(rounded, np.float32(0)), rounded)


# Code 127 + k stands for magnitude k, code 127 - k for its negative, which there is of all but the largest; or code k.
OF_SIGNED, OF_UNSIGNED = magnitudes(1), magnitudes(2)
MAPS = {
    SIGNED: np.concatenate([-OF_SIGNED[127:0:-1], OF_SIGNED]),
    UNSIGNED: OF_UNSIGNED,
}
LIMITS = {SIGNED: _limits(OF_SIGNED), UNSIGNED: _limits(OF_UNSIGNED)}

_SIGN, _INFINITE, _NAN = np.uint32(0x80000000), np.uint32(0x7F800000), np.uint16(0x7FC0)
_LARGEST = np.uint32(0x7F7F)


def random_words(seed: int, draw: int, position: int, size: int) -> np.ndarray:
    """A random word of 32 bits for each of ``size`` elements from number ``position`` on, which counts modulo 2**32.

    Of the element's number by two multiplications, those of lowbias32 (C. Wellons, "Prospecting for hash functions",
    2018), and of two keys, which Philox makes of seed and draw.
    """
    key, other, *_ = (np.uint32(word) for word in philox4x32(*halves(draw), np.uint64(0), np.uint64(0), *halves(seed)))
    x = (np.uint32(position & 0xFFFFFFFF) + np.arange(size, dtype=np.uint32)) * np.uint32(0x9E3779B9) + key
    x = (x ^ x >> np.uint32(15) ^ other) * np.uint32(0x21F0AAAD)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x735A2D97)
    return x ^ x >> np.uint32(15)


def to_bfloat16(x: np.ndarray, random: np.ndarray | None) -> np.ndarray:
    """The codes of float32 numbers, rounded to nearest or, with 16 random bits each, stochastically."""
    bits = x.view(np.uint32)
    size = bits & ~_SIGN
    add = np.uint32(0x7FFF) + (bits >> 16 & 1) if random is None else random
    finite = np.minimum((size + add) >> 16, _LARGEST)
    upper = np.where(size < _INFINITE, finite, size >> 16).astype(np.uint16)
    return np.where(size > _INFINITE, _NAN, upper | (bits >> 16 & 0x8000).astype(np.uint16))


def from_bfloat16(codes: np.ndarray) -> np.ndarray:
    """The float32 numbers that codes stand for."""
    return (codes.astype(np.uint32) << 16).view(np.float32)


def is_bfloat16(dtype: np.dtype) -> bool:
    """Whether this is the type that ``ml_dtypes`` has added to NumPy, which need not be installed."""
    return dtype.name == "bfloat16" and dtype.itemsize == 2 and dtype.isnative


def codes_of(array: np.ndarray) -> np.ndarray:
    """An array of bfloat16 as its codes, in the same memory; another as it is."""
    return array.view(np.uint16) if is_bfloat16(array.dtype) else array


def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes of float32 numbers, rounded to nearest, and those of what that has cut off."""
    codes = to_bfloat16(x, None)
    rest = x - from_bfloat16(codes)
    subnormal = np.abs(rest) < np.finfo(np.float32).smallest_normal
    return codes, to_bfloat16(np.where(subnormal | ~np.isfinite(rest), np.float32(0), rest), None)


def to_8bit(x: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes of flat float32 numbers, and the scales of their blocks."""
    blocks = -(-x.size // BLOCK)
    padded = np.zeros((blocks, BLOCK), np.float32)
    padded.reshape(-1)[: x.size] = x
    largest = (padded.view(np.uint32) & ~_SIGN).max(axis=1, initial=np.uint32(0))
    finite = largest < _INFINITE
    used = finite & (largest >= 0x00800000)  # a normal number
    scales = np.where(used, largest, np.where(finite, 0, 0x7FC00000)).astype(np.uint32).view(np.float32)
    inverse = np.where(used, np.float32(1) / np.where(used, scales, np.float32(1)), np.float32(0))
    known = np.where(finite[:, None], padded, np.float32(0))
    places = np.searchsorted(LIMITS[kind], np.abs(known) * inverse[:, None], side="left")
    if kind == SIGNED:
        places = np.where(known < 0, 127 - np.minimum(places, 127), 127 + places)
    return places.astype(np.uint8).reshape(-1)[: x.size], scales


def from_8bit(codes: np.ndarray, scales: np.ndarray, kind: int) -> np.ndarray:
    """The flat float32 numbers that codes stand for; 0 in place of a subnormal number, as in every state."""
    x = MAPS[kind][codes] * np.repeat(scales, BLOCK)[: codes.size]
    return np.where(np.abs(x) < np.finfo(np.float32).smallest_normal, np.float32(0), x)


class Stored(NamedTuple):
    """An array of float32 numbers as codes, and where its random bits come from."""

    kind: int
    codes: np.ndarray  # of the array's shape
    scales: np.ndarray | None  # of the blocks, of 8 bits
    seed: int | None  # None: round to nearest
    stream: int  # which of the random bits of a step are its own
    position: int  # of the first element among those of all tensors
    before: int = 0  # how many steps the tensor has done more than its plan has counted; for its random bits
    rest: np.ndarray | None = None  # of a parameter, the codes of what rounding has cut off, if that is kept

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def size(self) -> int:
        return self.codes.size

    def decoded(self) -> np.ndarray:
        """A new array of the numbers."""
        with np.errstate(all="ignore"):
            flat = self.codes.reshape(-1)
            x = from_bfloat16(flat) if self.scales is None else from_8bit(flat, self.scales, self.kind)
            if self.rest is not None:
                x = x + from_bfloat16(self.rest.reshape(-1))
            return x.reshape(self.codes.shape)

    def moved(self, x: np.ndarray, step: int | None) -> "Stored":
        """These numbers as step number ``step`` stores them (None: rounded to nearest), in new arrays."""
        flat = np.ascontiguousarray(x).reshape(-1)
        with np.errstate(all="ignore"):
            if self.scales is not None:
                codes, scales = to_8bit(flat, self.kind)
                return self._replace(codes=codes.reshape(self.codes.shape), scales=scales)
            if self.rest is not None:
                codes, rest = split(flat)
                return self._replace(codes=codes.reshape(self.codes.shape), rest=rest.reshape(self.codes.shape))
            random = None if self.seed is None or step is None else self.random(step)
            return self._replace(codes=to_bfloat16(flat, random).reshape(self.codes.shape))

    def random(self, step: int) -> np.ndarray:
        """The 16 random bits of every element in a step of the plan; two streams share the words of a draw."""
        draw, half = (step + self.before) * (STREAMS // 2) + self.stream // 2, self.stream % 2
        words = random_words(self.seed or 0, draw, self.position, self.codes.size)
        return words >> np.uint32(16 * half) & np.uint32(0xFFFF)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Those that are written to."""
        return tuple(array for array in (self.codes, self.scales, self.rest) if array is not None)

    def viewed(self, view: Callable[[np.ndarray], np.ndarray]) -> "Stored":
        """The same in views of the arrays of its shape."""
        return self._replace(codes=view(self.codes), rest=None if self.rest is None else view(self.rest))
