"""What the tests of fastopt.torch share: an optimizer beside PyTorch's own."""

import io

import pytest

torch = pytest.importorskip("torch", reason="fastopt.torch is for PyTorch, which is not here")

import fastopt.torch as ft  # noqa: E402

BOTH = [name for name in ft.__all__ if hasattr(torch.optim, name)]
SHAPES = [(), (7,), (5, 3), (2, 3, 4), (1, 1), (0, 3)]


def parameters(dtype=torch.float64, shapes=SHAPES, seed=0, name=""):
    """Parameters, one of them transposed and one with gaps; of the shapes that PyTorch's optimizer called so takes.

    Muon is for matrices; Adafactor divides by the number of elements.
    """
    shapes = [shape for shape in shapes if len(shape) == 2 or name != "Muon"]
    shapes = [shape for shape in shapes if 0 not in shape or name != "Adafactor"]
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    tensors += [
        torch.randn(4, 6, dtype=dtype, generator=generator).t(),
        torch.randn(6, 8, dtype=dtype, generator=generator)[::2, 1::3],
    ]
    return [torch.nn.Parameter(t) for t in tensors]


def copies(params):
    """Others of the same values, and the same strides."""
    others = [torch.nn.Parameter(torch.empty_strided(p.shape, p.stride(), dtype=p.dtype)) for p in params]
    with torch.no_grad():
        for other, p in zip(others, params, strict=True):
            other.copy_(p)
    return others


def give_gradients(step, *several):
    """The same gradients to the parameters of all, others in every step."""
    generator = torch.Generator().manual_seed(step)
    for params in zip(*several, strict=True):
        grad = torch.randn(params[0].shape, dtype=params[0].dtype, generator=generator)
        for p in params:
            p.grad = grad.clone()


def steps(ours, theirs, params, others, count=50, begin=0, within=1e-12):
    """Steps of both on the same gradients, which end at the same parameters."""
    for i in range(begin, begin + count):
        give_gradients(i, params, others)
        ours.step()
        theirs.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=within, atol=within)


def through_a_file(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
