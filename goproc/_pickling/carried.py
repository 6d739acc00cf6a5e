"""Large objects that do not change are copied to shared memory once, and given by reference from then on.

When a message turns out large, `_learn` finds the large objects in it: a global, the content of a closure, an argument,
an attribute of a bound method's object. Each gets a copy in shared memory and an `Entry` in this process. From then on
the pickler puts a reference in the object's place. Before that, the entry checks whether the object still equals its
copy; if not, a new copy is made. So a message means the same as if it held everything.

A part of an object is given by reference only if it is flat: leaves in one container. Objects of one message that share
a container have one copy together. So no two copies hold the same list, and one object in the sender is one object in
the reader.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref

from goproc._pickling import copies, large, store
from goproc._pickling.copies import Copy
from goproc._pickling.pickler import Pickler
from goproc._pickling.statics import importable
from goproc._pickling.wire import Pickled, dump
from goproc.errors import CopiedAgain, OutOfSharedMemory
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from goproc._pickling.copies import Check
    from goproc._pickling.wire import Buffer

MARK = b"\0"  # stands before a pickle that holds references; no pickle begins with it
_ENTRIES = 256  # the most objects that a process has copies of
_WARN_AT = 3  # the number of copies after the first from which on a warning is given


class Entry:
    """An object, its copy, and the check whether both are still the same.

    Attributes:
        label: the way by which the sender reaches the object: "global TABLE".
        function: the goroutine's function for which it was first met, "" for a message.
        classes: classes of the script whose objects are in it: their present state comes with each message.
        private: True if each message gets an object of its own, over private memory.
        members: a tuple of the objects that have the copy together; None for a single object.
        copies: the number of copies after the first.
        serial: of the last message that referred to it.
    """

    __slots__ = (
        "_obj",
        "check",
        "classes",
        "copies",
        "copy",
        "function",
        "label",
        "members",
        "private",
        "serial",
    )

    def __init__(self, obj: Any, label: str, function: str, copy: Copy, check: Check, private: bool) -> None:
        self.label = label
        self.function = function
        self.copy = copy
        self.check = check
        self.classes: tuple[type, ...] = ()
        if type(check) is copies.SamePickle:
            self.classes = check.classes
        elif type(check) is _core.Guard:
            self.classes = tuple([kind for kind in check.classes if not importable(kind)])
        self.private = private
        self.members: tuple[Any, ...] | None = None
        self.copies = 0
        self.serial = 0
        self._obj: Any
        key = id(obj)
        try:
            self._obj = weakref.ref(obj, lambda _: entries.forget(key))
        except TypeError:
            self._obj = obj

    def adopt(self, fresh: Entry) -> None:
        """Take over the copy of another entry, and its check."""
        self.copy, self.check, self.private, self.classes = (
            fresh.copy,
            fresh.check,
            fresh.private,
            fresh.classes,
        )

    @property
    def obj(self) -> Any:
        return self._obj() if type(self._obj) is weakref.ref else self._obj

    def shares(self, other: Entry) -> bool:
        """Return True if both objects hold the same container, or the same object of a class."""
        if type(self.check) is _core.Guard and type(other.check) is _core.Guard:
            return self.check.shares(other.check)
        return not copies.objects_in(self.obj).isdisjoint(copies.objects_in(other.obj))

    def unwanted(self) -> bool:
        """Return True if only the entry and its guard refer to the object."""
        if type(self._obj) is weakref.ref:
            return False
        held = 2  # references by the entry, and by its members or its check
        if type(self.check) is copies.Constant:
            held = 1
        elif type(self.check) is _core.Guard and type(self._obj) is not tuple:  # as a container
            held = 3
        return sys.getrefcount(self._obj) <= held + 1


class _Entries(dict[int, Entry]):
    """The entries by the id of their object. The C core knows the ids as well."""

    def add(self, entry: Entry) -> None:
        self.sweep()
        while len(self) >= _ENTRIES:
            self.forget(min(self, key=lambda key: self[key].serial))
        if self.sweep_after_collection not in gc.callbacks:
            gc.callbacks.append(self.sweep_after_collection)
        key = id(entry.obj)
        self[key] = entry
        _core.copied_add(key)

    def forget(self, key: int) -> None:
        entry = self.pop(key, None)
        if entry is None:
            return
        _core.copied_remove(key)
        loaded = getattr(entry.copy, "_loaded", None)
        # If the object is gone, no message will need its copy again.
        if loaded is not None and id(loaded.value) != key:
            let_go(entry.copy)

    def sweep_after_collection(self, phase: str, info: dict[str, int]) -> None:
        """Sweep whenever Python has collected garbage: there is no notice when a list or a dict is dropped."""
        if self and phase == "stop" and info["generation"]:
            self.sweep()

    def sweep(self) -> None:
        """Forget the objects to which no other reference is left."""
        for key, entry in list(self.items()):
            if entry.unwanted():
                self.forget(key)

    def clear(self) -> None:
        super().clear()
        _core.copied_clear()


entries = store.cache(_Entries())
# Large calls that were sent whole, by the name of the function.
calls_with_all: dict[str, int] = store.cache({})


def let_go(copy: Copy) -> None:
    """Forget the object that this process has read from a copy."""
    copies.kept.pop(copy, None)
    loaded = getattr(copy, "_loaded", None)
    if loaded is not None:
        del copy._loaded
        entries.forget(id(loaded.value))


def has_copies() -> bool:
    """Return True if this process has copies of objects."""
    return bool(entries)


def has_copy(obj: Any) -> bool:
    """Return True if there is a copy of the object. The object may have changed since."""
    return id(obj) in entries


_serial = 0  # the number of messages with references


class _Local(threading.local):
    """The references in the message that the thread pickles, by the id of the object."""

    references: dict[int, Any] | None = None


_local = _Local()


class _ReferringPickler(Pickler):
    persistent_id = staticmethod(_core.copied_id)


def refer(obj: Any) -> Any:
    """Return the stand-in for an object in a message, or None. The C core asks it for objects that have a copy."""
    references = _local.references
    if references is None:
        return None
    key = id(obj)
    if key in references:
        return references[key]
    reference = None
    entry = entries.get(key)
    if entry is not None and entry.obj is obj and (entry.check.unchanged() or _renew(entry, obj)):
        entry.serial = _serial
        label = f"{entry.label} of {entry.function}" if entry.function else entry.label
        index = None if entry.members is None else [id(member) for member in entry.members].index(key)
        reference = entry.copy, entry.private, label, entry.classes, index
    references[key] = reference
    return reference


def _renew(entry: Entry, obj: Any) -> bool:
    """Copy a changed object again."""
    whole = obj if entry.members is None else entry.members
    fresh = _copied(whole, entry.label, entry.function)
    together = [other for member in entry.members or (obj,) if (other := entries.get(id(member)))]
    for other in together:
        if fresh is None:
            entries.forget(id(other.obj))
        else:
            other.adopt(fresh)
    if fresh is None:
        return False
    entry.copies += 1
    if entry.copies == _WARN_AT:
        what, since = (
            (f"go({entry.function}): ", "the last go") if entry.function else ("", "it was last sent")
        )
        size = f"{entry.copy._bytes / 1e6:.0f} MB"
        _warn(f"{what}{entry.label} ({size}) changed since {since} and was copied again", CopiedAgain)
    return True


def _copied(obj: Any, label: str, function: str) -> Entry | None:
    """Copy an object to shared memory; None if it is small, or cannot be copied on its own."""
    kind = type(obj)
    guard = None if kind in copies.CONSTANT else copies.guard_of(obj)
    measured = copies.measure(obj)
    if measured is None or measured.pickled.bytes < large.LARGE:
        return None
    pickled = measured.pickled
    if guard is not None and not guard.unchanged():  # pickling has changed the object, or another thread has
        return None
    try:
        copy = _make_copy(pickled)
    except OutOfSharedMemory:
        return None
    check: Check
    if kind in copies.CONSTANT:
        check = copies.Constant()
    elif guard is not None:
        check = guard
    else:
        check = copies.SamePickle(copies.weak(obj), copy, measured)
    return Entry(obj, label, function, copy, check, copies.is_buffer(kind))


def _make_copy(pickled: Pickled) -> Copy:
    try:
        return Copy(pickled)
    except OutOfSharedMemory:
        entries.clear()
        _core.collect()
        return Copy(pickled)


def dump_message(obj: Any) -> tuple[bytes, list[Buffer]]:
    """Pickle a message, with references in place of objects that have copies; raise the errors of pickle."""
    pickled = _dump(obj) if entries else dump(obj)
    if len(pickled[0]) < large.LARGE and not pickled[1]:
        return pickled
    if not _is_large(pickled) or large.has_no_parts(obj):
        return pickled
    if _learn(obj, pickled[1]):
        pickled = _dump(obj)
    call = large.opened(obj)
    if call and _is_large(pickled):
        _count_whole(large.name_of(call))
    return pickled


def _is_large(pickled: tuple[bytes, list[Buffer]]) -> bool:
    body, buffers = pickled
    return len(body) >= large.LARGE or len(body) + sum([buffer.nbytes for buffer in buffers]) >= large.LARGE


def _count_whole(function: str) -> None:
    if len(calls_with_all) >= _ENTRIES:
        calls_with_all.clear()
    calls_with_all[function] = calls_with_all.get(function, 0) + 1


def _dump(obj: Any) -> tuple[bytes, list[Buffer]]:
    global _serial
    _serial += 1
    entries.sweep()
    outer, _local.references = _local.references, {}
    try:
        body, buffers = dump(obj, _ReferringPickler)
        refers = any(map(bool, _local.references.values()))
    finally:
        _local.references = outer
    return MARK + body if refers else body, buffers


def _learn(obj: Any, buffers: list[Buffer]) -> bool:
    """Copy the objects that make the message `obj` large. Return True if there are such objects.

    Args:
        obj: the message.
        buffers: those of its pickle.
    """
    if not _core.attached():
        return False
    call = large.opened(obj)
    search = _Search(large.name_of(call) if call else "")
    roots = large.roots(call) if call else [("a message", obj, False)]
    reached = large.reached([*roots, *large.arrays_in(buffers)])
    for label, found in reached:
        if id(found) not in entries:
            search.copy(label, found)
    if search.found:
        among = [entries.get(id(found)) for _, found in reached]
        _join([*search.found, *[entry for entry in among if entry is not None and entry not in search.found]])
    return bool(search.found)


def _join(found: list[Entry]) -> None:
    """Give those of a message's objects that share a part one copy together."""
    groups: list[list[Entry]] = []
    for entry in found:
        if not entry.private and type(entry.check) is not copies.Constant:
            linked = [group for group in groups if any(entry.shares(other) for other in group)]
            groups = [group for group in groups if group not in linked]
            groups.append([entry, *[other for group in linked for other in group]])
    for group in groups:
        if len(group) > 1 and any(
            entry.members is None or entry.members is not group[0].members for entry in group
        ):
            _copy_together(group)


