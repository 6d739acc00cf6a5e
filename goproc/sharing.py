"""``share``: one copy of an object in shared memory, for every process."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from goproc.pickling.copies import Copy
from goproc.pickling.wire import Whole
from goproc.shm import _core

T = TypeVar("T")


class Shared(Copy, Generic[T]):
    """A handle on an object in shared memory: what `share` returns.

    It can be sent to other goroutines, kept in globals and captured by closures. The memory is given back when no process
    and no message refers to it any more.
    """

    __slots__ = ("_value",)
    _value: T

    @property
    def value(self) -> T:
        """The object as it was when it was shared: the same one at every call in one process, and not the original.

        Its arrays of 16 KiB and more are read-only views of the shared memory. The rest can be changed, but that is seen by
        the goroutines of this process only.

        Cost: the first call in a process reads the object; arrays are not copied.
        """
        try:
            return self._value
        except AttributeError:
            self._value = self._load(False)
            return self._value

    def __repr__(self) -> str:
        try:
            return f"<Shared {self._bytes} bytes>"
        except RuntimeError:
            return "<Shared of a runtime that stopped>"


def share(obj: T) -> Shared[T]:
    """Copy an object to shared memory, once for all processes.

    ``go`` finds by itself what is large and does not change. Sharing it by hand saves the comparison at each ``go``.

    Args:
        obj: anything that can be sent. Later changes of it are not seen by the handle.

    Returns:
        A handle. Its ``value`` is the object, in any process.

    Raises:
        PickleError: the object cannot be copied; the message names the path to the culprit.
        OutOfSharedMemory: it is larger than what memory allows.
    """
    shared: Any = Shared(Whole(obj))
    return shared  # type: ignore[no-any-return]


_core.connect(copy=Shared)
