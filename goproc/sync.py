"""Synchronisation across processes, beside channels: Go's sync, its semaphore, and a barrier.

The operations are in the C core (goproc/shm/chan/sync.c); this file has their names in Python, and parts that need no
speed. Every object is a handle: its copies in other goroutines and processes refer to the same object. Every operation
that blocks takes ``timeout=`` in seconds and raises TimeoutError. A goroutine that blocks lets the others of its
process run.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from goproc._goroutine import Goroutine
from goproc._life import Goexit, bodies, open_call
from goproc._misuse import not_callable
from goproc._proc import fatal, forked
from goproc._public import of_stopped
from goproc._sched import scheduler
from goproc._spawn import Tracking, name_of, spawn
from goproc._tracebacks import cut, ends_at_user, function_line, user_line
from goproc.errors import Cancelled, OwnerDied
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import ParamSpec

    P = ParamSpec("P")
    Locker = _core.Mutex | _core.RWMutex | "_Reader"

T = TypeVar("T")


class WaitGroup(_core.WaitGroup):
    """Waits for a number of goroutines to finish, as Go's `sync.WaitGroup`.

    ``add()`` counts a goroutine before its start, ``done()`` at its end, and ``wait()`` waits until all have ended.
    ``wg.go(f, ...)`` starts a goroutine and does both. A group whose counter has reached zero can be used again.
    """

    __slots__ = ()
    __goproc_handle__ = True

    def go(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Goroutine[None]:
        """Run ``f(*args, **kwargs)`` as a goroutine that this group waits for.

        If the goroutine panics, the counter stays, so that wait() cannot return before the program ends.

        Args:
            f: the function.
            args, kwargs: its arguments.

        Returns:
            The handle of the goroutine.

        Raises:
            PickleError: f or an argument cannot be copied.
            TypeError: f is not callable.
        """
        _core.refuse_stale(self)
        # The core adds one to the counter in the step that creates the goroutine.
        tracking = Tracking("wg", self, self)
        with user_line:
            return spawn(f, args, kwargs, name_of(f), -1, sys._getframe(1), tracking)

    def __repr__(self) -> str:
        try:
            return f"<WaitGroup {self._ref:#x} count={self.count}>"
        except RuntimeError:
            return of_stopped("WaitGroup")


def _run_counted(_: WaitGroup, call: Any) -> Any:
    """Make the call of a goroutine of WaitGroup.go(). The body of that goroutine."""
    task = scheduler.current.task
    try:
        if scheduler.current.cancelled:
            raise Cancelled
        f, args, kwargs = open_call(call)
        value = f(*args, **kwargs)
    except (Goexit, Cancelled):
        _core.task_leave(task)
        raise
    except BaseException as exc:
        forked.leave(exc)
        if _core.task_wanted(scheduler.current.object):
            _core.task_leave(task)  # the exception is kept for a handle: nothing will end the program
        raise
    forked.leave(None)
    _core.task_leave(task)
    return value


bodies["wg"] = _run_counted


class Atomic(_core.Atomic):
    """An int of 64 bits, or a bool, shared by all processes; every operation is one indivisible step.

    ``Atomic(0)`` holds an int, ``Atomic(False)`` a bool. Sequentially consistent, as Go's `sync/atomic`.

    Cost: about 0.05 us, and a cache miss if another process has used the Atomic last.
    """

    __slots__ = ()
    __goproc_handle__ = True

    def __repr__(self) -> str:
        try:
            return f"<Atomic {self.load()}>"
        except RuntimeError:
            return of_stopped("Atomic")


class Mutex(_core.Mutex):
    """Mutual exclusion, as Go's `sync.Mutex`: one goroutine at a time, of any process.

    ``with m:`` locks the mutex. A mutex has no owner: any goroutine may unlock it, and a goroutine that locks it twice
    waits for ever. A goroutine that has waited for more than a millisecond is next. Before that, a running goroutine
    may overtake it.
    """

    __slots__ = ()
    __goproc_handle__ = True

    def __repr__(self) -> str:
        try:
            return f"<Mutex {self._ref:#x} {'locked' if self.locked else 'free'}>"
        except RuntimeError:
            return of_stopped("Mutex")


def _enter(lock: Any) -> None:
    """Lock `lock` for a ``with`` block. If that raises, the block is not entered, and the lock stays free."""
    try:
        lock.lock()
    except OwnerDied:
        lock.unlock()
        raise OwnerDied(
            "the process that held this lock died; it is free again, and what it guards may be half changed"
        ) from None


class _Reader:
    """``rw.reader``: the reading side of a RWMutex, for ``with`` and for Cond."""

    __slots__ = ("_rw",)
    __goproc_handle__ = False

    def __init__(self, rw: RWMutex) -> None:
        self._rw = rw

    def lock(self, timeout: float | None = None) -> None:
        self._rw.rlock(timeout)

    def try_lock(self) -> bool:
        return self._rw.try_rlock()

    def unlock(self) -> None:
        self._rw.runlock()

    def __enter__(self) -> _Reader:
        _enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._rw.runlock()


class _Writer(_Reader):
    """``rw.writer``: the writing side."""

    __slots__ = ()

    def lock(self, timeout: float | None = None) -> None:
        self._rw.lock(timeout)

    def try_lock(self) -> bool:
        return self._rw.try_lock()

    def unlock(self) -> None:
        self._rw.unlock()

    def __enter__(self) -> _Writer:
        _enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._rw.unlock()


class RWMutex(_core.RWMutex):
    """Many readers or one writer, as Go's `sync.RWMutex`: ``with m.reader:``, ``with m.writer:``.

    A writer that waits holds off new readers, so that it gets its turn. When a writer unlocks, all readers that waited
    for it go. The lock is not recursive: a second rlock() of one goroutine can wait for a writer that waits for the
    first.
    """

    __slots__ = ()
    __goproc_handle__ = True

    @property
    def reader(self) -> _Reader:
        """The side for reading: lock() is rlock()."""
        return _Reader(self)

    @property
    def writer(self) -> _Writer:
        """The side for writing."""
        return _Writer(self)

    def __repr__(self) -> str:
        return f"<RWMutex {self._ref:#x}>"


class Cond(_core.Cond):
    """A condition to wait for, as Go's `sync.Cond`: first in, first out, and no spurious wake-ups.

    Args:
        mutex: the lock that wait() releases while it waits: a Mutex, or an RWMutex or one of its sides.
    """

    __slots__ = ("_lock", "_reader")
    __goproc_handle__ = False

    def __new__(cls, mutex: Mutex | RWMutex | _Reader) -> Cond:
        if not _core.attached():
            _core.refuse_stale(mutex._rw if isinstance(mutex, _Reader) else mutex)
        return super().__new__(cls)

    @ends_at_user
    def __init__(self, mutex: Mutex | RWMutex | _Reader) -> None:
        self._reader = type(mutex) is _Reader
        self._lock: Any = mutex._rw if isinstance(mutex, _Reader) else mutex
        if not isinstance(self._lock, (Mutex, RWMutex)):
            raise TypeError(f"Cond(mutex): a Mutex or an RWMutex, not {type(mutex).__name__}")

    @property
    def mutex(self) -> Any:
        """The lock of the condition, Go's `L`."""
        return _Reader(self._lock) if self._reader else self._lock

    def wait(self, timeout: float | None = None) -> None:
        """Unlock the mutex, sleep until signal() or broadcast(), lock it again.

        The mutex is locked again also when wait() raises.

        Args:
            timeout: seconds to sleep at most, without the time to lock again; None waits for ever.

        Raises:
            TimeoutError: no signal came in time.
            RuntimeError: the mutex is not locked.
        """
        try:
            self._wait(self._lock, self._reader, timeout)
        except BaseException as exc:
            cut(exc, always=True)
            raise

    def __reduce__(self) -> Any:
        return _cond, (_core.Handle.__reduce__(self), self.mutex)

    def __enter__(self) -> Cond:
        _enter(self.mutex)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.mutex.unlock()

    def __repr__(self) -> str:
        return f"<Cond {self._ref:#x} on {self._lock!r}>"


