"""Enumerations: a member is one object in every process, with the attributes that it has in the enumeration's own.

Messages refer to a member by its name. The definition of an enumeration first makes the members without their
attributes, so that the attributes may refer to any member; then it sets the attributes.
"""

from __future__ import annotations

import copyreg
import enum

from goproc._pickling import making, pickler
from goproc._pickling.changes import OF_ENUMERATIONS
from goproc._pickling.statics import importable
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PASSING = "_inverted_"  # a flag keeps the result of `~` there


class Members(Record):
    """The parts from which the members of an enumeration are made.

    Attributes:
        kind: the class that makes the objects: `object`, or a library's such as `int`.
        items: for each member its name, the name of the first member with the same value, and arguments of
            `kind.__new__`.
    """

    kind: type
    items: tuple[tuple[str, str, tuple[Any, ...]], ...]

    @classmethod
    def of(cls, enumeration: Any) -> Members:
        kinds = enumeration._member_type_.__mro__
        kind = next(kind for kind in kinds if "__new__" in vars(kind) and importable(kind))
        items = [
            (name, member._name_, _arguments(kind, member))
            for name, member in enumeration._member_map_.items()
        ]
        return cls(kind, tuple(items))

    def make(self, enumeration: type) -> dict[str, Any]:
        """Return the members by their names, aliases included."""
        found: dict[str, Any] = {}
        for name, first, args in self.items:
            if name == first:
                found[name] = self.kind.__new__(enumeration, *args)
                found[name]._name_ = name  # the hash needs this
            else:
                found[name] = found[first]
        return found


def _arguments(kind: Any, member: Any) -> tuple[Any, ...]:
    if kind is object:
        return ()
    if hasattr(kind, "__getnewargs__"):
        return tuple(kind.__getnewargs__(member))
    value = member._value_
    if not isinstance(value, kind):
        return value if isinstance(value, tuple) else (value,)
    make, args, *_ = kind.__reduce_ex__(value, 2)
    return tuple(args[1:] if make is copyreg.__newobj__ else args)  # type: ignore[attr-defined]


class State(Record):
    """The attributes of one member."""

    enumeration: type
    name: str
    attributes: dict[str, Any]


def states_of(enumeration: Any) -> list[State]:
    """Return the attributes of all members."""
    return [State(enumeration, member._name_, attributes_of(member)) for member in _unique(enumeration)]


def _unique(enumeration: Any) -> list[Any]:
    return [member for name, member in enumeration._member_map_.items() if name == member._name_]


def attributes_of(member: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(member).items() if name != _PASSING}


def kept_by(enumeration: Any) -> dict[str, Any]:
    """Return the attributes of an enumeration in which its metaclass keeps the members.

    Combinations of flags are left out: they are found again.
    """
    members = set(map(id, enumeration._member_map_.values()))
    found = {name: vars(enumeration)[name] for name in OF_ENUMERATIONS if name in vars(enumeration)}
    by_value = found.get("_value2member_map_", {})
    found["_value2member_map_"] = {
        value: member for value, member in by_value.items() if id(member) in members
    }
    return found


def _reduce_state(_: pickler.Pickler, state: State) -> Any:
    return _set_state, tuple(state)


def _set_state(enumeration: Any, name: str, attributes: dict[str, Any]) -> None:
    """Give a member its attributes, unless this process has defined it."""
    if enumeration in making.received:
        vars(enumeration._member_map_[name]).update(attributes)


def reduce_member(_: pickler.Pickler, member: Any) -> Any:
    """Reduce a member by its name; a combination of flags, which has no name, by its value."""
    enumeration = type(member)
    if enumeration._member_map_.get(member._name_) is member:
        return _member, (enumeration, member._name_)
    return enum.EnumMeta.__call__, (enumeration, member._value_)


def _member(enumeration: Any, name: str) -> Any:
    return enumeration._member_map_[name]


pickler.reducers[State] = _reduce_state
