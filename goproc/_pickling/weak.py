"""Weak references, proxies and weak containers.

A message holds the object of a weak reference, so that the reference has an object where it arrives. If the message
also brings the object in another way, the reference is weak there, too. If not, no other code of that process keeps the
object: a goroutine has only the objects that it reaches, maybe by the reference alone. Then the reference, or the
container, that has arrived keeps the object. Objects that are added to a container later it holds weakly.

A class is never kept: a process keeps a class by itself, or is to forget it.
"""

from __future__ import annotations

import gc
import weakref
from functools import partial
from types import MethodType
from weakref import ReferenceType, WeakKeyDictionary, WeakMethod, WeakSet, WeakValueDictionary

from goproc._pickling import pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_HELD = "_goproc_held"  # the attribute of a container that keeps its objects
_OWN = frozenset(
    {_HELD, "data", "_pending_removals", "_iterating", "_remove", "_dirty_len", "_commit_removals"}
)

_referent: Any = ReferenceType.__call__
_callback: Any = getattr(vars(ReferenceType)["__callback__"], "__get__")  # noqa: B009


class _Keeper:
    """The callback of a reference that keeps its object: Python keeps the callback as long as the reference."""

    __slots__ = ("callback", "obj")

    def __init__(self, obj: Any, callback: Any) -> None:
        self.obj = obj
        self.callback = callback

    def __call__(self, reference: Any) -> None:
        if self.callback is not None:
            self.callback(reference)


class _Gone:
    """The class of objects that are gone as soon as a reference to them is made."""

    def __call__(self) -> None:
        pass


class _GoneValue:
    """As `_Gone`, for proxies that cannot be called."""


def _plain_callback(callback: Any) -> Any:
    return callback.callback if type(callback) is _Keeper else callback


def _with_keeper(obj: Any, kept: bool, callback: Any) -> Any:
    """Return the callback for a new reference to an object."""
    return _Keeper(obj, callback) if kept else callback


# -- references ----------------------------------------------------------------------------------------------


def _reduce_reference(of: pickler.Pickler, reference: Any) -> Any:
    obj = _referent(reference)
    kind = type(reference)
    if obj is None or of.omits_weak(obj):
        return _dead_reference, (kind,), object.__getstate__(reference)
    callback = _plain_callback(_callback(reference))
    return _new_reference, (kind, obj, of.only_weak(obj), callback), object.__getstate__(reference)


def _new_reference(kind: Any, obj: Any, kept: bool, callback: Any) -> Any:
    callback = _with_keeper(obj, kept, callback)
    return ReferenceType.__new__(kind, obj, *([] if callback is None else [callback]))


def _dead_reference(kind: Any) -> Any:
    return ReferenceType.__new__(kind, _Gone())


def _reduce_method(of: pickler.Pickler, reference: Any) -> Any:
    method = reference()
    kind = type(reference)
    if method is None or of.omits_weak(method.__self__):
        return _dead_method, (kind,)
    callback = _plain_callback(_callback_of_method(reference))
    return _new_method, (kind, method, of.only_weak(method.__self__), callback)


def _callback_of_method(reference: Any) -> Any:
    """Return the callback that was given to a WeakMethod, which has one of its own around it."""
    own = _callback(reference)
    names = own.__code__.co_freevars
    return own.__closure__[names.index("callback")].cell_contents if "callback" in names else None


def _new_method(kind: Any, method: MethodType, kept: bool, callback: Any) -> Any:
    return kind(method, _with_keeper(method.__self__, kept, callback))


def _dead_method(kind: Any) -> Any:
    return kind(_Gone().__call__)


def _reduce_proxy(of: pickler.Pickler, proxy: Any) -> Any:
    kind: type = type(proxy)
    obj = _object_of(proxy)
    if obj is None or of.omits_weak(obj):
        return _dead_proxy, (kind is weakref.CallableProxyType,)
    callback = next(iter(gc.get_referents(proxy)), None)
    return _new_proxy, (obj, of.only_weak(obj), _plain_callback(callback))


def _object_of(proxy: Any) -> Any:
    """Return the object of a proxy by one of its methods, since a proxy has no attribute of its own."""
    try:
        if isinstance(proxy, type):
            return proxy.__instancecheck__.__self__  # type: ignore[attr-defined]
        return proxy.__reduce_ex__.__self__
    except ReferenceError:
        return None


def _new_proxy(obj: Any, kept: bool, callback: Any) -> Any:
    return weakref.proxy(obj, _with_keeper(obj, kept, callback))


def _dead_proxy(callable_: bool) -> Any:
    return weakref.proxy(_Gone() if callable_ else _GoneValue())


# -- containers ----------------------------------------------------------------------------------------------


def _reduce_set(of: pickler.Pickler, obj: Any) -> Any:
    elements = [element for element in obj if not of.omits_weak(element)]
    state = elements, _only_weak(of, elements), _own_attributes(obj)
    return _new_container, (WeakSet, type(obj)), state, None, None, _fill


def _reduce_dict(base: Any, place: int, of: pickler.Pickler, obj: Any) -> Any:
    items = [item for item in list(obj.items()) if not of.omits_weak(item[place])]
    state = items, _only_weak(of, [item[place] for item in items]), _own_attributes(obj)
    return _new_container, (base, type(obj)), state, None, None, _fill


def _only_weak(of: pickler.Pickler, objects: Iterable[Any]) -> list[Any]:
    return [obj for obj in objects if of.only_weak(obj)]


def _own_attributes(container: Any) -> dict[str, Any] | None:
    """Return the attributes of a container that its class in Python's library does not set."""
    return {name: value for name, value in vars(container).items() if name not in _OWN} or None


def _new_container(base: Any, kind: Any) -> Any:
    """Make an empty container without the `__init__` of its own class, which may take anything."""
    container = kind.__new__(kind)
    base.__init__(container)
    return container


def _fill(container: Any, state: tuple[list[Any], list[Any], dict[str, Any] | None]) -> None:
    elements, kept, attributes = state
    container.__dict__.update(attributes or {})
    if kept:
        container.__dict__[_HELD] = kept
    if isinstance(container, WeakSet):
        WeakSet.update(container, elements)
    else:
        base: Any = WeakKeyDictionary if isinstance(container, WeakKeyDictionary) else WeakValueDictionary
        base.update(container, dict(elements))


# In this order: a WeakMethod is a reference.
pickler.families[WeakMethod] = _reduce_method
pickler.families[ReferenceType] = _reduce_reference
pickler.families[weakref.ProxyType] = _reduce_proxy
pickler.families[weakref.CallableProxyType] = _reduce_proxy
pickler.families[WeakSet] = _reduce_set
pickler.families[WeakKeyDictionary] = partial(_reduce_dict, WeakKeyDictionary, 0)
pickler.families[WeakValueDictionary] = partial(_reduce_dict, WeakValueDictionary, 1)
