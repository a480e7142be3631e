"""The charts of a run, each for a light and a dark page: speed against size, peers, training time by network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .report import LABELS, seconds
from .targets import NUMPY, value

WIDTH = 8.4  # inches at 100 pixels: the width of a README
THEMES = {
    "light": {"background": "#ffffff", "text": "#1f2328", "grid": "#d8dee4", "fastopt": "#d9480f"},
    "dark": {"background": "#0d1117", "text": "#e6edf3", "grid": "#30363d", "fastopt": "#ff8a4c"},
}
COLORS = {"bandwidth": "#8b949e", "torch": "#4c8dd6", NUMPY: "#9b8cc7", "deepspeed": "#2fa37c", "timm": "#c78a2e",
          "optax": "#c2679c", "jax": "#c2679c", "sklearn": "#c9a227", "matrix products only": "#8b949e",
          "BLIS": "#2fa37c"}  # fmt: skip
MARKERS = {"fastopt": "o", "torch": "s", "deepspeed": "D", "optax": "^", NUMPY: "v", "bandwidth": "", "BLIS": "D"}

# the rows of the chart of peers: what is said of a case, and the case
BARS = [
    ("Adam, BERT-base's 194 tensors", "Adam, BERT-base, 194 tensors"),
    ("NAdam, BERT-base's 194 tensors", "NAdam, BERT-base, 194 tensors"),
    ("LAMB, BERT-base's 194 tensors", "LAMB, BERT-base, 194 tensors"),
    ("Adam, one array of 10⁶", "Adam, one array of 1,000,000"),
    ("Adam, the 6 tensors of an MLP", "Adam, 6 tensors of an MLP"),
    ("Adam, 64 tensors of 8", "Adam, 64 tensors of 8"),
    ("batch norm (4096, 1024)", "batch norm forward + backward (4096, 1024)"),
    ("logistic loss, 10⁶", "logistic loss + gradient 1,000,000"),
    ("softmax (1024, 10)", "softmax cross-entropy + gradient (1024, 10)"),
    ("sigmoid, 10⁶", "sigmoid (1000000,)"),
    ("training step, 30-100-1", "30-100-1 sigmoid, batch 32"),
]
PEERS = ("torch", NUMPY, "deepspeed", "timm", "optax", "jax", "sklearn")


def draw(run: dict[str, Any], folder: Path) -> None:
    """Write every chart that the run has numbers for, in both themes, as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    records = {record["name"]: record for record in run["records"]}
    charts: dict[str, Callable[..., bool]] = {
        "speed": _speed, "peers": _peers, "training": _training, "products": _products}  # fmt: skip
    for theme, colors in THEMES.items():
        style: Any = {"svg.hashsalt": "fastopt", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False,
                 **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), colors["background"]),
                 **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), colors["text"]),
                 "axes.edgecolor": colors["grid"], "grid.color": colors["grid"]}  # fmt: skip
        with pyplot.rc_context(style):
            for name, chart in charts.items():
                figure = pyplot.figure(layout="constrained")
                if chart(figure, records, run, colors):
                    figure.savefig(folder / f"{name}-{theme}.svg", metadata={"Date": None})
                pyplot.close(figure)


def _speed(figure: Any, records: dict[str, Any], run: dict[str, Any], colors: dict[str, str]) -> bool:
    """Adam on one array: gigabytes a second, counted as four numbers read and three written per parameter."""
    found = sorted((r for r in records.values() if r["group"] == "one array"), key=lambda r: r["elements"])
    if len(found) < 2:
        return False
    figure.set_size_inches(WIDTH, 4.4)
    axes = figure.subplots()
    lines: dict[str, list[tuple[int, float]]] = {}
    for record in found:
        moved = 28 * record["elements"]
        sides = {name: record["sides"][name]["seconds"][0] for name in record["sides"]}
        sides[NUMPY] = min((sides[n] for n in sides if n.startswith(NUMPY)), default=0)
        if bound := record["bounds"].get("bandwidth"):
            sides["bandwidth"] = bound["seconds"][0]
        for name in MARKERS:
            if sides.get(name):
                lines.setdefault(name, []).append((record["elements"], moved / sides[name] / 1e9))
    ends = []
    for name, points in lines.items():
        ours = name == "fastopt"
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=colors["fastopt"] if ours else COLORS[name], marker=MARKERS[name], markersize=4.5,
                  linewidth=2.6 if ours else 1.5, zorder=3 if ours else 2,
                  linestyle="--" if name == "bandwidth" else "-", label=LABELS.get(name, name))  # fmt: skip
        ends.append((y[-1], name))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    top = axes.get_ylim()[1]
    for name, cache in run["machine"]["caches"].items():
        holds = cache["bytes"] / 16  # parameters, with gradient and two moments
        if found[0]["elements"] < holds < found[-1]["elements"]:
            axes.axvline(holds, color=colors["text"], linewidth=0.8, linestyle=":", alpha=0.7)
            text = f"{name}\n{_cache_size(cache['bytes'])}" + ("" if cache["cpus"] > 1 else "\na core")
            axes.text(holds, top * 1.05, text, ha="center", va="bottom", fontsize=9, linespacing=1.1)
    axes.set(xlabel="parameters (the dotted lines: where 16 bytes for each just fit into a cache)", ylabel="GB/s")
    threads = run["threads"][-1]
    title = f"Adam, one float32 array, up to {threads} threads: 28 bytes per parameter over the time of a step"
    figure.suptitle(title, fontsize=11)
    axes.grid(linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=len(lines), frameon=False, fontsize=10, handlelength=1.8)
    return True


def _cache_size(count: int) -> str:
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"


