"""The host's side of the stations of a map: which lane has which items, and which items are lost when a process dies.

The host gives chunks of items to lanes and knows, by the order of a lane's messages, which of them are finished. It takes
chunks that have not begun back from a lane whose items take long, and gives them to one that has none.

When a process dies its station's handle ends with WorkerDied. All that it has sent is in the channel of results by then.
The item whose call ran has failed; the rest of what the lane had is given to others. Results that were finished and not
sent are lost with the process: their items run again.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from time import monotonic
from typing import Any

from goproc._channel import chan
from goproc._data.blame import about_job, about_value, timed_out, too_slow
from goproc._data.chunks import Chunk, Lost
from goproc._data.job import IN_INIT, End, Job, Way
from goproc._data.lane_parts import CREDITS
from goproc._data.policy import MOST_CALLS
from goproc._data.sent import Around, Word, send_functions
from goproc._data.station import serve
from goproc._raised import set_traceback
from goproc._spawn import spawn_beside
from goproc.errors import ChanClosed, OutOfSharedMemory, PickleError, WorkerDied
from goproc.shm import _core
from goproc.sync import Atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from goproc._channel import Chan
    from goproc._goroutine import Goroutine

_MOST_CHUNKS = 1024  # that wait in one lane's channel
_FRUITLESS = 3  # processes of a lane that die one after the other and finish no item

_rotation = count()


class Lane:
    """The host's record of a lane."""

    __slots__ = ("broken", "chunks", "finished", "fruitless", "given", "partial", "proc", "station", "way")

    def __init__(self, way: Way, proc: int, station: int) -> None:
        self.way = way
        self.proc = proc
        self.station = station
        self.chunks: deque[Chunk] = deque()  # given to it and not finished
        self.given = 0  # items in `chunks`, all of them
        self.finished = 0  # items since the station began
        self.fruitless = 0
        self.partial = False  # values of its next item have come, which goes on
        self.broken: PickleError | None = None  # why one of them cannot be read

    def running(self) -> bool:
        """Return True if a call runs, or its result is not here yet."""
        return bool(self.chunks) and self.way.running.load() > self.finished

    def finish(self, n: int) -> Iterator[tuple[Chunk, int, int]]:
        """Note that its next n items are finished. Yield (chunk, start, stop) of each chunk that they are in."""
        self.finished += n
        self.fruitless = 0
        self.partial, self.broken = False, None
        while n:
            chunk = self.chunks[0]
            start = chunk.finished
            stop = min(start + n, len(chunk.items))
            n -= stop - start
            chunk.finished = stop
            if stop == len(chunk.items):
                self.chunks.popleft()
                self.given -= stop
            yield chunk, start, stop

    def refused(self) -> Chunk:
        """Return the next chunk, which the lane could not read. The chunk is the lane's no more."""
        chunk = self.chunks.popleft()
        self.given -= len(chunk.items)
        return chunk

    def take_back(self) -> Chunk | None:
        """Take the chunk that is next back from its channel, if it has not begun."""
        message, there = self.way.chunks.try_recv()
        if not there or message is None:
            return None
        chunk = next(chunk for chunk in self.chunks if chunk.number == message[0])
        self.chunks.remove(chunk)
        self.given -= len(chunk.items)
        return chunk


