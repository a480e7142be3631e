"""Saving and loading what a resumed run needs: arrays by name, and the numbers beside them, in one ``.npz`` file."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_FORMAT = "fastopt 1"


def save(path: str | os.PathLike[str], state_dict: Mapping[str, Any]) -> None:
    """Write a state dict to a file, atomically: whatever happens, the file is either the old one or the new one.

    Parameters
    ----------
    path : str or path
        The file is an uncompressed ``.npz``, whatever its name, which `numpy.load` also reads.
    state_dict : dict
        Of arrays, numbers (NumPy's become Python's), strings, None, and lists and dicts (with str keys) of such, as
        `Optimizer.state_dict` gives.

    Raises
    ------
    TypeError
        If something else is in it; nothing has then been written.

    Examples
    --------
    >>> import numpy as np, fastopt as fo, tempfile, os
    >>> opt = fo.optim.Adam({"w": np.zeros(3)})
    >>> path = os.path.join(tempfile.mkdtemp(), "adam.npz")
    >>> fo.save(path, opt.state_dict())
    >>> opt.load_state_dict(fo.load(path))
    """
    import json
    import tempfile  # these take a quarter of the time of `import fastopt`

    arrays: dict[str, np.ndarray] = {}
    tree = _without_arrays(state_dict, "", arrays)
    text = json.dumps({"format": _FORMAT, "tree": tree}, allow_nan=True)
    target = Path(path)
    handle, temporary = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name[:32]}."
    )  # a name may be no longer than 255 bytes
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **{"fastopt": np.array(text), **arrays})  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.chmod(temporary, target.stat().st_mode)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):  # it may be in its place already
            os.unlink(temporary)
        raise


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is truncated, damaged, or was not written by `save`.
    """
    import json
    import zipfile

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
        except MemoryError:
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
        shape, _, dtype = read_header(file)
        if math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
            raise ValueError(f"{info.filename} of shape {shape} should not be {info.file_size} bytes long")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _without_arrays(node: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """``node`` as JSON, its arrays moved to ``arrays`` and replaced by references."""
    if isinstance(node, np.ndarray):
        if node.dtype.hasobject:
            raise TypeError(f"{name or 'the state dict'} is an array of objects, which cannot be saved")
        while name in arrays:  # {"a/b": ..., "a": {"b": ...}}
            name += "'"
        arrays[name] = node
        return {"array": name}
    if isinstance(node, Mapping):
        if not all(isinstance(key, str) for key in node):
            raise TypeError(f"{name or 'the state dict'} has keys that are no strings: {list(node)}")
        return {"dict": {key: _without_arrays(value, f"{name}/{key}", arrays) for key, value in node.items()}}
    if isinstance(node, (list, tuple)):
        return {"list": [_without_arrays(value, f"{name}/{i}", arrays) for i, value in enumerate(node)]}
    if isinstance(node, (np.bool_, np.integer, np.floating)):
        return bool(node) if isinstance(node, np.bool_) else int(node) if isinstance(node, np.integer) else float(node)
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"{name or 'the state dict'} is a {type(node).__name__}, which cannot be saved")


def _with_arrays(node: Any, members: "dict[str, ZipInfo]", archive: "ZipFile") -> Any:
    """The tree with the arrays in their places; each is there once, as `save` has it."""
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "array":
        return _read(members.pop(content), archive)
    if kind == "dict":
        return {key: _with_arrays(value, members, archive) for key, value in content.items()}
    return [_with_arrays(value, members, archive) for value in content]
