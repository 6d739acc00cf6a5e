"""The edges of a flow, as its workers use them: where they send, and how they close what nobody reads any more."""

from __future__ import annotations

from itertools import chain
from time import monotonic_ns
from typing import Any, NamedTuple

from goproc._data.flow_near import Near
from goproc._data.unread import rose_in_reading
from goproc._pickling.messages import dumps
from goproc.errors import ChanClosed, RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goproc._channel import Chan
    from goproc.sync import Atomic

    Emit = Callable[[Any], object]


WIDE = 256  # values that an edge holds that has grown
FETCHED = 64  # of these, or of a large buffer: values that the consumer takes at once
_ITEMS = 4096  # that pass an edge before it can grow
_FAST_NS = 500_000  # an edge grows where each of them takes less
LOOK = 512  # values that a writer sends between two looks whether its edge is to grow
_SMALL = 4096  # bytes of a pickled value of an edge that grows


class Out(NamedTuple):
    """An edge that workers send to.

    Attributes:
        ch: its channel. It is Near only where all users of the edge are in one process.
        writers: how many workers send to it and have not left.
        discards: nobody reads the values, so they are not sent; the edge tells of the end.
        wide: the channel that takes the place of `ch` if the edge grows; None if it does not.
        several: more than one worker sends to it.
    """

    ch: Chan[Any] | Near
    writers: Atomic
    discards: bool = False
    wide: Chan[Any] | None = None
    several: bool = False


class Growth:
    """Makes an edge grow when many small values have passed it in a short time.

    A channel keeps its size, so an edge that may grow has two. A writer closes the narrow one and sends to the wide one
    from then on. The readers go over when the narrow one is closed and empty, so the order stays.

    Args:
        out: the edge, with a wide channel that is not in use.
    """

    def __init__(self, out: Out) -> None:
        self._out = out
        self._items = 0  # at the last look
        self._since = monotonic_ns()

    def due(self, items: int, now: int, value: Any) -> bool:
        """Return True if the edge is to grow.

        Args:
            items: that the writer has sent or handled so far.
            now: the time.
            value: one of those that it sends.
        """
        n = items - self._items
        if n < _ITEMS:
            return False
        fast = now - self._since < n * _FAST_NS
        self._items, self._since = items, now
        return fast and _is_small(value)

    def grow(self) -> Emit:
        """Close the narrow channel. Return the function that sends to the wide one."""
        assert self._out.wide is not None
        close_edge(self._out.ch)
        return self._out.wide.send


def growth(outs: tuple[Out, ...]) -> Growth | None:
    """Return the Growth of the edge that a worker sends to; None if the edge does not grow, or has grown.

    An edge that several workers send to has a Growing for each of them.
    """
    out = outs[0]
    return None if out.wide is None or out.several or out.ch.closed else Growth(out)


class Growing:
    """Sends the values of one of several workers to an edge that may grow.

    Any of them makes the edge grow. The others then meet a closed narrow channel, also one that waits there for a place.
    They send their values to the wide channel. Where the order matters one worker at a time sends, so the order stays.

    Args:
        out: the edge, with a wide channel.
    """

    def __init__(self, out: Out) -> None:
        assert out.wide is not None
        grown = out.ch.closed
        self._wide = out.wide.send
        self._emit: Emit = self._wide if grown else out.ch.send
        self._growth = None if grown else Growth(out)
        self._sent = 0

    def send(self, value: Any) -> None:
        """Send a value. Raise ChanClosed if nobody reads the edge."""
        if self._growth is None:
            self._emit(value)
            return
        try:
            self._emit(value)
        except ChanClosed:
            self._growth, self._emit = None, self._wide
            self._emit(value)
            return
        self._sent += 1
        if not self._sent % LOOK and self._growth.due(self._sent, monotonic_ns(), value):
            self._emit, self._growth = self._growth.grow(), None


def _is_small(value: Any) -> bool:
    try:
        pickled, buffers = dumps(value)
    except Exception:  # a channel, which only a message on its way carries
        return False
    return len(pickled) <= _SMALL and not buffers


def values_of(ch: Chan[Any] | Near, wide: Chan[Any] | None) -> Iterator[Any]:
    """Return an iterator of the values of an edge."""
    return iter(ch) if wide is None else chain(ch, wide)


def close_both(ch: Chan[Any] | Near, wide: Chan[Any] | None, drain: bool = False) -> None:
    """Close the channels of an edge: the narrow one first, as a writer takes its end for growth."""
    close_edge(ch, drain)
    if wide is not None:
        close_edge(wide, drain)


def close_edge(ch: Chan[Any] | Near, drain: bool = False) -> None:
    """Close the channel of an edge, which may be closed already. With `drain`, drop the values in it."""
    try:
        ch.close()
    except (ChanClosed, RuntimeStopped):
        pass
    while drain:
        try:
            drain = ch.try_recv()[1]
        except (ChanClosed, RuntimeStopped):
            return
        except Exception as exc:
            if not rose_in_reading(exc):
                raise


def leave(outs: tuple[Out, ...]) -> None:
    """A worker sends no more. The last one closes the edges."""
    for out in outs:
        if out.writers.add(-1) == 0:
            close_both(out.ch, out.wide)


def sender(outs: tuple[Out, ...]) -> Emit:
    """Return the function that sends a value to the edges."""
    if outs[0].discards:
        return _discard
    if len(outs) == 1:
        ch, wide = outs[0].ch, outs[0].wide
        if wide is None:
            return ch.send
        return Growing(outs[0]).send if outs[0].several else (wide if ch.closed else ch).send
    return Branches(outs).send


def _discard(value: Any) -> None:
    """Send a value nowhere."""


class Branches:
    """Sends each value to all edges of a tee() that somebody still reads."""

    def __init__(self, outs: tuple[Out, ...]) -> None:
        self._open = [out.ch for out in outs]

    def send(self, value: Any) -> None:
        """Send a value. Raise ChanClosed if nobody reads any branch."""
        for ch in list(self._open):
            try:
                ch.send(value)
            except ChanClosed:
                self._open.remove(ch)
                if not self._open:
                    raise
