"""Saving and loading what a resumed run needs: arrays by name, and the numbers beside them, in one ``.npz`` file."""

import math
import os
import stat
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ._checks import not_masked
from ._specification.state_formats import codes_of, is_bfloat16

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_FORMAT = "fastopt 1"
_TRIES = 100  # at a temporary file that others do not take for abandoned before it is claimed
_NUMBERS = "biufc"  # the kinds of NumPy's numbers
_LONGEST_NAME = 1000


def save(path: str | os.PathLike[str], state_dict: Mapping[str, Any]) -> None:
    """Write a state dict to a file, atomically: whatever happens, the file is either the old one or the new one.

    A symbolic link is followed. The file has the mode of the one it replaces, or that which the umask asks for. What a
    process that was killed has left beside it is removed.

    Parameters
    ----------
    path : str or path
        The file is an uncompressed ``.npz``, whatever its name, which `numpy.load` also reads.
    state_dict : dict
        Of arrays, numbers (NumPy's too), strings, None, and lists and dicts (with str keys) of such, as
        `Optimizer.state_dict` gives.

    Raises
    ------
    TypeError, ValueError
        If something else is in it, or it holds itself.
    OSError
        If there cannot be such a file: no directory, no permission, a full disk. Whatever is raised, the file is the
        old one, or there is none.

    Examples
    --------
    >>> import numpy as np, fastopt as fo, tempfile, os
    >>> opt = fo.optim.Adam({"w": np.zeros(3)})
    >>> path = os.path.join(tempfile.mkdtemp(), "adam.npz")
    >>> fo.save(path, opt.state_dict())
    >>> opt.load_state_dict(fo.load(path))
    """
    import json

    arrays: dict[str, np.ndarray] = {}
    try:
        text = json.dumps({"format": _FORMAT, "tree": _without_arrays(state_dict, "", arrays)}, allow_nan=True)
    except RecursionError:
        raise ValueError("the state dict is nested too deeply, or holds itself") from None
    target = check_target(path)
    kind = f".fastopt-{zlib.crc32(os.fsencode(target.name)):08x}-"
    _remove_abandoned(target.parent, kind)
    for temporary in (target.parent / f"{kind}{os.urandom(8).hex()}" for _ in range(_TRIES)):
        try:
            with open(temporary, "xb") as file:
                if not _claimed(file, temporary):
                    continue
                np.savez(file, **{"fastopt": np.array(text), **arrays})  # type: ignore[arg-type]
                file.flush()
                with suppress(FileNotFoundError):
                    os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
                os.fsync(file.fileno())
                if fcntl is not None:  # while it is claimed; elsewhere an open file cannot be moved
                    os.replace(temporary, target)
            if fcntl is None:
                os.replace(temporary, target)
            break
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    else:
        raise OSError(f"{os.fspath(path)!r}: other processes remove what is written for it")
    _sync_directory(target.parent)


def check_target(path: str | os.PathLike[str]) -> Path:
    """The file that `save` would write, links followed, or the error it would raise; nothing is written.

    Raises
    ------
    TypeError
        If ``path`` is no path.
    OSError, ValueError
        If there can be no such file: its directory does not exist or cannot be written to, its name is too long, or
        there is something that is no file, or a read-only one.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise ValueError(f"path must name a file, not {name!r}")
    target = Path(os.path.realpath(name))
    folder = target.parent
    if os.path.islink(target):
        raise OSError(f"{name!r} is a link that leads back to itself")
    if not folder.is_dir():
        missing = folder if os.path.islink(name) else os.path.dirname(name) or "."
        raise FileNotFoundError(f"{name!r}: there is no directory {os.fspath(missing)!r}")
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if len(os.fsencode(target.name)) > longest:
        raise OSError(f"{name!r}: the name has {len(os.fsencode(target.name))} bytes, {longest} are possible")
    if target.is_dir() or name.endswith(("/", os.sep)):
        raise IsADirectoryError(f"{name!r} is a directory, not a file")
    if target.exists() and not target.is_file():
        raise OSError(f"{name!r} is no regular file, and would be replaced by one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{name!r}: the directory {os.path.dirname(name) or '.'!r} cannot be written to")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{name!r} is read-only")
    return target


def _claimed(file: IO[bytes], path: Path) -> bool:
    """Mark a temporary file as being written, until it is closed or its process killed; whether it is still there."""
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks: there nothing is ever taken for abandoned
        fcntl.flock(file, fcntl.LOCK_EX)
    return path.exists()


def _remove_abandoned(folder: Path, kind: str) -> None:
    """Remove the temporary files that nobody is writing any more."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(kind):
                _remove_if_abandoned(folder / name)


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        if fcntl is None:
            os.unlink(path)  # which an open file refuses
            return
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)


