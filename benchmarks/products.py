"""Matrix products, in the shapes of networks: a product, and one whose second matrix is transposed, as in a layer."""

from collections.abc import Iterator
from functools import partial

import numpy as np

import fastopt as fo

from .measure import FASTOPT, Case, Setup, Side, Spec, fastopt_settings
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
    facts = {"multiply_adds": m * k * n}
    return Case(m * n, sides, lambda: [a.astype(np.float64) @ b.astype(np.float64)], facts=facts)
