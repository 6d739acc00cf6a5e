"""``key=`` of a map: items with equal keys go to one lane, in order."""

from __future__ import annotations

from collections import deque
from typing import Any

from goproc._data.chunks import Chunk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._data.lanes import Lanes


class Keys:
    """Gives items to lanes by their keys.

    Where items are tried again, one item of a key is out at a time: the others must not overtake it.

    Args:
        key: as given by the user.
        starred: items are tuples of arguments.
        lanes: of the map.
        one_by_one: items may be tried again.
    """

    def __init__(self, key: Callable[..., Any], starred: bool, lanes: Lanes, one_by_one: bool) -> None:
        self._key = key
        self._starred = starred
        self._lanes = lanes
        self._one_by_one = one_by_one
        self._behind: dict[Any, deque[Chunk]] = {}  # by key that is out: later items of that key
        self._out: dict[int, Any] = {}  # by number of an item that is out: its key

    def give(self, chunk: Chunk) -> None:
        """Give items that were drawn to their lanes."""
        by_lane: dict[int, list[int]] = {}  # positions
        for position, item in enumerate(chunk.items):
            key = self._key(*item) if self._starred else self._key(item)
            lane = self._lane_of(key, chunk.indices[position])
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

    def _lane_of(self, key: Any, index: int) -> int:
        try:
            lane = hash(key) % len(self._lanes.lanes)
        except TypeError:
            raise TypeError(
                f"pmap(): key= returned {type(key).__name__!r} for item {index}, which is not hashable"
            ) from None
        if _differs_from_itself(key):
            raise ValueError(
                f"pmap(): key= returned {key!r} for item {index}, which is not equal to itself: no other item can have it"
            )
        return lane

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


def _differs_from_itself(key: Any) -> bool:
    """Return True for a key such as NaN."""
    try:
        return bool(key != key)
    except Exception:  # the comparison has no answer, as that of pandas.NA
        return False
