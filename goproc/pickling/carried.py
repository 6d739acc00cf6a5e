"""What is large and does not change is copied to shared memory once, and given by reference from then on.

When a message turns out large, `learn` finds the objects that make it so: a global, what a closure captured, an argument,
an attribute of a bound method's object. Each gets a copy in shared memory (`Copy`) and an `_Entry` in this process, and
the pickler of messages puts a reference in its place wherever it meets it. Before it does, the entry sees whether the
object is still what was copied: then the reference is right, else there is a new copy. So a message means the same as if
it held everything.

How an object is seen to be unchanged (`_Check`) must be exact:

    nothing to see    it cannot change: str, bytes
    a guard           containers over leaves that cannot change: the C core compares pointers and versions
    the pickle        of anything else; buffers are compared with the copy, which is as fast as memory

In the reader an array gets private memory for each message: pages of the copy, mapped copy-on-write. Anything else is
read once per process, and shared by its goroutines: `_Loaded` sees by the same check whether one of them wrote to it.
Then it is read anew, and a warning says so.

A part of an object is given by reference only if it is flat, leaves in one container: so no two copies ever hold the
same list, and what is one object in the sender is one in the reader, within each of the objects named above.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
import weakref
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import NamedTuple

from goproc.errors import CopiedAgain, OutOfSharedMemory, SharedWrite
from goproc.pickling import functions, store
from goproc.pickling.names import cell_contents, names_of
from goproc.pickling.pickler import Pickler
from goproc.pickling.statics import LRU, importable, is_handle, library
from goproc.pickling.wire import Pickled, dump
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any, Protocol

    class Check(Protocol):
        def unchanged(self) -> bool: ...

    Child = tuple[str, Any]

LARGE = 1_000_000  # bytes: smaller objects are part of each message
MARK = b"\0"  # before a pickle that holds references; no pickle begins with it
_FEW = 64  # of a container with more elements none is looked at by itself
_VISITED = 2_000  # objects looked at in one large message
_SEEN = 256  # objects remembered that made one message large
_ENTRIES = 256  # objects that a process has copies of
_KEPT = 64  # copies that a process has read
_RECENT = 8  # messages: a copy that none of them named goes, unless another process has it, too
_WARN_AT = 3  # copies made since the first

_LEAVES: tuple[type, ...] = (range, type(Ellipsis))
# By name, so that nothing is imported.
_LEAVES_OF = (
    ("datetime", ("date", "datetime", "time", "timedelta")),
    ("decimal", ("Decimal",)),
    ("fractions", ("Fraction",)),
    ("uuid", ("UUID",)),
    ("pathlib", ("PosixPath", "PurePosixPath")),
)
_FLAT = frozenset({bytes, str})
_SMALL = frozenset({int, float, bool, complex, type(None), *_LEAVES})
_HEAPTYPE = 1 << 9  # the flag of a type made by a class statement


class _WithDict:
    pass


_OBJECT_SIZE = _WithDict.__basicsize__  # of an instance that has attributes, and neither slots nor anything in C


class Copy(_core.Copy):
    """A copy in shared memory, and what this process has read of it."""

    __slots__ = ("_loaded",)
    _loaded: _Loaded
    __goproc_handle__ = True


# -- has it changed? ---------------------------------------------------------------------------------------------------


class _Constant:
    """The check of what cannot change."""

    __slots__ = ()

    def unchanged(self) -> bool:
        return True


class _SamePickle:
    """The check of anything: its pickle is the same as before, and its buffers are those of the copy."""

    __slots__ = ("_body", "_copy", "_obj")

    def __init__(self, obj: Any, copy: Copy, body: bytes) -> None:
        self._obj = obj
        self._copy = copy
        self._body = _digest(body)

    def unchanged(self) -> bool:
        obj = self._obj() if type(self._obj) is weakref.ref else self._obj
        pickled = _measure(obj)
        return (
            pickled is not None
            and _digest(pickled.body) == self._body
            and self._copy._same(None, pickled.buffers)
        )


def _digest(body: bytes) -> bytes:
    if len(body) <= 64:
        return body
    import hashlib

    return hashlib.blake2b(body, digest_size=32).digest()


class _NotCarried(Exception):
    """Raised where a copy would hold something that belongs to a message."""


class _CopyPickler(Pickler):
    """Pickles a copy, which holds no handles: nobody would see how long it needs them."""

    def reducer_override(self, obj: Any) -> Any:
        if is_handle(type(obj)):
            raise _NotCarried
        return super().reducer_override(obj)


def _measure(obj: Any) -> Pickled | None:
    """Pickle the object for a copy; None if that cannot be."""
    try:
        return Pickled(*dump(obj, _CopyPickler))
    except Exception:
        return None


def _leaves() -> tuple[type, ...]:
    found = list(_LEAVES)
    for name, kinds in _LEAVES_OF:
        module = sys.modules.get(name)
        if module is not None:
            found += [getattr(module, kind) for kind in kinds]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found += [kind for kind in set(numpy.sctypeDict.values()) if kind not in (numpy.void, numpy.object_)]
    return tuple(found)


def _guard(obj: Any) -> _core.Guard | None:
    return _core.guard(obj, _leaves())


# -- what this process has copies of -----------------------------------------------------------------------------------


class _Entry:
    """An object, its copy, and what sees whether they are still the same.

    Attributes:
        label: how the sender reaches it: "global TABLE".
        function: what the goroutine runs that it was first met for, "" if it was a message.
        private: each message gets an object of its own, over private memory.
        copies: how many were made since the first.
        serial: of the last message that referred to it.
    """

    __slots__ = ("_obj", "check", "copies", "copy", "function", "label", "private", "serial")

    def __init__(self, obj: Any, label: str, function: str, copy: Copy, check: Check, private: bool) -> None:
        self.label = label
        self.function = function
        self.copy = copy
        self.check = check
        self.private = private
        self.copies = 0
        self.serial = 0
        self._obj: Any
        key = id(obj)
        try:
            self._obj = weakref.ref(obj, lambda _: _entries.forget(key))
        except TypeError:
            self._obj = obj

    @property
    def obj(self) -> Any:
        return self._obj() if type(self._obj) is weakref.ref else self._obj

    def unwanted(self) -> bool:
        """Return True if nobody but the entry and its guard refers to the object."""
        if type(self._obj) is weakref.ref:
            return False
        held = 1
        if type(self.check) is _core.Guard:  # as its root, and as a container
            held += 1 if type(self._obj) is tuple else 2
        elif type(self.check) is _SamePickle:
            held += 1
        return sys.getrefcount(self._obj) <= held + 1


class _Entries(dict[int, _Entry]):
    """The entries by the id of their object. The C core knows the ids as well."""

    def add(self, entry: _Entry) -> None:
        self.sweep()
        while len(self) >= _ENTRIES:
            self.forget(min(self, key=lambda key: self[key].serial))
        key = id(entry.obj)
        self[key] = entry
        _core.copied_add(key)

    def forget(self, key: int) -> None:
        if self.pop(key, None) is not None:
            _core.copied_remove(key)

    def sweep(self) -> None:
        """Forget the objects that nobody else refers to any more."""
        for key, entry in list(self.items()):
            if entry.unwanted():
                self.forget(key)

    def clear(self) -> None:
        super().clear()
        _core.copied_clear()


_entries = store.cache(_Entries())


def has_copies() -> bool:
    """Return True if there are copies of anything in this process."""
    return bool(_entries)


def has_copy(obj: Any) -> bool:
    """Return True if there is a copy of the object, which may have changed since."""
    return id(obj) in _entries


_seen: dict[tuple[int, ...], None] = store.cache({})
_kept: dict[Copy, int] = store.cache({})  # what this process has read, and the message that named it last
_serial = 0
_warned: dict[str, Any] = {}  # the writes that were warned of, as the module warnings has it


class _Local(threading.local):
    """What belongs to the message that the thread pickles: the references in it, by the id of the object."""

    references: dict[int, Any] | None = None


_local = _Local()


class _ReferringPickler(Pickler):
    persistent_id = staticmethod(_core.copied_id)


def refer(obj: Any) -> Any:
    """Return what stands for an object in a message, or None. The C core asks, for an object that there is a copy of."""
    references = _local.references
    if references is None:
        return None
    key = id(obj)
    if key in references:
        return references[key]
    reference = None
    entry = _entries.get(key)
    if entry is not None and entry.obj is obj and (entry.check.unchanged() or _renew(entry, obj)):
        entry.serial = _serial
        label = f"{entry.label} of {entry.function}" if entry.function else entry.label
        reference = entry.copy, entry.private, label
    references[key] = reference
    return reference


def _renew(entry: _Entry, obj: Any) -> bool:
    """Copy a changed object again."""
    fresh = _copied(obj, entry.label, entry.function)
    if fresh is None:
        _entries.forget(id(obj))
        return False
    entry.copy, entry.check, entry.private = fresh.copy, fresh.check, fresh.private
    entry.copies += 1
    if entry.copies == _WARN_AT:
        what, since = (f"go({entry.function}): ", "the last go") if entry.function else ("", "it was last sent")
        size = f"{entry.copy._bytes / 1e6:.0f} MB"
        _warn(f"{what}{entry.label} ({size}) changed since {since} and was copied again", CopiedAgain)
    return True


def _copied(obj: Any, label: str, function: str) -> _Entry | None:
    """Copy an object to shared memory; None if it is small, or cannot be copied by itself."""
    kind = type(obj)
    guard = None if kind in _FLAT else _guard(obj)
    pickled = _measure(obj)
    if pickled is None or pickled.bytes < LARGE:
        return None
    if guard is not None and not guard.unchanged():  # pickling it changed it, or another thread did
        return None
    copy = _view_of(obj)
    if copy is None or not copy._same(*pickled):
        try:
            copy = _make_copy(pickled)
        except OutOfSharedMemory:
            return None
    check: Check
    if kind in _FLAT:
        check = _Constant()
    elif guard is not None:
        check = guard
    else:
        check = _SamePickle(_weak(obj), copy, pickled.body)
    return _Entry(obj, label, function, copy, check, _is_buffer(kind))


def _weak(obj: Any) -> Any:
    try:
        return weakref.ref(obj)
    except TypeError:
        return obj


def _make_copy(pickled: Pickled) -> Copy:
    try:
        return Copy(pickled)
    except OutOfSharedMemory:
        _entries.clear()
        _core.collect()
        return Copy(pickled)


def _is_buffer(kind: type) -> bool:
    """Return True for the types of which each message gets an object of its own, over private memory."""
    if kind is bytearray or (kind.__module__, kind.__name__) == ("array", "array"):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.ndarray)


# -- pickling ----------------------------------------------------------------------------------------------------------


def dump_message(obj: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a message, with references for what there are copies of; raise whatever pickle raises."""
    pickled = _dump(obj) if _entries else dump(obj)
    large = len(pickled[0]) >= LARGE or (pickled[1] and Pickled(*pickled).bytes >= LARGE)
    return _dump(obj) if large and _learn(obj) else pickled


