"""The host's side of an Executor: its runners, its futures, and the thread that watches both."""

from __future__ import annotations

import itertools
import signal
import threading
import weakref
from collections import deque
from time import monotonic
from typing import Any, NamedTuple

from goproc import _runtime
from goproc._channel import chan
from goproc._executor import processes, runner
from goproc._executor.future import CallFuture, End
from goproc._executor.runners import Runners
from goproc._goroutine import Goroutine
from goproc._pickling.calls import pack_call
from goproc._proc import host
from goproc._sched import waits
from goproc._spawn import closed_call
from goproc.errors import Canceled, ChanClosed, OutOfSharedMemory, PickleError, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST = _core.MAX_PROCS - 1  # workers
_QUEUED = 16_384  # calls that are in shared memory and have not begun, at most
_FULL = 0.5  # part of the shared memory that calls fill ahead: results need some, too
_NAP = 0.002  # seconds between two looks whether calls that did not fit into shared memory do now
_CAUSE_SECONDS = 2.0  # seconds in which it is known how a process died, at most

_numbers = itertools.count(1)
_live: weakref.WeakSet[Pool] = weakref.WeakSet()
exiting = False  # the interpreter ends: nothing is submitted any more


class Setup(NamedTuple):
    """The arguments of a pool; see Executor."""

    workers: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    calls_at_most: int | None
    pending_at_most: int | None


