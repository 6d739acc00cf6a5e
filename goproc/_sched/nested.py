"""Operations that block in a signal's handler, or in a finalizer that the collector runs, while the scheduler is at work."""

from __future__ import annotations

from goproc._sched import scheduler, timers

__goproc_frames__ = "scheduler"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def call(block: Callable[..., Any], *args: Any) -> Any:
    """Block while the scheduler is at work: in a signal's handler, or in a finalizer that the collector runs.

    A goroutine can block here only while the process is idle. It has two waits then, and a waker cannot say which one
    has ended; so scheduler._idle() looks at the outer wait again afterwards. Anywhere else the scheduler has a goroutine in
    hand, and the operation raises RuntimeError.
    """
    g = scheduler.current
    if not (scheduler.idling and g.parked):
        raise RuntimeError(
            "a goproc operation that would block, in a signal handler or __del__ that came in the middle of a switch of "
            "goroutines: use what does not block there (try_send, a buffered channel)"
        )
    outer = g.reason, g.waits_on, g.since
    scheduler.scheduling = scheduler.idling = g.parked = False
    try:
        return block(*args)
    finally:
        scheduler.scheduling = scheduler.idling = g.parked = True
        g.reason, g.waits_on, g.since = outer
        g.ticket += 1


def park(slot: int, until: float | None, reason: str, handle: object) -> bool:
    """As scheduler.park(), in such a place, until the wait is over."""
    return call(_park_whole, slot, until, reason, handle)  # type: ignore[no-any-return]


def _park_whole(slot: int, until: float | None, reason: str, handle: object) -> bool:
    """As scheduler.park(), until the wait is over.

    The last lines repeat scheduler.park() and parked(): in the first bytecode of a function a signal's handler can raise.
    """
    me = scheduler.current
    try:
        begun = scheduler.park(slot, until, reason, handle)
        if isinstance(begun, bool):
            return begun
        switch, _, timed = begun
        switch()
    except BaseException:  # as in scheduler.schedule()
        scheduler.current = me
        me.parked = scheduler.scheduling = False
        scheduler.put_back(me)
        raise
    scheduler.scheduling = False
    notified = me.notified
    me.waits_on = None
    if timed and notified:
        timers.forget()
    return notified