def _sync_directory(folder: Path) -> None:
    """Let the new name survive a power failure, where that can be asked for."""
    if os.name == "posix":
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict
        With the keys, arrays and values that `save` was given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is truncated, damaged, no regular file, or was not written by `save`.
    ImportError
        If it holds arrays of bfloat16, and ``ml_dtypes`` is not installed.

    Examples
    --------
    >>> import numpy as np, fastopt as fo, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "state.npz")
    >>> fo.save(path, {"w": np.arange(3.0), "epoch": 2})
    >>> fo.load(path)
    {'w': array([0., 1., 2.]), 'epoch': 2}
    """
    import json
    import zipfile

    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait, reading a device never end
        raise ValueError(f"{os.fspath(path)} is not a whole file of fastopt's: it is no regular file")
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, os.fstat(file.fileno()).st_size)
                if "fastopt" not in members:
                    raise ValueError("it holds no fastopt state")
                content = json.loads(str(_read(members.pop("fastopt"), archive)))
                if content["format"] != _FORMAT:
                    raise ValueError(f"its format is {content['format']!r}, not {_FORMAT!r}")
                return _with_arrays(content["tree"], members, archive)
        except (MemoryError, ImportError):
            raise
        except Exception as error:  # zipfile, json and numpy raise a dozen kinds of them for what is damaged
            raise ValueError(f"{os.fspath(path)} is not a whole file of fastopt's: {error}") from error


def _members(archive: "ZipFile", file_size: int) -> "dict[str, ZipInfo]":
    """The arrays of an archive by name, if together they are no larger than the file, and none is there twice."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("it holds two arrays of the same name")
    if any(info.compress_type for info in members.values()):
        raise ValueError("it is compressed")
    if sum(info.file_size for info in members.values()) > file_size:
        raise ValueError("its arrays are said to be larger than the file")
    return members


def _read(info: "ZipInfo", archive: "ZipFile") -> np.ndarray:
    """One array; memory is asked for only if the archive has that many bytes."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        one = version == (1, 0)  # of later ones only the encoding of field names differs
        read_header = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
        try:
            shape, _, dtype = read_header(file)
        except (MemoryError, RecursionError):  # of Python's parser, for what is nested too deeply
            raise ValueError(f"the header of {info.filename} is damaged") from None
        if math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
            raise ValueError(f"{info.filename} of shape {shape} should not be {info.file_size} bytes long")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _without_arrays(node: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """``node`` as JSON, its arrays moved to ``arrays`` and replaced by references."""
    if isinstance(node, np.ndarray):
        if not_masked(name or "the state dict", node).dtype.hasobject:
            raise TypeError(f"{name or 'the state dict'} is an array of objects, which cannot be saved")
        if not _can_be_a_member(name):
            name = f"/array {len(arrays)}"
        while name in arrays:  # {"a/b": ..., "a": {"b": ...}}
            name += "'"
        arrays[name] = np.asarray(codes_of(node))
        return {"bfloat16" if is_bfloat16(node.dtype) else "array": name}
    if isinstance(node, Mapping):
        if not all(isinstance(key, str) for key in node):
            raise TypeError(f"{name or 'the state dict'} has keys that are no strings: {list(node)}")
        return {"dict": {key: _without_arrays(value, f"{name}/{key}", arrays) for key, value in node.items()}}
    if isinstance(node, (list, tuple)):
        return {"list": [_without_arrays(value, f"{name}/{i}", arrays) for i, value in enumerate(node)]}
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    if isinstance(node, np.generic) and node.dtype.kind in _NUMBERS:
        return {"number": [node.dtype.str, node.tobytes().hex()]}
    hint = ": save its state_dict()" if callable(getattr(node, "state_dict", None)) else ""
    raise TypeError(f"{name or 'the state dict'} is a {type(node).__name__}, which cannot be saved{hint}")


def _can_be_a_member(name: str) -> bool:
    """Whether an array can have this name within the file.

    Those with control characters or backslashes, which Windows takes for the separator of folders, and very long ones
    cannot.
    """
    return len(name) < _LONGEST_NAME and name.isprintable() and "\\" not in name


def _with_arrays(node: Any, members: "dict[str, ZipInfo]", archive: "ZipFile") -> Any:
    """The tree with the arrays in their places; each is there once, as `save` has it."""
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "array":
        return _read(members.pop(content), archive)
    if kind == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            raise ImportError(f"{archive.filename} holds arrays of bfloat16, for which ml_dtypes is needed") from None
        return _read(members.pop(content), archive).view(bfloat16)
    if kind == "dict":
        return {key: _with_arrays(value, members, archive) for key, value in content.items()}
    if kind == "number":
        dtype = np.dtype(content[0])
        if dtype.kind not in _NUMBERS:
            raise ValueError(f"it holds a number of type {dtype}")
        (number,) = np.frombuffer(bytes.fromhex(content[1]), dtype)
        return number
    if kind == "list":
        return [_with_arrays(value, members, archive) for value in content]
    raise ValueError(f"it holds a {kind!r}")
