"""Computational graphs: every number of a network, and its derivatives, node by node, forward and backward.

A node is declared by its evaluation and by one partial derivative for each input, which can be applied forward (J t)
and backward (Jᵀ g): from that follow both modes, gradients, and Hessian-vector products. Numbers and arrays of float32
and float64; shared nodes, several inputs, sums of losses.

>>> from fastopt import graph
>>> W, X, y = graph.variable(3.0, name="W"), graph.constant(3.0, name="X"), graph.constant(1.0, name="y")
>>> prediction = graph.sigmoid(W * X).named("prediction")
>>> loss = (-(y * graph.log(prediction))).named("loss")
>>> round(graph.forward_mode(loss, W).derivative, 9), round(graph.backward_mode(loss)[W], 9)
(-0.000370184, -0.000370184)
"""

from .checking import check
from .compiled import CompiledGraph, compile
from .drawing import plot
from .elementwise import (
    absolute,
    exp,
    gelu,
    log,
    log1p,
    log_sigmoid,
    maximum,
    minimum,
    relu,
    sigmoid,
    silu,
    softplus,
    sqrt,
    tanh,
)
from .layers import apply
from .modes import evaluate, gradients, hessian_vector, parameters
from .network import batch_norm, cross_entropy, dropout, logistic_loss, mse_loss, softmax
from .node import Node, Operation, constant, variable
from .partials import Partial, diagonal, linear, symmetric
from .shapes import broadcast_to, concatenate, reshape, transpose
from .sums import matmul, mean, sum
from .tables import Row, Table, backward_mode, first_nonfinite, forward_mode

__all__ = [
    "CompiledGraph",
    "Node",
    "Operation",
    "Partial",
    "Row",
    "Table",
    "absolute",
    "apply",
    "backward_mode",
    "batch_norm",
    "broadcast_to",
    "check",
    "compile",
    "concatenate",
    "constant",
    "cross_entropy",
    "diagonal",
    "dropout",
    "evaluate",
    "exp",
    "first_nonfinite",
    "forward_mode",
    "gelu",
    "gradients",
    "hessian_vector",
    "linear",
    "log",
    "log1p",
    "log_sigmoid",
    "logistic_loss",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "mse_loss",
    "parameters",
    "plot",
    "relu",
    "reshape",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "sqrt",
    "sum",
    "symmetric",
    "tanh",
    "transpose",
    "variable",
]
