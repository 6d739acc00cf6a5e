"""Calls that run once at a time for each key: golang.org/x/sync's singleflight, for all processes.

    flights = singleflight.Group()
    value, shared = flights.do("user 7", load_user, 7)     # in any number of goroutines: load_user runs once

The calls in flight are a note in a shared variable. For each key the note has a promise of the result (written once,
read by any number of processes) and the number of callers that wait for the promise. A caller that finds no note makes
one and runs the function itself, so the function is not copied. The other callers wait for the promise. The value is
copied only if a caller waits. All keys of a Group are in one variable: a Group is meant for tens of calls at a time,
not for thousands.

If the process that runs a call dies, the call fails: its callers get WorkerDied, and the next caller of the key runs
its function.
"""

from __future__ import annotations

import sys
from typing import Any, Generic, NamedTuple, TypeVar

from goproc._channel import chan
from goproc._goroutine import Goroutine
from goproc._life import Goexit
from goproc._misuse import not_callable
from goproc._pickling import failure
from goproc._proc import fatal
from goproc._shared_value import Cell
from goproc._spawn import origin, spawn_local
from goproc._tracebacks import function_line, user_line
from goproc.errors import Cancelled, WorkerDied
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import FrameType
    from typing import ParamSpec

    from goproc._channel import Chan, RecvChan

    P = ParamSpec("P")

T = TypeVar("T")

__all__ = ["Group", "Result"]


class Result(NamedTuple, Generic[T]):
    """The message on the channel of do_chan().

    Attributes:
        value: the result of the function, None if it raised.
        error: the exception of the function, else None.
        shared: True if the value went to more than one caller.
    """

    value: T | None
    error: BaseException | None
    shared: bool


class _Call(NamedTuple):
    """A call in flight."""

    promise: Goroutine[Any]  # the callers that wait find the result here
    callers: int = 0
    waiting: int = 0  # those of them that wait for the promise
    channels: tuple[Chan[Any], ...] = ()  # of do_chan()


class _Calls(NamedTuple):
    """The calls in flight."""

    by_key: dict[Any, _Call]
    forgotten: tuple[_Call, ...]  # calls that take no new callers, but still have to answer those they had

    def find(self, key: Any, promise: Goroutine[Any]) -> _Call | None:
        call = self.by_key.get(key)
        if call is not None and call.promise == promise:
            return call
        return next((call for call in self.forgotten if call.promise == promise), None)


