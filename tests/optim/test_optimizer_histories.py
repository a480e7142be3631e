"""Random histories of random optimizers, found by hypothesis: whatever is asked of an optimizer, and in whatever order,
the backends stay in step to the bit, and a step that is refused changes nothing.

A few histories run by default, many of them with: pytest -m slow
"""

import inspect
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers import BACKENDS, DTYPES, OPTIMIZERS, bits, shifted
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import fastopt as fo

SHAPES = [(), (0,), (1,), (3,), (17,), (4, 0), (5, 7), (1, 33), (8193,)]
LARGE = [(3, 11_000)]  # goes to the pool


def number(*values):
    """One of some values, or a schedule that alternates between two of them."""
    fixed = st.sampled_from(values)
    return fixed | st.builds(lambda a, b: Alternating((a, b)), fixed, fixed)


class Alternating(tuple):
    """A schedule that prints as what it does."""

    def __call__(self, step):
        return self[step % 2]


fraction, yes_or_no = number(0.0, 0.5, 0.9, 1.0), st.booleans()
# What every hyperparameter may be. That a new one stands here as well is a test's concern (below).
HYPERPARAMETERS = {
    "alpha": fraction,
    "always_adapt": yes_or_no,
    "amsgrad": st.sampled_from([False, True, "corrected"]),
    "beta2_decay": number(-0.8, 0.0, -2.0),
    "betas": number((0.9, 0.999), (0.0, 0.5), (0.5, 0.0)),
    "bias_correction": st.sampled_from([True, False, "exp_avg", "exp_avg_sq"]),
    "centered": yes_or_no,
    "d": number(1.0, 3.0),
    "dampening": number(0.0, 0.1, 1.0),
    "denominator": st.sampled_from(["separate", "sum"]),
    "eps": number(1e-8, 1e-3),
    "eps_hat": yes_or_no,
    "eps_outside": yes_or_no,
    "eps_root": number(0.0, 1e-6),
    "etas": number((0.5, 1.2), (0.1, 3.0)),
    "factored": yes_or_no,
    "grad_averaging": yes_or_no,
    "initial_accumulator_value": st.sampled_from([0.0, 0.1]),
    "initial_square_avg": st.sampled_from([0.0, 1.0]),
    "lambd": number(0.0, 1e-4, 1.0),
    "lr": number(0.0, 1e-3, 0.1, 3.0),
    "lr_decay": number(0.0, 0.1),
    "lr_in_buffer": yes_or_no,
    "maximize": yes_or_no,
    "momentum": number(0.9, 1.0, 0.0),
    "momentum_decay": st.sampled_from([None, 4e-3, 1.0]),
    "mu_product": st.sampled_from(["float32", "float64", "beta1"]),
    "nesterov": yes_or_no,
    "param_rounding": st.sampled_from(["stochastic", "kahan", "nearest"]),
    "r": st.sampled_from([0.0, 1.0]),
    "rectify": yes_or_no,
    "rho": fraction,
    "state_format": st.sampled_from(["float32", "bfloat16", "8bit"]),
    "state_rounding": st.sampled_from(["stochastic", "nearest"]),
    "state_seed": st.sampled_from([0, 2**64 - 1]),
    "step_sizes": number((1e-6, 50.0), (0.0, 0.1)),
    "t0": number(1e6, 2.0, 0.0),
    "trust_coefficient": number(1e-3, 1.0, 0.0),
    "trust_clip": st.sampled_from([None, False, True, 1.0, 10.0]),
    "warmup_steps": st.sampled_from([0, 3]),
    "weight_decay": number(0.0, 1e-2, 0.5),
    "weight_decay_mode": st.sampled_from(["l2", "decoupled", "independent", "direction"]),
    "weight_lr_power": st.sampled_from([0.0, 2.0]),
}

# What means something else in one optimizer than in the others.
OF_ONE = {
    "Adafactor": {"eps": number((None, 1e-3), (1e-3, 0.0), (1e-30, 1.0))},
    "Adan": {
        "beta2_decay": number(-0.8, 0.0, -2.0),
        "betas": number((0.98, 0.92, 0.99), (0.0, 0.5, 0.9), (0.5, 0.0, 0.0)),
        "weight_decay_mode": st.sampled_from(["l2", "decoupled", "independent", "proximal"]),
    },
}


def hyperparameters_of(name):
    return [h for h in inspect.signature(getattr(fo.optim, name)).parameters if h != "params"]


