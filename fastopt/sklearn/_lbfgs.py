"""The solver "lbfgs": SciPy's, on the loss and the gradient of all rows at once."""

from typing import Any
from warnings import warn

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

import fastopt as fo

from ._objective import Objective


def minimized(
    model: fo.nn.Sequential, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, objective: Objective,
    max_iter: int, max_fun: int, tol: float,
) -> tuple[float, int]:  # fmt: skip
    """Train the model, in float64; the loss in the end, and how many iterations it took."""
    params, grads = list(model.parameters().values()), list(model.gradients().values())
    decayed = {id(w) for w in objective.weights}
    y = objective.targets("y", y, (len(X), len(params[-1])), X.dtype)
    model.train()

    def take(values: np.ndarray) -> None:
        begin = 0
        for param in params:
            param[...] = values[begin : begin + param.size].reshape(param.shape)
            begin += param.size

    def loss_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        take(values)
        z = model.forward(X)
        dz = np.empty_like(z)
        loss = objective.bind(z, y, dz, weight)() / len(X)
        model.backward(dz, input_gradient=False)
        decay = objective.decay(0)
        parts = [
            grad + decay * param if id(param) in decayed else grad for param, grad in zip(params, grads, strict=True)
        ]
        return loss, np.concatenate([part.ravel() for part in parts])

    begin = np.concatenate([param.ravel() for param in params])
    options: dict[str, Any] = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    found = minimize(loss_and_gradient, begin, method="L-BFGS-B", jac=True, options=options)
    take(found.x)
    if found.status != 0:
        warn(
            f"lbfgs failed to converge after {found.nit} iteration(s) (status={found.status}): {found.message};"
            " increase max_iter or scale the data",
            ConvergenceWarning,
            stacklevel=2,
        )
    return float(found.fun), min(int(found.nit), max_iter)
