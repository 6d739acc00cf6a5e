"""Makes a class that has arrived, as it is in the process that sent it.

The class statement ran hooks there: `__init_subclass__` of the bases, `__new__` and `__init__` of the metaclass. Their
changes to the class, and to the registries of the script, travel. So the hooks of the script do not run again. The
hooks of a library do: each process has its own copy of the library, with its own registries.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import types
import weakref
from abc import ABCMeta

from goproc._pickling import foreign, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from goproc._pickling import structs
    from goproc._pickling.enumerations import Members

_NEEDED = frozenset(
    {"__module__", "__qualname__", "__doc__", "__abstractmethods__", "_abc_impl", "_member_map_"}
)

_by_uid: weakref.WeakValueDictionary[str, type] = store.cache(weakref.WeakValueDictionary())
_uids: weakref.WeakKeyDictionary[type, str] = store.cache(weakref.WeakKeyDictionary())


class Received:
    """The state of a class that another process has created.

    Attributes:
        filled: True if it has all attributes of a definition.
        names: the names of the attributes.
    """

    __slots__ = ("filled", "names")

    def __init__(self) -> None:
        self.filled = False
        self.names: list[str] = []


received: weakref.WeakKeyDictionary[type, Received] = weakref.WeakKeyDictionary()


def uid_of(cls: type) -> str:
    """Return the name by which all processes know a class that travels by value."""
    uid = _uids.get(cls)
    if uid is None:
        uid = os.urandom(16).hex()
        identify(cls, uid)
    return uid


def identify(cls: type, uid: str) -> None:
    _by_uid[uid] = cls
    _uids[cls] = uid


def class_of(uid: str) -> type | None:
    """Return the class of this process with that uid, or None."""
    return _by_uid.get(uid)


def make_class(
    meta: Any,
    name: str,
    bases: tuple[Any, ...],
    namespace: dict[str, Any],
    tracker: Any = None,
    members: Members | None = None,
    struct: structs.Struct | None = None,
) -> type:
    """Make a class without its attributes.

    Args:
        meta: its metaclass.
        name: its name.
        bases: its bases, or those in `__orig_bases__`.
        namespace: the attributes that it must have when it is made.
        tracker: the name by which cloudpickle knows it.
        members: the members of an enumeration; None for other classes.
        struct: the fields and options of a class of msgspec; None for other classes.
    """
    from cloudpickle import cloudpickle

    resolved = types.resolve_bases(bases)
    options = {}
    if struct is not None:
        struct.fill(namespace)
        options = struct.options
    with _quiet(resolved):
        if members is not None:
            cls = _make_enumeration(meta, name, resolved, namespace, members)
        elif meta in _uids:
            if resolved is not bases:
                namespace = {**namespace, "__orig_bases__": bases}
            cls = _library(meta, "__new__")(meta, name, resolved, namespace, **options)
            _library(meta, "__init__")(cls, name, resolved, namespace)
        else:
            cls = types.new_class(
                name, bases, {"metaclass": meta, **options}, lambda body: body.update(namespace)
            )
    made: type = cloudpickle._lookup_class_or_track(tracker, cls)
    return made


def _make_enumeration(
    meta: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any], members: Members
) -> type:
    """Make an enumeration whose members have no attributes so far, so that the attributes may refer to any member.

    The metaclass would make the members from their values once more, with the script's `__new__` and `__init__`.
    """
    make = ABCMeta if issubclass(meta, ABCMeta) else type
    cls: type = make.__new__(meta, name, bases, namespace)
    type.__setattr__(cls, "_member_map_", members.make(cls))
    return cls


def _library(cls: type, name: str) -> Any:
    """Return an attribute of the first base of `cls` that is not a class of the script."""
    return getattr(next(base for base in cls.__mro__ if base not in _uids and name in vars(base)), name)


@contextlib.contextmanager
def _quiet(bases: Iterable[type]) -> Iterator[None]:
    """Suppress the script's `__init_subclass__` in this thread."""
    owners = {
        base for cls in bases for base in cls.__mro__ if "__init_subclass__" in vars(base) and base in _uids
    }
    if not owners:
        yield
        return
    with store.lock:
        hooks = [(owner, vars(owner)["__init_subclass__"]) for owner in owners]
        for owner, hook in hooks:
            type.__setattr__(owner, "__init_subclass__", _passing_on(owner, hook, threading.get_ident()))
        try:
            yield
        finally:
            for owner, hook in hooks:
                type.__setattr__(owner, "__init_subclass__", hook)


def _passing_on(owner: Any, hook: Any, thread: int) -> Any:
    """Return a hook that in a thread does nothing but call the next hook, which may be a library's."""

    def __init_subclass__(cls: Any, /, **kwargs: Any) -> None:
        if threading.get_ident() == thread:
            super(owner, cls).__init_subclass__()
        else:
            hook.__get__(None, cls)(**kwargs)

    return classmethod(__init_subclass__)


def set_attributes(cls: type, attributes: Mapping[str, Any]) -> None:
    """Set attributes of a class: by its metaclass if that is a library's, else as `type` does."""
    put = type.__setattr__
    if "_member_map_" not in vars(cls):
        put = _library(type(cls), "__setattr__")
    for name, value in attributes.items():
        if name != "_abc_impl" and not foreign.has_fields(cls, name):
            put(cls, name, value)
    # Any other assignment removes this one.
    if sys.version_info >= (3, 13) and "__firstlineno__" in attributes:
        put(cls, "__firstlineno__", attributes["__firstlineno__"])
    for subclass in attributes.get("_abc_impl", ()):
        ABCMeta.register(cls, subclass)  # type: ignore[arg-type]


def delete_attributes(cls: type, names: Iterable[str]) -> None:
    """Delete attributes of a class, except those that it must have."""
    remove = _library(type(cls), "__delattr__") if foreign.is_type(cls) else type.__delattr__
    for name in names:
        if name in cls.__dict__ and name not in _NEEDED and not foreign.has_fields(cls, name):
            remove(cls, name)


def set_bases(cls: type, bases: tuple[Any, ...]) -> None:
    """Give a class that was received before its new bases, if they have changed."""
    resolved = types.resolve_bases(bases)
    if cls.__bases__ != resolved:
        type.__setattr__(cls, "__bases__", resolved)
