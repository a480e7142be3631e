"""One step of a loop of one's own."""

import math
from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any

import numpy as np

from .. import _backends
from .._backends.program import Runs
from .._checks import one_dimensional
from .._conversion import as_real_array, converted
from ..functional.products import get_matmul
from ..losses import Loss
from ..losses.arrays import weights_of_rows
from ..losses.standard import as_loss
from ..nn.attributes import changes
from ..nn.layer import Layer
from ..nn.passes import Pass, drop_oldest
from ..optim import Optimizer
from .company import company_of, description_of
from .data import fingerprint
from .shards import Leaf, Shards, bound_to_parts, cuts
from .steps import StepProgram, Undo
from .updates import Norms, clipping_of, gradients_for, update_of

_REAL = (np.dtype(np.float32), np.dtype(np.float64))
_KEPT, _KEPT_BYTES = 8, 64 * 2**20  # of the shapes that batches have had


class TrainingStep:
    r"""Forward, loss, backward and the optimizer's step on a batch, as one call.

    .. math:: \ell = \frac{1}{n} \sum_i \ell_i(f_w(x_i), y_i), \qquad w \leftarrow \mathrm{step}(w, \nabla_w \ell)

    All that does not change between steps is checked and bound once, here and with the first batch of each shape; a
    step then crosses into the core once. `fastopt.fit` is made of the same steps: on the same batches, the weights are
    the same to the bit.

    Parameters
    ----------
    model : Layer
        It is trained in training mode, whatever its own.
    optimizer : Optimizer
        Over parameters of the model.
    loss : str, Loss or function
        As for `fastopt.fit`.
    clip_norm, clip_norm_per_tensor, clip_value, clip_eps, on_nonfinite
        As for `fastopt.optim.Optimizer.step`.
    comm, shards
        As for `fastopt.fit`. Every process makes every step, and is given the whole batch.

    Raises
    ------
    TypeError, ValueError
        If anything of that does not fit.

    Examples
    --------
    >>> import numpy as np, fastopt as fo
    >>> rng = np.random.default_rng(0)
    >>> model = fo.nn.Sequential(fo.nn.Linear(2, 16), fo.nn.Tanh(), fo.nn.Linear(16, 1), rng=0)
    >>> step = fo.TrainingStep(model, fo.optim.Adam(model.parameters(), lr=0.01), loss="logistic")
    >>> losses = []
    >>> for _ in range(500):
    ...     x = rng.standard_normal((64, 2))
    ...     losses.append(step(x, x[:, 0] * x[:, 1] > 0))
    >>> losses[0] > 0.6 and sum(losses[-20:]) / 20 < 0.2
    True
    """

    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        loss: Any = "logistic",
        *,
        clip_norm: float | None = None,
        clip_norm_per_tensor: float | None = None,
        clip_value: float | None = None,
        clip_eps: float = 0.0,
        on_nonfinite: str = "raise",
        comm: Any = None,
        shards: int | None = None,
    ):
        self._company = company = company_of(comm, shards)
        try:
            if not isinstance(model, Layer):
                raise TypeError(f"model must be a fastopt.nn.Layer, such as a Sequential, not {type(model).__name__}")
            model.check_arrays()
            self.model, self.optimizer, self.loss = model, optimizer, as_loss(loss)
            clipping = clipping_of(clip_norm, clip_norm_per_tensor, clip_value, clip_eps)
            self._options = on_nonfinite, clipping
            self._bind()
            self._undo = Undo(model, optimizer, None)
            self._lock = RLock()
            if company is not None:
                options = {**clipping, "on_nonfinite": on_nonfinite, "shards": company.shards}
                company.compare(description_of(model, optimizer) | options)
        except BaseException as error:
            if company is not None:
                company.tell(error)
            raise

    # what comes after a step, in a run of `fit`
    _then: Sequence[Runs] = ()
    _norms: Norms | None = None

    def _bind(self) -> None:
        """The optimizer's step, on gradients of what is not frozen now."""
        frozen_at, company = changes.frozen, self._company
        grads = gradients_for(self.optimizer, self.model)
        self._shards = None if company is None else Shards(self.model, grads, company)
        stepped = grads if self._shards is None else self._shards.stepped
        self._bound, self._update = update_of(self.optimizer, stepped, *self._options, self._then)
        if self._shards is not None:
            spread = self._shards.spread(self.optimizer, self._bound, self._update, *self._options)
            self._bound, self._update = spread
        self._steps: dict[Any, _OfShape] = {}
        self._frozen_at = frozen_at

    def __call__(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
        """Do a step on this batch; the mean loss is that before the step.

        Parameters
        ----------
        x : array (rows, ...)
            Numbers of any type; they are copied.
        y : array
            The targets, as for `fastopt.fit`.
        sample_weight : array (rows,), optional
            How much each row counts: the mean is by these.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If ``x``, ``y`` or ``sample_weight`` do not fit to the model and to each other, or an array of the model
            was replaced; nothing has then been changed.
        FloatingPointError
            If a gradient is not finite, unless ``on_nonfinite`` says otherwise; nothing has then been changed.
        """
        try:
            if type(x) is not np.ndarray or x.dtype not in _REAL:
                x = as_real_array("x", x)
            if type(y) is not np.ndarray or y.dtype.kind not in "fiub":
                y = as_real_array("y", y)
            key = x.shape, y.ndim, sample_weight is None, _backends.active, get_matmul()
            with self._lock:
                self.model.check_arrays()
                if self._frozen_at is not changes.frozen or not self._bound.is_current:
                    self._bind()
                of_shape = self._steps.pop(key, None)
                if of_shape is None or not of_shape.still_fits():
                    self._bound.check()
                    of_shape = (_OfShape if self._shards is None else _InShards)(self, x, y, sample_weight is not None)
                    drop_oldest(self._steps, _KEPT - 1, _KEPT_BYTES - of_shape.context.nbytes)
                self._steps[key] = of_shape
                return of_shape.step(x, y, sample_weight)
        except BaseException as error:
            if self._company is not None:
                self._company.tell(error)
            raise

    def prepared(
        self, bound: Pass, criterion: Loss, target: np.ndarray, weight: np.ndarray | None, scale: float | None
    ) -> Callable[[int], float]:
        """A step on what stands in these arrays; it is done wholly or not at all."""
        undo = self._undo
        program = StepProgram(bound, criterion, target, weight, scale, undo, self._update, self._norms)
        program.assemble(undo.keeping, [])
        return undo.guard(program)


class _OfShape:
    """What steps on batches of one shape are bound to."""

    def __init__(self, of: TrainingStep, x: np.ndarray, y: np.ndarray, weighted: bool):
        self._model, self._criterion = model, criterion = of.model, of.loss
        if x.ndim < 2 or len(x) == 0:
            raise ValueError(f"x has shape {x.shape}: it must have rows and columns{one_dimensional('x', x)}")
        self._dtype = dtype = model.dtype or np.dtype(np.float32)
        self._bind(of, converted(x, dtype).copy())
        self._outputs = len(x), *self._passes[0].y.shape[1:]
        self._criterion = criterion = criterion.resolved(self._outputs)
        self._target = criterion.targets("y", y, self._outputs, dtype).copy()
        self._weight = np.ones(len(x), dtype) if weighted else None
        self._varies = criterion.varies
        self._losses = len(x) * criterion.per_row(self._passes[0].y)
        self._prepare(of)

    _parts: list[tuple[Any, Pass]]  # each with its rows of the batch

    def _bind(self, of: TrainingStep, x: np.ndarray) -> None:
        bound = self._model.bound_to(x, training=False)
        self.context = bound.context
        self.context.training = True
        bound.prepare()  # or the error that training with such a batch calls for
        self._passes, self._parts = [bound], [(..., bound)]

    def _prepare(self, of: TrainingStep) -> None:
        scale = None if self._varies else 1.0 / self._losses
        self._step = of.prepared(self._passes[0], self._criterion, self._target, self._weight, scale)

    def still_fits(self) -> bool:
        """Whether the model's arrays are those that were bound."""
        return self._passes[0].still_fits(self._model.arrays())

    def step(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
        """The mean loss of the batch before the step."""
        target = self._target
        if y.dtype != target.dtype or y.shape != target.shape:
            y = self._criterion.targets("y", y, self._outputs, self._dtype)
        if self._weight is not None:
            weight = weights_of_rows(weight, x)
            if not (mean := float(np.mean(weight, dtype=np.float64))) > 0:
                raise ValueError("sample_weight is 0 in all rows")
            np.divide(weight, mean, out=self._weight, casting="same_kind")
        if x.dtype != self._dtype:
            x = converted(x, self._dtype)
        for part, bound in self._parts:
            bound.x[...] = x[part]
        target[...] = y
        total = self._step(0)
        if self._varies:
            losses = self._criterion.sum_of_weights(self._passes[0].y, target)
            return total / losses if losses else math.nan
        return total / self._losses


class _InShards(_OfShape):
    """Of a batch that is cut into shards, those of this process."""

    def _bind(self, of: TrainingStep, x: np.ndarray) -> None:
        assert of._shards is not None
        self._shards, company = of._shards, of._shards.company
        company.compare({"x": fingerprint(x)})
        (passes,) = bound_to_parts(self._model, x, [len(x)], x.dtype, company)
        begins = cuts(len(x), company.shards)
        self._of = {shard: slice(begins[shard], begins[shard + 1]) for shard in passes}
        self._passes = list(passes.values())
        self._parts = list(zip(self._of.values(), self._passes, strict=True))
        self.context = self._passes[0].context
        self.context.nbytes = sum(bound.context.nbytes for bound in self._passes)

    def _prepare(self, of: TrainingStep) -> None:
        shards, update, undo = self._shards, of._update, of._undo
        scale = 1.0 if self._varies else 1.0 / self._losses
        programs: dict[int, StepProgram] = {}
        for (shard, part), bound in zip(self._of.items(), self._passes, strict=True):
            weight = None if self._weight is None else self._weight[part]
            programs[shard] = StepProgram(bound, self._criterion, self._target[part], weight, scale, undo, None, None)
            programs[shard].assemble([], [])
        first, every = self._passes[0].y, list(range(shards.company.shards))
        what = f"a step on {self._outputs}"

        def step(_: int) -> float:
            undo.keep()
            weights = {s: self._criterion.sum_of_weights(first, self._target[part]) for s, part in self._of.items()}
            value, total = shards.step({s: Leaf([programs[s]], weights[s]) for s in self._of}, every, what)
            done = update(1.0 / total if self._varies and total else 1.0)
            if not done:
                undo.refused()
            return value

        self._step = undo.guard(step)

    def still_fits(self) -> bool:
        arrays = self._model.arrays()
        return all(bound.still_fits(arrays) for bound in self._passes)
