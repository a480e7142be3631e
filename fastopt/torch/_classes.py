"""The classes: PyTorch's of the same name, if there is one, with fastopt's step."""

import inspect

from ..optim import schedule_free
from ._kinds import Kind
from ._optimizer import Fused
from ._schedule_free import ScheduleFree

_DOC = """{first}

On tensors of PyTorch; the formula is that of `fastopt.optim.{name}`.

Parameters
----------
params : iterable of tensors, of pairs of a name and a tensor, or of groups
    What has gradients: float32, float64 or bfloat16, on the CPU.
{given}
    As for `{where}.{name}`.{options}
on_nonfinite : {{"ignore", "raise", "skip"}}
    What to do if a gradient holds an inf or NaN: nothing, as PyTorch; raise FloatingPointError, and change nothing; or
    leave out the step, and count it in ``skipped_steps``. An attribute, too.
clip_norm : float, optional
    What `torch.nn.utils.clip_grad_norm_` before every step would be given. The norm is then in ``grad_norm``. An
    attribute, too.

Raises
------
TypeError, ValueError
    If a parameter is not such a tensor, or an argument is out of range.

Examples
--------
>>> import torch
>>> from fastopt.torch import {name}
>>> w = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
>>> optimizer = {name}([w], lr=0.1)
>>> (w**2).sum().backward()
>>> optimizer.step()
>>> bool((w.abs() < torch.tensor([[1.0, 2.0], [3.0, 4.0]])).all())
True
"""


def made(name: str, module: str) -> type:
    """The class of fastopt's optimizer ``name``."""
    kind = Kind(name)
    ours = ScheduleFree if issubclass(kind.ours, schedule_free.ScheduleFree) else Fused
    bases = (ours,) if kind.theirs is None else (ours, kind.theirs)
    params = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    more = [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default)
        for option, default in (("on_nonfinite", "ignore"), ("clip_norm", None))
    ]
    signature = inspect.Signature([params, *kind.parameters, *more])
    own = {"share_memory": _share_memory} if hasattr(kind.theirs, "share_memory") else {}
    given = {"__module__": module, "__signature__": signature, "_kind": kind, "__doc__": _doc(kind)}
    return type(name, bases, {**given, **own})


def _share_memory(self: Fused) -> None:
    """Move the state into memory that other processes share, as PyTorch's does that of float32."""
    for state in self.state.values():
        for value in state.values():
            value.share_memory_()


def _doc(kind: Kind) -> str:
    options = ", ".join(option.name for option in kind.options)
    return _DOC.format(
        first=(inspect.getdoc(kind.ours) or "").partition("\n")[0],
        name=kind.name,
        where="fastopt.optim" if kind.theirs is None else "torch.optim",
        given=", ".join(p.name for p in kind.parameters if p not in kind.options),
        options=f"\n{options}\n    As for `fastopt.optim.{kind.name}`; in groups, too." if options else "",
    )
