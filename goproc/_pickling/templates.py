"""The template of a function: the sender checks it and the receiver builds from it; see the package's docstring."""

from __future__ import annotations

import builtins
import importlib
import weakref
from functools import partial
from operator import itemgetter
from types import FunctionType
from typing import NamedTuple

from goproc._pickling import homes, identities, module_frames, wrappers
from goproc._pickling.classes import class_entry
from goproc._pickling.entries import NEVER, bring_back, checked_together, intact_together
from goproc._pickling.statics import LRU, importable, is_class, is_static
from goproc.shm import _core
from goproc.shm._core import Bindings, make_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CellType, CodeType
    from typing import Any

    from goproc._pickling.store import Ref

    Attributes = tuple[tuple[str, Any], ...]

# In `dynamic` this name makes a function travel inside its message, where there is room for more than globals.
NO_GLOBAL = "no global"
_TITLE = ("__name__", "__qualname__", "__doc__", "__module__")


def attributes_of(function: FunctionType) -> Attributes:
    """Return the attributes that FunctionType does not set, and those from the code that may have changed since."""
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


def static_kwdefaults(function: FunctionType) -> bool:
    return is_static(tuple((function.__kwdefaults__ or {}).values()))


def set_attributes(function: Any, attributes: Iterable[tuple[str, Any]]) -> None:
    for name, value in attributes:
        setattr(function, name, value)


def _is_home(function: FunctionType) -> bool:
    return function.__globals__.get(function.__name__) is function


def home_of(function: FunctionType) -> str | None:
    """Return the name of a function among its globals: its own name if that leads to it, else the first that does."""
    if _is_home(function):
        return function.__name__
    namespace = function.__globals__
    return next((name for name, value in namespace.items() if value is function), None)


class Detail(NamedTuple):
    """A dictionary of a function that may be changed in place (annotations, keyword defaults), as it was."""

    name: str | None  # the name of the global that is the function; None: the template's own function
    annotations: bool
    known: dict[str, Any]
    copy: dict[str, Any]

    @classmethod
    def of(cls, name: str | None, function: FunctionType) -> list[Detail]:
        found = [(True, function.__annotations__), (False, function.__kwdefaults__)]
        return [cls(name, annotations, known, known.copy()) for annotations, known in found if known]


class Body:
    """A function without its namespace and its cells."""

    __slots__ = ("attributes", "code", "defaults", "title", "uid")

    uid: str  # see identities; "" for a function that reaches something that can change
    code: CodeType
    title: str
    defaults: tuple[Any, ...] | None
    attributes: Attributes

    @property
    def qualname(self) -> str:
        return str(dict(self.attributes).get("__qualname__", self.code.co_qualname))

    def parts(self) -> list[Any]:
        """Return the objects that the function is made of."""
        found: list[Any] = [self.code, self.title, self.defaults]
        for name, value in self.attributes:
            found.append(name)
            found += [*value, *value.values()] if type(value) is dict else [value]
        return found

    def make(self, namespace: dict[str, Any], cells: tuple[CellType, ...] | None = None) -> Any:
        function = make_function(self.code, namespace, self.title, self.defaults, cells)
        for name, value in self.attributes:
            setattr(function, name, value)
        return function


