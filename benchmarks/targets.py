"""What speed is aimed at, and whether a recorded run reached it.

Ratios are to fastopt's time in the same rounds: 2 means that the other takes twice as long. Of several cases the worst
counts, unless a mean is asked for.
"""

import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from . import in_sklearn, in_torch, products
from .optimizers import BARE_LOOP

PRODUCTS = "matrix products only"
GFLOPS = "GFLOP/s a core"
LOOP_AND_CALL = "the bare loop and 3 µs"
NUMPY = "numpy"  # the faster of the two ways
TRAINING = "30-100-1 sigmoid, batch 32"
BERT = "BERT-base, 194 tensors"
NORMS = ("(256, 512)", "(4096, 1024)", "(65536, 256)", "(32, 64, 56, 56)", "(128, 32, 32, 32)")


class Target(NamedTuple):
    work: str
    against: str  # a peer, a bound, another case, PRODUCTS, GFLOPS, or "seconds"
    limit: float  # at least this ratio, share or speed; at most these seconds
    cases: tuple[str, ...]
    mean: bool = False  # the geometric mean of the cases, instead of the worst
    side: str = "fastopt"  # whose time it is: fastopt's as it is by default, or with an option


def _adam(*sizes: int) -> tuple[str, ...]:
    return tuple(f"Adam, one array of {size:,}" for size in sizes)


def _logistic(*sizes: int) -> tuple[str, ...]:
    return tuple(f"logistic loss + gradient {size:,}" for size in sizes)


def _products(largest: int) -> tuple[str, ...]:
    shapes = [(m, k, n) for m, k, n in products.SHAPES if m * k * n < largest]
    return tuple(f"product ({m}, {k})·({k}, {n}){way}" for m, k, n in shapes for way in ("", " transposed"))


_ARRAYS = _adam(10**7, 2 * 10**7, 6 * 10**7)
_LARGE = (*_ARRAYS, f"Adam, {BERT}", f"AdamW, {BERT}")
_EVERY_LOGISTIC = _logistic(4096, 65536, 10**6, 16 * 10**6)
_NORM_CASES = tuple(f"batch norm forward + backward {shape}" for shape in NORMS)
_CHECKED, _UNCHECKED, _8BIT = "bandwidth with check", "fastopt, unchecked", "fastopt, 8bit"

TARGETS = [
    *(
        Target(f"a training step, {name}", against, limit, (name,))
        for name, limits in (
            (TRAINING, {"jax": 2.2, NUMPY: 7.0, "sklearn": 15.0, "torch": 25.0}),
            ("64-256-256-10 relu, batch norm, batch 128", {"jax": 1.8, "torch": 6.0, PRODUCTS: 1 / 1.5}),
            ("784-1024-1024-10 relu, batch 256", {"jax": 1.6, "torch": 1.6, PRODUCTS: 1 / 1.15}),
            ("4-32-16-4 tanh, batch 10000", {GFLOPS: 60.0}),
        )
        for against, limit in limits.items()
    ),
    Target("matrix products below 10⁷ multiply-adds, geometric mean", NUMPY, 1.2, _products(10**7), mean=True),
    Target("matrix products, every one", NUMPY, 0.8, _products(10**10)),
    Target("the product of 1024³", NUMPY, 0.95, ("product (1024, 1024)·(1024, 1024)",)),
    Target("Adam, one array of 10⁵", "torch", 1.7, _adam(10**5)),
    Target("Adam, the 6 tensors of an MLP", "torch", 5.0, ("Adam, 6 tensors of an MLP",)),
    Target("Adam, 64 tensors of 8", "torch", 55.0, ("Adam, 64 tensors of 8",)),
    *(
        Target(case, LOOP_AND_CALL, 1 / 1.25, (case,))
        for case in (*_adam(10**5), "Adam, 6 tensors of an MLP", "Adam, 64 tensors of 8")
    ),
    Target("Adam, AdamW, 10⁷ to 10⁸ parameters", _CHECKED, 0.92, _LARGE),
    Target("the same, unchecked", "torch", 1.0, _LARGE, side=_UNCHECKED),
    Target("the same, unchecked", "deepspeed", 1.0, _LARGE, side=_UNCHECKED),
    Target("Adam with 16-bit state", "torch", 1.2, _ARRAYS, side="fastopt, bfloat16"),
    Target("Adam with 8-bit state", "torch", 1.35, _ARRAYS, side="fastopt, 8bit"),
    Target("Adam with 16-bit state, unchecked", "torch", 1.35, _ARRAYS, side="fastopt, bfloat16, unchecked"),
    Target("Adam with 8-bit state, unchecked", "torch", 1.6, _ARRAYS, side="fastopt, 8bit, unchecked"),
    *(
        Target(f"{name}, BERT-base's 194 tensors (1.1·10⁸)", _CHECKED, 0.9, (f"{name}, {BERT}",))
        for name in ("LAMB", "LARS", "NAdam", "RMSprop", "Adadelta")
    ),
    *(
        Target(f"{name}, BERT-base's 194 tensors (1.1·10⁸)", "torch", 2.5, (f"{name}, {BERT}",))
        for name in ("NAdam", "RMSprop", "Adadelta")
    ),
    Target("LAMB, BERT-base's 194 tensors (1.1·10⁸)", f"AdamW, {BERT}", 1 / 1.6, (f"LAMB, {BERT}",)),
    Target("fastopt.torch, the 6 tensors of an MLP", "torch", 4.0, ("torch: AdamW, 6 tensors of an MLP",)),
    Target("fastopt.torch, 64 tensors of 8", "torch", 15.0, ("torch: AdamW, 64 tensors of 8",)),
    Target(
        "fastopt.torch with 8-bit state, BERT-base's 194 tensors", "torch", 1.5, (f"torch: AdamW, {BERT}",), side=_8BIT
    ),
    Target("fastopt.torch with 8-bit state, 8·10⁶ elements", "bitsandbytes", 8.0, (in_torch.EIGHT_BITS,), side=_8BIT),
    Target("fastopt.torch, ResNet-18's 62 tensors", "torch", 1.2, ("torch: AdamW, ResNet-18's 62 tensors",)),
    *(
        Target("fastopt.torch, BERT-base's 194 tensors", "torch", limit, tuple(f"torch: {n}, {BERT}" for n in names))
        for limit, names in ((1.0, ("AdamW", "SGD", "Adagrad")), (2.5, ("NAdam", "RMSprop", "Adadelta")))
    ),
    Target("fastopt.sklearn, networks of 100 units", "sklearn", 5.0, in_sklearn.SMALL),
    Target("fastopt.sklearn, networks of 1000 units", "sklearn", 1.0, in_sklearn.LARGE),
    Target("batch norm forward + backward, five shapes, geometric mean", "torch", 3.0, _NORM_CASES, mean=True),
    Target("batch norm forward + backward, every one of the five", "torch", 1.2, _NORM_CASES),
    Target("logistic loss and gradient, 4096 to 1.6·10⁷", "torch", 6.0, _EVERY_LOGISTIC),
    Target("logistic loss and gradient, 65,536 to 1.6·10⁷", NUMPY, 10.0, _EVERY_LOGISTIC[1:]),
    Target("sigmoid, in cache", "torch", 1.2, ("sigmoid (32, 100)", "sigmoid (100000,)")),
    Target("sigmoid, 1.6·10⁷", "bandwidth", 0.9, ("sigmoid (16000000,)",)),
    Target("import fastopt, beyond import numpy", "seconds", 25e-3, ("import, beyond NumPy",)),
]


