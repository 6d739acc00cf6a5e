"""The timers of a process: a heap of the times at which waits end and alarms ring.

A goroutine that is made ready before its time leaves its entry behind. The entry is stale then: the goroutine is not
parked, or has another ticket. Stale entries go when they are the majority, or when they come to the top of the heap.
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

    # (when, order, whom, its ticket then). A tuple, since the heap compares entries in C; `order` differs in all of them.
    Entry = tuple[float, int, "G | Alarm", int]

heap: list[Entry] = []  # the core looks at its size
_order = itertools.count()
_stale = 0  # entries whose wait ended before, about


class Alarm:
    """A callback of call_at(); stands in the heap where a parked goroutine would."""

    __slots__ = ("callback", "parked", "ticket")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.parked = True
        self.ticket = 0

    def cancel(self) -> None:
        """Do not call it any more."""
        if self.parked:
            self.parked = False
            del self.callback  # the entry of the heap may stay until it is due: not what it refers to
            forget()


def call_at(when: float, callback: Callable[[], None]) -> Alarm:
    """Have the scheduler call something at a monotonic time. From the scheduler's thread.

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
    """Have the wait that `whom` begins end at a time."""
    heappush(heap, (when, next(_order), whom, whom.ticket))


def is_live(entry: Entry) -> bool:
    """Return True if the wait of an entry goes on."""
    _, _, whom, ticket = entry
    return whom.parked and whom.ticket == ticket


def forget() -> None:
    """One more entry of the heap is stale. They go when they are the majority, so that each costs O(log n) at most."""
    global _stale
    _stale += 1
    if _stale > 64 and 2 * _stale > len(heap):
        heap[:] = [entry for entry in heap if is_live(entry)]
        heapify(heap)
        _stale = 0


def next_due() -> float | None:
    """Return when the first wait ends, None if none has a time. Stale entries before it go: nothing comes of them."""
    while heap and not is_live(heap[0]):
        heappop(heap)
    return heap[0][0] if heap else None


def expire(ready: Callable[[G], None]) -> None:
    """End the waits whose time is over: call alarms, and `ready` for goroutines."""
    now = monotonic()
    while heap and heap[0][0] <= now:
        whom = heap[0][2]
        due = is_live(heap[0])
        if due:
            whom.parked = False
            if type(whom) is G:
                whom.told = False
                ready(whom)
        heappop(heap)
        if due and type(whom) is Alarm:
            whom.callback()
