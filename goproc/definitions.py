"""Definitions: how functions and classes travel between processes.

A function that travels by value is a *template* and a *snapshot*:

    template   code, names, and the static globals: modules, importable objects, constants, classes; no mutable
               state.  Stored once in the blob store, after that a message holds only its small reference.
    snapshot   closure cells, defaults, mutable globals, channel handles: shipped with each message, so that what
               a goroutine sees never depends on where it runs or on what was cached.

The functions of one module refer to each other through its globals.  A template therefore holds a *slice* of the
module: the function, every plain function it can reach by global names (its members), and what these refer to.
The receiver builds one namespace from the slice and the snapshot, and puts the members over it: recursion, mutual
recursion and `global` statements then work with no special case.  A namespace is shared by calls only when nothing
in it can be rebound.

A cached template is checked at each use: the static globals must be the very objects it was made from.  A name that
was found rebound is part of the snapshot from then on, so a loop variable at module level costs one extra template
and not one for each turn.

A class is one object per process, since `isinstance` has to work across messages.  So it has no snapshot of its
own: its definition is applied once, and the mutable globals of its methods are those of the message loaded last.
Where that cannot be right (methods with `global` statements, class attributes that hold handles, a function that
makes new classes for ever) the class is sent whole in each message; its identity still holds.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from operator import is_, itemgetter
from types import CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from .errors import PickleError

if TYPE_CHECKING:
    from .serial import Pickler

_MAIN = ("__main__", "__mp_main__")
# A blob is never freed: what is made anew again and again is sent inline beyond this many definitions.
_BLOBS_PER_NAME = 64
# Code made by eval() would fill the sender's caches: they are dropped when they get this large.
_CACHED_CODES = 4096
_BASE_GLOBALS = ("__name__", "__package__", "__file__", "__path__")
# Code that names one of these can reach any global, so it gets a namespace of its own.
_REFLECTION = frozenset({"globals", "exec", "eval", "vars"})
_LRU = type(functools.lru_cache(lambda: None))

Ref = int | bytes
Payload = tuple[Any, ...]

_put: Callable[[bytes], int] | None = None
_get: Callable[[int], bytes] | None = None
_lock = threading.RLock()

_by_code: dict[int, Definition] = {}  # sender: id(code) -> the latest definition made from that code
_by_ref: dict[Ref, Definition] = {}  # receiver
_refs: dict[bytes, int] = {}  # digest of a blob -> its reference
_blobs: dict[tuple[str, str], int] = {}  # how many definitions one name has had
_names: dict[int, Names] = {}
_classes: dict[int, ClassEntry] = {}  # id(class) -> how it travels
_class_refs: dict[Ref, type] = {}
_class_ids: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


def connect(put: Callable[[bytes], int], get: Callable[[int], bytes]) -> None:
    """Use this blob store from now on.

    Args:
        put: stores a blob for ever and returns its reference, a small non-zero int valid in every process.
        get: returns the blob of a reference.
    """
    global _put, _get
    disconnect()
    _put, _get = put, get


def disconnect() -> None:
    """Forget the blob store and everything cached from it; definitions then travel inside their messages."""
    global _put, _get
    with _lock:
        _put = _get = None
        for cache in (
            _by_code,
            _by_ref,
            _refs,
            _blobs,
            _names,
            _importable,
            _classes,
            _class_refs,
            _class_ids,
        ):
            cache.clear()


def _store(blob: bytes, name: tuple[str, str]) -> Ref:
    """Put `blob` once, and return its reference; the blob itself where it must not be kept."""
    if _put is None:
        return blob
    import hashlib

    digest = hashlib.blake2b(blob, digest_size=16).digest()
    ref = _refs.get(digest)
    if ref is None:
        count = _blobs.get(name, 0)
        if count >= _BLOBS_PER_NAME:
            return blob
        _blobs[name] = count + 1
        ref = _refs[digest] = _put(blob)
    return ref


def _fetch(ref: Ref) -> Any:
    import pickle

    if isinstance(ref, bytes):
        return pickle.loads(ref)
    if _get is None:
        raise PickleError("a definition arrived, but the runtime of this process is stopped")
    return pickle.loads(_get(ref))


class NotStatic(Exception):
    """Raised inside a definition's pickle by something that must not be baked into a blob."""


# -- What is importable, and what is static ---------------------------------------------------------------------------


# id(function) -> function, of functions found importable; forgotten when a pickle fails.
_importable: dict[int, FunctionType] = {}


def is_importable_function(function: FunctionType) -> bool:
    if _importable.get(id(function)) is function:
        return True
    if not importable(function):
        return False
    _importable[id(function)] = function
    return True


def forget_importable() -> None:
    """Look again at what was found importable: a module may have been reloaded since."""
    _importable.clear()
    for key, entry in list(_classes.items()):
        if not entry.by_value:
            _classes.pop(key, None)


def importable(obj: Any) -> bool:
    """Tell whether the function or class is what its module and qualified name lead to, outside `__main__`."""
    module_name = getattr(obj, "__module__", None)
    if module_name in _MAIN:
        return False
    cloudpickle = sys.modules.get("cloudpickle")
    if module_name is None or (cloudpickle is not None and cloudpickle.list_registry_pickle_by_value()):
        # The rare cases: cloudpickle knows them best. Asked for a reducer it says NotImplemented for "by reference".
        return reduce_by_cloudpickle(obj) is NotImplemented
    found: Any = sys.modules.get(module_name)
    try:
        for part in obj.__qualname__.split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    return found is obj


@functools.cache
def _cloudpickler() -> Any:
    import io

    import cloudpickle

    return cloudpickle.Pickler(io.BytesIO())


