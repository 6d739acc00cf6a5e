"""Classes travel as one object per process, known by an id that the class carries."""

from __future__ import annotations

import io
import pickle
import sys
import threading
import types
import weakref
from types import FunctionType
from typing import NamedTuple

from goproc._pickling import foreign, generics, homes, pickler, statics, store, wrappers
from goproc._pickling.changes import is_definition
from goproc._pickling.entries import ClassEntry, Use, arrived, entries, read
from goproc._pickling.making import (
    Received,
    class_of,
    delete_attributes,
    identify,
    make_class,
    received,
    set_attributes,
    set_bases,
    uid_of,
)
from goproc._pickling.names import cell_contents
from goproc._pickling.passing import Passing
from goproc._pickling.statics import NotStatic, importable, is_enumeration, reduce_by_cloudpickle
from goproc._record import Record
from goproc.errors import OutOfSharedMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from typing import Any

    from goproc._pickling.class_pickler import ClassPickler
    from goproc._pickling.enumerations import State
    from goproc._pickling.pickler import Pickler
    from goproc._pickling.store import Ref

_by_ref: dict[Ref, type] = store.cache({})  # classes received
# Classes of this process by their definitions. Entries of classes that are gone stay: the store limits their number.
_own_by_ref: dict[Ref, weakref.ref[type]] = store.cache({})
_classes = Passing()  # the classes in `entries`
# Names of attributes that stay behind: a library has cached there an object that cannot be pickled.
left_out: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()
# Names of globals in the groups of classes that may have to be left out.
_mentioned: dict[ClassEntry, frozenset[str]] = store.cache({})
# Above zero while a class's definition is made, with the store locked.
_defining = 0


class _Loading(threading.local):
    """The class that the blob being loaded defines: see `_set_class`."""

    uid: str | None = None


_loading = _Loading()


# -- the sender ----------------------------------------------------------------------------------------------


def class_entry(cls: type) -> ClassEntry:
    """Return the entry of `cls`. The first time, find out how it travels, and store its definition."""
    entry = entries.get(id(cls))
    if entry is None or entry.uid is None:
        if entry is None or homes.registered(str(cls.__module__)):
            with store.lock:
                entry = entries[id(cls)] = _new_entry(cls)
                for passed in _classes.add(cls):
                    entries.pop(id(passed), None)
                _leave_out_mentioned()
    elif entry.changed(cls):
        with store.lock:
            if entry.received:
                entry.override(cls)
            else:
                _define(cls, entry)
            _leave_out_mentioned()
    return entry


def _leave_out_mentioned() -> None:
    """Now that all classes are known, leave out globals that only texts in methods name and that cannot be pickled."""
    while _mentioned and not _defining:
        entry, names = _mentioned.popitem()
        entry.groups = [
            (namespace, tuple([name for name in known if name not in names or _is_carried(namespace, name)]))
            for namespace, known in entry.groups
        ]
        entry.modules = tuple([name for name in entry.modules if _is_carried(sys.modules, name)])
        entry.update_stateful()


def _is_carried(namespace: Mapping[str, Any], name: str) -> bool:
    return name in namespace and pickler.refusal(namespace[name]) is None


def _new_entry(cls: type) -> ClassEntry:
    entry = ClassEntry(cls, None)
    if not importable(cls):
        reduction = generics.reduce_model(cls) or foreign.reduce_type(cls)
        if reduction is not None:  # its origin and arguments may change
            entry.reduction, entry.stateful = reduction, True
            return entry
        reduction = _of_types(cls) or reduce_by_cloudpickle(cls)
        if reduction is not NotImplemented and len(reduction) > 2:
            entry.uid = uid_of(cls)
            _define(cls, entry)
        else:  # a type whose name is not in builtins, such as that of None or of cells
            entry.reduction = reduction
    return entry


def _of_types(cls: type) -> tuple[Any, ...] | None:
    """Return the reduction of a built-in type that has a name in `types` alone, such as that of cells."""
    if cls.__module__ != "builtins":
        return None
    return next(((getattr, (types, name)) for name, value in vars(types).items() if value is cls), None)


def _define(cls: type, entry: ClassEntry) -> None:
    global _defining
    entry.note_changes(cls)
    _defining += 1
    entry.checking = True
    try:
        definition, blob = _pickled(cls, entry)
    except NotStatic:
        entry.inline = True
        entry.update_stateful()
        return
    finally:
        entry.checking = False
        _defining -= 1
    ref = store.put(blob, (cls.__module__, cls.__qualname__))
    entry.inline = not isinstance(ref, int)
    if entry.inline:
        entry.update_stateful()
        return
    entry.ref = ref
    entry.groups = [(scope.source, names) for scope, names in definition.groups()]
    entry.cells, entry.parts = definition.state_cells, definition.parts
    mentioned = frozenset().union(*[scope.mentioned for scope in definition.scopes.values()])
    entry.modules = tuple(definition.modules)
    if mentioned or entry.modules:
        _mentioned[entry] = mentioned
    entry.uses, entry.inside = [Use.of(used) for used in definition.uses], definition.inside
    entry.guards = [scope.guard() for scope in definition.scopes.values()]
    entry.watch_all(cls)  # last, as pickling may have added to the class (the caches of abc)
    entry.update_stateful()
    _own_by_ref[ref] = entry.gone


