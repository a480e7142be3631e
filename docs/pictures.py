"""Draws the pictures of the guide into docs/_static: python docs/pictures.py (needs matplotlib).

One file each, in middle colours on no background, so that it can be read on light and on dark pages.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fastopt as fo
from fastopt import graph

FOLDER = Path(__file__).parent / "_static"
GREY = "#808080"
COLOURS = ["#3b82d0", "#e0702a", "#2f9e6e", "#c2519d", "#a08a1c", "#7a6fd0", "#d04a4a", "#808080"]
plt.rcParams.update(
    {
        "svg.hashsalt": "fastopt",  # the same file again
        "savefig.transparent": True,
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        **dict.fromkeys(
            ["text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"], GREY
        ),
    }
)


def save(name, figure):
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def exclusive_or():
    """The README's ten lines, and what the network has learnt."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 2))
    y = x[:, 0] * x[:, 1] > 0
    model = fo.nn.Sequential(fo.nn.Linear(2, 16), fo.nn.Sigmoid(), fo.nn.Linear(16, 1), rng=0)
    opt = fo.optim.Adam(model.parameters(), lr=0.03)
    history = fo.fit(model, x, y, optimizer=opt, epochs=100, rng=0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3))
    left.plot(history.loss, label="loss")
    left.plot(history.accuracy, label="accuracy")
    left.set(xlabel="epoch", ylim=(0, 1.05))
    left.legend(labelcolor=GREY)
    axis = np.linspace(-3, 3, 120)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    p = model.predict_proba(grid).reshape(-1, 120, 120)[-1]
    right.contour(axis, axis, p, levels=[0.1, 0.5, 0.9], colors=GREY, linestyles=["dotted", "solid", "dotted"])
    for label, colour in ((True, COLOURS[0]), (False, COLOURS[1])):
        right.scatter(*x[y == label].T, s=9, color=colour)
    right.set(title="probability 0.1, 0.5, 0.9", xlim=(-3, 3), ylim=(-3, 3))
    save("exclusive_or", figure)


def optimizers():
    """From gradient descent to LAMB on a narrow valley: the ways, and the values."""
    racers = {
        "SGD": fo.optim.SGD,
        "momentum": lambda w, lr: fo.optim.SGD(w, lr=lr, momentum=0.9),
        "Nesterov": lambda w, lr: fo.optim.SGD(w, lr=lr, momentum=0.9, nesterov=True),
        "Adagrad": fo.optim.Adagrad,
        "RMSprop": fo.optim.RMSprop,
        "Adam": fo.optim.Adam,
        "NAdam": fo.optim.NAdam,
        "LAMB": fo.optim.LAMB,
    }
    rates = {"SGD": 0.035, "momentum": 0.01, "Nesterov": 0.01, "Adagrad": 0.5, "RMSprop": 0.03, "Adam": 0.1,
             "NAdam": 0.1, "LAMB": 0.05}  # fmt: skip
    curvature = np.array([1.0, 50.0])
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.2))
    for name, make in racers.items():
        w = np.array([-4.0, 1.0])
        opt = make(w, lr=rates[name])
        path = [w.copy()]
        for _ in range(120):
            opt.step(curvature * w)
            path.append(w.copy())
        path = np.array(path)
        left.plot(*path.T, lw=1.3)
        right.semilogy(0.5 * (path**2 @ curvature), label=name)
    xs, ys = np.meshgrid(np.linspace(-4.5, 1.5, 80), np.linspace(-1.5, 1.5, 80))
    values = 0.5 * (xs**2 + 50 * ys**2)
    left.contour(xs, ys, values, levels=[0.3, 2, 6, 14, 30], colors=GREY, linewidths=0.5, zorder=0)
    left.set(title="f(w) = (w₁² + 50 w₂²) / 2")
    right.set(xlabel="step", title="f(w)", ylim=(1e-8, 100))
    right.legend(labelcolor=GREY, fontsize=8, ncols=2, loc="lower left")
    save("optimizers", figure)


def initialization():
    """The standard deviation of what twenty layers make of noise."""
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.9), sharey=True)
    starts = {
        "normal, 0.05": lambda w: fo.init.normal_(w, std=0.05, rng=rng),
        "normal, 0.2": lambda w: fo.init.normal_(w, std=0.2, rng=rng),
        "xavier_normal_": lambda w: fo.init.xavier_normal_(w, rng=rng),
        "kaiming_normal_": lambda w: fo.init.kaiming_normal_(w, rng=rng),
    }
    for ax, (title, activation) in zip(axes, {"tanh": fo.tanh, "ReLU": fo.relu}.items(), strict=True):
        for name, fill in starts.items():
            x, deviations = rng.standard_normal((500, 100)), []
            for _ in range(20):
                W = np.empty((100, 100))
                fill(W)
                x = activation(fo.matmul(x, W))
                deviations.append(x.std())
            ax.semilogy(range(1, 21), deviations, label=name)
        ax.set(xlabel="layer", title=title, xticks=[1, 5, 10, 15, 20])
    axes[0].set(ylabel="standard deviation", ylim=(1e-7, 1e7))
    axes[1].legend(labelcolor=GREY, fontsize=8)
    save("initialization", figure)


