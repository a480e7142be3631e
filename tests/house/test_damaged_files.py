"""State files that are damaged or made up: `fastopt.load` gives what was saved or raises ValueError, and
`load_state_dict` takes over a state or raises TypeError or ValueError and leaves the optimizer as it was. Nothing else,
however the bytes lie, and no more memory than the file is large.

A few hundred files run by default, many more with: pytest -m slow
"""

import copy
import io
import json
import pickle
import resource
import struct
import sys
import warnings
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from helpers import run_python
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fastopt as fo

SETTINGS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
FEW = settings(max_examples=150, derandomize=True, **SETTINGS)
MANY = settings(max_examples=20_000, print_blob=True, **SETTINGS)


def an_optimizer():
    params = {"w": np.linspace(-1, 1, 6).reshape(2, 3), "b": np.ones(3, np.float32)}
    return fo.optim.Adam(params, lr=0.5, weight_decay=0.25)


def stepped():
    opt = an_optimizer()
    opt.step({"w": np.ones((2, 3)), "b": np.ones(3, np.float32)})
    return opt


STATE = stepped().state_dict()


def content(opt):
    return repr(opt.state_dict())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "state"
    fo.save(path, STATE)
    return path.read_bytes()


def load_bytes(data, tmp_path):
    """What `load` makes of a file; None if it is refused."""
    path = tmp_path / "file"
    path.write_bytes(data)
    with warnings.catch_warnings(), suppress(ValueError):
        warnings.simplefilter("ignore")  # zipfile's, of two names that are the same
        return fo.load(path)
    return None


def check_loading(state):
    """The optimizer is as it was or as the state says."""
    opt = an_optimizer()
    before = content(opt)
    try:
        opt.load_state_dict(state)
    except (TypeError, ValueError):
        assert content(opt) == before, "half of it was loaded"
        return
    assert opt.step_count == state["step_count"]
    for name, of_name in state["state"].items():
        for key, array in of_name.items():
            assert opt.state[name][key].tobytes() == np.asarray(array).tobytes()
    with suppress(FloatingPointError):  # of a rate or a decay of 2**70, say
        for _ in range(2):
            opt.step({"w": np.zeros((2, 3)), "b": np.zeros(3, np.float32)})
    assert all(np.isfinite(p).all() for p in opt._params)


# ---- damaged files --------------------------------------------------------------------------------


def damaged(whole, cut, flips, moved):
    """The file cut short, with some bits flipped and some bytes moved."""
    data = bytearray(whole[: len(whole) - cut])
    for at, bit in flips:
        if at < len(data):
            data[at] ^= 1 << bit
    for to, start, length in moved:
        data[to : to + length] = data[start : start + length]
    return bytes(data)


def places(limit):
    return st.integers(0, limit)


DAMAGE = {
    "cut": st.just(0) | places(4000),
    "flips": st.lists(st.tuples(places(4000), st.integers(0, 7)), max_size=4),
    "moved": st.lists(st.tuples(places(4000), places(4000), places(64)), max_size=2),
}


def check_damaged(whole, tmp_path, cut, flips, moved):
    loaded = load_bytes(damaged(whole, cut, flips, moved), tmp_path)
    if loaded is not None:
        check_loading(loaded)


test_damaged_files = FEW(given(**DAMAGE)(check_damaged))
test_many_damaged_files = pytest.mark.slow(MANY(given(**DAMAGE)(check_damaged)))


def test_every_byte_wrong_in_turn(whole, tmp_path):
    """Most of all in the directory of the archive, which has no checksum."""
    same, expected = 0, repr(load_bytes(whole, tmp_path))
    directory = whole.rindex(b"PK\x01\x02")
    for at in [*range(0, len(whole), 7), *range(directory, len(whole))]:
        for flipped in (0x01, 0x80, 0xFF):
            data = bytearray(whole)
            data[at] ^= flipped
            loaded = load_bytes(bytes(data), tmp_path)
            if loaded is not None:
                assert repr(loaded) == expected, f"byte {at} ^ {flipped:#x} went unnoticed"
                same += 1
    assert same < len(whole)  # dates and the like, which mean nothing to us


