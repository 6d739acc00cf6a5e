"""A lane of a station: calls the function of a map for one item after the other, and sends the results."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from greenlet import GreenletExit

from goproc import _logs
from goproc._data import states, turns
from goproc._data.flusher import FLUSH_SECONDS, Flusher
from goproc._data.job import DONE, FAILED, UNREADABLE, Done, Way
from goproc._data.lane_parts import PartSender, await_credit
from goproc._data.results import unreadable
from goproc._life import Goexit
from goproc._pickling import failure
from goproc._pickling.salvage import Parts, path_of
from goproc._sched import scheduler, timers
from goproc.errors import (
    Cancelled,
    ChanClosed,
    OutOfSharedMemory,
    PickleError,
    RuntimeStopped,
    TaskTimeout,
)
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from goproc._data.station import Station
    from goproc._sched.g import G

_EAGER = 16  # the first results of a lane are sent one by one


class _Over(BaseException):
    """Raised where a lane waits for a chunk: its station ends."""


class Lane:
    """Calls the function for one item after the other."""

    def __init__(self, station: Station, way: Way) -> None:
        self.station = station
        self.way = way
        self.count = 0  # items that have begun
        self.sent = 0  # of these, the items whose results were sent to the host
        self.out: list[Any] = []  # results that are not sent
        self.due = 0.0  # when they are to be sent
        self.work = self.wait = self.seconds = 0.0
        self.slowest = 0
        self.over: _Over | None = None  # what ends the wait for a chunk; None: there is no such wait
        self.ends_at = 0.0  # when the time of the running call ends; 0: no call runs, or there is no limit
        self.cancel: BaseException | None = None  # what interrupts the running call when its time ends
        self.sending = threading.Lock()
        self.flusher: Flusher | None = None
        self.parts = PartSender(self) if station.job.parted else None
        self.turn: turns.Turn | None = None
        self.paused = 0.0  # seconds of the running call in which it had to wait for the readers of its values
        self.g: G = scheduler.current

    def run(self) -> None:
        """Serve chunks until the channel is closed, or the station ends."""
        here = self.g = scheduler.current
        here.whole = True
        self.way.goroutine.store(here.id)
        if self.station.job.init is not None:
            states.enter(here, self.station.state)
        try:
            self._serve()
        finally:
            states.leave(here)
            if self.flusher is not None:
                self.flusher.end()

    def release(self) -> None:
        """The station ends: do not wait for a chunk any more. From a goroutine of this process."""
        if self.over is not None:
            scheduler.interrupt(self.g, self.over)

    def _serve(self) -> None:
        chunks = self.way.chunks
        while True:
            since = monotonic()
            if self.station.ends:
                return
            self.over = _Over()
            try:
                chunk, there = chunks.recv_ok()
            except _Over:
                return
            finally:
                if self.g.interrupt is self.over:
                    self.g.interrupt = None
                self.over = None
            if not there or chunk is None:
                return
            items = chunk[1]
            if type(items) is not list and (items := self._opened(items)) is None:
                continue
            if chunks.closed:  # the map has ended while this process imported the modules of the items
                return
            self.wait += monotonic() - since
            if (len(items) > 1 or self.parts is not None) and self.flusher is None:
                self.flusher = Flusher(self)
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

    def _opened(self, sent: Any) -> Any:
        """Return the items in a letter; None if they cannot be read: the host parts the chunk, or fails its item."""
        try:
            return sent.try_recv()[0]
        except RuntimeStopped:
            raise
        except Exception as exc:
            self.flush()
            # The item is in the list of a chunk, and there in a pair with its name in a checkpoint.
            path = path_of(exc)[2 if self.station.job.named else 1 :]
            error = unreadable("the item", exc, "the worker", path)
            self.send((UNREADABLE, self.way.number, failure.pack(error)))
        return None

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
        self.turn = turns.begin(self.station)
        try:
            if self.station.simple:
                self._run_at_once(items)
                return True
            for item in items:
                if self.way.chunks.closed or not self.station.may_begin():
                    return False
                self._run_item(item)
            return True
        finally:
            assert self.turn is not None
            turns.end(self.turn)
            self.flush()

    def _run_at_once(self, items: list[Any]) -> None:
        """Run items of a map without options that count for each item: the core makes the calls."""
        f, starred, out = self.station.job.f, self.station.job.starred, self.out
        running, began = self.way.running, self.way.began
        at = 0
        while at < len(items) and not self.way.chunks.closed:
            most = at + 1 if self.sent < _EAGER else len(items)
            self.due = monotonic() + FLUSH_SECONDS
            done, work, slowest, seconds, error, last = _core.map_calls(
                f, starred, items, at, most, out, running, began, self.count, FLUSH_SECONDS
            )
            if done:
                self._note(work, self.count + slowest, seconds)
            at += done
            self.count += done
            self.flush()
            if error is not None:
                if self._is_cancelled(error):
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
        self.paused = 0.0
        if self.station.job.timeout is not None:
            self._limit(began)
        try:
            value = self._call(item)
            error = None
        except BaseException as exc:
            error = exc
        finally:
            seconds = monotonic() - began - self.paused
        if self.station.job.timeout is not None:
            error = self._over(error, seconds)
        if error is not None:
            if self._is_cancelled(error):
                raise error
            self._fail(error, seconds)
            return
        self._keep(value if name is None else (name, value), seconds)

    def _call(self, item: Any) -> Any:
        threads = self.station.threads
        if threads is not None:
            return threads.run(self._call_in_thread, item)
        return self._result(item)

    def _result(self, item: Any) -> Any:
        """Call the function. Return its result; nothing if that is sent in parts."""
        job = self.station.job
        result = job.f(*item) if job.starred else job.f(item)
        if self.parts is None:
            return result
        self.parts.hand_on(result)
        return ()

    def _call_in_thread(self, item: Any) -> Any:
        job, here = self.station.job, threading.get_ident()
        turns.threads.add(here)
        if job.init is not None:
            states.enter(here, self.station.state)
        try:
            return self._result(item)
        finally:
            turns.threads.discard(here)
            states.leave(here)

    # -- time limits

    def _limit(self, began: float) -> None:
        """Have the call that begins now interrupted where it blocks, and its process killed, when its time is over."""
        timeout = self.station.job.timeout
        assert timeout is not None
        self.cancel = None
        self._start_clock(began + timeout)

    def await_credit(self) -> None:
        """Wait until a part of a result may be sent. The time of the call stands still."""
        limited, since = self.ends_at, monotonic()
        if limited:
            self._stop_clock()
        try:
            await_credit(self)
        finally:
            waited = monotonic() - since
            self.paused += waited
            self.way.began.add(int(waited * 1e6))
        if limited:
            self._start_clock(limited + waited)

    def _stop_clock(self) -> None:
        self.ends_at = 0.0
        self.station.watch_time()
        if self.station.threads is None:
            self.alarm.cancel()

    def _start_clock(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.station.watch_time()
        if self.station.threads is None:
            self.alarm = timers.call_at(ends_at, self._interrupt)

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
        if seconds <= timeout or self._is_cancelled(error):
            return error
        late = TaskTimeout(f"the call took longer than timeout={timeout:g} s")
        if error is not None and error is not self.cancel:
            late.__cause__ = error
        return late.with_traceback(error.__traceback__ if error is not None else None)

    # -- what is sent

    def _keep(self, value: Any, seconds: float) -> None:
        """Note a result, and send those that are there if they are due."""
        if not self.out:
            self.due = monotonic() + FLUSH_SECONDS
        self.out.append(value)
        self._note(seconds, self.count - 1, seconds)
        if self.sent < _EAGER or monotonic() >= self.due:
            self.flush()

    def _note(self, work: float, slowest: int, seconds: float) -> None:
        """Note the seconds of some items, and which of them took longest: its count, and its seconds."""
        self.work += work
        if seconds >= self.seconds:
            self.seconds = seconds
            self.slowest = slowest

    def flush(self) -> None:
        """Send the results that are there, after the script has handled what their calls have logged."""
        with self.sending:
            self.flush_now()

    def flush_now(self) -> None:
        """As flush(). The caller has `sending`."""
        values = self.out[:]
        if not values:
            return
        del self.out[: len(values)]
        position = self.slowest - self.sent
        done = Done(
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
        _logs.flush()
        self._send_done(done)

    def _is_cancelled(self, error: BaseException | None) -> bool:
        return isinstance(error, Cancelled) and self.g.cancelled

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message to the host."""
        scheduler_shielded = _core.on_scheduler_thread()
        if scheduler_shielded:
            scheduler.shield(1)
        try:
            self.station.job.results.send(message)
        except ChanClosed:
            raise Cancelled from None  # the map was dropped
        finally:
            if scheduler_shielded:
                scheduler.shield(-1)

    def _try_to_send_done(self, done: Done) -> BaseException | None:
        """Send results. Return the exception if one of them cannot be sent."""
        values = done.values if _core.all_readable(done.values) else Parts(done.values)
        return self.try_to_send((*done[:2], values, *done[3:]))

    def try_to_send(self, message: tuple[Any, ...]) -> BaseException | None:
        """Send a message to the host. Return the exception if a value in it cannot be sent."""
        try:
            self.send(message)
        except (PickleError, MemoryError) as error:
            return error
        except (Exception, Cancelled, GreenletExit):  # of the runtime, or of this goroutine
            raise
        except BaseException as error:  # raised by a method of a value
            return error
        return None

    def _send_done(self, done: Done) -> None:
        """Send results. One that cannot be sent is the failure of its item.

        Results with such a one among them are sent in halves: so the others need few messages.
        """
        error = self._try_to_send_done(done)
        if error is None:
            return
        n = len(done.values)
        if n > 1:
            for start, stop in ((0, n // 2), (n // 2, n)):
                self._send_done(_part_of(done, start, stop))
            return
        from goproc._data.blame import about_result

        value = done.values[0][1] if self.station.job.named else done.values[0]
        seconds = done.seconds if done.slowest == 0 else done.work
        self.send((FAILED, done.lane, failure.pack(about_result(value, error)), seconds, done.wait))

    def _fail(self, error: BaseException, seconds: float) -> None:
        self.flush()
        _logs.flush()
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
        except ChanClosed:
            raise Cancelled from None
        finally:
            scheduler.shield(-1)


def _part_of(done: Done, start: int, stop: int) -> Done:
    """Return the message for some of the results."""
    slowest = done.slowest - start if start <= done.slowest < stop else -1
    return done._replace(
        values=done.values[start:stop],
        work=done.work * (stop - start) / len(done.values),
        wait=0.0 if start else done.wait,
        slowest=slowest,
        seconds=done.seconds if slowest >= 0 else 0.0,
    )
