"""Pickling: what a message looks like once the C codec has passed it on.

Protocol 5, large buffers out of band, functions and classes of `__main__` and nested ones by value through
`goproc.definitions`, everything else as pickle and cloudpickle have it.  cloudpickle is imported when the first
object needs it: a program that sends plain data never does.

The pickler asks Python about every object that is not a basic one, so what it does with a type is looked up in one
dictionary, filled the first time the type is met.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
from collections.abc import Callable
from types import CellType, FunctionType, MethodType
from typing import Any

from . import definitions

OUT_OF_BAND = 16 * 1024

Reducer = Callable[[Any, Any], Any]
_policy: dict[type, Reducer | None] = {}


class _Sink:
    """The file of a pickler: collects what is written without a copy."""

    __slots__ = ("write",)


class Pickler(pickle.Pickler):
    """Pickles one message."""

    _namespaces: dict[int, tuple[dict[str, Any], Any]] | None = None
    _cells: dict[int, CellType] | None = None

    def reducer_override(self, obj: Any) -> Any:
        try:
            reducer = _policy[type(obj)]
        except KeyError:
            reducer = _learn(type(obj))
        return NotImplemented if reducer is None else reducer(self, obj)

    def namespace(self, source: dict[str, Any]) -> dict[str, Any]:
        """The dictionary that stands for `source`, empty while pickled, the same one for the whole message."""
        if self._namespaces is None:
            self._namespaces = {}
        return self._namespaces.setdefault(id(source), ({}, source))[0]

    def cells(
        self, closure: tuple[CellType, ...] | None, own: bool = True
    ) -> tuple[tuple[CellType, ...] | None, list[tuple[CellType, Any]] | None]:
        """Return the cells, which pickle as empty ones, and the contents of those not met in this message yet."""
        if closure is None:
            return None, None
        if self._cells is None:
            self._cells = {}
        contents = []
        for cell in closure:
            if id(cell) not in self._cells:
                self._cells[id(cell)] = cell
                contents += [(cell, value) for value in self.contents(cell, own)]
        return closure, contents or None

    def contents(self, cell: CellType, own: bool) -> tuple[Any, ...]:
        return definitions._cell_contents(cell)


class DefinitionPickler(Pickler):
    """Pickles what goes into the blob store: nothing in it may be state that changes, or a handle."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if getattr(kind, "__goproc_handle__", False):
            raise definitions.NotStatic("a handle")
        if kind is FunctionType and not definitions.importable(obj):
            raise definitions.NotStatic("a function")
        if issubclass(kind, type) and not definitions._is_static_class(obj):
            raise definitions.NotStatic("a class with state")
        return super().reducer_override(obj)


