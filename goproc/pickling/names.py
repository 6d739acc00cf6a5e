"""What a code object refers to."""

from __future__ import annotations

import sys
from types import CodeType, ModuleType

from goproc.pickling import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CellType
    from typing import Any

_NEWLOCALS = 0x02  # the flag of a code object that the body of a class does not have
_REBIND = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_READ = frozenset({"LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"})
# The body of a class reads globals by LOAD_NAME, since it looks in its own namespace first.
_READ_IN_BODY = _READ | {"LOAD_NAME"}

known: dict[int, Names] = store.cache({})  # by the id of the code


class Names:
    """The global names of a code object and of all code nested in it."""

    __slots__ = ("attributes", "code", "rebound", "sets_attributes", "used")

    def __init__(self, code: CodeType) -> None:
        import dis

        self.code = code
        self.sets_attributes = False
        used: dict[str, None] = {}
        rebound: set[str] = set()
        attributes: set[str] = set()
        todo = [code]
        for current in todo:
            attributes.update(current.co_names)
            todo += [const for const in current.co_consts if isinstance(const, CodeType)]
            reads = _READ if current.co_flags & _NEWLOCALS else _READ_IN_BODY
            for op in dis.get_instructions(current):
                if op.opname == "STORE_ATTR":
                    self.sets_attributes = True
                elif op.opname in _REBIND:
                    rebound.add(op.argval)
                    used[op.argval] = None
                elif op.opname in reads:
                    used[op.argval] = None
        self.used = tuple(used)
        self.rebound = frozenset(rebound)
        self.attributes = frozenset(attributes)


def names_of(code: CodeType) -> Names:
    names = known.get(id(code))
    if names is None:
        names = known[id(code)] = Names(code)
    return names


def submodules(values: Iterable[Any], attributes: frozenset[str]) -> tuple[str, ...]:
    """Modules to import because `package.module` appears in the code, where only `package` is a global."""
    found = []
    for value in values:
        if isinstance(value, ModuleType) and getattr(value, "__path__", None) is not None:
            prefix = value.__name__ + "."
            found += [
                name
                for name in list(sys.modules)
                if name.startswith(prefix) and attributes.issuperset(name[len(prefix) :].split("."))
            ]
    return tuple(found)


def cell_contents(cell: CellType) -> tuple[Any, ...]:
    """What is in the cell, or nothing if it is empty."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()
