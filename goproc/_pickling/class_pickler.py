"""The pickler of a class's definition."""

from __future__ import annotations

import builtins
import importlib
import sys
from types import FunctionType, MethodType

from goproc._pickling import foreign, generics, homes, identities, pickler
from goproc._pickling.changes import Guard, can_be_watched
from goproc._pickling.classes import class_entry, inline_class, load_class
from goproc._pickling.entries import Inside, entries, state_names
from goproc._pickling.making import uid_of as uid_of_class
from goproc._pickling.members import attributes_of, home_of, set_attributes
from goproc._pickling.mentions import WATCHED, mentioned, modules
from goproc._pickling.names import cell_contents, identifiers, names_of, submodules
from goproc._pickling.reach import copy_reached, is_alone, is_plain, text_hints, uid_of
from goproc._pickling.statics import (
    BASE_GLOBALS,
    LRU,
    NotStatic,
    importable,
    is_class,
    is_enumeration,
    is_handle,
    is_static,
    library,
    reduce_by_cloudpickle,
)
from goproc.errors import OutOfSharedMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CellType, CodeType
    from typing import Any

    from goproc._pickling.entries import ClassEntry


class Scope:
    """A namespace that methods of the class run over.

    Each global that the methods use is either in the definition, and then watched for a change, or dynamic: in the
    messages.

    Attributes:
        mentioned: names of dynamic globals that only texts name: they travel if they can be pickled.
        hints: names in annotations that are texts.
        size: the number of globals, if code of the class reads them as a whole, else -1.
    """

    def __init__(self, source: dict[str, Any]) -> None:
        self.source = source
        self.dynamic: dict[str, None] = {}
        self.mentioned: dict[str, None] = {}
        self.hints: set[str] = set()
        self.size = -1
        self.expected: dict[str, Any] = {}
        self.absent: set[str] = set()

    def guard(self) -> Guard:
        return Guard(self.source, self.expected, self.absent, self.size)


