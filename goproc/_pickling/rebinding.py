"""The globals of a module that its own code rebinds: code that reads them has to run over the same globals."""

from __future__ import annotations

import functools
import opcode
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

from goproc._pickling.names import names_of
from goproc._pickling.statics import LRU

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_STORES = tuple([opcode.opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL")])
_STORES_IN_DICT = tuple([opcode.opmap[name] for name in ("STORE_SUBSCR", "DELETE_SUBSCR")])
_WRITERS = frozenset({"update", "setdefault", "pop", "clear", "exec"})
# Wrappers of a function, with the attribute that holds the function.
_AROUND: dict[type, str] = {
    LRU: "__wrapped__",
    staticmethod: "__func__",
    classmethod: "__func__",
    property: "fget",
    functools.partial: "func",
    functools.cached_property: "func",
}
# Code that writes to globals() does not rebind these.
_CALLABLE = (ModuleType, FunctionType, BuiltinFunctionType, type)


class Rebound:
    """The globals that code of a module may rebind.

    Attributes:
        names: those in `global` statements.
        any: True if the code of the module writes to `globals()`.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self.names: set[str] = set()
        self.any = False
        for code in _codes(namespace):
            if _uses(code, _stores):
                self.names |= names_of(code).rebound
            self.any = self.any or _uses(code, _writes_to_globals)

    def may_be(self, name: str, value: Any) -> bool:
        """Return True if a global with this value may be rebound."""
        return name in self.names or (self.any and not isinstance(value, _CALLABLE))


def _stores(code: CodeType) -> bool:
    return _has(code, _STORES)


def _writes_to_globals(code: CodeType) -> bool:
    names = code.co_names
    return "globals" in names and (_has(code, _STORES_IN_DICT) or not _WRITERS.isdisjoint(names))


def _has(code: CodeType, operations: tuple[int, ...]) -> bool:
    instructions = code.co_code[::2]
    return any(operation in instructions for operation in operations)


def _uses(code: CodeType, test: Any) -> bool:
    """Return True if a test holds for code or for code nested in it."""
    return test(code) or any(_uses(const, test) for const in code.co_consts if type(const) is CodeType)


def _codes(namespace: Mapping[str, Any]) -> list[CodeType]:
    """Return the code of the functions of a module and of the methods of its classes."""
    values = list(namespace.values())
    for value in list(values):
        if issubclass(type(value), type) and value.__module__ == namespace.get("__name__"):
            values += vars(value).values()
    found = [_inside(value) for value in values]
    return [
        function.__code__
        for function in found
        if type(function) is FunctionType and function.__globals__ is namespace
    ]


def _inside(value: Any) -> Any:
    """Return the function inside its decorators."""
    for _ in range(16):
        link = _AROUND.get(type(value))
        if link is not None:
            value = getattr(value, link)
        elif type(value) is FunctionType and "__wrapped__" in value.__dict__:
            value = value.__dict__["__wrapped__"]
        else:
            break
    return value