class Once(_core.Once):
    """Something to be done once, by whichever goroutine of any process comes first, as Go's `sync.Once`."""

    __slots__ = ()
    __goproc_handle__ = True

    def do(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Call ``f(*args, **kwargs)`` if this is the first do(); return when the first call has returned.

        The call counts as done also if f raises; this caller gets the exception. A do() inside f waits for itself. If
        the goroutine that runs f is cancelled, or its process dies, the next caller runs f.

        Args:
            f: the function.
            args, kwargs: its arguments.

        Raises:
            Exception: raised by f, in the caller that ran it.

        Cost: about 0.1 us once the call is done.
        """
        if self._done():
            return
        with function_line:
            self._do(f, args, kwargs)

    def _do(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not callable(f):
            raise not_callable(f"Once.do(): {type(f).__name__!r} object is not callable", f)
        try:
            self._lock()
        except OwnerDied:
            pass  # the lock is ours now. Its last holder died before the end of f, so f runs again
        try:
            if not self._done():
                try:
                    f(*args, **kwargs)
                except Cancelled:
                    raise
                except BaseException:
                    self._finish()
                    raise
                self._finish()
        finally:
            self._unlock()

    def __repr__(self) -> str:
        try:
            return f"<Once {self._ref:#x} {'done' if self._done() else 'not done'}>"
        except RuntimeError:
            return of_stopped("Once")


class _OnceCall:
    """The function that once_func() and once_value() return: holds the call, and its result once there is one."""

    def __init__(self, f: Callable[..., Any] | None, keeps: bool, once: Once, result: Any) -> None:
        self._f = f
        self._keeps = keeps
        self._once = once
        self._result = result
        self.__name__ = getattr(f, "__name__", "once")

    def __call__(self) -> Any:
        if not self._once._done():
            raised: list[BaseException] = []
            self._once.do(self._call, raised)
            self._f = None  # frees the objects that f refers to, also if f raised
            if raised:
                with function_line:
                    try:
                        raise raised[0]
                    finally:
                        raised.clear()
        self._f = None
        return self._result.result()

    def _call(self, raised: list[BaseException]) -> None:
        f = self._f
        try:
            value = f() if f is not None else None
        except Goexit:
            _core.promise_set(self._result, False, None)
            raise
        except Cancelled:  # this goroutine's affair, not the next caller's
            raise
        except BaseException as exc:
            fatal.set_failure(self._result, exc)
            raised.append(exc)
        else:
            try:
                _core.promise_set(self._result, False, value if self._keeps else None)
            except BaseException as exc:  # the value cannot be copied: the same for every caller
                fatal.set_failure(self._result, exc)
                raised.append(exc)

    def __reduce__(self) -> Any:
        return _OnceCall, (self._f, self._keeps, self._once, self._result)


@ends_at_user
def once_func(f: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that calls f at its first call, and does nothing afterwards; Go's `sync.OnceFunc`.

    The function can be passed to goroutines of any process: f runs once in all.

    Args:
        f: called without arguments, by the first caller.

    Raises:
        TypeError: f is not callable.

    If f raises an exception, every call of the function raises that exception.
    """
    call: Callable[[], None] = _once(f, False)
    return call


@ends_at_user
def once_value(f: Callable[[], T]) -> Callable[[], T]:
    """Return a function that calls f at its first call and returns that value ever after; Go's `sync.OnceValue`.

    The function can be passed to goroutines of any process: f runs once in all, and each process gets its own copy of
    the value. After the first call the function keeps no reference to f.

    Args:
        f: called without arguments, by the first caller.

    Raises:
        TypeError: f is not callable.

    If f raises an exception, every call of the function raises that exception.
    """
    call: Callable[[], T] = _once(f, True)
    return call


def _once(f: Any, keeps: bool) -> Any:
    if not callable(f):
        raise not_callable(f"{type(f).__name__!r} object is not callable", f, gets="nothing")
    return _OnceCall(f, keeps, Once(), _core.promise_new(Goroutine))


class Semaphore(_core.Semaphore):
    """A number of units that goroutines of any process take and give back, as golang.org/x/sync's `semaphore.Weighted`.

    First come, first served: a large acquire at the head is not overtaken by small ones. ``with s:`` takes one unit.

    Args:
        n: units in all.
    """

    __slots__ = ()
    __goproc_handle__ = True

    def __repr__(self) -> str:
        try:
            return f"<Semaphore {self._ref:#x} {self.free} of {self.size} free>"
        except RuntimeError:
            return of_stopped("Semaphore")


class Barrier(_core.Barrier):
    """A place where n goroutines of any processes wait for each other, again and again.

    Args:
        n: how many goroutines must wait before all of them go on.
    """

    __slots__ = ()
    __goproc_handle__ = True

    def __repr__(self) -> str:
        try:
            return f"<Barrier {self._ref:#x} {self.waiting} of {self.parties} wait>"
        except RuntimeError:
            return of_stopped("Barrier")


def _cond(made: tuple[Callable[..., Any], tuple[Any, ...]], mutex: Any) -> Cond:
    function, args = made
    cond: Cond = function(*args)
    cond.__init__(mutex)  # type: ignore[misc]
    return cond


_core.connect(
    waitgroup=WaitGroup,
    atomic=Atomic,
    mutex=Mutex,
    once=Once,
    rwmutex=RWMutex,
    cond=Cond,
    semaphore=Semaphore,
    barrier=Barrier,
)
