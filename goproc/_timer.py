"""Timers and tickers, with the semantics of Go 1.23: a channel that has a value at a certain time.

A timer costs nothing while no goroutine waits for it. No process keeps it in a heap: its channel has the time at which
it is due, and a receive compares the clock, or sleeps until then. So any process can make, send, wait for, stop and
reset a timer. After stop() or reset() no earlier value is left, and a timer that is dropped is gone.

The process that made a timer of after_func() calls its function: its scheduler has an alarm for the timer. If another
process sets such a timer, the core nudges the process that made it, which then looks at all its timers that were sent.
When that process has ended, so has the function: reset() raises.

Times are ``time.monotonic()`` seconds, which mean the same in every process of a machine.
"""

from __future__ import annotations

import contextvars
import os
import sys
from time import monotonic
from typing import Any, NamedTuple

from goproc._channel import nil
from goproc._misuse import not_callable
from goproc._public import of_stopped, public
from goproc._sched import scheduler, timers
from goproc._spawn import Origin, name_of, origin, spawn_local
from goproc._timeouts import FOR_EVER, check_time
from goproc._tracebacks import ends_at_user, user_line
from goproc.errors import RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    from goproc._channel import Chan, RecvChan

    P = ParamSpec("P")

__all__ = ["Ticker", "Timer", "after", "after_func", "tick"]

_LEAST = 1e-9  # of intervals: less is none in the core


def _seconds(seconds: Any, what: str) -> float:
    """Return a duration that is checked, from 0 to `FOR_EVER`: a longer one means for ever."""
    return float(min(max(check_time(seconds, what), 0), FOR_EVER))


def _interval(seconds: Any, what: str, name: str) -> float:
    period = _seconds(seconds, what)
    if seconds <= 0:
        raise ValueError(f"non-positive interval for {name}")
    return max(period, _LEAST)


def _new(when: float, period: float = 0.0, func: bool = False) -> Chan[float]:
    _core.ensure()
    return _core.timer_new(when, period, func)  # type: ignore[no-any-return]


class _Call:
    """The function of a timer of after_func(), in the process that made the timer.

    The Timer refers to the call, and so does an alarm while it is pending. When both are gone, so is the call.
    """

    __slots__ = ("_alarm", "_args", "_ch", "_context", "_f", "_kwargs", "_origin")

    def __init__(
        self,
        ch: Chan[float],
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        origin: Origin,
    ) -> None:
        self._ch = ch
        self._f = f
        self._args = args
        self._kwargs = kwargs
        self._context = contextvars.copy_context()
        self._origin = origin
        self._alarm: Any = None

    def look(self) -> None:
        """Set the alarm to the time of the timer. From any thread."""
        if _core.on_scheduler_thread():
            self._arm()
        else:
            scheduler.post(self._arm)

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        when = _core.timer_when(self._ch)
        if when is not None:
            self._alarm = timers.call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        # None: another process has stopped or reset the timer, and its nudge is under way.
        if _core.timer_take(self._ch) is None:
            self._arm()
            return
        self._context.run(spawn_local, self._f, self._args, self._kwargs, name_of(self._f), self._origin)


class _Maker(NamedTuple):
    """The process that made a timer of after_func(), and would call its function."""

    proc: int
    pid: int

    def is_gone(self) -> bool:
        """Return True if the process has ended: by its death, recycle() or resize()."""
        pids = _core.pids()
        return self.proc > 0 and bool(pids) and self.pid not in pids[self.proc : self.proc + 1]


_shared: dict[Chan[float], _Call] = {}  # of timers of this process that others can set


def _rescan() -> None:
    """Look at all timers of this process: another process has stopped or set one. The scheduler calls this."""
    for ch, call in list(_shared.items()):
        try:
            call._arm()
        except RuntimeStopped:
            del _shared[ch]


scheduler.on_nudge.append(_rescan)


class _Timed:
    """The common part of Timer and Ticker: a channel, by which they are equal, and pickling."""

    __slots__ = ("_call", "_ch", "_maker")

    _ch: Chan[float]
    _call: _Call | None  # of after_func(), in the process that made the timer; else None
    _maker: _Maker | None  # of a timer of after_func(); else None

    def _set_up(self, ch: Chan[float], call: _Call | None = None, maker: _Maker | None = None) -> None:
        self._ch = ch
        self._call = call
        self._maker = maker

    @property
    def c(self) -> RecvChan[float] | None:
        """The channel to receive from; None for a timer of after_func()."""
        return None if self._maker is not None else self._ch.rx

    def __goproc_case__(self) -> RecvChan[float] | None:
        """Return the channel for which the timer stands in a select."""
        return self.c

    def _set(self, when: float | None, period: float = 0.0) -> bool:
        was = _core.timer_set(self._ch, when, period)
        if self._call is not None:
            self._call.look()
        return was

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Timed):
            return NotImplemented
        return self._ch == other._ch

    def __hash__(self) -> int:
        return hash(self._ch)

    def __reduce__(self) -> Any:
        if self._call is not None:
            _shared[self._ch] = self._call
        return _restore, (type(self), self._ch, self._maker)

    def __repr__(self) -> str:
        name = type(self).__name__
        if not hasattr(self, "_ch"):
            return f"<{name} uninitialized>"
        try:
            when = _core.timer_when(self._ch)
        except RuntimeError:
            return of_stopped(name)
        if when is None:
            return f"<{name} inactive>"
        left = when - monotonic()
        return f"<{name} in {left:.3f} s>" if left > 0 else f"<{name} due>"


