"""The entries of classes that travel by value: the way of each, and the state from which its definition was made."""

from __future__ import annotations

import weakref
from itertools import repeat
from types import MethodType

from goproc._pickling import making, store
from goproc._pickling.changes import REGISTRY, Guard, Watch, is_state, registered
from goproc._pickling.statics import is_class, reduce_by_cloudpickle
from goproc._record import Record
from goproc.shm import _core
from goproc.shm._core import Together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from types import CellType
    from typing import Any

    from goproc._pickling.changes import Check
    from goproc._pickling.store import Ref

    Namespace = dict[str, Any]

NEVER = Together((), -1)  # in place of a check that was not made yet

entries: dict[int, ClassEntry] = store.cache({})  # by the id of the class
arrived: dict[int, ClassEntry] = store.cache({})  # those that another process has made
read: set[int] = store.cache(set())  # the keys in `arrived` of the classes that the latest message refers to


class Inside(Record):
    """A class that the definition of another class holds as a whole.

    Attributes:
        cls: the class.
        names: the names of its attributes that messages carry.
    """

    cls: type
    names: set[str]


def _holds(watch: Watch, part: Inside) -> bool:
    return watch.holds(part.cls)


class Use(Record):
    """A class with its own definition to which another definition refers, and the version that it had then."""

    cls: type
    version: int

    @classmethod
    def of(cls, used: type) -> Use:
        entry = entries.get(id(used))
        return cls(used, 0 if entry is None else entry.version)

    def fails(self) -> bool:
        entry = entries.get(id(self.cls))
        return entry is None or entry.version != self.version or entry.changed(self.cls)


