"""What was meant by a name that a module does not have."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

_MODULES = ("", "optim", "nn", "losses", "schedules", "init", "training")  # where names are looked for, in this order

# What other libraries call it, in lower case and without underscores.
_LOGISTIC, _SOFTMAX = "fo.losses.LogisticLoss, which takes logits", "fo.losses.CrossEntropy, which takes logits"
_ELSEWHERE = {
    "alphadropout": "fo.nn.Dropout",
    "bce": _LOGISTIC,
    "bceloss": _LOGISTIC,
    "bcewithlogitsloss": _LOGISTIC,
    "binarycrossentropy": "fo.logistic_loss, which takes logits",
    "binarycrossentropywithlogits": "fo.logistic_loss",
    "categoricalcrossentropy": _SOFTMAX,
    "checkgrad": "fo.nn.check_gradients",
    "clipgradvalue": "clip_value= of an optimizer's step",
    "cosinedecay": "fo.schedules.CosineAnnealing",
    "crossentropyloss": _SOFTMAX,
    "dataloader": "fo.minibatches",
    "dense": "fo.nn.Linear",
    "exponentialdecay": "fo.schedules.Exponential",
    "fullyconnected": "fo.nn.Linear",
    "functional": "fo.sigmoid and the like, which are in fo itself",
    "glorotnormal": "fo.init.xavier_normal_",
    "glorotuniform": "fo.init.xavier_uniform_",
    "gradcheck": "fo.nn.check_gradients",
    "henormal": "fo.init.kaiming_normal_",
    "heuniform": "fo.init.kaiming_uniform_",
    "inversetimedecay": "fo.schedules.InverseTime",
    "lazylinear": "fo.nn.Linear",
    "linearwarmup": "warm_up of a schedule",
    "lrfind": "fo.lr_range_test",
    "lrfinder": "fo.lr_range_test",
    "lrscheduler": "fo.schedules",
    "meansquarederror": "fo.losses.SquaredError",
    "model": "fo.nn.Sequential",
    "module": "fo.nn.Layer",
    "momentum": "fo.optim.SGD with momentum=",
    "mse": "fo.losses.SquaredError",
    "mseloss": "fo.losses.SquaredError",
    "nesterov": "fo.optim.SGD with nesterov=True",
    "nllloss": _SOFTMAX,
    "noamlr": "fo.schedules.InverseTime",
    "predict": "predict of a model",
    "reducelronplateau": "fo.ReduceOnPlateau",
    "residualblock": "fo.nn.Residual",
    "setrandomseed": "rng= of what is random",
    "setseed": "rng= of what is random",
    "manualseed": "rng= of what is random",
    "huberloss": "fo.losses.Huber",
    "smoothl1loss": "fo.losses.Huber, which is delta times it",
    "softmaxcrossentropywithlogits": "fo.softmax_cross_entropy",
    "sparsecategoricalcrossentropy": _SOFTMAX,
    "standardscaler": "fo.Standardizer",
    "swish": "fo.silu",
    "train": "fo.fit",
}
_AFFIXES = ("1d", "2d", "3d", "alization", "lr", "loss")  # BatchNorm1d, BatchNormalization, StepLR, LogisticLoss
_NOT_HERE = ("adaptiveavgpool", "attention", "avgpool", "conv", "embedding", "flatten", "gru",
             "lstm", "maxpool", "multiheadattention", "prelu", "rnn", "selu",
             "transformer")  # fmt: skip


class UnknownName(AttributeError):
    """There is no such name in a module. What was meant is looked for when it is asked for: `hasattr` does not."""

    def __init__(self, module: str, name: str):
        super().__init__(module, name)
        self.name = name

    def __str__(self) -> str:
        module, name = self.args
        message = f"module {module!r} has no attribute {name!r}"
        if name.startswith("_"):
            return message
        folded = _folded(name)
        if folded.startswith(_NOT_HERE):
            return f"{message}: fastopt has no such layer; help(fo.nn) says how to write one"
        meant = _meant(module, folded)
        return f"{message}: did you mean {meant}?" if meant else message


def unknown_names(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module, which is called for names that it does not have.

    It is put into ``globals()``: of a module that defines one, type checkers take any name.
    """

    def __getattr__(name: str) -> Any:
        raise UnknownName(module, name)

    return __getattr__


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def _names_of(module: str) -> dict[str, str]:
    """The public names of a module of fastopt: as they are found, and as they are called."""
    path = f"fastopt.{module}" if module else "fastopt"
    prefix = f"fo.{module}." if module else "fo."
    return {_folded(name): prefix + name for name in import_module(path).__all__ if not name.startswith("_")}


def _meant(module: str, folded: str) -> str | None:
    """What is called so: in the module itself, in another, in other libraries; or nearly so."""
    from difflib import get_close_matches  # takes longer to load than all else here

    own_module = module.partition(".")[2]
    own = _names_of(own_module) if own_module in _MODULES else {}
    everywhere = {key: path for other in reversed(_MODULES) for key, path in _names_of(other).items()}
    shorter = next((folded.removesuffix(end) for end in _AFFIXES if folded.endswith(end)), folded)
    for spelling in (folded, shorter):
        for known in (own, _ELSEWHERE, everywhere):
            if spelling in known:
                return known[spelling]
    for known in (own, everywhere, _ELSEWHERE):
        if close := get_close_matches(folded, known, 1, 0.7):
            return known[close[0]]
    return None
