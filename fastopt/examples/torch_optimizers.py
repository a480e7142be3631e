"""A small transformer in PyTorch, trained by PyTorch's AdamW and by fastopt's AdamW, NAdam and LAMB.

Run it as ``python -m fastopt.examples.torch_optimizers``. It reads scikit-learn's digits row by row, as a sequence of
eight rows of eight pixels. All begin with the same weights and see the same batches. The two AdamW draw the same curve;
what differs is the time that ``optimizer.step()`` takes, measured where it stands, between backward and forward pass.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .digits import load

EPOCHS, BATCH_SIZE, WIDTH, LAYERS = 30, 64, 32, 2
# Okabe and Ito's colours, which colour-blind people can tell apart
STYLES = {
    "torch.optim.AdamW": ("black", "-"),
    "fastopt.torch.AdamW": ("#D55E00", "--"),
    "fastopt.torch.NAdam": ("#0072B2", "-"),
    "fastopt.torch.LAMB": ("#CC79A7", "-"),
}


class Run(NamedTuple):
    losses: list[float]  # the mean of every epoch
    accuracy: float  # on held-out digits
    seconds: float  # the median of optimizer.step()
    weights: Any


def network(torch: Any, seed: int) -> Any:
    """Of each row a vector, to which its place is added; what the transformer makes of them is averaged."""
    nn = torch.nn
    torch.manual_seed(seed)

    class Reader(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Linear(8, WIDTH)
            self.places = nn.Parameter(0.02 * torch.randn(8, WIDTH))
            layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
            self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
            self.digit = nn.Linear(WIDTH, 10)

        def forward(self, x: Any) -> Any:
            return self.digit(self.layers(self.rows(x) + self.places).mean(dim=1))

    return Reader()


def optimizers(torch: Any) -> dict[str, Any]:
    """By name, what makes each of the parameters."""
    import fastopt.torch as ft

    return {
        "torch.optim.AdamW": lambda params: torch.optim.AdamW(params, lr=2e-3, fused=True),
        "fastopt.torch.AdamW": lambda params: ft.AdamW(params, lr=2e-3),
        "fastopt.torch.NAdam": lambda params: ft.NAdam(params, lr=2e-3),
        "fastopt.torch.LAMB": lambda params: ft.LAMB(params, lr=1e-2),
    }


def train(torch: Any, make: Any, data: Sequence[np.ndarray], epochs: int) -> Run:
    X, y, X_test, y_test = (
        torch.tensor(a.reshape(-1, 8, 8), dtype=torch.float32) if a.ndim > 1 else torch.tensor(a) for a in data
    )
    model = network(torch, seed=0)
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, optimizer.param_groups[0]["lr"], total_steps=epochs * -(-len(X) // BATCH_SIZE), cycle_momentum=False
    )
    order = torch.Generator().manual_seed(1)
    losses, times = [], []
    for _ in range(epochs):
        of_epoch = []
        for batch in torch.randperm(len(X), generator=order).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(X[batch]), y[batch])
            loss.backward()
            begin = time.perf_counter()
            optimizer.step()
            times.append(time.perf_counter() - begin)
            schedule.step()
            of_epoch.append(loss.item())
        losses.append(statistics.fmean(of_epoch))
    with torch.no_grad():
        accuracy = (model.eval()(X_test).argmax(dim=1) == y_test).double().mean().item()
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    return Run(losses, accuracy, statistics.median(times), weights)


def draw(runs: dict[str, Run]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=130, layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for name, run in runs.items():
        color, line = STYLES[name]
        curves.plot(range(1, len(run.losses) + 1), run.losses, line, color=color, label=name, linewidth=1.8)
    curves.set(title="Loss on the digits it learns from", xlabel="epoch", yscale="log")
    curves.legend(frameon=False)
    names = list(runs)[::-1]
    bars.barh(
        names, [1e6 * runs[name].seconds for name in names], color=[STYLES[name][0] for name in names], height=0.6
    )
    bars.set(title="optimizer.step() in the loop, µs")
    bars.bar_label(bars.containers[0], fmt="{:.0f}", padding=3)
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    curves.grid(color="0.9")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fastopt.examples.torch_optimizers", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("torch_optimizers.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="few epochs: just to see it run")
    options = parser.parse_args(argv)
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
        import torch
    except ImportError as error:
        sys.exit(f"this example needs {error.name}: pip install fastopt[torch,examples]")

    data = load()
    made = optimizers(torch)
    count = sum(p.numel() for p in network(torch, 0).parameters())
    tensors = len(list(network(torch, 0).parameters()))
    print(
        f"a transformer of {count:,} parameters in {tensors} tensors, {len(data[0])} digits, batches of {BATCH_SIZE}\n"
    )
    print(f"{'':22}{'loss':>8}{'held out':>10}{'step':>10}")
    runs = {}
    for name, make in made.items():
        runs[name] = run = train(torch, make, data, 3 if options.quick else EPOCHS)
        print(f"{name:22}{run.losses[-1]:8.4f}{run.accuracy:10.1%}{1e6 * run.seconds:7.0f} µs", flush=True)
    theirs, ours = runs["torch.optim.AdamW"], runs["fastopt.torch.AdamW"]
    apart, faster = np.abs(theirs.weights - ours.weights).max(), theirs.seconds / ours.seconds
    print(
        f"\nthe weights of both AdamW differ by {apart:.0e} at most; fastopt's step took {1 / faster:.2f} of the time"
    )
    draw(runs).savefig(options.output)
    print(f"the picture: {options.output.resolve()}")


if __name__ == "__main__":
    main()
