"""``share``: one copy of an object in shared memory, for every process."""

from __future__ import annotations

import os
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from goproc._pickling import store
from goproc._pickling.copies import Copy
from goproc._pickling.wire import Whole
from goproc._public import of_stopped, public
from goproc._tracebacks import user_line
from goproc.errors import PickleError

T = TypeVar("T")


@public
class Shared(Generic[T]):
    """A handle on an object in shared memory. `share` returns it.

    A handle can be sent to other goroutines, kept in globals and captured by closures. The memory is given back when no
    process and no message refers to the object any more.
    """

    # Not a subclass of Copy: the arrays of `_value` hold the copy, which must not hold them.
    __slots__ = ("__weakref__", "_copy", "_value")
    _copy: Copy
    _value: T
    __goproc_handle__ = True

    def __init__(self) -> None:
        raise TypeError("a Shared is made by goproc.share()")

    @property
    def value(self) -> T:
        """The object as it was when it was shared: the same object at every call in one process, and not the original.

        Its arrays of 16 KiB and more are read-only views of the shared memory. The rest can be changed, but that is
        seen by the goroutines of this process only.

        Cost: the first call in a process reads the object; arrays are not copied.
        """
        try:
            return self._value
        except AttributeError:
            self._value = self._copy._load(False)
            return self._value

    def __reduce__(self) -> Any:
        return _shared, (self._copy,)

    def __repr__(self) -> str:
        try:
            return f"<Shared {self._copy._bytes} bytes>"
        except RuntimeError:
            return of_stopped("Shared")


@public
def share(obj: T) -> Shared[T]:
    """Copy an object to shared memory, once for all processes.

    ``go`` shares large objects by itself, and compares them at each ``go`` line. share() saves this comparison.

    Args:
        obj: anything that can be sent. Later changes of it are not seen by the handle.

    Returns:
        A handle. Its ``value`` is the object, in any process.

    Raises:
        PickleError: the object cannot be copied; the message names the path to the culprit.
        OutOfSharedMemory: the object does not fit into the shared memory.
    """
    with user_line:
        try:
            return _shared(Copy(Whole(obj)))
        except PickleError as error:
            raise _about(obj, error) from error.__cause__


def _about(obj: Any, error: PickleError) -> PickleError:
    """Return the exception for an object that cannot be shared: it names the path to the part that is to blame."""
    from goproc._pickling.diagnose import explain

    return explain(obj, error.__cause__ or error, "the argument of share()")


_known: WeakValueDictionary[Copy, Shared[Any]] = store.cache(WeakValueDictionary())
_forks_watched = False


def _before_fork() -> None:
    """Read the values of all handles: a child that the program forks cannot read them any more."""
    for shared in list(_known.values()):
        try:
            _ = shared.value
        except Exception:
            # The runtime has stopped, or reading runs code that fails: the child gets the error, too.
            pass


def _watch_forks() -> None:
    global _forks_watched
    if not _forks_watched:
        _forks_watched = True
        os.register_at_fork(before=_before_fork)


def _shared(copy: Copy) -> Shared[Any]:
    """Return the handle of a copy, the same one each time in one process."""
    _watch_forks()
    shared = _known.get(copy)
    if shared is None:
        shared = Shared.__new__(Shared)
        shared._copy = copy
        _known[copy] = shared
    return shared
