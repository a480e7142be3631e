"""What every optimizer of fastopt.torch does in place of PyTorch's own step."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from threading import RLock
from typing import Any, ClassVar

import torch
from torch.autograd import _profiler_enabled
from torch.compiler import is_compiling
from torch.optim import optimizer as _torch

from .._backends.numpy import NO_NORM
from .._checks import one_of, positive, some
from .._moving import surely
from .._specification.clipping import clip_factor
from .._specification.order import in_order
from .._specification.rules import Overflow
from ._binding import Binding
from ._formats import CODES, PLAIN, form_of
from ._kinds import Kind
from ._places import Place
from ._state import Changes, State, as_plain
from ._tensors import refuse

_CLIP_EPS = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm
_on_nonfinite = one_of("ignore", "raise", "skip")


class Fused(torch.optim.Optimizer):
    """The part of an optimizer that is the same for all; `made` puts it before PyTorch's class."""

    _kind: ClassVar[Kind]
    _binding: Binding | None
    param_groups: list[dict[str, Any]]
    _uncompiled_step: Callable[..., Any]
    _given: dict[str, Any]  # fastopt's options that the constructor was given
    clip_norm: float | None
    on_nonfinite: str
    skipped_steps: int
    grad_norm: float | None
    _step_supports_amp_scaling = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        self._lock, self._changes, self._binding = RLock(), Changes(), None
        self.on_nonfinite, self.clip_norm, self.skipped_steps, self.grad_norm = "ignore", None, 0, None
        self._given, self._uncompiled_step = {}, _uncompiled_step()
        return self

    def __init__(
        self, params: Any, *args: Any, on_nonfinite: str = "ignore", clip_norm: float | None = None, **kwargs: Any
    ):
        self.on_nonfinite = _on_nonfinite("on_nonfinite", on_nonfinite)
        self.clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)
        kind = self._kind
        self._given = {option.name: kwargs.pop(option.name) for option in kind.options if option.name in kwargs}
        if kind.theirs is not None:
            super().__init__(params, *args, **kwargs)
        else:
            bound = inspect.Signature(kind.parameters).bind(*args, **kwargs)
            bound.apply_defaults()
            super().__init__(params, bound.arguments)
        self.defaults.update(self._given)

    # -- groups and state --

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own; see `torch.optim.Optimizer.add_param_group`.

        Raises
        ------
        TypeError, ValueError
            If a parameter is sparse, complex, of a type other than float32, float64 and bfloat16 or not on the CPU, or
            a hyperparameter is out of range; nothing has been added then.
        """
        if isinstance(param_group, dict):
            param_group = {**self._given, **param_group}
        super().add_param_group(param_group)
        group = self.param_groups.pop()
        self._check(group, len(self.param_groups))
        self.param_groups.append(group)

    def _check(self, group: Mapping[str, Any], g: int) -> None:
        self._kind.check(group)
        form = form_of(self._kind.hyperparameters(group))
        for i, param in enumerate(group["params"]):
            name = group["param_names"][i] if "param_names" in group else f"{i} of group {g}"
            refuse(f"parameter {name}", param)
            form.refuse(f"parameter {name}", param)
            if hasattr(param, "to_local"):
                self._kind.refuse_part(name, param, self._kind.hyperparameters(group), self.clip_norm)

    @property
    def state(self) -> State:
        """Of every parameter, what the optimizer remembers; see `torch.optim.Optimizer`."""
        return self._state

    @state.setter
    def state(self, state: Mapping[Any, Any]) -> None:
        self._state: State = State(state, self._changes)
        self._changes.some = True

    def __getstate__(self) -> dict[str, Any]:
        own = {
            name: getattr(self, name) for name in ("on_nonfinite", "clip_norm", "skipped_steps", "grad_norm", "_given")
        }
        return {**super().__getstate__(), "state": self._state.plain(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "state" in state:
            self.state = state.pop("state")
        super().__setstate__(state)

    def state_dict(self) -> dict[str, Any]:
        """As `torch.optim.Optimizer.state_dict`, whose optimizer of the same name can load it."""
        state_dict = super().state_dict()
        if isinstance(state_dict.get("state"), dict):
            state_dict["state"] = {key: as_plain(value) for key, value in state_dict["state"].items()}
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As `torch.optim.Optimizer.load_state_dict`, of a state dict of PyTorch's optimizer, too; state is copied.

        Options that PyTorch's optimizer does not have stay as they are if the state dict does not say them. A state of
        another ``state_format`` becomes one of the optimizer's.
        """
        own = [
            {option.name: group[option.name] for option in self._kind.options if option.name in group}
            for group in self.param_groups
        ]
        forms = [group.get("state_format", "float32") for group in self.param_groups]
        before = self._state, self.param_groups
        read: list[Any] = []  # what hooks of the user's have made of it
        handle = self.register_load_state_dict_pre_hook(lambda _, last: read.append(last))
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        try:
            self._undo_casts(read[-1])
            for group, options, form in zip(self.param_groups, own, forms, strict=True):
                for name, value in options.items():
                    group.setdefault(name, value)
                if "state_format" in group:
                    group["state_format"] = form
            self._own_state()
        except BaseException:
            self._state, self.param_groups = before
            raise
        finally:
            self._changes.some = True

    def _undo_casts(self, state_dict: Mapping[str, Any]) -> None:
        """Loading makes states the parameter's type: of bfloat16 nothing else would be left of them."""
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for param, number in zip(group["params"], saved["params"], strict=True):
                if param.dtype == torch.bfloat16 and isinstance(state := self._state.get(param), dict):
                    given = state_dict["state"][number].items()
                    state.update((key, value) for key, value in given if isinstance(value, torch.Tensor))

    def _own_state(self) -> None:
        """Make copies of tensors that were loaded, in the formats that the groups ask for."""
        end = 0
        for group in self.param_groups:
            h = self._kind.hyperparameters(group)
            for i, param in enumerate(group["params"]):
                position, end = end, end + param.numel()
                if not isinstance(state := self._state.get(param), dict):
                    continue
                if any(name.endswith(CODES) for name in state) or form_of(h) != PLAIN:
                    rule = self._kind.ours.rule_of_tensor(h, param.shape)
                    state = Place(self._kind, rule, group, h, param, state, str(i), position).converted(state)
                values = state.items()
                self._state[param] = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in values}

    # -- the step --

    def step(self, closure: Callable[[], Any] | None = None, *, clip_norm: float | None = None) -> Any:
        """Update the parameters that have gradients.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients anew; called first.
        clip_norm : float, optional
            As `torch.nn.utils.clip_grad_norm_` before the step, but the gradients stay as they are; in place of the
            optimizer's own ``clip_norm``. The norm is then in ``grad_norm``.

        Returns
        -------
        What the closure returned.

        Raises
        ------
        FloatingPointError
            With ``on_nonfinite="raise"``, if a gradient holds an inf or NaN; nothing was updated.
        """
        if is_compiling():
            return self._uncompiled_step(self, closure, clip_norm=clip_norm)
        if (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _torch._global_optimizer_pre_hooks
            or _torch._global_optimizer_post_hooks
            or _profiler_enabled()
        ):
            args = () if closure is None else (closure,)
            return _observed_step(self, *args, **({} if clip_norm is None else {"clip_norm": clip_norm}))
        if closure is not None:
            return _step(self, closure, clip_norm=clip_norm)
        self._advance(clip_norm)
        return None

    step.hooked = True  # type: ignore[attr-defined]

    def _advance(self, clip_norm: float | None) -> None:
        scale = 1.0
        if "found_inf" in self.__dict__ or "grad_scale" in self.__dict__:  # from torch.amp.GradScaler
            found_inf, grad_scale = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
            if found_inf is not None and float(found_inf):
                return
            scale = 1.0 if grad_scale is None else 1.0 / float(grad_scale)
        clip_norm = self.clip_norm if clip_norm is None else positive("clip_norm", clip_norm)
        with self._lock:
            for _ in range(3):
                binding = self._current_binding()
                if binding.plan is None:
                    return
                try:
                    if self._try(binding, binding.plan, scale, clip_norm) is not None:
                        return
                finally:
                    binding.plan.release()
                self._changes.some = True
            raise RuntimeError(
                "tensors were changed by another thread while the optimizer looked at them; nothing was updated"
            )

    def _current_binding(self) -> Binding:
        binding = self._binding
        if binding is None or self._changes.some or not binding.current(self.param_groups):
            self._binding = None
            with torch.no_grad():
                binding = Binding(self._kind, self.param_groups, self._state, binding)
            self._changes.some = False
            self._binding = binding
            binding.current(self.param_groups)
        return binding

    def _try(self, binding: Binding, plan: Any, scale: float, clip_norm: float | None) -> bool | None:
        """A step, if all is as it was bound; None if not."""
        params, grads = binding.tensors(self.param_groups)
        if len(params) != binding.count:
            return None
        plan.now = grads
        factors, norm = None, NO_NORM
        check = None if self.on_nonfinite == "ignore" else True
        if clip_norm is not None:
            for place in binding.shards:
                self._kind.refuse_part(place.name, place.param, binding.h[0], clip_norm)
            sums = plan.grad_square_sums(params, grads)
            if sums is None:
                return None
            norm = math.sqrt(in_order(sums)) * abs(scale)
            if not norm < math.inf and check:
                return self._refuse(binding, grads)
            factor = clip_factor(clip_norm, norm, _CLIP_EPS)
            if norm == norm:
                scale *= factor
            else:
                factors = [factor] * len(grads)
        binding.enter()
        before = plan.steps(0)
        try:
            answer = plan.update(binding.scalars(scale), check, factors, norm, params, grads)
            if answer:
                binding.done(self._state)
        except Overflow:
            return self._refuse(binding, grads)
        except BaseException:  # a signal's handler raised, for one
            if plan.steps(0) > before:
                surely(partial(binding.done, self._state))
            raise
        if not answer:
            return None if answer is None else self._refuse(binding, grads)
        self._changes.some = False
        self.grad_norm = None if clip_norm is None else norm
        return True

    def _refuse(self, binding: Binding, grads: Sequence[torch.Tensor]) -> bool:
        if self.on_nonfinite == "skip":
            self.skipped_steps += 1
            return False
        each = zip(binding.places, grads, strict=True)
        names = [place.name for place, grad in each if not grad.isfinite().all()]
        what = f"gradients of parameters hold inf or NaN: {some(names)}" if names else "the step would overflow"
        raise FloatingPointError(f"{what}; nothing was updated")


def _step(self: Any, closure: Callable[[], Any] | None = None, *, clip_norm: float | None = None) -> Any:
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    self._advance(clip_norm)
    return loss


_observed_step = torch.optim.Optimizer.profile_hook_step(_step)


@cache
def _uncompiled_step() -> Callable[..., Any]:
    """The step as it is where `torch.compile` would look into it; making a group loads what that takes anyway."""
    return torch.compiler.disable(_step)
