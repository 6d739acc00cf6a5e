"""The edges of a flow, as its workers use them: where they send, and how they close what nobody reads any more."""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc.errors import ChanClosed, RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._channel import Chan
    from goproc.sync import Atomic

    Emit = Callable[[Any], object]


class Out(NamedTuple):
    """An edge that workers send to.

    Attributes:
        ch: its channel.
        writers: how many workers send to it and have not left.
        discards: nobody reads the values, so they are not sent; the edge tells of the end.
    """

    ch: Chan[Any]
    writers: Atomic
    discards: bool = False


def close_edge(ch: Chan[Any], drain: bool = False) -> None:
    """Close the channel of an edge, which may be closed already. Drop what is in it if that is asked for."""
    try:
        ch.close()
    except (ChanClosed, RuntimeStopped):
        pass
    try:
        while drain and ch.try_recv()[1]:
            pass
    except (ChanClosed, RuntimeStopped):
        pass


def leave(outs: tuple[Out, ...]) -> None:
    """A worker sends no more. The last one closes the edges."""
    for out in outs:
        if out.writers.add(-1) == 0:
            close_edge(out.ch)


def sender(outs: tuple[Out, ...]) -> Emit:
    """Return the function that sends a value to the edges."""
    if outs[0].discards:
        return _discard
    if len(outs) == 1:
        return outs[0].ch.send
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
