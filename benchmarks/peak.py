"""What this machine can multiply and add: fused multiply-adds of float32 vectors that do not wait for each other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

CHAINS = 16  # two a cycle, which take four or five cycles each
_intrinsic: Any = intrinsic  # it calls a function of one argument less, which types cannot say


@cache
def _loop(lanes: int) -> Callable[[int], float]:
    """A loop over ``CHAINS`` fused multiply-adds of so many lanes; a sum is returned, so that none is left out."""

    @_intrinsic
    def chains(typing_context, times):
        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(ir.FloatType(), lanes)

            def constant(value):
                return ir.Constant(vector, [value] * lanes)

            sums = [cgutils.alloca_once_value(builder, constant(float(i))) for i in range(CHAINS)]
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32"
            )
            with cgutils.for_range(builder, arguments[0]):
                for place in sums:
                    builder.store(builder.call(fma, [builder.load(place), constant(0.999), constant(0.001)]), place)
            total = constant(0.0)
            for place in sums:
                total = builder.fadd(total, builder.load(place))
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return types.float32(types.int64), generate

    return numba.njit(nogil=True)(lambda times: chains(times))


class MultiplyAdds:
    """A call that does at least ``count`` of them: with the vectors and threads that were last asked for."""

    def __init__(self, count: int, threads: list[int]):
        self._count, most = count, threads[-1]
        self._pool = ThreadPoolExecutor(most - 1) if most > 1 else None
        self.settings: dict[str, Callable[[], object]] = {
            f"vectors of {lanes}, threads: {n}": partial(self._set, lanes, n)
            for lanes in (8, 16)
            for n in sorted({1, most})
        }

    def _set(self, lanes: int, threads: int) -> None:
        self._loop, self._others = _loop(lanes), threads - 1
        self._times = -(-self._count // (lanes * CHAINS * threads))

    def __call__(self) -> None:
        running = [self._pool.submit(self._loop, self._times) for _ in range(self._others)] if self._pool else []
        self._loop(self._times)
        for other in running:
            other.result()