class ClassEntry:
    """The way in which one class travels.

    Attributes:
        uid: known in every process that has the class; None if the class travels by reference.
        reduction: in that case, the reference.
        ref: the ref of its definition in the blob store.
        inline: True if it is always sent as a whole.
        received: True if another process has created it; only that process may redefine it.
        groups: the namespaces its methods run over, each with the names that messages carry.
        cells: the cells whose contents messages carry.
        modules: names of modules that methods import and that no other process has.
        parts: the stateful classes that it is made of, such as its bases.
        checking: True while the entry is in use: classes may refer to each other.
        companions: the objects that its annotations name, kept for lookups by name.
        state: names of the attributes that messages carry.
        inside: the classes that its definition holds as a whole.
        uses: other classes that the definition refers to, with their definitions.
        stateful: True if messages have to carry more than the reference.
        watch, watches, guards: the state from which the definition was made: of the class, of those inside, of globals.
        version: counts the changes of the class itself, not those of classes that it uses.
        volatile: names of globals that were rebound.
        together: all checks of changed() as one.
        overridden: names of attributes, of the class and of those inside, that the last message set against the
            definition.
        defined: `state`, the names of those inside, and `parts`, as the definition had them.
    """

    __slots__ = (
        "cells",
        "checking",
        "companions",
        "defined",
        "gone",
        "groups",
        "guards",
        "inline",
        "inside",
        "modules",
        "overridden",
        "parts",
        "received",
        "reduction",
        "ref",
        "state",
        "stateful",
        "together",
        "uid",
        "uses",
        "version",
        "volatile",
        "watch",
        "watches",
    )

    def __init__(self, cls: type, uid: str | None) -> None:
        key = id(cls)
        self.gone = weakref.ref(cls, lambda _: (entries.pop(key, None), arrived.pop(key, None)))
        self.uid = uid
        self.reduction: Any = NotImplemented
        self.ref: Ref = 0
        self.inline = False
        self.received = False
        self.groups: list[tuple[Namespace, tuple[str, ...]]] = []
        self.cells: list[CellType] = []
        self.modules: tuple[str, ...] = ()
        self.parts: list[type] = []
        self.companions: dict[str, Any] = {}
        self.state: set[str] = set()
        self.inside: list[Inside] = []
        self.uses: list[Use] = []
        self.stateful = False
        self.version = 0
        self.watch: Watch | None = None
        self.watches: list[Watch] = []
        self.guards: list[Guard] = []
        self.volatile: set[str] = set()
        self.checking = False
        self.overridden: list[set[str]] = []
        self.defined: Defined | None = None
        self.together = NEVER

    def update_stateful(self) -> None:
        """Find out whether messages have to carry more than the reference."""
        named = self.state or any(part.names for part in self.inside)
        self.stateful = bool(self.inline or self.groups or self.cells or self.parts or self.modules or named)
        _core.redefined()

    def watch_all(self, cls: type) -> None:
        """From now on, watch the class, and the classes inside its definition, for changes."""
        self.watch = Watch(cls, self.state)
        self.watches = [Watch(part.cls, part.names) for part in self.inside]

    def changed(self, cls: type) -> bool:
        """Return True if the definition no longer describes the class."""
        if self.together.unchanged() or self.watch is None or self.inline or self.checking:
            return False
        definitions = _core.definitions()
        if self._fails(self.watch, cls):
            return True
        self.checking = True
        try:
            if any(use.fails() for use in self.uses):
                return True
        finally:
            self.checking = False
        self.together = checked_together([cls], definitions)
        return False

    def _fails(self, watch: Watch, cls: type) -> bool:
        for guard in self.guards:
            if not guard.bindings.hold(guard.namespace):
                return True
        if not watch.holds(cls):
            return True
        return bool(self.watches) and not all(map(_holds, self.watches, self.inside))

    def checks(self, cls: type) -> list[tuple[Check, Namespace | type]]:
        """Return the checks of _fails()."""
        if self.watch is None or self.inline:
            return []
        parts = zip(self.watches, self.inside, strict=True)
        return [
            *[(guard.bindings, guard.namespace) for guard in self.guards],
            (self.watch.check(), cls),
            *[(watch.check(), part.cls) for watch, part in parts],
        ]

    # -- of a class that has arrived

    def arrive(self, cls: type) -> None:
        """Take the class, now filled, as its definition describes it."""
        self.watch_all(cls)
        assert self.watch is not None
        inside = [frozenset(part.names) for part in self.inside]
        self.defined = Defined(frozenset(self.state), inside, self.parts, self.watch, self.watches)

    def override(self, cls: type) -> None:
        """Have messages carry the changes that goroutines of this process have made."""
        assert self.watch is not None
        self.version += 1
        self.state |= self.watch.differing(cls)
        for watch, part in zip(self.watches, self.inside, strict=True):
            part.names.update(watch.differing(part.cls))
        self.watch_all(cls)
        self.uses = [Use.of(use.cls) for use in self.uses]
        used = [use.cls for use in self.uses if (entry := entries.get(id(use.cls))) and entry.stateful]
        self.parts = list(dict.fromkeys([*self.parts, *used]))
        self.update_stateful()

    def carried(self, cls: type) -> list[Carried]:
        """Return the attributes, of the class and of those inside, that messages carry."""
        return [Carried.of(cls, self.state), *[Carried.of(part.cls, part.names) for part in self.inside]]

    def set_carried(self, cls: type, carried: list[Carried], own: Container[type]) -> None:
        """Set the attributes that a message carries, except on classes that this process has defined.

        Args:
            cls: the class.
            carried: the attributes of the class and of those inside.
            own: the classes that other processes have defined.
        """
        for owner, part in zip([cls, *[part.cls for part in self.inside]], carried, strict=True):
            if owner in own:
                part.apply(owner)
        if self.defined is None:
            self.arrive(cls)
            return
        known = [self.defined.state, *self.defined.inside]
        self.overridden = [part.names() - names for part, names in zip(carried, known, strict=True)]
        for watch, (owner, _) in zip(self.defined.watches, self.inside, strict=True):
            watch.resize(owner)
        self.defined.watch.resize(cls)

    def is_intact(self, cls: type) -> bool:
        """Return True if no change has to be undone, for a class that refers to no other one."""
        defined = self.defined
        return defined is None or (
            self.watch is defined.watch and not self.uses and not self.inside and defined.watch.holds(cls)
        )

    def restore(self, cls: type, overridden: bool) -> None:
        """Undo the changes of goroutines: give a class the state that has arrived.

        Args:
            cls: the class.
            overridden: True if the message had more of the class than its definition.
        """
        defined = self.defined
        if defined is None or self.checking:
            return
        kept = self.overridden if overridden and self.overridden else repeat(set[str]())
        owners = [cls, *[part.cls for part in self.inside]]
        for owner, watch, names in zip(owners, [defined.watch, *defined.watches], kept, strict=False):
            if not watch.holds(owner):
                watch.restore(owner, names)
        if self.watch is not defined.watch:
            self._forget_overrides(defined)
        if self.uses:
            self.checking = True
            try:
                for use in self.uses:
                    used = arrived.get(id(use.cls))
                    if used is not None:
                        used.restore(use.cls, overridden)
            finally:
                self.checking = False

    def _forget_overrides(self, defined: Defined) -> None:
        self.state, self.parts = set(defined.state), defined.parts
        self.inside = [
            Inside(part.cls, set(names)) for part, names in zip(self.inside, defined.inside, strict=True)
        ]
        self.watch, self.watches = defined.watch, defined.watches
        self.version += 1
        self.update_stateful()

    # -- of a class of this process

    def note_changes(self, cls: type) -> None:
        """Have messages carry the attributes that can change in place, and those that were found changed."""
        self.volatile = self.volatile.union(*[guard.moved() for guard in self.guards])
        if self.watch is None or self._fails(self.watch, cls):
            self.version += 1
        self.state |= state_names(cls)
        if self.watch is not None:
            self.state |= self.watch.moved(cls).intersection(attributes_of(cls))
        for watch, part in zip(self.watches, self.inside, strict=True):
            moved = watch.moved(part.cls).intersection(attributes_of(part.cls))
            part.names.update(moved)


