"""Objects of a script's classes that define how they are made, or how they are hashed.

Pickle makes an object by `__new__` and sets its attributes later. The `__new__` of the class may take other arguments
than pickle gives. An object with a `__hash__` may be in a set that the object holds itself: then the attributes from
which the hash is made have to be there before the set is loaded.
"""

from __future__ import annotations

import copyreg
from types import FunctionType

from goproc._pickling import pickler
from goproc._pickling.statics import is_static
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce_by_new(_: pickler.Pickler, obj: Any) -> Any:
    """Reduce an object of a script's class with a `__new__`, as pickle does."""
    make, args, *rest = obj.__reduce_ex__(5)
    make = maker_for(type(obj), make)
    hashed = type(type(obj).__hash__) is FunctionType and not hasattr(obj, "__setstate__")
    if hashed and type(rest[0]) is dict:
        return _in_two_steps(obj, make, args, *rest)
    return (make, args, *rest)


_BEFORE = frozenset({int, float, bool, str, bytes, type(None)})


def reduce_hashed(_: pickler.Pickler, obj: Any) -> Any:
    """Reduce an object of a script's class with a `__hash__`: the object may be in a set that it holds itself."""
    for value in getattr(obj, "__dict__", {}).values():
        if type(value) not in _BEFORE:
            break
    else:
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    return _in_two_steps(obj, *reduced) if type(reduced[2]) is dict else reduced


class _First(Record):
    """The attributes of an object that are set before its others are loaded, since those may need its hash."""

    obj: Any
    attributes: dict[str, Any]


def _in_two_steps(obj: Any, make: Any, args: tuple[Any, ...], state: dict[str, Any], *items: Any) -> Any:
    first = {name: value for name, value in state.items() if is_static(value)}
    others = {name: value for name, value in state.items() if name not in first}
    listed, keyed = (*items, None, None)[:2]
    return make, args, (_First(obj, first), others), listed, keyed, _set_others


def _reduce_first(_: pickler.Pickler, first: _First) -> Any:
    return _set_first, tuple(first)


def _set_first(obj: Any, attributes: dict[str, Any]) -> None:
    obj.__dict__.update(attributes)


def _set_others(obj: Any, state: tuple[None, dict[str, Any]]) -> None:
    obj.__dict__.update(state[1])


def maker_for(kind: Any, make: Any) -> Any:
    """Return the function in place of pickle's `__newobj__` for a class with a `__new__`; others as they are."""
    if make is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return make
    # A number, a text or a tuple gives its value as the argument; the class's own `__new__` may take other arguments.
    of_value = type(getattr(kind, "__getnewargs__", _new)) is not FunctionType
    return _new_of_value if of_value else _new


def _new(cls: Any, *args: Any) -> Any:
    """Make an object by the script's `__new__`.

    The call fails if `__new__` reads an attribute of the class that holds this very object, as a singleton does. Then
    the object is made without it, and gets its attributes.
    """
    try:
        return cls.__new__(cls, *args)
    except Exception:  # a __new__ of the program may raise anything
        base = _base_of(cls)
        return base.__new__(cls, *(() if base is object else args))


def _new_of_value(cls: Any, *args: Any) -> Any:
    return _base_of(cls).__new__(cls, *args)


def _base_of(cls: Any) -> Any:
    """Return the first base whose `__new__` is not the script's."""
    return next(base for base in cls.__mro__ if type(base.__new__) is not FunctionType)


pickler.reducers[_First] = _reduce_first
