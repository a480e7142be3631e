"""A private name is of the room it is defined in: what another room needs is public.

Rooms are the packages below fastopt, the modules beside them, the benchmarks and the examples. A leading underscore
of a module says that users are not to import it; of a class, a function or an attribute, that other rooms are not to.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fastopt

HERE = Path(fastopt.__file__).parent
# What things of a room are called elsewhere: where several rooms have an attribute of the same name, whose it is.
OWNERS = {
    **dict.fromkeys(["opt", "optimizer"], "optim"),
    **dict.fromkeys(["instruction", "plan", "program"], "_backends"),
    **dict.fromkeys(["layer", "model"], "nn"),
    **dict.fromkeys(["history", "session", "step"], "training"),
    "loss": "losses",
    "node": "graph",
}
OF_OTHERS = {("benchmarks/training.py", "_optimizer")}  # scikit-learn's, which also is a name of ours


def room(file: Path) -> str:
    parts = file.parts
    return parts[1] if parts[0] == "fastopt" and len(parts) > 2 else parts[0]


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and name.strip("_") != "" and not name.endswith("__")


def defined(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "__setattr__" and len(node.args) == 3:
            yield getattr(node.args[1], "value", "")
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__slots__":
            yield from (each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant))


def used(nodes: list[ast.AST]) -> Iterator[tuple[int, str, str]]:
    """The line, the name, and what has it: the last word before the point."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, each.name, "") for each in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr, word(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            yield node.lineno, getattr(node.args[1], "value", ""), word(node.args[0])


def is_own(value: ast.AST) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def word(value: ast.AST) -> str:
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return name.strip("_").rpartition("_")[2]


def crossings(texts: dict[Path, str]) -> list[str]:
    nodes, rooms = {file: list(ast.walk(ast.parse(text))) for file, text in texts.items()}, defaultdict(set)
    for file, of_file in nodes.items():
        for name in filter(is_private, defined(of_file)):
            rooms[name].add(room(file))
    modules = {file.stem for file in texts} | {part for file in texts for part in file.parts}
    found = []
    for file, of_file in nodes.items():
        for line, name, of in used(of_file):
            if not is_private(name) or name in modules or (file.as_posix(), name) in OF_OTHERS:
                continue
            owner = OWNERS.get(of, room(file))
            elsewhere = rooms[name] if room(file) not in rooms[name] else {owner} & rooms[name] - {room(file)}
            if elsewhere:
                found.append(f"{file.as_posix()}:{line}: {name} is private to {' or '.join(sorted(elsewhere))}")
    return found


def test_no_private_name_of_a_room_is_used_in_another():
    folders = [HERE, *(folder for folder in [HERE.parent / "benchmarks"] if (folder / "targets.py").exists())]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    assert crossings({file.relative_to(HERE.parent): file.read_text(encoding="utf-8") for file in files}) == []


def test_a_private_name_of_another_room_is_seen():
    texts = {
        "fastopt/optim/base.py": "class Optimizer:\n _kind = 1\n def f(self): self._plan = _groups = 1",
        "fastopt/parallel/team.py": "class Team:\n __slots__ = ('_plan',)\n def f(self): return self._plan",
        "fastopt/parallel/uses.py": "\n".join(
            [
                "from ..optim.base import _groups",
                "optimizer._groups",
                "self._optimizer._plan",  # Team's has the same name
                "getattr(x.optimizer, '_kind')",
                "self._kind",  # as a subclass
                "team._plan",  # its own
                "h._replace",  # nobody's here
            ]
        ),
    }
    found = crossings({Path(file): text for file, text in texts.items()})
    names = ["_groups", "_groups", "_plan", "_kind", "_kind"]
    assert found == [f"fastopt/parallel/uses.py:{i}: {name} is private to optim" for i, name in enumerate(names, 1)]
