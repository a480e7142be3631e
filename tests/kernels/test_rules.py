"""The bitwise matrix: every rule of the registry, in every configuration, against the NumPy reference.

Registering a rule is enough for it to be tested here.
"""

import re

import numpy as np
import pytest
from helpers import CONFIGURATIONS, CSRC, DTYPES, HAVE_C, SIZES, bits, shifted, special_values, use

from fastopt import _backends
from fastopt._specification.rules import LARGE, RULES, SIGNED

PREPARE = ("grad_scale", "clip_value", "l2", "keep")
ELEMENTWISE = [name for name, rule in RULES.items() if not rule.of_tensor]
NEUTRAL = (1.0, np.inf, 0.0, 1.0)
NOT_NEUTRAL = (-0.7, 1.3, 0.09, 0.97)


def configurations(threads):
    """A mark: the configurations with so many threads."""
    chosen = [c for c in CONFIGURATIONS if c[2] in threads]
    ids = [f"{b}{i and '-'}{i}-{n}" for b, i, n in chosen]
    return pytest.mark.parametrize(("backend", "isa", "threads"), chosen, ids=ids)


EVERY_CONFIGURATION = configurations((1, 2, 3, 7))
ONE_AND_THREE_THREADS = configurations((1, 3))  # for every rule by itself; the driver cuts all of them alike


def scalars_of(rule, prepare, rng):
    """Finished scalars, all different: two that change places change the result."""
    limits = dict.fromkeys(("trust_floor", "smallest_step"), (0.01, 0.02))
    limits |= dict.fromkeys(("trust_cap", "largest_step"), (5, 6))
    own = RULES[rule].scalars._fields[len(PREPARE) :]
    return (*prepare, *(float(rng.uniform(*limits.get(name, (0.2, 0.9)))) for name in own))


class Problem:
    """Parameters, gradients and states for one plan: of each tensor its size, dtype, group and offset."""

    def __init__(self, rules, tensors, rng, special=True):
        self.rules = list(rules)
        self.groups = [group for _, _, group, _ in tensors]
        self.params, self.grads, self.states = [], [], []
        for size, dtype, group, offset in tensors:

            def array(extra, size=size, dtype=dtype, offset=offset):
                x = rng.standard_normal(size).astype(dtype)
                if special and size > 200:  # here and there
                    values = special_values(dtype)
                    values = values[np.abs(values) < LARGE[values.dtype]]  # or the step is refused
                    x[rng.integers(0, size, len(values))] = values
                return shifted(x, extra * offset)

            self.params.append(array(1))
            self.grads.append(array(2))
            # a state may be a sum of squares, under a root
            self.states.append(tuple(np.abs(array(3)) for _ in RULES[self.rules[group]].states))

    def run(self, backend, steps):
        """The bits of all parameters and states after each of ``steps``, which are lists of the groups' scalars."""
        params = [shifted_like(p) for p in self.params]
        grads = [shifted_like(g) for g in self.grads]
        states = [tuple(map(shifted_like, state)) for state in self.states]
        before = [bits(g) for g in grads]
        plan = _backends.load(backend).Plan(self.rules, params, states, self.groups)
        plan.bind_all(grads)
        results = []
        for scalars in steps:
            assert plan.update(scalars, True)
            results.append([[bits(x) for x in (p, *state)] for p, state in zip(params, states, strict=True)])
        assert [bits(g) for g in grads] == before, "a gradient was modified"
        return results


