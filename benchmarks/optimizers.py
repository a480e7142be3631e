"""Whole optimizer steps: one array of many sizes, the tensors of a small network, tiny ones, and BERT-base's 194.

Every class of `fastopt.optim` is stepped through its public API, checks and all. The bound is what the same bytes take
in bare loops over the same arrays: those the rule reads and writes once each, and, as a second bound, with the sweep
over the gradients that finds out whether they are finite before anything is written.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np

import fastopt as fo
from fastopt._backends.numpy import update_of_tensor
from fastopt._specification.rules import RULES, trust_ratio
from fastopt.optim import __all__ as _public
from fastopt.optim.bound import scalars_of

from .measure import FASTOPT, Case, Setup, Side, Spec, Sweep, fastopt_settings
from .peers import torch_settings

Shape = tuple[int, ...]
MLP = [(100, 30), (100,), (50, 100), (50,), (1, 50), (1,)]
TINY = [(8,)] * 64
LAYER = [*[(768, 768)] * 4, (3072, 768), (768, 3072), *[(768,)] * 5, (3072,), *[(768,)] * 4]
BERT = [(30522, 768), (512, 768), *LAYER * 12]  # 194 tensors
QUICK_BERT = BERT[1:18]
MATRICES = [*[(768, 768)] * 10, *[(768, 3072)] * 2]

# what every library is given beside lr = 0.01; others than these keep PyTorch's defaults, which are fastopt's too
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "LARS": {"lr": 1.0, "momentum": 0.9, "weight_decay": 1e-4, "eps": 1e-8},
    "LAMB": {"trust_clip": 1.0},
    "Adadelta": {"lr": 1.0},
}
# rules that measure go through a tensor more than once, and of one too large to stay in the cache read this much again
AGAIN: dict[str, Callable[..., Sequence[np.ndarray]]] = {
    "adafactor": lambda p, g, *s: (g, p, g),
    "adafactor_unfactored": lambda p, g, s: (p, g, s),
    "lars": lambda p, g, s: (p, g),
    "lamb": lambda p, g, *s: (p, *s),
}
STAYS_IN_CACHE = 2**20  # elements
BARE_LOOP, IN_CACHE = "bare loop", 2 * 10**5


def optimizers() -> list[str]:
    """The classes of fastopt.optim that take arrays of any shape."""
    made = (getattr(fo.optim, name) for name in _public)
    return [c.__name__ for c in made if fo.optim.Optimizer in getattr(c, "__mro__", ())[1:] and c is not fo.optim.Muon]


def specs(setup: Setup) -> Iterator[Spec]:
    sizes = [16, 4096, 10**5, 10**6, 10**7]
    if not setup.quick:
        sizes = [16, 128, 1024, 8192, 65536, 10**5, 262_144, 10**6, 4 * 10**6, 10**7, 2 * 10**7, 6 * 10**7]
    for size in sizes:
        yield _spec("one array", "Adam", f"one array of {size:,}", [(size,)], setup)
    for name in optimizers():
        yield _spec("MLP", name, "6 tensors of an MLP", MLP, setup)
    for name in optimizers():
        yield _spec("tiny", name, "64 tensors of 8", TINY, setup)
    for name in optimizers():
        where = f"{len(QUICK_BERT)} tensors of BERT-base" if setup.quick else "BERT-base, 194 tensors"
        yield _spec("BERT", name, where, QUICK_BERT if setup.quick else BERT, setup)
    shapes = [(96, 96), (96, 384)] if setup.quick else MATRICES
    name = f"Muon, {len(shapes)} matrices up to {shapes[-1]}"
    yield Spec("step", "Muon", name, partial(_muon_case, shapes, setup), ("muon",))
    yield Spec(
        "step", "clip", "AdamW with clip_norm=1", partial(_clip_case, QUICK_BERT if setup.quick else BERT, setup)
    )
    for form in ("float32", "bfloat16", "8bit"):
        shape = (10**5,) if setup.quick else (6 * 10**7,)
        for check in ("raise", "ignore"):
            name = f'AdamW with state_format="{form}", on_nonfinite="{check}", one array of {shape[0]:,}'
            yield Spec("step", "state format", name, partial(_format_case, form, check, shape, setup), ("AdamW",))


def _spec(group: str, name: str, where: str, shapes: Sequence[Shape], setup: Setup) -> Spec:
    rules = ("adafactor", "adafactor_unfactored") if name == "Adafactor" else ()  # which have no case of their own
    return Spec("step", group, f"{name}, {where}", partial(_step_case, name, shapes, setup), (name, *rules))


def problem(shapes: Sequence[Shape]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Parameters and gradients; large ones repeat the same numbers, which costs less than drawing new ones."""
    numbers = 0.1 * np.random.default_rng(0).standard_normal(2**20, dtype=np.float32)

    def arrays(numbers: np.ndarray) -> list[np.ndarray]:
        return [np.resize(numbers[: math.prod(shape)], shape) for shape in shapes]  # which copies all it is given

    return arrays(numbers), arrays(numbers[::-1])


