"""The source of the items of a map."""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import monotonic
from typing import Any

from goproc._channel import Chan
from goproc.errors import ChanClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from goproc._data.unread import Unread

DRAW_SECONDS = 0.002  # no more is drawn for a chunk after this time


class Source:
    """Draws items from an iterator, which is asked once at its end and not held after it.

    A channel is no iterator that may block: its items are taken when they are there, so that results do not wait for them.

    Args:
        iterator: of the items, or a channel.
        left: how many items it has, where that is known.

    Attributes:
        left: how many items are not drawn yet; 0 where that is not known. It may be wrong.
        channel: the channel, if it is one.
        taken: items that come before the others: received from the channel while the map waited, or put back.
        over: nothing more comes.
        refused: the next item of the channel, which cannot be read; None if there is no such item.
        error: the exception of the iterator, or None.
    """

    __slots__ = ("_iterator", "channel", "error", "left", "over", "refused", "taken")

    def __init__(self, iterator: Iterator[Any], left: int | None = None) -> None:
        self._iterator: Iterator[Any] | None = iterator
        self.channel: Chan[Any] | None = iterator if isinstance(iterator, Chan) else None
        self.taken: deque[Any] = deque()
        self.left = 0 if left is None or self.channel is not None else left
        self.over = False
        self.refused: Unread | None = None
        self.error: Exception | None = None

    def draw(self, n: int, items: list[Any]) -> None:
        """Append at most n items to a list: at least one, and more while that takes little time. Of a channel those there.

        Raises:
            BaseException: an interrupt, after which more can be drawn. `items` has those drawn before.
        """
        while self.taken and len(items) < n:
            items.append(self.taken.popleft())
        if self.channel is not None:
            self._take(self.channel, n, items)
        elif self._iterator is not None:
            self._advance(self._iterator, n, items)
        else:
            self.over = not self.taken

    def _advance(self, iterator: Iterator[Any], n: int, items: list[Any]) -> None:
        until = monotonic() + DRAW_SECONDS
        piece = 1
        try:
            while len(items) < n:
                wanted = min(len(items) + piece, n)
                items.extend(islice(iterator, wanted - len(items)))
                if len(items) < wanted:
                    self.close()
                if self.over or monotonic() >= until:
                    return
                piece *= 4
        except Exception as exc:
            self.fail(exc)

    def fail(self, error: Exception) -> None:
        """End the items: the iterable, or a function of the caller's that is called for each of them, has raised.

        A refused item comes after the one for which that function has raised.
        """
        self.error = error
        self.refused = None
        self.close()

    def put_back(self, items: list[Any]) -> None:
        """Take items back that were drawn: they are drawn next."""
        self.taken.extendleft(reversed(items))
        self.over = False

    def _take(self, channel: Chan[Any], n: int, items: list[Any]) -> None:
        while len(items) < n and self.refused is None:
            try:
                item, there = channel.try_recv()
            except ChanClosed:
                self.close()
                return
            except Exception as exc:
                self.refuse(exc)
                return
            if not there:
                return
            items.append(item)

    def receive(self, item: Any, there: bool) -> None:
        """Note the value that a select has received from the channel."""
        if there:
            self.taken.append(item)
        else:
            self.close()

    def refuse(self, exc: Exception) -> None:
        """Note that a receive has met an item that cannot be read.

        Args:
            exc: raised by the receive. An exception of another kind is raised again.
        """
        from goproc._data.unread import unread

        self.refused = unread(exc, "the caller")
        if self.refused is None:
            raise exc

    def close(self) -> None:
        """Let go of the iterator."""
        self.over = True
        self._iterator = self.channel = None
