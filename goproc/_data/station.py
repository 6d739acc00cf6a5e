"""The worker's side of a map: one station for each process that serves it.

A station has lanes. In a lane calls run one after the other; a station has one lane, or several where `workers` or
`threads` let calls share a process. Each lane takes chunks of items from a channel of its own. All lanes of a map send to
one channel, and the messages of a lane come in the order of its items, so they need no numbers: they tell of the items
that follow those told of before.

What must survive the process is in shared memory. A lane counts its items, and while a call runs, `running` has the count
of its item. A process that dies leaves that number: this item fails, and the host gives the others to somebody else.

Results are sent together, since a message costs more than a short call. They wait at most FLUSH_SECONDS: a thread sends
them if the call after them takes long.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any, NamedTuple

from goproc import _logs
from goproc._data import turns
from goproc._goroutine import Goexit, go
from goproc._pickling import failure
from goproc._public import public
from goproc._sched import scheduler
from goproc.errors import Cancelled, OutOfSharedMemory, PickleError, TaskTimeout
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goproc._blocking import Threads
    from goproc._channel import Chan
    from goproc._sched.g import G
    from goproc.rate import Limiter
    from goproc.sync import Atomic

FLUSH_SECONDS = 0.002  # the age of a result at which a lane sends it, between two calls
_LOOK_SECONDS = (
    0.0023  # how often a thread looks for results that wait for a call to end: they are sent within 5 ms
)
GRACE_SECONDS = 1.0  # between the end of a call's time and the end of its process
_EAGER = 16  # the first results of a lane are sent one by one

DONE, FAILED, WAKE, BROKEN = range(4)  # kinds of messages; the last two are of the host itself
ENDED, INIT_FAILED, EXIT_FAILED, RECYCLED = range(4)  # how a station ended


class Job(NamedTuple):
    """What a station is told of its map.

    Attributes:
        f: the function of the map.
        starred: items are tuples of arguments.
        results: where lanes send.
        init: called before the first item, or None.
        exit: called with the state at the end, or None.
        limit: asked before each call, or None.
        timeout: seconds for a call, or None.
        threads: calls at once, each in a thread; 0: in goroutines.
        recycle: items after which the station ends, or None.
        memory: bytes of the process beyond which the station ends, or None.
        named: items come with their names in a checkpoint, and their results are sent with them.
    """

    f: Callable[..., Any]
    starred: bool
    results: Chan[Any]
    init: Callable[[], Any] | None
    exit: Callable[[Any], object] | None
    limit: Limiter | None
    timeout: float | None
    threads: int
    recycle: int | None
    memory: int | None
    named: bool = False


class Way(NamedTuple):
    """What a lane shares with the host.

    Attributes:
        number: of the lane.
        chunks: numbers of chunks, with their items.
        running: the count of the item whose call runs, from 1; 0 if none does.
        began: when that call began, in microseconds of the monotonic clock.
    """

    number: int
    chunks: Chan[tuple[int, list[Any]]]
    running: Atomic
    began: Atomic


class Done(NamedTuple):
    """The next items of a lane are finished.

    Attributes:
        values: their results.
        work: seconds in which they ran.
        wait: seconds in which the lane had no item.
        slowest: the position of the slowest in `values`; -1: it was sent before.
        seconds: that this one took.
    """

    kind: int
    lane: int
    values: list[Any]
    work: float
    wait: float
    slowest: int
    seconds: float


class Failed(NamedTuple):
    """The next item of a lane has failed: `error` is its exception, packed."""

    kind: int
    lane: int
    error: tuple[Any, ...]
    seconds: float
    wait: float


class End(NamedTuple):
    """How a station ended: what its goroutine returns."""

    how: int
    error: tuple[Any, ...] | None = None


def serve(job: Job, ways: list[Way]) -> End:
    """Serve a map in this process until its channels are closed. The body of the station's goroutine."""
    return _Station(job, ways).run()


# -- state of the process for the calls of a map -------------------------------------------------------------

_states: dict[object, Any] = {}  # by goroutine, or by the number of a thread


