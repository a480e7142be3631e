"""What speed is aimed at, and whether a recorded run reached it.

Ratios are to fastopt's time in the same rounds: 2 means that the other takes twice as long. Of several cases the worst
counts, unless a mean is asked for.
"""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

from . import in_sklearn

NUMPY = "numpy"  # the faster of the two ways
TRAINING = "30-100-1 sigmoid, batch 32"
BERT = "BERT-base, 194 tensors"
NORMS = ("(256, 512)", "(4096, 1024)", "(65536, 256)", "(32, 64, 56, 56)", "(128, 32, 32, 32)")


class Target(NamedTuple):
    work: str
    against: str  # a peer, a bound, or "seconds"
    limit: float  # at least this ratio or share; at most these seconds
    cases: tuple[str, ...]
    mean: bool = False  # the geometric mean of the cases, instead of the worst


def _adam(*sizes: int) -> tuple[str, ...]:
    return tuple(f"Adam, one array of {size:,}" for size in sizes)


def _logistic(*sizes: int) -> tuple[str, ...]:
    return tuple(f"logistic loss + gradient {size:,}" for size in sizes)


_LARGE = (*_adam(10**7, 2 * 10**7, 6 * 10**7), f"Adam, {BERT}", f"AdamW, {BERT}")
_IN_CACHE = _adam(10**5, 262_144, 10**6)
_EVERY_LOGISTIC = _logistic(4096, 65536, 10**6, 16 * 10**6)
_NORM_CASES = tuple(f"batch norm forward + backward {shape}" for shape in NORMS)

TARGETS = [
    Target("Adam, AdamW, 10⁷ to 10⁸ parameters", "torch", 1.0, _LARGE),
    Target("Adam, AdamW, 10⁷ to 10⁸ parameters", "deepspeed", 1.0, _LARGE),
    Target("Adam, AdamW, 10⁷ to 10⁸ parameters", "bandwidth", 0.95, _LARGE),
    Target("Adam, 10⁵ to 10⁶ parameters (in cache)", "torch", 2.0, _IN_CACHE),
    Target("Adam, 10⁵ to 10⁶ parameters (in cache)", "deepspeed", 1.1, _IN_CACHE),
    Target("Adam, the 6 tensors of an MLP", "torch", 15.0, ("Adam, 6 tensors of an MLP",)),
    Target("Adam, 64 tensors of 8", "torch", 60.0, ("Adam, 64 tensors of 8",)),
    *(
        Target(f"{name}, BERT-base's 194 tensors (1.1·10⁸)", "bandwidth", 0.9, (f"{name}, {BERT}",))
        for name in ("NAdam", "RMSprop", "Adadelta", "Adagrad", "LARS", "LAMB")
    ),
    *(
        Target(f"{name}, BERT-base's 194 tensors (1.1·10⁸)", "torch", 2.5, (f"{name}, {BERT}",))
        for name in ("NAdam", "RMSprop", "Adadelta")
    ),
    Target("fastopt.torch, the 6 tensors of an MLP", "torch", 4.0, ("torch: AdamW, 6 tensors of an MLP",)),
    Target("fastopt.torch, 64 tensors of 8", "torch", 15.0, ("torch: AdamW, 64 tensors of 8",)),
    Target("fastopt.torch, ResNet-18's 62 tensors", "torch", 1.2, ("torch: AdamW, ResNet-18's 62 tensors",)),
    *(
        Target("fastopt.torch, BERT-base's 194 tensors", "torch", limit, tuple(f"torch: {n}, {BERT}" for n in names))
        for limit, names in ((1.0, ("AdamW", "SGD", "Adagrad")), (2.5, ("NAdam", "RMSprop", "Adadelta")))
    ),
    Target("fastopt.sklearn, networks of 100 units", "sklearn", 5.0, in_sklearn.SMALL),
    Target("fastopt.sklearn, networks of 1000 units", "sklearn", 1.0, in_sklearn.LARGE),
    Target("batch norm forward + backward, five shapes, geometric mean", "torch", 3.0, _NORM_CASES, mean=True),
    Target("batch norm forward + backward, every one of the five", "torch", 1.2, _NORM_CASES),
    Target("logistic loss and gradient, 4096 to 1.6·10⁷", "torch", 5.0, _EVERY_LOGISTIC),
    Target("logistic loss and gradient, 4096 to 1.6·10⁷", NUMPY, 10.0, _EVERY_LOGISTIC),
    Target("sigmoid, in cache", "torch", 1.2, ("sigmoid (32, 100)", "sigmoid (100000,)")),
    Target("sigmoid, 1.6·10⁷", "bandwidth", 0.9, ("sigmoid (16000000,)",)),
    Target(f"a training step, {TRAINING}", "seconds", 16e-6, (TRAINING,)),
    Target(f"a training step, {TRAINING}", "sklearn", 143 / 16, (TRAINING,)),
    Target(f"a training step, {TRAINING}", "torch", 161 / 16, (TRAINING,)),
    Target(f"a training step, {TRAINING}", NUMPY, 62 / 16, (TRAINING,)),
    Target(f"a training step, {TRAINING}", "jax", 20 / 16, (TRAINING,)),
    Target("import fastopt, beyond import numpy", "seconds", 30e-3, ("import, beyond NumPy",)),
]


def value(record: dict[str, Any], against: str) -> float | None:
    """fastopt's seconds, its share of a bound, or how many times as long a peer takes."""
    if against == "seconds":
        return record["sides"]["fastopt"]["seconds"][0]
    if against in record.get("bounds", {}):
        return record["bounds"][against]["share"][0]
    names = [name for name in record["sides"] if name.split(",")[0] == against]
    return min((record["sides"][name]["ratio"][0] for name in names), default=None)


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
            if name in records and (measured := value(records[name], target.against)) is not None
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
