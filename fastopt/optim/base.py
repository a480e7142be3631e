"""What all optimizers share: tensors, groups, hyperparameters, checks, and the step.

A step refreshes the scalars of every group and crosses into the backend once. Whatever can be wrong is found
before anything is written.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from .. import _backends
from .._checks import a_number, positive, some
from ..rules import RULES
from .hyperparameters import FIXED, Group
from .tensors import check_array, check_disjoint, check_writeable, hold, named_arrays, same_arrays, span, state_like

Arrays = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
Groups = Sequence[Mapping[str, Any]]

_SCALAR_LIMIT = 3.4028234663852886e38  # the largest float32: a scalar beyond it would become inf there
_MOST_STEPS = 2**53  # bias corrections and schedules know the step as a double
_NOT_BOUND = object()  # no gradient is this


class Optimizer:
    """The base of all optimizers; see `fastopt.optim` for those that there are.

    A subclass says which rule its options ask for (`rule`), and finishes its scalars once per step (`scalars`).

    Attributes
    ----------
    groups : list of mappings
        The hyperparameters of each group of parameters, which can be set: ``opt.groups[0]["lr"] = 0.01``. The
        attribute ``names`` of a group has the names of its parameters.
    state : mapping
        Of every parameter, by name, a mapping of its state arrays, under PyTorch's names (``exp_avg``, ``sum``, ...).
        They stay the same arrays and can be written into.
    grad_norm : float or None
        The norm of all gradients together, times ``grad_scale`` and before clipping, in the last step that was done;
        None if that did not clip by norm, or if there was none.
    skipped_steps : int
        How many steps ``on_nonfinite="skip"`` has left out.
    """

    def __init__(self, params: Arrays | Groups, **hyperparameters: Any):
        self.groups: list[Group] = []
        containers: list[Callable[[], Iterable[Any]]] = []  # what the caller's hold now
        named: list[tuple[str, np.ndarray]] = []
        group_of: list[int] = []
        grouped = isinstance(params, (list, tuple)) and len(params) > 0 and all(isinstance(p, Mapping) for p in params)
        for i, given in enumerate(params if grouped else [{"params": params}]):
            if "params" not in given:
                raise ValueError(f"group {i} has no 'params', only {', '.join(map(repr, given))}")
            members = list(named_arrays(given["params"], "params"))
            container = given["params"] if not isinstance(given["params"], np.ndarray) else [given["params"]]
            containers.append(container.values if isinstance(container, Mapping) else container.__iter__)
            own = {name: value for name, value in given.items() if name != "params"}
            if unknown := own.keys() - hyperparameters.keys():
                raise TypeError(f"group {i}: {type(self).__name__} has no hyperparameter {', '.join(sorted(unknown))}")
            self.groups.append(Group(type(self), [name for name, _ in members], {**hyperparameters, **own}))
            named += members
            group_of += [i] * len(members)
        if len({name for name, _ in named}) < len(named):  # lists, or dicts with the same names, in several groups
            named = [(f"groups[{i}].{name}", array) for i, (name, array) in zip(group_of, named, strict=True)]
            if len(names := {name for name, _ in named}) < len(named):
                raise ValueError(
                    f"params has different keys that print alike: only {len(names)} of {len(named)} names differ"
                )
        for name, param in named:
            check_array("parameter", name, param)
            check_writeable("parameter", name, param)
        one = len(containers) == 1
        self._arrays_now = containers[0] if one else lambda: [array for arrays in containers for array in arrays()]
        self._names = tuple(name for name, _ in named)
        self._params = [param for _, param in named]
        self._single = [i for i, param in enumerate(self._params) if param.size <= 1]
        self._grouped = grouped
        spans = sorted((*span(p), name) for name, p in named if p.size)
        check_disjoint(spans)

        self.state: Mapping[str, Mapping[str, np.ndarray]] = MappingProxyType(
            {name: self._new_state(param, self.groups[i]) for (name, param), i in zip(named, group_of, strict=True)}
        )
        states = [tuple(self.state[name].values()) for name in self._names]
        spans += (
            (*span(s), f"state of {name}") for name, state in self.state.items() for s in state.values() if s.size
        )
        self._spans = sorted(spans)
        self._starts = [begin for begin, _, _ in self._spans]
        plain = [np.asarray(param) for param in self._params]
        self._plan = _backends.active.Plan([group.rule for group in self.groups], plain, states, group_of)
        self._grads: list[Any] = [_NOT_BOUND] * len(self._params)  # the arrays the plan points at
        self._param_holds = [hold(param) for param in self._params]
        self._grad_holds: list[Any] = [None] * len(self._params)

        self._step_count = 0
        self.skipped_steps = 0
        self.grad_norm: float | None = None

    def _new_state(self, param: np.ndarray, group: Group) -> Mapping[str, np.ndarray]:
        keys = RULES[group.rule].states
        return MappingProxyType({key: state_like(param, self.initial_state(group, key)) for key in keys})

    # -- what a subclass says --

    # Checks of fixed hyperparameters that mean something else here than in other optimizers.
    checks: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}

    @classmethod
    def check(cls, h: Mapping[str, Any]) -> None:
        """Raise ValueError if the hyperparameters ``h``, each fine by itself, cannot stand together."""

    @classmethod
    def rule(cls, h: Mapping[str, Any]) -> str:
        """The name of the rule that the hyperparameters ``h`` ask for."""
        raise NotImplementedError

    @classmethod
    def scalars(cls, rule: str, h: Mapping[str, Any], t: int) -> tuple[float, ...]:
        """The scalars of ``rule`` for step ``t``, counted from 1, in the rule's order; schedules are evaluated in h."""
        raise NotImplementedError

    @classmethod
    def trust(cls, h: Mapping[str, Any]) -> tuple[float, ...]:
        """The scalars of the trust ratio, for a rule that has one."""
        return ()

    @classmethod
    def initial_state(cls, h: Mapping[str, Any], key: str) -> float:
        """What the state called ``key`` is filled with at the start."""
        return 0.0

    # -- the step --

    def step(
        self,
        grads: Any,
        *,
        clip_norm: float | None = None,
        clip_norm_per_tensor: float | None = None,
        clip_value: float | None = None,
        grad_scale: float = 1.0,
        on_nonfinite: Literal["raise", "skip"] = "raise",
    ) -> None:
        """Update all parameters in place.

        The gradients are first multiplied by ``grad_scale``, then clipped by norm, then by value, then decay is
        added; they are never modified.

        Parameters
        ----------
        grads : array, list or dict of arrays
            The gradients, in the structure of the parameters, each of its parameter's shape and dtype. For
            parameter groups: a list with one structure per group, or one dict with all names.
        clip_norm : float, optional
            If the norm of all gradients together is larger, scale them down to it: the factor is
            min(1, clip_norm / norm). The norm is then in `grad_norm`; ``math.inf`` computes it and clips nothing.
        clip_norm_per_tensor : float, optional
            The same for every gradient by itself.
        clip_value : float, optional
            Clip every element to [-clip_value, clip_value].
        grad_scale : float
            For instance the reciprocal of a loss scale.
        on_nonfinite : {"raise", "skip"}
            What to do if a gradient holds an inf or NaN: raise FloatingPointError, or leave everything as it
            is and count the step in `skipped_steps`.

        Raises
        ------
        TypeError, ValueError
            If a gradient is missing, or of another shape or dtype than its parameter; if a parameter was
            replaced by another array; if an option is out of range.
        FloatingPointError
            If a gradient holds an inf or NaN. Whatever is raised, nothing has been changed.
        """
        self._bind(grads)
        if on_nonfinite != "raise" and on_nonfinite != "skip":
            raise ValueError(f'on_nonfinite must be "raise" or "skip", not {on_nonfinite!r}')
        if grad_scale != 1.0:
            grad_scale = a_number("grad_scale", grad_scale)
        limit = math.inf if clip_value is None else positive("clip_value", clip_value)
        clips_norm = clip_norm is not None or clip_norm_per_tensor is not None
        factor, norm = 1.0, None
        if clips_norm:
            sums = self._plan.grad_square_sums()
            norm = math.sqrt(sum(sums)) * abs(grad_scale)
            factor, factors = self._clip_factors(sums, norm, abs(grad_scale), clip_norm, clip_norm_per_tensor)
        done = self._step_count
        scalars = self._scalars(done, grad_scale * factor, limit)
        if norm is not None and not math.isfinite(norm):
            return self._refuse(on_nonfinite, "the norm of the gradients overflows")
        if clip_norm_per_tensor is not None:
            self._plan.grad_factors = factors
        try:
            if not self._plan.update(scalars, not clips_norm or abs(grad_scale) > 1):
                return self._refuse(on_nonfinite, f"the gradients overflow when scaled by {grad_scale}")
        finally:
            if clip_norm_per_tensor is not None:
                self._plan.grad_factors = [1.0] * len(self._params)
        self.grad_norm = norm
        self._step_count = done + 1

    def _repeatable(self, grads: Any, on_nonfinite: str) -> Callable[[float], bool]:
        """`step` on arrays that stay, without the checks of them, which `_check_arrays` makes for many steps at once.

        It is given ``grad_scale``, and answers whether the step was done.
        """
        self._check_arrays(grads)
        scalars, update, no_limit = self._scalars, self._plan.update, math.inf

        def step(grad_scale: float) -> bool:
            done = self._step_count
            if not update(scalars(done, grad_scale, no_limit), True):
                self._refuse(on_nonfinite, f"the gradients overflow when scaled by {grad_scale}")
                return False
            self.grad_norm = None
            self._step_count = done + 1
            return True

        return step

    def _check_arrays(self, grads: Any) -> None:
        """Point the plan at ``grads``, and refuse parameters that were replaced or made read-only."""
        self._bind(grads)
        for name, param in zip(self._names, self._params, strict=True):
            check_writeable("parameter", name, param)

    def _scalars(self, done: int, grad_scale: float, limit: float) -> list[tuple[float, ...]]:
        """All scalars of every group for the step after ``done`` steps."""
        finished = []
        for group in self.groups:
            h = group.at(done)
            decay, mode = h["weight_decay"], h["weight_decay_mode"]
            l2, keep = 0.0, 1.0
            if decay:
                if mode == "l2":
                    l2 = decay
                elif mode != "direction":
                    keep = 1.0 - (h["lr"] * decay if mode == "decoupled" else decay)
            own = self.scalars(group.rule, h, done + 1)
            scale = -grad_scale if h["maximize"] else grad_scale
            if not -_SCALAR_LIMIT < sum(own, scale + l2 + keep) < _SCALAR_LIMIT:
                raise ValueError(f"step {done + 1}: these hyperparameters give numbers beyond float32: {dict(h)}")
            trust = self.trust(h) if group.adapts else ()
            finished.append((scale, limit, l2, keep, *own, *trust))
        return finished

    @staticmethod
    def _clip_factors(sums, norm, scale, clip_norm, clip_norm_per_tensor):
        """What multiplies all gradients, and each of them."""
        if clip_norm_per_tensor is None:
            limit = positive("clip_norm", clip_norm)
            return (min(1.0, limit / norm) if norm > 0 else 1.0), []
        if clip_norm is not None:
            raise ValueError(f"clip_norm={clip_norm} and clip_norm_per_tensor={clip_norm_per_tensor}: give one of them")
        limit = positive("clip_norm_per_tensor", clip_norm_per_tensor)
        norms = [math.sqrt(s) * scale for s in sums]
        return 1.0, [min(1.0, limit / n) if n > 0 else 1.0 for n in norms]

    def _refuse(self, on_nonfinite: str, if_all_finite: str) -> None:
        if on_nonfinite == "skip":
            self.skipped_steps += 1
            return
        grads = zip(self._names, self._plan.grads, strict=True)
        names = [repr(name) for name, grad in grads if not np.isfinite(grad).all()]
        what = f"gradients hold inf or NaN: {some(names)}" if names else if_all_finite
        raise FloatingPointError(f"step {self.step_count + 1}: {what}; nothing was updated")

    # -- binding arrays --

    def _bind(self, grads: Any) -> None:
        """Point the plan at ``grads``; nothing to do where they are the arrays of the step before."""
        now = list(self._arrays_now())
        if not same_arrays(now, self._params, self._single):
            self._refuse_replaced(now)
        given = list(grads.values()) if type(grads) is dict and tuple(grads) == self._names else grads
        if type(given) is list and same_arrays(given, self._grads, self._single):
            return
        self._rebind(self._in_order(grads))

    def _refuse_replaced(self, now: list[Any]) -> None:
        """Refuse to go on with arrays that the caller has replaced by others in the container given at the start."""
        for i, (name, param) in enumerate(zip(self._names, self._params, strict=True)):
            if i >= len(now) or now[i] is not param:
                raise ValueError(
                    f"parameter {name!r} was replaced by another array, moved or removed since the optimizer was made;"
                    f" write into the array instead ({name}[...] = ...), or make a new optimizer"
                )
        if len(now) > len(self._params):
            raise ValueError(f"the optimizer was made with {len(self._params)} parameters, now there are {len(now)}")

    def _in_order(self, grads: Any) -> list[Any]:
        """The gradients in the order of the parameters."""
        if isinstance(grads, Mapping):
            given = {str(name): grad for name, grad in grads.items()}
            missing = [repr(name) for name in self._names if name not in given]
            unknown = [repr(name) for name in given if name not in self._names]
            if missing or unknown:
                raise ValueError(
                    f"gradients missing for: {', '.join(missing) or '-'}; for no parameter: {', '.join(unknown) or '-'}"
                )
            return [given[name] for name in self._names]
        if self._grouped and isinstance(grads, (list, tuple)):
            if len(grads) != len(self.groups):
                raise ValueError(f"gradients for {len(grads)} groups given, the optimizer has {len(self.groups)}")
            in_order = []
            for i, (group, members) in enumerate(zip(self.groups, grads, strict=True)):
                given = dict(named_arrays(members, f"gradients of group {i}"))
                if given.keys() != set(group.names):
                    raise ValueError(f"group {i} has the parameters {group.names}, the gradients {list(given)}")
                in_order += [given[name] for name in group.names]
            return in_order
        in_order = [grad for _, grad in named_arrays(grads, "grads")]
        if len(in_order) != len(self._params):
            raise ValueError(f"{len(in_order)} gradients given, for {len(self._params)} parameters")
        return in_order

    def _rebind(self, grads: list[Any]) -> None:
        readable = [self._readable(*each) for each in zip(self._names, grads, self._params, strict=True)]
        for i, (given, grad) in enumerate(zip(grads, readable, strict=True)):
            self._plan.bind(i, np.asarray(grad))
            self._grads[i] = given if given is grad else _NOT_BOUND  # a copy serves for one step
            self._grad_holds[i] = hold(grad)

    def _readable(self, name: str, grad: Any, param: np.ndarray) -> np.ndarray:
        if not isinstance(grad, np.ndarray):
            raise TypeError(f"gradient for {name!r} must be a numpy.ndarray, not {type(grad).__name__}")
        if grad.shape != param.shape:
            raise ValueError(f"gradient for {name!r} has shape {grad.shape}, the parameter has {param.shape}")
        if grad.dtype != param.dtype:
            raise TypeError(f"gradient for {name!r} is {grad.dtype}, the parameter is {param.dtype}")
        if not grad.flags.c_contiguous:
            return np.ascontiguousarray(np.asarray(grad))
        begin, end = span(grad)
        i = bisect_right(self._starts, begin) - 1
        for first, last, other in self._spans[max(i, 0) : i + 2]:
            if first < end and begin < last:
                raise ValueError(f"gradient for {name!r} overlaps {other!r} in memory, which the step writes to")
        return grad

    # -- what can be read and set --

    def __reduce__(self):
        raise TypeError(
            f"{type(self).__name__} points at the arrays it updates and cannot be copied or pickled;"
            " make another, and give it this one's state_dict()"
        )

    @property
    def step_count(self) -> int:
        """How many steps have been done; setting it goes on from there, as bias corrections and schedules see it."""
        return self._step_count

    @step_count.setter
    def step_count(self, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise TypeError(f"step_count must be an int, not {type(count).__name__}")
        if not 0 <= count <= _MOST_STEPS:
            raise ValueError(f"step_count must be from 0 to 2**53, not {count}")
        self._step_count = int(count)

    @property
    def trust_ratios(self) -> dict[str, float]:
        """The trust ratio of every tensor in the last step; 1 for those whose rule has none."""
        return dict(zip(self._names, self._plan.trust_ratios, strict=True))

    @property
    def lr(self) -> float:
        """The learning rate of the next step, that of the first group; setting it sets that of all groups."""
        return self.groups[0].at(self.step_count)["lr"]

    @lr.setter
    def lr(self, value: Any) -> None:
        for group in self.groups:
            group["lr"] = value

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a resumed run needs: the step count, the state, and the hyperparameters.

        Schedules are left out: they belong to the code that makes the optimizer.
        """
        return {
            "step_count": self.step_count,
            "skipped_steps": self.skipped_steps,
            "groups": [{n: v for n, v in group.items() if not callable(v)} for group in self.groups],
            "state": {name: {key: s.copy() for key, s in state.items()} for name, state in self.state.items()},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where the optimizer that `state_dict` came from stood.

        Raises
        ------
        TypeError, ValueError
            If anything in it does not fit this optimizer; nothing has then been changed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"the state dict must be a dict, not {type(state_dict).__name__}")
        missing = {"step_count", "skipped_steps", "groups", "state"} - state_dict.keys()
        if missing:
            raise ValueError(f"the state dict has no {', '.join(sorted(missing))}")
        counts = [state_dict[key] for key in ("step_count", "skipped_steps")]
        if not all(
            isinstance(n, (int, np.integer)) and not isinstance(n, bool) and 0 <= n <= _MOST_STEPS for n in counts
        ):
            raise ValueError(f"step_count and skipped_steps must be whole numbers from 0 to 2**53, not {counts}")
        for key, wanted in (("groups", list), ("state", Mapping)):
            if not isinstance(state_dict[key], wanted):
                raise TypeError(f"{key} must be a {wanted.__name__}, not {type(state_dict[key]).__name__}")
        for entry in (*state_dict["groups"], *state_dict["state"].values()):
            if not isinstance(entry, Mapping):
                raise TypeError(f"every group and every tensor's state must be a dict, not {type(entry).__name__}")
        if len(state_dict["groups"]) != len(self.groups):
            raise ValueError(f"the state dict has {len(state_dict['groups'])} groups, the optimizer {len(self.groups)}")
        groups = []
        for group, saved in zip(self.groups, state_dict["groups"], strict=True):
            if unknown := saved.keys() - group.keys():
                raise ValueError(
                    f"the state dict has hyperparameters this optimizer has not: {', '.join(sorted(unknown))}"
                )
            for name, value in saved.items():
                if name in FIXED and value != group[name]:
                    raise ValueError(f"the state dict has {name}={value!r}, the optimizer {group[name]!r}")
            kept = {n: group[n] if callable(group[n]) else group.checked(n, v) for n, v in saved.items()}
            changed = {**group, **kept}
            self.check(changed)
            if self.rule(changed) != group.rule:
                raise ValueError(f"the state dict is of rule {self.rule(changed)!r}, the optimizer of {group.rule!r}")
            groups.append(changed)
        saved_state = state_dict["state"]
        if saved_state.keys() != self.state.keys():
            raise ValueError(
                f"the state dict is of the parameters {list(saved_state)}, the optimizer of {list(self.state)}"
            )
        for name, state in self.state.items():
            if saved_state[name].keys() != state.keys():
                raise ValueError(f"state of {name!r} has {list(saved_state[name])}, the optimizer {list(state)}")
            for key, array in state.items():
                saved = np.asarray(saved_state[name][key])
                if saved.shape != array.shape or saved.dtype != array.dtype:
                    raise ValueError(
                        f"{key} of {name!r} is {saved.dtype} of shape {saved.shape},"
                        f" the optimizer's is {array.dtype} of shape {array.shape}"
                    )
        for group, changed in zip(self.groups, groups, strict=True):
            group.replace(changed)
        for name, state in self.state.items():
            for key, array in state.items():
                array[...] = saved_state[name][key]
        self._step_count, self.skipped_steps = map(int, counts)
