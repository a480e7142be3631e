"""What is not wrong, but hardly meant: said once, when a run begins."""

from typing import Any

from .._warning import warn
from ..losses import LogisticLoss, Loss
from ..nn.activations import Sigmoid
from ..nn.container import Container
from ..nn.layer import Layer
from ..optim import Optimizer
from ..schedules.base import end_of


def warn_of_modes(model: Layer) -> None:
    """Of layers that were put into evaluation mode one by one: a run trains all of them."""
    if not isinstance(model, Container):
        return
    leaves = [(prefix[:-1], leaf) for prefix, leaf in model.leaves()]
    leaves = [(name, leaf) for name, leaf in leaves if not getattr(leaf, "_frozen", False)]
    evaluating = [f"{name} ({type(leaf).__name__})" for name, leaf in leaves if not getattr(leaf, "training", True)]
    if evaluating and (model.training or len(evaluating) < len(leaves)):
        warn(
            f"evaluation mode was set for {', '.join(evaluating)}, but not for the whole model: fit runs every layer in"
            " training mode, these too, and moves their running statistics"
        )


def warn_of_outputs(model: Layer, criterion: Loss) -> None:
    """Of a last layer that does what the loss does."""
    last: Any = model
    while isinstance(last, Container):
        last = list(last.named_children())[-1][1] if last.chained else None
    if isinstance(last, Sigmoid) and isinstance(criterion, LogisticLoss):
        warn(
            "the model ends with a Sigmoid, and the logistic loss takes logits, of which it takes the sigmoid itself:"
            " leave the last layer out (fastopt.sigmoid makes probabilities of what predict returns)"
        )


def warn_of_schedules(optimizer: Optimizer, steps: int) -> None:
    """Of schedules that know how many steps they are for, where there are to be more."""
    last = optimizer.step_count + steps
    for group in optimizer.groups:
        for name, value in group.items():
            for schedule in value if isinstance(value, tuple) else [value]:
                total = end_of(schedule)
                if total is not None and total < last and steps:
                    warn(
                        f"the schedule of {name}, {schedule!r}, ends after {total} steps, and training after {last}:"
                        " epochs times steps per epoch"
                    )
                    return


def warn_of_skipped(epoch: int, steps: Any) -> None:
    warn(
        f"all {steps} steps of epoch {epoch} were skipped, since gradients held inf or NaN: nothing was trained;"
        " a lower learning rate may help",
        RuntimeWarning,
    )