def value(record: dict[str, Any], against: str, side: str = "fastopt") -> float | None:
    """Seconds, a share of a bound, GFLOP/s a core, or how many times as long a peer takes; None if not measured."""
    if side not in record["sides"]:
        return None
    ours = record["sides"][side]["seconds"][0]
    if against == "seconds":
        return ours
    if against == GFLOPS:
        return _operations(record["name"]) / ours / record["threads"] / 1e9 if "threads" in record else None
    if against == LOOP_AND_CALL:
        loop = record.get("bounds", {}).get(BARE_LOOP)
        return loop and loop["seconds"][0] / max(ours - 3e-6, 1e-9)
    if against in record.get("bounds", {}):
        return record["bounds"][against]["share"][0]
    names = [name for name in record["sides"] if name.split(",")[0] == against]
    ratio = min((record["sides"][name]["ratio"][0] for name in names), default=None)
    return ratio if ratio is None or side == "fastopt" else ratio / record["sides"][side]["ratio"][0]


def _operations(name: str) -> float:
    """Of the matrix products of a step, two for each multiply-add: three products a layer, of the first but two."""
    widths, batch = name.split(" ")[0].split("-"), int(name.rsplit(" ", 1)[1])
    layers = [int(a) * int(b) for a, b in pairwise(widths)]
    return 2.0 * batch * (3 * sum(layers) - layers[0])


class Outcome(NamedTuple):
    target: Target
    measured: float | None  # what counts
    of: str  # the case it was seen in
    missing: int  # cases that this run does not have

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        if self.target.against == "seconds":
            return self.measured <= self.target.limit
        return self.measured >= self.target.limit


def outcomes(run: dict[str, Any]) -> list[Outcome]:
    """Every target, with what the run says about it."""
    records = {record["name"]: record for record in run["records"]}
    found = []
    for target in TARGETS:
        values = {
            name: measured
            for name in target.cases
            if name in records and (measured := _measured(records, name, target)) is not None
        }
        missing = len(target.cases) - len(values)
        if not values:
            found.append(Outcome(target, None, "", missing))
        elif target.mean:
            found.append(Outcome(target, statistics.geometric_mean(values.values()), "mean", missing))
        else:
            worst: Callable[..., str] = max if target.against == "seconds" else min
            name = worst(values, key=values.__getitem__)
            found.append(Outcome(target, values[name], name, missing))
    return found


def _measured(records: dict[str, dict[str, Any]], name: str, target: Target) -> float | None:
    if target.against.endswith(BERT):  # another case
        other = records.get(target.against)
        ours = value(records[name], "seconds")
        return other["sides"]["fastopt"]["seconds"][0] / ours if other and ours else None
    return value(records[name], target.against, target.side)
