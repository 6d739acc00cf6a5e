"""An exception is taken apart, and made again without its constructor.

Pickle calls the class of an exception with `args`. If the class has an `__init__` with other arguments, that call
fails, or makes another exception. Here `__new__` makes the copy. Then the copy gets the state of the original: `args`,
the members that built-in bases keep in C (`errno`, `filename`, `start`), the slots and the `__dict__`.

A class with its own `__reduce__`, `__getstate__` or `__setstate__` is pickled by these.
"""

from __future__ import annotations

import builtins
import copyreg
import pickle
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from weakref import WeakKeyDictionary

from goproc._pickling import pickler
from goproc._pickling.bounded import dump_bounded
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Member = tuple[int, str]  # the place of a class in the method resolution order, and a name in that class

_BUILTIN: frozenset[type] = frozenset(
    [object, *(c for c in vars(builtins).values() if isinstance(c, type) and issubclass(c, BaseException))]
)
_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})
# Modules that write a __getstate__ and a __setstate__ which handle only slots.
_GENERATORS = ("dataclasses", "attr._make")
_OBJECT_LIMIT = 64 * 1024  # the most bytes that AttributeError.obj may add to a message

# The descriptors of the attributes, since a class may replace `__setattr__` or `__getattribute__`.
args_of = BaseException.__dict__["args"]
dict_of = BaseException.__dict__["__dict__"].__get__
cause_of = BaseException.__dict__["__cause__"]
traceback_of = BaseException.__dict__["__traceback__"]
context_of = BaseException.__dict__["__context__"]
suppress_of = BaseException.__dict__["__suppress_context__"]
members_of = BaseExceptionGroup.__dict__["exceptions"].__get__
message_of = BaseExceptionGroup.__dict__["message"].__get__