def _pickled(cls: type, entry: ClassEntry) -> tuple[ClassPickler, bytes]:
    """Pickle the definition of a class.

    An annotation, or an object that a library has cached on the class, is no reason to refuse the class: it stays
    behind.

    Raises:
        NotStatic: the class has to be sent whole.
        Exception: it cannot be pickled.
    """
    from goproc._pickling.class_pickler import ClassPickler

    failure: Exception | None = None
    for hints in (True, False, True, False):
        try:
            definition = ClassPickler(cls, entry, hints)
            return definition, definition.dump_class()
        except OutOfSharedMemory:
            raise
        except Exception as error:  # pickling may raise anything: a second try leaves more out
            failure = failure or error
            if hints:
                continue
            from goproc._pickling.class_caches import find_caches

            if not find_caches(cls):
                raise error if isinstance(error, NotStatic) else failure from None
    raise failure or AssertionError


def is_static_class(cls: type) -> bool:
    """Return True if messages carry only the reference of a class."""
    if id(cls) not in entries:
        if importable(cls):
            return True
        if _defining:
            return False
    return not class_entry(cls).stateful


statics.static_class = is_static_class


def forget_importable() -> None:
    """Check the classes that were found importable again: a module may have been reloaded since."""
    for key, entry in list(entries.items()):
        if entry.uid is None:
            entries.pop(key, None)


def _reduce_class(_: Pickler, cls: type) -> Any:
    """Reduce a class met in a message."""
    entry = entries.get(id(cls))
    if entry is None or not entry.together.unchanged():
        entry = class_entry(cls)
    if entry.uid is None:
        return entry.reduction
    if entry.inline:
        return inline_class(cls)
    if not entry.stateful:
        return load_class, (entry.ref,)
    values = [
        {name: namespace[name] for name in names if name in namespace} for namespace, names in entry.groups
    ]
    contents = [cell_contents(cell) for cell in entry.cells]
    modules = [sys.modules[name] for name in entry.modules if name in sys.modules]
    state = values, contents, entry.carried(cls), modules, entry.parts
    return load_class, (entry.ref,), state, None, None, _set_class_state


def reduce_known(cls: type) -> Any:
    """Reduce a class for readers to which a message brings it, too; None if the class is reduced as any other."""
    if importable(cls):
        return None
    entry = class_entry(cls)
    return None if entry.uid is None or entry.inline else (_known_class, (entry.uid, entry.ref))


def _known_class(uid: str, ref: Ref) -> type:
    """Return a class as it is in this process. Its definition may be a later one."""
    return class_of(uid) or load_class(ref)


class _Definitions(Record):
    """The part of a class that is applied before its other attributes, which may need it to be loaded."""

    cls: type
    uid: str
    attributes: dict[str, Any]
    home: bool  # the module of the class travels by value


def inline_class(cls: type, without: Container[str] = ()) -> Any:
    """Reduce the whole class, as cloudpickle does, but let a process that has the class keep its own.

    The slots of the class are kept; cloudpickle makes attributes of them, and an object could not come back from there.
    The methods are applied first: if a set on the class holds an instance, the set needs the instance's hash when it is
    loaded.

    Args:
        cls: the class.
        without: names of attributes that stay behind.
    """
    args, attributes, states = _parts_of(cls)
    uid = uid_of(cls)
    definitions: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in foreign.without_fields(cls, attributes).items():
        if key not in without and key not in left_out.get(cls, ()):
            value = _Content(value) if _is_found_in(cls, value) else value
            (definitions if is_definition(key, value) and key != foreign.FIELDS else others)[key] = value
    if cls.__qualname__ != cls.__name__:
        definitions["__qualname__"] = cls.__qualname__
    first = _Definitions(cls, uid, definitions, _in_home(cls))
    return _make_class, (uid, args), (first, states, others), None, None, _set_class


def _parts_of(cls: Any) -> tuple[tuple[Any, ...], dict[str, Any], list[State]]:
    """Return the arguments that make a class, its attributes, and the state of its members if it is an enumeration."""
    _, args, (attributes, _), *_ = reduce_by_cloudpickle(cls)
    if is_enumeration(cls):
        from goproc._pickling import enumerations

        namespace = {"__module__": cls.__module__}
        args = type(cls), cls.__name__, cls.__bases__, namespace, args[5], enumerations.Members.of(cls)
        members = {name: cls.__dict__[name] for name in cls._member_map_ if name in cls.__dict__}
        kept = {"_member_type_": cls._member_type_, **enumerations.kept_by(cls), **members}
        return args, {**attributes, **kept}, enumerations.states_of(cls)
    metaclass, name, bases, namespace, tracker, *_ = args
    if "__slots__" in cls.__dict__ and NamedTuple not in bases:  # a NamedTuple brings its own
        namespace = {**namespace, "__slots__": cls.__dict__["__slots__"]}
    if hasattr(cls, "__struct_config__"):
        from goproc._pickling import structs

        if structs.is_struct(cls):
            del namespace["__slots__"]
            return (metaclass, name, bases, namespace, tracker, None, structs.Struct.of(cls)), attributes, []
    return (metaclass, name, bases, namespace, tracker), attributes, []


