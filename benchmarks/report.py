"""A run as Markdown: the machine, the targets, every case; and the short table of the README."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .measure import DISTURBED
from .targets import GFLOPS, NUMPY, PRODUCTS, outcomes, value

LABELS = {"torch": "PyTorch", "deepspeed": "DeepSpeed", "timm": "timm", "optax": "optax", "jax": "JAX",
          "sklearn": "scikit-learn", "bitsandbytes": "bitsandbytes", NUMPY: "NumPy",
          "bandwidth": "the machine's bandwidth"}  # fmt: skip

# the README's rows: what is said of a case, and the case
README = [
    ("Adam, BERT-base's 194 tensors, 1.1·10⁸ parameters", "Adam, BERT-base, 194 tensors"),
    ("NAdam, the same", "NAdam, BERT-base, 194 tensors"),
    ("LAMB, the same", "LAMB, BERT-base, 194 tensors"),
    ("Adam, one array of 10⁶", "Adam, one array of 1,000,000"),
    ("Adam, one array of 10⁵", "Adam, one array of 100,000"),
    ("Adam, the 6 tensors of an MLP", "Adam, 6 tensors of an MLP"),
    ("Adam, 64 tensors of 8", "Adam, 64 tensors of 8"),
    ("batch norm forward + backward, (4096, 1024)", "batch norm forward + backward (4096, 1024)"),
    ("batch norm forward + backward, (128, 32, 32, 32)", "batch norm forward + backward (128, 32, 32, 32)"),
    ("logistic loss and gradient, 10⁶", "logistic loss + gradient 1,000,000"),
    ("softmax cross-entropy and gradient, (1024, 10)", "softmax cross-entropy + gradient (1024, 10)"),
    ("sigmoid, 10⁶", "sigmoid (1000000,)"),
    ("training step, 30-100-1, batch 32", "30-100-1 sigmoid, batch 32"),
    ("training step, 64-256-256-10 with batch norm, batch 128", "64-256-256-10 relu, batch norm, batch 128"),
    ("training step, 784-1024-1024-10, batch 256", "784-1024-1024-10 relu, batch 256"),
]


def seconds(value: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or unit == "µs":
            return f"{_digits(value * factor)} {unit}"
    raise AssertionError


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def times(value: float) -> str:
    return f"{_digits(value)} ×"


def size(count: float) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{_digits(count / factor)} {unit}"
    return f"{count:.0f} B"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(run: dict[str, Any]) -> str:
    """One sentence on what was measured."""
    on, versions = run["machine"], run["machine"]["versions"]
    caches = ", ".join(f"{name} {size(cache['bytes'])}" for name, cache in on["caches"].items())
    peers = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "fastopt")
    peers += "".join(f" ({name})" for name in on.get("blas", []))
    return (
        f"{on['processor']}, {on['cpus']} CPUs ({caches}), {on['system']}; fastopt {versions['fastopt']},"
        f" {on['backend']} backend, {on['instruction_set']}, {run['threads'][-1]} threads, {on['compiler']};"
        f" {peers}; {run['date'][:10]}{' (a quick run)' if run['quick'] else ''}"
    )


def readme(run: dict[str, Any]) -> str:
    """The table in the README."""
    records = {record["name"]: record for record in run["records"]}
    rows = []
    for label, name in README:
        if name in records:
            record = records[name]
            others = [peer for peer in LABELS if peer not in ("torch", NUMPY, "bandwidth")]
            cells = [_cell(record, "torch"), _cell(record, NUMPY)]
            named = [f"{LABELS[peer]} {cell}" for peer in others if (cell := _cell(record, peer)) != "–"]
            if record.get("disturbed", 0) > DISTURBED:
                label += " (disturbed)"
            rows.append([label, seconds(value(record, "seconds") or 0), *cells, ", ".join(named) or "–"])
    head = ["work, float32", "fastopt", "PyTorch", "NumPy", "others"]
    note = (
        "Times are medians; “×” says how many times as long the others take, each at its fastest setting (threads,"
        " fused or not; NumPy: the faster of plain and in-place code), checked against float64 and timed in turns"
        " within one run."
    )
    if any("(disturbed)" in label for label, *_ in rows):
        note += " “Disturbed”: other processes used the machine meanwhile, and the row is not to be trusted."
    return f"{table(head, rows)}\n\n{note} {machine(run)}."


def _cell(record: dict[str, Any], peer: str) -> str:
    ratio = value(record, peer)
    return "–" if ratio is None else times(ratio)


def full(run: dict[str, Any]) -> str:
    """Everything: machine, absent peers, targets, cases."""
    parts = [f"{machine(run)}. The run took {run['seconds'] / 60:.1f} minutes."]
    flags = run["machine"]["flags"]
    parts.append("Compiler flags: " + "; ".join(f"{name}: `{' '.join(own)}`" for name, own in flags.items()) + ".")
    disturbed = [record["name"] for record in run["records"] if record.get("disturbed", 0) > DISTURBED]
    if disturbed:
        parts.append("Others used the machine while these were timed, twice: " + "; ".join(disturbed) + ".")
    if run["absent"]:
        parts.append("Not here: " + "; ".join(f"{name} ({why})" for name, why in run["absent"].items()) + ".")
    parts += ["### Targets", targets(run)]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in run["records"]:
        groups.setdefault((record["suite"], record["group"]), []).append(record)
    for (suite, group), records in groups.items():
        make = {"memory": _memory, "import": _imports}.get(suite, _cases)
        parts += [f"### {suite}: {group.replace('_', ' ')}", make(records)]
    return "\n\n".join(parts)


def targets(run: dict[str, Any]) -> str:
    rows: list[list[str]] = []
    for target, measured, of, missing in (found := outcomes(run)):
        in_seconds = target.against == "seconds"
        share = target.against.startswith("bandwidth") or target.against == PRODUCTS
        plain: Callable[[float], str] = (lambda v: f"{v:.2f}") if share else "{:.0f}".format
        show = seconds if in_seconds else plain if share or target.against == GFLOPS else times
        sign = "≤" if in_seconds else "≥"
        against = "time" if in_seconds else LABELS.get(target.against, target.against)
        seen = "not measured" if measured is None else show(measured) + (f" ({of})" if len(target.cases) > 1 else "")
        partly = f", {missing} not measured" if missing and measured is not None else ""
        verdict = {None: "–", True: "met", False: "**missed**"}[found[len(rows)].met]
        rows.append([target.work, against, f"{sign} {show(target.limit)}", seen + partly, verdict])
    return table(["work", "against", "target", "measured, the worst case", ""], rows)


def _cases(records: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record["sides"] if name != "fastopt"))
    bounds = list(dict.fromkeys(name for record in records for name in record["bounds"]))
    rows = []
    for record in records:
        ours = record["sides"]["fastopt"]
        flops = f", {record['flops'] / ours['seconds'][0] / 1e9:.3g} GFLOP/s" if "flops" in record else ""
        row = [record["name"], _spread(ours["seconds"]) + flops, f"{ours['error']:.0e}"]
        for bound in bounds:
            found = record["bounds"].get(bound)
            row.append(_bound(found) if found else "–")
        for name in names:
            side = record["sides"].get(name)
            differs = record.get("differ", {}).get(name)
            row.append(_side(side) if side else f"differs by {differs:.0e}, not timed" if differs else "–")
        rows.append(row)
    return table(["case", "fastopt", "error", *bounds, *(LABELS.get(name, name) for name in names)], rows)


def _spread(quartiles: list[float]) -> str:
    middle, low, high = quartiles
    return f"{seconds(middle)} ({seconds(low)}–{seconds(high)})"


def _bound(bound: dict[str, Any]) -> str:
    speed = bound["bytes"] / bound["seconds"][0] / 1e9
    return f"{bound['share'][0]:.2f} of {speed:.1f} GB/s, {bound['setting']}"


def _side(side: dict[str, Any]) -> str:
    middle, low, high = map(_digits, side["ratio"])
    setting = f", {side['setting']}" if side["setting"] else ""
    return f"{middle} × ({low}–{high}){setting}"


def _memory(records: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record["sides"]))
    rows = [
        [record["name"], *(size(record["sides"][n]["memory"]) if n in record["sides"] else "–" for n in names)]
        for record in records
    ]
    return table(["", *(LABELS.get(name, name) for name in names)], rows)


def _imports(records: list[dict[str, Any]]) -> str:
    (record,) = records
    rows = [["NumPy itself", _spread(record["numpy"]), size(record["sides"]["numpy"]["memory"])]] if (
        "numpy" in record["sides"]) else []  # fmt: skip
    for name, side in record["sides"].items():
        if name != "numpy":
            memory = size(side["memory"]) if side["memory"] else "–"
            rows.append([LABELS.get(name, name), _spread(side["seconds"]), memory])
    return table(["import", "seconds beyond NumPy", "resident memory at most"], rows)
