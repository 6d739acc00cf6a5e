"""The engine of a map: draws items, gives them to lanes, and receives their messages.

reading.py reads a message, failing.py decides about an item that has failed, and station_ends.py about a process that
has ended. All of it happens in the caller, inside next(). Between two calls of next() the workers go on with the items
that they have, and their messages wait in the channel of results.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import Any, NamedTuple

from goproc._channel import chan
from goproc._data import turns
from goproc._data.chunks import Chunk, Lost
from goproc._data.ends import CLOSE_SECONDS, await_ends, raisable, read_later, reap
from goproc._data.failing import Delayed, fail, fail_for_good, post, retry
from goproc._data.job import BROKEN, DONE, WAKE, Job
from goproc._data.keys import Keys
from goproc._data.labels import Labels
from goproc._data.lane_parts import CREDITS
from goproc._data.lanes import Lanes
from goproc._data.order import Ordered, Unordered
from goproc._data.reading import read_one
from goproc._data.results import parted
from goproc._data.source import DRAW_SECONDS
from goproc._data.station_ends import keep_processes, station_ended
from goproc._data.tally import Pace, Stats, Tally
from goproc._data.unread import UNKNOWN
from goproc._go import go
from goproc._pickling import failure
from goproc._select import Selector
from goproc.errors import ChanClosed, RuntimeStopped, WorkerDied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._data.checkpoint import Checkpoint
    from goproc._data.policy import Failure, Policy
    from goproc._data.progress import Progress
    from goproc._data.recorder import Recorder
    from goproc._data.source import Source
    from goproc._data.unread import Unread


class Plan(NamedTuple):
    """The options of a map, checked, as the engine gets them. `where` names the call in errors."""

    where: str
    job: Job
    policy: Policy
    ordered: bool
    ahead: int | None
    chunk: int | None
    key: Callable[..., Any] | None
    procs: list[int]
    checkpoint: Checkpoint | None = None
    spread: bool = False  # results are collections, of which the members are yielded


_BUSY_SECONDS = 0.01  # between two looks whether items that wait for a busy process can go to an idle one


class Engine:
    """Runs one map. One goroutine or thread at a time calls it, but for stats()."""

    def __init__(self, plan: Plan, source: Source, progress: Progress | None) -> None:
        self.plan = plan
        self.policy = plan.policy
        self.pace = Pace(plan.chunk, plan.ahead, len(plan.procs))
        most = plan.ahead or 4096
        parts = CREDITS if plan.job.parted else 0
        self.results = chan(min(most, 4096) + len(plan.procs) * (1 + parts))
        job = plan.job._replace(results=self.results, named=plan.checkpoint is not None)
        self.lanes = Lanes(job, plan.procs, most)
        self.order = Ordered(plan.spread) if plan.ordered else Unordered(plan.spread)
        self.ready = self.order.ready
        self.tally = Tally()
        self.progress = progress
        self.source = source
        self.inbox: deque[tuple[Any, ...]] = deque()  # messages that were received and not read
        self.delayed: list[Delayed] = []  # a heap
        self.ends: deque[int] = deque()  # stations that were seen to have ended
        # stations whose process is to be replaced, and how long the map waits for that
        self.leaving: dict[int, float] = {}
        self.letters: deque[Failure] = deque()  # that the channel of on_error= has not taken yet
        self.keys: Keys | None = None
        if plan.key is not None:
            self.keys = Keys(self.lanes, self.policy.retries > 0)
        self.labels: Labels | None = None
        if plan.key is not None or plan.checkpoint is not None:
            self.labels = Labels(plan.where, plan.key, plan.checkpoint, job.starred)
        self.closed = False
        self.fatal = False  # what is raised now ends the map
        self.held_up = False  # items wait for a busy process, and another one may be idle
        self.receiving = threading.Lock()
        self.recorder: Recorder | None = None
        self.door = self.results  # has a value when something has come
        if plan.checkpoint is not None:
            self._open_checkpoint(plan.checkpoint)
        self.orders = 0  # delays so far: of two that end at one time, the earlier one is first

    def _open_checkpoint(self, checkpoint: Checkpoint) -> None:
        from goproc._data.recorder import Recorder

        checkpoint.open()
        self.recorder = Recorder(checkpoint, self.results, self.inbox, self.pace)
        self.door = self.recorder.door

    # -- one step

    def advance(self) -> bool:
        """Make one step without waiting. Return True if a result is ready or all are yielded.

        A step reads the messages that have come, draws items, and gives them to lanes.

        The caller sends the dead letters, with post(), before it goes on.

        Raises:
            BaseException: the first failure, if that is to be raised; the exception of the iterable, after all results.
        """
        while True:
            while self.ends:
                station_ended(self, self.ends.popleft())
            self.read()
            if self.letters:
                return False
            retry(self)
            self._draw()
            if self.ready:
                return True
            if not self._unfinished():
                return True
            if not self.inbox and not len(self.door):
                return False

    def _unfinished(self) -> bool:
        return not self.source.over or self.tally.drawn > self.order.passed

    @property
    def over(self) -> bool:
        """True if nothing is left to be yielded."""
        return not self.ready and not self._unfinished()

    @property
    def at_once(self) -> bool:
        """True if a result is ready, and may be yielded with no item drawn: items that take long keep a worker busy."""
        return bool(self.ready) and (self.pace.short or self.source.over)

    # -- drawing

    def _draw(self) -> None:
        """Draw items until as many are out as may be. With a result ready, only while that takes little time."""
        until = monotonic() + DRAW_SECONDS
        while not self.source.over:
            room = self._room()
            chunk = self.pace.chunk_of(self.source.left)
            if room <= 0 or (room < chunk and self._can_wait()):
                return
            if not self._draw_chunk(min(chunk, room)):
                return
            if monotonic() >= until and self._something_ready():
                return

    def _room(self) -> int:
        """Return how many items may be drawn now."""
        return self.pace.ahead - (self.tally.drawn - self.order.passed + self.order.held())

    def _can_wait(self) -> bool:
        """Return True if there is time until a whole chunk may be drawn."""
        if self.ready:
            return True
        if self.plan.chunk is None:
            return self.tally.drawn > self.order.passed
        return all(lane.chunks for lane in self.lanes.lanes)

    def _something_ready(self) -> bool:
        return bool(self.ready) or bool(self.inbox) or len(self.door) > 0

    def _draw_chunk(self, n: int) -> int:
        """Draw at most n items, and give them to a lane. Return how many there were."""
        items: list[Any] = []
        try:
            self.source.draw(n, items)
        finally:
            self.source.left = max(0, self.source.left - len(items))
            self._dispatch(items)
        refused, self.source.refused = self.source.refused, None
        if refused is None:
            return len(items)
        self._refuse(refused)
        return len(items) + 1

    def _dispatch(self, items: list[Any]) -> None:
        """Give items that were drawn to lanes."""
        if self.labels is not None and items:
            self._dispatch_labelled(self.labels, items)
        elif items:
            self.lanes.give(Chunk(self._numbered(len(items)), items))
        self.refuse_unsendable()

    def _numbered(self, n: int) -> range:
        """Count items as drawn. Return their numbers."""
        first = self.tally.drawn
        self.tally.drawn += n
        return range(first, first + n)

    def _dispatch_labelled(self, labels: Labels, items: list[Any]) -> None:
        """Give items to lanes: all, or those before the one for which a function of the caller's has failed.

        Raises:
            BaseException: an interrupt, raised by such a function. The rest of the items can be drawn again.
        """
        count, keys, names, error = labels.of(items, self.tally.drawn)
        try:
            if count:
                self._give(Chunk(self._numbered(count), items[:count], names=names), keys)
            if isinstance(error, Exception):
                self.source.fail(error)
            elif error is not None:
                self.source.put_back(items[count:])
                raise error
        finally:
            del error  # its traceback holds this frame

    def _give(self, chunk: Chunk, keys: list[Any] | None) -> None:
        if self.plan.checkpoint is not None:
            from goproc._data.recall import recall

            rest = recall(self, self.plan.checkpoint, chunk)
            if rest is not None:
                chunk = chunk.picked(rest, chunk.lane)
                keys = keys and [keys[position] for position in rest]
        if not chunk.items:
            return
        if self.keys is None:
            self.lanes.give(chunk)
        else:
            assert keys is not None
            self.keys.give(chunk, keys)

    def refuse_unsendable(self) -> None:
        """Fail the items that cannot be sent to a worker."""
        unsendable = self.lanes.unsendable
        while unsendable:
            chunk, error = unsendable.pop()
            fail(self, Lost.of(chunk, 0, -1, error))

    def _refuse(self, refused: Unread) -> None:
        """The next item cannot be read here: it has failed."""
        index = self.tally.drawn
        self.tally.drawn += 1
        fail_for_good(self, Lost(index, refused.text or UNKNOWN, 0, -1, refused.error))

    # -- reading

    def receive(self) -> None:
        """Take the messages that are there. From any thread that holds `receiving`."""
        try_recv = self.door.try_recv
        while True:
            message, there = try_recv()
            if message is not None:  # a recorder has put its messages into the inbox, and sends None
                self.inbox.extend(parted(message))
            if not there:
                return

    def read(self) -> None:
        """Take and read the messages that are there."""
        inbox = self.inbox
        if not self.receiving.acquire(blocking=False):
            self.wake()  # a thread that was left in wait() may have the next message already
            self.receiving.acquire()
        try:
            self.receive()
        finally:
            self.receiving.release()
        some = bool(inbox) or self.held_up
        self.held_up = False
        while inbox:
            read_one(self, inbox.popleft())
        if some:
            self.lanes.balance()
            self.lanes.spread()
            if self.lanes.unsendable:
                self.refuse_unsendable()
            self.show()

    def show(self) -> None:
        if self.progress is not None:
            tally = self.tally
            self.progress.update(tally.done + tally.failed, tally.failed, tally.retried)

    # -- waiting

    def go_on(self) -> None:
        """Make progress of advance() possible: send dead letters, or wait."""
        if self.letters:
            post(self)
        else:
            turns.lend()
            self.wait()

    def wait(self) -> None:
        """Wait until something has come, a station has ended, or a delay is over. From any thread."""
        since = monotonic()
        dues = [*self.leaving.values(), *(delayed.due for delayed in self.delayed[:1])]
        if self.lanes.uneven():
            dues.append(since + _BUSY_SECONDS)
        timeout = max(0.0, min(dues) - since) if dues else None
        stations = [number for number, handle in enumerate(self.lanes.handles) if handle is not None]
        cases = [self.door, *(self.lanes.handles[number] for number in stations)]
        channel = self.source.channel
        if channel is not None and self._room() > 0:
            cases.append(channel)
        try:
            index, message, there = self.select(Selector(*cases), 0, timeout)
        except TimeoutError:
            if timeout is None or monotonic() < since + timeout:
                raise
            keep_processes(self)
            self.held_up = self.lanes.uneven()
            return
        except Exception as exc:
            if channel is None:
                raise
            self.source.refuse(exc)
            return
        if index > len(stations):
            self.source.receive(message, there)
        elif index > 0:
            self.ends.append(stations[index - 1])

    def select(self, selector: Selector, door: int, timeout: float | None) -> tuple[int, Any, bool]:
        """Wait for one of several channels. Put a message into the inbox, and return the case.

        Nobody else takes messages meanwhile: a message is this waiter's when it is sent, but comes into the inbox when
        the waiter runs again. A later one, taken by stats() in between, would come first and count for a wrong item.

        Args:
            selector: has the channels.
            door: the index of the door among them.
            timeout: in seconds.
        """
        with self.receiving:
            if self.inbox:  # stats() has taken a message since the caller looked
                return door, None, False
            index, message, there = selector.select(timeout)
            if index == door and there and message is not None:
                self.inbox.extend(parted(message))
        return index, message, there

    def wake(self) -> None:
        """End a wait() in another thread."""
        try:
            self.door.try_send((WAKE, 0))
        except (ChanClosed, RuntimeStopped):
            pass

    def stats(self) -> Stats:
        """Return the counts, with the results that have come and were not read. From any thread."""
        waiting = 0
        if self.receiving.acquire(blocking=False):
            try:
                if not self.closed:
                    self._receive_for_stats()
                waiting = sum(len(message[2]) for message in list(self.inbox) if message[0] == DONE)
            finally:
                self.receiving.release()
        running = sum(lane.running() for lane in self.lanes.lanes)
        return self.tally.stats(running, waiting)

    def _receive_for_stats(self) -> None:
        """As receive(), but next() raises the exception of a message that cannot be read."""
        try:
            self.receive()
        except (ChanClosed, RuntimeStopped):
            raise
        except Exception as exc:
            self.inbox.append((BROKEN, exc))

    # -- the end

    def finish(self) -> None:
        """All is yielded: have the stations end, and wait for that.

        Raises:
            BaseException: raised by exit=.
        """
        self.lanes.finish()
        live = self.lanes.begun()
        read_later(self.lanes.drop(live))
        for handle in live:
            try:
                end = handle.result()
            except WorkerDied:  # all of its items are finished
                continue
            if end.error is not None:
                self.fatal = True
                raise raisable(failure.unpack(end.error), "exit= of the map")

    def cancel(self) -> None:
        """Cancel what runs, and wait until no call runs any more. A process whose call does not react is killed."""
        self.closed = True
        self.source.close()
        try:
            self.lanes.finish()
            live = self.lanes.begun()
            for handle in live:
                handle.cancel()
            read_later(self.lanes.drop(live))
            await_ends(live, self.door, monotonic() + CLOSE_SECONDS, self.lanes.calls)
        except RuntimeStopped:
            return

    def abandon(self) -> None:
        """Cancel what runs, without waiting for that: a goroutine does."""
        self.closed = True
        try:
            self.lanes.finish()
            live = self.lanes.begun()
            for handle in live:
                handle.cancel()
            read_later(self.lanes.drop(live))
            self.results.close()
            if self.recorder is not None:
                self.recorder.stop()
            if live:
                go.local(reap, live, CLOSE_SECONDS, self.lanes.calls)
        except (ChanClosed, RuntimeStopped):
            pass
