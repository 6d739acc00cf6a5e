"""The check whether a class has changed since its definition was made. The sender makes it.

A definition holds the attributes of a class that cannot change in place: methods, immutable values, and small lists,
dicts and sets of such values. Of the containers a copy is kept for the comparison. An attribute that can change in
other ways is *state*, and so is one that was found changed: messages carry it.
"""

from __future__ import annotations

import abc
from operator import is_
from types import FunctionType

from goproc._pickling.foreign import are_fields
from goproc._pickling.statics import is_class, is_enumeration, is_static
from goproc.shm._core import Bindings, redefined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from typing import Any

    Check = Bindings | Callable[[type], bool]

    Namespace = dict[str, Any]

# Attributes that a metaclass keeps: that of `abc`, and those of enumerations.
REGISTRY = "_abc_impl"
OF_ENUMERATIONS = frozenset(
    {
        "_member_names_",
        "_value2member_map_",
        "_unhashable_values_",
        "_hashable_values_",
        "_unhashable_values_map_",
    }
)
_KEPT = frozenset({REGISTRY, "_member_map_"}) | OF_ENUMERATIONS
_MOST = 1000  # the most elements of a container in a definition


def is_definition(name: str, value: Any) -> bool:
    """Return True if an attribute of a class belongs to its definition by its kind alone."""
    return (
        _is_special(name)
        or is_enumeration(type(value))
        or is_class(value)
        or hasattr(type(value), "__get__")
        or are_fields(name, value)
    )


def is_state(name: str, value: Any) -> bool:
    """Return True if messages have to carry an attribute of a class."""
    return not (is_definition(name, value) or is_static(value) or _is_small(value))


def _is_small(value: Any) -> bool:
    kind = type(value)
    if kind not in (list, dict, set) or len(value) > _MOST:
        return False
    return all(map(is_static, value)) and (kind is not dict or all(map(is_static, value.values())))


def _containers_of(enumeration: type) -> list[Any]:
    """Return the containers that hold the attributes of an enumeration's members."""
    found = _states(enumeration)
    return found + [value for state in found for value in state.values() if type(value) in (list, dict, set)]


def can_be_watched(enumeration: type) -> bool:
    """Return True if a change in the members' attributes would be noticed."""
    return all(_is_watched(value) for state in _states(enumeration) for value in state.values())


def _states(enumeration: Any) -> list[dict[str, Any]]:
    return [vars(member) for member in enumeration._member_map_.values()]


def _is_watched(value: Any) -> bool:
    return is_definition("", value) or _cannot_change(value) or _is_small(value)


def _cannot_change(value: Any) -> bool:
    if type(value) is tuple:
        return all(is_definition("", item) or _cannot_change(item) for item in value)
    return is_static(value)


class Guard:
    """Names of a namespace that must still lead to the same objects, and names that must be absent.

    Also the number of all its names, unless that is -1.
    """

    def __init__(self, namespace: Namespace, expected: Namespace, absent: set[str], size: int) -> None:
        self.namespace = namespace
        self.expected = expected
        self.absent = absent
        self.bindings = Bindings(tuple(expected), tuple(expected.values()), absent=tuple(absent), size=size)

    def moved(self) -> set[str]:
        """Return the names that no longer lead to the same objects."""
        changed = {n for n, v in self.expected.items() if self.namespace.get(n, self) is not v}
        return changed | {n for n in self.absent if n in self.namespace}


