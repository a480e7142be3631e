"""Matrix products, in the shapes of networks: a product, and one whose second matrix is transposed, as in a layer.

Beside NumPy's BLAS and PyTorch's there are BLIS, if the system has it (Debian: libblis4-pthread), and "peak": as many
fused multiply-adds as the product has, without anything else.
"""

import ctypes
import ctypes.util
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

import fastopt as fo

from .measure import FASTOPT, Case, Setup, Side, Spec, fastopt_settings
from .peak import MultiplyAdds
from .peers import blas_settings, torch_settings

# (m, k)·(k, n): batches of 1 to 256, layers of 10 to 1024 units, one column, one link, and a large square.
SHAPES = [(32, 30, 100), (32, 100, 1), (100, 32, 1), (128, 256, 10), (128, 256, 256), (256, 1024, 1024), (1, 256, 256),
          (128, 1, 256), (256, 784, 1024), (10_000, 4, 32), (10_000, 32, 16), (1024, 1024, 1024)]  # fmt: skip
QUICK = [(32, 30, 100), (32, 100, 1), (128, 256, 10), (128, 256, 256), (1, 256, 256), (128, 1, 256)]


def specs(setup: Setup) -> Iterator[Spec]:
    for m, k, n in QUICK if setup.quick else SHAPES:
        for transposed in (False, True):
            name = f"product ({m}, {k})·({k}, {n}){' transposed' if transposed else ''}"
            yield Spec("products", "products", name, partial(_case, m, k, n, transposed, setup), ("matmul",))


def _case(m: int, k: int, n: int, transposed: bool, setup: Setup) -> Case:
    random = np.random.default_rng(0)
    a = random.standard_normal((m, k), dtype=np.float32)
    b = random.standard_normal((n, k) if transposed else (k, n), dtype=np.float32)
    b = b.T if transposed else b
    ours, blas = np.empty((2, m, n), np.float32)
    sides = [Side(FASTOPT, partial(fo.matmul, a, b, ours), lambda: [ours], fastopt_settings(setup))]
    if "numpy" in setup.peers:
        sides.append(Side("numpy", partial(np.matmul, a, b, blas), lambda: [blas], blas_settings(setup)))
    if "torch" in setup.peers:
        torch = setup.peers["torch"]
        left, right, out = torch.from_numpy(a), torch.from_numpy(b), torch.empty((m, n))
        call = partial(torch.matmul, left, right, out=out)
        sides.append(Side("torch", call, lambda: [out.numpy()], torch_settings(setup)))
    if blis := _blis():
        from_blis = np.empty((m, n), np.float32)
        call = partial(_sgemm, blis, a, b, from_blis)
        sides.append(Side("BLIS", call, lambda: [from_blis], _blis_settings(blis, setup)))
    peak = MultiplyAdds(m * k * n, setup.threads)
    sides.append(Side("peak", peak, list, peak.settings, checked=False))
    facts = {"flops": 2 * m * k * n}
    return Case(m * n, sides, lambda: [a.astype(np.float64) @ b.astype(np.float64)], facts=facts)


@cache
def _blis() -> Any:
    name = ctypes.util.find_library("blis")  # where it looks, LD_LIBRARY_PATH counts
    return ctypes.CDLL(name) if name else None


def _blis_settings(blis: Any, setup: Setup) -> dict[str, Callable[[], object]]:
    def set_threads(n: int) -> None:
        blis.bli_thread_set_num_threads(ctypes.c_long(n))

    return {f"BLIS threads: {n}": partial(set_threads, n) for n in sorted({1, setup.all_threads})}


def _sgemm(blis: Any, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a b by BLIS's CBLAS; b may be the transpose of a C-contiguous matrix."""
    (m, k), n, transposed = a.shape, b.shape[1], not b.flags.c_contiguous
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    rows_first, plain, transpose = 101, 111, 112
    address = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, out)]
    blis.cblas_sgemm(rows_first, plain, transpose if transposed else plain, m, n, k, one, address[0], k, address[1],
                     k if transposed else n, zero, address[2], n)  # fmt: skip
