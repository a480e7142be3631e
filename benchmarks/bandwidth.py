"""What this machine's memory can do: bare loops that read and write what a kernel has to, and compute nothing.

(One also takes the roots and divides, as Adam has to: in the cache that is what it waits for.)

A case names its sweeps over memory; these are timed in the same rounds as the kernel, over the same arrays, with the
same number of threads. Where a result is written that need not be read, there are two ways, plain stores (which first
read the line they overwrite) and non-temporal ones (which do not, and leave the result out of the cache): the bound is
the faster of the two here, and the report says which it was. Small arrays are swept many times per call, each thread
over its own part, so that the figure is that of the cache and not of starting threads.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .measure import Sweep

LINE = 64  # bytes
ONE_THREAD_BELOW = 32768  # elements
BYTES_PER_CALL = 128 << 20  # what is swept again and again until a call has moved this much

loop = numba.njit(nogil=True)


@loop
def _read(times, zero, x):
    seen = np.uint64(0)
    for _ in range(times):
        for i in range(x.size):
            seen |= x[i]
    return seen


@loop
def _update0(times, zero, p):
    for _ in range(times):
        for i in range(p.size):
            p[i] = p[i] + zero


@loop
def _update1(times, zero, p, g):
    for _ in range(times):
        for i in range(p.size):
            p[i] = p[i] + zero * g[i]


@loop
def _update2(times, zero, p, g, a):
    for _ in range(times):
        for i in range(p.size):
            a[i] = a[i] + zero * g[i]
            p[i] = p[i] + zero * a[i]


@loop
def _update3(times, zero, p, g, a, b):
    for _ in range(times):
        for i in range(p.size):
            a[i] = a[i] + zero * g[i]
            b[i] = b[i] + zero * g[i]
            p[i] = p[i] + zero * a[i]


@loop
def _update4(times, zero, p, g, a, b, c):
    for _ in range(times):
        for i in range(p.size):
            a[i] = a[i] + zero * g[i]
            b[i] = b[i] + zero * g[i]
            c[i] = c[i] + zero * g[i]
            p[i] = p[i] + zero * a[i]


@loop
def _update5(times, zero, p, g, a, b, c, d):
    for _ in range(times):
        for i in range(p.size):
            a[i] = a[i] + zero * g[i]
            b[i] = b[i] + zero * g[i]
            c[i] = c[i] + zero * g[i]
            d[i] = d[i] + zero * g[i]
            p[i] = p[i] + zero * a[i]


# error_model: else a test for 0 in front of the division keeps the loop from being vectorised
@numba.njit(nogil=True, error_model="numpy")
def _adam(times, zero, p, g, a, b):
    one = zero + np.float32(1)
    for _ in range(times):
        for i in range(p.size):
            a[i] = a[i] + zero * g[i]
            b[i] = b[i] + zero * g[i]
            p[i] = p[i] + zero * a[i] / (np.sqrt(b[i]) + one)


@loop
def _map1(times, zero, x, out):
    for _ in range(times):
        for i in range(x.size):
            out[i] = x[i] + zero


@loop
def _map2(times, zero, x, y, out):
    for _ in range(times):
        for i in range(x.size):
            out[i] = x[i] + zero * y[i]


@loop
def _map3(times, zero, x, y, z, out):
    for _ in range(times):
        for i in range(x.size):
            out[i] = x[i] + zero * y[i] + zero * z[i]


_intrinsic: Any = intrinsic  # it calls a function of one argument less, which types cannot say


@_intrinsic
def _stream_line(typing_context, out, x, y, i):
    """out[i : i + a line] = x + y, past the cache; out[i] begins a line."""

    def generate(context, builder, signature, arguments):
        element = context.get_value_type(signature.args[0].dtype)
        line = ir.VectorType(element, LINE // context.get_abi_sizeof(element))

        def place(number):
            array = context.make_array(signature.args[number])(context, builder, arguments[number])
            pointer = cgutils.gep_inbounds(builder, array.data, arguments[3])
            return builder.bitcast(pointer, line.as_pointer())

        value = builder.fadd(*(builder.load(place(number), align=element_bytes) for number in (1, 2)))
        store = builder.store(value, place(0), align=LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    element_bytes = out.dtype.bitwidth // 8
    return types.void(out, x, y, i), generate


@loop
def _stream(times, zero, x, y, out):
    per_line = LINE // out.itemsize
    head = min(-(out.ctypes.data // out.itemsize) % per_line, out.size)
    for _ in range(times):
        for i in range(head):
            out[i] = x[i] + y[i]
        end = head + (out.size - head) // per_line * per_line
        for i in range(head, end, per_line):
            _stream_line(out, x, y, i)
        for i in range(end, out.size):
            out[i] = x[i] + y[i]


PLAIN = {
    ("read", 1): _read,
    **{
        ("update", i + 1): update
        for i, update in enumerate((_update0, _update1, _update2, _update3, _update4, _update5))
    },
    ("Adam", 4): _adam,
    ("map", 2): _map1,
    ("map", 3): _map2,
    ("map", 4): _map3,
}


def _past_the_cache(times, zero, *arrays):
    """`_stream` of one or two arrays; one is then read twice, at once, which costs nothing."""
    _stream(times, zero, arrays[0], arrays[-2], arrays[-1])


class Stream:
    """A function that makes the given sweeps, and how many times it does so per call."""

    def __init__(self, sweeps: Sequence[Sweep], threads: int, non_temporal: bool = False):
        elements = sum(sweep.arrays[0].size for sweep in sweeps)
        self.threads = threads if elements >= ONE_THREAD_BELOW else 1
        self.bytes_moved = sum(sweep.bytes_moved for sweep in sweeps)
        self.times = max(1, BYTES_PER_CALL // max(1, self.bytes_moved))
        parts: list[list[Callable[[], object]]] = [[] for _ in range(self.threads)]
        for sweep in sweeps:
            for kernel, zero, pieces in self._pieces(sweep, non_temporal):
                for part, arrays in zip(parts, pieces, strict=True):
                    if arrays[0].size:
                        part.append(partial(kernel, self.times, zero, *arrays))
        self._parts = parts
        self._pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None

    def _pieces(self, sweep: Sweep, non_temporal: bool):
        """For every loop the sweep needs: the kernel, a zero of its type, and for every thread its arrays."""
        flat = [array.reshape(-1) for array in sweep.arrays]
        zero = flat[0].dtype.type(0)
        per_line = LINE // flat[0].itemsize
        cuts = [flat[0].size * i // self.threads // per_line * per_line for i in range(self.threads)] + [flat[0].size]
        pieces = [[array[a:b] for array in flat] for a, b in pairwise(cuts)]
        if sweep.kind == "read":  # as whole words, so that the loop is vectorised
            for i in range(len(flat)):
                yield _read, np.uint64(0), [[_words(piece[i])] for piece in pieces]
        elif sweep.kind == "map" and non_temporal and len(flat) <= 3:
            yield _past_the_cache, zero, pieces
        else:
            yield PLAIN[sweep.kind, len(flat)], zero, pieces

    def __call__(self) -> None:
        others = [self._pool.submit(_run, part) for part in self._parts[1:]] if self._pool else []
        _run(self._parts[0])
        for other in others:
            other.result()


def _words(piece: np.ndarray) -> np.ndarray:
    whole = piece.nbytes // 8 * 8 // piece.itemsize
    return piece[:whole].view(np.uint64)


def _run(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()


def streams(sweeps: Sequence[Sweep], threads: int) -> dict[str, Stream]:
    """The ways to make these sweeps; what is written without being read may go past the cache."""
    ways = {"plain stores": Stream(sweeps, threads)}
    if any(sweep.kind == "map" for sweep in sweeps):
        ways["non-temporal stores"] = Stream(sweeps, threads, non_temporal=True)
    return ways
