"""Dropout: the generator against its paper's answers and big integers, and the masks it makes."""

from itertools import pairwise

import numpy as np
import pytest
from variants import assert_all_agree, misaligned

import fastopt as fo
from fastopt._specification import philox

WORD = (1 << 32) - 1


def philox_in_integers(counter, key):
    """Philox 4x32-10 from its definition, in Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & WORD, (p0 >> 32) ^ c[3] ^ k[1], p0 & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


# Random123's kat_vectors
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([WORD] * 4, [WORD] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_the_generator_gives_the_known_answers(counter, key, expected):
    assert philox_in_integers(counter, key) == expected
    words = philox.philox4x32(*(np.uint64(word) for word in (*counter, *key)))
    assert [int(word) for word in words] == expected


def test_masks_follow_from_the_definition():
    seed, draw, position, p = 0x0123456789ABCDEF, 0xFEDCBA9876543210, (1 << 34) + 37, 0.3
    y = fo.dropout(np.ones(300), p, seed=seed, draw=draw, position=position)
    for i, value in enumerate(y):
        group, at = divmod(position + i, 64)
        counter = group * 16 + at % 16
        words = philox_in_integers((counter & WORD, counter >> 32, draw & WORD, draw >> 32), (seed & WORD, seed >> 32))
        assert (value == 0) == (words[at // 16] < round(p * 2**32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 200, 8191, 20011])
def test_bits_are_the_same_everywhere(size, dtype):
    x = np.random.default_rng(0).standard_normal(size).astype(dtype)
    if size > 2:
        x[:3] = np.inf, -np.inf, np.nan

    def compute(place=np.copy):
        return tuple(
            fo.dropout(place(x), p, seed=seed, draw=5, position=position)
            for p, seed, position in [(0.5, 0, 0), (0.1, 2**64 - 1, 77), (0.999, 3, 2**40 + 5), (1e-12, 4, 64)]
        )

    expected = assert_all_agree(compute)
    for result, again in zip(expected, compute(misaligned), strict=True):
        np.testing.assert_array_equal(result, again)


def test_pieces_make_up_the_whole():
    x = np.random.default_rng(1).standard_normal(1000)
    whole = fo.dropout(x, 0.4, seed=7, draw=2)
    cuts = [0, 1, 64, 130, 131, 500, 1000]
    parts = [fo.dropout(x[a:b], 0.4, seed=7, draw=2, position=a) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(fo.dropout(x.reshape(20, 50), 0.4, seed=7, draw=2), whole.reshape(20, 50))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_and_the_scale(p):
    n = 1_000_000
    y = fo.dropout(np.ones(n, np.float32), p, seed=11)
    kept = y != 0
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
    np.testing.assert_array_equal(y[kept], np.float32(1 / (1 - p)))
    for lag in (1, 16, 64):  # neighbours, and elements of the same counter, are independent
        assert abs(np.corrcoef(kept[:-lag], kept[lag:])[0, 1]) < 5 / np.sqrt(n)


def test_seeds_and_draws_make_different_masks():
    masks = [fo.dropout(np.ones(64), seed=seed, draw=draw) for seed in (0, 1, 2**32) for draw in (0, 1, 2**32)]
    assert len({mask.tobytes() for mask in masks}) == 9


def test_backward_is_the_same_mask():
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((2, 500))
    arguments = {"p": 0.3, "seed": 9, "draw": 4}
    dx = fo.dropout_backward(dy, **arguments)
    np.testing.assert_array_equal(dx != 0, fo.dropout(x, **arguments) != 0)
    numerical = (fo.dropout(x + 0.5, **arguments) - fo.dropout(x - 0.5, **arguments)) * dy  # linear: any step will do
    np.testing.assert_allclose(dx, numerical, rtol=1e-12)
    out = dy.copy()
    assert fo.dropout_backward(out, **arguments, out=out) is out
    np.testing.assert_array_equal(out, dx)


def test_nothing_everything_and_evaluation():
    x = np.array([1.0, np.inf, np.nan, -0.0])
    np.testing.assert_array_equal(fo.dropout(x, 0.0, seed=0), x)
    np.testing.assert_array_equal(fo.dropout(x, 0.9, seed=0, training=False), x)
    np.testing.assert_array_equal(fo.dropout(x, 1.0, seed=0), np.zeros(4))
    assert fo.dropout(x, 0.0, seed=0) is not x
    assert fo.dropout(x, 0.9, seed=0, training=False, out=x) is x
    np.testing.assert_array_equal(fo.dropout(np.full(9, np.nan), 1 - 1e-12, seed=0), np.zeros(9))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"p": -0.1}, ValueError, "p must be a finite number"),
        ({"p": 1.1}, ValueError, "p must be from 0 to 1, not 1.1"),
        ({"p": "1"}, TypeError, "p must be a number, not str"),
        ({"seed": -1}, ValueError, r"seed must be from 0 to 2\*\*64 - 1, not -1"),
        ({"seed": None}, TypeError, "seed must be an int, not NoneType"),
        ({"draw": 2**64}, ValueError, "draw must be from 0"),
        ({"position": 0.5}, TypeError, "position must be an int, not float"),
        ({"x": [1.0]}, TypeError, "x must be a plain numpy.ndarray, not list"),
        ({"out": np.zeros(3, np.float32)}, TypeError, "out is float32, x is float64"),
        ({"out": np.zeros(4)}, ValueError, r"out has shape \(4,\), x has \(3,\)"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(change, error, message):
    out = np.full(3, 7.0)
    with pytest.raises(error, match=message):
        fo.dropout(**{"x": np.ones(3), "seed": 0, "out": out, **change})
    assert (out == 7).all()
