"""How a case is checked, and then timed: all sides in turns, round after round, within one run.

A wrong result of fastopt's ends the run; a peer whose result differs is named and not timed. Of a peer that can be set
up in several ways (threads, fused or not), the one that a short trial shows to be the fastest is timed.
"""

import gc
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter, process_time, sleep
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import fastopt as fo

MOMENT = 0.012  # seconds: what a thread has used is known some milliseconds later
SPIN = 0.25  # seconds: longer than any library's threads look for more work before they sleep; OpenBLAS's take 0.1
WARM = 0.02  # seconds: before that the kernel may have put a thread that woke up on the CPU of the one that woke it
LONG = 0.02  # seconds
DISTURBED = 0.1  # the share of the CPUs that others may have before a case is timed again
FASTOPT = "fastopt"


class Sweep(NamedTuple):
    """One pass: ``"read"`` reads all arrays; ``"update"`` reads the second and reads and writes the others, and so does
    ``"Adam"``, with its root and its division; ``"map"`` reads all but the last and writes that."""

    kind: str
    arrays: Sequence[np.ndarray]

    @property
    def bytes_moved(self) -> int:
        count = len(self.arrays)
        return self.arrays[0].nbytes * (2 * count - (count > 1) if self.kind in ("update", "Adam") else count)


def _nothing() -> None:
    pass


@dataclass
class Setup:
    """What the run was asked for."""

    threads: list[int]  # of fastopt, most last; peers are tried with the least and the most
    peers: dict[str, ModuleType] = field(default_factory=dict)
    quick: bool = False

    @property
    def all_threads(self) -> int:
        return self.threads[-1]


@dataclass
class Side:
    """One way of doing a case's work. ``settings``: by name, what is to be called before it runs so."""

    name: str
    call: Callable[[], object]
    results: Callable[[], Sequence[Any]]  # what is to be compared, as it is after the calls so far
    settings: dict[str, Callable[[], object]] = field(default_factory=lambda: {"": _nothing})
    checked: bool = True  # False for what does no whole job, such as the matrix products of a step


def returning(
    name: str, call: Callable[[], Sequence[Any]], settings: dict[str, Callable[[], object]] | None = None
) -> Side:
    """A side whose results are what its call returns."""
    last: list[Any] = []

    def run() -> None:
        last[:] = call()

    return Side(name, run, lambda: last, settings or {"": _nothing})


@dataclass
class Case:
    """Work to be done; ``reference`` gives the results in float64 after as many calls as ``calls`` says."""

    elements: int
    sides: list[Side]
    reference: Callable[[], Sequence[Any]]
    bounds: dict[str, list[Sweep]] = field(default_factory=dict)  # by name, what must be moved through memory
    calls: int = 1
    tolerance: float = 1e-4
    per_call: int = 1  # units of work in a call: steps in an epoch
    facts: dict[str, Any] = field(default_factory=dict)


class Spec(NamedTuple):
    """A case that is built when its turn comes, so that its arrays are there only then."""

    suite: str
    group: str
    name: str
    build: Callable[[], Case]
    kernels: tuple[str, ...] = ()  # the registered kernels, rules or optimizers it is about


class ThreadCounts(dict[str, Callable[[], object]]):
    """Settings that are not alternatives: each is timed, the last one as the side itself."""


def fastopt_settings(setup: Setup) -> ThreadCounts:
    return ThreadCounts({_threads(n): partial(fo.set_num_threads, n) for n in setup.threads})


def _threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"


# ---- checking -----------------------------------------------------------------------------------------------------


def error(results: Sequence[Any], reference: Sequence[Any]) -> float:
    """The largest difference, as a share of the largest number of its array; inf where one is not finite."""
    worst = 0.0
    for result, exact in zip(results, reference, strict=True):
        result, exact = np.asarray(result, np.float64), np.asarray(exact, np.float64)
        if exact.size == 0:
            continue
        difference = np.abs(result - exact.reshape(result.shape)).max()
        worst = max(worst, float(difference / (np.abs(exact).max() or 1.0)))
        if math.isnan(float(difference)):
            return math.inf
    return worst


def _check(case: Case, name: str) -> tuple[list[Side], dict[str, float], dict[str, float]]:
    """The sides that are right, the errors of all, and those of the sides that are wrong."""
    reference = case.reference()
    right, errors, wrong = [], {}, {}
    for side in case.sides:
        if side.checked:
            list(side.settings.values())[-1]()
            for _ in range(case.calls):
                side.call()
            errors[side.name] = error(side.results(), reference)
            if not errors[side.name] <= case.tolerance:
                if side.name == FASTOPT:
                    raise AssertionError(f"{name}: fastopt's relative error is {errors[FASTOPT]:.1e}; it is not timed")
                wrong[side.name] = errors[side.name]
                continue
        right.append(side)
    return right, errors, wrong


# ---- timing -------------------------------------------------------------------------------------------------------


def until_asleep() -> None:
    """Wait until no other thread of this process takes a CPU."""
    end = perf_counter() + SPIN
    while perf_counter() < end:
        used = process_time()
        sleep(MOMENT)
        if process_time() - used < MOMENT / 4:
            return