class ClassPickler(Pickler):
    """Pickles the definition of a class, with everything it refers to that has no definition of its own."""

    def __init__(self, file: Any, root: type, volatile: set[str]) -> None:
        super().__init__(file, 5)
        self.root = root
        self.volatile = volatile
        self.groups: dict[int, tuple[dict[str, Any], dict[str, None]]] = {}
        self.state_cells: list[CellType] = []
        self.parts: list[type] = []
        self.guards: dict[int, tuple[dict[str, Any], dict[str, Any], set[str]]] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            return definitions.reduce_method(self, obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if getattr(kind, "__goproc_handle__", False):
            raise definitions.NotStatic("a handle")
        return super().reducer_override(obj)

    def _reduce_class(self, cls: type) -> Any:
        if cls is not self.root:
            entry = definitions._classes.get(id(cls))
            if entry is None and definitions.importable(cls):
                return NotImplemented
            if entry is not None:
                if not entry.by_value:
                    return entry.reduction
                if entry.inline:
                    raise definitions.NotStatic("a class that is always sent whole")
                if entry.stateful:
                    self.parts.append(cls)
                return definitions.load_class, (entry.ref,)
            reduction = definitions.reduce_by_cloudpickle(cls)
            if reduction is NotImplemented or len(reduction) == 2:
                return reduction
        return definitions.inline_class(cls, definitions.uid_of(cls))

    def group(self, source: dict[str, Any]) -> dict[str, None]:
        return self.groups.setdefault(id(source), (source, {}))[1]

    def guard(self, source: dict[str, Any], name: str, value: Any) -> None:
        _, expected, absent = self.guards.setdefault(id(source), (source, {}, set()))
        if name in source:
            expected[name] = value
        else:
            absent.add(name)

    def contents(self, cell: CellType, own: bool) -> tuple[Any, ...]:
        found = definitions._cell_contents(cell)
        # The cells of a library's wrappers are its own affair; those of the user's methods are state.
        for value in found:
            kind = type(value)
            if kind is FunctionType or isinstance(value, type) or definitions.is_static(value):
                continue
            if own or getattr(kind, "__goproc_handle__", False):
                self.state_cells.append(cell)
                return ()
        return found


def dump_definition(obj: Any) -> bytes:
    _import_cloudpickle()
    sink = _Sink()
    parts: list[bytes] = []
    sink.write = parts.append  # type: ignore[attr-defined]
    DefinitionPickler(sink, 5).dump(obj)  # type: ignore[arg-type]
    return b"".join(parts)


def dump_class(cls: type, entry: definitions.ClassEntry) -> tuple[bytes, Any, Any, Any, Any]:
    """Return the blob of a class, and what messages have to carry beside it."""
    _import_cloudpickle()
    sink = _Sink()
    parts: list[bytes] = []
    sink.write = parts.append  # type: ignore[attr-defined]
    pickler = ClassPickler(sink, cls, entry.volatile)
    # The namespaces and cells are filled in while the class is pickled, and come after it in the pickle.
    pickler.dump((cls, _Late(pickler), pickler.state_cells, pickler.parts))
    sources = [(source, tuple(names)) for source, names in pickler.groups.values() if names]
    guards = [(source, expected, frozenset(absent)) for source, expected, absent in pickler.guards.values()]
    return pickle.dumps((entry.uid, b"".join(parts)), 5), sources, pickler.state_cells, pickler.parts, guards


class _Late:
    """Stands for the list of namespaces, which is known once the class before it has been pickled."""

    def __init__(self, pickler: ClassPickler) -> None:
        self.pickler = pickler

    def __reduce__(self) -> Any:
        pickler = self.pickler
        return list, (
            [(pickler.namespace(source), tuple(names)) for source, names in pickler.groups.values() if names],
        )


# -- Policy by type ---------------------------------------------------------------------------------------------------


def _learn(kind: type) -> Reducer | None:
    reducer = _policy[kind] = _reducer_for(kind)
    return reducer


def _reducer_for(kind: type) -> Reducer | None:
    if issubclass(kind, type):
        return definitions.reduce_class
    if kind is FunctionType:
        return definitions.reduce_function
    if kind is MethodType:
        return definitions.reduce_bound_method
    if kind is definitions._LRU:
        return definitions.reduce_lru_cache
    if kind is CellType:
        return _reduce_cell
    name = (kind.__module__, kind.__name__)
    if name == ("typing", "NewType"):
        return lambda _, obj: (kind, (obj.__name__, obj.__supertype__))
    if name == ("_struct", "Struct"):
        return lambda _, obj: (kind, (obj.format,))
    if name == ("functools", "cached_property"):
        return lambda _, obj: (_make_cached_property, (obj.func, obj.attrname))
    if kind.__module__ == "dataclasses":
        return _reduce_sentinel
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is not None:
        special = cloudpickle.Pickler.dispatch_table.get(kind)
        if special is not None and kind not in copyreg.dispatch_table:
            return lambda _, obj: special(obj)
    if kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        return _reduce_custom
    return None


def _reduce_cell(pickler: Pickler, cell: CellType) -> Any:
    if pickler._cells is not None and id(cell) in pickler._cells:
        return CellType, ()
    return CellType, definitions._cell_contents(cell)


def _make_cached_property(function: Any, name: str | None) -> Any:
    """Made anew, since on some versions of Python it holds a lock."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _reduce_sentinel(_: Pickler, obj: Any) -> Any:
    """Keep the identity of the markers of `dataclasses`, which it compares by `is`."""
    if type(obj).__name__ == "_FIELD_BASE":
        return obj.name
    for name, value in vars(sys.modules["dataclasses"]).items():
        if value is obj:
            return name
    return NotImplemented


def _reduce_custom(_: Pickler, obj: Any) -> Any:
    """Reduce by the type's own method, and refuse a name in `__main__`: no other process has that module."""
    if getattr(obj, "__module__", None) not in definitions._MAIN:
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    if isinstance(reduced, str):
        raise pickle.PicklingError(
            f"it is pickled as the name {reduced!r} in __main__, which only this process has"
        )
    return reduced


def _import_cloudpickle() -> bool:
    """Import cloudpickle and learn the types it knows; False if that was done before."""
    if _state["cloudpickle"]:
        return False
    import cloudpickle  # noqa: F401

    _state["cloudpickle"] = True
    _policy.clear()
    return True


_state = {"cloudpickle": False}


# -- dumps and loads --------------------------------------------------------------------------------------------------


def dump_raw(obj: Any, buffers: list[memoryview] | None) -> bytes:
    """`dumps` without explanations: raises whatever pickle raises."""
    sink = _Sink()
    parts: list[bytes] = []
    sink.write = parts.append  # type: ignore[attr-defined]
    if buffers is None:
        Pickler(sink, 5).dump(obj)  # type: ignore[arg-type]
    else:

        def keep(buffer: pickle.PickleBuffer) -> bool:
            try:
                raw = buffer.raw()
            except BufferError:
                return True
            if raw.nbytes < OUT_OF_BAND:
                return True
            buffers.append(raw)
            return False

        Pickler(sink, 5, buffer_callback=keep).dump(obj)  # type: ignore[arg-type]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def dumps(obj: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a message.

    Args:
        obj: anything.

    Returns:
        The pickle, and the contiguous buffers of 16 KiB and more, which are not in it.  They are views of the
        object's own memory: copy them before the object changes.

    Raises:
        PickleError: names the path to the object that cannot be pickled; its `__cause__` is the original error.

    Cost: about 2 us more than `pickle.dumps`.
    """
    buffers: list[memoryview] = []
    try:
        return dump_raw(obj, buffers), buffers
    except Exception as error:
        first = error
    # Two things are put off until a pickle fails: the import of cloudpickle, which knows many a type that pickle
    # refuses, and a second look at what was importable once.
    if not isinstance(first, RecursionError):
        _import_cloudpickle()
        definitions.forget_importable()
        buffers.clear()
        try:
            return dump_raw(obj, buffers), buffers
        except Exception as error:
            first = error
    from .diagnose import explain

    raise explain(obj, first, "message") from first


def loads(main: bytes | memoryview, buffers: list[Any]) -> Any:
    """Load a message made by `dumps`; the buffers become the memory of the objects, with no copy."""
    return pickle.loads(main, buffers=buffers)