class Lanes:
    """All lanes of a map.

    Args:
        job: the function and the options of the map, for the stations.
        procs: the processes that serve the map, one for each lane.
        cap: how many chunks a lane's channel holds.
    """

    def __init__(self, job: Job, procs: list[int], cap: int) -> None:
        self.job = job
        self.cap = max(1, min(cap, _MOST_CHUNKS))
        self.places = list(dict.fromkeys(procs))  # the process of each station
        self.handles: list[Goroutine[End] | None] = [None] * len(self.places)
        self.lanes = [
            Lane(self._way(number), proc, self.places.index(proc)) for number, proc in enumerate(procs)
        ]
        self.usable = self.lanes  # but for those whose process has died and is not replaced
        self.backlog: deque[Chunk] = deque()  # drawn, and given to no lane yet
        self.kept_back: dict[int, deque[Chunk]] = {}  # the same for chunks that must go to one lane
        self.unsendable: list[tuple[Chunk, Exception]] = []  # chunks of one item that cannot be copied

    def _way(self, number: int) -> Way:
        credit = None
        if self.job.parted:
            credit = chan(CREDITS)
            fill(credit)
        return Way(number, chan(self.cap), Atomic(0), Atomic(0), Atomic(0), credit)

    # -- giving

    def give(self, chunk: Chunk, first: bool = False) -> None:
        """Give a chunk to a lane: to its own, else to the one with the least work. It is kept here if there is no room.

        Args:
            chunk: the items.
            first: before the others that are kept here.
        """
        queue = self.backlog
        if chunk.lane >= 0:
            queue = self.kept_back.setdefault(chunk.lane, deque())
        if first:
            queue.appendleft(chunk)
        else:
            queue.append(chunk)
        self.spread()

    def spread(self) -> None:
        """Give the chunks that are kept here to lanes that have room."""
        while self.backlog:
            lane = min(self.usable, key=self._precedence)
            if len(lane.chunks) >= self.cap or not self._hand(lane, self.backlog):
                break
        for number, queue in self.kept_back.items():
            while queue:
                lane = self.usable[number % len(self.usable)]
                if len(lane.chunks) >= self.cap or not self._hand(lane, queue):
                    break

    def _hand(self, lane: Lane, queue: deque[Chunk]) -> bool:
        """Give the first chunk of a queue to a lane. Return False if shared memory has to become free before that."""
        if self.handles[lane.station] is None and not self._start(lane.station):
            return True
        chunk = queue.popleft()
        try:
            lane.way.chunks.send(chunk.message())
        except (PickleError, OutOfSharedMemory) as error:
            return self._part(chunk, queue, error)
        lane.chunks.append(chunk)
        lane.given += len(chunk.items)
        return True

    def _part(self, chunk: Chunk, queue: deque[Chunk], error: Exception) -> bool:
        """A chunk cannot be sent: wait for memory, or try its items one by one."""
        if isinstance(error, OutOfSharedMemory) and any(lane.chunks for lane in self.lanes):
            queue.appendleft(chunk)
            return False
        if len(chunk.items) == 1:
            self.unsendable.append((chunk, about_value(chunk.items[0], error, "the item")))
            return True
        queue.extendleft(reversed(chunk.singles()))
        return True

    def _start(self, station: int) -> bool:
        """Start a station. Return False if its process has died and is not replaced: its lanes are not used any more.

        Raises:
            WorkerDied: no process is left.
            PickleError: the function cannot be sent.
        """
        ways = [lane.way for lane in self.lanes if lane.station == station]
        job = self.job
        bare = job._replace(f=None, init=None, exit=None)
        try:
            sent = send_functions((job.f, job.init, job.exit))
            word = Word(f"the function {job.name}", isinstance(job.f, Around))
            self.handles[station] = spawn_beside(
                self.places[station], job.title, serve, bare, ways, sent, word
            )
        except WorkerDied:
            usable = [lane for lane in self.usable if lane.station != station]
            if not usable:
                raise
            self.usable = usable
            return False
        except PickleError as error:
            raise about_job(self.job, error) from error.__cause__
        return True

    def balance(self) -> None:
        """Give chunks that wait behind others, or for a busy process, to lanes that have nothing to do."""
        if self.backlog or self.kept_back:
            return
        idle = [lane for lane in self.usable if not lane.chunks and not self._waits(lane.station)]
        for lane in idle:
            held_up = self._held_up()
            chunk = None if held_up is None else held_up.take_back()
            if chunk is None:
                return
            self.backlog.append(chunk)
            self._hand(lane, self.backlog)

    def uneven(self) -> bool:
        """Return True if a chunk waits for a busy process, and another lane has none: balance() may be able to help."""
        if self.backlog or self.kept_back or all(lane.chunks for lane in self.usable):
            return False
        return any(lane.chunks and self._waits(lane.station) for lane in self.usable)

    def _precedence(self, lane: Lane) -> tuple[int, bool]:
        """Return what tells which lane gets the next chunk: that with the least work, if equal one that has begun."""
        return lane.given, self._waits(lane.station)

    def _held_up(self) -> Lane | None:
        """Return a lane with a chunk that others can begin sooner."""
        longest = max(self.usable, key=_work)
        if len(longest.chunks) > 1:
            return longest
        return next((lane for lane in self.usable if lane.chunks and self._waits(lane.station)), None)

    def _waits(self, station: int) -> bool:
        """Return True if a station was started and has not begun: its process is busy with another goroutine."""
        handle = self.handles[station]
        return handle is not None and handle._state == _core.G_QUEUED

    # -- ends

    def ended(self, station: int) -> tuple[End | None, BaseException | None]:
        """Return how a station has ended: its result, or its exception. It can be started again from now on."""
        handle = self.handles[station]
        assert handle is not None
        self.handles[station] = None
        try:
            return handle.result(), None
        except BaseException as exc:
            set_traceback(exc, None)  # whose frames would keep the map until the cyclic collector runs
            return None, exc

    def in_init(self, station: int) -> bool:
        """Return True if the station was in the map's init()."""
        return any(lane.way.running.load() == IN_INIT for lane in self.lanes if lane.station == station)

    def recover(self, station: int, error: BaseException | None) -> list[Lost]:
        """Take back all that a station had when it ended, to be given to others. Return the items that it ran.

        Args:
            station: has ended, and all of its messages are read.
            error: WorkerDied if its process died; None if it has ended because it was to be replaced.
        """
        lanes = [lane for lane in self.lanes if lane.station == station]
        ran = {id(lane) for lane in lanes if lane.way.running.load() > 0} if error is not None else set()
        if getattr(error, "timed_out", False) and self.job.timeout is None:
            ran = set()  # the process was killed for a call of another map
        if getattr(error, "timed_out", False) and ran:
            assert self.job.timeout is not None
            ran = {id(too_slow([lane for lane in lanes if id(lane) in ran], error, self.job.timeout))}
            error = timed_out(self.job.timeout, error)
        lost: list[Lost] = []
        back: list[Chunk] = []
        for lane in lanes:
            back += self._recover_lane(lane, error, id(lane) in ran, lost)
        for chunk in sorted(back, key=lambda chunk: chunk.indices[0], reverse=True):
            queue = self.backlog if chunk.lane < 0 else self.kept_back.setdefault(chunk.lane, deque())
            queue.appendleft(chunk)
        return lost

    def _recover_lane(
        self, lane: Lane, error: BaseException | None, ran: bool, lost: list[Lost]
    ) -> list[Chunk]:
        _drain(lane.way.chunks)
        partial, lane.partial, lane.broken = lane.partial, False, None
        if lane.way.credit is not None:
            fill(lane.way.credit)
        position = lane.way.running.load() - lane.finished - 1 if ran else -1
        if error is not None and not ran and lane.chunks and lane.finished == 0:
            lane.fruitless += 1
            if lane.fruitless >= _FRUITLESS:  # it dies while it reads its first item
                position, lane.fruitless = 0, 0
        if partial and error is not None:
            position = 0  # what was handed on cannot be taken back: the item does not begin again
        back = []
        for chunk in lane.chunks:
            rest = chunk.part(chunk.finished)
            n = len(rest.items)
            if 0 <= position < n:
                assert error is not None
                seconds = max(0.0, monotonic() - lane.way.began.load() / 1e6) if ran else 0.0
                lost.append(Lost.of(rest, position, lane.way.number, error, seconds))
                back += [part for part in (rest.part(0, position), rest.part(position + 1)) if part.items]
            else:
                back.append(rest)
            position -= n
        lane.chunks.clear()
        lane.given = lane.finished = 0
        lane.way.running.store(0)
        return back

    # -- the end of the map

    def finish(self) -> None:
        """Tell all stations that no items come any more."""
        for lane in self.lanes:
            for channel in (lane.way.chunks, lane.way.credit):
                try:
                    if channel is not None:
                        channel.close()
                except (ChanClosed, RuntimeError):
                    pass

    def begun(self) -> list[Goroutine[End]]:
        """Return the handles of the stations that have begun and were not seen to end. Called after finish().

        The others wait for busy processes. Their chunks are taken back: when they begin they find none, and end.
        """
        for lane in self.lanes:
            if self._waits(lane.station):
                _drain(lane.way.chunks)
        return [
            handle
            for station, handle in enumerate(self.handles)
            if handle is not None and not self._waits(station)
        ]

    def drop(self, begun: list[Goroutine[End]]) -> list[Goroutine[End]]:
        """Take all chunks back that have not begun: nobody wants their results. Return the handles of the other stations.

        Args:
            begun: the handles of the stations that have begun.
        """
        for lane in self.lanes:
            _drain(lane.way.chunks)
        return [handle for handle in self.handles if handle is not None and handle not in begun]

    def calls(self, handle: Goroutine[End]) -> bool:
        """Return True if a call of the map runs in the process of a station, and no other of its lanes holds that up.

        A lane that reads its next items makes no call. It holds up the others while it imports the modules of an item.
        """
        station = self.handles.index(handle)
        ways = [lane.way for lane in self.lanes if lane.station == station]
        reading = [way for way in ways if not way.running.load()]
        now = _core.running_in(handle._proc)  # 0: no goroutine runs there
        return len(reading) < len(ways) and not (now and any(way.goroutine.load() == now for way in reading))


def fill(credit: Chan[None]) -> None:
    """Give all credits to a lane that has no part on its way."""
    try:
        while credit.try_send(None):
            pass
    except ChanClosed:  # the map ends
        pass


def _work(lane: Lane) -> int:
    return lane.given


def _drain(chunks: Chan[Any]) -> None:
    try:
        while chunks.try_recv()[1]:
            pass
    except ChanClosed:
        pass  # it is closed, and empty


def placed(workers: int | None, threads: int | None) -> list[int]:
    """Return the process of each lane: the lanes of a map, spread over the workers."""
    _core.ensure()
    n = _core.procs() - 1
    places = list(range(1, n + 1)) or [0]
    turn = next(_rotation) % len(places)
    places = places[turn:] + places[:turn]
    each = threads or 1
    lanes = workers if workers is not None else each * len(places)
    if lanes > MOST_CALLS:
        raise ValueError(
            f"threads={each} in each of {len(places)} processes are more than {MOST_CALLS} calls at once"
        )
    if threads is not None and workers is not None:
        places = places[: max(1, -(-workers // threads))]
    return [places[i % len(places)] for i in range(lanes)]
