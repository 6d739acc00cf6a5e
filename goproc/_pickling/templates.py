"""The template of a function: the sender checks it and the receiver builds from it; see the package's docstring."""

from __future__ import annotations

import builtins
import importlib
import weakref
from functools import partial
from operator import itemgetter
from types import FunctionType

from goproc._pickling import homes, identities, module_frames, wrappers
from goproc._pickling.classes import class_entry
from goproc._pickling.entries import NEVER, bring_back, checked_together, intact_together
from goproc._pickling.members import Body, Detail, Member, is_home, set_attributes
from goproc._pickling.statics import is_class
from goproc.shm import _core
from goproc.shm._core import Bindings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CellType
    from typing import Any

    from goproc._pickling.members import Attributes
    from goproc._pickling.store import Ref

# In `dynamic` this name makes a function travel inside its message, where there is room for more than globals.
NO_GLOBAL = "no global"
_TITLE = ("__name__", "__qualname__", "__doc__", "__module__")

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
        return maker is None or maker is function or function is self.function or is_home(function)

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
