"""Where the items of a map come from."""

from __future__ import annotations

from itertools import islice
from time import monotonic
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DRAW_SECONDS = 0.002  # no more is drawn for a chunk after this time


class Source:
    """Draws items from an iterator, which is asked once at its end and not held after it.

    Attributes:
        over: nothing more comes.
        error: what the iterator has raised, or None.
    """

    __slots__ = ("_iterator", "error", "over")

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator: Iterator[Any] | None = iterator
        self.over = False
        self.error: Exception | None = None

    def draw(self, n: int, items: list[Any]) -> None:
        """Append at most n items to a list: at least one, and more while that takes little time.

        Raises:
            BaseException: an interrupt, after which more can be drawn. `items` has what was drawn before.
        """
        assert self._iterator is not None
        until = monotonic() + _DRAW_SECONDS
        piece = 1
        try:
            while len(items) < n:
                wanted = min(len(items) + piece, n)
                items.extend(islice(self._iterator, wanted - len(items)))
                if len(items) < wanted:
                    self.close()
                if self.over or monotonic() >= until:
                    return
                piece *= 4
        except Exception as exc:
            self.error = exc
            self.close()

    def close(self) -> None:
        """Let go of the iterator."""
        self.over = True
        self._iterator = None