@dataclass
class Timed:
    name: str
    setting: str
    prepare: Callable[[], object]
    call: Callable[[], object]
    per_call: int
    seconds: list[float] = field(default_factory=list)  # per unit of work, one per round
    repeat: int = 1
    guess: float = 0.0  # seconds a call takes

    def probe(self) -> None:
        self.prepare()
        self.call()
        begin = perf_counter()
        self.call()
        self.guess = perf_counter() - begin
        if self.guess < LONG:
            count = max(1, min(100, int(1e-3 / (self.guess + 1e-9))))
            begin = perf_counter()
            for _ in range(count):
                self.call()
            self.guess = min(self.guess, (perf_counter() - begin) / count)

    def sample(self) -> float:
        """Seconds per unit of work, as in the middle of training: the threads of the side before have had time to fall
        asleep, and this one's to wake up. What takes so long that this matters little begins at once."""
        self.prepare()
        until_asleep()
        call = self.call
        if self.guess < 10 * WARM:
            ready = perf_counter() + WARM
            while True:
                call()
                if perf_counter() >= ready:
                    break
        begin = perf_counter()
        for _ in range(self.repeat):
            call()
        return (perf_counter() - begin) / (self.repeat * self.per_call)


def _fastest(candidates: list[Timed], trials: int) -> Timed:
    """What is fastest in a short trial; for what takes long, the probe was trial enough."""
    if len(candidates) == 1:
        return candidates[0]
    if min(candidate.guess for candidate in candidates) > LONG:
        return min(candidates, key=lambda candidate: candidate.guess / candidate.per_call)
    for _ in range(trials):
        for candidate in candidates:
            candidate.seconds.append(candidate.sample())
    best = min(candidates, key=lambda candidate: min(candidate.seconds))
    best.seconds.clear()
    return best


def _time(entrants: list[Timed], rounds: int) -> float:
    """Time all in turns, and once more if others were using the machine; returns how much of it they used."""
    disturbed = []
    gc.collect()
    gc.disable()
    try:
        for attempt in range(2):
            begin, others = perf_counter(), _others()
            for _ in range(rounds):
                for entrant in entrants:
                    entrant.seconds.append(entrant.sample())
            disturbed.append(max(0.0, _others() - others) / (perf_counter() - begin))
            if disturbed[attempt] <= DISTURBED:
                break
    finally:
        gc.enable()
    calmest = disturbed.index(min(disturbed))
    for entrant in entrants:
        entrant.seconds[:] = entrant.seconds[calmest * rounds : (calmest + 1) * rounds]
    return disturbed[calmest]


def _others() -> float:
    """Seconds of this process's CPUs, on average, that others have had: processes, or the machine beneath this one."""
    try:
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        busy = {line[0]: sum(map(int, line[1:4] + line[6:9])) for line in lines if line[0].startswith("cpu")}
        cpus = [f"cpu{cpu}" for cpu in os.sched_getaffinity(0)]
        return (sum(busy[cpu] for cpu in cpus) / os.sysconf("SC_CLK_TCK") - process_time()) / len(cpus)
    except (OSError, AttributeError, KeyError, ValueError):
        return 0.0  # no Linux: nobody tells


def _rounds(timed: Iterable[Timed], setup: Setup) -> int:
    once = sum(max(SPIN, t.guess) + t.guess * t.repeat for t in timed)
    budget, fewest, most = (0.12, 3, 7) if setup.quick else (1.0, 5, 31)
    return max(fewest, min(most, int(budget / once)))


def measure(spec: Spec, setup: Setup) -> dict[str, Any]:
    """The record of one case: checked, then timed."""
    from .bandwidth import streams  # brings in Numba, which processes that measure their memory are to do without

    case = spec.build()
    right, errors, wrong = _check(case, spec.name)
    groups: dict[str, list[Timed]] = {}
    for side in right:
        for setting, prepare in side.settings.items():
            by_itself = isinstance(side.settings, ThreadCounts) and setting != list(side.settings)[-1]
            label = f"{side.name}, {setting}" if by_itself else side.name
            groups.setdefault(label, []).append(Timed(label, setting, prepare, side.call, case.per_call))
    moved = {}
    for bound, sweeps in case.bounds.items():
        for way, stream in streams(sweeps, setup.all_threads).items():
            moved[bound] = stream.bytes_moved
            setting = f"{way}, {_threads(stream.threads)}"
            timed = Timed(bound, setting, _nothing, stream, stream.times)
            groups.setdefault(bound, []).append(timed)
    for candidates in groups.values():
        for candidate in candidates:
            candidate.probe()
            candidate.repeat = max(1, min(2000, int((1e-4 if setup.quick else 3e-4) / (candidate.guess + 1e-9))))
    entrants = [_fastest(candidates, 2 if setup.quick else 3) for candidates in groups.values()]
    rounds = _rounds(entrants, setup)
    disturbed = _time(entrants, rounds)
    fo.set_num_threads(setup.all_threads)
    ours = np.array(next(e.seconds for e in entrants if e.name == FASTOPT))
    record: dict[str, Any] = {"suite": spec.suite, "group": spec.group, "name": spec.name, "elements": case.elements}
    record |= {"rounds": rounds, "disturbed": rounded(disturbed), **case.facts, "sides": {}, "bounds": {}}
    for entrant in entrants:
        entry: dict[str, Any] = {"setting": entrant.setting, "seconds": quartiles(entrant.seconds)}
        if entrant.name in moved:
            share = quartiles(np.array(entrant.seconds) / ours)
            record["bounds"][entrant.name] = {**entry, "bytes": moved[entrant.name], "share": share}
            continue
        if entrant.name in errors:
            entry["error"] = rounded(errors[entrant.name])
        if entrant.name != FASTOPT:
            entry["ratio"] = quartiles(np.array(entrant.seconds) / ours)
        record["sides"][entrant.name] = entry
    if wrong:
        record["differ"] = {name: rounded(value) for name, value in wrong.items()}
    return record


def quartiles(values: Iterable[float]) -> list[float]:
    """The median, and the first and third quartile."""
    low, middle, high = np.percentile(list(values), (25, 50, 75))
    return [rounded(middle), rounded(low), rounded(high)]


def rounded(value: float) -> float:
    return float(f"{value:.4g}")
