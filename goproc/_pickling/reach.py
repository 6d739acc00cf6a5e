"""The slice of a module that a function reaches: how each global travels, and whether the function can be shared."""

from __future__ import annotations

import builtins
import sys
from types import FunctionType, ModuleType

from goproc._pickling import homes, identities, mentions, names, pickler
from goproc._pickling.members import Member, attributes_of, static_kwdefaults
from goproc._pickling.names import cell_contents, names_of
from goproc._pickling.rebinding import Rebound
from goproc._pickling.statics import BASE_GLOBALS, LRU, importable, is_class, is_static, library
from goproc._pickling.templates import NO_GLOBAL, Template
from goproc.errors import OutOfSharedMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class _Slice:
    """The way in which each global that a function can reach travels."""

    def __init__(self, function: FunctionType, volatile: set[str]) -> None:
        self.function = function
        self.namespace = function.__globals__
        self.volatile = volatile
        self.statics: dict[str, Any] = {}
        self.dynamic: list[str] = []
        self.self_names: list[str] = []
        self.absent: list[str] = []
        self.omitted: dict[str, str] = {}
        self.watched: tuple[str, ...] = ()
        self.size = 0
        self.reached = [names_of(function.__code__)]
        self.hard = self._members([function])
        # A `global` statement in any member concerns all members.
        self.rebound = frozenset[str]().union(*[code.rebound for code in self.reached])
        self.members: list[Member] = []
        for name in dict.fromkeys([name for code in self.reached for name in code.used]):
            if name in self.hard:
                self.members.append(self.hard[name])
            else:
                self._place(name)

    def _members(self, functions: list[FunctionType]) -> dict[str, Member]:
        """Find the plain functions reached by global names, and add the names of their code to `reached`."""
        found: dict[str, Member] = {}
        for code in self.reached:
            for name in code.used:
                member = None if name in found else self._member(name)
                if member is not None:
                    found[name] = member
                    self.reached.append(names_of(member.code))
        return found

    def _member(self, name: str) -> Member | None:
        value = self.namespace.get(name)
        if name in self.volatile or value is self.function:
            return None
        return Member.of(name, value, self.namespace)

    def _place(self, name: str) -> None:
        if name not in self.namespace:
            self.absent.append(name)
        elif name in self.volatile or name in self.rebound:
            self.dynamic.append(name)
        elif self.namespace[name] is self.function:
            self.self_names.append(name)
        elif is_static(self.namespace[name]):
            self.statics[name] = self.namespace[name]
        else:
            self.dynamic.append(name)

    # -- globals by which the code may be named in a text only

    def add_mentioned(self) -> None:
        """Add the globals that texts and annotations name, or all if the code reflects, if they can be pickled."""
        known = {*self.statics, *self.dynamic, *self.self_names, *self.absent, *self.hard}
        todo = self._mentioned(self.reached, [self.function, *self.members])
        for name in todo:
            if name in known or (name.startswith("__") and name.endswith("__")):
                continue
            known.add(name)
            member = self._member(name)
            if member is None:
                self._place_mentioned(name)
                continue
            code = names_of(member.code)
            self.members.append(member)
            self.reached.append(code)
            self.rebound |= code.rebound
            todo += [*code.used, *self._mentioned([code], [member])]

    def _mentioned(self, codes: list[names.Names], bodies: Iterable[FunctionType | Member]) -> list[str]:
        hints = [hint for body in bodies for hint in text_hints(body)]
        reflects = any(code.reflects for code in codes)
        found = mentions.mentioned(self.namespace, codes, hints, reflects)
        absent = found.absent.union(self.watched)
        if len(absent) <= mentions.WATCHED:
            self.watched = tuple(absent)
        if reflects:
            self.size = len(self.namespace)
        return found.names

    def _place_mentioned(self, name: str) -> None:
        if name not in self.namespace:
            return
        value = self.namespace[name]
        if value is self.function:
            self.self_names.append(name)
        elif name not in self.rebound and name not in self.volatile and _is_static(value):
            self.statics[name] = value
        elif (reason := pickler.refusal(value)) is None:
            self.dynamic.append(name)
        else:
            self.omitted[name] = reason


def _is_static(value: Any) -> bool:
    """As is_static(), but False for a value that cannot be pickled and may never be needed."""
    try:
        return is_static(value)
    except OutOfSharedMemory:
        raise
    except Exception:  # pickling may raise anything
        return False