def _dump(obj: Any) -> tuple[bytes, list[memoryview]]:
    global _serial
    _serial += 1
    _entries.sweep()
    outer, _local.references = _local.references, {}
    try:
        body, buffers = dump(obj, _ReferringPickler)
        refers = any([reference is not None for reference in _local.references.values()])
    finally:
        _local.references = outer
    return MARK + body if refers else body, buffers


def _learn(obj: Any) -> bool:
    """Copy what makes the message `obj` large. Return True if there was something."""
    if not _core.attached():
        return False
    call = _opened(obj)
    search = _Search(_name_of(call) if call else "")
    for label, root, often in _roots(call) if call else [("a message", obj, False)]:
        search.look(label, root, often)
    for entry in search.found:
        _entries.add(entry)
    return bool(search.found)


class _Search:
    """Finds the large objects of a message.

    Attributes:
        found: the entries made for them.
    """

    def __init__(self, function: str) -> None:
        self.found: list[_Entry] = []
        self._function = function
        self._visited: dict[int, Any] = {}  # the objects, so that no id is used again

    def look(self, label: str, obj: Any, often: bool) -> None:
        """Look at what a goroutine reaches under a name.

        Args:
            label: the name.
            obj: the object.
            often: it is likely to be sent again. Else it is copied the second time that it is met.
        """
        if id(obj) in self._visited or len(self._visited) > _VISITED or id(obj) in _entries:
            return
        self._visited[id(obj)] = obj
        if _is_code(obj):
            for name, child in _code_children(obj):
                self.look(name or label, child, True)
        elif not _is_small(obj):
            self.look(label, type(obj), True)
            if often or _view_of(obj) is not None or _seen_before(obj):
                self._copy(label, obj)

    def _copy(self, label: str, obj: Any) -> None:
        pieces = [entry for name, child in _flat_parts(label, obj) if (entry := self._entry(name, child))]
        if pieces:
            whole = _measure(obj)
            if whole is None or whole.bytes - sum([entry.copy._bytes for entry in pieces]) < LARGE:
                self.found += pieces
                return
        entry = self._entry(label, obj)
        if entry is not None:
            self.found.append(entry)

    def _entry(self, label: str, obj: Any) -> _Entry | None:
        return None if id(obj) in _entries else _copied(obj, label, self._function)


