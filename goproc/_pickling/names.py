"""The names to which a code object refers."""

from __future__ import annotations

import sys
from types import CodeType, ModuleType

from goproc._pickling import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CellType
    from typing import Any

_NEWLOCALS = 0x02  # a flag of code objects, which the body of a class does not have
_REBIND = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_READ = frozenset({"LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"})
# The body of a class reads globals by LOAD_NAME, since it looks in its own namespace first.
_READ_IN_BODY = _READ | {"LOAD_NAME"}

_CONSTANT = frozenset({"LOAD_CONST", "RETURN_CONST"})
_OF_CALLS = frozenset({"CALL_KW", "IMPORT_NAME"})
_FRAMES = frozenset({"_getframe", "currentframe", "f_globals"})
_BY_NAME = frozenset({"modules", "import_module", "__import__"})  # names that lead to a module by its name
DOT = r"\s*\."  # follows an identifier whose attribute is meant
_LONGEST = 100_000  # the most characters of a text that are searched
# Code with one of these names can reach any global.
REFLECTION = frozenset({"globals", "exec", "eval", "vars"})

known: dict[int, Names] = store.cache({})  # by the id of the code


class Names:
    """The global names of a code object and of all code nested in it.

    Attributes:
        used: the globals that the code reads or binds.
        rebound: the globals that it binds or deletes.
        attributes: names that may be attributes.
        mentioned: identifiers in its text constants, by which eval() or a library may look for a global.
        imports: names of modules that it imports, or that its texts name where it may import by a text.
        dotted: those of `imports` that a dot follows, as before an attribute.
        reflects: True if the code reads the globals as a whole.
        reaches_all: the same, but for `vars`, which methods call with an object.
        sets_attributes: True if it sets attributes.
    """

    __slots__ = (
        "attributes",
        "code",
        "dotted",
        "imports",
        "mentioned",
        "reaches_all",
        "rebound",
        "reflects",
        "sets_attributes",
        "used",
    )

    def __init__(self, code: CodeType) -> None:
        import dis

        self.code = code
        self.sets_attributes = False
        used: dict[str, None] = {}
        rebound: set[str] = set()
        attributes: set[str] = set()
        texts: list[str] = []
        imports: set[str] = set()
        todo = [code]
        for current in todo:
            attributes.update(current.co_names)
            todo += [const for const in current.co_consts if isinstance(const, CodeType)]
            reads = _READ if current.co_flags & _NEWLOCALS else _READ_IN_BODY
            for op in dis.get_instructions(current):
                if op.opname == "STORE_ATTR":
                    self.sets_attributes = True
                elif op.opname == "IMPORT_NAME":
                    imports.add(op.argval)
                elif op.opname in _REBIND:
                    rebound.add(op.argval)
                    used[op.argval] = None
                elif op.opname in reads:
                    used[op.argval] = None
            texts += _texts(current)
        self.used = tuple(used)
        self.rebound = frozenset(rebound)
        self.attributes = frozenset(attributes)
        if not _BY_NAME.isdisjoint(attributes):
            imports.update(texts)
        self.imports = frozenset(imports)
        self.mentioned = identifiers(texts)
        self.dotted = identifiers(texts, DOT)
        by_text = "getattr" in used and "modules" in attributes
        all_of_them = by_text or not _FRAMES.isdisjoint(attributes)
        self.reaches_all = all_of_them or not (REFLECTION - {"vars"}).isdisjoint(used)
        self.reflects = all_of_them or not REFLECTION.isdisjoint(used)


def _texts(code: CodeType) -> list[str]:
    """Return the text constants that the code uses as values: no docstrings, names of keywords, or names of imports."""
    import dis

    found: list[str] = []
    constant: Any = None
    for op in dis.get_instructions(code):
        if op.opname not in _OF_CALLS and not (op.opname == "STORE_NAME" and op.argval == "__doc__"):
            found += _strings(constant)
        constant = op.argval if op.opname in _CONSTANT else None
    return found + _strings(constant)


def _strings(constant: Any) -> list[str]:
    if isinstance(constant, str):
        return [constant]
    if isinstance(constant, tuple):
        return [text for text in constant if isinstance(text, str)]
    return []


def identifiers(texts: Iterable[str], before: str = "") -> frozenset[str]:
    """Return the identifiers in some texts that a pattern follows; of a very long text only its beginning counts."""
    import re

    pattern = re.compile(rf"\b([^\W\d]\w*){before}")
    return frozenset(name for text in texts for name in pattern.findall(text[:_LONGEST]))


def names_of(code: CodeType) -> Names:
    names = known.get(id(code))
    if names is None:
        names = known[id(code)] = Names(code)
    return names


def submodules(values: Iterable[Any], attributes: frozenset[str]) -> tuple[str, ...]:
    """Return the modules to import because `package.module` appears in the code, where only `package` is a global."""
    found = []
    for value in values:
        if issubclass(type(value), ModuleType) and getattr(value, "__path__", None) is not None:
            prefix = value.__name__ + "."
            found += [
                name
                for name in list(sys.modules)
                if name.startswith(prefix) and attributes.issuperset(name[len(prefix) :].split("."))
            ]
    return tuple(found)


def cell_contents(cell: CellType) -> tuple[Any, ...]:
    """Return the content of the cell, or an empty tuple."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()