class Group:
    """A set of keys with calls in flight. A Group can be sent to goroutines; its keys are the same in all processes.

    Cost: a call that no other caller joins takes about 10 us more than the function.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: Cell[_Calls] = Cell(_Calls({}, ()))

    def do(self, key: Hashable, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> tuple[T, bool]:
        """Call ``f(*args, **kwargs)``, unless a call of this key is under way: then wait for the result of that call.

        Every caller gets the exception of f, and a goexit() in f ends the goroutine of every caller. If the goroutine
        that runs f is cancelled, one of the callers that wait runs f again.

        Args:
            key: names the call; the key is copied.
            f: runs in the calling goroutine.

        Returns:
            (value, shared). `shared` is True if the value went to more than one caller; the others get copies.

        Raises:
            Exception: raised by f.
            PickleError: the value cannot be copied. The caller that ran f still gets it.
            WorkerDied: the process of the caller that ran f died.
        """
        with function_line:
            return self._do(key, f, args, kwargs)

    def _do(
        self, key: Hashable, f: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[T, bool]:
        _check(f, "do")
        while True:
            promise, is_first = self._join(key, None)
            if is_first:
                return self._run(key, promise, f, args, kwargs)
            error = self._error_of(key, promise)
            if error is None:
                return promise.result(), True
            if isinstance(error, Cancelled):
                continue
            try:
                raise error
            finally:
                del error

    def do_chan(
        self, key: Hashable, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> RecvChan[Result[T]]:
        """As do(), without waiting: if no call is under way, f runs in a goroutine of this process.

        An Exception of f is the ``error`` of the result. Any other BaseException is a panic and ends the program, as a
        caller that does not look at the channel would never learn of it.

        Returns:
            A channel that gets one Result. The channel is not closed.
        """
        with user_line:
            _check(f, "do_chan")
        ch: Chan[Result[T]] = chan(1)
        self._start(key, ch, f, args, kwargs, sys._getframe(1))
        return ch.rx

    def forget(self, key: Hashable) -> None:
        """Let the next call of `key` run its function, also while another call of the key is under way.

        Args:
            key: the name of the call.
        """

        def change(calls: _Calls) -> tuple[_Calls, None]:
            call = calls.by_key.get(key)
            if call is None:
                return calls, None
            return _Calls(_without(calls.by_key, key), (*calls.forgotten, call)), None

        self._calls.update(change)

    # -- how

    def _join(self, key: Any, ch: Chan[Any] | None) -> tuple[Goroutine[Any], bool]:
        """Join the call of `key` that is under way, or begin one. Return its promise, and True if it begins here."""

        def change(calls: _Calls) -> tuple[_Calls, tuple[Goroutine[Any], bool]]:
            call = calls.by_key.get(key)
            is_first = call is None or call.promise.state == "died"
            if call is None:
                call = _Call(_core.promise_here(Goroutine))
            elif is_first:  # no caller has told the call's channels so far
                call = _Call(_core.promise_here(Goroutine), len(call.channels), 0, call.channels)
            else:
                call = call._replace(waiting=call.waiting + 1)
            if ch is not None:
                call = call._replace(channels=(*call.channels, ch))
            call = call._replace(callers=call.callers + 1)
            return calls._replace(by_key={**calls.by_key, key: call}), (call.promise, is_first)

        return self._calls.update(change)

    def _error_of(self, key: Any, promise: Goroutine[Any]) -> BaseException | None:
        """Wait for the call that another caller runs. Return the exception of the call, or None."""
        promise._join(None)
        if promise.state != "died":
            return promise.exception()
        error = WorkerDied(f"singleflight: the process that ran the call of {key!r} died")
        call = self._remove(key, promise)
        if call is not None:  # the first to learn of the death tells the channels
            self._answer(call, None, error)
        return error

    def _end(self, key: Any, promise: Goroutine[Any]) -> _Call:
        """Remove the call that this goroutine runs from the note, and return it."""
        call = self._remove(key, promise)
        assert call is not None, "a call is removed by its runner, or after the death of that"
        return call

    def _remove(self, key: Any, promise: Goroutine[Any]) -> _Call | None:
        """Remove a call from the note, and return it; None if it has been removed. No caller joins it from now on."""

        def change(calls: _Calls) -> tuple[_Calls, _Call | None]:
            call = calls.find(key, promise)
            if call is None:
                return calls, None
            if calls.by_key.get(key) is call:
                return calls._replace(by_key=_without(calls.by_key, key)), call
            return _Calls(calls.by_key, tuple([c for c in calls.forgotten if c is not call])), call

        return self._calls.update(change)

    def _run(
        self,
        key: Any,
        promise: Goroutine[Any],
        f: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        alone: bool = False,
    ) -> tuple[T, bool]:
        try:
            value = f(*args, **kwargs)
        except BaseException as exc:
            call = self._end(key, promise)
            if call.waiting:
                fatal.set_failure(promise, exc)
            if isinstance(exc, Cancelled):
                for ch in call.channels:
                    self._start(key, ch, f, args, kwargs, sys._getframe(1))
            elif isinstance(exc, Goexit):
                self._answer(call, None, RuntimeError("runtime.Goexit was called"))
            elif isinstance(exc, Exception) or not alone:
                self._answer(call, None, exc)
            raise
        call = self._end(key, promise)
        if call.waiting:
            try:
                _core.promise_set(promise, False, value)
            except Exception as exc:
                fatal.set_failure(promise, exc)
        self._answer(call, value, None)
        return value, call.callers > 1

    def _start(
        self,
        key: Any,
        ch: Chan[Any],
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: FrameType,
    ) -> None:
        promise, is_first = self._join(key, ch)
        name = getattr(f, "__qualname__", type(f).__qualname__)
        if is_first:
            spawn_local(self._run_alone, (key, promise, f, args, kwargs), {}, name, origin(frame))
        else:  # the runner tells the channel, unless its process dies
            spawn_local(self._error_of, (key, promise), {}, name, origin(frame))

    def _run_alone(
        self,
        key: Any,
        promise: Goroutine[Any],
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        try:
            self._run(key, promise, f, args, kwargs, True)
        except Exception:
            pass  # it is in the results

    def _answer(self, call: _Call, value: Any, exc: BaseException | None) -> None:
        for ch in call.channels:
            if exc is None:
                try:
                    ch.try_send(Result(value, None, call.callers > 1))
                    continue
                except Exception as error:  # it cannot be copied
                    exc = error
            # Not every exception can be copied: the packed form can.
            _core.for_end(ch.try_send, Result(None, failure.unpack(failure.pack(exc)), call.callers > 1))

    def __reduce__(self) -> Any:
        return _restore, (self._calls,)


def _check(f: Any, method: str) -> None:
    if not callable(f):
        raise not_callable(f"singleflight: {method}(): {type(f).__name__!r} object is not callable", f, at=1)


def _without(by_key: dict[Any, _Call], key: Any) -> dict[Any, _Call]:
    return {k: call for k, call in by_key.items() if k != key}


def _restore(calls: Cell[_Calls]) -> Group:
    group = Group.__new__(Group)
    group._calls = calls
    return group