def test_every_hyperparameter_has_values():
    assert {h for name in OPTIMIZERS for h in hyperparameters_of(name)} == set(HYPERPARAMETERS)


def compatible(hyperparameters):
    """Nesterov's momentum needs a momentum, and neither it nor lr_in_buffer goes with dampening."""
    if hyperparameters.get("nesterov"):
        hyperparameters["momentum"] = 0.9
    if hyperparameters.get("nesterov") or hyperparameters.get("lr_in_buffer"):
        hyperparameters.pop("dampening", None)
    return hyperparameters


clipping = st.sampled_from(
    [{}, {"clip_norm": 1e-3}, {"clip_norm": 1.0}, {"clip_norm": math.inf}, {"clip_norm_per_tensor": 1.0}]
)
scaling = st.sampled_from(
    [
        {},
        {"grad_scale": -1.0},
        {"grad_scale": 1 / 1024},
        {"grad_scale": 0.0},
        {"grad_scale": 1e30},
        {"clip_value": 1e-3},
    ]
)
on_nonfinite = st.sampled_from([{"on_nonfinite": "raise"}, {"on_nonfinite": "skip"}])
step_options = st.builds(
    lambda *options: {k: v for o in options for k, v in o.items()}, clipping, scaling, on_nonfinite
)
what_is_wrong = st.sampled_from(["shape", "dtype", "missing", "too many", "option", "two options"])


