"""Futures: promises in shared memory that are concurrent.futures.Future as well."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from concurrent.futures import Future as _BaseFuture
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, LOGGER, PENDING, RUNNING
from typing import Any, NamedTuple, TypeVar

from goproc._proc import fatal
from goproc._raised import described, set_cause
from goproc._tracebacks import function_line
from goproc.errors import Cancelled, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from goproc._executor.pool import Pool

T = TypeVar("T")

_state_of = _core.Outcome._state.__get__


class End(NamedTuple):
    """The end of a call, as it was read."""

    value: Any
    error: BaseException | None
    cancelled: bool = False


_NOT_BEGUN = End(None, None, True)
_OK = _core.G_OK
_new = tuple.__new__  # makes a named tuple without the call of its own __new__


class _Promise(_core.Outcome[T], _BaseFuture[T]):  # type: ignore[misc]  # both have a _state; CallFuture has its own
    """The base of all futures of goproc: a promise, which `select` takes, and which arrives elsewhere as a handle."""

    __goproc_handle__ = True

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        end = ""
        state: Any = self._state
        if state == FINISHED:
            error, value = self._ended_with()
            end = (
                f" raised {type(error).__name__}"
                if error is not None
                else f" returned {type(value).__name__}"
            )
        return f"<Future at {id(self):#x} state={state.split('_')[0].lower()}{end}>"

    def _ended_with(self) -> tuple[BaseException | None, Any]:
        return self._exception, self._result


class Future(_Promise[T]):
    """The future of a call that an Executor makes: a concurrent.futures.Future that fits into goproc, too.

    ``result()`` and ``exception()`` park the goroutine that calls them, and the others of its process go on. A future
    is a case of `select`, can be awaited, and can be given to goproc.as_completed(). In another goroutine it arrives as
    a handle on the call. Everything that takes a concurrent.futures.Future takes it.

    Without an Executor, ``Future()`` is one that the program itself sets.
    """

    _local_state: str

    def __new__(cls) -> Future[T]:
        return _core.promise_new(cls)  # type: ignore[no-any-return]

    @property
    def _state(self) -> Any:  # that of concurrent.futures, not the promise's
        return self._state_now()

    @_state.setter
    def _state(self, state: str) -> None:
        self._local_state = state

    def _state_now(self) -> str:
        return self._local_state

    def result(self, timeout: float | None = None) -> T:
        """Return the result of the call.

        Args:
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            TimeoutError: the call has not ended in time; it goes on.
            concurrent.futures.CancelledError: it was cancelled.
            BaseException: the exception of the call, with the worker's traceback as its ``__cause__``.
        """
        if not self.done():
            self._join(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception of the call, or None. Args and Raises are those of result()."""
        if not self.done():
            self._join(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        """Cancel the call unless it has begun; return True if it is cancelled."""
        cancelled: bool = _BaseFuture.cancel(self)
        if cancelled:
            _keep_cancelled(self)
        return cancelled

    def set_result(self, result: T) -> None:
        """Make a value the result: of a future that belongs to no Executor."""
        super().set_result(result)
        try:
            _core.promise_set(self, False, result)
        except Exception as exc:  # only another process would read it
            fatal.set_failure(self, exc)

    def set_exception(self, exception: BaseException | None) -> None:
        """Make an exception the outcome. For a future that belongs to no Executor."""
        super().set_exception(exception)
        if exception is not None:
            fatal.set_failure(self, exception)


class CallFuture(Future[T]):
    """The future of a call that was submitted.

    Attributes:
        _pool: makes the call.
        _end: the end of the call, once this process has read it.
        _announced: the state that waiters and callbacks know; None before. Used once there are any.
    """

    _pool: Pool
    _end: End | None = None
    _announced: str | None = None
    _condition_made: threading.Condition | None = None
    _waiters: list[Any]
    _done_callbacks: list[Callable[[Any], object]]
    _exception: BaseException | None = None
    _result: Any = None

    def __init__(self) -> None:
        raise TypeError("Executor.submit() makes it")

    # -- for goroutines: the promise alone -------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        end = self._end
        if end is None:
            end = self._wait(timeout)
        if end.cancelled:
            raise CancelledError
        if end.error is not None:
            with function_line:
                try:
                    raise end.error
                finally:
                    del end, self  # the traceback holds this frame
        return end.value  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        end = self._end or self._wait(timeout)
        if end.cancelled:
            raise CancelledError
        return end.error

    def done(self) -> bool:
        """Return True if the call has ended or was cancelled."""
        return self._state_now() in (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED)

    def running(self) -> bool:
        """Return True if a worker makes the call now."""
        return self._state_now() == RUNNING

    def cancelled(self) -> bool:
        """Return True if the call was cancelled before it began."""
        return self._end is not None and bool(self._end.cancelled)

    def cancel(self) -> bool:
        """Cancel the call unless a worker has begun it. Return True if it is cancelled.

        The callbacks are made before it returns, as those of concurrent.futures are.
        """
        if self._end is None and _core.promise_claim(self):
            self.__dict__.setdefault("_end", _NOT_BEGUN)
            condition = self._condition_made
            if condition is not None:
                with condition:  # whoever adds a callback now finds the future cancelled, and makes it
                    self._announced = self._announced or CANCELLED
                    condition.notify_all()
            _keep_cancelled(self)
            self._pool.forget(self)
            self._pool.give_slot()
            if condition is not None:
                self._invoke_callbacks()  # type: ignore[attr-defined]
        return self.cancelled()

    def _wait(self, timeout: float | None) -> End:
        try:
            self._join(timeout)
        except RuntimeStopped:
            if self._end is None:  # read before it stopped, by another thread
                raise
        return self._read()

    def _read(self) -> End:
        """Read the outcome, which is there. The first reader makes the object that the result is."""
        end = self._end
        if end is None:
            end = self.__dict__.setdefault("_end", self._taken())
            self._pool.futures.pop(id(self), None)
        return end

    def _ended_with(self) -> tuple[BaseException | None, Any]:
        end = self._read()
        return end.error, end.value

    def _taken(self) -> End:
        try:
            state, stored = self._take()
        except RuntimeStopped as exc:
            return End(None, exc)
        except BaseException as exc:
            return End(None, _unreadable(exc))
        if state == _OK:
            return _new(End, (stored, None, False))
        if state == _core.G_DEAD:
            return End(None, self._pool.why_broken())
        return End(None, _exception(stored))

    # -- for concurrent.futures and asyncio: the condition, the waiters and the callbacks --------------------

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        """The lock of the waiters and callbacks. From its first use on the pool's watcher tells them of the end."""
        return self._condition_made or self._watched()

    def _watched(self) -> threading.Condition:
        fields = self.__dict__
        fields.setdefault("_waiters", [])
        fields.setdefault("_done_callbacks", [])
        mine = threading.Condition()
        condition: threading.Condition = fields.setdefault("_condition_made", mine)
        if condition is mine and not self._pool.watch(self):
            self.tell()
        return condition

    def _state_now(self) -> str:
        if self._announced is not None:
            return self._announced
        if self._end is not None and (self._end.cancelled or self._condition_made is None):
            return CANCELLED if self._end.cancelled else FINISHED
        try:
            state = _state_of(self)
        except RuntimeStopped:
            return FINISHED
        if state < _core.G_OK:
            return RUNNING if state == _core.G_RUNNING else PENDING
        if state == _core.G_DEAD:
            self._read()  # whoever sees this end finds the Executor broken
        return RUNNING if self._condition_made is not None else FINISHED

    def tell(self) -> None:
        """Tell the waiters of concurrent.futures and asyncio of the end of the call, and make the callbacks."""
        end = self._read()
        if self.__dict__.setdefault("_teller", token := object()) is not token:
            return
        condition = self._condition_made
        assert condition is not None
        with condition:
            self._result, self._exception = end.value, end.error
            self._announced = CANCELLED_AND_NOTIFIED if end.cancelled else FINISHED
            for waiter in self._waiters:
                if end.cancelled:
                    waiter.add_cancelled(self)
                elif end.error is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            condition.notify_all()
        if end is not _NOT_BEGUN:  # else cancel() makes the callbacks
            self._make_callbacks()

    def _make_callbacks(self) -> None:
        """Make the callbacks in the thread that watches all calls: one that raises SystemExit does not end the thread."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:  # the callback is the user's, and the thread serves all calls
                LOGGER.exception("exception calling callback for %r", self)

    def fail(self, error: BaseException) -> None:
        """Give a call that no worker has got its end."""
        self.__dict__.setdefault("_end", End(None, error))
        self._pool.forget(self)
        try:
            fatal.set_failure(self, error)
        except RuntimeError:
            pass  # it was cancelled

    def set_running_or_notify_cancel(self) -> bool:
        raise RuntimeError("the future belongs to a goproc Executor, which makes its call")

    def set_result(self, result: T) -> None:
        raise RuntimeError("the future belongs to a goproc Executor, which sets its result")

    def set_exception(self, exception: BaseException | None) -> None:
        raise RuntimeError("the future belongs to a goproc Executor, which sets its exception")


def _keep_cancelled(promise: Any) -> None:
    try:
        fatal.set_failure(promise, Cancelled())
    except RuntimeError:
        pass  # it has an outcome, or the runtime has stopped


def _unreadable(exc: BaseException) -> BaseException:
    from goproc._executor.broken import UnreadableCall

    error = UnreadableCall(f"the result of a call could not be read: {described(exc)}")
    error.__cause__ = exc
    return error


def _exception(stored: Any) -> BaseException:
    """Return the exception of a call, with the traceback of the worker as its cause, as ProcessPoolExecutor has it."""
    from concurrent.futures.process import _RemoteTraceback

    from goproc._pickling import failure

    failed = fatal.Failure.read(stored)
    error = failure.unpack(failed.packed, noted=False)
    text: Any = f'\n"""\n{failed.traceback()}\n"""'
    set_cause(error, _RemoteTraceback(text))
    return error