@FEW
@given(st.binary(max_size=400))
@example(b"")
@example(b"\x93NUMPY\x01\x00")
@example(b"PK\x05\x06" + bytes(18))
def test_any_bytes(tmp_path, data):
    assert load_bytes(data, tmp_path) is None


# ---- files that somebody made ---------------------------------------------------------------------


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape, descr="<f8"):
    """The beginning of an array that is said to have this shape."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(members, tree, compression=zipfile.ZIP_STORED, form="fastopt 1", more=0):
    """A file with these members, as pairs of name and content, and this tree; the last is said to have more bytes."""
    buffer = io.BytesIO()
    text = tree if isinstance(tree, str) else json.dumps({"format": form, "tree": tree})
    with zipfile.ZipFile(buffer, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in [("fastopt.npy", npy(np.array(text))), *members]:
            file.writestr(name, data)
        file.filelist[-1].file_size += more
    return buffer.getvalue()


class Bomb:
    def __reduce__(self):
        return (sys.exit, ("the pickle was run",))


X = npy(np.arange(3.0))
ONE = {"array": "x"}
MADE_UP = {
    "a pickle": pickle.dumps(Bomb()),
    "a pickle in an array": archive([("x.npy", npy(np.array([Bomb()], object)))], ONE),
    "a pickle instead of an array": archive([("x.npy", pickle.dumps(Bomb()))], ONE),
    "a huge shape": archive([("x.npy", header((10**13,)) + bytes(24))], ONE),
    "a huge shape and size": archive([("x.npy", header((10**13,)) + bytes(24))], ONE, more=8 * 10**13 - 24),
    "a shape beyond 64 bits": archive([("x.npy", header((2**40, 2**40)) + bytes(24))], ONE),
    "a negative shape": archive([("x.npy", header((-1,)) + bytes(24))], ONE),
    "a shape too small": archive([("x.npy", header((2,)) + bytes(24))], ONE),
    "no such dtype": archive([("x.npy", header((3,), "<f7") + bytes(24))], ONE),
    "no header": archive([("x.npy", b"\x93NUMPY\x01\x00\xff\xff")], ONE),
    "a header of minus signs": archive([("x.npy", b"\x93NUMPY\x01\x00\x1c\x25" + b"-" * 9500)], ONE),
    "a number that is none": archive([], {"dict": {"x": {"number": ["|O", "00"]}}}),
    "a number cut short": archive([], {"dict": {"x": {"number": ["<f8", "00"]}}}),
    "an entry of no kind": archive([], {"dict": {"x": {"set": []}}}),
    "a header that is no dict": archive([("x.npy", b"\x93NUMPY\x01\x00\x04\x00[1]\n")], ONE),
    "another version": archive([("x.npy", b"\x93NUMPY\x09" + X[7:])], ONE),
    "the same name twice": archive([("x.npy", X), ("x.npy", X)], ONE),
    "the same name with and without npy": archive([("x.npy", X), ("x", X)], ONE),
    "one array in two places": archive([("x.npy", X)], {"list": [ONE, ONE]}),
    "compressed": archive([("x.npy", npy(np.zeros(10**6)))], ONE, zipfile.ZIP_DEFLATED),
    "a missing array": archive([], ONE),
    "another format": archive([("x.npy", X)], ONE, form="fastopt 2"),
    "no format": archive([], '{"tree": null}'),
    "no JSON": archive([], "{"),
    "a list": archive([], "[1, 2]"),
    "deep JSON": archive([], "[" * 100_000),
    "a deep tree": archive([], '{"format": "fastopt 1", "tree": ' + '{"list": [' * 3000 + "]}" * 3000 + "}"),
    "a number of 10000 digits": archive([], '{"format": "fastopt 1", "tree": ' + "1" * 10_000 + "}"),
    "two kinds": archive([("x.npy", X)], {"array": "x", "list": []}),
    "no kind": archive([], {}),
    "a dict that is a list": archive([], {"dict": [1]}),
    "a list that is a number": archive([], {"list": 1}),
    "an array's name that is a list": archive([("x.npy", X)], {"array": ["x"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up_files_are_refused(name, tmp_path):
    assert load_bytes(MADE_UP[name], tmp_path) is None


def test_what_is_made_up_well_is_loaded(tmp_path):
    """The test of the test above."""
    loaded = load_bytes(archive([("x.npy", X)], {"dict": {"a": ONE}}), tmp_path)
    np.testing.assert_array_equal(loaded["a"], [0, 1, 2])


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
def test_memory_is_not_asked_for_on_a_files_word(tmp_path):
    """In a process that may have 1 GB more than it has."""
    for name in (
        "a huge shape",
        "a huge shape and size",
        "a shape beyond 64 bits",
        "compressed",
        "one array in two places",
    ):
        (tmp_path / name).write_bytes(MADE_UP[name])
    code = f"""
