"""What all optimizers share: tensors, groups, hyperparameters, checks, and the step.

A step refreshes the scalars of every group and crosses into the backend once. Whatever can be wrong is found
before anything is written.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from operator import is_not
from threading import RLock
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from .. import _backends
from .._backends.numpy import NO_NORM, numbers
from .._checks import a_number, positive, some
from .._moving import change_all
from .._specification import clipping
from .._specification.rules import RULES, Overflow, state_shape
from .._specification.state_formats import is_bfloat16
from .attributes import refuse_unknown, unknown
from .clip import clip_limit
from .encoded import arrays_in, delayed, in_fewer_bytes, saved, stored, stored_parameter
from .group_of_plan import GroupOfPlan
from .hyperparameters import Group
from .state import MOST_STEPS, checked_missed, checked_state
from .tensors import (
    check_array,
    check_disjoint,
    check_within_base,
    check_writeable,
    named_arrays,
    plain,
    readable,
    refuse_changed,
    span,
    state_like,
)
from .types import Hyperparameters, Params

OVERFLOW = "gradients or weights are so large that a weight or a state would become inf or NaN"

_KEPT_PLANS = 8


class Left(NamedTuple):
    """How many steps a parameter had missed when it was last left out, and since which step it is, if it is."""

    missed: int
    since: int | None

    def missed_of(self, done: int) -> int:
        """How many of so many steps it has missed."""
        return self.missed + (0 if self.since is None else max(done - self.since, 0))


class Optimizer:
    """The base of all optimizers; see `fastopt.optim` for those that there are.

    A subclass says which rule its options ask for (`rule`), and finishes its scalars once per step (`scalars`).

    Its public attributes are those listed here; a subclass may have more, if they are not called like hyperparameters.
    Threads may call its methods at once: they run one after the other.
    """

    _groups: tuple[Group, ...]
    _plan: Any
    _done: Callable[[int], int]

    def __init__(self, params: Params, **hyperparameters: Any):
        self._lock = RLock()
        self._set_up(params, hyperparameters, None)

    def _set_up(self, params: Any, hyperparameters: Mapping[str, Any], before: "Optimizer | None") -> None:
        """Take these parameters; those of ``before`` keep their groups and state, others have missed its steps."""
        self._hyperparameters = hyperparameters
        known = () if before is None else before._groups
        groups: list[Group] = []
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
            group = Group(type(self), [name for name, _ in members], {**hyperparameters, **own})
            groups.append(known[i] if i < len(known) else group)
            named += members
            group_of += [i] * len(members)
        if len({name for name, _ in named}) < len(named):  # lists, or dicts with the same names, in several groups
            named = [(f"groups[{i}].{name}", array) for i, (name, array) in zip(group_of, named, strict=True)]
            if len(names := {name for name, _ in named}) < len(named):
                raise ValueError(
                    f"params has different keys that print alike: only {len(names)} of {len(named)} names differ"
                )
        if not named:
            raise ValueError("there are no parameters to optimize: params is empty")
        for name, param in named:
            check_array("parameter", name, param, bfloat16=True)
            check_writeable("parameter", name, param)
        one = len(containers) == 1
        self._given = [given["params"] for given in (params if grouped else [{"params": params}])]
        self._arrays_now = containers[0] if one else lambda: [array for arrays in containers for array in arrays()]
        self._names = tuple(name for name, _ in named)
        self._params = tuple(param for _, param in named)
        self._plain = tuple(map(plain, self._params))
        self._groups = tuple(groups)
        self._grouped = grouped
        spans = sorted((*span(p), name) for name, p in zip(self._names, self._plain, strict=True) if p.size)
        check_disjoint(spans)

        at = list(accumulate((param.size for param in self._plain), initial=0))
        known_states: dict[int, Mapping[str, Any]] = {}
        if before is not None:
            known_states.update(zip(map(id, before._params), before._state.values(), strict=True))
        rules = [self.rule_of_tensor(groups[i], param.shape) for param, i in zip(self._plain, group_of, strict=True)]
        each = zip(self._names, self._params, self._plain, group_of, rules, at[:-1], strict=True)
        self._state: Mapping[str, Mapping[str, Any]] = MappingProxyType(
            {
                name: known_states.get(id(own))
                or MappingProxyType(in_fewer_bytes(self._new_state(param, groups[i], rule), param, groups[i], position))
                for name, own, param, i, rule, position in each
            }
        )
        states = [stored(self._state[name]) for name in self._names]
        kept = [(name, key, array) for name, state in self._state.items() for key, array in arrays_in(state)]
        spans += ((*span(array), f"state of {name}") for name, _, array in kept if array.size)
        self._spans = sorted(spans)
        self._starts = [begin for begin, _, _ in self._spans]
        self._written = [("parameter", name, param) for name, param in named] + [
            (f"state {key!r} of", name, array) for name, key, array in kept
        ]
        made_as = [plain(array) for _, _, array in self._written]
        self._made_as = [(span(array), array.shape, array.dtype) for array in made_as]
        self._states, self._group_and_rule = states, list(zip(group_of, rules, strict=True))
        of_params = zip(self._plain, self._state.values(), group_of, at[:-1], strict=True)
        self._stored = [stored_parameter(param, state, groups[i], place) for param, state, i, place in of_params]
        self._kind, self._counts = _backends.active.Plan, None
        old: dict[int, Left] = {}
        if before is not None:
            self._kind, self._counts = before._kind, before._counts
            old = dict(zip(map(id, before._params), before._left, strict=True))
        steps = 0 if before is None else before.step_count
        self._left: tuple[Left, ...] = tuple(old.get(id(param), Left(steps, None)) for param in self._params)
        self._plans: dict[Any, Any] = {}
        self._ratios = {**dict.fromkeys(self._names, 1.0), **({} if before is None else before.trust_ratios)}
        self._plan = self._plan_over(tuple(range(len(self._params))))
        self._counts = self._plan.counts
        self._done = self._counts.item  # of 0: the number of steps done
        # what completes the state, where processes have written to their slices of it
        self._spread: Callable[[], None] | None = None
        self._copies = True  # whether the plan reads other gradients than the caller's: they serve for no further step

    def _new_state(self, param: np.ndarray, group: Group, rule: str) -> Mapping[str, np.ndarray]:
        if param.dtype == np.float64 and group.get("state_format", "float32") != "float32":
            raise ValueError(
                f"state_format={group['state_format']!r} is for parameters of float32,"
                f" and of {', '.join(group.names)} some are {param.dtype}"
            )
        real = np.float32 if is_bfloat16(param.dtype) else param.dtype
        initial = {key: self.initial_state(group, key) for key in RULES[rule].states}
        for key, value in initial.items():
            if value > float(np.finfo(real).max):
                raise ValueError(
                    f"{key} of {', '.join(group.names)} cannot start at {value}, which is beyond {param.dtype}"
                )
        return MappingProxyType(
            {key: state_like(param, value, state_shape(key, param.shape), real) for key, value in initial.items()}
        )

    # -- what a subclass says --

    # Checks of hyperparameters that mean something else here than in other optimizers.
    checks: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}

    @classmethod
    def check(cls, h: Hyperparameters) -> None:
        """Raise ValueError if the hyperparameters ``h``, each fine by itself, cannot stand together."""

    @classmethod
    def rule(cls, h: Hyperparameters) -> str:
        """The name of the rule that the hyperparameters ``h`` ask for."""
        raise NotImplementedError

    @classmethod
    def rules(cls, h: Mapping[str, Any]) -> tuple[str, ...]:
        """All rules that tensors of a group with the hyperparameters ``h`` may have."""
        return (cls.rule(h),)

    @classmethod
    def rule_of_tensor(cls, h: Mapping[str, Any], shape: tuple[int, ...]) -> str:
        """The one among `rules` for a tensor of this shape."""
        return cls.rule(h)

    @classmethod
    def scalars(cls, rule: str, h: Hyperparameters, t: int) -> tuple[float, ...]:
        """The scalars of ``rule`` for step ``t``, counted from 1, in the rule's order; schedules are evaluated in h."""
        raise NotImplementedError

    @classmethod
    def scalars_by_step(cls, rule: str, h: Hyperparameters) -> Callable[[int], tuple[float, ...]]:
        """`scalars` as a function of ``t``, for a subclass that does once what no step changes."""
        return partial(cls.scalars, rule, h)

    @classmethod
    def trust(cls, h: Hyperparameters) -> tuple[float, ...]:
        """The scalars of the trust ratio, for a rule that has one."""
        return ()

    @classmethod
    def initial_state(cls, h: Hyperparameters, key: str) -> float:
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
        clip_eps: float = 0.0,
        grad_scale: float = 1.0,
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
    ) -> None:
        """Update all parameters in place.

        The gradients are first multiplied by ``grad_scale``, then clipped by norm, then by value, then decay is
        added; they are never modified.

        Parameters
        ----------
        grads : array, list or dict of arrays
            The gradients, in the structure of the parameters, each of its parameter's shape and dtype (those of
            parameters of bfloat16 may also be float32); that of a single number may be a scalar, as ``dz.sum()`` is. A
            parameter whose gradient is None is left out: it, its state and its count of steps stay as they are, and
            norms are those of the others. For
            parameter groups: a list with one structure per group, or one dict with all names.
        clip_norm : float, optional
            If the norm of all gradients together is larger, scale them down to it: the factor is
            min(1, clip_norm / (norm + clip_eps)). The norm is then in `grad_norm`; ``math.inf`` computes it and clips
            nothing.
        clip_norm_per_tensor : float, optional
            The same for every gradient by itself.
        clip_value : float, optional
            Clip every element to [-clip_value, clip_value].
        clip_eps : float
            Added to norms before they divide: 1e-6 in PyTorch.
        grad_scale : float
            For instance the reciprocal of a loss scale.
        on_nonfinite : {"raise", "skip", "ignore"}
            What to do if a gradient holds an inf or NaN: raise FloatingPointError, leave everything as it is and count
            the step in `skipped_steps`, or, "ignore", do not look, and let it into weights and state as PyTorch does
            (clipping by a norm that is NaN makes all of them NaN).

        Raises
        ------
        TypeError, ValueError
            If a gradient is missing, or of another shape or dtype than its parameter; if a parameter was
            replaced by another array, or it or the state was changed in place in anything but its elements; if an
            option is out of range.
        FloatingPointError
            If a gradient holds an inf or NaN. Whatever is raised, nothing has been changed.
        """
        if on_nonfinite not in ("raise", "skip", "ignore"):
            raise ValueError(f'on_nonfinite must be "raise", "skip" or "ignore", not {on_nonfinite!r}')
        if grad_scale != 1.0:
            grad_scale = a_number("grad_scale", grad_scale)
        limit = math.inf if clip_value is None else positive("clip_value", clip_value)
        if clip_eps != 0:
            clip_eps = a_number("clip_eps", clip_eps, 0)
        with self._lock:
            now, given = tuple(self._arrays_now()), self._as_bound(grads)
            of_plan: tuple[Any, ...] | None = now
            if len(now) != len(self._params) or given is None:
                of_plan = self._rebind(now, grads)
                given = None  # they are what was just bound
            if not self._plan.tensors:
                return None  # all are left out
            factors: list[float] | None = None
            norm = NO_NORM
            check: bool | None = True
            scale = grad_scale
            if clip_norm is not None or clip_norm_per_tensor is not None:
                sums = self._plan.grad_square_sums(of_plan, given)
                if sums is None:
                    of_plan = self._rebind(now, grads)
                    if not self._plan.tensors:
                        return None
                    sums = self._plan.grad_square_sums(of_plan)
                if sums is None:
                    raise self._changing()
                given = None
                clip, most = clip_limit(clip_norm, clip_norm_per_tensor)
                norm, factors = clipping.norm_and_factors(sums, grad_scale, clip, most, clip_eps)
                if clip == clipping.ALL and norm == norm:  # all factors are the same number
                    scale, factors = grad_scale * factors[0], None
                check = norm >= clipping.MODERATE
            scalars = self._scalars(self._done(0), scale, limit)
            if on_nonfinite == "ignore":
                check = None
            elif not norm < math.inf:
                return self._refuse(on_nonfinite, "the norm of the gradients overflows")
            try:
                answer = self._plan.update(scalars, check, factors, norm, of_plan, given)
                if answer is None:
                    plan, of_plan = self._plan, self._rebind(now, grads)
                    if self._plan is not plan:  # others have gradients than before
                        if norm != NO_NORM:
                            raise self._changing()
                        if not self._plan.tensors:
                            return None
                        scalars = self._scalars(self._done(0), scale, limit)
                    answer = self._plan.update(scalars, check, factors, norm, of_plan)
            except Overflow:
                return self._refuse(on_nonfinite, OVERFLOW)
            if answer is None:
                raise self._changing()
            if not answer:
                self._refuse(on_nonfinite, f"the gradients overflow when scaled by {grad_scale}")

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Take further parameters: from then on, steps need gradients for them too.

        The optimizer then is what it would be if it had been made with all groups, and its state is kept; the new
        parameters begin with their first step, of which bias corrections know, while schedules go on.

        Parameters
        ----------
        group : dict
            ``"params"`` with an array, a list or a dict of arrays, and hyperparameters that are to differ from those
            that the optimizer was made with.

        Raises
        ------
        TypeError, ValueError
            If an array cannot be updated in place, is a parameter already, or overlaps one; if a hyperparameter is
            unknown or out of range. Nothing has then been changed.

        Examples
        --------
        >>> import numpy as np, fastopt as fo
        >>> head, body = np.zeros(2), np.zeros(3)
        >>> opt = fo.optim.Adam({"head": head}, lr=0.1)
        >>> opt.add_param_group({"params": {"body": body}, "lr": 0.01})
        >>> opt.step({"head": np.ones(2), "body": np.ones(3)})
        >>> head.round(3), body.round(3)
        (array([-0.1, -0.1]), array([-0.01, -0.01, -0.01]))
        """
        if not isinstance(group, Mapping):
            raise TypeError(f"a group must be a dict with 'params', not {type(group).__name__}")
        with self._lock:
            self._look_for_changes(tuple(self._arrays_now()))
            self._complete_state()
            fresh: Optimizer = object.__new__(type(self))
            groups = [{**own, "params": params} for own, params in zip(self._groups, self._given, strict=True)]
            fresh._set_up([*groups, group], self._hyperparameters, self)
            own = self.__dict__
            change_all((own, key, value) for key, value in vars(fresh).items())

    def train(self) -> None:
        """Let the parameters be where gradients are to be taken: where they are, but for Schedule-Free optimizers."""

    def eval(self) -> None:
        """Let the parameters be what the optimizer has found: where they are, but for Schedule-Free optimizers."""

    def _check_arrays(self, grads: Any) -> None:
        """Point the plan at ``grads``, and refuse arrays that were replaced, or changed in place."""
        with self._lock:
            now, given = tuple(self._arrays_now()), self._as_bound(grads)
            if given is None or len(now) != len(self._params) or not self._plan.fits(now, given):
                self._rebind(now, grads)

    def _scalars(self, done: int, grad_scale: float, limit: float) -> list[tuple[float, ...]]:
        """All scalars of every group for the step after ``done`` steps."""
        if done >= MOST_STEPS:
            raise ValueError(f"step_count is {done}: steps are counted to 2**53")
        return [group.scalars(self, done, grad_scale, limit) for group in self._plan.groups]

    def _scalars_of_steps(
        self, done: int, most: int, grad_scale: float, limit: float
    ) -> list[Sequence[tuple[float, ...]]]:
        """Those of the next steps, at most so many, as far as it is known now what they will be."""
        groups = self._plan.groups
        if done + most <= MOST_STEPS and all(group.is_constant for group in groups):
            return list(
                zip(*(group.scalars_of_steps(self, done, most, grad_scale, limit) for group in groups), strict=True)
            )
        scalars: list[Sequence[tuple[float, ...]]] = []
        try:
            for ahead in range(most if all(group.foreseeable for group in self._groups) else min(most, 1)):
                scalars.append(self._scalars(done + ahead, grad_scale, limit))
        except Exception:  # a schedule's, which is to come after the steps before it
            if not scalars:
                raise
        return scalars

    @classmethod
    def finished_scalars(
        cls, own: tuple[float, ...], adapts: bool, h: Mapping[str, Any], grad_scale: float, limit: float
    ) -> tuple[float, ...]:
        """All scalars of a step: the driver's, the rule's ``own``, and those of its trust ratio."""
        return *cls._of_driver(h, grad_scale, limit), *own, *(cls.trust(h) if adapts else ())

    @classmethod
    def _of_driver(cls, h: Mapping[str, Any], grad_scale: float, limit: float) -> tuple[float, ...]:
        """The scalars that every rule has."""
        decay, mode = h["weight_decay"], h["weight_decay_mode"]
        l2, keep = 0.0, 1.0
        if decay:
            if mode == "l2":
                l2 = decay
            elif mode in ("decoupled", "independent"):
                keep = 1.0 - (h["lr"] * decay if mode == "decoupled" else decay)
        return -grad_scale if h["maximize"] else grad_scale, limit, l2, keep

    def _at(self, group: Group, done: int, missed: int) -> Mapping[str, Any]:
        """A group's hyperparameters after so many steps, and what else `scalars` looks at, for what missed some."""
        return group.at(done)

    def _refuse(self, on_nonfinite: str, if_all_finite: str) -> None:
        if on_nonfinite == "skip":
            self._plan.counts[1] += 1
            return
        grads = zip(self._plan.tensors, self._plan.grads, strict=True)
        names = [repr(self._names[i]) for i, grad in grads if not np.isfinite(numbers(grad)).all()]
        what = f"gradients hold inf or NaN: {some(names)}" if names else if_all_finite
        raise FloatingPointError(f"step {self.step_count + 1}: {what}; nothing was updated")

    # -- binding arrays --

    def _as_bound(self, grads: Any) -> tuple[Any, ...] | None:
        """What to compare with the gradients that are bound, if it may be them."""
        if type(grads) is dict:
            given = tuple(grads.values()) if tuple(grads) == self._names else ()
        else:
            given = (grads,) if isinstance(grads, np.ndarray) else tuple(grads) if type(grads) in (list, tuple) else ()
        return given if len(given) == len(self._params) and not self._copies else None

    def _rebind(self, now: tuple[Any, ...], grads: Any) -> tuple[Any, ...] | None:
        """Point the plan at ``grads``, after all that can be wrong with them or the parameters has been looked for.

        The answer is what to compare with the plan's parameters: ``now``, if the plan is over all of them.
        """
        self._complete_state()
        changed = self._look_for_changes(now)
        in_order = self._in_order(grads)
        given = tuple(i for i, grad in enumerate(in_order) if grad is not None)
        read = [self._readable(self._names[i], in_order[i], self._plain[i]) for i in given]
        if changed:  # in what does not matter
            for plan in self._plans.values():
                plan.pin([self._params[i] for i in plan.tensors])
        done, left = self.step_count, list(self._left)
        for i, (grad, (_, since)) in enumerate(zip(in_order, left, strict=True)):
            if (grad is None) != (since is not None):
                left[i] = Left(left[i].missed_of(done), done if grad is None else None)
        whole = len(given) == len(in_order)
        self._copies = not whole or any(map(is_not, in_order, read))
        self._left = tuple(left)
        plan = self._plan_over(given)
        plan.bind_all(read)
        if plan is not self._plan:
            plan.look_again()  # others may have written to its states
            ratios = self.trust_ratios
            plan.grad_norm, plan.trust_ratios = self._plan.grad_norm, [ratios[self._names[i]] for i in given]
            self._ratios = ratios
            self._plan = plan
        return now if whole else None

    def _plan_over(self, given: tuple[int, ...]) -> Any:
        """The plan of the step in which these parameters have gradients: others are left out, and miss the step.

        Parameters of one group that have missed another number of steps are apart: their scalars are of another step.
        """
        done = 0 if self._counts is None else int(self._counts[0])
        of_tensors = [(*self._group_and_rule[i], self._left[i].missed_of(done)) for i in given]
        key = given, *of_tensors
        if (plan := self._plans.pop(key, None)) is None:
            all_rules = [(i, rule, 0) for i, group in enumerate(self._groups) for rule in self.rules(group)]
            of_plan = list(dict.fromkeys([*all_rules, *of_tensors]))
            params, states = [], []
            for i, (*_, missed) in zip(given, of_tensors, strict=True):
                param, *state = delayed((self._stored[i], *self._states[i]), missed)
                params.append(param)
                states.append(state)
            rules, groups = [rule for _, rule, _ in of_plan], [of_plan.index(each) for each in of_tensors]
            plan = self._kind(rules, params, states, groups, self._counts)
            plan.pin([self._params[i] for i in given])
            plan.tensors = given
            plan.groups = [GroupOfPlan(type(self), self._groups[i], rule, missed) for i, rule, missed in of_plan]
        while len(self._plans) >= _KEPT_PLANS:
            del self._plans[next(iter(self._plans))]
        self._plans[key] = plan
        return plan

    def _look_for_changes(self, now: tuple[Any, ...]) -> bool:
        """Refuse parameters and states that were replaced or changed; whether they were in what does not matter."""
        for i, (name, param) in enumerate(zip(self._names, self._params, strict=True)):
            if i >= len(now) or now[i] is not param:
                raise ValueError(
                    f"parameter {name!r} was replaced by another array, moved or removed since the optimizer was made;"
                    f" write into the array instead ({name}[...] = ...), or make a new optimizer"
                )
        if len(now) > len(self._params):
            raise ValueError(f"the optimizer was made with {len(self._params)} parameters, now there are {len(now)}")
        changed = not all(plan.own.hold() for plan in (self._plan, *self._plans.values()))
        if changed:
            for (what, name, array), made_as in zip(self._written, self._made_as, strict=True):
                refuse_changed(what, name, array, made_as)
        return changed

    def _changing(self) -> RuntimeError:
        return RuntimeError(
            "arrays were changed by another thread while the optimizer looked at them; nothing was updated"
        )

    def _in_order(self, grads: Any) -> list[Any]:
        """The gradients in the order of the parameters."""
        if isinstance(grads, Mapping):
            given = {str(name): grad for name, grad in grads.items()}
            missing = [repr(name) for name in self._names if name not in given]
            unknown = [repr(name) for name in given if name not in self._names]
            if missing or unknown:
                wrong = [f"gradients missing for: {', '.join(missing)}"] if missing else []
                wrong += [f"gradients for no parameter: {', '.join(unknown)}"] if unknown else []
                raise ValueError("; ".join(wrong))
            return [given[name] for name in self._names]
        if self._grouped and isinstance(grads, (list, tuple)):
            if len(grads) != len(self.groups):
                raise ValueError(f"gradients for {len(grads)} groups given, the optimizer has {len(self.groups)}")
            in_order = []
            for i, (group, members) in enumerate(zip(self.groups, grads, strict=True)):
                given = dict(named_arrays(members, f"gradients of group {i}"))
                if given.keys() != set(group.names):
                    raise ValueError(f"group {i} has the parameters {list(group.names)}, the gradients {list(given)}")
                in_order += [given[name] for name in group.names]
            return in_order
        if isinstance(grads, (float, np.generic)) and len(self._params) == 1:
            return [grads]
        in_order = [grad for _, grad in named_arrays(grads, "grads")]
        if len(in_order) != len(self._params):
            raise ValueError(f"{len(in_order)} gradients given, for {len(self._params)} parameters")
        return in_order

    def _readable(self, name: str, grad: Any, param: np.ndarray) -> np.ndarray:
        if type(grad) is not np.ndarray:
            if param.size == 1 and isinstance(grad, (float, np.generic)):  # np.sum's of a bias
                grad = np.asarray(grad, None if isinstance(grad, np.generic) else param.dtype)
            check_array("gradient for", name, grad, any_dtype=True)
            grad = plain(grad)
        if grad.shape == () and param.size == 1:
            grad = grad.reshape(param.shape)
        if grad.shape != param.shape:
            raise ValueError(f"gradient for {name!r} has shape {grad.shape}, the parameter has {param.shape}")
        if grad.dtype != param.dtype and not (grad.dtype == np.float32 and is_bfloat16(param.dtype)):
            raise TypeError(f"gradient for {name!r} is {grad.dtype}, the parameter is {param.dtype}")
        if grad.base is not None:
            check_within_base("gradient for", name, grad)
        if (copy := readable(grad)) is not grad:
            return copy
        begin, end = span(grad)
        i = bisect_right(self._starts, begin) - 1
        for first, last, other in self._spans[max(i, 0) : i + 2]:
            if first < end and begin < last:
                raise ValueError(f"gradient for {name!r} overlaps {other!r} in memory, which the step writes to")
        return grad

    # -- what can be read and set --

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{type(self).__name__} points at the arrays it updates and cannot be copied or pickled;"
            " make another, and give it this one's state_dict()"
        )

    @property
    def step_count(self) -> int:
        """How many steps have been done; setting it goes on from there, as bias corrections and schedules see it."""
        return self._plan.counts.item(0)

    @step_count.setter
    def step_count(self, count: int) -> None:
        with self._lock:
            self._plan.counts[0] = _count("step_count", count)

    @property
    def skipped_steps(self) -> int:
        """How many steps ``on_nonfinite="skip"`` has left out."""
        return self._plan.counts.item(1)

    @skipped_steps.setter
    def skipped_steps(self, count: int) -> None:
        with self._lock:
            self._plan.counts[1] = _count("skipped_steps", count)

    @property
    def grad_norm(self) -> float | None:
        """The norm of all gradients together, times ``grad_scale`` and before clipping, in the last step that was done.

        None if that did not clip by norm, or if there was none.
        """
        norm = self._plan.grad_norm
        return None if norm == NO_NORM else norm

    @grad_norm.setter
    def grad_norm(self, norm: float | None) -> None:
        self._plan.grad_norm = NO_NORM if norm is None else norm

    @property
    def groups(self) -> tuple[Group, ...]:
        """The hyperparameters of each group of parameters, which can be set: ``opt.groups[0]["lr"] = 0.01``.

        The attribute ``names`` of a group has the names of its parameters.
        """
        return self._groups

    @property
    def state(self) -> Mapping[str, Mapping[str, Any]]:
        """Of every parameter, by name, a mapping of its state arrays, under PyTorch's names (``exp_avg``, ...).

        They stay the same arrays and can be written into. A moment in fewer bytes (``state_format``) gives float32
        numbers, and encodes those that are written into it: `StateArray`.
        """
        self._complete_state()
        return self._state

    def _complete_state(self) -> None:
        """Where processes train together, and each has its slice of the state: exchange them; all have to call this."""
        if self._spread is not None:
            self._spread()

    @property
    def state_nbytes(self) -> int:
        """The bytes that the state takes."""
        return sum(array.nbytes for state in self._state.values() for _, array in arrays_in(state))

    @property
    def trust_ratios(self) -> dict[str, float]:
        """The trust ratio of every tensor in its last step; 1 for those whose rule has none."""
        stepped = (self._names[i] for i in self._plan.tensors)
        return {**self._ratios, **dict(zip(stepped, self._plan.trust_ratios, strict=True))}

    @property
    def lr(self) -> float:
        """The learning rate of the next step, that of the first group; setting it sets that of all groups."""
        return self.groups[0].at(self.step_count)["lr"]

    @lr.setter
    def lr(self, value: Any) -> None:
        changed = [group.changed("lr", value) for group in self.groups]
        change_all(
            change for group, values in zip(self.groups, changed, strict=True) for change in group.taking(values)
        )

    def __setattr__(self, name: str, value: Any) -> None:
        refuse_unknown(self, name)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:  # called where there is no such attribute
        raise unknown(self, name)

    def __repr__(self) -> str:
        tensors, elements = len(self._params), sum(param.size for param in self._plain)
        size = f"{tensors} tensor{'s' * (tensors != 1)} of {elements:,} element{'s' * (elements != 1)}"
        groups = ["".join(f", {name}={value!r}" for name, value in group.items()) for group in self.groups]
        if len(groups) == 1:
            return f"{type(self).__name__}({size}{groups[0]})"
        lines = (f"\n  {len(g.names)} tensors{text}" for g, text in zip(self.groups, groups, strict=True))
        return f"{type(self).__name__}({size} in {len(groups)} groups:{','.join(lines)})"

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a resumed run needs: the step count, the state, and the hyperparameters.

        Schedules are left out: they belong to the code that makes the optimizer.
        """
        with self._lock:
            done, left = self._done(0), zip(self._names, self._left, strict=True)
            missed = {name: steps for name, each in left if (steps := each.missed_of(done))}
            return {
                "step_count": self.step_count,
                "skipped_steps": self.skipped_steps,
                "groups": [{n: v for n, v in group.items() if not callable(v)} for group in self.groups],
                "state": {name: {key: saved(s) for key, s in state.items()} for name, state in self.state.items()},
                **({"missed_steps": missed} if missed else {}),
            }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where the optimizer that `state_dict` came from stood.

        Raises
        ------
        TypeError, ValueError
            If anything in it does not fit this optimizer; nothing has then been changed.
        """
        with self._lock:
            change_all(self._changes_of_loading(state_dict))

    def _changes_of_loading(self, state_dict: Any) -> list[tuple[Any, Any, Any]]:
        """What `load_state_dict` does, all checked, for `fastopt._moving.change_all`, which can do others' with it."""
        for (what, name, array), made_as in zip(self._written, self._made_as, strict=True):
            if what != "parameter":
                refuse_changed(what, name, array, made_as)
        counts, groups, arrays = checked_state(state_dict, type(self), self.groups, self.state)
        missed = checked_missed(state_dict.get("missed_steps", {}), self._names, counts[0])
        for plan in self._plans.values():
            plan.look_again()
        return [
            *((self._plan.counts, i, count) for i, count in enumerate(counts)),
            (self.__dict__, "_left", tuple(Left(each, None) for each in missed)),
            (self.__dict__, "_copies", True),  # another plan may be called for
            *(change for group, values in zip(self.groups, groups, strict=True) for change in group.taking(values)),
            *((array, ..., values) for array, values in arrays),
        ]


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= MOST_STEPS:
        raise ValueError(f"{name} must be from 0 to 2**53, not {value}")
    return int(value)
