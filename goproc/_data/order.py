"""The order in which a map yields: that of its items, or that in which they are finished."""

from __future__ import annotations

from collections import deque
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Unordered:
    """Yields results in the order in which they are finished.

    Attributes:
        ready: results that can be yielded.
        passed: items that are in `ready`, were yielded, or are left out.
    """

    __slots__ = ("_extend", "_left_out", "_skipped", "passed", "ready")

    def __init__(self, spread: bool = False) -> None:
        # spread: results are collections, and their members are yielded
        self.ready: deque[Any] = deque()
        self.passed = 0
        self._skipped = 0  # of `passed`: items that are left out
        # Of those that are left out while earlier results are ready: how many results are put before them.
        self._left_out: deque[int] = deque()
        self._extend = self._extend_spread if spread else self.ready.extend

    def _extend_spread(self, values: Iterable[Any]) -> None:
        put = self.passed - self._skipped
        for value in values:
            if value:
                self.ready.extend(value)
                put += 1
            else:
                self._skip(put)

    def _skip(self, put: int) -> None:
        self._left_out.append(put)
        self._skipped += 1

    def held(self) -> int:
        """Return how many of the items passed are not yielded: their results are ready, or they are left out behind such."""
        ready = len(self.ready)
        left_out = self._left_out
        if left_out:
            yielded = self.passed - self._skipped - ready
            while left_out and left_out[0] <= yielded:
                left_out.popleft()
        return ready + len(left_out)

    def put(self, indices: Sequence[int], values: list[Any]) -> None:
        """Take the results of items."""
        self._extend(values)
        self.passed += len(values)

    def put_part(self, index: int, values: list[Any]) -> None:
        """Take values of an item that goes on: it is put, or left out, at its end."""
        self.ready.extend(values)

    def leave_out(self, index: int) -> None:
        """Go on to the next item: this one has no result to yield."""
        self._skip(self.passed - self._skipped)
        self.passed += 1


class Ordered(Unordered):
    """Yields in the order of the items. `passed` is the index of the item whose turn it is."""

    __slots__ = ("_early", "_parts")

    def __init__(self, spread: bool = False) -> None:
        super().__init__(spread)
        self._early: dict[int, list[Any]] = {}  # results by the index of the first of them
        # An item that is left out has an empty list; no other list is empty.
        self._parts: dict[int, list[Any]] = {}  # values of items that go on, by their indices

    def put(self, indices: Sequence[int], values: list[Any]) -> None:
        if type(indices) is range:
            self._put(indices[0], values)
        else:
            for index, value in zip(indices, values, strict=True):
                self._put(index, [value])

    def put_part(self, index: int, values: list[Any]) -> None:
        if index == self.passed:
            self.ready.extend(values)
        else:
            self._parts.setdefault(index, []).extend(values)

    def leave_out(self, index: int) -> None:
        self._put(index, [])

    def _put(self, first: int, values: list[Any]) -> None:
        if first != self.passed:
            self._early[first] = values
            return
        early = self._early
        while True:
            if values:
                self._extend(values)
                self.passed += len(values)
            else:
                super().leave_out(first)
            if self.passed in self._parts:
                self.ready.extend(self._parts.pop(self.passed))
            if self.passed not in early:
                return
            values = early.pop(self.passed)
