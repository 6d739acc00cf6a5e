"""The timers of a process: a heap of the times at which waits end and alarms ring.

A goroutine that is made ready before its time leaves its entry behind. The entry is stale then: the goroutine is not
parked, or has another ticket. Stale entries are removed when they are the majority, or when they come to the top of
the heap.
"""

from __future__ import annotations

import itertools
from heapq import heapify, heappop, heappush
from time import monotonic

from goproc._sched.g import G

__goproc_frames__ = "scheduler"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # (when, order, whom, its ticket then). A tuple, since the heap compares entries in C; `order` differs in all of
    # them.
    Entry = tuple[float, int, "G | Alarm", int]

heap: list[Entry] = []  # the core reads its size
_order = itertools.count()
_stale = 0  # about how many entries are stale


class Alarm:
    """A callback of call_at(); it stands in the heap where a parked goroutine would."""

    __slots__ = ("callback", "parked", "ticket")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.parked = True
        self.ticket = 0

    def cancel(self) -> None:
        """Call the callback no more."""
        if self.parked:
            self.parked = False
            # the entry may stay in the heap until it is due, but must not keep the callback's objects
            del self.callback
            forget()


def call_at(when: float, callback: Callable[[], None]) -> Alarm:
    """Have the scheduler call `callback` at a monotonic time. For the scheduler's thread only.

    Args:
        when: seconds of time.monotonic().
        callback: must not block; it may spawn a goroutine.
    """
    alarm = Alarm(callback)
    add(when, alarm)
    return alarm


def clear() -> None:
    """Forget all entries: the runtime stops."""
    global _stale
    heap.clear()
    _stale = 0


def add(when: float, whom: G | Alarm) -> None:
    """End the wait that `whom` begins at a time."""
    heappush(heap, (when, next(_order), whom, whom.ticket))


def is_live(entry: Entry) -> bool:
    """Return True if the wait of an entry goes on."""
    _, _, whom, ticket = entry
    return whom.parked and whom.ticket == ticket


def forget() -> None:
    """Count one more stale entry. Stale entries are removed when they are the majority: O(log n) at most for each."""
    global _stale
    _stale += 1
    if _stale > 64 and 2 * _stale > len(heap):
        heap[:] = [entry for entry in heap if is_live(entry)]
        heapify(heap)
        _stale = 0


def next_due() -> float | None:
    """Return the time at which the first wait ends; None if no wait has one. Remove the stale entries before it."""
    while heap and not is_live(heap[0]):
        heappop(heap)
    return heap[0][0] if heap else None


def expire(ready: Callable[[G], None]) -> None:
    """End the waits whose time is over: call the alarms, and call `ready` with each goroutine."""
    now = monotonic()
    while heap and heap[0][0] <= now:
        whom = heap[0][2]
        due = is_live(heap[0])
        if due:
            whom.parked = False
            if type(whom) is G:
                whom.notified = False
                ready(whom)
        heappop(heap)
        if due and type(whom) is Alarm:
            whom.callback()
