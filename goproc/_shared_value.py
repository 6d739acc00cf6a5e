"""A shared variable for goproc's own Python code: any value, seen by all processes, changed by one at a time.

The variable is a channel of one buffered value. A process that has received the value holds the lock; sending it back
lets the next one go on. Rejected: a Mutex beside a value. The value would need a place of its own in shared memory, and
that place is a channel again.

While a process has the value, it neither waits nor can be interrupted, so the value comes back. A process that is killed
in these few microseconds takes the value with it: the channel stays empty, and each later update() waits until the
program ends or its timeout() block is over.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from goproc._channel import Chan, chan
from goproc._sched import scheduler
from goproc.shm import _core

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

    __slots__ = ("_ch",)

    def __init__(self, value: T) -> None:
        self._ch: Chan[T] = chan(1)
        self._ch.send(value)

    @classmethod
    def of(cls, ch: Chan[T]) -> Cell[T]:
        """Return the cell whose value is in `ch`: a channel alone is sent faster."""
        cell: Cell[T] = cls.__new__(cls)
        cell._ch = ch
        return cell

    @property
    def ch(self) -> Chan[T]:
        """The channel that holds the value."""
        return self._ch

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
            old = self._ch.recv()
            new = old
            try:
                new, result = change(old)
            finally:
                self._put(new, old)
            return result
        finally:
            scheduler.shield(-1)

    def load(self) -> T:
        """Return a copy of the value."""
        return self.update(_same)

    def _put(self, new: T, old: T) -> None:
        try:
            self._ch.send(new)
        except BaseException:
            _core.for_end(self._ch.send, old)  # the cell must not stay empty for want of memory
            raise

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._ch == other._ch

    def __hash__(self) -> int:
        return hash(self._ch)

    def __reduce__(self) -> Any:
        return Cell.of, (self._ch,)


def _same(value: T) -> tuple[T, T]:
    return value, value