def reduce_by_cloudpickle(obj: Any) -> Any:
    """Return what cloudpickle's pickler would do with `obj`: a reduce tuple or NotImplemented."""
    return _cloudpickler().reducer_override(obj)


_ATOMS: frozenset[type] = frozenset(
    {int, float, bool, str, bytes, complex, type(None), type(Ellipsis), range}
)
# Immutable, and cheaper to bake into a template than to ship each time; by name, so that nothing is imported.
_STATIC_TYPES = frozenset(
    {
        ("re", "Pattern"),
        ("decimal", "Decimal"),
        ("decimal", "Context"),
        ("fractions", "Fraction"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("zoneinfo", "ZoneInfo"),
        ("pathlib", "PosixPath"),
        ("pathlib", "PurePosixPath"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "PurePosixPath"),
        ("uuid", "UUID"),
        ("operator", "itemgetter"),
        ("operator", "attrgetter"),
        ("operator", "methodcaller"),
        ("_struct", "Struct"),
        ("types", "GenericAlias"),
        ("types", "UnionType"),
        ("typing", "TypeVar"),
        ("logging", "Logger"),
        ("logging", "RootLogger"),
        ("numpy", "ufunc"),
    }
)


def is_static(value: Any, depth: int = 0) -> bool:
    """Tell whether `value` is immutable and the same in every process, so that a template may hold it."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is tuple or kind is frozenset:
        return depth < 8 and all(is_static(item, depth + 1) for item in value)
    if kind is types.ModuleType:
        return value.__name__ in sys.modules and value.__name__ not in _MAIN
    if kind is FunctionType:
        return importable(value)
    if isinstance(value, type):
        return _is_static_class(value)
    if kind is types.BuiltinFunctionType:
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
    if (kind.__module__, kind.__name__) in _STATIC_TYPES:
        return True
    if kind is _LRU:
        return importable(value)
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return _is_static_class(kind)
    if kind.__module__ == "typing":
        return kind.__name__.endswith(("Alias", "Form"))
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    return isinstance(value, numpy.dtype) or (isinstance(value, numpy.generic) and not value.dtype.hasobject)


def _is_static_class(cls: type) -> bool:
    entry = _classes.get(id(cls))
    if entry is None and (importable(cls) or _defining.depth):
        return importable(cls)
    return not class_entry(cls).stateful


class _Depth(threading.local):
    depth = 0


_defining = _Depth()


@functools.cache
def _library_roots() -> tuple[str, ...]:
    import sysconfig

    paths = sysconfig.get_paths()
    roots = {paths[key] for key in ("stdlib", "platstdlib")}
    return tuple(root.rstrip("/") + "/" for root in roots)


def library(namespace: dict[str, Any]) -> str | None:
    """Return the module's name if `namespace` is that of an installed library.

    A function nested in a library (the wrapper a decorator returns) runs over the library's own globals in the
    receiver, as its importable neighbours do; a copy of them would drag in locks, caches and registries.
    """
    name = namespace.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name in _MAIN or module.__dict__ is not namespace:
        return None
    if str(name).partition(".")[0] == "goproc":
        return str(name)
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if origin in ("built-in", "frozen"):
        return str(name)
    if not isinstance(origin, str):
        return None
    installed = (
        "/site-packages/" in origin or "/dist-packages/" in origin or origin.startswith(_library_roots())
    )
    return str(name) if installed else None


# -- What a code object refers to -------------------------------------------------------------------------------------


class Names:
    """The global names of a code object and of all code nested in it."""

    __slots__ = ("attributes", "code", "rebound", "sets_attributes", "used")

    def __init__(self, code: CodeType) -> None:
        import dis

        self.code = code
        self.sets_attributes = False
        used: dict[str, None] = {}
        rebound: set[str] = set()
        attributes: set[str] = set()
        todo = [code]
        while todo:
            current = todo.pop()
            attributes.update(current.co_names)
            todo.extend(const for const in current.co_consts if isinstance(const, CodeType))
            # A class body reads globals by LOAD_NAME, since it looks in its own namespace first.
            body = not current.co_flags & 0x02
            for op in dis.get_instructions(current):
                if op.opname == "STORE_ATTR":
                    self.sets_attributes = True
                if op.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                    rebound.add(op.argval)
                elif op.opname not in ("LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS") and not (
                    body and op.opname == "LOAD_NAME"
                ):
                    continue
                used[op.argval] = None
        self.used = tuple(used)
        self.rebound = frozenset(rebound)
        self.attributes = frozenset(attributes)


def names_of(code: CodeType) -> Names:
    names = _names.get(id(code))
    if names is None:
        names = _names[id(code)] = Names(code)
    return names


def _submodules(values: Iterable[Any], attributes: frozenset[str]) -> tuple[str, ...]:
    """Modules to import because `package.module` appears in the code, where only `package` is a global."""
    found = []
    for value in values:
        if isinstance(value, types.ModuleType) and getattr(value, "__path__", None) is not None:
            prefix = value.__name__ + "."
            found += [
                name
                for name in list(sys.modules)
                if name.startswith(prefix) and attributes.issuperset(name[len(prefix) :].split("."))
            ]
    return tuple(found)


def _cell_contents(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


# -- Definitions of functions -----------------------------------------------------------------------------------------


class Member:
    """A plain function that lives in the same namespace as the one defined."""

    __slots__ = ("attributes", "cached", "code", "defaults", "fresh", "name", "title")

    def __init__(self, name: str, function: Any) -> None:
        self.name = name
        # lru_cache's wrapper: the function inside and the arguments of the decorator.
        self.cached: tuple[Any, ...] | None = None
        if type(function) is _LRU:
            parameters = function.cache_parameters()
            self.cached = (parameters["maxsize"], parameters["typed"])
            function = function.__wrapped__
        self.title = function.__name__
        self.code = function.__code__
        self.defaults = function.__defaults__
        self.attributes = _attributes(function)
        self.fresh = True

    def fits(self, namespace: dict[str, Any]) -> bool:
        value = namespace.get(self.name)
        if self.cached is not None:
            if type(value) is not _LRU:
                return False
            value = value.__wrapped__
        return (
            type(value) is FunctionType
            and value.__code__ is self.code
            and value.__defaults__ is self.defaults
        )

    def build(self, namespace: dict[str, Any]) -> Any:
        function: Any = FunctionType(self.code, namespace, self.title, self.defaults)
        for name, value in self.attributes:
            setattr(function, name, value)
        return function if self.cached is None else functools.lru_cache(*self.cached)(function)


def _attributes(function: FunctionType) -> tuple[tuple[str, Any], ...]:
    """What FunctionType does not set by itself, or sets from the code object and may have been changed since."""
    code = function.__code__
    found: list[tuple[str, Any]] = []
    if function.__qualname__ != code.co_qualname:
        found.append(("__qualname__", function.__qualname__))
    if function.__module__ != function.__globals__.get("__name__"):
        found.append(("__module__", function.__module__))
    doc = code.co_consts[0] if code.co_consts and isinstance(code.co_consts[0], str) else None
    if function.__doc__ != doc:
        found.append(("__doc__", function.__doc__))
    if function.__kwdefaults__:
        found.append(("__kwdefaults__", function.__kwdefaults__))
    annotations = {name: hint for name, hint in function.__annotations__.items() if is_static(hint)}
    if annotations:
        found.append(("__annotations__", annotations))
    return tuple(found)


def _member(value: Any, namespace: dict[str, Any]) -> FunctionType | None:
    """Return the plain function of `value` if it can be a member of a slice over `namespace`."""
    function = value.__wrapped__ if type(value) is _LRU else value
    if (
        type(function) is FunctionType
        and function.__globals__ is namespace
        and function.__closure__ is None
        and (not function.__dict__)
        and is_static(function.__defaults__)
        and is_static(tuple((function.__kwdefaults__ or {}).values()))
        and not importable(value)
    ):
        return function
    return None


_FIELDS = (
    "code",
    "title",
    "attributes",
    "defaults",
    "kwdefaults",
    "base",
    "statics",
    "dynamic",
    "selfs",
    "members",
    "absent",
    "fresh",
    "library",
    "submodules",
    "moving_defaults",
    "moving_title",
    "simple",
)


class Definition:
    """A template; the sender makes it from a function, the receiver from its blob.

    Invariants: `statics` holds only what `is_static` accepts; every name in `dynamic` is fetched at each use;
    the sets of names in statics, dynamic, selfs, members and absent are disjoint.
    """

    __slots__ = (
        *_FIELDS,
        "cached_members",
        "fetch",
        "fresh_members",
        "function",
        "linked",
        "namespace",
        "owner",
        "plain_members",
        "ref",
        "reads_state",
        "single",
        "static_items",
        "volatile",
    )

    # The template, as it is in the blob.
    code: CodeType
    title: str
    attributes: tuple[tuple[str, Any], ...]
    defaults: tuple[Any, ...] | None
    kwdefaults: dict[str, Any] | None
    base: dict[str, Any]
    statics: dict[str, Any]
    dynamic: tuple[str, ...]
    selfs: tuple[str, ...]  # the names under which the function finds itself
    members: tuple[Member, ...]
    absent: tuple[str, ...]  # names found in builtins, or nowhere
    fresh: bool  # each call needs a namespace of its own
    library: str | None
    submodules: tuple[str, ...]
    moving_defaults: bool  # defaults are part of the snapshot
    moving_title: bool  # name and doc are: functions made by one decorator share their code
    simple: bool  # there is no snapshot at all
    # What `prepare` makes of it.
    ref: Ref
    namespace: dict[str, Any]
    single: str | None
    reads_state: bool  # something else in the same message could rebind what it reads
    linked: bool
    fetch: Callable[[Any], tuple[Any, ...]]
    static_items: tuple[tuple[str, Any], ...]

    def __init__(self) -> None:
        self.function: Any = None  # the importable function itself, or the built one if it has no snapshot
        self.owner: Any = None  # the importable function: only that object may use this entry
        self.volatile: set[str] = set()

    def fields(self) -> tuple[Any, ...]:
        members = tuple([tuple([getattr(m, name) for name in Member.__slots__]) for m in self.members])
        return tuple([members if name == "members" else getattr(self, name) for name in _FIELDS])

    @classmethod
    def from_fields(cls, fields: tuple[Any, ...]) -> Definition:
        self = cls()
        for name, value in zip(_FIELDS, fields, strict=True):
            setattr(self, name, value)
        members = []
        for values in self.members:
            member = Member.__new__(Member)
            for name, value in zip(Member.__slots__, values, strict=True):  # type: ignore[call-overload]
                setattr(member, name, value)
            members.append(member)
        self.members = tuple(members)
        for submodule in self.submodules:
            importlib.import_module(submodule)
        self.prepare()
        return self

    def strip_hints(self) -> bool:
        """Forget the annotations: they may name anything, and are not worth an error."""
        stripped = False
        holders: list[Definition | Member] = [self, *self.members]
        for holder in holders:
            kept = tuple([pair for pair in holder.attributes if pair[0] != "__annotations__"])
            stripped |= len(kept) < len(holder.attributes)
            holder.attributes = kept
        return stripped

    def prepare(self) -> None:
        """Make the shared namespace and what the hot paths use."""
        self.fetch = _getter(self.dynamic)
        self.single = self.dynamic[0] if len(self.dynamic) == 1 else None
        self.static_items = tuple(self.statics.items())
        self.reads_state = any(not hasattr(builtins, name) for name in self.absent) or any(
            not isinstance(value, (types.ModuleType, FunctionType, types.BuiltinFunctionType, type))
            for value in self.statics.values()
        )
        self.plain_members = [(m.name, m.code, m.defaults) for m in self.members if m.cached is None]
        self.cached_members = [m for m in self.members if m.cached is not None]
        self.linked = bool(self.cached_members or self.selfs or self.library is not None)
        self.fresh_members = tuple([m for m in self.members if m.fresh])
        if self.library is not None:
            self.namespace = importlib.import_module(self.library).__dict__
        else:
            self.namespace = {**self.base, **self.statics}
            for member in self.members:
                if not member.fresh:
                    self.namespace[member.name] = member.build(self.namespace)
        if self.simple:
            self.function = self.build(None, None, None)

    def fits(self, function: Any) -> bool:
        """Tell whether the template still says what `function` is."""
        if self.owner is not None:
            return self.owner is function
        namespace = function.__globals__
        try:
            for name, value in self.static_items:
                if namespace[name] is not value:
                    return False
            for name, code, defaults in self.plain_members:
                value = namespace[name]
                if value.__code__ is not code or value.__defaults__ is not defaults:
                    return False
        except (KeyError, AttributeError):
            return False
        for name in self.absent:
            if name in namespace:
                return False
        if self.linked:
            if self.library is not None and self.namespace is not namespace:
                return False
            for member in self.cached_members:
                if not member.fits(namespace):
                    return False
            for name in self.selfs:
                if namespace.get(name) is not function:
                    return False
        if self.simple and (function.__dict__ or function.__kwdefaults__ is not self.kwdefaults):
            return False
        return (function.__defaults__ is self.defaults or self.moving_defaults) and (
            function.__name__ == self.title or self.moving_title
        )

    def build(
        self,
        dynamic: tuple[Any, ...] | None,
        cells: tuple[CellType, ...] | None,
        extra: tuple[Any, ...] | None,
    ) -> Any:
        """Make the function from a snapshot."""
        if self.fresh:
            namespace = self.namespace.copy()
            if self.single is not None:
                namespace[self.single] = dynamic[0]  # type: ignore[index]
            elif dynamic is not None:
                namespace.update(zip(self.dynamic, dynamic))  # noqa: B905 (hot; equal by construction)
            for member in self.fresh_members:
                namespace[member.name] = member.build(namespace)
        else:
            namespace = self.namespace
        function = FunctionType(self.code, namespace, self.title, self.defaults, cells)
        for name in self.selfs:
            namespace[name] = function
        if self.attributes:
            for name, value in self.attributes:
                setattr(function, name, value)
        if extra is not None:
            set_extra(function, extra)
        return function


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) == 1:
        name = names[0]
        return lambda namespace: (namespace[name],)
    return itemgetter(*names) if names else lambda _: ()


def set_extra(function: Any, extra: tuple[Any, ...]) -> None:
    defaults, kwdefaults, attributes, title = extra
    if defaults is not None:
        function.__defaults__ = defaults
    if kwdefaults is not None:
        function.__kwdefaults__ = kwdefaults
    if attributes is not None:
        function.__dict__.update(attributes)
    if title is not None:
        function.__name__, function.__qualname__, function.__doc__, function.__module__ = title


def extra_of(definition: Definition, function: FunctionType) -> tuple[Any, ...] | None:
    """The rest of the snapshot: what only some functions have."""
    defaults = function.__defaults__ if definition.moving_defaults else None
    kwdefaults = function.__kwdefaults__
    if kwdefaults is not None and kwdefaults is definition.kwdefaults:
        kwdefaults = None
    attributes = function.__dict__ or None
    title = None
    if definition.moving_title:
        title = (function.__name__, function.__qualname__, function.__doc__, function.__module__)
    if defaults is None and kwdefaults is None and attributes is None and title is None:
        return None
    return defaults, kwdefaults, attributes, title


def definition_of(function: FunctionType) -> Definition:
    """Return the definition of a function, made anew if it no longer says what the function is."""
    definition = _by_code.get(id(function.__code__))
    if definition is not None and definition.fits(function):
        return definition
    with _lock:
        return _define(function, definition)


def _define(function: FunctionType, old: Definition | None) -> Definition:
    from .serial import dump_definition

    d = Definition()
    d.code = function.__code__
    if importable(function):
        d.owner = d.function = function
        d.simple, d.reads_state = True, False
        d.ref = _store(dump_definition(function), ("", ""))
        return _remember(d)
    _slice(d, function, old)
    blob = b""
    for last in (False, False, True):
        try:
            blob = dump_definition(d.fields())
            break
        except Exception:
            if last:
                raise
            if d.strip_hints():
                continue
            # Something in a constant is not static after all, or cannot be pickled: the message will tell.
            d.volatile |= set(d.statics)
            _slice(d, function, d)
            d.strip_hints()
    d.ref = _store(blob, (d.code.co_filename, d.code.co_qualname))
    d.prepare()
    return _remember(d)


def _remember(d: Definition) -> Definition:
    if len(_by_code) > _CACHED_CODES:
        _by_code.clear()
        _names.clear()
    _by_code[id(d.code)] = d
    if type(d.ref) is int:
        _by_ref[d.ref] = d
    return d


def _slice(d: Definition, function: FunctionType, old: Definition | None) -> None:
    namespace = function.__globals__
    if old is not None and old is not d and old.owner is None:
        d.volatile = old.volatile | _moved(old, namespace)
    d.title = function.__name__
    d.defaults = function.__defaults__
    d.moving_defaults = not is_static(d.defaults)
    d.kwdefaults = function.__kwdefaults__
    d.moving_title = False
    if old is not None and old is not d and old.owner is None:
        d.moving_defaults |= old.moving_defaults or old.defaults is not function.__defaults__
        d.moving_title = old.moving_title or old.title != function.__name__
    static_kwdefaults = not d.kwdefaults or is_static(tuple(d.kwdefaults.values()))
    d.attributes = tuple([pair for pair in _attributes(function) if pair[0] != "__kwdefaults__"])
    if static_kwdefaults and d.kwdefaults:
        d.attributes += (("__kwdefaults__", d.kwdefaults),)
    if not static_kwdefaults:
        d.kwdefaults = None
    if d.moving_defaults:
        d.defaults = None
    d.library = library(namespace)
    d.base = {}
    statics: dict[str, Any] = {}
    dynamic: list[str] = []
    selfs: list[str] = []
    absent: list[str] = []
    members: dict[str, Member] = {}
    names = [names_of(function.__code__)]
    rebound: set[str] = set()
    if d.library is None:
        d.base = {name: namespace[name] for name in _BASE_GLOBALS if is_static(namespace.get(name, d))}
        functions: dict[str, FunctionType] = {}
        # First who can be reached: a `global` statement in any member concerns all.
        for reached in names:
            rebound |= reached.rebound
            for name in reached.used:
                value = namespace.get(name)
                if name in functions or name in d.volatile or value is function:
                    continue
                member = _member(value, namespace)
                if member is not None:
                    functions[name] = member
                    names.append(names_of(member.__code__))
        for name in dict.fromkeys(name for reached in names for name in reached.used):
            if name not in namespace:
                absent.append(name)
            elif name in d.volatile or name in rebound:
                dynamic.append(name)
            elif namespace[name] is function:
                selfs.append(name)
            elif name in functions:
                members[name] = Member(name, namespace[name])
            elif is_static(namespace[name]):
                statics[name] = namespace[name]
            else:
                dynamic.append(name)
    d.statics, d.dynamic, d.selfs, d.absent = statics, tuple(dynamic), tuple(selfs), tuple(absent)
    d.members = tuple(members.values())
    # Nor may calls share the functions of a namespace if one keeps attributes on them.
    keeps = bool(selfs or members) and any(reached.sets_attributes for reached in names)
    own = bool(rebound) or keeps or not _REFLECTION.isdisjoint(absent)
    plain = (
        not dynamic
        and not own
        and function.__closure__ is None
        and not d.moving_defaults
        and not d.moving_title
        and static_kwdefaults
        and not function.__dict__
    )
    # A member needs to be built anew with each namespace if what it can reach differs from call to call.
    touched = set(dynamic) | (set() if plain else set(selfs))
    grown = True
    while grown:
        grown = False
        for name, member_ in members.items():
            if name not in touched and not touched.isdisjoint(names_of(member_.code).used):
                touched.add(name)
                grown = True
    for name, member_ in members.items():
        member_.fresh = own or name in touched
    d.fresh = own or bool(dynamic) or bool(selfs and not plain)
    d.simple = plain
    attributes = frozenset().union(*[reached.attributes for reached in names])
    cells = [value for cell in function.__closure__ or () for value in _cell_contents(cell)]
    d.submodules = _submodules([*statics.values(), *cells], attributes)


def _moved(old: Definition, namespace: dict[str, Any]) -> set[str]:
    missing = object()
    moved = {name for name, value in old.statics.items() if namespace.get(name, missing) is not value}
    moved |= {name for name in old.absent if name in namespace}
    return moved | {member.name for member in old.members if not member.fits(namespace)}


def load_definition(ref: Ref) -> Definition:
    """Return the definition behind `ref`, loaded once per process."""
    definition = _by_ref.get(ref)
    if definition is None:
        with _lock:
            loaded = _fetch(ref)
            if type(loaded) is tuple:
                definition = Definition.from_fields(loaded)
            else:
                definition = Definition()
                definition.code = loaded.__code__
                definition.owner = definition.function = loaded
                definition.simple, definition.reads_state = True, False
            definition.ref = ref
            if type(ref) is int:
                _by_ref[ref] = definition
            # What was received is sent on under the same reference.
            _by_code[id(definition.code)] = definition
    return definition


# -- Calls ------------------------------------------------------------------------------------------------------------

_leaves: set[type] = {int, float, bool, str, bytes, complex, type(None)}


def _plain(values: Iterable[Any], depth: int = 0) -> bool:
    """Tell whether the values are scalars and handles, so that they cannot share anything with a function."""
    for value in values:
        kind = type(value)
        if kind in _leaves:
            continue
        if getattr(kind, "__goproc_handle__", False):
            _leaves.add(kind)
        elif depth > 2 or not (
            ((kind is tuple or kind is list) and len(value) <= 16 and _plain(value, depth + 1))
            or (
                kind is dict
                and len(value) <= 16
                and _plain(value, depth + 1)
                and _plain(value.values(), depth + 1)
            )
        ):
            return False
    return True


def pack_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    """Make the message that starts a goroutine.

    Returns:
        `(ref, args, kwargs)` or `(ref, args, kwargs, globals, cells, extra)`, with None for what is empty, or
        `(0, function, args, kwargs)` where the function has to be pickled together with its arguments.

    Raises:
        TypeError: if `function` cannot be called.
        PickleError: if the function's definition cannot be pickled.

    Cost: 0.5 to 1 us for a definition used before, 50 to 500 us the first time.
    """
    if type(function) is not FunctionType:
        if function is None:
            raise TypeError("go of nil func value")
        if not callable(function):
            raise TypeError(
                f"go: {type(function).__name__!r} object is not callable (use go(f, *args), not go(f(*args)))"
            )
        return 0, function, args, kwargs or None
    d = _by_code.get(id(function.__code__))
    if d is None or not d.fits(function):
        d = checked_definition_of(function)
    if d.simple and not d.reads_state:
        return d.ref, args, kwargs or None
    dynamic = cells = extra = None
    # What may share state with the function: scalars and handles cannot, all else is pickled together with it.
    shared = args
    if d.dynamic:
        try:
            if d.single is not None:
                dynamic = (function.__globals__[d.single],)
            else:
                dynamic = d.fetch(function.__globals__)
        except KeyError:  # it was deleted
            checked_definition_of(function, renew=True)
            return pack_call(function, args, kwargs)
        shared = dynamic + args
    closure = function.__closure__
    if closure is not None:
        try:
            if len(closure) == 1:
                cells = (closure[0].cell_contents,)
            else:
                cells = tuple([cell.cell_contents for cell in closure])
        except ValueError:  # an empty cell
            return 0, function, args, kwargs or None
        shared = cells + shared
    for value in shared:
        if type(value) not in _leaves and not _plain((value,)):
            return _pack_shared(d, function, args, kwargs, dynamic, cells)
    if kwargs and not _plain(kwargs.values()):
        return 0, function, args, kwargs
    if d.simple:
        return d.ref, args, kwargs or None
    if function.__dict__ or function.__kwdefaults__ or d.moving_defaults or d.moving_title:
        extra = extra_of(d, function)
    return d.ref, args, kwargs or None, dynamic, cells, extra


def _pack_shared(
    d: Definition,
    function: FunctionType,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    dynamic: tuple[Any, ...] | None,
    cells: tuple[Any, ...] | None,
) -> Payload:
    """Pickle the function with its arguments, except for a nested one that only has itself in a cell."""
    loops = tuple([index for index, value in enumerate(cells or ()) if value is function])
    if cells is not None and loops:
        others = tuple([None if value is function else value for value in cells])
        if _plain((*others, *(dynamic or ()), *args, *kwargs.values())):
            return d.ref, args, kwargs or None, dynamic, others, extra_of(d, function), loops
    return 0, function, args, kwargs or None


def checked_definition_of(function: FunctionType, renew: bool = False) -> Definition:
    """`definition_of`, with errors that say where in the function the trouble is."""
    try:
        if renew:
            with _lock:
                return _define(function, _by_code.get(id(function.__code__)))
        return definition_of(function)
    except PickleError:
        raise
    except Exception as error:
        from .diagnose import explain

        raise explain(function, error, function.__name__) from error


def unpack_call(payload: Payload) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the callable and the arguments of a message made by `pack_call`.

    Cost: 0.3 to 1 us for a definition used before, 20 to 100 us the first time in a process.
    """
    ref = payload[0]
    if ref == 0:
        return payload[1], payload[2], payload[3] or {}
    d = _by_ref.get(ref) or load_definition(ref)
    if len(payload) == 3:
        return d.function, payload[1], payload[2] or {}
    cells = payload[4]
    if cells is not None:
        cells = tuple([CellType(value) for value in cells])
    function = d.build(payload[3], cells, payload[5])
    if len(payload) == 7:
        for index in payload[6]:
            cells[index].cell_contents = function
    return function, payload[1], payload[2] or {}


def explain_call(
    error: PickleError, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> PickleError:
    """Retell an error met while a packed call was encoded in the words of the call: `argument 2 of f -> ...`."""
    from .diagnose import explain_call as explain

    return explain(error.__cause__ or error, function, args, kwargs)


# -- Functions inside a message ---------------------------------------------------------------------------------------


def reduce_function(pickler: Pickler, function: FunctionType) -> Any:
    """Reduce a function met in a message; all functions of a message share one namespace per module."""
    if is_importable_function(function):
        return NotImplemented
    d = definition_of(function)
    if d.simple and not d.reads_state:
        return load_function, (d.ref,)
    source = function.__globals__
    namespace = None if d.library is not None else pickler.namespace(source)
    name = function.__name__
    home = name if source.get(name) is function else None
    cells, contents = pickler.cells(function.__closure__)
    dynamic = {name: source[name] for name in d.dynamic if name in source} or None
    state = (dynamic, contents, extra_of(d, function))
    return new_function, (d.ref, namespace, home, cells), state, None, None, set_function


def load_function(ref: Ref) -> Any:
    return load_definition(ref).function


def new_function(
    ref: Ref, namespace: dict[str, Any] | None, home: str | None, cells: tuple[CellType, ...] | None
) -> Any:
    d = load_definition(ref)
    if namespace is None:
        namespace = d.namespace
    elif home is not None:
        present = namespace.get(home)
        if type(present) is FunctionType and present.__code__ is d.code:
            return present
    function = FunctionType(d.code, namespace, d.title, d.defaults, cells)
    for name, value in d.attributes:
        setattr(function, name, value)
    if d.library is None:
        namespace.update(d.base)
        for name, value in d.statics.items():
            namespace.setdefault(name, value)
        if home is not None:
            namespace[home] = function
        for name in d.selfs:
            namespace[name] = function
        for member in d.members:
            if member.name not in namespace:
                namespace[member.name] = member.build(namespace)
    return function


def set_function(function: Any, state: tuple[Any, ...]) -> None:
    dynamic, contents, extra = state
    if dynamic is not None:
        function.__globals__.update(dynamic)
    if contents is not None:
        fill_cells(contents)
    if extra is not None:
        set_extra(function, extra)


def fill_cells(contents: Iterable[tuple[CellType, Any]]) -> None:
    for cell, value in contents:
        cell.cell_contents = value


# -- Functions inside the definition of a class -----------------------------------------------------------------------


def reduce_method(pickler: Any, function: FunctionType) -> Any:
    """Reduce a function met in a class body: whole, but for the dynamic globals, which its messages carry."""
    if importable(function):
        return NotImplemented
    names = names_of(function.__code__)
    if names.rebound:
        raise NotStatic("a method rebinds a global")
    source = function.__globals__
    module = library(source)
    statics: dict[str, Any] = {}
    if module is None:
        dynamic = pickler.group(source)
        for name in names.used:
            if name not in source:
                pickler.guard(source, name, None)
                continue
            value = source[name]
            entry = _classes.get(id(value)) if isinstance(value, type) else None
            if name in pickler.volatile or (entry is not None and entry.stateful):
                dynamic[name] = None
            elif (
                type(value) is FunctionType
                or isinstance(value, type)
                or type(value) is _LRU
                or is_static(value)
            ):
                statics[name] = value
                pickler.guard(source, name, value)
            else:
                dynamic[name] = None
        for name in _BASE_GLOBALS:
            if isinstance(source.get(name), str):
                statics[name] = source[name]
    cells, contents = pickler.cells(function.__closure__, own=module is None)
    submodules = _submodules(statics.values(), names.attributes)
    namespace = module if module is not None else pickler.namespace(source)
    attributes = _attributes(function) + tuple(function.__dict__.items())
    state = (statics, contents, function.__defaults__, attributes, submodules)
    return new_method, (function.__code__, namespace, function.__name__, cells), state, None, None, set_method


def new_method(code: CodeType, namespace: Any, title: str, cells: tuple[CellType, ...] | None) -> Any:
    if isinstance(namespace, str):
        namespace = importlib.import_module(namespace).__dict__
    return FunctionType(code, namespace, title, None, cells)


def set_method(function: Any, state: tuple[Any, ...]) -> None:
    statics, contents, function.__defaults__, attributes, submodules = state
    function.__globals__.update(statics)
    for submodule in submodules:
        importlib.import_module(submodule)
    if contents is not None:
        fill_cells(contents)
    for name, value in attributes:
        setattr(function, name, value)


# -- Classes ----------------------------------------------------------------------------------------------------------


class ClassEntry:
    """How one class travels.

    `groups` are the namespaces its methods run over, each with the names that messages carry; `cells` likewise.
    `values` and `guards` are what the definition was made from, to notice a change; a received class has none,
    since only its creator may redefine it.
    """

    __slots__ = (
        "by_value",
        "cells",
        "checks",
        "cls",
        "groups",
        "guards",
        "inline",
        "parts",
        "received",
        "reduction",
        "ref",
        "uid",
        "values",
        "volatile",
    )

    def __init__(self, cls: type) -> None:
        key = id(cls)
        self.cls = weakref.ref(cls, lambda _: _classes.pop(key, None))
        self.by_value = False
        self.inline = False
        self.received = False
        self.reduction: Any = NotImplemented
        self.ref: Ref = 0
        self.uid = ""
        self.groups: list[tuple[dict[str, Any], tuple[str, ...]]] = []
        self.cells: list[CellType] = []
        self.parts: list[type] = []  # stateful classes it is made of, such as its bases
        self.values: tuple[Any, ...] = ()
        self.guards: list[tuple[dict[str, Any], dict[str, Any], frozenset[str]]] = []
        self.checks: list[tuple[dict[str, Any], Any, tuple[Any, ...], tuple[str, ...]]] = []
        self.volatile: set[str] = set()

    @property
    def stateful(self) -> bool:
        """Whether messages have to carry more than the reference."""
        return self.by_value and bool(self.inline or self.groups or self.cells or self.parts)

    def changed(self, cls: type) -> bool:
        # Equality looks at identity first; an attribute replaced by an equal one makes no difference.
        try:
            if tuple(cls.__dict__.values()) != self.values:
                return True
        except Exception:  # an array, or whatever else does not compare
            return True
        for namespace, fetch, expected, absent in self.checks:
            try:
                if fetch is not None and not all(map(is_, fetch(namespace), expected)):
                    return True
            except KeyError:
                return True
            for name in absent:
                if name in namespace:
                    return True
        return False

    def watch(self, cls: type, guards: list[tuple[dict[str, Any], dict[str, Any], frozenset[str]]]) -> None:
        """Remember what the definition was made from."""
        self.guards = guards
        self.checks = []
        for namespace, expected, absent in guards:
            names = tuple(expected) * (2 if len(expected) == 1 else 1)
            fetch = itemgetter(*names) if names else None
            self.checks.append((namespace, fetch, tuple([expected[name] for name in names]), tuple(absent)))
        # Read last: pickling may have added to the class (the caches of abc).
        self.values = tuple(cls.__dict__.values())


def class_entry(cls: type) -> ClassEntry:
    """Return how `cls` travels; finds out, and stores its definition, the first time."""
    entry = _classes.get(id(cls))
    if entry is not None:
        if entry.by_value and not entry.received and not entry.inline and entry.changed(cls):
            with _lock:
                _define_class(cls, entry)
        return entry
    with _lock:
        entry = ClassEntry(cls)
        if not importable(cls):
            reduction = reduce_by_cloudpickle(cls)
            if reduction is not NotImplemented and len(reduction) == 2:
                entry.reduction = reduction  # a type with no name in builtins, such as that of None
            elif reduction is not NotImplemented:
                entry.by_value = True
                entry.uid = uid_of(cls)
                _define_class(cls, entry)
        _classes[id(cls)] = entry
        return entry


def _define_class(cls: type, entry: ClassEntry) -> None:
    from .serial import dump_class

    for namespace, expected, absent in entry.guards:
        entry.volatile |= {
            name for name, value in expected.items() if namespace.get(name, entry) is not value
        }
        entry.volatile |= {name for name in absent if name in namespace}
    _defining.depth += 1
    try:
        blob, groups, cells, parts, guards = dump_class(cls, entry)
    except NotStatic:
        entry.inline = True
        return
    finally:
        _defining.depth -= 1
    ref = _store(blob, (cls.__module__, cls.__qualname__))
    entry.inline = not isinstance(ref, int)
    if entry.inline:
        return
    entry.ref, entry.groups, entry.cells, entry.parts = ref, groups, cells, parts
    entry.watch(cls, guards)
    _class_refs[ref] = cls


def reduce_class(pickler: Pickler, cls: type) -> Any:
    """Reduce a class met in a message."""
    entry = _classes.get(id(cls))
    if entry is None:
        entry = class_entry(cls)
    if not entry.by_value:
        return entry.reduction
    if not entry.received and not entry.inline and entry.changed(cls):
        entry = class_entry(cls)
    if entry.inline:
        return inline_class(cls, entry.uid)
    if not entry.stateful:
        return load_class, (entry.ref,)
    values = [
        {name: namespace[name] for name in names if name in namespace} for namespace, names in entry.groups
    ]
    contents = [_cell_contents(cell) for cell in entry.cells]
    return load_class, (entry.ref,), (values, contents, entry.parts), None, None, set_class_state


def inline_class(cls: type, uid: str) -> Any:
    """Reduce the whole class, as cloudpickle does, but let a process that has it keep its own."""
    make, args, state, _, _, setter = reduce_by_cloudpickle(cls)
    return make_class, (uid, make, args), (uid, setter, state), None, None, set_class


def uid_of(cls: type) -> str:
    """The identity of a class that is part of another one's definition."""
    for uid, known in list(_class_ids.items()):
        if known is cls:
            return uid
    uid = os.urandom(16).hex()
    _class_ids[uid] = cls
    return uid


class _Loading(threading.local):
    """Which classes the blob being loaded may (re)define: see `set_class`."""

    main: str | None = None


_loading = _Loading()
_complete: weakref.WeakSet[type] = weakref.WeakSet()


def make_class(uid: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    cls = _class_ids.get(uid)
    if cls is None:
        cls = make(*args)
        _class_ids[uid] = cls
        _foreign.add(cls)
    return cls


# Classes received, of which this process is not the creator.
_foreign: weakref.WeakSet[type] = weakref.WeakSet()


def set_class(cls: type, state: tuple[Any, ...]) -> None:
    """Fill a class just made, or bring one received before up to date; never touch one's own.

    A class that is only a part of another's definition is filled once: its own definition and its own messages
    keep it up to date, over namespaces of their own.
    """
    uid, setter, body = state
    if cls not in _foreign or (_loading.main not in (None, uid) and cls in _complete):
        return
    setter(cls, body)
    _complete.add(cls)


def load_class(ref: Ref) -> type:
    cls = _class_refs.get(ref)
    if cls is None:
        with _lock:
            before = _loading.main
            try:
                _loading.main = "?"
                blob = _fetch(ref)
                uid, inner = blob
                _loading.main = uid
                import pickle

                cls, groups, cells, parts = pickle.loads(inner)
            finally:
                _loading.main = before
            assert isinstance(cls, type)
            _class_refs[ref] = cls
            if cls in _foreign:
                entry = ClassEntry(cls)
                entry.by_value = entry.received = True
                entry.uid, entry.ref = uid, ref
                entry.groups, entry.cells, entry.parts = groups, cells, parts
                _classes[id(cls)] = entry
    return cls


def set_class_state(cls: type, state: tuple[Any, ...]) -> None:
    entry = _classes.get(id(cls))
    if entry is None or not entry.received:
        return
    values, contents, _ = state
    for (namespace, _), dynamic in zip(entry.groups, values, strict=True):
        namespace.update(dynamic)
    for cell, content in zip(entry.cells, contents, strict=True):
        if content:
            cell.cell_contents = content[0]


# -- Other callables --------------------------------------------------------------------------------------------------


def reduce_bound_method(_: Pickler, method: MethodType) -> Any:
    """Reduce a bound method by the class that holds it: by name alone `super().run` would become `self.run`."""
    function, owner = method.__func__, method.__self__
    name = getattr(function, "__name__", None)
    if isinstance(name, str):
        bound = getattr(owner, name, None)
        if type(bound) is MethodType and bound.__func__ is function:
            return getattr, (owner, name)
    if not isinstance(owner, type):
        for cls in type(owner).__mro__:
            for key, value in cls.__dict__.items():
                if value is function:
                    return bind, (cls, key, owner)
    return MethodType, (function, owner)


def bind(cls: type, name: str, owner: Any) -> Any:
    return MethodType(cls.__dict__[name], owner)


def reduce_lru_cache(_: Pickler, wrapper: Any) -> Any:
    """Reduce what `lru_cache` returns: importable by reference, else the function inside and an empty cache."""
    if importable(wrapper):
        return NotImplemented
    parameters = wrapper.cache_parameters()
    return make_lru_cache, (wrapper.__wrapped__, parameters["maxsize"], parameters["typed"])


def make_lru_cache(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)
