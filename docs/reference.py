"""The pages of the reference, from ``__all__``: a public name appears by itself, under its module's first line.

Every public module has a page of its own; the names of ``fastopt`` itself stand on one page, in sections by the
module that defines them.
"""

import inspect
import sys
from types import ModuleType

import fastopt


def modules() -> dict[str, ModuleType]:
    """The public modules."""
    return {name: value for name in fastopt.__all__ if isinstance(value := getattr(fastopt, name), ModuleType)}


def first_line(module: ModuleType) -> str:
    return (module.__doc__ or module.__name__).strip().splitlines()[0].rstrip(".").replace("``", "")


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def entry(qualified: str, value: object) -> str:
    if not inspect.isclass(value):
        return f".. {'autofunction' if callable(value) else 'autodata'}:: {qualified}\n\n"
    public = [getattr(module, name) for module in modules().values() for name in module.__all__]
    base = next(b for b in value.__mro__[1:] if b in public or not b.__module__.startswith("fastopt"))
    options = "   :show-inheritance:\n" if value.__base__ in public else ""
    if base is not value.__base__:  # what comes from a class without an entry of its own is told here
        options += f"   :inherited-members: {base.__name__}\n"
    return f".. autoclass:: {qualified}\n{options}\n"


def page_of_module(name: str, module: ModuleType) -> str:
    """One module: its docstring, and every name of its ``__all__``."""
    qualified = f"fastopt.{name}"
    text = (
        heading(qualified, "=") + f".. automodule:: {qualified}\n   :no-members:\n\n.. currentmodule:: {qualified}\n\n"
    )
    return text + "".join(entry(f"{qualified}.{public}", getattr(module, public)) for public in module.__all__)


def page_of_package() -> str:
    """``fastopt`` itself: what it defines, and what it takes up from a module's page as a link."""
    elsewhere = {
        id(getattr(module, name)): f"fastopt.{page}.{name}"
        for page, module in modules().items()
        for name in module.__all__
    }
    sections: dict[str, list[str]] = {}
    aliases = []
    for name in fastopt.__all__:
        value = getattr(fastopt, name)
        if isinstance(value, ModuleType) or name == "__version__":
            continue
        if id(value) in elsewhere:
            aliases.append(f"- ``fastopt.{name}``: `{elsewhere[id(value)]}`\n")
            continue
        home = sys.modules[inspect.unwrap(value).__module__]
        sections.setdefault(first_line(home), []).append(entry(f"fastopt.{name}", value))
    text = heading("fastopt", "=") + ".. automodule:: fastopt\n   :no-members:\n\n.. currentmodule:: fastopt\n\n"
    text += "``fastopt.__version__`` is the version, a string.\n\n"
    if aliases:
        text += "Also here, from the modules below it:\n\n" + "".join(aliases) + "\n"
    for title, entries in sections.items():
        text += heading(title, "-") + "".join(entries)
    return text


def pages() -> dict[str, str]:
    """The text of every page by its name."""
    return {"fastopt": page_of_package(), **{n: page_of_module(n, m) for n, m in modules().items()}}