def _roots(call: Any) -> Iterator[tuple[str, Any, bool]]:
    """What a message consists of: (name, object, whether it is likely to be sent again)."""
    if len(call) == 4:
        yield "", call[1], True
    else:
        template = functions.by_ref[call[0]]
        yield from (
            (f"global {name}", value, True)
            for name, value in zip(template.dynamic, call[3] or (), strict=False)
        )
        names = template.code.co_freevars
        yield from (
            (f"closure variable {name}", value, True)
            for name, value in zip(names, call[4] or (), strict=False)
        )
        for name, value in call[5] or ():
            yield from ((label, part, True) for label, part in _attribute_children(template.code, name, value))
    args, kwargs = (call[2], call[3]) if len(call) == 4 else (call[1], call[2])
    yield from ((f"argument {index}", value, False) for index, value in enumerate(args, 1))
    yield from ((f"argument {name}", value, False) for name, value in (kwargs or {}).items())


def _opened(obj: Any) -> tuple[Any, ...] | None:
    """Return the message of pack_call() that `obj` is or contains, if any."""
    while type(obj) is tuple and len(obj) > 2 and type(obj[0]) is str and obj[0] in ("with", "wg"):
        obj = obj[-1]
    if type(obj) is not tuple or len(obj) not in (4, 6, 7) or type(obj[0]) is not int:
        return None
    if len(obj) == 4:
        return obj if obj[0] == 0 and callable(obj[1]) and type(obj[2]) is tuple else None
    try:
        functions.load_template(obj[0])
    except Exception:  # it only looks like one
        return None
    return obj


