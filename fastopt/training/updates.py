"""The optimizer's step as a part of training: over which gradients, clipped how."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import _backends
from .._backends.program import Runs
from .._checks import a_number, positive, some
from ..nn.layer import Layer
from ..optim import Optimizer
from ..optim.bound import BoundStep, parameters_of

Clipping = Mapping[str, float | None]
Update = Callable[[float], bool]  # with what scales the gradients: whether the optimizer did its step


class Norms:
    """The norms of the gradients of an epoch's steps."""

    def __init__(self, optimizer: Optimizer):
        self.values: list[float] = []
        self._optimizer = optimizer

    def __call__(self) -> None:
        """Take that of the step just done."""
        if (norm := self._optimizer.grad_norm) is not None:  # a user's own step may not clip
            self.values.append(norm)


def clipping_of(
    clip_norm: float | None, clip_norm_per_tensor: float | None, clip_value: float | None, clip_eps: float
) -> dict[str, float | None]:
    """The options by name, checked but for their values being positive."""
    clipping = {"clip_norm": clip_norm, "clip_norm_per_tensor": clip_norm_per_tensor, "clip_value": clip_value}
    return {**clipping, "clip_eps": a_number("clip_eps", clip_eps, 0)}


def update_of(
    optimizer: Optimizer, grads: Any, on_nonfinite: str, clipping: Clipping, then: Sequence[Runs] = ()
) -> tuple[BoundStep, Update]:
    """The optimizer's step on ``grads``, after which ``then`` is run; both are the same, but for a user's class."""
    limits = {name: value for name, value in clipping.items() if name != "clip_eps" and value is not None}
    options: dict[str, Any] = {name: positive(name, value) for name, value in limits.items()}
    if on_nonfinite not in ("raise", "skip", "ignore"):
        raise ValueError(f'on_nonfinite must be "raise", "skip" or "ignore", not {on_nonfinite!r}')
    asked = {**options, "on_nonfinite": on_nonfinite, "clip_eps": clipping["clip_eps"]}
    bound = BoundStep(optimizer, grads, asked, then)
    # of a user's class, or put in its place
    if getattr(optimizer.step, "__func__", None) is Optimizer.step:
        return bound, bound
    after = _backends.active.Program(then)

    def update(grad_scale: float) -> bool:
        before = optimizer.step_count
        optimizer.step(grads, grad_scale=grad_scale, **asked)
        done = optimizer.step_count > before
        if done:
            after()
        return done

    return bound, update


def gradients_for(optimizer: Any, model: Layer) -> dict[str, Any]:
    """The model's gradients of the optimizer's parameters, by the optimizer's names; None for those that are frozen."""
    if not isinstance(optimizer, Optimizer):
        what = optimizer if isinstance(optimizer, (str, type)) else type(optimizer).__name__
        raise TypeError(
            f"optimizer must be one of fastopt.optim, not {what}: made over the model's parameters, as by"
            " fo.optim.Adam(model.parameters(), lr=0.001)"
        )
    name_of = {id(param): name for name, param in model.parameters().items()}
    of_optimizer = parameters_of(optimizer)
    foreign = [repr(name) for name, param in of_optimizer.items() if id(param) not in name_of]
    if foreign or not of_optimizer:
        own = {repr(name) for name in model.parameters()}
        whose = "another model's " if foreign and own.issuperset(foreign) else ""
        raise ValueError(
            f"the optimizer is over {whose}{some(foreign) or 'nothing'}, which is not of this model, whose parameters"
            f" are {some([repr(name) for name in model.parameters()]) or 'none'}: make it from model.parameters()"
        )
    grads = model.gradients()
    if all(grads[name_of[id(param)]] is None for param in of_optimizer.values()):
        raise ValueError("all parameters of the optimizer are of frozen layers, so there is nothing to train")
    if tuple(of_optimizer) == tuple(grads):
        return grads
    return {name: grads[name_of[id(param)]] for name, param in of_optimizer.items()}
