"""The items of a map on their way: chunks of them go to lanes, and some of their attempts are lost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

from goproc._spawn import letter
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_numbers = count()


class Chunk:
    """Items that go to a lane together.

    Attributes:
        indices: the numbers of its items in the map.
        items: the arguments of the calls.
        attempts: calls for these items that have failed.
        finished: how many of the items are finished.
        lane: the number of the lane it must go to, or -1.
        names: of the items in a checkpoint, or None.
        number: of the chunk; no other one has it.
    """

    __slots__ = ("attempts", "finished", "indices", "items", "lane", "names", "number")

    def __init__(
        self,
        indices: Sequence[int],
        items: list[Any],
        attempts: int = 0,
        lane: int = -1,
        names: list[str] | None = None,
    ) -> None:
        self.indices = indices
        self.items = items
        self.attempts = attempts
        self.lane = lane
        self.names = names
        self.number = next(_numbers)
        self.finished = 0

    def part(self, start: int, stop: int | None = None) -> Chunk:
        """Return a chunk of the items from one position to another."""
        names = None if self.names is None else self.names[start:stop]
        return Chunk(self.indices[start:stop], self.items[start:stop], self.attempts, self.lane, names)

    def singles(self) -> list[Chunk]:
        """Return a chunk for each item."""
        return [self.part(at, at + 1) for at in range(len(self.items))]

    def picked(self, positions: list[int], lane: int) -> Chunk:
        """Return a chunk of the items at some positions, for a lane."""
        names = None if self.names is None else [self.names[p] for p in positions]
        items = [self.items[p] for p in positions]
        return Chunk([self.indices[p] for p in positions], items, self.attempts, lane, names)

    def message(self) -> tuple[int, Any]:
        """Return the message for a lane: the number, which can always be read, and the items, in a letter if need be."""
        items: list[Any] = self.items
        if self.names is not None:
            attempts = self.attempts + 1
            items = [((name, attempts), item) for name, item in zip(self.names, items, strict=True)]
        return self.number, items if _core.all_readable(items) else letter(items)


@dataclass(frozen=True, slots=True)
class Lost:
    """An attempt that has failed.

    Attributes:
        index: the number of the item.
        item: the argument of the call.
        attempts: calls for the item, this one included.
        lane: where it ran, or -1.
        error: its exception.
        name: of the item in a checkpoint, or None.
        seconds: that the attempt took.
    """

    index: int
    item: Any
    attempts: int
    lane: int
    error: BaseException
    name: str | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, chunk: Chunk, position: int, lane: int, error: BaseException, seconds: float = 0.0) -> Lost:
        """Return the record for an item of a chunk."""
        name = None if chunk.names is None else chunk.names[position]
        return cls(
            chunk.indices[position], chunk.items[position], chunk.attempts + 1, lane, error, name, seconds
        )