class Waiting(NamedTuple):
    """A call that did not fit into shared memory when it was submitted."""

    future: CallFuture[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Pool:
    """The state that an Executor, its futures and its watcher share. It does not refer to the Executor."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.name = f"Executor-{next(_numbers)}"
        self.broken = ""  # why all calls have been lost
        self._why = ""  # the same, from before they have
        self.closed = False
        self._open = False  # the pool has begun, and nothing has ended it
        self.size = 0
        self.runners = Runners(setup, self.name)
        self.thread: threading.Thread | None = None
        self.waiting: deque[Waiting] = deque()
        self.futures: dict[int, weakref.ref[CallFuture[Any]]] = {}  # futures with an unread end
        self._dropped = 0  # futures that were dropped with an unread end, and are not in the dict any more
        self._sweep_at = 1024
        self._watch: Any = None
        self._tasks: Any = None
        self._ended: Any = None  # a promise, kept when the watcher ends
        self._slots: Any = None
        self._lock = threading.Lock()
        # One for each submit() under way, for which the channel of calls stays open. Threads append and pop.
        self._entered: list[None] = []

    # -- submitting ------------------------------------------------------------------------------------------

    def submit(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        callback: Callable[[Any], object] | None = None,
    ) -> CallFuture[Any]:
        """Have a runner make a call; see Executor.submit().

        The callback is added before the call can have ended, so that the watcher makes it, never the caller.
        """
        if not self._open:
            self._begin()
        if self._slots is not None:
            self._take_slot()
        self._entered.append(None)
        try:
            if not self._open:
                self._refuse()
            return self._add(f, args, kwargs, callback)
        finally:
            self._entered.pop()
            if not self._open:
                self._ring()  # the watcher waits for this

    def _add(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        callback: Callable[[Any], object] | None,
    ) -> CallFuture[Any]:
        """Make the future of a call, and send the call or note it as waiting."""
        future: CallFuture[Any] = _core.promise_queued(CallFuture)
        future._pool = self
        futures = self.futures
        if id(future) in futures:  # one that was dropped has left its place to this one
            self._dropped += 1
        futures[id(future)] = weakref.ref(future)
        if len(futures) > self._sweep_at:
            self._sweep()
        if callback is not None:
            future.add_done_callback(callback)
        if self.waiting or not self._send(future, f, args, kwargs):
            self.waiting.append(Waiting(future, f, args, kwargs))
            if len(self.waiting) == 1:
                self._ring()
            if self._why:  # the pool has been broken meanwhile
                _core.promise_break(future)
        if (
            (started := self.runners.started) < self.size
            and len(futures) + self._dropped > started
            and (len(self._tasks) or not started)
        ):
            self._start_runner()  # none is idle, and there are more calls than runners
        return future

    def _begin(self) -> None:
        """Start the runners and the watcher at the first call, or raise the reason why the pool takes none."""
        while not self._lock.acquire(blocking=False):  # a goroutine of this thread may have it
            waits.yield_now()
        try:
            self._check_open()
            if self._tasks is None:
                self._make()
                if self.closed:  # by another thread
                    self._open = False
                    self._check_open()
        finally:
            self._lock.release()

    def _check_open(self) -> None:
        if self.broken or self._why:
            raise self.why_broken()
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def _refuse(self) -> None:
        """Raise the reason why the pool takes no more calls; another thread has closed or broken the pool meanwhile."""
        try:
            self._check_open()
        except BaseException:
            self.give_slot()
            raise

    def usable(self) -> bool:
        """Return True if the pool takes calls."""
        if self.broken or self.closed or self.runners.why_ended():
            return False  # the watcher may not have seen the end of a runner yet
        try:
            return self._ended is None or self._ended._state == _core.G_RUNNING
        except RuntimeStopped:
            return False

    def _make(self) -> None:
        from goproc import context
        from goproc.sync import Semaphore

        wanted = self.setup.workers
        if not _core.attached():
            host.ensure(wanted or 0)
        self.size = min(wanted or MOST, max(1, _runtime.procs()))
        if self.setup.pending_at_most is not None:
            self._slots = Semaphore(self.setup.pending_at_most)
        self._ctx, self._cancel_ctx = context.with_cancel(context.background())
        self._watch = _core.Watch()
        self._ended = _core.promise_new(Goroutine)
        self._hang_bell()
        tasks = chan(_QUEUED)
        self.runners.begin(tasks.rx, self._slots)
        self._tasks = tasks  # not later: the watcher ends at once if another thread closes the pool meanwhile
        self.thread = threading.Thread(target=self._watch_over, name=f"goproc-{self.name}", daemon=True)
        self.thread.start()
        _live.add(self)
        self._open = True

    def _send(
        self, future: CallFuture[Any], f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Put a call into the channel, or fail it; return False if there is no room."""
        try:
            if _core.memory_use() > _FULL and self._any_in_flight():
                return False
            call = closed_call(pack_call(f, args, kwargs))
            return self._tasks.try_send((future, call))  # type: ignore[no-any-return]
        except PickleError as error:
            from goproc._pickling.diagnose import explain_call

            future.fail(_core.as_pickling(explain_call, error, f, args, kwargs))
            self.give_slot()
        except OutOfSharedMemory as error:
            if self._any_in_flight():
                return False
            from goproc._pickling.diagnose import explain_memory

            future.fail(explain_memory(error, f, args, kwargs))
            self.give_slot()
        except ChanClosed:
            _core.promise_break(future)  # the pool has been broken meanwhile
        return True

    def _any_in_flight(self) -> bool:
        """Return True if a runner has a call, or will take one: room in shared memory comes with its end."""
        idle, _ = _core.waiting(self._tasks)
        return len(self._tasks) > 0 or len(self.runners.procs) > idle

    def _take_slot(self) -> None:
        try:
            self._slots.acquire(1, None, self._ctx)
        except Canceled:
            self._check_open()
            raise

    def give_slot(self) -> None:
        """Free the slot of a call that has ended without having been made."""
        if self._slots is not None:
            self._slots.release()

    # -- futures ---------------------------------------------------------------------------------------------

    def forget(self, future: CallFuture[Any]) -> None:
        """Forget the future of a call, as its end was read."""
        self.futures.pop(id(future), None)

    def watch(self, future: CallFuture[Any]) -> bool:
        """Have the watcher tell of the end of a call; return False if it has ended already."""
        try:
            return self._watch.add(future)  # type: ignore[no-any-return]
        except RuntimeStopped:
            return False

    def unread(self) -> list[CallFuture[Any]]:
        """Return the futures with an unread end, in the order of submission."""
        found = [ref() for ref in list(self.futures.values())]
        return [future for future in found if future is not None and future._end is None]

    def _sweep(self) -> None:
        for key, ref in list(self.futures.items()):
            if ref() is None and self.futures.get(key) is ref:
                del self.futures[key]
                self._dropped += 1
        self._sweep_at = max(1024, 2 * len(self.futures))

    def why_broken(self) -> BaseException:
        """Return the exception of a call that the broken pool has lost.

        A call that was lost with its process can be read before the watcher has seen the end of the runner there. The
        runner's handle tells how the process died; for that this waits at most _CAUSE_SECONDS. From then on the pool takes
        no calls, also where the watcher is late.
        """
        from goproc._executor.broken import BrokenExecutor

        until = monotonic() + _CAUSE_SECONDS
        while not (why := self._why or self.runners.why_ended()) and monotonic() < until:
            waits.sleep(0.001)
        why = why or "a worker of the Executor died"
        self.broken, self._open = self.broken or why, False
        return BrokenExecutor(why)

    # -- runners ---------------------------------------------------------------------------------------------

    def _start_runner(self) -> None:
        handle = self.runners.start()
        if not self._watch.add(handle):
            self._on_runner(handle)

    def processes(self) -> dict[int, int]:
        """Return the process ids of the runners that have begun, with the numbers of their processes."""
        return self.runners.pids()

    def _on_runner(self, handle: Any) -> None:
        proc = self.runners.procs[handle]
        processes.load[proc] -= 1
        try:
            how = handle.result(0)
        except BaseException as exc:
            self.break_(processes.reason(exc, proc))
            how = runner.ENDED
        del self.runners.procs[handle]  # not before the pool is broken: see why_broken()
        if how == runner.USED_UP and not self.broken:
            self._start_runner()

    # -- the watcher -----------------------------------------------------------------------------------------

    def _hang_bell(self) -> None:
        self._bell = _core.promise_new(Goroutine)
        self._watch.add(self._bell)

    def _ring(self) -> None:
        """Have the watcher look around."""
        try:
            _core.promise_set(self._bell, False, None)
        except RuntimeError:
            pass  # it rings already, or the runtime has stopped

    def _watch_over(self) -> None:
        """Run the watcher's thread, until the pool is closed and its runners have ended."""
        try:
            while self.runners.procs or self._entered or not (self.closed or self.broken):
                self._watch.wait(self._pause())
                self._look()
            self._look()
            _core.promise_set(self._ended, False, None)
        except RuntimeStopped as stopped:
            self._end_stopped(stopped)

    def _pause(self) -> float | None:
        return _NAP if self.waiting else None

    def _look(self) -> None:
        while (ended := self._watch.take()) is not None:
            if isinstance(ended, CallFuture):
                ended.tell()
            elif ended is self._bell:
                self._hang_bell()
            elif ended in self.runners.procs:
                self._on_runner(ended)
        if self.waiting and len(self._tasks) <= _QUEUED // 2:
            self._feed()
        if not (self.closed or self.broken) or self.waiting or self._entered:
            return
        if self.closed:
            self._close_tasks()
        if not len(self._tasks):
            self.runners.leave_waiting()

    def _feed(self) -> None:
        """Send the calls that have waited for room in shared memory."""
        while self.waiting and (self.waiting[0].future._end is not None or self._send(*self.waiting[0])):
            self.waiting.popleft()

    def _end_stopped(self, stopped: RuntimeStopped) -> None:
        """Fail the calls that are lost with the stopped runtime."""
        self.broken = self._why = str(stopped)
        self._open = False
        self.waiting.clear()
        self.runners.procs.clear()
        for future in self.unread():
            future._end = End(None, stopped)
            if future._condition_made is not None:
                future.tell()

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self, cancel: bool = False) -> None:
        """Take no more calls; those that were submitted are made, unless they are to be cancelled."""
        self.closed, self._open = True, False
        if cancel:
            for future in reversed(self.unread()):  # the oldest may begin meanwhile
                future.cancel()
            self._cancel_dropped()
        if self._tasks is None:
            return
        if not self.waiting and not self._entered:
            self._close_tasks()
        self._ring()

    def _cancel_dropped(self) -> None:
        """Cancel the calls that have not begun and whose futures were dropped."""
        if self._tasks is None:
            return
        try:
            while (got := self._tasks.try_recv())[1]:
                promise, _ = got[0]
                if _core.promise_claim(promise):
                    self.give_slot()
        except (ChanClosed, RuntimeStopped):
            pass  # it is empty

    def _close_tasks(self) -> None:
        try:
            self._tasks.close()
        except (ChanClosed, RuntimeStopped):
            pass

    def wait(self) -> None:
        """Wait until all calls of a closed pool have ended, and its watcher with them."""
        if self.thread is None or self.thread is threading.current_thread():
            return
        try:
            self._ended._join()
        except RuntimeStopped:
            pass
        self.thread.join()

    def break_(self, why: str) -> None:
        """Lose all calls, as a worker has died. Calls that are alone on other workers end, too."""
        if not self._why:
            self._why = why
            self._end_runners(alone=True)
            self._lose()

    def kill(self, why: str, number: int) -> None:
        """Lose all calls; end those that run by a signal to their processes.

        Return when they have ended and the callbacks have been made: joblib starts its next Parallel then.
        """
        self.closed, self._open = True, False
        if self._tasks is not None and not self._why:
            self._why = why
            self._end_runners(number)
            self._lose()
            if self.thread is not threading.current_thread():
                processes.ends(self._ended, monotonic() + processes.GRACE)

    def _end_runners(self, number: int = signal.SIGKILL, alone: bool = False) -> None:
        """Cancel the runners, and end the processes of those that compute.

        Args:
            number: the signal.
            alone: True to spare a process in which other goroutines run; its call goes on, and its result stays unread.
        """
        self._open = False
        self._close_tasks()
        self._drop_queued()
        self.runners.end(number, alone)

    def _lose(self) -> None:
        self.broken, self._open = self._why, False
        self.waiting.clear()
        for future in self.unread():
            try:
                _core.promise_break(future)
            except RuntimeStopped:
                pass
        self._cancel_ctx()
        self._ring()

    def _drop_queued(self) -> None:
        try:
            while self._tasks.try_recv()[1]:
                pass
        except ChanClosed:
            pass  # it is empty


def finish_all() -> None:
    """Finish the submitted calls, as the interpreter ends."""
    global exiting
    exiting = True
    for pool in list(_live):
        pool.close()
    for pool in list(_live):
        pool.wait()


threading._register_atexit(finish_all)  # type: ignore[attr-defined]
