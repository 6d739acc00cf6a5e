"""The globals that an initializer has set: the calls of its process see them, as in a process of a ProcessPoolExecutor.

The functions of a script come by value, each message with globals of its own. So the calls would not see the globals
that an initializer writes.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from goproc._pickling import homes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ABSENT: Any = object()


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
        self._namespace = homes.namespace_of(initializer)
        self._before = {name: (value, _members(value)) for name, value in (self._namespace or {}).items()}
        self._set: dict[str, Any] = {}

    def note(self) -> None:
        """Find the globals that the initializer has set, or changed in place. It has been called."""
        for name, value in (self._namespace or {}).items():
            before, members = self._before.get(name, (_ABSENT, None))
            if value is not before or members != _members(value):
                self._set[name] = value
        self._before.clear()

    def give(self, functions: Iterable[Any]) -> list[_Kept]:
        """Set these globals for a call. take_back() restores the globals of functions that all calls share.

        Args:
            functions: those that the call begins with, and other objects.

        Returns:
            The former globals.
        """
        kept: list[_Kept] = []
        if self._namespace is not None and self._set:
            for namespace in _namespaces(functions, self._namespace.get("__name__")):
                kept += [_Kept(namespace, name, namespace.get(name, _ABSENT)) for name in self._set]
                namespace.update(self._set)
        return kept


def take_back(kept: Iterable[_Kept]) -> None:
    """Undo give()."""
    for namespace, name, value in kept:
        if value is _ABSENT:
            namespace.pop(name, None)
        else:
            namespace[name] = value


def _namespaces(functions: Iterable[Any], module: Any) -> list[dict[str, Any]]:
    """Return the globals of functions, and of those of the same module that they reach."""
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
        namespace = homes.namespace_of(function)
        if namespace is not None and id(namespace) not in found and namespace.get("__name__") == module:
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
