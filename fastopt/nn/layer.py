"""What all layers share: parameters, gradients and buffers by name, running forward and backward, and prediction."""

from collections.abc import Iterator, Mapping
from functools import partial
from threading import RLock
from typing import Any

import numpy as np

from .. import _backends
from .._checks import flag, not_masked, one_dimensional, whole
from .._conversion import as_real_array, converted, way_to_array
from .._moving import change_all, copy_all
from ..functional import sigmoid, softmax
from ..functional.products import get_matmul
from .attributes import Attributes, changes
from .custom import bind_custom
from .passes import Bound, Context, OfThread, Pass, drop_oldest, kept_by

# What a thread keeps of a layer's passes, so that inputs of the same shape find their buffers again.
_KEPT_PASSES, _KEPT_BYTES = 8, 64 * 2**20
_KEPT_PREDICTIONS, _KEPT_PREDICTION_BYTES = 2, 16 * 2**20  # whole batches, and the rest


_OF_OBJECT = ("_own", "_lock", "_placed")  # what neither copies nor pickles take over


class Layer(Attributes):
    """The base of this library's layers.

    One with parameters fills `params` and `grads` in its ``__init__``; one with a state that is no parameter, such
    as running statistics, `buffers`.
    """

    training = True
    _frozen = False
    params: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    _own: OfThread
    _lock: Any
    _placed: Any  # what a container knows of where its arrays are

    def __init__(self) -> None:
        self.params, self.grads, self.buffers = {}, {}, {}
        self._forget_passes()

    def bind(self, x: np.ndarray, context: Context) -> Bound:
        """Run on ``x``, and say how to do so again, and how to go back.

        The calls serve in training and evaluation mode alike: they ask ``context`` for it when they run.
        """
        return bind_custom(self, x, context, arrays_of)

    # -- running --

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The output for a batch, as a new array.

        Parameters
        ----------
        x : ndarray (rows, ...)
            The batch; it is copied, and may change before `backward`.

        Raises
        ------
        TypeError, ValueError
            If ``x`` is no array of the layer's dtype, or has another width than the layer takes.
        """
        if not isinstance(not_masked("x", x), np.ndarray):
            way = way_to_array("x", x, self.dtype or np.float32)
            raise TypeError(f"x must be a numpy.ndarray, not {type(x).__name__}{way}")
        if x.dtype != (self.dtype or x.dtype) or x.dtype not in (np.float32, np.float64):
            dtype = self.dtype or np.dtype(np.float32)
            way = f": x.astype(np.{dtype}) is" if x.dtype.kind in "biufO" else ""
            if x.dtype == np.float64:
                way += ", and dtype=np.float64 makes a Sequential, with all its layers, of float64"
            raise TypeError(f"x is {x.dtype}, {self!r} takes {self.dtype or 'float32 or float64'}{way}")
        if x.ndim < 2:
            raise ValueError(f"x has shape {x.shape}: it must have rows and columns{one_dimensional('x', x)}")
        self.check_arrays()
        kept = kept_by(self._own)
        passes, training = kept.passes, kept.training
        key = (x.shape, x.dtype, _backends.active, get_matmul(), changes.frozen)
        with self._lock:
            found = passes.pop(key, None)
            if found is kept.last:
                kept.last = None
            if found is not None and not found.still_fits(self.arrays()):
                found = None
            if found is not None and not found.context.custom:
                found.context.training = training
                found.run(x)
            else:
                found = self._run_or_undo(found, x, training)
                drop_oldest(passes, _KEPT_PASSES - 1, _KEPT_BYTES - found.context.nbytes)
            passes[key] = kept.last = found
            return found.y.copy()

    def _run_or_undo(self, found: Pass | None, x: np.ndarray, training: bool | None) -> Pass:
        """The pass, or a new one, after it has run on ``x``; where a layer raises, those before it have not run."""
        before = [(buffer, buffer.copy()) for buffer in self.buffers.values() if buffer.flags.writeable]
        try:
            if found is None:
                return Pass(self.arrays, self.bind, x, training)
            found.context.training = training
            found.run(x)
            return found
        except BaseException:
            for buffer, value in before:
                buffer[...] = value
            raise

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The same as `forward`."""
        return self.forward(x)

    def backward(self, dy: np.ndarray, *, input_gradient: bool = True) -> np.ndarray | None:
        """Write the gradients of the parameters for the last `forward`, and return that of its input.

        Parameters
        ----------
        dy : ndarray
            The gradient with respect to the output, of its shape and dtype.
        input_gradient : bool
            Whether to compute the gradient with respect to the input; if not, the answer is None.

        Raises
        ------
        RuntimeError
            If there has been no `forward` in this thread.
        TypeError, ValueError
            If ``dy`` is no array of the output's shape and dtype.
        """
        last = kept_by(self._own).last
        if last is None:
            raise RuntimeError("backward needs a forward before it, in the same thread")
        if not isinstance(not_masked("dy", dy), np.ndarray) or dy.dtype != last.y.dtype:
            given = dy.dtype if isinstance(dy, np.ndarray) else type(dy).__name__
            raise TypeError(f"dy must be an array of {last.y.dtype}, as the output is, not {given}")
        if dy.shape != last.y.shape:
            raise ValueError(f"dy has shape {dy.shape}, the output has {last.y.shape}")
        with self._lock:
            last.run_backward(dy, input_gradient)
            return last.dx.copy() if input_gradient else None

    def predict(self, X: Any, batch_size: int = 64) -> np.ndarray:
        """The output for every row of ``X``, in evaluation mode, batch by batch.

        Nothing is written to the layer: several threads may predict at once, also while another one trains it.

        For a model trained with the logistic loss or the cross-entropy these are logits: `predict_proba` makes
        probabilities of them.

        Parameters
        ----------
        X : array (rows, ...)
            Numbers of any type; other types than the layer's are converted, batch by batch.
        batch_size : int
            How many rows to run at once. By default few enough that the matrix products of small networks stay
            in one thread, and enough for those of large ones to be fast.

        Raises
        ------
        TypeError, ValueError
            If ``X`` does not hold numbers, or has another width than the layer takes.
        """
        X = as_real_array("X", X)
        if X.ndim < 2:
            raise ValueError(f"X has shape {X.shape}: it must have rows and columns{one_dimensional('X', X)}")
        whole("batch_size", batch_size, 1)
        self.check_arrays()
        dtype = self.dtype or (X.dtype if X.dtype in (np.float32, np.float64) else np.dtype(np.float32))
        outputs: np.ndarray | None = None
        for begin in range(0, len(X) or 1, batch_size):
            y = self._predicted(converted(X[begin : begin + batch_size], dtype), dtype)
            if outputs is None:
                outputs = np.empty((len(X), *y.shape[1:]), y.dtype)
            outputs[begin : begin + batch_size] = y
        assert outputs is not None
        return outputs

    def predict_proba(self, X: Any, batch_size: int = 64, *, loss: Any = None) -> np.ndarray:
        r"""The probabilities for every row of ``X``, of a model whose outputs are logits.

        .. math:: p = \sigma(z) \quad\text{(logistic loss)}, \qquad
            p_j = \frac{e^{z_j}}{\sum_k e^{z_k}} \quad\text{(cross-entropy)}

        Parameters
        ----------
        X, batch_size
            As for `predict`.
        loss : {"logistic", "cross_entropy"}, or an object of `fastopt.losses` of that kind, optional
            What the model was trained with. By default the first if there is one output, and the second if there are
            several: models of several outputs that are not exclusive need ``loss="logistic"``.

        Returns
        -------
        ndarray
            Of the shape of `predict`: for one output the probability of class 1, for several those of the classes.

        Raises
        ------
        TypeError, ValueError
            As `predict` does; if ``loss`` is another; if the model ends with a `Sigmoid`, whose outputs are
            probabilities as they are.

        Examples
        --------
        >>> import numpy as np, fastopt as fo
        >>> model = fo.nn.Linear(2, 3, rng=0)
        >>> model.weight[...], model.bias[...] = 0, np.log([1, 1, 2])
        >>> model.predict_proba(np.ones((1, 2)))
        array([[0.25, 0.25, 0.5 ]], dtype=float32)
        """
        name = {"LogisticLoss": "logistic", "CrossEntropy": "cross_entropy"}.get(type(loss).__name__, loss)
        if name not in (None, "logistic", "cross_entropy"):
            raise ValueError(f'loss must be "logistic" or "cross_entropy", whose outputs are logits, not {loss!r}')
        last = list(self.parts())[-1]
        if getattr(last, "function", None) == "sigmoid":
            raise ValueError("the model ends with a Sigmoid: what predict gives are probabilities already")
        z = self.predict(X, batch_size)
        if name is None:
            name = "logistic" if z.shape[-1] == 1 else "cross_entropy"
        return sigmoid(z, z) if name == "logistic" else softmax(z, z)

    def _predicted(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The output for a batch, in evaluation mode, in a buffer of this thread's next prediction."""
        kept = kept_by(self._own)
        key = (x.shape, dtype, _backends.active, get_matmul())
        found = kept.predictions.pop(key, None)
        if found is not None and found.still_fits(self.arrays()):
            found.run(x)
        else:
            found = self.bound_to(x.astype(dtype), training=False)
        kept.predictions[key] = found
        drop_oldest(kept.predictions, _KEPT_PREDICTIONS, _KEPT_PREDICTION_BYTES)
        return found.y

    def bound_to(self, x: np.ndarray, training: bool, first_row: int = 0) -> Pass:
        """A pass of its own for inputs like ``x``, on which it has run in this mode, whatever `training` says.

        Where these are a part of a batch, ``first_row`` says which row of that they begin with.
        """
        self.check_arrays()
        return Pass(self.arrays, partial(bind, self), x, training, first_row)

    @property
    def _passes(self) -> dict[Any, Pass]:
        """Those that this thread keeps of `forward`."""
        return self._own.passes

    def _forget_passes(self) -> None:
        """Passes hold the addresses of arrays: they end where the arrays are moved."""
        self._own, self._lock, self._placed = OfThread(), RLock(), None

    def check_arrays(self) -> None:
        """Raise ValueError if a parameter's array is no longer that which passes are bound to."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OF_OBJECT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_passes()
        make_writeable(self)

    def __copy__(self) -> "Layer":
        """A layer of its own over the same arrays: what is set on one is not set on the other."""
        twin: Layer = object.__new__(type(self))
        state = {name: value for name, value in vars(self).items() if name not in _OF_OBJECT}
        vars(twin).update(state, params=dict(self.params), grads=dict(self.grads), buffers=dict(self.buffers))
        twin._forget_passes()
        return twin

    # -- parameters --

    @property
    def dtype(self) -> np.dtype | None:
        """The dtype of the parameters and running statistics; None for a layer without, which takes either."""
        for arrays in (self.params, self.buffers):
            for array in arrays.values():
                if (dtype := array.dtype).kind == "f":
                    return dtype
        return None

    def kinds(self) -> tuple[tuple[str, dict[str, np.ndarray]], ...]:
        """The layer's dicts of arrays, by name."""
        return ("params", self.params), ("grads", self.grads), ("buffers", self.buffers)

    def arrays(self) -> list[np.ndarray]:
        """The arrays that passes are bound to."""
        return [array for _, arrays in self.kinds() for array in arrays.values()]

    def parameters(self) -> dict[str, np.ndarray]:
        """The parameters by name: always the same dict of the same arrays, for an optimizer to update in place."""
        return self.params

    def gradients(self) -> dict[str, Any]:
        """The gradients by their parameters' names: always the same dict of arrays, which `backward` writes.

        While layers are frozen, another one, in which those of their parameters are None.
        """
        frozen = self.frozen_parameters()
        return {name: None if name in frozen else grad for name, grad in self.grads.items()} if frozen else self.grads

    def frozen_parameters(self) -> set[str]:
        """The names of the parameters that are not to be trained."""
        return set(self.params) if self._frozen else set()

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and every buffer (running statistics and the like), by name."""
        return {name: array.copy() for name, array in (*self.params.items(), *self.buffers.items())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Write the values that `state_dict` gave into the parameters and buffers.

        Raises
        ------
        TypeError, ValueError
            If an array is missing, unknown, of another shape or dtype, or cannot be written to, or if running
            statistics are not finite, or a running variance is negative; nothing has then been written.
        """
        own = {**self.params, **self.buffers}
        given = self.check_state_dict(state_dict)
        copy_all(own.values(), [given[name] for name in own])

    def check_state_dict(self, state_dict: Any) -> dict[str, np.ndarray]:
        """A copy of what `load_state_dict` would write, or the error that it would raise."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a dict of arrays, not {type(state_dict).__name__}")
        own = {**self.params, **self.buffers}
        missing = [repr(name) for name in own if name not in state_dict]
        unknown = [repr(name) for name in state_dict if name not in own]
        if missing or unknown:
            raise ValueError(
                f"the state dict lacks: {', '.join(missing) or '-'}; has no place for: {', '.join(unknown) or '-'}"
            )
        given = {
            name: np.array(not_masked(repr(name), state_dict[name])) for name in own
        }  # copies: they may be views of what is written to
        for name, array in own.items():
            saved = given[name]
            if saved.shape != array.shape:
                raise ValueError(f"{name!r} has shape {saved.shape} in the state dict, {array.shape} in the model")
            if saved.dtype != array.dtype:
                raise TypeError(f"{name!r} is {saved.dtype} in the state dict, {array.dtype} in the model")
            if not array.flags.writeable:
                raise ValueError(f"{name!r} of the model is read-only")
        self.check_values(given)
        return given

    def check_values(self, given: Mapping[str, np.ndarray], prefix: str = "") -> None:
        """Raise ValueError if these cannot be values of the arrays of their names, which begin with ``prefix``."""

    def fingerprint(self) -> str:
        """The SHA-256 of all parameters and buffers: of their names, shapes, dtypes and bytes.

        Two models have the same one if, and for all purposes only if, they are the same to the bit. A run of
        `fastopt.fit` with given data, seeds and options leads to the same one in every backend, on every instruction
        set and with any number of threads, as long as matrix products are ``"exact"`` (see `fastopt.set_matmul`).

        Returns
        -------
        str
            64 hexadecimal digits.

        Examples
        --------
        >>> import fastopt as fo
        >>> model, again = fo.nn.Linear(3, 2, rng=0), fo.nn.Linear(3, 2, rng=0)
        >>> model.fingerprint() == again.fingerprint()
        True
        >>> again.bias[0] += 1
        >>> model.fingerprint() == again.fingerprint()
        False
        """
        from hashlib import sha256

        digest = sha256()
        for name, array in sorted({**self.params, **self.buffers}.items()):
            dtype = array.dtype.newbyteorder("<")
            digest.update(f"{name}\0{array.shape}\0{dtype.str}\0".encode())
            digest.update(np.ascontiguousarray(array, dtype).tobytes())
        return digest.hexdigest()

    def array(self, kind: str, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """The array ``name`` of ``params``, ``grads`` or ``buffers``, as calls can be bound to it.

        It is a view: neither shape nor memory of this can be changed through the layer's own array.

        Raises
        ------
        TypeError, ValueError
            If it has been replaced, or changed in place, by what the layer cannot work with.
        """
        array = getattr(self, kind)[name]
        what = f"{kind}[{name!r}] of {self!r}"
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray) or array.dtype != dtype:
            given = f"{type(array).__name__}{f' of {array.dtype}' if isinstance(array, np.ndarray) else ''}"
            raise TypeError(f"{what} must be an array of {np.dtype(dtype)}, not {given}")
        if array.shape != shape:
            raise ValueError(f"{what} has shape {array.shape}, it must have {shape}")
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned and (flags.writeable or kind == "params")):
            raise ValueError(f"{what} must be C-contiguous and aligned, and writeable, to be worked with")
        return array.view(np.ndarray)

    # -- modes --

    def parts(self) -> Iterator[Any]:
        """The layer, and all layers within it."""
        yield self

    def train(self, mode: bool = True) -> "Layer":
        """Set training mode, in this layer and all within it; returns the layer.

        This is the mode of `forward`. `fastopt.fit` always trains, and a prediction never does, whatever it says.
        """
        mode = flag("mode", mode)
        for part in self.parts():
            part.training = mode
        return self

    def freeze(self) -> "Layer":
        """Keep this layer, and all within it, as it is, whoever trains the model; returns the layer.

        Its parameters have no gradients (`gradients` has None for them) and are not updated, and it runs in evaluation
        mode: the running statistics of batch norm stay as they are, and dropout drops nothing. Gradients go through it
        to the layers before. Freezing is not in a state dict.

        Raises
        ------
        TypeError
            If a layer of one's own cannot have attributes.

        Examples
        --------
        >>> import numpy as np, fastopt as fo
        >>> model = fo.nn.Sequential(fo.nn.Linear(2, 3), fo.nn.BatchNorm(3), fo.nn.Linear(3, 1), rng=0)
        >>> opt, before = fo.optim.Adam(model.parameters()), model[0].weight.copy()
        >>> for layer in model[0], model[1]:
        ...     _ = layer.freeze()
        >>> rng = np.random.default_rng(0)
        >>> X = rng.standard_normal((50, 2))
        >>> _ = fo.fit(model, X, X[:, 0] > 0, optimizer=opt, epochs=2, rng=0)
        >>> bool((model[0].weight == before).all()), model[1].num_batches_tracked
        (True, array(0))
        """
        return self._set_frozen(True)

    def unfreeze(self) -> "Layer":
        """Let this layer, and all within it, be trained again; returns the layer."""
        return self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> "Layer":
        parts = list(self.parts())
        for part in parts:
            if not hasattr(part, "__dict__"):
                raise TypeError(f"{part!r} cannot be frozen: it can have no attributes of its own")
        now = object()
        of_all = [(vars(changes), "last", now), (vars(changes), "frozen", now)]
        change_all([*((vars(part), "_frozen", frozen) for part in parts), *of_all])
        return self

    @property
    def frozen(self) -> bool:
        """Whether this layer, and all within it, is kept as it is."""
        return all(getattr(part, "_frozen", False) for part in self.parts())

    def eval(self) -> "Layer":
        """Set evaluation mode, in this layer and all within it; returns the layer."""
        return self.train(False)


def make_writeable(layer: Any) -> None:
    """Copy the arrays that cannot be written to, as those of a model that joblib has mapped into memory."""
    for kind in ("params", "grads", "buffers"):
        arrays = arrays_of(layer, kind)
        for key, array in arrays.items():
            if isinstance(array, np.ndarray) and not array.flags.writeable:
                arrays[key] = np.array(array)


def arrays_of(layer: Any, kind: str) -> dict[str, np.ndarray]:
    """The dict ``params``, ``grads`` or ``buffers`` of a layer; a user's own may be without."""
    return getattr(layer, kind, None) or {}


def learns(layer: Any) -> bool:
    """Whether there are parameters in it that are to be trained."""
    if isinstance(layer, Layer):
        return len(layer.frozen_parameters()) < len(layer.params)
    return bool(arrays_of(layer, "params")) and not getattr(layer, "_frozen", False)


def bind(layer: Any, x: np.ndarray, context: Context) -> Bound:
    """``layer`` bound to ``x``: by its own `Layer.bind`, or, if its two methods are the user's own, by calling them."""
    kind = type(layer)
    if isinstance(layer, Layer) and kind.forward is Layer.forward and kind.backward is Layer.backward:
        return layer.bind(x, context)
    return bind_custom(layer, x, context, arrays_of)