def spirals(n=400):
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    angle = rng.uniform(0.5, 3 * np.pi, n)
    x = np.stack([angle * np.cos(angle + np.pi * label), angle * np.sin(angle + np.pi * label)], axis=1) / 5
    return x + 0.02 * rng.standard_normal((n, 2)), label


def depth():
    """Twelve layers, with nothing, batch norm, residual and highway layers."""
    x, label = spirals()
    width, layers, nn = 24, 12, fo.nn
    kinds = {
        "plain": lambda: [nn.Linear(width, width), nn.Tanh()],
        "batch norm": lambda: [nn.Linear(width, width, bias=False), nn.BatchNorm(width), nn.Tanh()],
        "residual": lambda: [nn.Residual(nn.Sequential(nn.Linear(width, width), nn.Tanh()))],
        "highway": lambda: [nn.Highway(width)],
    }
    figure, ax = plt.subplots(figsize=(5, 3))
    for name, make in kinds.items():
        body = [layer for _ in range(layers) for layer in make()]
        model = nn.Sequential(nn.Linear(2, width), nn.Tanh(), *body, nn.Linear(width, 1), rng=0)
        opt = fo.optim.Adam(model.parameters(), lr=0.003)
        ax.semilogy(fo.fit(model, x, label, optimizer=opt, epochs=80, rng=0).loss, label=name)
    ax.set(xlabel="epoch", title="loss of 12 layers on two spirals")
    ax.legend(labelcolor=GREY)
    save("depth", figure)


def dropout():
    """Few rows, many units: training and validation loss without and with dropout."""
    x, label = spirals(160)
    figure, ax = plt.subplots(figsize=(5, 3))
    for colour, p in zip(COLOURS, (0.0, 0.5), strict=False):
        nn, noisy = fo.nn, np.where(np.arange(160) % 7 == 3, 1 - label, label)
        model = nn.Sequential(nn.Linear(2, 128), nn.ReLU(), nn.Dropout(p), nn.Linear(128, 128), nn.ReLU(),
                              nn.Dropout(p), nn.Linear(128, 1), rng=0)  # fmt: skip
        opt = fo.optim.Adam(model.parameters(), lr=0.01)
        history = fo.fit(model, x, noisy, optimizer=opt, epochs=150, validation=0.5, rng=0)
        ax.plot(history.loss, color=colour, ls="dotted", label=f"p = {p}, training")
        ax.plot(history.val_loss, color=colour, label=f"p = {p}, validation")
    ax.set(xlabel="epoch", title="loss, a seventh of the labels wrong", ylim=(0, 2.5))
    ax.legend(labelcolor=GREY, fontsize=8)
    save("dropout", figure)


def rates():
    """A range test, and the cycles that follow from it."""
    x, label = spirals()
    nn = fo.nn
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3))
    found = fo.lr_range_test(model, x, label, optimizer=opt, low=1e-4, high=30.0, rng=0)
    found.plot(ax=left)
    if legend := left.get_legend():
        for text in legend.get_texts():
            text.set_color(GREY)
    suggested = found.suggest()
    low, high = suggested.base_lr, suggested.max_lr
    schedules = {
        "Cyclic": fo.schedules.Cyclic(low, high, step_size_up=100),
        "triangular2": fo.schedules.Cyclic(low, high, step_size_up=100, mode="triangular2"),
        "OneCycle": fo.schedules.OneCycle(high, total_steps=600),
        "CosineAnnealing": fo.schedules.CosineAnnealing(high, 600),
    }
    for name, schedule in schedules.items():
        right.plot([schedule(step) for step in range(600)], label=name)
    right.set(xlabel="step", title="learning rate")
    right.legend(labelcolor=GREY, fontsize=8, loc="upper right")
    save("rates", figure)


def modes():
    """The course's neuron as a graph."""
    W, X, y = graph.variable(3.0, name="W"), graph.constant(3.0, name="X"), graph.constant(1.0, name="y")
    xi1 = (-(W * X)).named("ξ1")
    xi2 = graph.exp(xi1).named("ξ2")
    xi3 = (1 + xi2).named("ξ3")
    xi4 = (1 / xi3).named("ξ4")
    L = (-(y * graph.log(xi4).named("ξ5"))).named("L")
    figure, ax = plt.subplots(figsize=(7.6, 2.6))
    graph.plot(L, ax=ax)
    save("modes", figure)


PICTURES = [exclusive_or, optimizers, initialization, depth, dropout, rates, modes]

if __name__ == "__main__":
    plt.switch_backend("svg")
    for draw in PICTURES:
        draw()
