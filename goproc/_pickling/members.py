"""The functions of a slice, each without its namespace and its cells: the parts of a template."""

from __future__ import annotations

from functools import partial
from types import FunctionType

from goproc._pickling import identities, wrappers
from goproc._pickling.statics import LRU, importable, is_static
from goproc._record import Record
from goproc.shm._core import make_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CellType, CodeType
    from typing import Any

    Attributes = tuple[tuple[str, Any], ...]


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


def is_home(function: FunctionType) -> bool:
    return function.__globals__.get(function.__name__) is function


def home_of(function: FunctionType) -> str | None:
    """Return the name of a function among its globals: its own name if that leads to it, else the first that does."""
    if is_home(function):
        return function.__name__
    namespace = function.__globals__
    return next((name for name, value in namespace.items() if value is function), None)


class Detail(Record):
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