class Histories(RuleBasedStateMachine):
    """One optimizer in every backend, over parameters of its own."""

    def __init__(self, name, shapes):
        super().__init__()
        self.name, self.shapes = name, shapes

    @initialize(data=st.data(), seed=st.integers(0, 2**32))
    def make(self, data, seed):
        rng = np.random.default_rng(seed)
        values = {**HYPERPARAMETERS, **OF_ONE.get(self.name, {})}
        allowed = {h: values[h] for h in hyperparameters_of(self.name)}
        drawn = st.fixed_dictionaries({}, optional=allowed).map(compatible)
        self.groups = []
        for _ in range(data.draw(st.integers(1, 2), label="groups")):
            hyperparameters = data.draw(drawn, label="hyperparameters")
            dtypes = DTYPES if hyperparameters.get("state_format", "float32") == "float32" else [np.float32]
            tensors = data.draw(
                st.lists(
                    st.tuples(st.sampled_from(self.shapes), st.sampled_from(dtypes), st.integers(0, 3)), max_size=4
                )
            )
            names = [f"p{len(self.groups)}.{i}" for i in range(len(tensors))]
            params = {
                n: shifted(np.asarray(rng.standard_normal(s), t), by)
                for n, (s, t, by) in zip(names, tensors, strict=True)
            }
            self.groups.append((params, hyperparameters))
        self.optimizers = {}
        try:
            for backend in BACKENDS:
                self.put(backend)
        except (ValueError, TypeError):  # nesterov without momentum and the like, which is the business of other tests
            assume(False)

    def put(self, backend):
        """A new optimizer, over copies of the parameters."""
        now = fo.get_backend()
        fo.set_backend(backend)
        try:
            params = [{n: shifted(p, i % 3) for i, (n, p) in enumerate(group.items())} for group, _ in self.groups]
            groups = [{"params": p, **h} for p, (_, h) in zip(params, self.groups, strict=True)]
            self.optimizers[backend] = (
                getattr(fo.optim, self.name)(groups),
                {n: p for group in params for n, p in group.items()},
            )
        finally:
            fo.set_backend(now)

    def gradients(self, seed, size):
        _, params = self.optimizers[BACKENDS[0]]
        rng = np.random.default_rng(seed)
        return {n: np.asarray(size * rng.standard_normal(p.shape), p.dtype) for n, p in params.items()}

    def everything(self, backend):
        opt, params = self.optimizers[backend]
        arrays = [*params.values(), *(s for state in opt.state.values() for s in state.values())]
        return [bits(x) for x in arrays], opt.step_count, opt.skipped_steps

    def all_step(self, grads, options):
        """What every backend's step raised, or None."""
        raised = set()
        for backend in BACKENDS:
            opt, _ = self.optimizers[backend]
            before = self.everything(backend)
            given = {n: g.copy() if isinstance(g, np.ndarray) else g for n, g in grads.items()}
            try:
                opt.step(given, **options)
                raised.add(None)
            except (ValueError, TypeError, FloatingPointError) as error:
                raised.add((type(error), str(error)))
                assert self.everything(backend) == before, f"{backend}: a refused step changed something"
            for n, g in grads.items():
                assert not isinstance(g, np.ndarray) or bits(given[n]) == bits(g), f"gradient {n} was modified"
        assert len(raised) == 1, f"the backends disagree: {raised}"
        return raised.pop()

    @rule(seed=st.integers(0, 2**32), size=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e4]), options=step_options)
    def step(self, seed, size, options):
        raised = self.all_step(self.gradients(seed, size), options)
        assert raised is None or raised[0] is not TypeError

    @rule(data=st.data(), value=st.sampled_from([math.nan, math.inf, -math.inf]), options=step_options)
    def step_with_a_gradient_that_is_not_finite(self, data, value, options):
        grads = self.gradients(0, 1.0)
        filled = [n for n, g in grads.items() if g.size]
        assume(filled)
        n = data.draw(st.sampled_from(filled))
        grads[n].reshape(-1)[data.draw(st.integers(0, grads[n].size - 1))] = value
        before = [self.everything(backend) for backend in BACKENDS]
        raised = self.all_step(grads, options)
        for backend, (arrays, done, skipped) in zip(BACKENDS, before, strict=True):
            assert self.everything(backend) == (arrays, done, skipped + (raised is None))
        assert raised is not None or options["on_nonfinite"] == "skip"

    @rule(data=st.data(), what=what_is_wrong)
    def step_that_is_wrong(self, data, what):
        grads, options = self.gradients(0, 1.0), {}
        assume(grads)
        n = data.draw(st.sampled_from(sorted(grads)))
        if what == "shape":
            grads[n] = np.zeros((*grads[n].shape, 2), grads[n].dtype)
        elif what == "dtype":
            grads[n] = grads[n].astype(np.float16)
        elif what == "missing":
            del grads[n]
        elif what == "too many":
            grads["unknown"] = np.zeros(3)
        elif what == "option":
            options = {"clip_value": -1.0}
        else:
            options = {"clip_norm": 1.0, "clip_norm_per_tensor": 1.0}
        assert self.all_step(grads, options)[0] in (ValueError, TypeError)

    @rule(where=st.permutations(BACKENDS), by_file=st.booleans())
    def save_and_go_on_elsewhere(self, where, by_file):
        """Every backend goes on from what another saved, over new arrays."""
        saved = {}
        for backend in BACKENDS:
            opt, params = self.optimizers[backend]
            saved[backend] = {"state": opt.state_dict(), "params": {n: p.copy() for n, p in params.items()}}
            if by_file:
                with tempfile.TemporaryDirectory() as folder:
                    fo.save(Path(folder, "state"), saved[backend])
                    saved[backend] = fo.load(Path(folder, "state"))
        for backend, other in zip(BACKENDS, where, strict=True):
            self.put(backend)
            opt, params = self.optimizers[backend]
            for n, p in params.items():
                p[...] = saved[other]["params"][n]
            opt.load_state_dict(saved[other]["state"])

    @rule(lr=st.sampled_from([0.0, 0.01, 1.0]))
    def set_the_learning_rate(self, lr):
        for opt, _ in self.optimizers.values():
            opt.lr = lr

    @rule(count=st.sampled_from([0, 1, 1000, 10**6]))
    def set_the_step_count(self, count):
        for opt, _ in self.optimizers.values():
            opt.step_count = count

    @rule(isa=st.sampled_from(fo.instruction_sets() or [None]), threads=st.integers(1, 3))
    def change_what_runs(self, isa, threads):
        if isa:
            fo.set_instruction_set(isa)
            fo.set_num_threads(threads)

    @invariant()
    def the_backends_are_in_step(self):
        first = self.everything(BACKENDS[0])
        of_first = self.optimizers[BACKENDS[0]][0]
        for backend in BACKENDS[1:]:
            opt, _ = self.optimizers[backend]
            assert self.everything(backend) == first, f"{backend} differs from {BACKENDS[0]}"
            assert opt.grad_norm == of_first.grad_norm
            assert opt.trust_ratios == of_first.trust_ratios


NO_LIMIT = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_some_histories(name):
    few = settings(max_examples=5, stateful_step_count=12, derandomize=True, **NO_LIMIT)
    run_state_machine_as_test(lambda: Histories(name, SHAPES), settings=few)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_histories(name):
    many = settings(max_examples=150, stateful_step_count=30, print_blob=True, **NO_LIMIT)
    run_state_machine_as_test(lambda: Histories(name, SHAPES + LARGE), settings=many)