def _name_of(call: tuple[Any, ...]) -> str:
    """The name of the function of a call."""
    if len(call) != 4:
        return functions.by_ref[call[0]].title
    return getattr(call[1], "__name__", None) or type(call[1]).__name__


def _is_code(obj: Any) -> bool:
    return isinstance(obj, (FunctionType, MethodType, type, staticmethod, classmethod, property, partial, LRU))


def _code_children(obj: Any) -> Iterator[Child]:
    """What travels with a function or a class, with a name where it has one."""
    if isinstance(obj, FunctionType):
        if not importable(obj):
            yield from _function_children(obj)
    elif isinstance(obj, MethodType):
        yield "self", obj.__self__
        yield "", obj.__func__
    elif isinstance(obj, partial):
        yield "", obj.func
        yield from ((f"argument {index} of partial", value) for index, value in enumerate(obj.args, 1))
        yield from ((f"argument {name} of partial", value) for name, value in obj.keywords.items())
    elif isinstance(obj, type):
        if obj.__flags__ & _HEAPTYPE and not importable(obj):
            yield from ((f"{obj.__name__}.{name}", value) for name, value in list(vars(obj).items()))
            yield from (("", base) for base in obj.__bases__)
    elif isinstance(obj, property):
        yield from (("", function) for function in (obj.fget, obj.fset, obj.fdel) if function is not None)
    else:
        yield "", obj.__wrapped__


