"""Objects that get their state past the methods of their class.

Python's pickle asks a new object for `__setstate__`, sets slots by `setattr`, and adds items by `append` and
`__setitem__`. A class may define these, or `__getattr__`, for objects that have their attributes already. Sets and
deques are made by a call of their class, which may take other arguments.
"""

from __future__ import annotations

from collections import deque
from types import FunctionType

from goproc._pickling import instances, pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IN_THE_WAY = ("__getattr__", "__getattribute__", "__setattr__")
COLLECTIONS = (set, frozenset, deque, bytearray)
_OF_ITEMS = ("__setitem__", "append", "extend")


def answers_anything(kind: type) -> bool:
    """Return True if a class, which may be a library's, has a `__getattr__` that may fail for `__setstate__`."""
    return type(getattr(kind, "__getattr__", None)) is FunctionType and not hasattr(kind, "__setstate__")


def needs_filling(kind: type) -> bool:
    """Return True if methods of a class may fail for an object without attributes."""
    names = _IN_THE_WAY + _OF_ITEMS if issubclass(kind, (dict, list)) else _IN_THE_WAY
    own = any(type(getattr(kind, name, None)) is FunctionType for name in names)
    return own and not hasattr(kind, "__setstate__")


def reduce_to_fill(_: pickler.Pickler, obj: Any) -> Any:
    make, args, *rest = obj.__reduce_ex__(5)
    state, items, pairs = (*rest, None, None, None)[:3]
    make = instances.maker_for(type(obj), make)
    parts = state, None if items is None else list(items), None if pairs is None else list(pairs)
    return make, args, parts, None, None, _fill


def base_to_fill(kind: type) -> Any:
    """Return the base of a collection whose class has an `__init__` or a `__new__`; None for any other class."""
    base: Any = next((base for base in COLLECTIONS if issubclass(kind, base)), None)
    if base is None or (kind.__reduce__, kind.__reduce_ex__) != (base.__reduce__, base.__reduce_ex__):
        return None
    own = any(type(getattr(kind, name)) is FunctionType for name in ("__init__", "__new__"))
    return base if own and not hasattr(kind, "__setstate__") else None


def reduce_collection(_: pickler.Pickler, obj: Any) -> Any:
    kind, base = type(obj), base_to_fill(type(obj))
    state = obj.__reduce__()[2]
    if base is frozenset:
        return _new_collection, (base, kind, list(obj)), (state, None), None, None, _fill_collection
    args = (obj.maxlen,) if base is deque else ()
    return _new_collection, (base, kind, *args), (state, list(obj)), None, None, _fill_collection


def _new_collection(base: Any, kind: Any, *args: Any) -> Any:
    obj = base.__new__(kind, *args)
    if base is deque:
        deque.__init__(obj, (), *args)
    return obj


def _fill_collection(obj: Any, parts: tuple[Any, list[Any] | None]) -> None:
    state, items = parts
    _fill(obj, (state, None, None))
    if items is not None:
        base: Any = base_to_fill(type(obj))
        (set.update if base is set else base.extend)(obj, items)


def _fill(obj: Any, parts: tuple[Any, list[Any] | None, list[tuple[Any, Any]] | None]) -> None:
    state, items, pairs = parts
    attributes, slots = state if type(state) is tuple else (state, None)
    if attributes:
        object.__getattribute__(obj, "__dict__").update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)
    if items:
        list.extend(obj, items)
    if pairs:
        dict.update(obj, pairs)
