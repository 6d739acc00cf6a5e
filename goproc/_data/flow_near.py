"""Edges of a flow with both ends in the process of its consumer: values stay there, and only their numbers pass a channel.

So the engine of a stage gets the items as pmap gets them. An item that cannot be sent to a worker, or cannot be read
there, is a failure of the stage that takes it, and a result that was read once is not copied again.
"""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

from goproc._channel import chan
from goproc._spawn import enclosed
from goproc.errors import OutOfSharedMemory, PickleError, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Copied(NamedTuple):
    """A value as it was when it was sent.

    Attributes:
        envelope: holds the copy.
        original: the value, which its source may have changed since. It goes on if the copy cannot be read here.
    """

    envelope: Any
    original: Any


class Near:
    """The channel of such an edge.

    Attributes:
        numbers: the channel, of the numbers of values.
        last: the consumer receives from it.
    """

    __slots__ = ("_count", "_values", "last", "numbers")

    def __init__(self, cap: int, last: bool) -> None:
        self.numbers = chan(cap)
        self.last = last
        self._values: dict[int, Any] = {}
        self._count = count()

    def send(self, value: Any) -> None:
        """As of a channel, but the value is not copied."""
        number = next(self._count)
        self._values[number] = value
        try:
            self.numbers.send(number)
        except BaseException:
            self._values.pop(number, None)
            raise

    def send_copy(self, value: Any) -> None:
        """As send(), of the value as it is now: a source may change what it has yielded. One that cannot be copied is kept."""
        if not _core.all_readable([value]):
            try:
                value = Copied(enclosed(value), value)
            except (PickleError, OutOfSharedMemory):
                pass
        self.send(value)

    def taken(self, number: Any) -> Any:
        """Return the value whose number was received."""
        value = self._values.pop(number)
        if type(value) is not Copied:
            return value
        try:
            return value.envelope.result()
        except RuntimeStopped:
            raise
        except Exception:  # the worker cannot read it either: the engine makes that the failure of the item
            return value.original

    def recv_ok(self, timeout: float | None = None) -> tuple[Any, bool]:
        """As of a channel."""
        number, there = self.numbers.recv_ok(timeout)
        return (self.taken(number) if there else None), there

    def try_recv(self) -> tuple[Any, bool]:
        """As of a channel."""
        number, there = self.numbers.try_recv()
        return (self.taken(number) if there else None), there

    def close(self) -> None:
        """As of a channel."""
        self.numbers.close()

    @property
    def closed(self) -> bool:
        """As of a channel."""
        return self.numbers.closed

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Any]:
        return map(self.taken, self.numbers)