def text_hints(body: FunctionType | Member) -> list[str]:
    """Return the annotations of a function that are texts."""
    hints = (
        body.__annotations__
        if type(body) is FunctionType
        else dict(body.attributes).get("__annotations__", {})
    )
    return [hint for hint in hints.values() if isinstance(hint, str)]


def fill(t: Template, function: FunctionType) -> None:
    """Fill in the template: decide how each global that the function can reach travels."""
    _head(t, function)
    t.base, t.statics, t.omitted, t.size, t.watched = {}, {}, {}, 0, ()
    t.dynamic, t.self_names, t.absent, t.members, t.modules = (), (), (), (), ()
    t.library = library(function.__globals__)
    t.home = t.library is None and homes.only_here(function.__globals__.get("__name__", ""))
    reached, rebound = [names_of(t.code)], frozenset[str]()
    if t.library is None:
        namespace = function.__globals__
        t.base = {name: namespace[name] for name in BASE_GLOBALS if is_static(namespace.get(name, t))}
        found = _Slice(function, t.volatile)
        found.add_mentioned()
        t.statics, t.omitted, t.size, t.watched = found.statics, found.omitted, found.size, found.watched
        t.dynamic, t.self_names = tuple(found.dynamic), tuple(found.self_names)
        t.absent, t.members = tuple(found.absent), tuple(found.members)
        reached, rebound = found.reached, found.rebound
        _carry_modules(t, reached)
    _decide(t, function, reached, rebound)


def _carry_modules(t: Template, reached: list[names.Names]) -> None:
    """Have messages carry the modules that the code imports and no other process has, if they can be pickled."""
    found = mentions.modules(reached)
    reasons = {name: pickler.refusal(sys.modules[name]) for name in found}
    t.omitted.update({name: reason for name, reason in reasons.items() if reason is not None})
    t.modules = tuple([name for name, reason in reasons.items() if reason is None])
    if t.modules:
        t.dynamic = (*t.dynamic, NO_GLOBAL)


def _decide(t: Template, function: FunctionType, reached: list[names.Names], rebound: frozenset[str]) -> None:
    """Decide which parts calls can share."""
    # Calls do not share the functions of a namespace either if one of them keeps attributes.
    keeps = bool(t.self_names or t.members) and any(code.sets_attributes for code in reached)
    apart = keeps or any(code.reflects for code in reached)
    t.simple = not (
        t.dynamic
        or apart
        or rebound
        or function.__closure__ is not None
        or t.defaults_vary
        or t.name_varies
        or function.__kwdefaults__ is not t.kwdefaults
        or function.__dict__
    )
    differs = {*t.dynamic, *rebound} if t.simple else {*t.dynamic, *rebound, *t.self_names}
    t.fresh = apart or bool(differs)
    # A member is built anew with each namespace if the objects that it reaches differ from call to call.
    while grown := {
        m.name for m in t.members if m.name not in differs and not differs.isdisjoint(_met(t, m))
    }:
        differs |= grown
    for member in t.members:
        member.fresh = apart or member.name in differs
    attributes = frozenset[str]().union(*[code.attributes for code in reached])
    cells = [value for cell in function.__closure__ or () for value in cell_contents(cell)]
    t.submodules = names.submodules([*t.statics.values(), *cells], attributes)
    _identify(t, function, differs)


def _met(t: Template, body: Template | Member) -> tuple[str, ...]:
    """Return the names of globals in the code of a function, those in its texts included."""
    code = names_of(body.code)
    meant = [name for name in code.mentioned if type(t.statics.get(name)) is not ModuleType]
    return *code.used, *sorted(meant)


def _identify(t: Template, function: FunctionType, differs: set[str]) -> None:
    """Give uids to the functions that reach only constant objects, and note rebindable globals that they read.

    Args:
        t: the template.
        function: the function that the template is made from.
        differs: the names that differ from call to call.
    """
    members = {member.name: member for member in t.members}
    met = {name: _met(t, member) for name, member in members.items()}
    met.update(dict.fromkeys(t.self_names, _met(t, t)))
    rebound = Rebound(function.__globals__)
    state = {name for name, value in t.statics.items() if rebound.may_be(name, value)}
    state |= {name for name in t.absent if not hasattr(builtins, name) and rebound.may_be(name, None)}
    t.reads_state = bool(state)
    t.uid = identities.uid_of(t.code, _parts(t, t, members, _reach(_met(t, t), met))) if t.simple else ""
    for member in t.members:
        reach = _reach(met[member.name], met)
        member.stateful = not state.isdisjoint(reach)
        codes = [names_of(member.code), *[names_of(members[name].code) for name in reach if name in members]]
        keeps = len(codes) > 1 and any(code.sets_attributes for code in codes)
        varies = keeps or not differs.isdisjoint(reach) or any(code.reflects for code in codes)
        if not varies and member.cached is None:
            member.uid = identities.uid_of(member.code, _parts(t, member, members, reach))


