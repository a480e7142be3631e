"""Programs: what a list of instructions does, in one call or one by one."""

import re

import numpy as np
import pytest
from helpers import CSRC, HAVE_C
from variants import assert_all_agree, assert_same_bits

import fastopt as fo
from fastopt import _backends
from fastopt._backends.program import Call, Moving, Stopped
from fastopt._specification.arithmetic import ARITHMETIC, NUMBER
from fastopt._specification.kernels import ACTIVATIONS, ELEMENTWISE, KERNELS, OF_PAIRS, WITH_NUMBER


@pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests")
def test_the_kernels_are_those_of_the_core():
    text = (CSRC / "kernels" / "kernels.def").read_text().partition("#define ACTIVATION(name)")[2]
    found = {kind: re.findall(rf"^{kind}\((\w+)", text, re.MULTILINE)
             for kind in ("UNARY", "BINARY", "ACTIVATION", "KERNEL", "VALUE", "LOSS", "STEP")}  # fmt: skip
    with_number = re.findall(r"^(?:ACTIVATION|LOSS)_WITH\((\w+)", text, re.MULTILINE)
    assert set(with_number) == set(WITH_NUMBER)
    found["ACTIVATION"] += [name for name in with_number if name in ACTIVATIONS]
    found["LOSS"] += [name for name in with_number if name in OF_PAIRS]
    assert set(found["ACTIVATION"]) == set(ACTIVATIONS)
    pairs = [each for name in found["ACTIVATION"] for each in (name, f"{name}_backward")]
    assert {*found["UNARY"], *found["BINARY"], *pairs} == set(ELEMENTWISE)
    assert set(found["LOSS"]) == set(OF_PAIRS)
    assert {*ELEMENTWISE, *found["KERNEL"], *found["VALUE"], *found["LOSS"]} == set(KERNELS)
    assert found["STEP"] == ["pins_unchanged", "step"]
    loops = (CSRC / "kernels" / "activation.inc").read_text() + (CSRC / "kernels" / "loss.inc").read_text()
    for made in (*(f"ELEMENTWISE({name}_loop," for name in ACTIVATIONS), *(f"LOSS({name}," for name in OF_PAIRS),
                 *(f"BACKWARD({name}_backward," for name in ACTIVATIONS)):  # fmt: skip
        assert made in loops


def test_instructions_calls_and_moving_arrays(backend):
    active = _backends.active
    x, y, log = np.arange(24, dtype=np.float32).reshape(3, 2, 4), np.zeros((2, 4), np.float32), []
    out = np.zeros((3, 2, 4), np.float32)
    total = active.bind("add_up", (y,))
    scaled = active.bind("dropout", (y, y), (0, 0, 0, 0, 2.0))
    program = active.Program(
        [active.bind("copy", (Moving(x), y)), scaled, Call(lambda: log.append(y.copy())),
         active.bind("add", (y, Moving(x), Moving(out))), total]
    )  # fmt: skip
    for step in (2, 0, 1):
        program(step)
        np.testing.assert_array_equal(log[-1], 2 * x[step])
        np.testing.assert_array_equal(out[step], 3 * x[step])
        assert total.result == 2 * x[step].sum()
    scaled.set(0, 0, 0, 0, 3.0)
    program(1)
    np.testing.assert_array_equal(y, 3 * x[1])
    assert total() == 3 * x[1].sum()


def test_what_ends_a_program(backend):
    """A step whose gradients are not finite: what comes after it is not run."""
    active = _backends.active
    p, grad, after = np.ones(4, np.float32), np.ones(4, np.float32), np.zeros(4, np.float32)
    plan = active.Plan(["sgd"], [p], [[]], [0])
    plan.bind(0, grad)
    scalars = [(1.0, np.inf, 0.0, 1.0, 0.5)]
    step = plan.instruction()
    step.set(0, False, 1.0, np.inf, 0.0)
    program = active.Program([step, active.bind("add", (after, p, after))])
    plan.prepare(scalars)
    program()
    np.testing.assert_array_equal(p, 0.5)
    np.testing.assert_array_equal(after, 0.5)
    grad[2] = np.nan
    with pytest.raises(Stopped):
        program()
    np.testing.assert_array_equal(after, 0.5)
    np.testing.assert_array_equal(p, 0.5)
    assert plan.counts[0] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_average_of_several_arrays(dtype, backend, rng):
    """Of NumPy's own operations; the first time, also of -0 and NaN, the arrays as they are."""
    arrays = [rng.standard_normal(n).astype(dtype) for n in (3, 20000)]
    averages, steps, share = [np.zeros_like(x) for x in arrays], np.zeros(1, np.int64), 1.0 - 0.9
    program = _backends.active.Program(_backends.active.bind_average(averages, arrays, steps, share))
    arrays[0][:2] = -0.0, np.nan
    program()
    assert [a.tobytes() for a in averages] == [x.tobytes() for x in arrays]
    for _ in range(2):
        arrays[0][:2] = 1.0, np.nan
        expected = [a + dtype(share) * (x - a) for a, x in zip(averages, arrays, strict=True)]
        program()
        assert [a.tobytes() for a in averages] == [x.tobytes() for x in expected]
    assert steps[0] == 3


