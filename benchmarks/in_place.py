"""What `optimizer.step()` takes where it is called: behind a backward pass of PyTorch, whose threads still spin.

Run as ``python -m benchmarks.in_place [turns] [network]``. A small transformer and a network with ResNet-18's tensors
are trained by PyTorch's fused AdamW and by that of `fastopt.torch`, in turns; medians of the step alone.
"""

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

import fastopt as fo
import fastopt.torch as ft

from .in_torch import RESNET18


class Residual(torch.nn.Module):
    """Two convolutions with batch norm, and a way around them."""

    def __init__(self, begin: int, outside: int):
        super().__init__()
        stride, norm = 1 if begin == outside else 2, torch.nn.BatchNorm2d
        self.first = torch.nn.Conv2d(begin, outside, 3, stride, 1, bias=False)
        self.second = torch.nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norms = torch.nn.ModuleList([norm(outside), norm(outside)])
        around = [torch.nn.Conv2d(begin, outside, 1, stride, bias=False), norm(outside)] if stride > 1 else []
        self.around = torch.nn.Sequential(*around)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[1](self.second(self.norms[0](self.first(x)).relu()))
        return (y + self.around(x)).relu()


def resnet() -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        torch.nn.BatchNorm2d(64),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        *(Residual(*pair) for pair in pairwise(widths)),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 1000),
    )
    assert sorted(tuple(p.shape) for p in net.parameters()) == sorted(RESNET18)
    return net, lambda: torch.randn(4, 3, 64, 64)


def transformer() -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 4), lambda: torch.randn(4, 32, 256)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "torch, fused": lambda params: torch.optim.AdamW(params, fused=True),
    "fastopt": ft.AdamW,
    "fastopt, 8bit": lambda params: ft.AdamW(params, state_format="8bit"),
}


def medians(make: Callable[[], tuple[torch.nn.Module, Callable[[], torch.Tensor]]], turns: int) -> dict[str, float]:
    """Seconds of a step in the course of training, of each optimizer."""
    trained = {}
    for name, optimizer in OPTIMIZERS.items():
        torch.manual_seed(0)
        net, data = make()
        trained[name] = net, data, optimizer(net.parameters())
    times: dict[str, list[float]] = {name: [] for name in trained}
    for turn in range(turns + 2):
        for name, (net, data, optimizer) in trained.items():
            optimizer.zero_grad()
            net(data()).square().mean().backward()
            begin = time.perf_counter()
            optimizer.step()
            if turn > 1:
                times[name].append(time.perf_counter() - begin)
    return {name: float(np.median(of)) for name, of in times.items()}


def main(turns: int, network: str) -> None:
    print(f"{fo.get_num_threads()} threads of fastopt, {torch.get_num_threads()} of PyTorch, {turns} turns")
    for make in (make for make in (transformer, resnet) if network in make.__name__):
        found = medians(make, turns)
        for name, seconds in found.items():
            ratio = found["torch, fused"] / seconds
            print(f"{make.__name__:12} {name:15} {1e3 * seconds:8.2f} ms  {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100, sys.argv[2] if sys.argv[2:] else "")