def _reach(names: Iterable[str], met: Mapping[str, Iterable[str]]) -> dict[str, None]:
    """Return the names of all globals that a function reaches, also by way of other functions.

    Args:
        names: the names in its own code.
        met: the names in the code of other functions, by the functions' names.
    """
    found = dict.fromkeys(names)
    todo = [name for name in found if name in met]
    for name in todo:
        for other in met[name]:
            if other not in found:
                found[other] = None
                if other in met:
                    todo.append(other)
    return found


def _parts(
    t: Template, body: Template | Member, members: Mapping[str, Member], reach: Iterable[str]
) -> list[Any]:
    """Return the objects that a function is made of and that it reaches."""
    parts = body.parts()
    for name in reach:
        if name in t.statics:
            parts += [name, t.statics[name]]
        elif name in t.self_names:
            parts += [name, *t.parts()]
        elif name in members:
            parts += [name, *members[name].parts()]
    return parts


def uid_of(function: FunctionType) -> str:
    """Return the uid of a function of a module that reaches no class with carried state; "" if it has none."""
    reached = _walk(function)
    if reached is None:
        return ""
    first = Member.of(function.__name__, function, function.__globals__)
    parts = first.parts() if first is not None else []
    for name, (value, member) in reached.items():
        parts += [name, *member.parts()] if member is not None else [name, value]
    return identities.uid_of(function.__code__, parts)


def is_alone(function: FunctionType) -> bool:
    """Return True if a function has a uid and reaches no class of the script."""
    reached = _walk(function)
    return reached is not None and all(
        member is not None or is_plain(value) for value, member in reached.values()
    )


def is_plain(value: Any) -> bool:
    """Return True if a global is the same in every process, and no class of the script."""
    return importable(value) if is_class(value) else is_static(value)


def _walk(function: FunctionType) -> dict[str, tuple[Any, Member | None]] | None:
    """Return all globals that a function reaches, in the order of `_reach`; None if one of them can change."""
    namespace = function.__globals__
    found: dict[str, tuple[Any, Member | None]] = {}
    codes = [names_of(function.__code__)]
    if Member.of(function.__name__, function, namespace) is None:
        return None
    todo = _named(codes[0], namespace)
    for name in todo:
        value = namespace[name]
        member = Member.of(name, value, namespace) if type(value) in (FunctionType, LRU) else None
        if member is None and not (is_class(value) or is_static(value)):
            return None
        found[name] = value, member
        if member is not None:
            code = names_of(member.code)
            codes.append(code)
            todo += [other for other in _named(code, namespace) if other not in todo]
    keeps = len(codes) > 1 and any(code.sets_attributes for code in codes)
    return None if keeps or any(code.reflects or code.rebound for code in codes) else found


def _named(code: names.Names, namespace: Mapping[str, Any]) -> list[str]:
    """Return the names of globals in some code, as `_met` does."""
    meant = [name for name in code.mentioned if type(namespace.get(name)) is not ModuleType]
    present = [name for name in (*code.used, *sorted(meant)) if name in namespace]
    return list(dict.fromkeys(name for name in present if name in code.used or not name.startswith("__")))


def copy_reached(function: FunctionType, namespace: dict[str, Any]) -> None:
    """Give a namespace the globals that a shared function reaches: another function there may be sent on with it."""
    source = function.__globals__
    todo = list(names_of(function.__code__).used)
    for name in todo:
        if name in source and name not in namespace:
            namespace[name] = value = source[name]
            if type(value) is FunctionType:
                todo += names_of(value.__code__).used


def _head(t: Template, function: FunctionType) -> None:
    """Fill in all fields but those about the globals."""
    t.code = function.__code__
    t.title = function.__name__
    t.defaults_vary = t.defaults_vary or not is_static(function.__defaults__)
    t.defaults = None if t.defaults_vary else function.__defaults__
    t.kwdefaults = function.__kwdefaults__ if static_kwdefaults(function) else None
    t.attributes = tuple(
        [pair for pair in attributes_of(function) if pair[0] != "__kwdefaults__" or pair[1] is t.kwdefaults]
    )