class Member(Body):
    """A plain function that lives in the same namespace as the one defined."""

    __slots__ = ("cached", "fresh", "home", "name", "stateful")

    name: str
    home: str  # one of the function's names among the globals, the same for all of them
    stateful: bool  # it reads a global that another object of the same message could rebind
    cached: wrappers.Cached | None  # set if the function is inside a wrapper of lru_cache
    fresh: bool  # each namespace needs a copy of its own

    @classmethod
    def of(cls, name: str, value: Any, namespace: dict[str, Any]) -> Member | None:
        """Make a member of the function under `name` in `namespace`; None if that cannot be one."""
        cached, function = None, value
        if type(value) is LRU:
            function = value.__wrapped__
        if not (
            type(function) is FunctionType
            and identities.is_of(function, namespace)
            and function.__closure__ is None
            and not function.__dict__
            and is_static(function.__defaults__)
            and static_kwdefaults(function)
            and not importable(value)
        ):
            return None
        if type(value) is LRU:
            cached = wrappers.cached(value)
        self = cls()
        self.name, self.cached = name, cached
        self.home = name if cached is not None else home_of(function) or name
        self.uid, self.fresh, self.stateful = "", False, False
        self.code, self.title, self.defaults = function.__code__, function.__name__, function.__defaults__
        self.attributes = attributes_of(function)
        return self

    def matches(self, namespace: dict[str, Any]) -> bool:
        value = namespace.get(self.name)
        if self.cached is not None:
            if type(value) is not LRU or wrappers.cached(value).uid != self.cached.uid:
                return False
            value = value.__wrapped__
        return (
            type(value) is FunctionType
            and value.__code__ is self.code
            and value.__defaults__ is self.defaults
            and (value.__name__, value.__qualname__) == (self.title, self.qualname)
        )

    def parts(self) -> list[Any]:
        return super().parts() if self.cached is None else [self.cached.uid]

    def build(self, namespace: dict[str, Any]) -> Any:
        if self.cached is not None:
            return wrappers.receive(self.cached, self.make, self.name, namespace)
        if self.home == self.name:
            return self.make(namespace)
        if self.home not in namespace:
            namespace[self.home] = self.make(namespace)
        return namespace[self.home]

    def share(self, namespace: dict[str, Any]) -> Any:
        """Return the function that all calls share."""
        function = identities.shared(self.uid, partial(self.build, namespace))
        if self.uid:  # another template has made the function, from its own copy of the code
            self.code, self.defaults = function.__code__, function.__defaults__
        return function


_STORED = (
    "kwdefaults",
    "base",
    "statics",
    "dynamic",
    "self_names",
    "members",
    "absent",
    "fresh",
    "library",
    "submodules",
    "defaults_vary",
    "name_varies",
    "simple",
    "omitted",
    "home",
    "reads_state",
    "modules",
)
_FIELDS = (*Body.__slots__, *_STORED)


