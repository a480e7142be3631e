"""How fast the functions are: batch norm, losses, activations, against PyTorch and in-place NumPy.

Every result is first compared with a float64 reference; then all candidates are timed in turns, and the medians
printed. PyTorch's side of a loss, and of "forward + backward", is the forward pass and ``backward()``. fastopt and
NumPy write into given arrays, as a training loop would have them; PyTorch has no such option here.

    python benchmarks/functions.py [part of a name ...]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import fastopt as fo

THREADS = 2


class Case(NamedTuple):
    name: str
    target: str
    check: Callable[[], float]  # the largest relative error
    candidates: dict[str, Callable[[], object]]
    elements: int
    bytes_moved: int = 0  # the fewest that must be read and written; 0 where that says nothing


def error(result: np.ndarray, exact: torch.Tensor) -> float:
    exact_array = exact.detach().numpy()
    return float(np.abs(result - exact_array).max() / np.abs(exact_array).max())


def batch_norm_cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for shape in [(64, 128), (256, 512), (4096, 1024), (65536, 256), (32, 64, 56, 56), (128, 32, 32, 32)]:
        x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
        gamma, beta = rng.standard_normal((2, shape[1]), dtype=np.float32)
        mean, var = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
        y, dx, dgamma, dbeta = np.empty_like(x), np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
        _, saved = fo.batch_norm(x, gamma, beta, mean, var, out=y)
        tx, tgamma, tbeta = (torch.tensor(a, requires_grad=True) for a in (x, gamma, beta))
        tdy, tmean, tvar = torch.tensor(dy), torch.zeros(shape[1]), torch.ones(shape[1])

        def ours(x=x, gamma=gamma, beta=beta, mean=mean, var=var, y=y, saved=saved):
            return fo.batch_norm(x, gamma, beta, mean, var, out=y, saved=saved)

        def ours_both(ours=ours, dy=dy, saved=saved, dx=dx, dgamma=dgamma, dbeta=dbeta):
            ours()
            fo.batch_norm_backward(dy, saved, dx, dgamma=dgamma, dbeta=dbeta)

        def theirs(x=tx, gamma=tgamma, beta=tbeta, mean=tmean, var=tvar):
            return F.batch_norm(x, mean, var, gamma, beta, training=True)

        def theirs_both(theirs=theirs, parameters=(tx, tgamma, tbeta), dy=tdy):
            for p in parameters:
                p.grad = None
            theirs().backward(dy)

        def check(ours_both=ours_both, x=x, gamma=gamma, beta=beta, dy=dy, y=y, dx=dx, dgamma=dgamma):
            ours_both()
            exact = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, gamma, beta)]
            y64 = F.batch_norm(exact[0], None, None, exact[1], exact[2], training=True)
            y64.backward(torch.tensor(dy, dtype=torch.float64))
            return max(error(y, y64), error(dx, exact[0].grad), error(dgamma, exact[1].grad))

        both, bytes_moved = {"fastopt": ours_both, "torch": theirs_both}, 5 * x.nbytes
        if shape == (64, 128):
            yield Case(f"batch norm forward {shape}", "3", check, {"fastopt": ours, "torch": theirs}, x.size)
            yield Case(f"batch norm forward + backward {shape}", "", check, both, x.size, bytes_moved)
        else:
            yield Case(f"batch norm forward + backward {shape}", "1.2 (all: 3)", check, both, x.size, bytes_moved)


def logistic_cases() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for size in (4096, 65536, 10**6, 16 * 10**6):
        z, y = 3 * rng.standard_normal(size, dtype=np.float32), rng.random(size, dtype=np.float32)
        dz, e, t = np.empty_like(z), np.empty_like(z), np.empty_like(z)
        tz, ty = torch.tensor(z, requires_grad=True), torch.tensor(y)

        def ours(z=z, y=y, dz=dz):
            return fo.logistic_loss(z, y, out=dz)[0]

        def theirs(z=tz, y=ty):
            z.grad = None
            F.binary_cross_entropy_with_logits(z, y).backward()

        def in_numpy(z=z, y=y, dz=dz, e=e, t=t):
            np.abs(z, out=e)
            np.negative(e, out=e)
            np.exp(e, out=e)
            np.log1p(e, out=t)
            loss = t.sum(dtype=np.float64)
            np.maximum(z, 0, out=t)
            loss += t.sum(dtype=np.float64)
            np.multiply(z, y, out=t)
            loss -= t.sum(dtype=np.float64)
            np.add(e, 1, out=t)
            np.divide(np.where(z < 0, e, np.float32(1)), t, out=dz)
            np.subtract(dz, y, out=dz)
            np.multiply(dz, np.float32(1 / z.size), out=dz)
            return loss / z.size

        def check(ours=ours, z=z, y=y, dz=dz):
            exact = torch.tensor(z, dtype=torch.float64, requires_grad=True)
            loss = F.binary_cross_entropy_with_logits(exact, torch.tensor(y, dtype=torch.float64))
            loss.backward()
            return max(abs(ours() / loss.item() - 1), error(dz, exact.grad))

        candidates = {"fastopt": ours, "torch": theirs, "numpy": in_numpy}
        yield Case(f"logistic loss + gradient {size}", "5 (NumPy: 10)", check, candidates, size, 3 * z.nbytes)


def softmax_cases() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    for shape in [(64, 10), (1024, 10), (65536, 10), (4096, 100), (65536, 1000)]:
        z, labels = 3 * rng.standard_normal(shape, dtype=np.float32), rng.integers(0, shape[1], shape[0])
        dz, tz, tlabels = np.empty_like(z), torch.tensor(z, requires_grad=True), torch.tensor(labels)

        def ours(z=z, labels=labels, dz=dz):
            return fo.softmax_cross_entropy(z, labels, out=dz)[0]

        def theirs(z=tz, labels=tlabels):
            z.grad = None
            F.cross_entropy(z, labels).backward()

        def check(ours=ours, z=z, labels=tlabels, dz=dz):
            if z.size > 10**7:
                return float("nan")
            exact = torch.tensor(z, dtype=torch.float64, requires_grad=True)
            loss = F.cross_entropy(exact, labels)
            loss.backward()
            return max(abs(ours() / loss.item() - 1), error(dz, exact.grad))

        candidates = {"fastopt": ours, "torch": theirs}
        yield Case(f"softmax cross-entropy + gradient {shape}", "3", check, candidates, z.size, 2 * z.nbytes)


def activation_cases() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for name, peer in {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "softplus": F.softplus,
    }.items():
        for shape in [(32, 100), (100_000,), (16 * 10**6,)]:
            x = 3 * rng.standard_normal(shape, dtype=np.float32)
            y, tx, ours_of = np.empty_like(x), torch.tensor(x), getattr(fo, name)
            ty = torch.empty_like(tx)
            candidates = {"fastopt": lambda f=ours_of, x=x, y=y: f(x, y), "torch": lambda f=peer, x=tx: f(x)}
            if name in ("sigmoid", "tanh"):  # these torch can write into an array of ours
                candidates["torch"] = lambda f=peer, x=tx, out=ty: f(x, out=out)

            def check(f=ours_of, peer=peer, x=x, y=y):
                return error(f(x, y), peer(torch.tensor(x, dtype=torch.float64)))

            target = "1.2 in cache" if name == "sigmoid" else ""
            yield Case(f"{name} {shape}", target, check, candidates, x.size, 2 * x.nbytes)


def column_sum_cases() -> Iterator[Case]:
    rng = np.random.default_rng(4)
    for shape in [(32, 100), (65536, 1), (65536, 10), (4096, 1024)]:
        x, sums = rng.standard_normal(shape, dtype=np.float32), np.empty(shape[1], np.float32)
        tx, tsums = torch.tensor(x), torch.empty(shape[1])
        column_sums = fo._backends.active.column_sums

        def check(x=x, sums=sums, column_sums=column_sums):
            column_sums(x, sums)
            return error(sums, torch.tensor(x.sum(0, dtype=np.float64)))

        candidates = {
            "fastopt": lambda x=x, sums=sums, f=column_sums: f(x, sums),
            "torch": lambda x=tx, sums=tsums: torch.sum(x, 0, out=sums),
            "numpy": lambda x=x, sums=sums: np.add.reduce(x, 0, out=sums),
        }
        yield Case(f"column sums {shape}", "", check, candidates, x.size, x.nbytes)


def bandwidth() -> float:
    """Bytes per second of reading one large array and writing another, with two threads."""
    a, b = torch.zeros(2 * 10**7), torch.zeros(2 * 10**7)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        b.copy_(a)
        times.append(time.perf_counter() - start)
    return 2 * 4 * a.numel() / min(times)


def medians(candidates: dict[str, Callable[[], object]], elements: int) -> dict[str, float]:
    """In microseconds, all taking turns."""
    repeat, rounds = max(1, 20_000 // elements), 9 if elements > 10**7 else 21 if elements > 10**5 else 41
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            warm = time.perf_counter() + 0.005  # the threads of the one before spin for a while before they sleep
            candidate()
            while time.perf_counter() < warm:
                candidate()
            start = time.perf_counter()
            for _ in range(repeat):
                candidate()
            times[name].append((time.perf_counter() - start) / repeat)
    return {name: 1e6 * statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only cases whose name contains one of these")
    names = parser.parse_args().names
    fo.set_num_threads(THREADS)
    torch.set_num_threads(THREADS)
    speed = bandwidth()
    print(f"{THREADS} threads, {fo.get_instruction_set()}; copying runs at {speed / 1e9:.1f} GB/s")
    print(f"{'':46} {'fastopt':>10} {'torch':>10} {'ratio':>6} {'target':>13} {'NumPy':>6} {'of copy':>8} {'error':>8}")
    ratios = []
    for cases in (batch_norm_cases, logistic_cases, softmax_cases, activation_cases, column_sum_cases):
        for case in cases():
            if names and not any(name in case.name for name in names):
                continue
            wrong = case.check()
            if wrong > 1e-4:
                raise AssertionError(f"{case.name}: relative error {wrong:.1e}")
            time_of = medians(case.candidates, case.elements)
            ratio = time_of["torch"] / time_of["fastopt"]
            if "all" in case.target:
                ratios.append(ratio)
            numpy_ratio = f"{time_of['numpy'] / time_of['fastopt']:6.1f}" if "numpy" in time_of else ""
            share = f"{case.bytes_moved / speed / time_of['fastopt'] * 1e6:8.0%}" if case.bytes_moved else ""
            print(
                f"{case.name:46} {time_of['fastopt']:7.1f} us {time_of['torch']:7.1f} us {ratio:6.2f} {case.target:>13}"
                f" {numpy_ratio:>6} {share:>8} {wrong:8.0e}",
                flush=True,
            )
    if ratios:
        print(f"batch norm forward + backward, geometric mean: {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