def _peers(figure: Any, records: dict[str, Any], run: dict[str, Any], colors: dict[str, str]) -> bool:
    """How many times as long as fastopt the others take."""
    rows = []
    for label, name in BARS:
        if name in records:
            ratios = {peer: ratio for peer in PEERS if (ratio := value(records[name], peer)) is not None}
            if ratios:
                rows.append((f"{label}\n{seconds(records[name]['sides']['fastopt']['seconds'][0])}", ratios))
    if not rows:
        return False
    bars = sum(len(ratios) for _, ratios in rows)
    figure.set_size_inches(WIDTH, 1.0 + 0.19 * bars + 0.16 * len(rows))
    axes = figure.subplots()
    y, ticks, largest = 0.0, [], max(max(ratios.values()) for _, ratios in rows)
    for label, ratios in rows:
        middle = y + (len(ratios) - 1) / 2
        ticks.append((middle, label))
        for peer, ratio in ratios.items():
            axes.barh(y, ratio - 1, 0.86, left=1, color=COLORS[peer], zorder=2)
            shown = f"{ratio:.2g}" if ratio < 99.5 else f"{ratio:.0f}"
            axes.text(max(ratio, 1) * 1.03, y, f"{shown} × {LABELS[peer]}", va="center", fontsize=9)
            y += 1
        y += 0.9
    axes.set_xscale("log")
    axes.set_xlim(min(0.7, *(min(r.values()) * 0.9 for _, r in rows)), largest * 4)
    axes.set_ylim(y - 0.4, -1)
    axes.axvline(1, color=colors["fastopt"], linewidth=2.2, zorder=3)
    axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=9.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g} ×")
    axes.grid(axis="x", linewidth=0.6, zorder=0)
    figure.suptitle(
        "How many times as long as fastopt the others take; beneath each label, fastopt's time", fontsize=11
    )
    return True


def _training(figure: Any, records: dict[str, Any], run: dict[str, Any], colors: dict[str, str]) -> bool:
    """Time per training step, a panel for each network."""
    found = [record for record in records.values() if record["suite"] == "train"]
    if not found:
        return False
    hidden = "matrix products only", "fastopt, 1 thread"
    bars = [sum(name not in hidden for name in r["sides"]) for r in found]
    figure.set_size_inches(WIDTH, 0.7 + sum(0.45 + 0.24 * n for n in bars))
    panels = figure.subplots(len(found), 1, height_ratios=[n + 1 for n in bars], squeeze=False)
    for axes, record in zip(panels[:, 0], found, strict=True):
        floor = record["sides"]["matrix products only"]["seconds"][0]
        sides = sorted(((side["seconds"], name) for name, side in record["sides"].items()
                        if name not in hidden), reverse=True)  # fmt: skip
        unit, factor = ("µs", 1e6) if floor < 1e-3 else ("ms", 1e3)
        for y, ((middle, low, high), name) in enumerate(sides):
            peer = name.split(",")[0]
            color = colors["fastopt"] if name == "fastopt" else COLORS[peer]
            axes.barh(y, middle * factor, 0.8, color=color, zorder=2)
            axes.plot([low * factor, high * factor], [y, y], color=colors["text"], linewidth=1, zorder=4)
            axes.text(high * factor, y, f"  {seconds(middle)}", va="center", fontsize=9.5)
        axes.axvline(floor * factor, color=colors["text"], linewidth=1.2, linestyle="--", zorder=3)
        labels = [LABELS.get(name, name.replace(NUMPY, LABELS[NUMPY])) for _, name in sides]
        axes.set_yticks(range(len(sides)), labels, fontsize=10)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, max(side[0][2] for side in sides) * factor * 1.13)
        axes.set_title(f"{record['name']}: {unit} per step", fontsize=11, loc="left")
        axes.grid(axis="x", linewidth=0.6, zorder=0)
    below = "dashed: the matrix products of a step by themselves; thin lines: first to third quartile"
    figure.supxlabel(below, fontsize=10)
    return True


def _products(figure: Any, records: dict[str, Any], run: dict[str, Any], colors: dict[str, str]) -> bool:
    """Matrix products by shape: gigaflops a second, and the most that this machine can do."""
    found = sorted((r for r in records.values() if r["suite"] == "products"), key=lambda r: r["flops"])
    if not found:
        return False
    figure.set_size_inches(WIDTH, 1.2 + 0.24 * len(found))
    axes = figure.subplots()
    names = [name for name in ("fastopt", NUMPY, "torch", "BLIS") if any(name in r["sides"] for r in found)]
    for name in names:
        points = [
            (1e-9 * r["flops"] / r["sides"][name]["seconds"][0], y) for y, r in enumerate(found) if name in r["sides"]
        ]
        color = colors["fastopt"] if name == "fastopt" else COLORS[name]
        axes.plot(*zip(*points, strict=True), linestyle="", color=color, marker=MARKERS[name], markersize=5.5,
                  zorder=3 if name == "fastopt" else 2, label=LABELS.get(name, name))  # fmt: skip
    peaks = [(1e-9 * r["flops"] / r["sides"]["peak"]["seconds"][0], y) for y, r in enumerate(found)]
    axes.plot(*zip(*peaks, strict=True), color=colors["text"], linewidth=1.2, linestyle="--",
              label="multiply-adds alone")  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.set_yticks(range(len(found)), [r["name"].removeprefix("product ") for r in found], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="GFLOP/s", ylim=(len(found) - 0.5, -0.5))
    axes.grid(linewidth=0.6)
    figure.suptitle(f"Matrix products, float32, 1 to {run['threads'][-1]} threads, each at its fastest", fontsize=11)
    figure.legend(loc="outside lower center", ncols=len(names) + 1, frameon=False, fontsize=10, handlelength=1.8)
    return True