class Template(Body):
    """A template. The sender makes it from a function, the receiver from its blob.

    Invariants: `statics` holds only values that `is_static` accepts; every name in `dynamic` is fetched at each use;
    the sets of names in statics, dynamic, self_names, members and absent are disjoint.
    """

    __slots__ = (
        *_STORED,
        "bindings",
        "cached_members",
        "classes",
        "fetch",
        "fresh_members",
        "fresh_wrappers",
        "full_title",
        "function",
        "imports_library",
        "intact",
        "needs_slow_check",
        "maker",
        "namespace",
        "owner",
        "ref",
        "only_dynamic",
        "size",
        "unchanged",
        "volatile",
        "watched",
    )

    # The fields of the blob.
    kwdefaults: dict[str, Any] | None  # the keyword defaults among `attributes`
    base: dict[str, Any]  # __name__ and the like
    statics: dict[str, Any]
    dynamic: tuple[str, ...]
    self_names: tuple[str, ...]  # the names under which the function finds itself
    members: tuple[Member, ...]
    absent: tuple[str, ...]  # names that are found in builtins, or nowhere
    fresh: bool  # each call needs a namespace of its own
    library: str | None
    submodules: tuple[str, ...]
    defaults_vary: bool  # the defaults are part of the snapshot
    # Name and doc are part of the snapshot: functions made by one decorator share their code.
    name_varies: bool
    simple: bool  # there is no snapshot
    home: bool  # the function's module travels by value
    reads_state: bool  # another object of the same message could rebind a global that it reads
    # Globals that the code only mentions and that cannot be pickled, with the reasons.
    omitted: dict[str, str]
    modules: tuple[str, ...]  # names of modules that the code imports and messages carry
    # Fields that `prepare` sets.
    namespace: dict[str, Any]
    only_dynamic: str | None  # the name in `dynamic`, if there is exactly one
    fetch: Callable[[Any], tuple[Any, ...]]  # returns the values of `dynamic`, if there are several
    cached_members: list[Member]
    fresh_members: list[Member]
    fresh_wrappers: bool  # some members are wrappers
    imports_library: bool  # a call of its own may need a frame of its module: see module_frames
    bindings: Bindings
    needs_slow_check: bool  # `matches` has more to check than for most functions
    ref: Ref

    def __init__(self) -> None:
        # The importable function, or the one that was built if there is no snapshot.
        self.function: Any = None
        # Fields of the sender. The function that the template is made from:
        self.maker: Callable[[], FunctionType | None] = type(None)
        self.owner: Any = None  # the importable function: only that object may use this template
        self.defaults_vary = self.name_varies = False
        # Names that were found rebound, mentioned names that are no globals so far, and the number of globals if that
        # counts.
        self.volatile: set[str] = set()
        self.watched: tuple[str, ...] = ()
        self.size = 0
        # Classes in `statics` that travel by value, with their definitions.
        self.classes: list[tuple[type, Ref]] = []
        # Checks of these classes: in the sender, that they have not changed; in the receiver, that no goroutine has
        # changed them.
        self.unchanged = self.intact = NEVER

    @classmethod
    def of_importable(cls, function: FunctionType) -> Template:
        self = cls()
        self.code = function.__code__
        self.owner = self.function = function
        self.simple, self.reads_state, self.omitted, self.home = True, False, {}, False
        self.uid, self.modules = "", ()
        self.imports_library = True
        return self

    @classmethod
    def load(cls, fields: tuple[Any, ...]) -> Template:
        self = cls()
        set_attributes(self, zip(_FIELDS, fields, strict=True))
        for submodule in self.submodules:
            importlib.import_module(submodule)
        for body in (self, *self.members):
            identities.receive(body.code, body.uid)
        self.prepare()
        self.receive()
        self._note_classes()
        return self

    def receive(self) -> None:
        """Let the shared functions be found by their names: see homes."""
        if not self.home:
            return
        if self.simple:
            homes.receive(self.function)
        for member in self.members:
            if not member.fresh and member.cached is None:
                homes.receive(self.namespace[member.name], member.name)

    def fields(self) -> tuple[Any, ...]:
        """Return the fields of the blob."""
        return tuple([getattr(self, name) for name in _FIELDS])

    def prepare(self) -> None:
        """Make the shared namespace, and the fields that the hot paths use."""
        self.full_title = self.qualname
        self.only_dynamic = self.dynamic[0] if len(self.dynamic) == 1 else None
        if len(self.dynamic) > 1:
            self.fetch = itemgetter(*self.dynamic)
        self.cached_members = [m for m in self.members if m.cached is not None]
        # Second names of functions come after the first. Wrappers come last: they have copies of the globals.
        self.members = tuple(sorted(self.members, key=lambda m: (m.cached is not None, m.home != m.name)))
        self.fresh_members = [m for m in self.members if m.fresh]
        self.fresh_wrappers = any(m.cached is not None for m in self.fresh_members)
        self.imports_library = self.simple or module_frames.imports_library(self.code)
        self.needs_slow_check = bool(self.cached_members or self.self_names or self.library is not None)
        if self.library is not None:
            self.namespace = importlib.import_module(self.library).__dict__
        else:
            # C code that imports looks for builtins here.
            self.namespace = {"__builtins__": builtins, **self.base, **self.statics}
            for member in self.members:
                if not member.fresh:
                    self.namespace[member.name] = member.share(self.namespace)
            self.refresh_wrappers(self.namespace)
        if self.simple:
            self.function = identities.shared(self.uid, partial(self.build, None, None, None))
            self.namespace.update(dict.fromkeys(self.self_names, self.function))
        self._bind([])

    def _bind(self, details: list[Detail]) -> None:
        """Give the core everything that `matches` compares by identity."""
        own: dict[str, Any] = {}
        if self.simple:
            own["kwdefaults"] = self.kwdefaults
        if not self.defaults_vary:
            own["defaults"] = self.defaults
        if not self.name_varies:
            own.update(title=self.title, qualname=self.full_title)
        plain = [m for m in self.members if m.cached is None]
        self.bindings = Bindings(
            tuple(self.statics),
            tuple(self.statics.values()),
            absent=self.absent + self.watched,
            functions=tuple([(m.name, m.code, m.defaults, m.title, m.qualname) for m in plain]),
            details=tuple(details),
            size=self.size or -1,
            **own,
        )

    def watch(self, function: FunctionType) -> None:
        """Remember the parts of the function that may change in place."""
        details = Detail.of(None, function)
        for member in self.members:
            if member.cached is None:
                details += Detail.of(member.name, function.__globals__[member.name])
        self._note_classes()
        self._bind(details)

    def _note_classes(self) -> None:
        classes = [value for value in self.statics.values() if is_class(value)]
        known = [(cls, class_entry(cls)) for cls in classes]
        self.classes = [(cls, entry.ref) for cls, entry in known if entry.uid is not None]

    def refresh_wrappers(self, namespace: dict[str, Any]) -> None:
        """Bring the globals of the wrappers in a namespace up to date with that namespace."""
        for member in self.cached_members:
            if member.cached is not None:
                wrappers.refresh(member.cached, namespace)

    def matches(self, function: Any) -> bool:
        """Return True if the template still describes `function`."""
        if self.owner is not None:
            return self.owner is function and not homes.registered(function.__module__)
        return (
            self.bindings.fits(function)
            and (not self.needs_slow_check or self._links_fit(function, function.__globals__))
            and (not self.classes or self.unchanged.unchanged() or self._classes_fit())
        )

    def stands_for(self, function: FunctionType) -> bool:
        """Return True if the template describes this very function, and no other of the same code."""
        maker = self.maker()
        if maker is None:
            self.maker = weakref.ref(function)
        return maker is None or maker is function or function is self.function or _is_home(function)

    def _links_fit(self, function: Any, namespace: dict[str, Any]) -> bool:
        if self.library is not None and self.namespace is not namespace:
            return False
        for member in self.cached_members:
            if not member.matches(namespace):
                return False
        for name in self.self_names:  # noqa: SIM110 (hot)
            if namespace.get(name) is not function:
                return False
        return True

    def _classes_fit(self) -> bool:
        definitions = _core.definitions()
        for cls, ref in self.classes:
            entry = class_entry(cls)
            if entry.ref != ref or entry.stateful:
                return False
        self.unchanged = checked_together([cls for cls, _ in self.classes], definitions)
        return True

    def bring_back(self, values: Iterable[Any]) -> None:
        """Give the classes of a call their state as of its `go` line.

        Args:
            values: the arguments of the call, and others that it carries.
        """
        definitions = _core.definitions()
        bring_back(self.classes, values)
        self.intact = intact_together([cls for cls, _ in self.classes], definitions)

    def moved(self, namespace: dict[str, Any]) -> set[str]:
        """Return the names that no longer lead to the same objects."""
        moved = {name for name, value in self.statics.items() if namespace.get(name, self) is not value}
        moved |= {name for name in self.absent if name in namespace}
        return moved | {member.name for member in self.members if not member.matches(namespace)}

    def extra(self, function: FunctionType) -> Attributes | None:
        """Return the attributes in the snapshot of `function`, which only some functions have."""
        found: list[tuple[str, Any]] = list(function.__dict__.items())
        if self.defaults_vary:
            found.append(("__defaults__", function.__defaults__))
        if function.__kwdefaults__ is not self.kwdefaults:
            found.append(("__kwdefaults__", function.__kwdefaults__))
        if self.name_varies:
            found += [(name, getattr(function, name)) for name in _TITLE]
        return tuple(found) or None

    def build(
        self,
        dynamic: tuple[Any, ...] | None,
        cells: tuple[CellType, ...] | None,
        extra: Attributes | None,
    ) -> Any:
        """Make the function from a snapshot."""
        namespace = self.namespace
        if self.fresh:
            namespace = namespace.copy()
            if self.only_dynamic is not None:
                namespace[self.only_dynamic] = dynamic[0]  # type: ignore[index]
            elif dynamic is not None:
                namespace.update(zip(self.dynamic, dynamic))  # noqa: B905 (hot; equal by construction)
            for member in self.fresh_members:
                namespace[member.name] = member.build(namespace)
            if self.fresh_wrappers:
                self.refresh_wrappers(namespace)
        function = self.make(namespace, cells)
        for name in self.self_names:
            namespace[name] = function
        if extra is not None:
            set_attributes(function, extra)
        return function
