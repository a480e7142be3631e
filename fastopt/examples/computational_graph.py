"""A computational graph, forward and backward: the numbers, the pictures, what each mode costs, and curvature.

Run it as ``python -m fastopt.examples.computational_graph``. It prints one neuron's derivatives by both modes, draws
its graph and that of a network of two layers, measures both modes against the number of inputs and of outputs, and
follows the condition number of a small network's Hessian along its training, by Hessian-vector products.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastopt as fo
from fastopt import graph

COUNTS = (1, 2, 4, 8, 16, 32)
STEPS, EVERY = 400, 20
BLUE, ORANGE = "#1f5fa8", "#d1661f"


def neuron() -> tuple[graph.Node, graph.Node]:
    """W and L: ξ1 = -W X, ξ2 = exp ξ1, ξ3 = 1 + ξ2, ξ4 = 1 / ξ3, ξ5 = log ξ4, L = -y ξ5."""
    W, X, y = graph.variable(3.0, name="W"), graph.constant(3.0, name="X"), graph.constant(1.0, name="y")
    xi1 = (-(W * X)).named("ξ1")
    xi2 = graph.exp(xi1).named("ξ2")
    xi3 = (1 + xi2).named("ξ3")
    xi4 = (1 / xi3).named("ξ4")
    xi5 = graph.log(xi4).named("ξ5")
    return W, (-(y * xi5)).named("L")


def network() -> graph.Node:
    """J = y* log y + (1 - y*) log(1 - y) of two sigmoid layers, which is to be maximised."""
    rng = np.random.default_rng(0)
    x, target = graph.constant(rng.standard_normal(3), name="x"), graph.constant(1.0, name="y*")
    alpha, beta = (graph.variable(rng.standard_normal(s), name=n) for s, n in (((4, 3), "α"), (4, "β")))
    a = (alpha @ x).named("a")
    z = graph.sigmoid(a).named("z")
    b = (beta @ z).named("b")
    y = graph.sigmoid(b).named("y")
    return (target * graph.log(y) + (1 - target) * graph.log(1 - y)).named("J")


def fastest(function: Callable[[], Any]) -> float:
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def times_of_both(inputs: int, outputs: int) -> tuple[float, float]:
    """Seconds for all derivatives of all outputs with respect to all inputs: forward, and backward."""
    rng = np.random.default_rng(0)
    x = [graph.variable(float(v), name=f"x{i}") for i, v in enumerate(rng.standard_normal(inputs))]
    hidden = graph.concatenate([graph.reshape(each, (1,)) for each in x])
    for _ in range(10):
        hidden = graph.tanh(rng.standard_normal((hidden.size, hidden.size)) @ hidden)
    y = (rng.standard_normal((outputs, inputs)) @ hidden).named("y")
    each_output = list(y)
    forward = fastest(lambda: [graph.forward_mode(y, each) for each in x])
    backward = fastest(lambda: [graph.backward_mode(each) for each in each_output])
    return forward, backward


def flat_hessian(loss: graph.Node, variables: list[graph.Node]) -> np.ndarray:
    """The Hessian, column by column."""
    ends = np.cumsum([0, *(x.size for x in variables)])
    columns = []
    for unit in np.eye(ends[-1]):
        pieces = {x: unit[b:e].reshape(x.shape) for x, b, e in zip(variables, ends[:-1], ends[1:], strict=True)}
        product = graph.hessian_vector(loss, pieces)
        columns.append(np.concatenate([product[x].ravel() for x in variables]))
    return np.array(columns)


def curvature() -> tuple[list[float], list[int], list[np.ndarray]]:
    """A 2-3-1 network fitted by gradient descent: the loss, and now and then the Hessian's eigenvalues."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    y = np.sin(X[:, :1] * 2) + X[:, 1:] / 2
    W1, W2 = (
        graph.variable(rng.standard_normal((2, 3)), name="W1"),
        graph.variable(rng.standard_normal((3, 1)), name="W2"),
    )
    loss = graph.mse_loss(graph.tanh(X @ W1) @ W2, y)
    opt = fo.optim.SGD(graph.parameters(loss), lr=0.1)
    losses, steps, eigenvalues = [], [], []
    for step in range(STEPS + 1):
        losses.append(float(graph.evaluate(loss)))
        if step % EVERY == 0:
            steps.append(step)
            eigenvalues.append(np.linalg.eigvalsh(flat_hessian(loss, [W1, W2])))
        opt.step(graph.gradients(loss))
    return losses, steps, eigenvalues


def draw(plt: Any) -> Any:
    figure = plt.figure(figsize=(17, 14), dpi=90, layout="constrained")
    above, middle, below = figure.subfigures(3, 1, height_ratios=(0.85, 1.25, 1.3))
    above.suptitle("One neuron: values in the nodes, partial derivatives on the edges")
    graph.plot(neuron()[1], above.subplots())
    middle.suptitle("Two layers of sigmoids, J = y* log y + (1 - y*) log(1 - y)")
    graph.plot(network(), middle.subplots())
    by_inputs, by_outputs, along = below.subplots(1, 3)

    print("\nmilliseconds for all derivatives, of 10 layers   forward   backward")
    for axes, what in ((by_inputs, "inputs"), (by_outputs, "outputs")):
        found = np.array([times_of_both(n, 1) if what == "inputs" else times_of_both(8, n) for n in COUNTS]) * 1e3
        for n, (forward, backward) in zip(COUNTS, found, strict=True):
            case = f"inputs {n:2}, outputs  1" if what == "inputs" else f"inputs  8, outputs {n:2}"
            print(f"{case:46}{forward:10.2f}{backward:11.2f}")
        axes.loglog(COUNTS, found[:, 0], "o-", color=BLUE, label="forward mode, once per input")
        axes.loglog(COUNTS, found[:, 1], "s-", color=ORANGE, label="backward mode, once per output")
        fixed = "1 output" if what == "inputs" else "8 inputs"
        axes.set(title=f"Time of all derivatives, {fixed}", xlabel=f"number of {what}", ylabel="ms")
        axes.set_xticks(COUNTS, [str(n) for n in COUNTS])
        axes.minorticks_off()
        axes.legend(frameon=False)

    losses, steps, eigenvalues = curvature()
    sizes = [np.sort(abs(e)) for e in eigenvalues]
    condition = [e[-1] / e[0] for e in sizes]
    print(f"\na network of 9 weights, {STEPS} steps: loss {losses[0]:.3f} to {losses[-1]:.3f}, condition number of the")
    print(f"Hessian {condition[0]:.3g} to {condition[-1]:.3g}, negative eigenvalues", end=" ")
    print(f"{int((eigenvalues[0] < 0).sum())} to {int((eigenvalues[-1] < 0).sum())}")
    along.semilogy(steps, condition, "o-", color=BLUE, label="condition number, |λ|max / |λ|min")
    along.semilogy(losses, color=ORANGE, label="loss")
    along.set(title="Curvature along a training, 9 weights", xlabel="step of gradient descent")
    along.legend(frameon=False)
    for axes in (by_inputs, by_outputs, along):
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.computational_graph", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("computational_graph.png"), help="where the picture goes")
    options = parser.parse_args(argv)
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[examples]")

    W, L = neuron()
    print(f"forward mode\n\n{graph.forward_mode(L, W)}\n\nbackward mode\n\n{graph.backward_mode(L)}")
    with plt.rc_context({"font.size": 12}):
        figure = draw(plt)
        figure.savefig(options.output)
        plt.close(figure)
    print(f"\npicture: {options.output.resolve()}")


if __name__ == "__main__":
    main()
