"""Globals that code may reach by a text only, as in eval() or in libraries that read the globals of their caller."""

from __future__ import annotations

import sys
from types import ModuleType

from goproc._pickling import names
from goproc._pickling.homes import MAIN, only_here
from goproc._pickling.statics import is_handle, is_module
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from goproc._pickling.names import Names

WATCHED = 4  # the most names in texts that are no globals so far and are watched, for each function or class
_OF_SHELLS = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})  # IPython's own globals


class Mentions(Record):
    """The names in texts that are globals, and the other names."""

    names: list[str]
    absent: set[str]


def mentioned(
    namespace: Mapping[str, Any], codes: Sequence[Names], hints: Sequence[str], reflects: bool
) -> Mentions:
    """Return the names of globals in the texts of some code.

    Args:
        namespace: the globals.
        codes: the code.
        hints: further texts, of annotations.
        reflects: True if the code can reach any global.
    """
    found = names.identifiers(hints).union(*[code.mentioned for code in codes])
    dotted = names.identifiers(hints, names.DOT).union(*[code.dotted for code in codes])
    attributes = [code.attributes for code in codes if _gets_at_module(code, namespace)]
    found = found.union(*[known.intersection(namespace) for known in attributes])

    def is_meant(name: str, value: Any) -> bool:
        if is_handle(type(value)):  # it would keep its shared object alive
            return reflects and name in found
        if type(value) is ModuleType and not reflects:  # an import may take long
            return name in dotted
        return name in found or (reflects and not name.startswith("_") and name not in _OF_SHELLS)

    candidates = list(namespace) if reflects else sorted(found & namespace.keys())
    present = [name for name in candidates if is_meant(name, namespace[name])]
    return Mentions(present, set(found - namespace.keys()))


def _gets_at_module(code: Names, namespace: Mapping[str, Any]) -> bool:
    """Return True if some code may look for globals among the attributes of the module."""
    name = namespace.get("__name__")
    if name in code.imports or "modules" in code.attributes:
        return True
    modules = [value for used in code.used if is_module(value := namespace.get(used))]
    return any(module.__name__ == name for module in modules)


def modules(codes: Sequence[Names]) -> list[str]:
    """Return the names of modules that some code imports and that no other process has, without `__main__`."""
    found: dict[str, None] = {}
    for code in codes:
        for path in sorted(code.imports):
            parts = path.split(".")
            paths = [".".join(parts[: count + 1]) for count in range(len(parts))]
            found.update(dict.fromkeys(name for name in paths if name in sys.modules and name not in MAIN))
    return [name for name in found if only_here(name)]