def _function_children(function: FunctionType) -> Iterator[Child]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield from ((f"closure variable {name}", value) for value in cell_contents(cell))
    for name in ("__defaults__", "__kwdefaults__"):
        yield from _attribute_children(code, name, getattr(function, name))
    yield from list(function.__dict__.items())
    if library(function.__globals__) is None:
        for name in names_of(code).used:
            if name in function.__globals__:
                yield f"global {name}", function.__globals__[name]


def _attribute_children(code: CodeType, name: str, value: Any) -> Iterator[Child]:
    """What is in an attribute of a function: defaults by the names of their parameters."""
    if name == "__kwdefaults__":
        yield from ((f"default of {key}", default) for key, default in (value or {}).items())
    elif name == "__defaults__":
        names = code.co_varnames[: code.co_argcount][-len(value or ()) :]
        yield from ((f"default of {key}", default) for key, default in zip(names, value or (), strict=False))
    else:
        yield name, value


def _children(obj: Any) -> list[Child]:
    """The parts of a small container, or of an object that pickle takes as its attributes."""
    kind = type(obj)
    if (kind is list or kind is tuple) and len(obj) <= _FEW:
        return [(f"[{index}]", value) for index, value in enumerate(obj)]
    if kind is dict and len(obj) <= _FEW:
        return [(f"[{key!r}]" if type(key) is str else "[...]", value) for key, value in obj.items()]
    if kind.__flags__ & _HEAPTYPE and hasattr(obj, "__dict__") and _has_plain_state(kind):
        return [(f".{name}", value) for name, value in list(vars(obj).items())]
    return []


def _has_plain_state(kind: type) -> bool:
    return (
        kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)
        and not hasattr(kind, "__setstate__")
        and kind.__basicsize__ <= _OBJECT_SIZE
    )


def _flat_parts(label: str, obj: Any) -> Iterator[Child]:
    """The parts of an object that are flat and may be large."""
    todo, seen = [(label, obj)], {id(obj)}
    for name, part in todo:
        for step, child in _children(part):
            if id(child) in seen or _is_small(child) or _is_code(child) or len(seen) > _VISITED:
                continue
            seen.add(id(child))
            if _is_flat(child):
                yield name + step, child
            else:
                todo.append((name + step, child))


def _is_flat(obj: Any) -> bool:
    """Return True for a container of leaves, or a buffer: it shares nothing that can change with other objects."""
    if type(obj) in _FLAT or _is_buffer(type(obj)):
        return not getattr(getattr(obj, "dtype", None), "hasobject", False)
    guard = _guard(obj)
    return guard is not None and guard.flat


def _is_small(obj: Any) -> bool:
    kind = type(obj)
    if kind is str or kind is bytes:
        return len(obj) < LARGE
    return kind in _SMALL or is_handle(kind) or kind is ModuleType


