"""``blocking``: calls in threads, for goroutines that must not hold up their process.

A goroutine that calls into the system (a socket, a disk, a driver) keeps its process until the call returns. `blocking`
gives the call to a thread of the same process. The goroutine waits like in any other operation, and others run.

Threads are made as they are needed, up to a limit, and kept. An idle thread waits for a lock without a time-out, so
that it does not delay the report of a deadlock (goproc/shm/proc/threads.c). A thread that runs a call delays it.
"""

from __future__ import annotations

import os
import threading
from _queue import SimpleQueue
from _thread import get_ident
from contextvars import copy_context
from itertools import count
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from greenlet import getcurrent

from goproc._misuse import not_callable
from goproc._proc import forked, line_output
from goproc._public import public
from goproc._raised import set_traceback
from goproc._sched import scheduler, waits
from goproc._tracebacks import function_line
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from goproc._sched.g import G

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["LIMIT", "Threads", "blocking"]

LIMIT = 64  # threads of blocking() in one process

acting: dict[
    int, int
] = {}  # by the ident of a thread that runs a call, the number of the goroutine that waits for it

_numbers = count(1)
_pools: WeakSet[Threads] = WeakSet()


class _Job:
    """A call on its way through a thread.

    Attributes:
        context: the contextvars of the goroutine, copied.
        g: the goroutine, while it waits.
        done: the thread has returned from the call; the goroutine reads `value` and `error`.
        dropped: True if the outcome is not needed any more.
    """

    __slots__ = ("args", "context", "done", "dropped", "error", "f", "g", "id", "kwargs", "value")

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.f: Callable[..., Any] | None = f
        self.args = args
        self.kwargs = kwargs
        self.context: Context | None = copy_context()
        self.g: G | None = None
        self.id = scheduler.current.id
        self.done = self.dropped = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Make the call. In a thread."""
        acting[get_ident()] = self.id
        f, args, kwargs, context = self.f, self.args, self.kwargs, self.context
        self.f, self.args, self.kwargs, self.context = None, (), {}, None
        try:
            self.value = context.run(f, *args, **kwargs)  # type: ignore[union-attr, arg-type]
        except BaseException as exc:
            set_traceback(exc, exc.__traceback__.tb_next if exc.__traceback__ else None)  # without this frame
            self.error = exc
        del f, args, kwargs, context
        line_output.finish(getcurrent())
        del acting[get_ident()]
        self.done = True
        if self.dropped:
            self.value = self.error = None
        elif _core.attached():
            scheduler.post(self._tell)

    def _tell(self) -> None:
        if self.g is not None:
            waits.resume(self.g)

    def outcome(self) -> Any:
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        value, self.value = self.value, None
        return value


class Threads:
    """A pool of threads of this process in which goroutines make calls that block.

    Args:
        limit: how many threads at most. Further calls wait for their turn, in order.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._crew = _Crew()
        _pools.add(self)

    def run(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call in a thread. The calling goroutine waits, and others of its process run.

        Outside of goroutines the call is made in place: its thread is one of its own already.

        Raises:
            BaseException: the exception of the call, with the traceback of the thread.
            Cancelled, DeadlineExceeded: the goroutine is not to wait any longer. A call that has not begun is not made.
                One that has begun goes on, and its outcome is dropped.
        """
        if not callable(f):
            said = f"blocking: {type(f).__name__!r} object is not callable"
            raise not_callable(said, f, "use blocking(f, *args), not blocking(f(*args))")
        if forked.is_child:
            return f(*args, **kwargs)
        _core.ensure()
        if not _core.on_scheduler_thread() or scheduler.scheduling:
            return f(*args, **kwargs)
        _core.check_park()
        job = _Job(f, args, kwargs)
        del f, args, kwargs
        self._crew.give(job, self.limit)
        job.g = scheduler.current
        try:
            while not job.done:
                waits.pause("blocking call")
        except BaseException:
            job.dropped = True
            raise
        finally:
            job.g = None
        return job.outcome()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Have the threads end once they have made the calls that were given to them."""
        self._crew.dismiss()

    def forget(self) -> None:
        """Forget the threads in the child of a fork, which has none of them."""
        self._crew = _Crew()

    def __del__(self) -> None:
        self._crew.dismiss()


class _Crew:
    """The threads of a pool. They do not refer to the pool, so that a pool without references ends them."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards the rest
        self._size = 0
        self._busy = 0  # jobs that are queued or running
        self._dismissed = False

    def give(self, job: _Job, limit: int) -> None:
        with self._lock:
            if self._dismissed:
                raise RuntimeError("this pool of threads is closed")
            if self._busy >= self._size < limit:
                self._grow()
            self._busy += 1
        self._jobs.put(job)

    def _grow(self) -> None:
        name = f"goproc-blocking-{next(_numbers)}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except RuntimeError:  # no more threads are to be had
            if not self._size:
                raise
        else:
            self._size += 1

    def _serve(self) -> None:
        """Make calls, one after the other. The life of a thread."""
        while (job := self._jobs.get()) is not None:
            if not job.dropped:
                job.run()
            del job
            with self._lock:
                self._busy -= 1

    def dismiss(self) -> None:
        with self._lock:
            self._dismissed = True
            size, self._size = self._size, 0
        for _ in range(size):
            self._jobs.put(None)


_shared = Threads(LIMIT)


@public
def blocking(f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``f(*args, **kwargs)`` in a thread of this process, and wait for its result while other goroutines run.

    This is for calls that wait in the system or in a driver, unseen by goproc: a database, requests, a large file. The
    call shares memory with its goroutine, and nothing is copied; it has the goroutine's contextvars. It runs no faster
    than without: the Python code of one process takes turns.

    Args:
        f: the function, with its arguments. It may use operations of goproc as any thread may.

    Returns:
        The result of the call.

    Raises:
        BaseException: the exception of the call, with its traceback.
        Cancelled, DeadlineExceeded, KeyboardInterrupt: the wait of the goroutine was interrupted. A call that has begun
            cannot be stopped: it goes on in its thread, and its outcome is dropped. A call that has not begun is not
            made.

    At most 64 calls run at once in one process, others wait for their turn. A call that runs does not count as a
    deadlock.

    Cost: about 50 us.
    """
    with function_line:
        return _shared.run(f, *args, **kwargs)


def _after_fork() -> None:
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_after_fork)
