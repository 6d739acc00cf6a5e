"""The worker's side of a map: one station for each process that serves it.

A station has lanes. In a lane calls run one after the other; a station has one lane, or several where `workers` or
`threads` let calls share a process. Each lane takes chunks of items from a channel of its own. All lanes of a map send to
one channel, and the messages of a lane come in the order of its items, so they need no numbers: a message is
about the items that follow those of the message before.

What must survive the process is in shared memory. A lane counts its items, and while a call runs, `running` has the count
of its item. A process that dies leaves that number: this item fails, and the host gives the others to somebody else.

Results are sent together, since a message costs more than a short call. They wait at most FLUSH_SECONDS: a thread sends
them if the call after them takes long.
"""

from __future__ import annotations

from typing import Any

from goproc._data import turns
from goproc._data.job import (
    ENDED,
    EXIT_FAILED,
    IN_EXIT,
    IN_INIT,
    INIT_FAILED,
    NOT_READ,
    RECYCLED,
    End,
    Job,
    Way,
)
from goproc._data.lane import Lane
from goproc._data.sent import Sent, Unread, Word, read_functions
from goproc._go import go
from goproc._pickling import failure
from goproc._recycle import recycle
from goproc._sched import scheduler
from goproc.errors import Cancelled
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._blocking import Threads

GRACE_SECONDS = 1.0  # between the end of a call's time and the end of its process
_PAGE = 4096
_INIT, _EXIT = Word("the function of init="), Word("the function of exit=")


def serve(job: Job, ways: list[Way], sent: Sent, word: Word) -> End:
    """Serve a map in this process until its channels are closed. The body of the station's goroutine.

    Args:
        job: without the functions.
        ways: of the lanes.
        sent: the functions of the job: f, init and exit.
        word: for f.
    """
    scheduler.current.whole = True
    if _over(ways):
        return End(ENDED)  # the process was busy until the map had ended
    try:
        f, init, exit = read_functions(sent, (word, _INIT, _EXIT))
    except Unread as unread:
        return End(NOT_READ, failure.pack(unread.error))
    if _over(ways):
        return End(ENDED)  # the map has ended while this process imported modules
    return Station(job._replace(f=f, init=init, exit=exit), ways).run()


def _over(ways: list[Way]) -> bool:
    return all(way.chunks.closed and not len(way.chunks) for way in ways)


class Station:
    """One process's part of a map."""

    def __init__(self, job: Job, ways: list[Way]) -> None:
        self.job = job
        self.lanes = [Lane(self, way) for way in ways]
        self.state: Any = None
        self.items = 0  # that have begun here; not counted in simple stations
        self.simple = (
            not (job.threads or job.named or job.parted) and job.timeout is job.recycle is job.memory is None
        )
        self.ends = False  # no further item begins
        self.threads: Threads | None = None

    def run(self) -> End:
        if self.job.init is not None and (error := self._begin()) is not None:
            return End(INIT_FAILED, error)
        try:
            self._run_lanes()
        finally:
            error = self._leave()
        if error is not None:
            return End(EXIT_FAILED, error)
        if not self.ends:
            return End(ENDED)
        if (here := _core.proc()) != 0:
            recycle(here)  # once this goroutine has ended; the map begins again on the new process
        return End(RECYCLED)

    def _begin(self) -> tuple[Any, ...] | None:
        """Call init(). Return its exception, packed."""
        assert self.job.init is not None
        turn = turns.begin(self)
        self.lanes[0].way.running.store(IN_INIT)
        try:
            self.state = self.job.init()
        except Cancelled:
            raise
        except BaseException as exc:
            return failure.pack(exc)
        finally:
            self.lanes[0].way.running.store(0)
            turns.end(turn)
        return None

    def _run_lanes(self) -> None:
        if self.job.threads:
            from goproc._blocking import Threads

            # More than were asked for where there are fewer processes than that: a call that waits for those who take
            # its values must not keep the thread of the call whose turn it is.
            self.threads = Threads(max(self.job.threads, len(self.lanes)))
        try:
            if len(self.lanes) == 1:
                self.lanes[0].run()
            else:
                self._run_beside()
        finally:
            if self.threads is not None:
                self.threads.close()

    def _run_beside(self) -> None:
        """Run several lanes, each in a goroutine of this process."""
        run = go.opts(name=scheduler.current.name).local
        goroutines = [run(lane.run) for lane in self.lanes]
        try:
            for g in goroutines:
                g.result()
        except BaseException:
            for g in goroutines:
                g.cancel()
            scheduler.shield(1)
            try:
                for g in goroutines:
                    g.join()
            finally:
                scheduler.shield(-1)
            raise

    def _leave(self) -> tuple[Any, ...] | None:
        """Call exit(state). It may block, also where the station was cancelled. Return its exception, packed."""
        if self.job.exit is None:
            return None
        scheduler.shield(1)
        self.lanes[0].way.running.store(IN_EXIT)
        try:
            self.job.exit(self.state)
        except BaseException as exc:
            return failure.pack(exc)
        finally:
            self.lanes[0].way.running.store(0)
            scheduler.shield(-1)
        return None

    def may_begin(self) -> bool:
        """Return True if another item may begin in this process."""
        job = self.job
        if self.ends:
            return False
        full = job.recycle is not None and self.items >= job.recycle
        self.ends = full or (job.memory is not None and self.items > 0 and _resident() > job.memory)
        if self.ends:
            for lane in self.lanes:
                lane.release()
        return not self.ends

    def watch_time(self) -> None:
        """Have the process killed when the call whose time ends first has not ended a second later."""
        if _core.proc() == 0:
            return  # the script's process is not killed
        ends = [lane.ends_at for lane in self.lanes if lane.ends_at]
        _core.kill_at(min(ends) + GRACE_SECONDS if ends else 0.0)


def _resident() -> int:
    """Return the bytes that this process uses, without the memory that it shares with its relatives."""
    with open("/proc/self/statm", "rb", buffering=0) as file:
        _, resident, shared, *_ = file.read(128).split()
    return (int(resident) - int(shared)) * _PAGE