def shifted_like(x):
    """A copy of ``x`` as far from a cache line as ``x`` is."""
    address = x.__array_interface__["data"][0]
    buffer = np.empty(x.nbytes + 128, np.uint8)
    start = (address - buffer.__array_interface__["data"][0]) % 64
    copy = buffer[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def assert_same(expected, found, problem):
    for step, results in enumerate(zip(expected, found, strict=True), start=1):
        for i, (one, other) in enumerate(zip(*results, strict=True)):
            names = ("param", *RULES[problem.rules[problem.groups[i]]].states)
            wrong = [name for name, a, b in zip(names, one, other, strict=True) if a != b]
            param = problem.params[i]
            assert not wrong, f"step {step}: {wrong} of tensor {i}, size {param.size}, {param.dtype}"


_current = {}  # the problems of one test, with the reference's results: the same for every configuration


def compare(key, backend, make):
    """Run what ``make`` gives, problems and their steps, on the reference (once) and in the configuration in use."""
    if key not in _current:
        _current.clear()
        _current[key] = [(problem, steps, problem.run("numpy", steps)) for problem, steps in make()]
    for problem, steps, expected in _current[key]:
        assert_same(expected, problem.run(backend, steps), problem)


@ONE_AND_THREE_THREADS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_all_sizes_in_one_call(rule, dtype, backend, isa, threads):
    def make():
        rng = np.random.default_rng(1)
        sizes = (*SIZES, *SIZES[:-1], 0)  # an odd number and an even one: all but the largest at both offsets
        tensors = [(size, dtype, 0, i % 2) for i, size in enumerate(sizes)]
        yield Problem([rule], tensors, rng), [[scalars_of(rule, prepare, rng)] for prepare in (NEUTRAL, NOT_NEUTRAL)]

    use(backend, isa, threads)
    compare(("together", rule, dtype), backend, make)


@configurations((1,))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_each_size_by_itself(rule, dtype, backend, isa, threads):
    def make():
        for size in SIZES:
            for offset in (0, 1) if size < 8191 else (1,):
                rng = np.random.default_rng(size)
                yield Problem([rule], [(size, dtype, 0, offset)], rng), [[scalars_of(rule, NOT_NEUTRAL, rng)]]

    use(backend, isa, threads)
    compare(("alone", rule, dtype), backend, make)


@EVERY_CONFIGURATION
def test_groups_of_different_rules_and_dtypes_in_one_plan(backend, isa, threads):
    def make():
        rng = np.random.default_rng(2)
        rules = [*ELEMENTWISE, *ELEMENTWISE]
        tensors = [
            (int(size), DTYPES[i % 2], i % len(rules), i % 5)
            for i, size in enumerate(rng.choice([0, 1, 5, 64, 1000, 20_001], 7 * len(rules)))
        ]
        prepare = [NEUTRAL if i < len(ELEMENTWISE) else NOT_NEUTRAL for i in range(len(rules))]
        steps = [[*map(scalars_of, rules, prepare, [rng] * len(rules))] for _ in range(3)]
        yield Problem(rules, tensors, rng, special=False), steps

    use(backend, isa, threads)
    compare("groups", backend, make)


@EVERY_CONFIGURATION
def test_hundreds_of_tensors(backend, isa, threads):
    def make():
        rng = np.random.default_rng(3)
        tensors = [(int(size), np.float32, 0, 0) for size in rng.integers(0, 300, 400)]
        rule = next(iter(RULES))
        yield Problem([rule], tensors, rng), [[scalars_of(rule, NOT_NEUTRAL, rng)]]

    use(backend, isa, threads)
    compare("hundreds", backend, make)


@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_neutral_scalars_leave_the_bits_alone(rule, rng):
    """What every rule shares is not to cost a bit where it is not asked for."""
    p, g = special_values(np.float32), rng.standard_normal(32).astype(np.float32)
    h = RULES[rule].scalars(*map(np.float32, scalars_of(rule, NEUTRAL, rng)))
    kept, grad = _backends.load("numpy").prepare(h, p, g)
    assert kept.tobytes() == p.tobytes()
    assert grad.tobytes() == g.tobytes()


@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_every_scalar_and_state_matters(rule, rng):
    """Otherwise the matrix could not see two of them change places."""
    problem = Problem([rule], [(100, np.float64, 0, 0)], rng)
    h = scalars_of(rule, NOT_NEUTRAL, rng)
    expected = problem.run("numpy", [[h]])
    assert len(set(h)) == len(h)
    for i, field in enumerate(RULES[rule].scalars._fields):
        if field != "trust_ratio":  # which is computed
            changes = [[(*h[:i], factor * h[i], *h[i + 1 :])] for factor in (0.01, 1.1, 100)]
            assert any(problem.run("numpy", [change]) != expected for change in changes), field
    for k, name in enumerate(RULES[rule].states):
        factor = -1.1 if name in SIGNED else 1.1
        problem.states[0][k][...] *= factor
        assert problem.run("numpy", [[h]]) != expected, name
        problem.states[0][k][...] /= factor


@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_the_first_scalars_are_those_that_every_rule_shares(rule):
    assert RULES[rule].scalars._fields[: len(PREPARE)] == PREPARE


def structs():
    """The fields of every struct in csrc/kernels/rules.h, in order."""
    text = re.sub(r"/\*.*?\*/", "", (CSRC / "kernels" / "rules.h").read_text(), flags=re.DOTALL)
    found = re.findall(r"struct TYPED\((\w+)\) \{\s*real ([\w\s,;]+?);\s*\};", text)
    return {name: tuple(re.split(r"[\s,;]+(?:real )?", fields)) for name, fields in found}


def trust_fields():
    """The scalars of a trust ratio, in the order of the C struct."""
    fields = re.search(r"double (.*);\n\} trust;", (CSRC / "internal.h").read_text())[1]
    return tuple(f"trust_{field}" for field in fields.split(", "))


@pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests")
def test_the_c_rules_have_the_same_scalars_and_states():
    c_fields = structs()
    table = re.findall(
        r"^(TRUST_|TENSOR_)?RULE\((\w+), (\d+)\)", (CSRC / "kernels" / "rules.def").read_text(), flags=re.MULTILINE
    )
    assert {name: (int(states), kind) for kind, name, states in table} == {
        name: (len(rule.states), "TENSOR_" * rule.of_tensor + "TRUST_" * (rule.direction is not None))
        for name, rule in RULES.items()
    }
    assert c_fields.keys() == {"prepare", *RULES}
    for name, rule in RULES.items():
        trust = trust_fields() if rule.direction is not None else ()
        assert c_fields["prepare"] + c_fields[name] + trust == rule.scalars._fields, name


@pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests")
@pytest.mark.parametrize("rule", [name for name in RULES if RULES[name].states])
def test_the_c_rules_name_their_states_alike(rule):
    if rule.startswith("adafactor"):  # whose states are not those of one element
        return
    kinds = "direction" if RULES[rule].of_tensor else "(?:rule|moments)"
    function = rf"TYPED\({rule}_{kinds}\)\(struct TYPED\({rule}\) h,(?: real p,)? real g([^)]*)\)"
    arguments = re.search(function, (CSRC / "kernels" / "rules.h").read_text())[1]
    assert tuple(re.findall(r"real \*(\w+)", arguments)) == RULES[rule].states


@pytest.mark.skipif(not HAVE_C, reason="no C core in this installation")
def test_a_parameter_that_is_nan_leaves_the_same_state():
    """As after an overflow: not that the state is then worth much, but the backends are to agree."""

    def state(backend):
        h = dict.fromkeys(RULES["adam_amsgrad"].scalars._fields, 0.5)
        states = [np.ones(1) for _ in range(3)]
        plan = _backends.load(backend).Plan(["adam_amsgrad"], [np.array([np.nan])], [states], [0])
        plan.bind(0, np.ones(1))
        plan.update([tuple(h.values())], None)
        return [bits(s) for s in states]

    assert state("c") == state("numpy")


@pytest.mark.skipif(not HAVE_C, reason="no C core in this installation")
def test_the_compiled_table_of_rules():
    from fastopt._core import lib

    for name, rule in RULES.items():
        index = lib.fastopt_rule_index(name.encode())
        assert index >= 0
        assert lib.fastopt_rule_states(index) == len(rule.states)
        assert lib.fastopt_rule_scalars(index) == len(rule.scalars._fields)
    assert lib.fastopt_rule_index(b"no such rule") == -1


def test_a_gradient_that_is_not_finite_stops_the_update(backend, rng):
    for dtype in DTYPES:
        for size, where in ((1, 0), (33, 32), (100_003, 0), (100_003, 50_000), (100_003, 100_002)):
            for value in (np.inf, -np.inf, np.nan):
                p, empty = rng.standard_normal(size).astype(dtype), np.empty(0, dtype)
                g = np.ones(size, dtype)
                g[where] = value
                plan = _backends.active.Plan(["sgd"], [empty, p, empty], [()] * 3, [0] * 3)
                plan.bind(1, g)
                before = p.tobytes()
                assert plan.update([(1.0, np.inf, 0.0, 1.0, 0.1)], True) is False
                assert p.tobytes() == before
                assert _backends.active.any_nonfinite(g)
                assert not _backends.active.any_nonfinite(p)
                assert not _backends.active.any_nonfinite(empty)


@EVERY_CONFIGURATION
def test_square_sums(backend, isa, threads):
    """The sums behind clipping by norm: the same bits, and right."""

    def make():
        rng = np.random.default_rng(4)
        tensors = [(size, dtype, 0, i % 3) for dtype in DTYPES for i, size in enumerate(SIZES)]
        return Problem(["sgd"], tensors, rng)

    def sums(backend):
        problem = make()
        plan = _backends.load(backend).Plan(["sgd"], problem.params, problem.states, problem.groups)
        for grad in problem.grads:
            np.clip(grad, -1e15, 1e15, out=grad)  # or the sum is inf
        plan.bind_all(problem.grads)
        return plan.grad_square_sums(), problem.grads

    use(backend, isa, threads)
    found, grads = sums(backend)
    expected, _ = sums("numpy")
    assert [s.hex() for s in found] == [s.hex() for s in expected]
    np.testing.assert_allclose(found, [float(np.sum(np.square(g, dtype=np.longdouble))) for g in grads], rtol=1e-14)