class _Content:
    """A stand-in for an attribute of a class that pickles as a lookup of that attribute."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __get__(self, obj: Any, owner: Any = None) -> Any:  # a descriptor, as the value is one
        raise AssertionError


def _is_found_in(cls: type, value: Any) -> bool:
    """Return True if a descriptor pickles as a lookup in `cls`, which is not possible before `cls` is made."""
    kind: Any = type(value)
    if type(kind.__reduce__) is not FunctionType or not hasattr(kind, "__get__"):
        return False
    try:
        reduced = value.__reduce_ex__(5)
    except Exception:  # pickling the descriptor raises the error
        return False
    return isinstance(reduced, tuple) and len(reduced) > 1 and any(part is cls for part in reduced[1])


def _reduce_content(_: Pickler, content: _Content) -> Any:
    value = content.value
    return object.__new__, (type(value),), object.__getstate__(value)


def _in_home(cls: type) -> bool:
    module = cls.__module__
    return isinstance(module, str) and homes.only_here(module)


def _reduce_definitions(_: Pickler, definitions: _Definitions) -> Any:
    return _set_definitions, tuple(definitions)


# -- the receiver --------------------------------------------------------------------------------------------


def _make_class(uid: str, args: tuple[Any, ...]) -> type:
    cls = class_of(uid)
    if cls is None:
        cls = make_class(*args)
        identify(cls, uid)
        received[cls] = Received()
    elif cls in received:
        set_bases(cls, args[2])
    return cls


def _set_definitions(cls: type, uid: str, attributes: dict[str, Any], home: bool) -> bool:
    """Apply the definitions to a new class, or bring one received before up to date; leave this process's own alone.

    A class that has also arrived by itself is not filled as a part of another definition: its own definition and its
    own messages keep it up to date, over namespaces of their own.

    Returns:
        True if the other attributes are to be set, too.
    """
    known = received.get(cls)
    if known is None or (known.filled and _loading.uid not in (None, uid) and id(cls) in entries):
        return False
    delete_attributes(cls, known.names)
    known.names = [*attributes]
    set_attributes(cls, attributes)
    if home:
        homes.receive(cls)
    return True


def _set_class(cls: type, state: tuple[Any, ...]) -> None:
    applied, _, others = state
    if applied:
        set_attributes(cls, others)
        known = received[cls]
        known.names += others
        known.filled = True


def load_class(ref: Ref) -> type:
    """Return the class behind `ref`, loaded once per process."""
    own = _own_by_ref.get(ref)
    if own is not None and (cls := own()) is not None:
        return cls
    cls = _by_ref.get(ref)
    if cls is not None:
        if _loading.uid is None:  # a message refers to the class: the rest of the class follows there
            entry = arrived.get(key := id(cls))
            if entry is not None:
                entry.overridden = []
                read.add(key)
    else:
        with store.lock:
            unpickler = pickle.Unpickler(io.BytesIO(store.get(ref)))
            uid, _ = unpickler.load()
            before = _loading.uid
            _loading.uid = uid
            try:
                cls = unpickler.load()
                groups, cells, parts, state, inside, uses, modules = unpickler.load()
                companions = unpickler.load()
                namespaces, hinted = unpickler.load()
            finally:
                _loading.uid = before
            assert isinstance(cls, type)
            _by_ref[ref] = cls
            if cls in received:
                entry = entries[id(cls)] = arrived[id(cls)] = ClassEntry(cls, uid)
                entry.received = True
                entry.ref, entry.groups, entry.cells, entry.parts = ref, groups, cells, parts
                entry.state, entry.inside, entry.modules = set(state), inside, modules
                entry.uses = [Use.of(used) for used in uses]
                entry.update_stateful()
                if not entry.stateful:
                    entry.arrive(cls)
                entry.companions = companions
                homes.mention(cls.__module__, companions)
                for namespace in namespaces:
                    namespace.update({name: value for name, value in hinted.items() if name not in namespace})
    return cls


def _set_class_state(cls: type, state: tuple[Any, ...]) -> None:
    entry = entries.get(id(cls))
    if entry is None or not entry.received:
        return
    values, contents, carried, modules, _ = state
    homes.install(modules)
    for (namespace, _), dynamic in zip(entry.groups, values, strict=True):
        namespace.update(dynamic)
        wrappers.refresh_all(namespace)
    for cell, content in zip(entry.cells, contents, strict=True):
        if content:
            cell.cell_contents = content[0]
    entry.set_carried(cls, carried, received)


pickler.reducers[type] = _reduce_class
pickler.reducers[_Content] = _reduce_content
pickler.reducers[_Definitions] = _reduce_definitions