import resource, sys, fastopt as fo
used = int(open("/proc/self/statm").read().split()[0]) * {resource.getpagesize()}
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
for path in sys.argv[1:]:
    try:
        fo.load(path)
    except ValueError:
        print("refused")
"""
    result = run_python("-c", code, *map(str, sorted(tmp_path.iterdir())))
    assert result.stdout.split() == ["refused"] * 5, result.stderr


def test_names_that_become_alike_keep_their_arrays(tmp_path):
    tree = {"a/b": np.zeros(2), "a": {"b": np.ones(3), "b'": np.full(4, 2.0)}}
    fo.save(tmp_path / "file", tree)
    assert repr(fo.load(tmp_path / "file")) == repr(tree)


# ---- state dicts that somebody made ---------------------------------------------------------------

ODD = [
    None, True, -1, 0, 1, 7, 2**70, 10**400, 1.5, float("nan"), float("inf"), "x", "", [], [1], {}, (0.9, 0.999),
     [0.5, 2.0], np.zeros(3), np.zeros((2, 3)), np.zeros(3, np.float32), np.zeros(3, ">f4"), np.zeros(3, complex),
     np.array(3), np.array(["x"]), np.array([None]), np.float64(2.0), np.int64(3), b"x", object(),
]  # fmt: skip
odd = st.sampled_from(ODD)


def nodes_of(state):
    """The dicts in a state dict whose entries are altered."""
    return [state, state["groups"][0], state["state"], state["state"]["w"], state["state"]["b"]]


def test_every_entry_replaced_in_turn():
    for i, node in enumerate(nodes_of(STATE)):
        for key in [*node, "unknown"]:
            for value in ODD:
                state = copy.deepcopy(STATE)
                nodes_of(state)[i][key] = value
                check_loading(state)
            state = copy.deepcopy(STATE)
            nodes_of(state)[i].pop(key, None)
            check_loading(state)


@st.composite
def altered(draw):
    """The state of an optimizer with some of its entries replaced, taken out or put in."""
    state = copy.deepcopy(STATE)
    nodes = nodes_of(state)
    for _ in range(draw(st.integers(1, 3))):
        node = draw(st.sampled_from(nodes))
        key = draw(st.sampled_from([*node, "unknown"]))
        if draw(st.integers(0, 3)):
            node[key] = draw(odd)
        else:
            node.pop(key, None)
    if not draw(st.integers(0, 9)):
        state["groups"] = draw(st.lists(odd, max_size=2))
    return state


test_altered_state_dicts = FEW(given(altered())(check_loading))
test_many_altered_state_dicts = pytest.mark.slow(MANY(given(altered())(check_loading)))
