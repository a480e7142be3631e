"""Who trains together: one process with several shards, or several processes."""

import zlib
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, TypeVar

import numpy as np

from .._checks import whole
from .._version import __version__
from ..functional.products import get_matmul
from ..nn.layer import Layer
from ..optim import Optimizer
from .checkpoints import hyperparameters_of
from .shards import Alone, Company

Function = TypeVar("Function", bound=Callable[..., Any])


def company_of(comm: Any, shards: int | None) -> Company | None:
    """Those who train together; None where all is one shard of one process."""
    shards = None if shards is None else whole("shards", shards, 1)
    if comm is None:
        return None if shards in (None, 1) else Alone(shards)
    from ..parallel.team import Team  # which needs mpi4py

    team = Team(comm, shards)
    if team.size > 1:
        return team
    return None if team.shards == 1 else Alone(team.shards)


def together(function: Function) -> Function:
    """Let ``function`` be called by all processes of ``comm``, and end in all of them as it does in one.

    It gets the `Company`, or None, in the place of ``comm``.
    """

    @wraps(function)
    def called(*arguments: Any, comm: Any = None, shards: int | None = None, **options: Any) -> Any:
        company = company_of(comm, shards)
        if company is None:
            return function(*arguments, **options)
        optimizer = options.get("optimizer")
        call = partial(function, *arguments, comm=company, shards=company.shards, **options)
        return company.together(call, optimizer if isinstance(optimizer, Optimizer) else None)

    return called  # type: ignore[return-value]


def description_of(model: Layer, optimizer: Optimizer) -> dict[str, Any]:
    """What must be the same in all processes."""
    state = {f"{name} {key}": array for name, of in optimizer.state.items() for key, array in of.items()}
    return {
        "fastopt": __version__,
        "matrix products": get_matmul(),
        "model": model.fingerprint(),
        "optimizer": f"{type(optimizer).__name__} {hyperparameters_of(optimizer)}",
        "step count": optimizer.step_count,
        "optimizer's state": _checksum(state),
    }


def _checksum(arrays: Mapping[str, Any]) -> str:
    value = 0
    for name, array in arrays.items():
        value = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(name.encode(), value))
    return f"{value:08x}"
