"""One of the processes that test_torch_distributed.py starts: trains with PyTorch's engines, and keeps what came out.

Run as ``python one_of_two.py RANK FOLDER``.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import fastopt.torch as ft

STEPS = 4
OPTIONS = {
    **{name: {"lr": 0.05} for name in ("AdamW", "NAdam", "LAMB", "LARS", "Adafactor", "Muon")},
    "SGD": {"lr": 0.05, "momentum": 0.9},
}
NEED_WHOLE_TENSORS = ("LAMB", "LARS", "Adafactor", "Muon")


def net(name):
    """Without biases where the optimizer called so takes matrices only."""
    torch.manual_seed(0)
    first = torch.nn.Linear(5, 8, bias=name != "Muon")
    return torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(8, 3, bias=False)).double()


def data(dtype):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(STEPS, 6, 5, dtype=dtype, generator=generator)


def train(model, optimizer, rank=0, processes=1):
    """The mean over processes of the gradients of each one's rows."""
    for x in data(next(model.parameters()).dtype):
        optimizer.zero_grad()
        model(x[rank::processes]).square().mean().backward()
        optimizer.step()


def whole(model):
    return {n: p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for n, p in model.named_parameters()}


FORMATS = {"8bit": {"state_format": "8bit"}, "bfloat16": {"state_format": "bfloat16", "state_rounding": "nearest"}}


def wide_net():
    """With a parameter of more than 4096 elements."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 900), torch.nn.Tanh(), torch.nn.Linear(900, 3))


def formats(rank):
    """States in fewer bytes: gathered from both processes, and loaded again; or refused."""
    found = {}
    for form, options in FORMATS.items():
        model = wide_net()
        optimizer = ZeroRedundancyOptimizer(model.parameters(), ft.AdamW, lr=0.05, **options)
        train(DistributedDataParallel(model), optimizer, rank, 2)
        for to in (0, 1):
            optimizer.consolidate_state_dict(to=to)
            if rank == to:
                state_dict = optimizer.state_dict()
        found["state", form] = {i: dict(state) for i, state in state_dict["state"].items()}
        other = ZeroRedundancyOptimizer(model.parameters(), ft.AdamW, lr=0.05, **options)
        other.load_state_dict(state_dict)
        train(DistributedDataParallel(model), other, rank, 2)
        found["zero", form] = whole(model)

        model = wide_net()
        fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (2,)))
        try:
            optimizer = ft.AdamW(model.parameters(), lr=0.05, **options)
        except ValueError as error:
            found["fsdp", form] = str(error)
            continue
        for _ in range(2):
            train(model, optimizer, rank, 2)
            optimizer.load_state_dict(optimizer.state_dict())
        assert optimizer.state[model[0].weight]["exp_avg"].to_local().dtype == torch.bfloat16
        found["fsdp", form] = whole(model)
    try:
        ft.AdamW(model.parameters(), state_format="bfloat16")
    except ValueError as error:
        found["random"] = str(error)
    return found


def of_bfloat16(rank):
    """Parameters of bfloat16 in parts: refused, where chance has a hand in them, or updated."""
    model = wide_net().bfloat16()
    fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (2,)))
    try:
        ft.AdamW(model.parameters())
    except ValueError as error:
        refused = str(error)
    optimizer = ft.AdamW(model.parameters(), lr=0.01, param_rounding="kahan")
    for _ in range(2):
        train(model, optimizer, rank, 2)
        optimizer.load_state_dict(optimizer.state_dict())
    state = optimizer.state[model[0].weight]
    return refused, whole(model), [state[key].to_local().dtype for key in ("exp_avg", "kahan_comp")]


def main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    results["of bfloat16"] = of_bfloat16(rank)
    for name, options in OPTIONS.items():
        model = net(name)
        train(DistributedDataParallel(model), getattr(ft, name)(model.parameters(), **options), rank, 2)
        results["ddp", name] = whole(model)

        model = net(name)
        optimizer = ZeroRedundancyOptimizer(model.parameters(), getattr(ft, name), **options)
        train(DistributedDataParallel(model), optimizer, rank, 2)
        results["zero", name] = whole(model)
        optimizer.consolidate_state_dict(to=0)
        if rank == 0:
            results["zero state", name] = optimizer.state_dict()["state"]

        model = net(name)
        mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
        try:
            optimizer = getattr(ft, name)(model.parameters(), **options)
        except ValueError as error:
            results["fsdp", name] = str(error)
            continue
        train(model, optimizer, rank, 2)
        results["fsdp", name] = whole(model)
        assert hasattr(optimizer.state[model[0].weight][("exp_avg", "momentum_buffer")[name == "SGD"]], "full_tensor")
    results["formats"] = formats(rank)
    torch.save(results, Path(folder, f"{rank}.pt"))
    dist.barrier()
    os._exit(0)  # gloo's threads may still run when the interpreter takes things down, which then ends in an abort


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
