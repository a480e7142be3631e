"""Layers that their input can pass by: residual and highway."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _backends
from .._checks import a_number, whole
from .activations import ReLU
from .attributes import Check
from .container import Container, checked_layer
from .layer import bind
from .linear import Linear
from .passes import Bound, Calls, Context, DoesNotFit, run
from .sequential import Sequential

if TYPE_CHECKING:  # NumPy loads its random module when it is first used, which takes as long as all of this library
    Generator = np.random.Generator


class Residual(Container):
    r"""A layer beside which its input passes unchanged: :math:`y = x + F(x)`.

    With a shortcut S, which is needed where F changes the width: :math:`y = S(x) + F(x)`.

    Parameters
    ----------
    body : Layer, or any object with ``forward(x)`` and ``backward(dy)``
        F: for several layers, a `Sequential` of them.
    shortcut : the same, optional
        S: most often a projection, such as ``Linear(64, 32, bias=False)``.

    Attributes
    ----------
    body, shortcut
        The layers as given; their parameters' names begin with ``"body."`` and ``"shortcut."``.

    Raises
    ------
    TypeError, ValueError
        As `Sequential` does. A forward pass raises ValueError if the two summands have different shapes.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> block = fo.nn.Residual(fo.nn.ReLU())
    >>> block(np.array([[-1.0, 2.0]]))
    array([[-1.,  4.]])
    >>> model = fo.nn.Sequential(
    ...     fo.nn.Residual(fo.nn.Sequential(fo.nn.Linear(8, 8), fo.nn.ReLU(), fo.nn.Linear(8, 8))),
    ...     fo.nn.Residual(fo.nn.Linear(8, 4), shortcut=fo.nn.Linear(8, 4, bias=False)),
    ... )
    >>> list(model.parameters())[-3:]
    ['1.body.weight', '1.body.bias', '1.shortcut.weight']

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR 2016, equations 1 and 2.
    """

    _attributes: ClassVar[dict[str, Check | None]] = {**Container._attributes, "body": None, "shortcut": None}

    def __init__(self, body: Any, shortcut: Any = None):
        super().__init__()
        self.body = checked_layer("body", body)
        self.shortcut = None if shortcut is None else checked_layer("shortcut", shortcut)
        self._assemble(None)

    def __repr__(self) -> str:
        return f"Residual({self.body!r}{'' if self.shortcut is None else f', shortcut={self.shortcut!r}'})"

    def named_children(self) -> Iterator[tuple[str, Any]]:
        yield "body", self.body
        if self.shortcut is not None:
            yield "shortcut", self.shortcut

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        backend = _backends.active
        body = bind(self.body, x, context)
        shortcut = None if self.shortcut is None else bind(self.shortcut, x, context)
        passed = x if shortcut is None else shortcut.y
        if body.y.shape != passed.shape:
            what = "the input has" if shortcut is None else "the shortcut gives"
            raise ValueError(
                f"the body of {self!r} gives shape {body.y.shape}, {what} {passed.shape}: they are added up"
                + (", and a shortcut, such as a Linear, can change the input's" if shortcut is None else "")
            )
        y = context.array(passed.shape, x.dtype)
        add = run([backend.bind("add", (passed, body.y, y))])

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            if shortcut is None and dx is None:
                return body.backward(dy, None)
            kept = context.array(dy.shape, dy.dtype)  # both ways take dy, and may overwrite it
            calls: Calls = [backend.bind("copy", (dy, kept))]
            past: np.ndarray | None = kept
            if shortcut is not None:
                past = None if dx is None else context.array(x.shape, x.dtype)
                calls += shortcut.backward(kept, past)
            calls += body.backward(dy, dx)
            if dx is not None:
                calls.append(backend.bind("add", (past, dx, dx)))
            return calls

        beside = ([], ()) if shortcut is None else (shortcut.forward, shortcut.prepare)
        return Bound(y, [*body.forward, *beside[0], *add], backward, [*body.prepare, *beside[1]])


class _Gate(Linear):
    """The transfer gate, whose bias begins with a value of its own."""

    def __init__(self, features: int, bias: float, dtype: Any):
        self._first_bias = bias
        super().__init__(features, features, dtype=dtype)

    def reset_parameters(self, rng: "Generator") -> None:
        super().reset_parameters(rng)
        self.params["bias"].fill(self._first_bias)


class Highway(Container):
    r"""A layer with a gate that mixes what it makes of its input with the input itself, element by element.

    .. math:: y = H(x) \cdot T(x) + x \cdot (1 - T(x)), \qquad T(x) = \sigma(W_T x + b_T)

    The transfer gate's bias :math:`b_T` begins below 0, so that at first most of the input passes unchanged: even a
    stack of a hundred such layers can be trained from there.

    Parameters
    ----------
    features : int
        The width of input (rows, features) and output.
    transform : Layer, or any object with ``forward(x)`` and ``backward(dy)``, optional
        H, whose output has the shape of its input; by default ``Linear(features, features)`` and `ReLU`.
    gate_bias : float
        Where the bias begins: the paper takes -1 to -4, the lower the deeper the network.
    dtype : numpy.float32 or numpy.float64
        That of the gate, and of the transform made by default.
    rng : int or numpy.random.Generator, optional
        As for `Sequential`: if given, the parameters that were drawn without one are drawn from this.

    Attributes
    ----------
    transform : the layer H
    gate : Linear
        :math:`W_T x + b_T`. Parameters have the names ``"transform. ..."``, ``"gate.weight"`` and ``"gate.bias"``.

    Raises
    ------
    TypeError, ValueError
        As `Linear` and `Sequential` do; if ``gate_bias`` is no finite number. A forward pass raises ValueError if
        the input has another width, or the transform changes the shape.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> layer = fo.nn.Highway(3, fo.nn.Tanh(), gate_bias=-30.0, dtype=np.float64)
    >>> x = np.array([[1.0, -2.0, 3.0]])
    >>> bool(np.allclose(layer(x), x))
    True
    >>> layer.gate.bias[...] = 30
    >>> bool(np.allclose(layer(x), np.tanh(x)))
    True

    References
    ----------
    R. K. Srivastava, K. Greff and J. Schmidhuber, "Training very deep networks", NeurIPS 2015, equations 3 and 5.
    """

    _attributes: ClassVar[dict[str, Check | None]] = {
        **Container._attributes,
        "features": None,
        "transform": None,
        "gate": None,
    }

    def __init__(self, features: int, transform: Any = None, *, gate_bias: float = -1.0, dtype: Any = np.float32,
                 rng: "int | Generator | None" = None):  # fmt: skip
        super().__init__()
        self.features = whole("features", features, 1)
        self.gate = _Gate(self.features, a_number("gate_bias", gate_bias), dtype)
        if transform is None:
            transform = Sequential(Linear(self.features, self.features, dtype=dtype), ReLU())
        self.transform = checked_layer("transform", transform)
        self._assemble(rng)

    def __repr__(self) -> str:
        return f"Highway({self.features}, {self.transform!r})"

    def named_children(self) -> Iterator[tuple[str, Any]]:
        yield "transform", self.transform
        yield "gate", self.gate

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        if x.ndim != 2 or x.shape[1] != self.features:
            raise DoesNotFit(f"{self!r} takes (rows, {self.features}), and was given {x.shape}")
        transform, gate = bind(self.transform, x, context), self.gate.bind(x, context, then="sigmoid")
        if transform.y.shape != x.shape:
            raise ValueError(
                f"the transform of {self!r} gives shape {transform.y.shape}, the input has {x.shape}: they are mixed"
            )
        backend, y, mixed = _backends.active, context.array(x.shape, x.dtype), (transform.y, gate.y, x)
        mix = run([backend.bind("highway", (*mixed, y))])

        def backward(dy: np.ndarray, dx: np.ndarray | None) -> Calls:
            dgate, carried = (context.array(x.shape, x.dtype) for _ in range(2))
            through_gate = None if dx is None else context.array(x.shape, x.dtype)
            calls: Calls = [backend.bind("highway_backward", (dy, *mixed, dy, dgate, carried))]
            calls += [*transform.backward(dy, dx), *gate.backward(dgate, through_gate)]
            if dx is not None:
                calls += [backend.bind("add", (dx, each, dx)) for each in (through_gate, carried)]
            return calls

        return Bound(y, [*transform.forward, *gate.forward, *mix], backward, transform.prepare)
