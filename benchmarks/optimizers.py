"""Optimizers against PyTorch's and against the machine's memory: python -m benchmarks.optimizers [--quick].

Every optimizer is first checked: the C core's bits against the NumPy reference, and both against PyTorch in float64.
Then the two are timed in turn, round after round, with two threads each, PyTorch at its best setting (fused where it
has it, else the faster of foreach and single tensors). Times are medians, with the fastest in brackets; ratios are
medians of the ratios within a round, with their quartiles, and then of the fastest times. On a machine that has other
work to do, PyTorch's medians suffer more, as its threads wait for each other after every operation.

The bound is what the same bytes take in bare loops over the same arrays, timed in the same rounds: one that reads the
gradients, for the check that they are finite, and one that reads and writes what the update does. LARS and LAMB go
twice through a tensor; the second time through those of up to 2**20 elements comes from the cache and counts nothing.
"""

import argparse
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter, sleep

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's memory in huge pages, as NumPy's is

import numba
import numpy as np
import torch

import fastopt as fo

THREADS = 2
MLP = [(100, 30), (100,), (50, 100), (50,), (1, 50), (1,)]
TINY = [(8,)] * 64
LAYER = [*[(768, 768)] * 4, (3072, 768), (768, 3072), *[(768,)] * 5, (3072,), *[(768,)] * 4]
BERT = [(30522, 768), (512, 768), *LAYER * 12]  # 194 tensors

# ours and its options; PyTorch's and its options
OPTIMIZERS = {
    "SGD": ("SGD", {"momentum": 0.9}, "SGD", {"momentum": 0.9}),
    "Adagrad": ("Adagrad", {}, "Adagrad", {}),
    "Adadelta": ("Adadelta", {}, "Adadelta", {}),
    "RMSprop": ("RMSprop", {}, "RMSprop", {}),
    "Adam": ("Adam", {}, "Adam", {}),
    "AdamW": ("AdamW", {}, "AdamW", {}),
    "NAdam": ("NAdam", {}, "NAdam", {}),
    "LARS": ("LARS", {"weight_decay": 1e-4}, None, {}),
    "LAMB": ("LAMB", {"trust_clip": None}, "LAMB", {}),
}
FUSED, NOT_FUSED = {"fused": {"fused": True}}, {"foreach": {"foreach": True}, "single": {"foreach": False}}
# what PyTorch is to be tried with
SETTINGS = {"SGD": FUSED, "Adagrad": FUSED, "Adadelta": NOT_FUSED, "RMSprop": NOT_FUSED, "Adam": FUSED, "AdamW": FUSED,
            "NAdam": NOT_FUSED, "LARS": {}, "LAMB": {"eager": {}}}  # fmt: skip