@pytest.mark.skipif(not HAVE_C, reason="there is no C core")
def test_rows_of_data_that_is_no_longer_there_are_not_read():
    fo.set_backend("c")
    data, order, x = np.arange(12.0).reshape(4, 3), np.array([[3, 1], [0, 2]]), np.zeros((2, 3), np.float32)
    program = _backends.active.Program(_backends.active.bind_gather(data, Moving(order), x))
    program(0)
    np.testing.assert_array_equal(x, data[[3, 1]])
    program(1)
    np.testing.assert_array_equal(x, data[[0, 2]])
    with pytest.raises(ValueError, match="cannot resize"):
        data.resize(2, 3, refcheck=False)
    data.resize((12, 1), refcheck=False)  # in place
    with pytest.raises(Stopped):
        program(0)
    np.testing.assert_array_equal(x, np.arange(12.0).reshape(4, 3)[[0, 2]])


def operands(dtype):
    """Arrays in one piece and apart, repeated along axes, of few and of many elements, with the result to write to."""
    rng = np.random.default_rng(0)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, np.finfo(dtype).max, 5e-324, 1e-40], dtype)
    yield np.repeat(edges, 10), np.tile(edges, 10), np.empty(100, dtype)
    for shape, (a, b) in [
        ((40, 700), ((40, 700), (40, 700))), ((40, 700), ((40, 1), (700,))), ((40, 700), ((700,), ())),
        ((20_001,), ((20_001,), (1,))), ((5, 3, 7), ((5, 1, 7), (3, 1))), ((2, 0), ((1, 0), (2, 1))), ((), ((), ())),
    ]:  # fmt: skip
        yield rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype), np.empty(shape, dtype)
    wide = rng.standard_normal((30, 14, 50)).astype(dtype)
    yield wide[::2, ::-1, 1::3].T, wide[::-2, :, 0].T, np.zeros((34, 14, 15), dtype)[::2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic_of_arrays_that_lie_apart(dtype):
    def compute():
        results = []
        for a, b, out in operands(dtype):
            for name, number in NUMBER.items():
                _backends.active.arithmetic(a, b if number >= NUMBER["add"] else None, out, number)
                inputs = [a, b] if number >= NUMBER["add"] else [a]
                expected = ARITHMETIC[name](*(np.broadcast_to(x, out.shape) for x in inputs))
                assert_same_bits(out, np.asarray(expected, dtype), name)
                results.append(out.copy())
        return results

    with np.errstate(all="ignore"):
        assert_all_agree(compute)


@pytest.mark.parametrize("shape", [(3, 5), (2, 20_000), (5000, 7), (1, 8192), (4, 0), (0, 4)], ids=str)
def test_sums_of_rows(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def compute():
        sums = np.empty(len(x), np.float32)
        _backends.active.row_sums(x, sums)
        return (sums,)

    (sums,) = assert_all_agree(compute)
    np.testing.assert_allclose(sums, x.sum(axis=1, dtype=np.float64), rtol=1e-6)


@pytest.mark.skipif(not CSRC.exists(), reason="csrc/ is not beside the tests")
def test_the_operations_have_the_cores_numbers():
    text = re.split(r"enum \{\s*FASTOPT_ASSIGN", (CSRC / "fastopt.h").read_text())[1].partition("}")[0]
    assert re.findall(r"FASTOPT_(\w+)", f"FASTOPT_ASSIGN{text}") == [name.upper() for name in ARITHMETIC]