def checked_together(classes: Iterable[type], definitions: int) -> Together:
    """Return one check that tells whether any of some classes, or of those that they use, has changed.

    Args:
        classes: classes that have an entry and have not changed.
        definitions: the number of definitions before that was found out.
    """
    todo, seen = list(classes), set[type]()
    checks: list[tuple[Check, Namespace | type]] = []
    for cls in todo:
        entry = entries.get(id(cls))
        if entry is not None and cls not in seen:
            seen.add(cls)
            checks += entry.checks(cls)
            todo += [use.cls for use in entry.uses]
    return Together(tuple(checks), definitions)


def intact_together(classes: Iterable[type], definitions: int) -> Together:
    """Return one check that tells whether goroutines have changed any of some classes, or of those that they use.

    Args:
        classes: classes that bring_back() has looked at.
        definitions: the number of definitions before that.
    """
    todo, seen = list(classes), set[type]()
    checks: list[tuple[Check, Namespace | type]] = []
    for cls in todo:
        entry = arrived.get(id(cls))
        if entry is None or entry.defined is None or cls in seen:
            continue
        if entry.checking or entry.watch is not entry.defined.watch:
            return NEVER
        seen.add(cls)
        checks.append((entry.defined.watch.check(), cls))
        parts = zip(entry.defined.watches, entry.inside, strict=True)
        checks += [(watch.check(), part.cls) for watch, part in parts]
        todo += [use.cls for use in entry.uses]
    return Together(tuple(checks), definitions)


class Defined(Record):
    """The parts of an unchanged class that messages carry, by its definition, and the watches for a change."""

    state: frozenset[str]
    inside: list[frozenset[str]]
    parts: list[type]
    watch: Watch
    watches: list[Watch]


def attributes_of(cls: type) -> dict[str, Any]:
    """Return the attributes that cloudpickle would send, without the members of an enumeration."""
    attributes: dict[str, Any] = reduce_by_cloudpickle(cls)[2][0]
    return attributes


def state_names(cls: type) -> set[str]:
    """Return the names of the attributes that can change in place."""
    return {name for name, value in attributes_of(cls).items() if is_state(name, value)}


class Carried(Record):
    """The attributes of a class that a message carries.

    Attributes:
        attributes: their values.
        gone: names of attributes that the class has no longer.
    """

    attributes: dict[str, Any]
    gone: tuple[str, ...]

    @classmethod
    def of(cls, owner: type, names: Iterable[str]) -> Carried:
        found = owner.__dict__
        return cls(
            {name: registered(owner) if name == REGISTRY else found[name] for name in names if name in found},
            tuple([name for name in names if name not in found]),
        )

    def names(self) -> set[str]:
        return {*self.attributes, *self.gone}

    def apply(self, owner: type) -> None:
        """Set the attributes of a class, and delete those that are gone."""
        making.set_attributes(owner, self.attributes)
        making.delete_attributes(owner, self.gone)


def bring_back(classes: Iterable[tuple[type, Ref]], values: Iterable[Any]) -> None:
    """Undo the changes of goroutines to classes that a call uses: they get their state as of its `go` line.

    Args:
        classes: those of which the call carries only the reference of the definition.
        values: classes, and objects of classes, that the call carries. Those deeper inside the values are in `read`.
    """
    for cls, _ in classes:
        entry = arrived.get(id(cls))
        if entry is not None and not entry.is_intact(cls):
            entry.restore(cls, False)
    for value in values:
        if type(value) is MethodType:
            value = value.__self__
        cls = value if is_class(value) else type(value)
        entry = arrived.get(id(cls))
        if entry is not None and not entry.is_intact(cls):
            entry.restore(cls, True)
    for key in read:
        entry = arrived.get(key)
        found = None if entry is None else entry.gone()
        if entry is not None and found is not None and not entry.is_intact(found):
            entry.restore(found, True)
    read.clear()
