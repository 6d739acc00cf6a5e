"""Waits that need nothing of the core: sleep(), yield_now(), and a pause until this process calls resume()."""

from __future__ import annotations

import threading
from time import monotonic
from time import sleep as _thread_sleep

from goproc._public import public
from goproc._sched import nested, scheduler, timers
from goproc._sched.checkpoints import checkpoint
from goproc._sched.scheduler import give_turn, schedule
from goproc._tracebacks import cut
from goproc.shm import _core

__goproc_frames__ = "scheduler"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._sched.g import G


@public
def yield_now() -> None:
    """Let the other ready goroutines of this process run first.

    Raises:
        Cancelled: this goroutine was cancelled.
    """
    if not _core.attached() or not _core.on_scheduler_thread():
        _thread_sleep(0)
        return
    has_memory = _core.check_park()
    try:
        if has_memory:
            give_turn()
        checkpoint()
    except BaseException as exc:
        cut(exc)
        raise


@public
def sleep(seconds: float) -> None:
    """Pause this goroutine for a time; others of its process run meanwhile.

    Args:
        seconds: the time. The pause may be longer, as the process may be busy with another goroutine. Zero or less
            returns at once.

    Raises:
        Cancelled: this goroutine was cancelled.
    """
    try:
        _sleep(seconds)
    except BaseException as exc:
        cut(exc)
        raise


def _sleep(seconds: float) -> None:
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"sleep() takes seconds as a number, not {type(seconds).__name__}")
    if seconds != seconds:
        raise ValueError("sleep() takes seconds, not NaN")
    if not _core.attached() or not _core.on_scheduler_thread():
        if seconds > 0:
            _thread_sleep(min(seconds, threading.TIMEOUT_MAX))
        return
    if scheduler.scheduling:
        nested.call(_sleep, seconds)
        return
    _core.check_park()
    until = monotonic() + seconds
    checkpoint()
    while (now := monotonic()) < until:
        _wait("sleep", now, until)
        _core.running(scheduler.current.id)
        checkpoint()


def pause(reason: str) -> None:
    """Park the running goroutine until resume(). It may return early: the caller checks its own condition.

    Args:
        reason: the reason of the wait, for reports.

    Raises:
        BaseException: the exception that interrupts the goroutine, or DeadlineExceeded.
    """
    if scheduler.scheduling:
        nested.call(pause, reason)
        return
    checkpoint()
    _wait(reason, monotonic())
    checkpoint()


def resume(g: G) -> None:
    """Make a goroutine ready that is in pause(). For the scheduler's thread; other threads post() it."""
    if g.parked:
        g.parked = False
        g.notified = True
        scheduler.runq.append(g)


def _wait(reason: str, now: float, until: float | None = None) -> None:
    """Park the running goroutine until resume(), until a time or until its deadline."""
    _core.check_memory()
    g = scheduler.current
    scheduler.scheduling = True
    try:
        if (limit := g.limit()) is not None and (until is None or limit < until):
            until = limit
        g.ticket += 1
        if until is not None:
            timers.add(until, g)
        g.parked = g.gave = True
        g.reason = reason
        g.since = now
        schedule()
    except BaseException:  # schedule() has let an exception through
        scheduler.scheduling = False
        raise
