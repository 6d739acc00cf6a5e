"""A copy of an object in shared memory, and the check whether the object has changed since.

The check must be exact. There are three kinds:

    nothing to see    it cannot change: str, bytes
    a guard           containers over leaves that cannot change: the C core compares pointers and versions
    the pickle        of anything else; buffers are compared with the copy, which is as fast as memory
"""

from __future__ import annotations

import collections
import copyreg
import sys
import weakref
from types import GetSetDescriptorType

from goproc._isolation import loaded
from goproc._pickling import store
from goproc._pickling.classes import reduce_known
from goproc._pickling.pickler import Pickler
from goproc._pickling.statics import is_handle
from goproc._pickling.wire import Pickled, dump
from goproc._record import Record
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from goproc._pickling.received import Loaded

    class Check(Protocol):
        def unchanged(self) -> bool: ...


LEAVES: tuple[type, ...] = (range, type(Ellipsis))
# Types are given by name, so that no module is imported.
_LEAVES_OF = (
    ("datetime", ("date", "datetime", "time", "timedelta")),
    ("decimal", ("Decimal",)),
    ("fractions", ("Fraction",)),
    ("uuid", ("UUID",)),
    ("pathlib", ("PosixPath", "PurePosixPath")),
)
HEAPTYPE = 1 << 9  # the flag of a type made by a class statement
_PLAIN_STATE = ("__reduce_ex__", "__reduce__", "__getstate__")
_DICT = vars(type("Any", (), {}))["__dict__"]
_SHARED = frozenset({list, dict, set, bytearray})
CONSTANT = frozenset({bytes, str})  # types of objects that may be large and cannot change


class Copy(_core.Copy):
    """A copy in shared memory, and the object that this process has read from it."""

    __slots__ = ("_loaded",)
    _loaded: Loaded
    __goproc_handle__ = True


# Copies that this process has read for its goroutines, each with the number of the message that named it last.
kept: dict[Copy, int] = store.cache({})


class Constant:
    """The check of an object that cannot change."""

    __slots__ = ()

    def unchanged(self) -> bool:
        return True


class SamePickle:
    """The check of any object: its pickle is the same as before, and its buffers are those of the copy."""

    __slots__ = ("_body", "_copy", "_obj", "classes")

    def __init__(self, obj: Any, copy: Copy, measured: Measured) -> None:
        self._obj = obj
        self._copy = copy
        self._body = _digest(measured.pickled.body)
        self.classes = measured.classes

    def unchanged(self) -> bool:
        obj = self._obj() if type(self._obj) is weakref.ref else self._obj
        measured = measure(obj)
        return (
            measured is not None
            and _digest(measured.pickled.body) == self._body
            and self._copy._same(None, measured.pickled.buffers)
        )


def _digest(body: bytes) -> bytes:
    if len(body) <= 64:
        return body
    return store.digest_of(body, 32)


class _NotCarried(Exception):
    """Raised where a copy would hold a part that belongs to a single message."""


class CopyPickler(Pickler):
    """Pickles a copy. A copy holds no handles: goproc could not tell how long it needs them.

    A copy also leaves out the parts of a class that messages carry: they are as of each message, and may be handles.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.classes: dict[type, None] = {}

    def reducer_override(self, obj: Any) -> Any:
        if is_handle(type(obj)):
            raise _NotCarried
        if isinstance(obj, type):
            reduced = reduce_known(obj)
            if reduced is not None:
                self.classes[obj] = None
                return reduced
        return super().reducer_override(obj)


class Measured(Record):
    """The pickle of an object for a copy, and the classes of the script in it."""

    pickled: Pickled
    classes: tuple[type, ...]


def measure(obj: Any) -> Measured | None:
    """Pickle the object for a copy; None if that is not possible."""
    made: list[CopyPickler] = []

    def make(*args: Any, **kwargs: Any) -> CopyPickler:
        made.append(CopyPickler(*args, **kwargs))
        return made[0]

    try:
        return Measured(Pickled(*dump(obj, make)), tuple(made[0].classes))
    except Exception:  # pickling may raise anything: pickling the message raises it again
        return None


class _SizePickler(CopyPickler):
    persistent_id = staticmethod(_core.copied_known)


def size_without_known(obj: Any) -> int:
    """Return the bytes of the object in a message, without parts that have copies; 0 if it cannot have a copy."""
    try:
        return Pickled(*dump(obj, _SizePickler)).bytes
    except Exception:  # pickling may raise anything: pickling the message raises it again
        return 0


def objects_in(obj: Any) -> set[int]:
    """Return the ids of the containers, and of the objects of classes, that pickle meets in an object."""
    found: set[int] = set()

    class Collector(CopyPickler):
        def persistent_id(self, obj: Any) -> None:
            kind = type(obj)
            if kind in _SHARED or (kind.__flags__ & HEAPTYPE and not issubclass(kind, type)):
                found.add(id(obj))

    try:
        dump(obj, Collector)
    except Exception:  # pickling may raise anything: pickling the message raises it again
        return set()
    return found


def _leaves() -> tuple[type, ...]:
    found = list(LEAVES)
    for name, kinds in _LEAVES_OF:
        module = loaded(name)
        if module is not None:
            found += [getattr(module, kind) for kind in kinds]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found += [kind for kind in set(numpy.sctypeDict.values()) if kind not in (numpy.void, numpy.object_)]
    return tuple(found)


def guard_of(obj: Any) -> _core.Guard | None:
    return _core.guard(obj, _leaves(), (collections.defaultdict, collections.Counter), is_plain)


def is_plain(kind: type) -> bool:
    """Return True if pickle takes an object of the class for its attributes and nothing else."""
    return (
        all(base is object or (base.__flags__ & HEAPTYPE and _has_own_dict(base)) for base in kind.__mro__)
        and all(getattr(kind, name) is getattr(object, name) for name in _PLAIN_STATE)
        and not any(hasattr(kind, name) for name in ("__getnewargs__", "__getnewargs_ex__"))
        and kind.__dictoffset__ != 0
        and not is_handle(kind)
        and kind not in copyreg.dispatch_table
    )


def _has_own_dict(base: type) -> bool:
    """Return True if a class defines neither slots nor its own `__dict__`."""
    return "__slots__" not in vars(base) and isinstance(
        vars(base).get("__dict__", _DICT), GetSetDescriptorType
    )


def weak(obj: Any) -> Any:
    try:
        return weakref.ref(obj)
    except TypeError:
        return obj


def check_of(value: Any, copy: Copy) -> Check | None:
    if type(value) in CONSTANT:
        return Constant()
    guard = guard_of(value)
    if guard is not None:
        return guard
    measured = measure(value)
    if measured is None or not copy._same(None, measured.pickled.buffers):
        return None
    check = SamePickle(value, copy, measured)
    return check if check.unchanged() else None


def is_buffer(kind: type) -> bool:
    """Return True for the types whose objects each message gets anew, over private memory."""
    if kind is bytearray or (kind.__module__, kind.__name__) == ("array", "array"):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.ndarray)


_core.connect(copy=Copy)
