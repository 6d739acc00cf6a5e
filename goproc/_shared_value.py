"""A shared variable for goproc's own Python code: any value, seen by all processes, changed by one at a time.

The variable is a Mutex and a channel that holds the value (shm/python/cell.c). A process that changes the value has the
Mutex, and neither waits nor can be interrupted meanwhile. The next value is put behind the old one before the old one goes,
so a process may be killed at any moment: the next process that takes the Mutex finds the one value or the other, whole. That
the owner of the Mutex has died (OwnerDied) does not matter then.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from goproc._channel import Chan, chan
from goproc._sched import scheduler
from goproc.errors import OwnerDied
from goproc.shm import _core
from goproc.sync import Mutex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
R = TypeVar("R")


class Cell(Generic[T]):
    """A variable shared by all processes. A cell that is sent to another goroutine stays the same variable.

    Args:
        value: its first value. Values are copied, as over a channel.

    Cost: update() takes about 1 us and twice the cost of copying the value.
    """

    __slots__ = ("_ch", "_lock")

    def __init__(self, value: T) -> None:
        self._lock = Mutex()
        self._ch: Chan[T] = chan(2)
        _core.cell_set(self._ch, value)

    @classmethod
    def of(cls, ch: Chan[T], lock: Mutex) -> Cell[T]:
        """Return the cell of these parts, which are sent faster by themselves."""
        cell: Cell[T] = cls.__new__(cls)
        cell._ch, cell._lock = ch, lock
        return cell

    @property
    def parts(self) -> tuple[Chan[T], Mutex]:
        """The channel that holds the value, and the lock."""
        return self._ch, self._lock

    def update(self, change: Callable[[T], tuple[T, R]]) -> R:
        """Replace the value.

        Args:
            change: takes the value, and returns the next value and the result of update(). `change` must not block, and
                must not change the value in place. If `change` raises, or the next value cannot be copied, the value
                stays as it was.

        Returns:
            The result that `change` returned.

        Raises:
            PickleError: the next value cannot be copied.
            Exception: raised by `change`.
        """
        scheduler.shield(1)
        try:
            self._take()
            try:
                new, result = change(_core.cell_get(self._ch))
                _core.cell_set(self._ch, new)
            finally:
                self._lock.unlock()
            return result
        finally:
            scheduler.shield(-1)

    def load(self) -> T:
        """Return a copy of the value."""
        scheduler.shield(1)
        try:
            self._take()
            try:
                return _core.cell_get(self._ch)  # type: ignore[no-any-return]
            finally:
                self._lock.unlock()
        finally:
            scheduler.shield(-1)

    def _take(self) -> None:
        try:
            self._lock.lock()
        except OwnerDied:
            pass  # the lock is ours, and the value whole

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._ch == other._ch

    def __hash__(self) -> int:
        return hash(self._ch)

    def __reduce__(self) -> Any:
        return Cell.of, (self._ch, self._lock)