def quietly(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that may run code of the program. Return None if it raises."""
    try:
        return f(*args, **kwargs)
    except KeyboardInterrupt:  # more likely the user's Ctrl-C than the object's
        raise
    except BaseException:  # code of the program may raise anything
        return None


class Shape(Record):
    """The facts about a class that are needed to copy its exceptions."""

    base: Any  # the nearest base with a __new__ that is not written in Python
    members: tuple[Member, ...]  # slots, and members that built-in bases keep in C
    own_new: bool  # True also for a __new__ in C that is not Python's
    own_reduce: bool
    own_getstate: bool
    own_setstate: bool
    fits: bool  # __reduce__ fits __init__: no class below the one that defines it replaces the constructor


# The key has the number of names in the class: a class that is just arriving may get its methods later.
_shapes: WeakKeyDictionary[type, tuple[int, Shape]] = WeakKeyDictionary()


def shape_of(cls: type) -> Shape:
    names, shape = _shapes.get(cls, (-1, None))
    if shape is None or names != len(cls.__dict__):
        shape = _shape(cls)
        _shapes[cls] = len(cls.__dict__), shape
    return shape


def _shape(cls: type) -> Shape:
    base = cls
    while type(base.__dict__.get("__new__")) is not BuiltinFunctionType:
        assert base.__base__ is not None
        base = base.__base__
    reduces = [place for name in ("__reduce__", "__reduce_ex__") if (place := _own(cls, name)) is not None]
    init = _own(cls, "__init__")
    return Shape(
        base,
        tuple([(i, name) for i, owner in enumerate(cls.__mro__) for name in _members(owner)]),
        _own(cls, "__new__") is not None or base not in _BUILTIN,
        bool(reduces),
        _own(cls, "__getstate__") is not None,
        _own(cls, "__setstate__") is not None,
        init is None or not reduces or min(reduces) <= init,
    )


def _own(cls: type, name: str) -> int | None:
    """Return the place of the class that defines a method; None for a built-in one, or for a decorator's."""
    for place, owner in enumerate(cls.__mro__):
        if name in owner.__dict__:
            module = getattr(owner.__dict__[name], "__globals__", {}).get("__name__")
            generated = name in ("__getstate__", "__setstate__") and module in _GENERATORS
            return None if owner in _BUILTIN or generated else place
    return None


def _members(owner: type) -> list[str]:
    if owner in (BaseException, BaseExceptionGroup, ExceptionGroup, object):
        return []
    # A property of a class in C may be anything. The properties of the built-in classes are plain state.
    kinds = (MemberDescriptorType, GetSetDescriptorType) if owner in _BUILTIN else (MemberDescriptorType,)
    return [name for name, value in owner.__dict__.items() if isinstance(value, kinds)]


# -- the sender ----------------------------------------------------------------------------------------------


class State(Record):
    """Everything that a copy gets after it was made. It travels as a plain tuple."""

    args: tuple[Any, ...]
    members: dict[Member, Any]
    attributes: dict[str, Any] | None
    own: tuple[Any, ...] = ()  # empty, or the argument of __setstate__
    notes: Any = None  # the notes, in case `own` leaves them out
    obj: bytes | None = None  # the pickled AttributeError.obj


def is_plain(exc: BaseException) -> bool:
    """Return True if pickle itself copies the exception right: a built-in class, simple arguments, no more."""
    kind = type(exc)
    if kind not in _BUILTIN or dict_of(exc) or kind in copyreg.dispatch_table:
        return False
    if shape_of(kind).members or issubclass(kind, BaseExceptionGroup):
        return False
    return all(type(arg) in _ATOMS for arg in args_of.__get__(exc))


def has_own_state(exc: BaseException) -> bool:
    shape = shape_of(type(exc))
    return shape.own_getstate or shape.own_setstate


def is_linked(exc: BaseException) -> bool:
    return (
        cause_of.__get__(exc) is not None or context_of.__get__(exc) is not None or suppress_of.__get__(exc)
    )


def pickles_itself(exc: BaseException) -> bool:
    """Return True if the class, or a reducer for the class, defines how it is pickled."""
    return shape_of(type(exc)).own_reduce or type(exc) in copyreg.dispatch_table


def reduce_by_class(of: Any, exc: BaseException) -> Any:
    """Reduce an exception in the way of its class, and add attributes that a class written in C leaves out.

    The notes belong to the interpreter. They are added in every case.
    """
    if type(exc) in copyreg.dispatch_table:
        return NotImplemented
    in_c = not any(type(getattr(type(exc), name)) is FunctionType for name in ("__reduce__", "__reduce_ex__"))
    attributes = {name: value for name, value in dict_of(exc).items() if in_c or name == "__notes__"}
    if not in_c and not attributes:
        return pickler.reduce_custom(of, exc)
    reduced = exc.__reduce_ex__(5)
    if not isinstance(reduced, tuple) or len(reduced) > 3:
        return reduced
    make, args, *state = reduced
    own = tuple(state) if state and state[0] is not None else ()
    return make, args, (own, attributes, args_of.__get__(exc) if in_c else None), None, None, _complete


def _complete(exc: Any, parts: tuple[tuple[Any, ...], dict[str, Any], tuple[Any, ...] | None]) -> None:
    """Give an exception the state that its class has pickled, and its other attributes."""
    own, attributes, args = parts
    for state in own:
        exc.__setstate__(state)
    dict_of(exc).update(attributes)
    if args is not None:
        args_of.__set__(exc, args)


def call_of(exc: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments for the class's own `__new__`; None if it has none, or only that of a group.

    The message of a group cannot be changed later, and a `__new__` may change its argument.
    """
    cls: Any = type(exc)
    if not shape_of(cls).own_new or issubclass(cls, BaseExceptionGroup):
        return None
    if hasattr(cls, "__getnewargs_ex__"):
        args, kwargs = cls.__getnewargs_ex__(exc)
        return tuple(args), dict(kwargs)
    if hasattr(cls, "__getnewargs__"):
        return tuple(cls.__getnewargs__(exc)), {}
    return args_of.__get__(exc), {}


def state_of(exc: BaseException, own: bool = True) -> State:
    """Return the state of an exception.

    Args:
        exc: the exception.
        own: True to use its own `__getstate__` or `__setstate__`, if it has one.
    """
    cls: Any = type(exc)
    shape = shape_of(cls)
    getstate, setstate = own and shape.own_getstate, own and shape.own_setstate
    attributes = dict(dict_of(exc)) or None
    members = {}
    for member in shape.members:
        if not getstate or cls.__mro__[member[0]] in _BUILTIN:
            value = member_value(exc, *member)
            if value is not ABSENT:
                members[member] = value
    given: tuple[Any, ...] = ()
    if getstate:
        state = cls.__getstate__(exc)
        given = () if state is None else (state,)
    elif setstate and attributes is not None:
        given = (attributes,)
    notes = None
    if attributes is not None and (getstate or setstate):
        notes, attributes = attributes.get("__notes__"), None
    obj = _pickle_obj(exc) if issubclass(cls, AttributeError) else None
    return State(args_of.__get__(exc), members, attributes, given, notes, obj)


ABSENT = object()  # no value


def member_value(exc: BaseException, place: int, name: str) -> Any:
    """Return the value of a slot or a C member; `ABSENT` if it has none, or the one that a new object has."""
    owner = type(exc).__mro__[place]
    try:
        value = owner.__dict__[name].__get__(exc)
    except AttributeError:
        return ABSENT
    if owner is AttributeError and name == "obj":
        return ABSENT
    if value is None and owner in _BUILTIN:
        # An attribute that was never set reads as None, too. That matters for these alone: the interpreter reads
        # `value` without checking for NULL, and the text of an OSError made from a number and a text has both.
        args = args_of.__get__(exc)
        given = {"errno": args[:1], "strerror": args[1:2]}.get(name) if 2 <= len(args) <= 5 else None
        return None if owner is StopIteration or (owner is OSError and given == (None,)) else ABSENT
    return value


def attributes_of(exc: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield the attributes by name: slots, C members and those of the `__dict__`."""
    for member in shape_of(type(exc)).members:
        value = member_value(exc, *member)
        if value is not ABSENT:
            yield member[1], value
    yield from ((name, value) for name, value in list(dict_of(exc).items()) if name != "__notes__")


def _pickle_obj(exc: BaseException) -> bytes | None:
    """Pickle the object that lacks the attribute. It may be anything, so no error in it is a failure."""
    obj = AttributeError.__dict__["obj"].__get__(exc)
    if obj is None:
        return None
    return quietly(dump_bounded, obj, _OBJECT_LIMIT)  # type: ignore[no-any-return]


# -- the receiver --------------------------------------------------------------------------------------------


def make(cls: Any, call: tuple[tuple[Any, ...], dict[str, Any]] | None) -> BaseException:
    """Make an exception without state.

    Args:
        cls: its class.
        call: the arguments of the class's own `__new__`, if it has one. If that fails, the built-in `__new__` makes the
            object.
    """
    if call is not None:
        args, kwargs = call
        exc = quietly(cls.__new__, cls, *args, **kwargs)
        if type(exc) is cls:
            return exc  # type: ignore[no-any-return]
    return shape_of(cls).base.__new__(cls)  # type: ignore[no-any-return]


def make_group(cls: Any, message: str, members: Any) -> BaseException:
    return shape_of(cls).base.__new__(cls, message, members)  # type: ignore[no-any-return]


def fill(exc: BaseException, state: State) -> None:
    """Give a copy its state, without the `__setattr__` of its class, which may refuse."""
    cls: Any = type(exc)
    args_of.__set__(exc, state.args)
    for (place, name), value in state.members.items():
        try:
            cls.__mro__[place].__dict__[name].__set__(exc, value)
        except (AttributeError, TypeError, LookupError):
            # A class in C keeps the attribute to itself, or the class has changed.
            quietly(object.__setattr__, exc, name, value)
    if state.attributes:
        dict_of(exc).update(state.attributes)
    for own in state.own:
        setter = cls.__setstate__ if shape_of(cls).own_setstate else _set_state
        setter(exc, own)
    if state.notes is not None:
        dict_of(exc)["__notes__"] = state.notes
    if state.obj is not None:
        AttributeError.__dict__["obj"].__set__(exc, quietly(pickle.loads, state.obj))


def _set_state(exc: BaseException, state: Any) -> None:
    """Set the state of `__getstate__` as pickle does for a class without `__setstate__`."""
    slots: dict[str, Any] = {}
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    dict_of(exc).update(state or {})
    for name, value in (slots or {}).items():
        object.__setattr__(exc, name, value)


def link(
    exc: BaseException, cause: BaseException | None, context: BaseException | None, suppress: bool
) -> None:
    cause_of.__set__(exc, cause)
    context_of.__set__(exc, context)
    suppress_of.__set__(exc, suppress)  # last, as setting a cause sets it