@public
def worker_state() -> Any:
    """Return what ``init`` of the map has returned in this process. For the function of the map and what it calls.

    Raises:
        RuntimeError: the caller is not called by a map that has init=.
    """
    here = scheduler.current if _core.on_scheduler_thread() else threading.get_ident()
    try:
        return _states[here]
    except KeyError:
        raise RuntimeError(
            "worker_state() is what init= of a pmap has returned: here runs no call of such a map"
        ) from None


# -- the station ---------------------------------------------------------------------------------------------


class _Station:
    """One process's part of a map."""

    def __init__(self, job: Job, ways: list[Way]) -> None:
        self.job = job
        self.lanes = [_Lane(self, way) for way in ways]
        self.state: Any = None
        self.items = 0  # that have begun here, where that counts
        self.simple = not (job.threads or job.named) and job.timeout is job.recycle is job.memory is None
        self.ends = False  # no further item begins
        self.threads: Threads | None = None

    def run(self) -> End:
        scheduler.current.whole = True
        if self.job.init is not None and (error := self._begin()) is not None:
            return End(INIT_FAILED, error)
        try:
            self._run_lanes()
        finally:
            error = self._leave()
        if error is not None:
            return End(EXIT_FAILED, error)
        return End(RECYCLED if self.ends else ENDED)

    def _begin(self) -> tuple[Any, ...] | None:
        """Call init(). Return its exception, packed."""
        assert self.job.init is not None
        turn = turns.begin(self)
        self.lanes[0].way.running.store(-1)
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

            self.threads = Threads(self.job.threads)
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
        goroutines = [go.local(lane.run) for lane in self.lanes]
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
        try:
            self.job.exit(self.state)
        except BaseException as exc:
            return failure.pack(exc)
        finally:
            scheduler.shield(-1)
        return None

    def may_begin(self) -> bool:
        """Return True if another item may begin in this process."""
        job = self.job
        if self.ends:
            return False
        full = job.recycle is not None and self.items >= job.recycle
        self.ends = full or (job.memory is not None and self.items > 0 and _resident() > job.memory)
        return not self.ends

    def watch_time(self) -> None:
        """Have the process killed when the call whose time ends first has not ended a second later."""
        ends = [lane.ends_at for lane in self.lanes if lane.ends_at]
        _core.kill_at(min(ends) + GRACE_SECONDS if ends else 0.0)


def _resident() -> int:
    """Return the bytes of memory of this process that are in use, without what it shares with its relatives."""
    with open("/proc/self/statm", "rb", buffering=0) as file:
        _, resident, shared, *_ = file.read(128).split()
    return (int(resident) - int(shared)) * _PAGE


_PAGE = 4096


