"""The optimizer of an estimator: scikit-learn's two, any of fastopt's by name, or what a factory makes."""

from inspect import signature
from typing import Any

import fastopt as fo


def solvers() -> dict[str, type]:
    """The optimizers of `fastopt.optim` by their names in lower case."""
    found = {name.lower(): getattr(fo.optim, name) for name in fo.optim.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, fo.optim.Optimizer) and kind is not fo.optim.Optimizer
    }


def name_of(solver: Any) -> str:
    """The name of a solver in lower case; of a factory, none."""
    return solver.lower() if isinstance(solver, str) else ""


def decays_by_batch(estimator: Any) -> bool:
    """Whether alpha is scikit-learn's: an L2 term of the loss, divided by the sum of a batch's weights."""
    solver, mode = estimator.solver, estimator.weight_decay_mode
    if not isinstance(solver, str):
        return False
    if mode is None and solver != "lbfgs":
        mode = signature(solvers()[name_of(solver)]).parameters["weight_decay_mode"].default
    return mode in (None, "l2")


def optimizer_for(estimator: Any, model: fo.nn.Sequential) -> fo.optim.Optimizer:
    """One over the model's parameters, the weights of linear layers in a group of their own: alpha is theirs."""
    solver = estimator.solver
    if not isinstance(solver, str):
        made = solver(model.parameters())
        if not isinstance(made, fo.optim.Optimizer):
            raise TypeError(f"solver must make an optimizer of fastopt.optim, not {type(made).__name__}")
        return made
    linear = {f"{i}.weight" for i, layer in enumerate(model) if isinstance(layer, fo.nn.Linear)}
    params = model.parameters()
    decayed = {name: param for name, param in params.items() if name in linear}
    others = {name: param for name, param in params.items() if name not in linear}
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    name = name_of(solver)
    kind = solvers()[name]
    accepted = signature(kind).parameters
    if "use_muon" in accepted:  # is for matrices alone
        groups[1]["use_muon"] = False
    options: dict[str, Any] = {"weight_decay": estimator.alpha}
    if "lr" in accepted:
        options["lr"] = estimator.learning_rate_init if estimator.schedule is None else estimator.schedule
    if "eps" in accepted and "betas" in accepted and len(accepted["betas"].default) == 2:
        options |= {"betas": (estimator.beta_1, estimator.beta_2), "eps": estimator.epsilon}
    if name == "adam":
        options["eps_hat"] = True
    if name == "sgd":
        momentum = estimator.momentum
        options |= {"momentum": momentum, "nesterov": estimator.nesterovs_momentum and momentum > 0}
        options["lr_in_buffer"] = True
    if estimator.weight_decay_mode is not None:
        options["weight_decay_mode"] = estimator.weight_decay_mode
    return kind(groups, **options)
