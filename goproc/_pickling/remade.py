"""Objects that are made again from the arguments of the call that made them, because Python refuses to pickle them.

A `threading.local` arrives without the attributes of the sender's threads. A context manager of `contextlib` that has
not been entered gets a new generator. A class may derive from `property`, `classmethod` or `staticmethod`. The result of
`functools.cmp_to_key` has the function that compares, but no attribute for it.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import gc
from _thread import _local
from functools import partial

from goproc._pickling import pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _reduce_local(_: pickler.Pickler, obj: Any) -> Any:
    """Reduce a `threading.local` by the arguments for `__init__`, which it keeps for further threads."""
    kind = type(obj)
    held = gc.get_referents(obj)
    # The slots come first, then the class, the arguments, keyword arguments if there are any, and the values.
    first = max(place for place, part in enumerate(held) if part is kind) + 1
    dicts = [part for part in held[first + 1 :] if type(part) is dict]
    keywords = dicts[0] if len(dicts) > 1 else {}
    slots = {name: getattr(obj, name) for name in copyreg._slotnames(kind) if hasattr(obj, name)}  # type: ignore[attr-defined]
    return _new_local, (kind, held[first], keywords), (None, slots) if slots else None


def _new_local(kind: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return kind(*args, **keywords)


def _reduce_manager(_: pickler.Pickler, manager: Any) -> Any:
    """Reduce a context manager made by a generator function. One that has been entered is refused, as a generator is."""
    try:
        state = manager.func, manager.args, manager.kwds
    except AttributeError:
        return NotImplemented
    return object.__new__, (type(manager),), state, None, None, _set_manager


def _set_manager(manager: Any, state: tuple[Any, ...]) -> None:
    manager.__init__(*state)


def _reduce_descriptor(base: Any, _: pickler.Pickler, obj: Any) -> Any:
    """Reduce an object of a class derived from `base`, whose `__init__` may take anything."""
    args = (obj.fget, obj.fset, obj.fdel, obj.__doc__) if base is property else (obj.__func__,)
    return (
        _new_descriptor,
        (base, type(obj)),
        (args, getattr(obj, "__dict__", None)),
        None,
        None,
        _set_descriptor,
    )


def _new_descriptor(base: Any, kind: Any) -> Any:
    return base.__new__(kind)


def _set_descriptor(obj: Any, state: tuple[tuple[Any, ...], dict[str, Any] | None]) -> None:
    args, attributes = state
    base = next(base for base in _DESCRIPTORS if isinstance(obj, base))
    base.__init__(obj, *args)
    if attributes:
        obj.__dict__.update(attributes)


def _reduce_key(_: pickler.Pickler, key: Any) -> Any:
    """Reduce a result of `cmp_to_key`, or a key that the result has made for a value."""
    # The class, in some versions, then the function, and the value if there is one.
    compare, *values = [part for part in gc.get_referents(key) if part is not _KEY]
    return (_new_key, (compare, *values)) if values else (functools.cmp_to_key, (compare,))


def _new_key(compare: Any, value: Any) -> Any:
    return functools.cmp_to_key(compare)(value)


def _reduce_cached_property(_: pickler.Pickler, obj: Any) -> Any:
    """Reduce a cached_property so that it is made anew: on some versions of Python it holds a lock."""
    return _make_cached_property, (obj.func, obj.attrname)


def _make_cached_property(function: Any, name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made


_KEY: Any = type(functools.cmp_to_key(min))
_DESCRIPTORS: tuple[Any, ...] = (property, classmethod, staticmethod)

for _base in _DESCRIPTORS:
    pickler.families[_base] = partial(_reduce_descriptor, _base)
pickler.reducers[_KEY] = _reduce_key
pickler.families[_local] = _reduce_local
pickler.families[contextlib._GeneratorContextManager] = _reduce_manager
pickler.families[contextlib._AsyncGeneratorContextManager] = _reduce_manager
pickler.reducers[functools.cached_property] = _reduce_cached_property