def _seen_before(obj: Any) -> bool:
    """Return True if a message was large because of this object once already, as far as its address and ends can tell."""
    ends: tuple[int, ...] = ()
    if type(obj) in (list, tuple) and obj:
        ends = (id(obj[0]), id(obj[-1]), id(obj[len(obj) // 2]))
    mark = (id(obj), id(type(obj)), len(obj) if hasattr(obj, "__len__") else 0, *ends)
    if mark in _seen:
        return True
    if len(_seen) >= _SEEN:
        del _seen[next(iter(_seen))]
    _seen[mark] = None
    return False


def _view_of(obj: Any) -> Copy | None:
    """Return the copy whose memory an array lies in, if any."""
    if not _is_buffer(type(obj)):
        return None
    base = getattr(obj, "base", None)
    while base is not None:
        if type(base) is memoryview:
            base = base.obj
        elif type(base) is _core.View:
            return base.copy  # type: ignore[no-any-return]
        else:
            base = getattr(base, "base", None)
    return None


# -- reading -----------------------------------------------------------------------------------------------------------


class _User(NamedTuple):
    """The function of a goroutine, and where it is defined."""

    name: str
    file: str
    line: int

    @classmethod
    def of(cls, call: tuple[Any, ...] | None) -> _User:
        """The user of a message; the receiver, if it is no call."""
        if call is None:
            frame = _users_frame()
            return cls(frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno)
        function = call[1] if len(call) == 4 else functions.by_ref[call[0]]
        code = getattr(function, "__code__", None) or getattr(function, "code", None)
        file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("<goroutine>", 0)
        return cls(_name_of(call), file, line)


class _Loaded:
    """What a process has read of a copy, for all its goroutines.

    Attributes:
        check: sees whether a goroutine wrote to it; None if that cannot be seen: then it is not shared.
        users: who got it since the last look.
    """

    __slots__ = ("check", "users", "value")

    def __init__(self, copy: Copy) -> None:
        self.value = copy._load(True)
        self.users: list[_User] = []
        self.check: Check | None = _check_of(self.value, copy)


def _check_of(value: Any, copy: Copy) -> Check | None:
    if type(value) in _FLAT:
        return _Constant()
    guard = _guard(value)
    if guard is not None:
        return guard
    pickled = _measure(value)
    if pickled is None or not copy._same(None, pickled.buffers):
        return None
    check = _SamePickle(value, copy, pickled.body)
    return check if check.unchanged() else None


class _Resolver(pickle.Unpickler):
    """Reads a message that holds references. What is named twice in it is one object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.values: dict[Copy, Any] = {}
        self.shared: list[_Loaded] = []

    def persistent_load(self, reference: Any) -> Any:
        copy, private, label = reference
        if copy not in self.values:
            self.values[copy] = copy._load(True) if private else self._shared(copy, label)
        return self.values[copy]

    def _shared(self, copy: Copy, label: str) -> Any:
        loaded = getattr(copy, "_loaded", None)
        if loaded is not None and not loaded.check.unchanged():
            _warn_of_write(loaded, label)
            _let_go(copy)
            loaded = None
        if loaded is None:
            loaded = _Loaded(copy)
            if loaded.check is None:
                return loaded.value
            copy._loaded = loaded
            _entries.add(_Entry(loaded.value, label, "", copy, loaded.check, False))
        _kept[copy] = _serial
        self.shared.append(loaded)
        return loaded.value


def load_message(main: Any, buffers: list[Any]) -> Any:
    """Load a message of `dump_message` that begins with MARK."""
    global _serial
    _serial += 1
    resolver = _Resolver(io.BytesIO(main[len(MARK) :]), buffers=buffers)
    value = resolver.load()
    if resolver.shared:
        user = _User.of(_opened(value))
        for loaded in resolver.shared:
            if user not in loaded.users:
                loaded.users = [*loaded.users[-3:], user]
        _drop_old()
    return value


def _drop_old() -> None:
    for copy, serial in list(_kept.items()):
        if len(_kept) > _KEPT or (serial < _serial - _RECENT and copy._alone):
            _let_go(copy)


def let_go_unused() -> None:
    """Forget what this process has read of copies that no other process has any more."""
    for copy in list(_kept):
        if copy._alone:
            _let_go(copy)
    if _entries:
        _entries.sweep()


def _let_go(copy: Copy) -> None:
    """Forget what this process has read of a copy."""
    _kept.pop(copy, None)
    loaded: _Loaded | None = getattr(copy, "_loaded", None)
    if loaded is not None:
        _entries.forget(id(loaded.value))
        del copy._loaded


def _warn_of_write(loaded: _Loaded, label: str) -> None:
    import warnings

    found = loaded.users or [_User("a goroutine", "<goroutine>", 0)]
    users = " or ".join([user.name for user in found])
    text = (
        f"{users} wrote to {label}, which the goroutines of a process share: it was read anew for the next goroutine"
    )
    warnings.warn_explicit(text, SharedWrite, found[0].file, found[0].line, registry=_warned)


def _users_frame() -> FrameType:
    """The frame of the user's code that is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "goproc":
        frame = frame.f_back
    return frame


def _warn(text: str, category: type[Warning]) -> None:
    """Warn at the line of the user's code that is running."""
    import warnings

    frame = _users_frame()
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, category, frame.f_code.co_filename, frame.f_lineno, registry=registry)


_core.connect(refer=refer)
