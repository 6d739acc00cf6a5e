"""The globals that an initializer has set: the calls of its process see them, as in a process of a ProcessPoolExecutor.

The functions of a script come by value, each message with globals of its own, and so do functions within a function of
any module. So the calls would not see the globals that an initializer writes.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from goproc._pickling import homes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ABSENT: Any = object()
# By the id of a module's globals: those that initializers have set here. A later initializer may set them to the same value.
_set_in_modules: dict[int, set[str]] = {}


class _Kept(NamedTuple):
    """The value of a global before a call."""

    namespace: dict[str, Any]
    name: str
    value: Any


class Initialized:
    """An initializer, and the globals that it has set.

    Args:
        initializer: it has not been called yet.
    """

    def __init__(self, initializer: Callable[..., object]) -> None:
        self._namespace = homes.globals_of(initializer)
        self._before = {name: (value, _members(value)) for name, value in (self._namespace or {}).items()}
        self._set: dict[str, Any] = {}

    def note(self) -> None:
        """Find the globals that the initializer has set, or changed in place. It has been called."""
        for name, value in (self._namespace or {}).items():
            before, members = self._before.get(name, (_ABSENT, None))
            if value is not before or members != _members(value):
                self._set[name] = value
        self._before.clear()
        if self._namespace is not None and _is_of_module(self._namespace):
            names = _set_in_modules.setdefault(id(self._namespace), set())
            names.update(self._set)
            self._set = {name: self._namespace[name] for name in names if name in self._namespace}

    def give(self, functions: Iterable[Any]) -> list[_Kept]:
        """Set these globals for a call. take_back() restores the globals of functions that all calls share.

        Args:
            functions: those that the call begins with, and other objects.

        Returns:
            The former globals.
        """
        kept: list[_Kept] = []
        if self._namespace is not None and self._set:
            for namespace in _namespaces(functions, self._namespace):
                kept += [_Kept(namespace, name, namespace.get(name, _ABSENT)) for name in self._set]
                namespace.update(self._set)
        return kept


def _is_of_module(namespace: dict[str, Any]) -> bool:
    """Return True for the globals of a module of this process, which last, and not those of a message."""
    module = sys.modules.get(namespace.get("__name__", ""))
    return module is not None and vars(module) is namespace


def take_back(kept: Iterable[_Kept]) -> None:
    """Undo give()."""
    for namespace, name, value in kept:
        if value is _ABSENT:
            namespace.pop(name, None)
        else:
            namespace[name] = value


def _namespaces(functions: Iterable[Any], own: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the globals of functions, and of those that they reach, if they are of the module of an initializer.

    Args:
        functions: those that a call begins with, and other objects.
        own: the globals of the initializer, which are not returned.
    """
    module = own.get("__name__")
    found: dict[int, dict[str, Any]] = {}
    seen: set[int] = set()
    left = [function for function in functions if callable(function)]
    while left:
        function = left.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        if isinstance(function, type):
            if function.__module__ == module:
                left += [member for member in vars(function).values() if type(member) is FunctionType]
            continue
        left += _enclosed(function)
        namespace = homes.globals_of(function)
        if namespace is None or namespace is own or id(namespace) in found:
            continue
        if namespace.get("__name__") == module:
            found[id(namespace)] = namespace
            left += [value for value in namespace.values() if isinstance(value, type | FunctionType)]
    return list(found.values())


def _enclosed(function: Any) -> list[Any]:
    """Return the functions in the closure of a function."""
    found = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            value = cell.cell_contents
        except ValueError:  # it is empty
            continue
        if isinstance(value, type | FunctionType):
            found.append(value)
    return found


def _members(value: Any) -> Any:
    """Return the content that shows whether a container, or an object, was changed in place."""
    if isinstance(value, type | FunctionType | ModuleType):
        return None
    if isinstance(value, dict):
        return [(id(key), id(member)) for key, member in value.items()]
    if isinstance(value, list | set):
        return list(map(id, value))
    attributes = getattr(value, "__dict__", None)
    return _members(attributes) if type(attributes) is dict else None