class _Lane:
    """Calls the function for one item after the other."""

    def __init__(self, station: _Station, way: Way) -> None:
        self.station = station
        self.way = way
        self.count = 0  # items that have begun
        self.sent = 0  # of these, the ones that the host was told of
        self.out: list[Any] = []  # results that are not sent
        self.oldest = 0.0  # when the first of them was there
        self.work = self.wait = self.seconds = 0.0
        self.slowest = 0
        self.ends_at = 0.0  # when the time of the running call ends; 0: no call runs, or there is no limit
        self.cancel: BaseException | None = None  # what interrupts the running call when its time ends
        self.sending = threading.Lock()
        self.flusher: _Flusher | None = None
        self.g: G = scheduler.current

    def run(self) -> None:
        """Serve chunks until the channel is closed, or the station ends."""
        here = self.g = scheduler.current
        here.whole = True
        if self.station.job.init is not None:
            _states[here] = self.station.state
        try:
            self._serve()
        finally:
            _states.pop(here, None)
            if self.flusher is not None:
                self.flusher.end()

    def _serve(self) -> None:
        chunks = self.way.chunks
        while True:
            since = monotonic()
            chunk, there = chunks.recv_ok()
            if not there or chunk is None:
                return
            items = chunk[1]
            self.wait += monotonic() - since
            if len(items) > 1 and self.flusher is None:
                self.flusher = _Flusher(self)
            if self.flusher is not None:
                self.flusher.begin()
            try:
                if not self._run(items):
                    return
            finally:
                self.way.running.store(0)
                if self.station.job.timeout is not None:
                    self.ends_at = 0.0
                    self.station.watch_time()
                if self.flusher is not None:
                    self.flusher.pause()

    def _run(self, items: list[Any]) -> bool:
        """Run a chunk. Return False if no further item may begin."""
        if self.station.job.limit is not None:
            return all(self._run_part([item]) for item in self._paced(items))
        return self._run_part(items)

    def _paced(self, items: list[Any]) -> Iterator[Any]:
        """Yield each item when the limiter lets it."""
        limit = self.station.job.limit
        assert limit is not None
        for item in items:
            if self.station.ends:
                return
            limit.wait()
            yield item

    def _run_part(self, items: list[Any]) -> bool:
        """Run items in one turn of the map in this process. Return False if no further item may begin."""
        turn = turns.begin(self.station)
        try:
            if self.station.simple:
                self._run_at_once(items)
                return True
            for item in items:
                if not self.station.may_begin():
                    return False
                self._run_item(item)
            return True
        finally:
            turns.end(turn)
            self.flush()

    def _run_at_once(self, items: list[Any]) -> None:
        """Run items of a map without options that count for each item: the core makes the calls."""
        f, starred, out = self.station.job.f, self.station.job.starred, self.out
        running, began = self.way.running, self.way.began
        at = 0
        while at < len(items):
            most = at + 1 if self.sent < _EAGER else len(items)
            done, work, slowest, seconds, error, last = _core.map_calls(
                f, starred, items, at, most, out, running, began, self.count, FLUSH_SECONDS
            )
            if done:
                self._note(work, self.count + slowest, seconds)
            at += done
            self.count += done
            self.flush()
            if error is not None:
                if isinstance(error, Cancelled) and self.g.cancelled:
                    raise error
                self.count += 1
                at += 1
                self._fail(error, last)
                del error  # its traceback holds this frame

    def _run_item(self, item: Any) -> None:
        name = None
        if self.station.job.named:
            name, item = item
        self.station.items += 1
        self.count += 1
        self.way.running.store(self.count)
        began = monotonic()
        self.way.began.store(int(began * 1e6))
        if self.station.job.timeout is not None:
            self._limit(began)
        try:
            value = self._call(item)
            error = None
        except BaseException as exc:
            error = exc
        finally:
            seconds = monotonic() - began
        if self.station.job.timeout is not None:
            error = self._over(error, seconds)
        if error is not None:
            if isinstance(error, Cancelled) and self.g.cancelled:
                raise error
            self._fail(error, seconds)
            return
        self._keep(value if name is None else (name, value), seconds)

    def _call(self, item: Any) -> Any:
        job, threads = self.station.job, self.station.threads
        if threads is not None:
            return threads.run(self._call_in_thread, item)
        return job.f(*item) if job.starred else job.f(item)

    def _call_in_thread(self, item: Any) -> Any:
        job, here = self.station.job, threading.get_ident()
        turns.threads.add(here)
        if job.init is not None:
            _states[here] = self.station.state
        try:
            return job.f(*item) if job.starred else job.f(item)
        finally:
            turns.threads.discard(here)
            _states.pop(here, None)

    # -- time limits

    def _limit(self, began: float) -> None:
        """Have the call that begins now interrupted where it blocks, and its process killed, when its time is over."""
        timeout = self.station.job.timeout
        assert timeout is not None
        self.ends_at = began + timeout
        self.cancel = None
        if _core.proc() != 0:
            self.station.watch_time()
        if self.station.threads is None:
            self.alarm = scheduler.call_at(self.ends_at, self._interrupt)

    def _interrupt(self) -> None:
        self.cancel = Cancelled()
        scheduler.interrupt(self.g, self.cancel)

    def _over(self, error: BaseException | None, seconds: float) -> BaseException | None:
        """Return the exception of a call that has ended: TaskTimeout if it took too long."""
        timeout = self.station.job.timeout
        assert timeout is not None
        self.ends_at = 0.0
        if self.station.threads is None:
            self.alarm.cancel()
            if self.cancel is not None and self.g.interrupt is self.cancel:
                self.g.interrupt = None
        if seconds <= timeout or (isinstance(error, Cancelled) and self.g.cancelled):
            return error
        late = TaskTimeout(f"the call took longer than timeout={timeout:g} s")
        if error is not None and error is not self.cancel:
            late.__cause__ = error
        return late.with_traceback(error.__traceback__ if error is not None else None)

    # -- what is sent

    def _keep(self, value: Any, seconds: float) -> None:
        """Note a result, and send those that are there if they are due."""
        if not self.out:
            self.oldest = monotonic()
        self.out.append(value)
        self._note(seconds, self.count - 1, seconds)
        if self.sent < _EAGER or monotonic() - self.oldest >= FLUSH_SECONDS:
            self.flush()

    def _note(self, work: float, slowest: int, seconds: float) -> None:
        """Note the seconds of some items, and which of them took longest: its count, and its seconds."""
        self.work += work
        if seconds >= self.seconds:
            self.seconds = seconds
            self.slowest = slowest

    def flush(self) -> None:
        """Send the results that are there, after the script has handled what their calls have logged."""
        _logs.settle()
        with self.sending:
            values = self.out[:]
            if not values:
                return
            del self.out[: len(values)]
            position = self.slowest - self.sent
            message = (
                DONE,
                self.way.number,
                values,
                self.work,
                self.wait,
                position if 0 <= position < len(values) else -1,
                self.seconds,
            )
            self.work = self.wait = self.seconds = 0.0
            self.sent += len(values)
            self._send(message)

    def _send(self, message: tuple[Any, ...]) -> None:
        scheduler_shielded = _core.on_scheduler_thread()
        if scheduler_shielded:
            scheduler.shield(1)
        try:
            self.station.job.results.send(message)
        except (PickleError, OutOfSharedMemory) as error:
            self._send_each(Done(*message), error)
        finally:
            if scheduler_shielded:
                scheduler.shield(-1)

    def _send_each(self, done: Done, error: BaseException) -> None:
        """Send results one by one: one of them cannot be sent, which is the failure of its item."""
        results, share = self.station.job.results, done.work / len(done.values)
        wait = done.wait
        for position, value in enumerate(done.values):
            seconds = done.seconds if position == done.slowest else share
            try:
                results.send((DONE, done.lane, [value], share, wait, 0, seconds))
            except (PickleError, OutOfSharedMemory) as exc:
                value = value[1] if self.station.job.named else value
                told = failure.pack(_about_result(value, exc))
                results.send((FAILED, done.lane, told, seconds, wait))
            wait = 0.0

    def _fail(self, error: BaseException, seconds: float) -> None:
        self.flush()
        _logs.settle()
        if isinstance(error, Goexit):
            error = RuntimeError("the call ended its goroutine by goexit()")
        message = FAILED, self.way.number, failure.pack(error), seconds, self.wait
        self.wait = 0.0
        self.sent += 1
        scheduler.shield(1)
        try:
            self.station.job.results.send(message)
        except OutOfSharedMemory:
            brief = failure.pack_briefly(error)
            self.station.job.results.send((FAILED, self.way.number, brief, seconds, 0.0))
        finally:
            scheduler.shield(-1)


def _about_result(value: Any, error: PickleError | OutOfSharedMemory) -> BaseException:
    """Return the exception for a result that cannot be sent: it names the path to the part that is to blame."""
    if isinstance(error, OutOfSharedMemory):
        return OutOfSharedMemory(f"the result: {error}")
    from goproc._pickling.diagnose import explain

    return explain(value, error.__cause__ or error, "the result")


class _Flusher:
    """A thread that sends results which wait for a long call to end."""

    def __init__(self, lane: _Lane) -> None:
        self._lane = lane
        self._busy = threading.Event()
        self._over = False
        threading.Thread(target=self._run, name="goproc-results", daemon=True).start()

    def begin(self) -> None:
        self._busy.set()

    def pause(self) -> None:
        self._busy.clear()

    def end(self) -> None:
        self._over = True
        self._busy.set()

    def _run(self) -> None:
        from time import sleep

        lane = self._lane
        while self._busy.wait() and not self._over:
            before = lane.sent if lane.out else -1
            sleep(_LOOK_SECONDS)
            if lane.out and lane.sent == before and _core.attached():
                lane.flush()