class ClassPickler(pickler.Pickler):
    """Pickles one class, and every class and function in it that has no definition of its own."""

    def __init__(self, root: type, entry: ClassEntry, hints: bool) -> None:
        self.sink = pickler.Sink()
        super().__init__(self.sink, 5)
        self.root = root
        self.volatile = entry.volatile
        self.state = entry.state
        self._version = entry.version
        self.inside: list[Inside] = []
        self._names = {part.cls: part.names for part in entry.inside}
        self.uses: list[type] = []
        self.hints = hints  # with the annotations of methods that are more than importable
        self.scopes: dict[int, Scope] = {}
        self.state_cells: list[CellType] = []
        self.parts: list[type] = []
        self.modules: dict[str, None] = {}

    def dump_class(self) -> bytes:
        """Return the blob: the id of the class, the class, and the parts of it that messages carry.

        The version makes a new blob of a class that has returned to an earlier state, so that receivers load it anew.
        """
        pickler.learn_cloudpickle()
        self.dump((uid_of_class(self.root), self._version))
        self.dump(self.root)
        groups = [(self.namespace(scope.source), names) for scope, names in self.groups()]
        state, modules = tuple(self.state), tuple(self.modules)
        self.dump((groups, self.state_cells, self.parts, state, self.inside, self.uses, modules))
        written = len(self.sink)
        try:
            self.dump(self._companions())
            self._dump_hinted()
        except OutOfSharedMemory:
            raise
        except Exception:  # one of them cannot be part of a definition, and may never be needed
            del self.sink[written:]
            self.dump({})
            self.dump(([], {}))
        return b"".join(self.sink)

    def _dump_hinted(self) -> None:
        """Pickle the globals that annotations of methods name, and the namespaces in which `typing` looks for them.

        They are no part of the class: a change of them does not change it.
        """
        found = {name: value for scope in self.scopes.values() for name, value in self._hinted(scope).items()}
        namespaces = [self.namespace(scope.source) for scope in self.scopes.values()]
        parts, uses, cells, scopes = list(self.parts), list(self.uses), list(self.state_cells), self.scopes
        known = dict(self.modules)
        self.scopes = {}
        try:
            self.dump((namespaces, found))
        finally:
            self.parts, self.uses, self.state_cells, self.scopes = parts, uses, cells, scopes
            self.modules = known

    def _hinted(self, scope: Scope) -> dict[str, Any]:
        found = {}
        for name in scope.hints:
            value = scope.source.get(name)
            if name not in scope.expected and (is_class(value) or type(value).__module__ == "typing"):
                found[name] = value
        return found

    def _companions(self) -> dict[str, Any]:
        """Return the globals that annotations name in texts: `typing.get_type_hints()` looks for them in the module."""
        namespace = getattr(sys.modules.get(self.root.__module__), "__dict__", {})
        found: dict[str, Any] = {}
        todo = [self.root]
        for cls in todo:
            hints = [hint for hint in vars(cls).get("__annotations__", {}).values() if isinstance(hint, str)]
            for name in identifiers(hints):
                value = namespace.get(name)
                if name in found or not (_is_definition(value) or type(value).__module__ == "typing"):
                    continue
                found[name] = value
                if is_class(value) and not importable(value):
                    todo.append(value)
        return {name: value for name, value in found.items() if value is not None}

    def groups(self) -> list[tuple[Scope, tuple[str, ...]]]:
        found = [(scope, tuple({**scope.dynamic, **scope.mentioned})) for scope in self.scopes.values()]
        return [(scope, names) for scope, names in found if names]

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            return self._reduce_method(obj)
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if is_handle(kind):
            raise NotStatic("a handle")
        if kind is MethodType and not importable(_class_of(obj.__self__)):
            # The method cannot be found by its name before the class is filled.
            return MethodType, (
                obj.__func__,
                obj.__self__,
            )
        return super().reducer_override(obj)

    def _reduce_class(self, cls: type) -> Any:
        if cls is self.root:
            self._check(cls)
            return inline_class(cls, self.state)
        entry = class_entry(cls) if id(cls) in entries else None
        if entry is None:
            if importable(cls):
                return NotImplemented
            reduction = foreign.reduce_type(cls)
            if reduction is not None:
                return reduction
            # The origin has to be whole before it can be parametrized.
            if generics.origin_of(cls) not in (None, self.root, *[part.cls for part in self.inside]):
                reduction = generics.reduce_model(cls)
                if reduction is not None:
                    return reduction
            reduction = reduce_by_cloudpickle(cls)
            if reduction is NotImplemented or len(reduction) == 2:
                return reduction
            self._check(cls)
            names = self._names.get(cls, set()) | state_names(cls)
            self.inside.append(Inside(cls, names))
            return inline_class(cls, names)
        if entry.uid is None:
            return entry.reduction
        if entry.inline:
            raise NotStatic("a class that is always sent whole")
        if entry.stateful:
            self.parts.append(cls)
        self.uses.append(cls)
        return load_class, (entry.ref,)

    def _check(self, cls: type) -> None:
        if is_enumeration(cls) and not can_be_watched(cls):
            raise NotStatic("an enumeration with members that can change in themselves")

    def contents(self, cell: CellType, own: bool) -> tuple[Any, ...]:
        found = cell_contents(cell)
        # The cells of a library's wrappers belong to the library; the cells of the program's methods are state.
        if any(not _is_definition(value) and (own or is_handle(type(value))) for value in found):
            self.state_cells.append(cell)
            return ()
        return found

    def _reduce_method(self, function: FunctionType) -> Any:
        """Reduce a function in a class body: as a whole, without the dynamic globals."""
        if importable(function):
            return NotImplemented
        names = names_of(function.__code__)
        if names.rebound:
            raise NotStatic("a method rebinds a global")
        source = function.__globals__
        module = library(source)
        if module is None:
            self.modules.update(dict.fromkeys(modules([names])))
        statics = self._statics(source, names.used) if module is None else {}
        cells, contents = self.cells(function.__closure__, own=module is None)
        namespace = self.namespace(source) if module is None else module
        attributes = (
            *attributes_of(function),
            *function.__dict__.items(),
            ("__defaults__", function.__defaults__),
        )
        if module is None and self.hints:
            statics.update(self._mentioned(source, function))
        if self.hints and function.__annotations__:
            attributes = (*attributes, ("__annotations__", function.__annotations__))
        state = (statics, contents, attributes, submodules(statics.values(), names.attributes))
        uid = uid_of(function) if module is None and home_of(function) is not None else ""
        return (
            _new_method,
            (function.__code__, namespace, function.__name__, cells, uid),
            state,
            None,
            None,
            _set_method,
        )

    def _scope(self, source: dict[str, Any]) -> Scope:
        return self.scopes.setdefault(id(source), Scope(source))

    def _statics(self, source: dict[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
        """Return the globals that belong to the definition; note the others as dynamic."""
        scope = self._scope(source)
        statics = {name: source[name] for name in BASE_GLOBALS if isinstance(source.get(name), str)}
        for name in used:
            if name not in source:
                scope.absent.add(name)
            elif name in self.volatile or not _belongs(source[name]):
                scope.dynamic[name] = None
            else:
                scope.expected[name] = statics[name] = source[name]
        return statics

    def _mentioned(self, source: dict[str, Any], function: FunctionType) -> dict[str, Any]:
        """Return the globals named in texts that belong to the definition; note the others."""
        scope, code = self._scope(source), names_of(function.__code__)
        scope.hints |= identifiers(text_hints(function))
        found = mentioned(source, [code], [], code.reaches_all)
        if len(scope.absent | found.absent) <= len(scope.absent) + WATCHED:
            scope.absent |= found.absent
        if code.reaches_all:
            scope.size = len(source)
        statics = {}
        for name in found.names:
            value = source[name]
            if name.startswith("__") or name in scope.dynamic or name in scope.expected:
                continue
            if name not in self.volatile and self._is_alone(value):
                scope.expected[name] = statics[name] = value
            else:
                scope.mentioned[name] = None
        return statics

    def _is_alone(self, value: Any) -> bool:
        """Return True if a value can be in the definition of the class, and brings no part that could be refused."""
        if type(value) is FunctionType and not importable(value):
            return is_alone(value)
        return is_plain(value) or (value is self.root and _belongs(value))


def _class_of(owner: Any) -> type:
    return owner if isinstance(owner, type) else type(owner)


def _is_definition(value: Any) -> bool:
    return type(value) is FunctionType or is_class(value) or is_static(value)


def _belongs(value: Any) -> bool:
    """Return True if the value of a global belongs to the definition of the class."""
    if is_class(value):
        entry = entries.get(id(value))
        return entry is None or not entry.stateful
    return type(value) is LRU or _is_definition(value)


def _new_method(
    code: CodeType, namespace: Any, title: str, cells: tuple[CellType, ...] | None, uid: str
) -> Any:
    if isinstance(namespace, str):
        namespace = importlib.import_module(namespace).__dict__
    else:
        namespace["__builtins__"] = builtins
    identities.receive(code, uid)
    function = identities.shared(uid, lambda: FunctionType(code, namespace, title, None, cells))
    if function.__globals__ is not namespace:
        copy_reached(function, namespace)
    return function


def _set_method(function: Any, state: tuple[Any, ...]) -> None:
    statics, contents, attributes, imports = state
    for name, value in statics.items():  # the namespace may be there already, with these globals
        function.__globals__.setdefault(name, value)
    function.__module__ = function.__globals__.get("__name__")
    if "." not in function.__qualname__:
        homes.receive(function)
    for module in imports:
        importlib.import_module(module)
    pickler.fill_cells(contents)
    set_attributes(function, attributes)
