"""The counts of a map: its statistics, and the size of its chunks."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple

CHUNK_SECONDS = 0.0045  # less than FLUSH_SECONDS: the results of most chunks come in one message
MOST_AHEAD = 10_000
SHORT_SECONDS = 0.001
_SLOWEST = 10
_GROWTH = 4  # of a chunk, once its items are measured
_EARLY_GROWTH = 16  # the same while a chunk takes less than
_EARLY_SECONDS = 0.0003
_LEAST_PART = 16  # of a chunk: the last chunks are not smaller than that


class ProcSeconds(NamedTuple):
    """The time that one process has spent in a map.

    Attributes:
        work: seconds in which calls ran; with several calls at once the sum.
        wait: seconds in which it had no item.
    """

    work: float
    wait: float


@dataclass(frozen=True, slots=True)
class Slow:
    """One of the slowest items: its number, and the seconds that the longest of its calls took."""

    index: int
    seconds: float


class Stats(NamedTuple):
    """The state of a map at an instant: ``items == done + failed + running + waiting``.

    Attributes:
        items: drawn from the iterables so far.
        done: finished with a result.
        failed: failed for good.
        running: calls that run.
        waiting: items that wait for a process, or for their next attempt.
        retried: attempts after the first of an item.
        procs: by process, the seconds of work and of waiting.
        slowest: at most ten items, each once, the slowest first.
    """

    items: int
    done: int
    failed: int
    running: int
    waiting: int
    retried: int
    procs: dict[int, ProcSeconds]
    slowest: list[Slow]


class Tally:
    """The counters of a map."""

    __slots__ = ("_slowest", "done", "drawn", "failed", "retried", "seconds")

    def __init__(self) -> None:
        self.drawn = self.done = self.failed = self.retried = 0
        self.seconds: dict[int, tuple[float, float]] = {}
        self._slowest: list[tuple[float, int]] = []  # a heap

    def note(self, proc: int, work: float, wait: float) -> None:
        """Note the seconds in which a lane of a process worked, and waited."""
        before = self.seconds.get(proc, (0.0, 0.0))
        self.seconds[proc] = before[0] + work, before[1] + wait

    def note_slow(self, index: int, seconds: float) -> None:
        """Note a call for an item that may be one of the slowest. Of several calls the longest counts."""
        slowest = self._slowest
        if len(slowest) == _SLOWEST and seconds <= slowest[0][0]:
            return
        for at, (known, other) in enumerate(slowest):
            if other == index:
                slowest[at] = max(known, seconds), index
                heapq.heapify(slowest)
                return
        if len(slowest) < _SLOWEST:
            heapq.heappush(slowest, (seconds, index))
        else:
            heapq.heapreplace(slowest, (seconds, index))

    def stats(self, running: int, finished: int = 0) -> Stats:
        """Return the counters.

        Args:
            running: calls that run.
            finished: items that are done beside those counted here.
        """
        done, failed = self.done + finished, self.failed
        items = max(self.drawn, done + failed)
        running = min(running, items - done - failed)
        return Stats(
            items,
            done,
            failed,
            running,
            items - done - failed - running,
            self.retried,
            {proc: ProcSeconds(*seconds) for proc, seconds in sorted(self.seconds.items())},
            [Slow(index, seconds) for seconds, index in sorted(self._slowest, reverse=True)],
        )


class Pace:
    """The size of a map's chunks: as given, or about CHUNK_SECONDS of work as measured.

    Args:
        chunk: as given by the user, or None to measure.
        ahead: as given by the user, or None for the default.
        lanes: how many calls run at once.
    """

    __slots__ = ("_ahead", "_items", "_lanes", "_measured", "_seconds", "_work", "chunk")

    def __init__(self, chunk: int | None, ahead: int | None, lanes: int) -> None:
        self._ahead = ahead
        self._lanes = lanes
        self._measured = chunk is None
        # Of late: items, seconds of their calls, and the mean of these. An item whose process has waited for a CPU counts for
        # one of them, not for as much as the chunk before it.
        self._items = self._work = self._seconds = 0.0
        self.chunk = 1 if chunk is None else chunk
        if ahead is not None:
            self.chunk = min(self.chunk, ahead)

    @property
    def ahead(self) -> int:
        """The number of items that may be drawn and not yielded."""
        if self._ahead is not None:
            return self._ahead
        return max(min(4 * self._lanes * self.chunk, MOST_AHEAD), self._lanes)

    def chunk_of(self, left: int) -> int:
        """Return the size of the next chunk.

        Towards the end chunks become smaller, so that the calls on all lanes end at about the same time. (Guided
        self-scheduling: Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987.)

        Args:
            left: how many items are not drawn yet; 0 where that is not known.
        """
        if not left or not self._measured:
            return self.chunk
        return min(self.chunk, max(-(-left // (2 * self._lanes)), -(-self.chunk // _LEAST_PART)))

    @property
    def short(self) -> bool:
        """True if items take so little time that there is no hurry to draw the next one."""
        return 0.0 < self._seconds < SHORT_SECONDS

    @property
    def slack(self) -> float:
        """Seconds that results may wait on their way: a quarter of the work that the lanes have before them."""
        return self.ahead * self._seconds / (4 * self._lanes)

    def note(self, items: int, seconds: float) -> None:
        """Note how long some items took."""
        self._items = self._items / 2 + items
        self._work = self._work / 2 + seconds
        self._seconds = self._work / self._items
        if not self._measured:
            return
        fitting = int(CHUNK_SECONDS / self._seconds) if self._seconds > 0 else self.chunk * _GROWTH
        most = (self._ahead or MOST_AHEAD) // (2 * self._lanes)
        early = min(items * _EARLY_GROWTH, int(_EARLY_SECONDS / max(self._seconds, 1e-9)))
        self.chunk = max(1, min(fitting, max(self.chunk, items * _GROWTH, early), most))