def _copy_together(group: list[Entry]) -> None:
    objects = {id(obj): obj for entry in group for obj in entry.members or (entry.obj,)}
    members = tuple(objects.values())
    group = [entry for key in objects if (entry := entries.get(key))]
    fresh = _copied(members, group[0].label, group[0].function)
    for entry in group:
        if fresh is None:  # they are sent as a whole then
            entries.forget(id(entry.obj))
        else:
            entry.adopt(fresh)
            entry.members = members


class _Search:
    """Copies the large objects of a message.

    Attributes:
        found: the entries of the copied objects.
    """

    def __init__(self, function: str) -> None:
        self.found: list[Entry] = []
        self._function = function

    def copy(self, label: str, obj: Any) -> None:
        pieces = [
            child
            for name, child in large.flat_parts(label, obj)
            if id(child) not in entries and self._add(name, child)
        ]
        if copies.size_without_known(obj) >= large.LARGE and self._add(label, obj):
            for piece in pieces:  # the copy of the whole has the pieces, too
                self.found.remove(entries[id(piece)])
                entries.forget(id(piece))

    def _add(self, label: str, obj: Any) -> bool:
        entry = _copied(obj, label, self._function)
        if entry is None:
            return False
        entries.add(entry)
        self.found.append(entry)
        return True


def users_frame() -> FrameType:
    """Return the frame of the program's code that is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "goproc":
        frame = frame.f_back
    return frame


def _warn(text: str, category: type[Warning]) -> None:
    """Warn at the running line of the program."""
    import warnings

    frame = users_frame()
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, category, frame.f_code.co_filename, frame.f_lineno, registry=registry)
