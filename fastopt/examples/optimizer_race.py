"""All optimizers over a valley, a saddle and a poorly conditioned bowl: their paths, and loss against step.

python -m fastopt.examples.optimizer_race [--output optimizer_race.png]
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import fastopt as fo


class Surface(NamedTuple):
    title: str
    loss: Callable  # of x and y; its minimum is 0
    gradient: Callable
    start: tuple[float, float]
    minima: list[tuple[float, float]]
    steps: int
    x: tuple[float, float]  # what the picture shows
    y: tuple[float, float]


def beale(x, y):
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def beale_gradient(x, y):
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return 2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)), 2 * x * (a + 2 * b * y + 3 * c * y**2)


SURFACES = [
    Surface(
        "A curved valley (Beale's function)",
        beale,
        beale_gradient,
        (1.0, 1.5), [(3.0, 0.5)], 200, (0.0, 3.75), (-1.05, 1.8),
    ),
    Surface(
        "A saddle (at the origin) between two minima",
        lambda x, y: x**2 + (y**2 - 2) ** 2 / 4,
        lambda x, y: (2 * x, y * (y**2 - 2)),
        (1.2, 0.02), [(0.0, 2**0.5), (0.0, -(2**0.5))], 80, (-0.9, 1.45), (-0.6, 1.95),
    ),
    Surface(
        "A poorly conditioned bowl (50 times as steep along y as along x)",
        lambda x, y: ((x - 1) ** 2 + 50 * (y - 1) ** 2) / 2,
        lambda x, y: (x - 1, 50 * (y - 1)),
        (-2.0, 2.0), [(1.0, 1.0)], 100, (-2.4, 2.0), (-0.1, 2.3),
    ),
]  # fmt: skip

# label, optimizer, options, its learning rates on the three surfaces, colour, line. Relatives share a colour; the
# colours are Okabe and Ito's, which colour-blind people can tell apart.
RACERS = [
    ("SGD", "SGD", {}, (0.01, 0.05, 0.02), "black", "-"),
    ("Momentum", "SGD", {"momentum": 0.9}, (0.001, 0.02, 0.005), "#0072B2", "-"),
    ("Nesterov", "SGD", {"momentum": 0.9, "nesterov": True}, (0.001, 0.02, 0.005), "#0072B2", "--"),
    ("AdaGrad", "Adagrad", {}, (0.5, 0.5, 0.5), "#009E73", "-"),
    ("AdaDelta", "Adadelta", {}, (5.0, 10.0, 20.0), "#009E73", "--"),
    ("RMSProp", "RMSprop", {"alpha": 0.9}, (0.02, 0.02, 0.05), "#56B4E9", "-"),
    ("Adam", "Adam", {"betas": (0.9, 0.99)}, (0.1, 0.1, 0.2), "#D55E00", "-"),
    ("AdamW", "AdamW", {"betas": (0.9, 0.99), "weight_decay": 0.05}, (0.1, 0.1, 0.2), "#D55E00", "--"),
    ("NAdam", "NAdam", {"betas": (0.9, 0.99)}, (0.1, 0.1, 0.2), "#E69F00", "-"),
    ("RAdam", "RAdam", {"betas": (0.9, 0.9)}, (0.01, 0.05, 0.05), "#E69F00", "--"),
    ("Adamax", "Adamax", {"betas": (0.9, 0.99)}, (0.1, 0.1, 0.2), "#D55E00", ":"),
    ("AdaBelief", "AdaBelief", {"betas": (0.9, 0.99), "rectify": False}, (0.1, 0.1, 0.1), "#E69F00", ":"),
    ("Adan", "Adan", {}, (0.1, 0.1, 0.2), "#E69F00", "-."),
    ("Lion", "Lion", {}, (0.02, 0.05, 0.1), "#56B4E9", "--"),
    ("Rprop", "Rprop", {}, (0.05, 0.05, 0.05), "#56B4E9", ":"),
    ("ASGD", "ASGD", {"lambd": 0.0}, (0.01, 0.05, 0.02), "black", "--"),
    ("Schedule-Free SGD", "SGDScheduleFree", {}, (0.02, 0.2, 0.1), "black", ":"),
    ("Schedule-Free AdamW", "AdamWScheduleFree", {}, (0.2, 0.2, 0.5), "#D55E00", "-."),
    ("Muon", "Muon", {"weight_decay": 0.0}, (0.1, 0.1, 0.1), "#CC79A7", "-."),
    ("Adafactor", "Adafactor", {}, (0.1, 0.1, 0.1), "#56B4E9", "-."),
    ("LARS", "LARS", {"trust_coefficient": 1.0}, (0.005, 0.02, 0.01), "#CC79A7", "-"),
    ("LAMB", "LAMB", {"betas": (0.9, 0.99), "weight_decay": 0.0}, (0.05, 0.05, 0.05), "#CC79A7", "--"),
]
FLOOR = 1e-8  # of the losses shown


def path(surface, optimizer, options, lr):
    """The positions from the start to the last step, (steps + 1, 2)."""
    position, gradient = np.array(surface.start), np.empty(2)
    opt = getattr(fo.optim, optimizer)(position[None], lr=lr, **options)  # a row, since Muon takes matrices
    positions = [position.copy()]
    for _ in range(surface.steps):
        gradient[:] = surface.gradient(*position)
        opt.step(gradient[None])
        opt.eval()  # Schedule-Free optimizers take gradients elsewhere than where they are
        positions.append(position.copy())
        opt.train()
    return np.array(positions)


def spread(heights, gap):
    """Heights in [0, 1] for labels: near the given ones, in their order, at least ``gap`` apart."""
    order = np.argsort(heights, kind="stable")
    rank = np.arange(len(order)) * gap
    lowest = np.maximum.accumulate(np.asarray(heights)[order] - rank)
    placed = np.empty(len(order))
    placed[order] = np.minimum(lowest, 1 - rank[-1]) + rank
    return placed


def draw_paths(plot, surface, runs):
    x, y = np.meshgrid(*(np.linspace(low, high, 400) for low, high in (surface.x, surface.y)))
    loss = surface.loss(x, y)
    levels = np.geomspace(loss.max() / 1e4, loss.max(), 25)
    plot.contourf(x, y, np.maximum(loss, levels[0]), levels, norm="log", cmap="Greys", alpha=0.15)
    plot.contour(x, y, loss, levels, colors="0.6", linewidths=0.5)
    for positions, _, style in runs:
        plot.plot(*positions.T, **style)
        plot.plot(*positions[-1], "o", color=style["color"], markersize=7, markeredgecolor="white", zorder=3)
    plot.plot(*surface.start, "s", color="black", markersize=9, zorder=5)
    plot.annotate("start", surface.start, (9, 7), textcoords="offset points", fontsize=13, zorder=5)
    plot.plot(*np.transpose(surface.minima), "*", color="gold", markersize=17, markeredgecolor="black", zorder=4)
    plot.set(title=surface.title, xlabel="x", ylabel="y", xlim=surface.x, ylim=surface.y)


def draw_losses(plot, surface, runs):
    top = 2 * surface.loss(*surface.start)
    ends = []
    for positions, _, style in runs:
        losses = np.maximum(surface.loss(*positions.T), FLOOR)
        plot.semilogy(losses, **style)
        ends.append(np.log(losses[-1] / FLOOR) / np.log(top / FLOOR))
    for end, height, (_, label, style) in zip(ends, spread(ends, 0.046), runs, strict=True):
        plot.plot([1, 1.06, 1.1], [end, height, height], transform=plot.transAxes, clip_on=False, **style)
        plot.text(1.115, height, label, transform=plot.transAxes, va="center", color=style["color"], fontsize=10)
    plot.set(title="Loss at every step; the learning rates", xlabel="step", ylabel="loss above the minimum")
    plot.set(xlim=(0, surface.steps), ylim=(FLOOR, top))
    plot.grid(color="0.92")


def draw(plt):
    figure, axes = plt.subplots(len(SURFACES), 2, figsize=(16, 18), width_ratios=(1.3, 1), layout="constrained")
    for i, surface in enumerate(SURFACES):
        runs = []
        for label, optimizer, options, rates, colour, line in RACERS:
            style = {"color": colour, "linestyle": line, "linewidth": 1.8}
            runs.append((path(surface, optimizer, options, rates[i]), f"{label}  {rates[i]:g}", style))
        draw_paths(axes[i, 0], surface, runs)
        draw_losses(axes[i, 1], surface, runs)
    figure.suptitle("Every optimizer from one start, each with a learning rate that suits it (star: minimum)\n")
    figure.supxlabel(
        "\nMomentum of Momentum, Nesterov and LARS: 0.9. Averages of RMSProp: 0.9; of RAdam: 0.9 and 0.9; of Adam,"
        " AdamW, NAdam, Adamax, AdaBelief and LAMB: 0.9 and 0.99. AdamW's weight decay: 0.05.",
        fontsize="medium",
    )
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the paths of all optimizers over three surfaces.")
    parser.add_argument("--output", default="optimizer_race.png", help="the picture: .png, .pdf or .svg")
    output = parser.parse_args(arguments).output
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise SystemExit("this example needs matplotlib: pip install fastopt[examples]") from None
    with plt.rc_context({"font.size": 13, "axes.titlesize": 15}):
        figure = draw(plt)
        figure.savefig(output, dpi=100)
        plt.close(figure)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
