"""``key=`` of a map: items with equal keys go to one lane, in order."""

from __future__ import annotations

from collections import deque
from typing import Any

from goproc._data.chunks import Chunk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.lanes import Lanes


class Keys:
    """Gives items to lanes by their keys.

    Where items are tried again, one item of a key is out at a time: the others must not overtake it.

    Args:
        lanes: of the map.
        one_by_one: items may be tried again.
    """

    def __init__(self, lanes: Lanes, one_by_one: bool) -> None:
        self._lanes = lanes
        self._one_by_one = one_by_one
        self._behind: dict[Any, deque[Chunk]] = {}  # by key that is out: later items of that key
        self._out: dict[int, Any] = {}  # by number of an item that is out: its key

    def give(self, chunk: Chunk, keys: list[Any]) -> None:
        """Give items that were drawn to their lanes.

        Args:
            chunk: the items.
            keys: of the items. They can be hashed.
        """
        by_lane: dict[int, list[int]] = {}  # positions
        for position, key in enumerate(keys):
            lane = hash(key) % len(self._lanes.lanes)
            if self._one_by_one and self._waits(key, chunk.picked([position], lane)):
                continue
            by_lane.setdefault(lane, []).append(position)
        for lane, positions in by_lane.items():
            self._lanes.give(chunk.picked(positions, lane))

    def _waits(self, key: Any, item: Chunk) -> bool:
        """Note an item. Return True if one of its key is out."""
        self._out[item.indices[0]] = key
        if key in self._behind:
            self._behind[key].append(item)
            return True
        self._behind[key] = deque()
        return False

    def finish(self, index: int) -> None:
        """An item is finished: the next one of its key may begin."""
        if index not in self._out:  # items need not wait, or this one was given to no lane
            return
        key = self._out.pop(index)
        behind = self._behind[key]
        if behind:
            self._lanes.give(behind.popleft())
        else:
            del self._behind[key]
