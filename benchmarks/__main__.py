"""How fast fastopt is, here, against what else there is: ``python -m benchmarks``.

Every result is checked against float64 first; then fastopt and its peers are timed in turns within one run.
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastopt as fo

from . import (
    in_sklearn,
    in_torch,
    kernels,
    machine,
    measure,
    optimizers,
    pages,
    peers,
    processes,
    products,
    report,
    training,
)
from .measure import Setup

CASES = {"kernels": kernels.specs, "products": products.specs, "step": optimizers.specs,
         "sklearn": in_sklearn.specs, "torch": in_torch.specs, "train": training.specs}  # fmt: skip
PROCESSES: dict[str, Callable[[Setup], list[dict[str, Any]]]] = {
    "memory": processes.memory,
    "import": lambda setup: [processes.imports(setup)],
}
WORDS = [*CASES, *PROCESSES]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="word", help=f"{', '.join(WORDS)}; none for all of them")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds: under 2 minutes")
    parser.add_argument("--only", metavar="TEXT", help="only cases whose name contains this")
    parser.add_argument("--peers", default=",".join(peers.PEERS), help="of these, those that are here: %(default)s")
    parser.add_argument(
        "--threads", help="numbers of threads, such as 1,2,4; by default 1 and as many as there are CPUs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw the charts (needs matplotlib)")
    parser.add_argument("--from", type=Path, metavar="FILE", dest="recorded", help="report on such a JSON file instead")
    parser.add_argument("--record", action="store_true", help="keep the run in benchmarks/recorded and put its tables"
                        " and charts into README.md and benchmarks/README.md")  # fmt: skip
    given = parser.parse_args(arguments)
    for word in given.words:
        if word not in WORDS:
            parser.error(f"{word!r} is none of {', '.join(WORDS)}")
    given.words = given.words or WORDS
    given.peers = [name for name in given.peers.split(",") if name]
    for name in given.peers:
        if name not in peers.PEERS:
            parser.error(f"--peers: {name!r} is none of {', '.join(peers.PEERS)}")
    try:
        given.threads = sorted(
            {int(n) for n in given.threads.split(",")} if given.threads else {1, fo.get_num_threads()}
        )
    except ValueError:
        parser.error(f"--threads: {given.threads!r} is not a list of whole numbers")
    if given.threads[0] < 1:
        parser.error(f"--threads: {given.threads[0]} is less than 1")
    return given


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for."""
    begin = time.perf_counter()
    found, absent = peers.load(given.peers)
    for name, why in absent.items():
        print(f"{name} is not here: {why}", file=sys.stderr)
    setup = Setup(given.threads, found, given.quick)
    fo.set_num_threads(setup.all_threads)
    records = []
    for record in _records(given.words, given.only, setup):
        records.append(record)
        print(_line(record), file=sys.stderr, flush=True)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - begin, 1),
        "quick": given.quick,
        "threads": given.threads,
        "absent": absent,
        "machine": machine.description(),
        "records": records,
    }


def _records(words: list[str], only: str | None, setup: Setup) -> Iterator[dict[str, Any]]:
    for word in words:
        if word in CASES:
            for spec in CASES[word](setup):
                if only is None or only in spec.name:
                    yield measure.measure(spec, setup)
        else:
            yield from PROCESSES[word](setup)


def _line(record: dict[str, Any]) -> str:
    ours = record["sides"]["fastopt"]
    shown = [report.seconds(ours["seconds"][0]) if "seconds" in ours else report.size(ours["memory"])]
    shown += [f"{name} {report.times(side['ratio'][0])}" for name, side in record["sides"].items() if "ratio" in side]
    shown += [f"{bound['share'][0]:.2f} of {name}" for name, bound in record.get("bounds", {}).items()]
    return f"{record['name']:48} {', '.join(shown)}"


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    result = json.loads(given.recorded.read_text(encoding="utf-8")) if given.recorded else run(given)
    if given.json:
        given.json.write_text(pages.as_json(result), encoding="utf-8")
    if given.markdown:
        given.markdown.write_text(report.full(result) + "\n", encoding="utf-8")
    else:
        print(report.targets(result))
    if given.charts:
        from . import charts

        charts.draw(result, given.charts)
    if given.record:
        pages.record(result, given.recorded)


if __name__ == "__main__":
    main()