def options_of(name: str) -> dict[str, Any]:
    return {"lr": 1e-2, **OPTIONS.get(name, {})}


@contextmanager
def _on_numpy() -> Iterator[None]:
    before = fo.get_backend()
    fo.set_backend("numpy")
    try:
        yield
    finally:
        fo.set_backend(before)


def exact_steps(name: str, start: list[np.ndarray], grads: list[np.ndarray], calls: int) -> list[np.ndarray]:
    """How far so many steps in float64 move parameters."""
    params = [p.astype(np.float64) for p in start]
    with _on_numpy():
        opt = getattr(fo.optim, name)(params, **options_of(name))
        for _ in range(calls):
            opt.step([g.astype(np.float64) for g in grads])
    return [param - p for param, p in zip(params, start, strict=True)]


def _muon_steps(grads: Sequence[np.ndarray], dtype: Any, params: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Muon's first step, without decay, in plain NumPy."""
    for p, g in zip(params, grads, strict=True):
        x = g.astype(dtype)
        x /= np.sqrt(np.sum(np.square(x)))
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
        p -= 1e-2 * x
    return params


def _muon_case(shapes: Sequence[Shape], setup: Setup) -> Case:
    """A step from zeros: PyTorch's, which rounds to bfloat16, is only about the same."""
    _, grads = problem(shapes)

    def zeros(dtype: Any = np.float32) -> list[np.ndarray]:
        return [np.zeros(shape, dtype) for shape in shapes]

    params = zeros()
    opt = fo.optim.Muon(params, lr=1e-2)
    sides = [Side(FASTOPT, partial(opt.step, grads), lambda: params, fastopt_settings(setup))]
    if "numpy" in setup.peers:
        plain = zeros()
        by_numpy = partial(_muon_steps, grads, np.float32, plain)
        sides.append(Side("numpy", by_numpy, lambda: plain, {"": lambda: None}))
    torch = setup.peers.get("torch")
    if torch and torch.ops.mkldnn._is_mkldnn_bf16_supported():  # else its products in bfloat16 take minutes
        theirs = torch_parameters(torch, zeros(), grads)
        made, call, arrays, settings = _made("torch", torch.optim.Muon(theirs, lr=1e-2), theirs, torch_settings(setup))
        sides.append(Side(made, call, arrays, settings))
    reference = partial(_muon_steps, grads, np.float64, zeros(np.float64))
    return Case(sum(p.size for p in params), sides, reference, {}, 1, tolerance=0.1)


def _step_case(name: str, shapes: Sequence[Shape], setup: Setup) -> Case:
    start, grads = problem(shapes)
    compared = [shapes.index(shape) for shape in dict.fromkeys(shapes)]  # one tensor of every shape
    large = sum(p.size for p in start) > 10**6
    calls = 1 if large else 3

    def moved(arrays: Sequence[Any]) -> list[np.ndarray]:
        """How far the compared tensors are from where they began."""
        return [np.asarray(arrays[i], np.float64) - start[i] for i in compared]

    reference = partial(exact_steps, name, [start[i] for i in compared], [grads[i] for i in compared], calls)
    params = [p.copy() for p in start]
    opt = getattr(fo.optim, name)(params, **options_of(name))
    sides = [Side(FASTOPT, partial(opt.step, grads), lambda: moved(params), fastopt_settings(setup))]
    if large and name in ("Adam", "AdamW"):
        sides += _other_sides(name, start, grads, moved, setup)
    for side in (_numpy_sides, torch_sides, _timm_sides, _deepspeed_sides, _optax_sides):
        for made, call, arrays, settings in side(name, start, grads, setup):
            nothing: dict[str, Callable[[], object]] = {"": lambda: None}
            sides.append(Side(made, call, partial(_moved_of, moved, arrays), settings or nothing))
    return Case(sum(p.size for p in start), sides, reference, _bounds(opt, params, grads), calls, tolerance=2e-3)


def _other_sides(name: str, start: list[np.ndarray], grads: list[np.ndarray], moved: Any, setup: Setup) -> list[Side]:
    """fastopt as the peers are, which do not look whether gradients are finite; and with state in fewer bytes.

    The latter follow float32's way to 8 and 4 bits only, and have tests of their own.
    """
    sides = []
    for kind in ("float32", "bfloat16", "8bit") if len(start) == 1 else ("float32",):
        for look in ("raise", "ignore"):
            if (kind, look) != ("float32", "raise"):
                params = [p.copy() for p in start]
                opt = getattr(fo.optim, name)(params, state_format=kind, **options_of(name))
                words = ([] if kind == "float32" else [kind]) + (["unchecked"] if look == "ignore" else [])
                call = partial(opt.step, grads, on_nonfinite=look)
                settings = fastopt_settings(setup)
                results = partial(moved, params)
                sides.append(Side(", ".join([FASTOPT, *words]), call, results, settings, checked=kind == "float32"))
    return sides


def _moved_of(moved: Callable[[Any], Any], arrays: Callable[[], Any]) -> Any:
    return moved(arrays())


def _bounds(opt: fo.optim.Optimizer, params: list[np.ndarray], grads: list[np.ndarray]) -> dict[str, list[Sweep]]:
    sweeps = []
    for p, g, state in zip(params, grads, opt.state.values(), strict=True):
        again = AGAIN.get(opt.rule_of_tensor(opt.groups[0], p.shape))
        if again and p.size > STAYS_IN_CACHE:
            sweeps.append(Sweep("read", again(p, g, *state.values())))
        sweeps.append(Sweep("update", [p, g, *(s for s in state.values() if s.shape == p.shape)]))
    size = sum(p.size for p in params)
    bare = {BARE_LOOP: [Sweep("Adam", sweep.arrays) for sweep in sweeps]} if type(opt) is fo.optim.Adam else {}
    if size < 10**4:
        return {"bandwidth": sweeps, **bare} if len(params) == 1 else bare
    checked = [*(Sweep("read", [g]) for g in grads), *sweeps]
    return {"bandwidth": sweeps, "bandwidth with check": checked, **(bare if size < IN_CACHE else {})}


# ---- the peers: name, what makes a step, the parameters, and how it may be set -------------------------------------

Made = tuple[str, Callable[[], object], Callable[[], Sequence[Any]], dict[str, Callable[[], object]]]


def torch_parameters(torch: Any, start: list[np.ndarray], grads: list[np.ndarray]) -> list[Any]:
    """The gradients may be ours, as neither changes them."""
    params = [torch.tensor(p, requires_grad=True) for p in start]
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.from_numpy(grad)
    return params


def _made(name: str, optimizer: Any, params: list[Any], settings: dict[str, Callable[[], object]]) -> Made:
    return name, optimizer.step, lambda: [param.detach().numpy() for param in params], settings


def torch_sides(name: str, start: list[np.ndarray], grads: list[np.ndarray], setup: Setup) -> Iterator[Made]:
    torch = setup.peers.get("torch")
    optimizer = getattr(torch.optim, name, None) if torch else None
    if optimizer is None:
        return
    settings = torch_settings(setup)
    for options in ({"fused": True}, {"foreach": True}, {"foreach": False}):
        with suppress(TypeError, RuntimeError):
            params = torch_parameters(torch, start, grads)
            made = optimizer(params, **options_of(name), **options)
            how = "fused" if "fused" in options else "foreach" if options["foreach"] else "single"
            yield _made("torch", made, params, {f"{how}, {threads}": set_to for threads, set_to in settings.items()})
            if "fused" in options:
                return


def _timm_sides(name: str, start: list[np.ndarray], grads: list[np.ndarray], setup: Setup) -> Iterator[Made]:
    timm = setup.peers.get("timm")
    forms: dict[str, dict[str, Any]] = {
        "LARS": {"trust_coeff": 0.001},
        "LAMB": {"trust_clip": True, "max_grad_norm": None},
    }
    options = forms.get(name)
    if timm and "torch" in setup.peers and options:
        params = torch_parameters(setup.peers["torch"], start, grads)
        made = getattr(timm, name.capitalize())(params, **{**options_of(name), **options})
        yield _made("timm", made, params, torch_settings(setup))


def _deepspeed_sides(name: str, start: list[np.ndarray], grads: list[np.ndarray], setup: Setup) -> Iterator[Made]:
    deepspeed = setup.peers.get("deepspeed")
    if deepspeed and "torch" in setup.peers and name in ("Adam", "AdamW"):
        params = torch_parameters(setup.peers["torch"], start, grads)
        decay = {"weight_decay": 1e-2 if name == "AdamW" else 0.0, "adamw_mode": name == "AdamW"}
        made = deepspeed.DeepSpeedCPUAdam(params, **options_of(name), **decay)
        yield _made("deepspeed", made, params, torch_settings(setup))


# optax's form of what the others do; of NAdam, LARS and LAMB it has another
OPTAX: dict[str, Callable[..., Any]] = {
    "SGD": lambda optax, h: optax.sgd(h["lr"], momentum=h["momentum"]),
    "Adagrad": lambda optax, h: optax.adagrad(h["lr"], initial_accumulator_value=0.0, eps=1e-20),
    "Adadelta": lambda optax, h: optax.adadelta(h["lr"], rho=0.9, eps=1e-6),
    "RMSprop": lambda optax, h: optax.rmsprop(h["lr"], decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "Adam": lambda optax, h: optax.adam(h["lr"]),
    "AdamW": lambda optax, h: optax.adamw(h["lr"], weight_decay=1e-2),
}


def _optax_sides(name: str, start: list[np.ndarray], grads: list[np.ndarray], setup: Setup) -> Iterator[Made]:
    """The update jitted as a whole, parameters and state given away to be written over."""
    jax, optax = setup.peers.get("jax"), setup.peers.get("optax")
    if not (jax and optax and name in OPTAX) or len(start) > len(TINY):  # 194 tensors compile for minutes
        return
    optimizer = OPTAX[name](optax, options_of(name))

    def update(params: Any, state: Any, gradients: Any) -> Any:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(update, donate_argnums=(0, 1))
    gradients = [jax.numpy.array(g) for g in grads]
    now = [params := [jax.numpy.array(p) for p in start], optimizer.init(params)]

    def call() -> None:
        now[:] = step(*now, gradients)
        jax.block_until_ready(now[0])

    yield "optax", call, lambda: now[0], {}


# ---- NumPy, as one would write it and in place --------------------------------------------------------------------


def _numpy_sides(name: str, start: list[np.ndarray], grads: list[np.ndarray], setup: Setup) -> Iterator[Made]:
    if "numpy" in setup.peers and sum(p.size for p in start) <= 2 * 10**7:  # more would take seconds a step
        yield _plain(name, start, grads)
        if name in IN_PLACE:
            yield _in_place(name, start, grads)


def _plain(name: str, start: list[np.ndarray], grads: list[np.ndarray]) -> Made:
    """The formula of the rule, on arrays."""
    opt = getattr(fo.optim, name)([p.copy() for p in start], **options_of(name))
    rules, done = [opt.rule_of_tensor(opt.groups[0], p.shape) for p in start], 0
    now = [[p.copy(), *(s.copy() for s in state.values())] for p, state in zip(start, opt.state.values(), strict=True)]

    def call() -> None:
        nonlocal done
        scalars = scalars_of(opt, done)
        done += 1
        for arrays, g, name in zip(now, grads, rules, strict=True):
            p, *state = arrays
            rule, h = RULES[name], RULES[name].scalars(*scalars[name])
            if rule.of_tensor:
                arrays[:] = update_of_tensor(rule, h, p, g, state, np.matmul)
                continue
            p, g = h.keep * p, g + h.l2 * p if h.l2 else g
            ratio = h
            if rule.direction is not None:
                direction, *state = rule.direction(h, p, g, *state)
                norms = [float(np.linalg.norm(x)) for x in (p, direction)]
                ratio = h._replace(trust_ratio=trust_ratio(h, *norms))
            arrays[:] = rule.update(ratio, p, g, *state)

    return "numpy, plain", call, lambda: [arrays[0] for arrays in now], {}


def _sgd(t, p, g, buffer, work, *, lr, momentum):
    np.multiply(buffer, momentum, buffer)
    np.add(buffer, g, buffer)
    np.multiply(buffer, lr, work)
    np.subtract(p, work, p)


def _adagrad(t, p, g, total, work, *, lr):
    np.multiply(g, g, work)
    np.add(total, work, total)
    np.sqrt(total, work)
    np.add(work, 1e-10, work)
    np.divide(g, work, work)
    np.multiply(work, lr, work)
    np.subtract(p, work, p)


def _rmsprop(t, p, g, square_avg, work, *, lr):
    np.multiply(g, g, work)
    np.multiply(work, 0.01, work)
    np.multiply(square_avg, 0.99, square_avg)
    np.add(square_avg, work, square_avg)
    np.sqrt(square_avg, work)
    np.add(work, 1e-8, work)
    np.divide(g, work, work)
    np.multiply(work, lr, work)
    np.subtract(p, work, p)


def _adam(t, p, g, exp_avg, exp_avg_sq, work, *, lr):
    np.multiply(g, 0.1, work)
    np.multiply(exp_avg, 0.9, exp_avg)
    np.add(exp_avg, work, exp_avg)
    np.multiply(g, g, work)
    np.multiply(work, 0.001, work)
    np.multiply(exp_avg_sq, 0.999, exp_avg_sq)
    np.add(exp_avg_sq, work, exp_avg_sq)
    np.multiply(exp_avg_sq, 1 / (1 - 0.999**t), work)
    np.sqrt(work, work)
    np.add(work, 1e-8, work)
    np.divide(exp_avg, work, work)
    np.multiply(work, lr / (1 - 0.9**t), work)
    np.subtract(p, work, p)


def _adamw(t, p, g, exp_avg, exp_avg_sq, work, *, lr):
    np.multiply(p, 1 - lr * 1e-2, p)
    _adam(t, p, g, exp_avg, exp_avg_sq, work, lr=lr)


# the function, and how many arrays it needs beside the parameter and its gradient
IN_PLACE: dict[str, tuple[Callable[..., None], int]] = {
    "SGD": (_sgd, 2),
    "Adagrad": (_adagrad, 2),
    "RMSprop": (_rmsprop, 2),
    "Adam": (_adam, 3),
    "AdamW": (_adamw, 3),
}


def _in_place(name: str, start: list[np.ndarray], grads: list[np.ndarray]) -> Made:
    function, count = IN_PLACE[name]
    options = options_of(name)
    arrays = [(p.copy(), g, *(np.zeros_like(p) for _ in range(count))) for p, g in zip(start, grads, strict=True)]
    t = 0

    def call() -> None:
        nonlocal t
        t += 1
        for each in arrays:
            function(t, *each, **options)

    return "numpy, in place", call, lambda: [each[0] for each in arrays], {}


# ---- clipping -----------------------------------------------------------------------------------------------------


def _clip_case(shapes: list[Shape], setup: Setup) -> Case:
    """The global norm of all gradients, then AdamW. PyTorch scales the gradients themselves, which stay clipped."""
    start, grads = problem(shapes)
    params = [p.copy() for p in start]
    opt = fo.optim.AdamW(params, lr=1e-2)
    last = shapes.index((768,))
    sides = [Side(FASTOPT, partial(opt.step, grads, clip_norm=1.0), lambda: [params[last] - start[last]],
                  fastopt_settings(setup))]  # fmt: skip
    if torch := setup.peers.get("torch"):
        theirs = torch_parameters(torch, start, [g.copy() for g in grads])
        adamw = torch.optim.AdamW(theirs, lr=1e-2, fused=True)

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(theirs, 1.0)
            adamw.step()

        sides.append(Side("torch", step, lambda: [theirs[last].detach().numpy() - start[last]], torch_settings(setup)))

    def reference() -> list[np.ndarray]:
        norm = sum(np.square(g, dtype=np.float64).sum() for g in grads) ** 0.5
        param = start[last].astype(np.float64)
        with _on_numpy():
            fo.optim.AdamW([param], lr=1e-2).step([grads[last].astype(np.float64) / norm])
        return [param - start[last]]

    bounds = _bounds(opt, params, grads)
    return Case(sum(p.size for p in start), sides, reference, bounds, tolerance=2e-3)


def _how_far(arrays: Callable[[], Sequence[Any]], start: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(a) - p for a, p in zip(arrays(), start, strict=True)]


def _format_case(form: str, check: Any, shape: Shape, setup: Setup) -> Case:
    """AdamW with its state in fewer bytes, beside PyTorch's with all of them."""
    start, grads = problem([shape])
    params = [p.copy() for p in start]
    opt = fo.optim.AdamW(params, lr=1e-2, state_format=form)
    call = partial(opt.step, grads, on_nonfinite=check)
    sides = [Side(FASTOPT, call, lambda: [params[0] - start[0]], fastopt_settings(setup))]
    for side in (_numpy_sides, torch_sides):
        for made, step, arrays, settings in side("AdamW", start, grads, setup):
            nothing: dict[str, Callable[[], object]] = {"": lambda: None}
            sides.append(Side(made, step, partial(_how_far, arrays, start), settings or nothing))
    reference = partial(exact_steps, "AdamW", start, grads, 1)
    return Case(shape[0], sides, reference, {}, 1, tolerance=2e-3)