def _restore(kind: type[_Timed], ch: Chan[float], maker: _Maker | None) -> _Timed:
    timed = kind.__new__(kind)
    timed._set_up(ch, None if maker is None else _shared.get(ch), maker)
    return timed


@public
class Timer(_Timed):
    """Fires once: from then on its channel ``c`` has one value, the time at which it was due.

    The channel looks unbuffered. After stop() or reset() no value from before can be received. A timer can be sent to
    goroutines; all handles are the same timer. It is a case for select().

    Args:
        seconds: from now; zero or less fires at once, infinity never.

    Raises:
        ValueError: seconds is NaN.

    Cost: about 0.5 us; nothing while it is pending, and nothing after it is dropped.
    """

    __slots__ = ()

    @ends_at_user
    def __init__(self, seconds: float) -> None:
        self._set_up(_new(monotonic() + _seconds(seconds, "Timer()")))

    @ends_at_user
    def stop(self) -> bool:
        """Keep the timer from firing.

        Returns:
            True if the timer was pending, or had fired and its value was not received. False if the value had been
            received, the function of the timer was started, or the timer was stopped.

        Raises:
            RuntimeError: ``time: Stop called on uninitialized Timer``.
        """
        if not hasattr(self, "_ch"):
            raise RuntimeError("time: Stop called on uninitialized Timer")
        return self._set(None)

    @ends_at_user
    def reset(self, seconds: float) -> bool:
        """Have the timer fire `seconds` from now, also if it has fired. Goroutines that wait for it go on waiting.

        Args:
            seconds: as for Timer().

        Returns:
            The same as stop().

        Raises:
            RuntimeError: ``time: Reset called on uninitialized Timer``; or the process that made the timer with
                after_func() has ended, and its function with it.
            ValueError: seconds is NaN.
        """
        if not hasattr(self, "_ch"):
            raise RuntimeError("time: Reset called on uninitialized Timer")
        when = monotonic() + _seconds(seconds, "Timer.reset()")
        maker = self._maker
        if maker is not None and self._call is None and maker.is_gone():
            raise RuntimeError(
                f"time: Reset of a Timer whose function is gone: worker {maker.proc} (pid {maker.pid}), which made it "
                "with after_func(), has ended; make another timer, or use after_func() in the process of the script"
            )
        return self._set(when)


@public
class Ticker(_Timed):
    """Fires again and again: after every interval its channel ``c`` has a value, the time at which it was due.

    At most one tick is pending: a receiver that is too slow loses ticks, and the next tick is still at a multiple of
    the interval. stop() does not close the channel. Like a Timer, a Ticker can be sent, and is a case for select().

    Args:
        seconds: the interval.

    Raises:
        ValueError: ``non-positive interval for NewTicker``, or it is NaN.
    """

    __slots__ = ()

    @ends_at_user
    def __init__(self, seconds: float) -> None:
        period = _interval(seconds, "Ticker()", "NewTicker")
        self._set_up(_new(monotonic() + period, period))

    def stop(self) -> bool:
        """End the ticks; a pending tick is dropped. Return True if the ticker was running."""
        return hasattr(self, "_ch") and self._set(None)

    @ends_at_user
    def reset(self, seconds: float) -> bool:
        """Start anew with another interval; the next tick is one interval from now.

        Args:
            seconds: the new interval.

        Returns:
            True if the ticker was running.

        Raises:
            ValueError: ``non-positive interval for Ticker.Reset``, or it is NaN.
            RuntimeError: ``time: Reset called on uninitialized Ticker``.
        """
        period = _interval(seconds, "Ticker.reset()", "Ticker.Reset")
        if not hasattr(self, "_ch"):
            raise RuntimeError("time: Reset called on uninitialized Ticker")
        return self._set(monotonic() + period, period)


@public
@ends_at_user
def after(seconds: float) -> RecvChan[float]:
    """Return a channel that has one value after a time: the time at which it was due. For select(), mostly.

    Args:
        seconds: as for Timer().
    """
    return _new(monotonic() + _seconds(seconds, "after()")).rx


@public
@ends_at_user
def tick(seconds: float) -> RecvChan[float]:
    """Return the channel of a Ticker; nil if the interval is not positive.

    Args:
        seconds: the interval.

    Raises:
        ValueError: seconds is NaN.
    """
    period = _seconds(seconds, "tick()")
    if seconds <= 0:
        return nil.rx
    return _new(monotonic() + period, max(period, _LEAST)).rx


@public
def after_func(seconds: float, f: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
    """Call a function after a time, in a goroutine of this process.

    Args:
        seconds: as for Timer().
        f: the function, with its arguments. Nothing is copied: f shares memory with its creator, and has the same
            contextvars.

    Returns:
        The timer, whose ``c`` is None. stop() returns False once the function was started, and does not wait for its
        end. reset() has the function called again. Both work in any process, while the process of the function lives:
        reset() raises RuntimeError after its end. A timer that was sent to another process stays in memory.

    Raises:
        ValueError: seconds is NaN.
        TypeError: f is not callable.
    """
    with user_line:
        if not callable(f):
            raise not_callable(f"after_func() takes a function, not {type(f).__name__}", f, at=1)
        ch = _new(monotonic() + _seconds(seconds, "after_func()"), 0.0, True)
    call = _Call(ch, f, args, kwargs, origin(sys._getframe(1)))
    timer = Timer.__new__(Timer)
    timer._set_up(ch, call, _Maker(_core.proc(), os.getpid()))
    call.look()
    return timer
