"""Optimizer steps inside PyTorch: `fastopt.torch` and `torch.optim` on the same kind of tensors.

The gradients stay where they are from step to step, as with ``zero_grad(set_to_none=False)``; each step looks anew.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .measure import FASTOPT, Case, Setup, Side, Spec, fastopt_settings
from .optimizers import (
    BERT,
    MLP,
    QUICK_BERT,
    TINY,
    Made,
    Shape,
    exact_steps,
    optimizers,
    options_of,
    problem,
    torch_parameters,
    torch_sides,
)
from .peers import torch_settings


def _block(inside: int, outside: int) -> list[Shape]:
    """The tensors of two basic blocks of a residual network; the first has a projection if the width changes."""
    shapes: list[Shape] = []
    for begin in (inside, outside):
        shapes += [(outside, begin, 3, 3), (outside,), (outside,), (outside, outside, 3, 3), (outside,), (outside,)]
        if begin != outside:
            shapes += [(outside, begin, 1, 1), (outside,), (outside,)]
    return shapes


_BLOCKS = [_block(64, 64), _block(64, 128), _block(128, 256), _block(256, 512)]
EIGHT_BITS = "torch: AdamW with 8-bit state, 4 tensors of 2²¹"
RESNET18 = [(64, 3, 7, 7), (64,), (64,), *(s for block in _BLOCKS for s in block), (1000, 512), (1000,)]  # 62 tensors


def specs(setup: Setup) -> Iterator[Spec]:
    if "torch" not in setup.peers:
        return
    for name in ("AdamW", "SGD", "NAdam"):
        yield _spec("MLP", name, "6 tensors of an MLP", MLP, setup)
        yield _spec("tiny", name, "64 tensors of 8", TINY, setup)
        yield _spec("ResNet", name, "ResNet-18's 62 tensors", RESNET18, setup)
    yield Spec("torch", "8 bits", EIGHT_BITS, partial(_case, "AdamW", [(2**21,)] * 4, setup), ("AdamW",))
    for name in (name for name in optimizers() if hasattr(setup.peers["torch"].optim, name)):
        where = f"{len(QUICK_BERT)} tensors of BERT-base" if setup.quick else "BERT-base, 194 tensors"
        yield _spec("BERT", name, where, QUICK_BERT if setup.quick else BERT, setup)


def _spec(group: str, name: str, where: str, shapes: Sequence[Shape], setup: Setup) -> Spec:
    return Spec("torch", group, f"torch: {name}, {where}", partial(_case, name, shapes, setup), (name,))


def _case(name: str, shapes: Sequence[Shape], setup: Setup) -> Case:
    import fastopt.torch

    torch = setup.peers["torch"]
    start, grads = problem(shapes)
    compared = [shapes.index(shape) for shape in dict.fromkeys(shapes)]

    def moved(arrays: Callable[[], Sequence[Any]]) -> list[np.ndarray]:
        now = arrays()
        return [np.asarray(now[i], np.float64) - start[i] for i in compared]

    params = torch_parameters(torch, start, grads)
    ours = getattr(fastopt.torch, name)(params, **options_of(name))
    sides = [
        Side(FASTOPT, ours.step, partial(moved, lambda: [p.detach().numpy() for p in params]), fastopt_settings(setup))
    ]
    if name == "AdamW" and max(p.size for p in start) > 10**6:
        sides += _sides_of_8_bits(start, grads, moved, setup)
    made: Made
    for made in torch_sides(name, start, grads, setup):
        sides.append(Side(made[0], made[1], partial(moved, made[2]), made[3]))
    calls = 1 if sum(p.size for p in start) > 10**6 else 3
    reference = partial(exact_steps, name, [start[i] for i in compared], [grads[i] for i in compared], calls)
    return Case(sum(p.size for p in start), sides, reference, {}, calls, tolerance=2e-3)


def _sides_of_8_bits(start: list[np.ndarray], grads: list[np.ndarray], moved: Any, setup: Setup) -> Iterator[Side]:
    """AdamW with states of 8 bits: fastopt's, and bitsandbytes', where a step does not take too long.

    They follow float32's way roughly only, and have tests of their own.
    """
    import fastopt.torch

    torch, bitsandbytes = setup.peers["torch"], setup.peers.get("bitsandbytes")
    params = torch_parameters(torch, start, grads)
    step = fastopt.torch.AdamW(params, state_format="8bit", **options_of("AdamW")).step
    results = partial(moved, lambda: [p.detach().numpy() for p in params])
    yield Side(f"{FASTOPT}, 8bit", step, results, fastopt_settings(setup), checked=False)
    if bitsandbytes and sum(p.size for p in start) < 10**7:
        others = torch_parameters(torch, start, grads)
        step = bitsandbytes.AdamW8bit(others, weight_decay=1e-2, **options_of("AdamW")).step
        results = partial(moved, lambda: [p.detach().numpy() for p in others])
        yield Side("bitsandbytes", step, results, torch_settings(setup), checked=False)