class Watch:
    """The attributes of a class that its definition holds, as they were then."""

    def __init__(self, cls: type, state: Iterable[str]) -> None:
        attributes = dict(cls.__dict__)
        self._state = frozenset(state)
        self._attributes = {name: value for name, value in attributes.items() if name not in self._state}
        containers = [
            value
            for name, value in self._attributes.items()
            if type(value) in (list, dict, set) and not is_definition(name, value)
        ]
        if is_enumeration(cls):
            containers += _containers_of(cls)
        self._copies = [(container, container.copy()) for container in containers]
        self._bases, self._title = cls.__bases__, cls.__qualname__
        self._registry = Registry(cls) if REGISTRY in attributes else None
        self._bind(len(attributes))

    def _bind(self, size: int) -> None:
        values = tuple(self._attributes.values())
        self._size = size
        self._bindings = Bindings(
            tuple(self._attributes),
            values,
            copies=tuple(self._copies),
            size=size,
            title="",
            qualname=self._title,
            bases=self._bases,
        )
        redefined()

    def check(self) -> Check:
        """Return the check for a Together."""
        return self._bindings if self._registry is None else self.holds

    def holds(self, cls: type) -> bool:
        return self._bindings.hold(cls) and (self._registry is None or self._registry.holds(cls))

    def moved(self, cls: type) -> set[str]:
        """Return the names of changed attributes that messages can carry from now on."""
        return {name for name in self._changed(cls) if not is_definition(name, cls.__dict__[name])}

    def differing(self, cls: type) -> set[str]:
        """Return the names of all attributes that differ, except those that Python and libraries keep on a class."""
        names = self._changed(cls) | {name for name in self._attributes if name not in cls.__dict__}
        found = {
            name for name in names if not _is_special(name) or type(cls.__dict__.get(name)) is FunctionType
        }
        return found | ({REGISTRY} if self._registry is not None and not self._registry.holds(cls) else set())

    def _changed(self, cls: type) -> set[str]:
        copies = {id(value): copy for value, copy in self._copies}
        return {
            name
            for name, value in cls.__dict__.items()
            if name not in self._state
            and (
                self._attributes.get(name, self) is not value
                or (id(value) in copies and not _same(value, copies[id(value)]))
            )
        }

    def restore(self, cls: type, kept: Container[str]) -> None:
        """Give a class the attributes that it had then, except some."""
        for value, copy in self._copies:
            if not _same(value, copy):
                _refill(value, copy)
        for name in self.differing(cls):
            if name in kept or name == REGISTRY:
                continue
            if name in self._attributes:
                type.__setattr__(cls, name, self._attributes[name])
            else:
                type.__delattr__(cls, name)
        if cls.__bases__ is not self._bases:
            type.__setattr__(cls, "__bases__", self._bases)
            self._bases = cls.__bases__  # this is an equal tuple
        cls.__qualname__ = self._title
        self._keep_special(cls)

    def _keep_special(self, cls: type) -> None:
        """Accept the attributes that Python and libraries have added to the class as a part of it."""
        found = {name: value for name, value in cls.__dict__.items() if _is_special(name)}
        self._attributes.update({name: value for name, value in found.items() if name not in self._state})
        if self._registry is not None:
            self._registry = Registry(cls)
        self._bind(len(self._attributes) + self._carried(cls))

    def resize(self, cls: type) -> None:
        """Expect the present number of attributes, after some that messages carry were added or removed."""
        size = len(self._attributes) + self._carried(cls)
        if size != self._size:
            self._bind(size)

    def _carried(self, cls: type) -> int:
        return sum([name in cls.__dict__ for name in self._state])


class Registry:
    """The classes registered with an abstract base class."""

    def __init__(self, cls: type) -> None:
        self._token = abc.get_cache_token()
        self._refs = _references(cls)

    def holds(self, cls: type) -> bool:
        token = abc.get_cache_token()
        if token != self._token:
            if _references(cls) != self._refs:
                return False
            self._token = token
        return True


def _references(cls: type) -> set[Any]:
    return set(abc._get_dump(cls)[0])  # type: ignore[attr-defined]


def registered(cls: type) -> list[type]:
    """Return the classes registered with an abstract base class."""
    found = [reference() for reference in _references(cls)]
    return [subclass for subclass in found if subclass is not None]


def _is_special(name: str) -> bool:
    return name in _KEPT or (name.startswith("__") and name.endswith("__"))


def _refill(container: Any, copy: Any) -> None:
    container.clear()
    if type(container) is list:
        container.extend(copy)
    else:
        container.update(copy)


def _same(value: Any, copy: Any) -> bool:
    """Return True if a container holds the same objects as its copy."""
    if len(value) != len(copy):
        return False
    if type(value) is set:
        return bool(value == copy)
    if type(value) is dict and not all(map(is_, value.values(), copy.values())):
        return False
    return all(map(is_, value, copy))