class EagerLAMB(torch.optim.Optimizer):
    """LAMB as one writes it in PyTorch."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
                m, v = state["m"], state["v"]
                m.lerp_(p.grad, 0.1)
                v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                denominator = v.div(1 - 0.999**self.steps).sqrt_().add_(1e-6)
                update = m.div(1 - 0.9**self.steps).div_(denominator).add_(p, alpha=0.01)
                ratio = p.norm() / update.norm()
                p.add_(update.mul_(torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, 1.0)), alpha=-group["lr"])


# ---- what is compared -----------------------------------------------------------------------------


def problem(shapes, dtype=np.float32):
    """Parameters and gradients; large ones repeat the same numbers, which costs less than drawing new ones."""
    numbers = np.random.default_rng(0).standard_normal(2**20).astype(dtype)
    params = [np.resize(numbers, shape) for shape in shapes]
    return params, [0.1 * p for p in params]


def ours(name, params, **more):
    optimizer, options, *_ = OPTIMIZERS[name]
    return getattr(fo.optim, optimizer)(params, lr=1e-3, **{**options, **more})


def theirs(name, params, grads, **setting):
    """PyTorch's optimizer; the gradients may be ours, as neither changes them."""
    tensors = [torch.tensor(p, requires_grad=True) for p in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(grad)
    _, _, optimizer, options = OPTIMIZERS[name]
    if optimizer == "LAMB":
        return tensors, EagerLAMB(tensors)
    return tensors, getattr(torch.optim, optimizer)(tensors, lr=1e-3, **options, **setting)


def check():
    shapes = [(300, 200), (70,), (1,)]
    for name in OPTIMIZERS:
        results = {}
        for backend in ("c", "numpy"):
            fo.set_backend(backend)
            params, grads = problem(shapes)
            opt = ours(name, params)
            for _ in range(5):
                opt.step(grads)
            results[backend] = params
        fo.set_backend("c")
        for one, other in zip(results["c"], results["numpy"], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
        if OPTIMIZERS[name][2]:
            params, grads = problem(shapes, np.float64)
            tensors, opt = theirs(name, params, grads)
            for _ in range(5):
                opt.step()
            for one, other in zip(results["c"], tensors, strict=True):
                np.testing.assert_allclose(one, other.detach().numpy(), rtol=3e-5, atol=1e-6, err_msg=name)


# ---- timing ---------------------------------------------------------------------------------------


def times(functions, rounds, repeats=1):
    """Seconds per call, (rounds, functions): in every round, each function in turn."""
    for function in functions:
        function()
    seconds = np.empty((rounds, len(functions)))
    for row in seconds:
        for i, function in enumerate(functions):
            sleep(0.005 if repeats == 1 else 0)  # PyTorch's threads spin for a while before they sleep
            start = perf_counter()
            for _ in range(repeats):
                function()
            row[i] = (perf_counter() - start) / repeats
    return seconds


def ratio(seconds, others):
    """others / seconds: the median over the rounds, its quartiles, and that of the fastest rounds."""
    low, middle, high = np.percentile(others / seconds, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f}-{high:.2f}), fastest {others.min() / seconds.min():.2f}"


def show(seconds):
    """The median time, and the fastest."""
    middle, fastest = np.median(seconds), seconds.min()
    scale, unit = (1e6, "µs") if middle < 1e-3 else (1e3, "ms")
    return f"{middle * scale:.1f} ({fastest * scale:.1f}) {unit}"


def table(*columns):
    print("\n|", " | ".join(columns), "|")
    print("|" + "---|" * len(columns))


def row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


# ---- the machine's bandwidth ----------------------------------------------------------------------

loop = numba.njit(nogil=True)


@loop
def read(x):  # of uint64, so that it is vectorised
    seen = np.uint64(0)
    for i in range(x.size):
        seen |= x[i]
    return seen


@loop
def update0(p, g, c):
    for i in range(p.size):
        p[i] = p[i] + c * g[i]


@loop
def update1(p, g, a, c):
    for i in range(p.size):
        a[i] = a[i] + c * g[i]
        p[i] = p[i] + c * a[i]


@loop
def update2(p, g, a, b, c):
    for i in range(p.size):
        a[i] = a[i] + c * g[i]
        b[i] = b[i] + c * g[i]
        p[i] = p[i] + c * a[i]


POOL = ThreadPoolExecutor(THREADS)


def stream(kernel, arrays, *scalars):
    """A function that runs a bare loop over groups of arrays of one length, in THREADS threads."""
    pieces = [
        (*(x.reshape(-1)[begin : begin + 2**20] for x in group), *scalars)
        for group in arrays
        for begin in range(0, group[0].size, 2**20)
    ]

    def run():
        left = iter(pieces)

        def work(_):
            for piece in left:
                kernel(*piece)

        list(POOL.map(work, range(THREADS)))

    return run


def reading(arrays):
    return stream(read, [(x.reshape(-1)[: x.size // 2 * 2].view(np.uint64),) for x in arrays])


def bare_loops(name, opt, params, grads):
    """Functions that move what a step has to move, and how many bytes those are."""
    states = [tuple(s.values()) for s in opt.state.values()]
    count = len(states[0])
    everything = [(p, g, *s) for p, g, s in zip(params, grads, states, strict=True)]
    functions = [reading(grads), stream((update0, update1, update2)[count], everything, np.float32(0))]
    moved = (1 + 2 + count + 1 + count) * sum(p.nbytes for p in params)
    # what has to be read twice of large tensors, since the first sweep has driven it out of the cache
    twice = {"LARS": lambda p, g, s: (p, g), "LAMB": lambda p, g, *s: (p, *s)}.get(name)
    if twice:
        again = [x for arrays in everything if arrays[0].size > 2**20 for x in twice(*arrays)]
        functions.append(reading(again))
        moved += sum(x.nbytes for x in again)
    return functions, moved


# ---- the tables -----------------------------------------------------------------------------------


def small(rounds):
    torch.set_num_threads(1)  # the faster for these; ours takes one by itself
    table("Adam, one step", "fastopt", "PyTorch fused", "PyTorch / fastopt")
    for title, shapes, repeats in (("MLP of 6 tensors", MLP, 200), ("64 tensors of 8", TINY, 100)):
        params, grads = problem(shapes)
        opt = ours("Adam", params)
        _, other = theirs("Adam", params, grads, fused=True)
        seconds = times([partial(opt.step, grads), other.step], rounds, repeats)
        row(title, *map(show, seconds.T), ratio(*seconds.T))
    torch.set_num_threads(THREADS)


def one_array(sizes, rounds):
    table("Adam, one array", "fastopt", "GB/s", "bound / fastopt", "PyTorch fused", "PyTorch / fastopt")
    for size in sizes:
        params, grads = problem([(size,)])
        opt = ours("Adam", params)
        _, other = theirs("Adam", params, grads, fused=True)
        in_memory = size >= 10**7
        loops, moved = bare_loops("Adam", opt, params, grads) if in_memory else ([], 32 * size)
        run = [partial(opt.step, grads), other.step, *loops]
        seconds = times(run, rounds if in_memory else 3 * rounds, max(1, 10**6 // size))
        here, there = seconds.T[:2]
        bound = ratio(here, seconds[:, 2:].sum(1)) if in_memory else "in cache"
        row(f"{size:.0e}", show(here), f"{moved / np.median(here) / 1e9:.1f}", bound, show(there), ratio(here, there))
        del opt, other, params, grads, loops, run
        gc.collect()


def best_setting(name, params, grads):
    """The fastest of PyTorch's settings for an optimizer."""
    if len(SETTINGS[name]) < 2:
        return next(iter(SETTINGS[name]), None)
    steps = [theirs(name, params, grads, **setting)[1].step for setting in SETTINGS[name].values()]
    return list(SETTINGS[name])[times(steps, 3).min(0).argmin()]


def many_tensors(shapes, rounds):
    params, grads = problem(shapes)
    count = sum(p.size for p in params)
    print(f"\n{len(params)} tensors, {count:.3g} parameters:")
    table("optimizer", "fastopt", "words per parameter", "GB/s", "bound / fastopt", "PyTorch", "PyTorch / fastopt")
    for name in OPTIMIZERS:
        opt, best = ours(name, params), best_setting(name, params, grads)
        loops, moved = bare_loops(name, opt, params, grads)
        run = [partial(opt.step, grads)]
        if best:
            run.append(theirs(name, params, grads, **SETTINGS[name][best])[1].step)
        seconds = times([*run, *loops], rounds)
        here, bound = seconds[:, 0], seconds[:, len(run) :].sum(1)
        peer = (f"{show(seconds[:, 1])}, {best}", ratio(here, seconds[:, 1])) if best else ("-", "-")
        bandwidth = f"{moved / np.median(here) / 1e9:.1f}"
        row(name, show(here), f"{moved / count / 4:.2f}", bandwidth, ratio(here, bound), *peer)
        del opt, loops, run
        gc.collect()

    table("two at once", "first", "second", "second / first")
    adamw = ours("AdamW", [p.copy() for p in params])
    compare("AdamW, LAMB", partial(adamw.step, grads), partial(ours("LAMB", params).step, grads), rounds)
    tensors, other = theirs("AdamW", params, [g.copy() for g in grads], fused=True)

    def clip_and_step():
        torch.nn.utils.clip_grad_norm_(tensors, 1.0)
        other.step()

    compare("AdamW with clip_norm, clip_grad_norm_ and PyTorch's fused AdamW",
            partial(adamw.step, grads, clip_norm=1.0), clip_and_step, rounds)  # fmt: skip


def compare(title, first, second, rounds):
    seconds = times([first, second], rounds)
    row(title, *map(show, seconds.T), ratio(*seconds.T))


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Time the optimizers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller arrays")
    quick = parser.parse_args(arguments).quick
    fo.set_num_threads(THREADS)
    torch.set_num_threads(THREADS)
    check()
    fo.show_config()
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    small(5 if quick else 31)
    one_array([10**5, 10**6, 10**7] if quick else [10**5, 10**6, 10**7, 6 * 10**7], 3 if quick else 11)
    many_tensors(BERT[:18] if quick else BERT, 3 if quick else 7)


if __name__ == "__main__":
    main()
