"""The points at which a goroutine learns that it is to end, or to let others run.

An interrupt is an exception of another goroutine, of Ctrl-C or of the runtime's end. It waits in the G until the
goroutine comes to such a point, and so does a deadline that has passed.
"""

from __future__ import annotations

from time import monotonic

from goproc._sched import scheduler
from goproc.errors import DeadlineExceeded, RuntimeStopped
from goproc.shm import _core

__goproc_frames__ = "scheduler"


def checkpoint() -> None:
    """Raise the exception that interrupts the running goroutine, or DeadlineExceeded past its deadline."""
    g = scheduler.current
    if g.interrupt is not None and not g.shielded:
        raise_interrupt()
    if g.deadline is not None and (limit := g.limit()) is not None and limit <= monotonic():
        raise DeadlineExceeded("context deadline exceeded")


def raise_interrupt() -> None:
    """Raise the exception that interrupts the running goroutine, if there is one."""
    exc, scheduler.current.interrupt = scheduler.current.interrupt, None
    if exc is not None:
        if type(exc) is RuntimeStopped and scheduler.on_lost is not None:
            scheduler.on_lost()
        try:
            raise exc
        finally:
            del exc  # a frame that refers to its own exception would keep everything above it alive


def raise_wait_failure(reason: str, over: bool) -> None:
    """Raise the reason of a wait that ended without its operation: Cancelled, DeadlineExceeded or TimeoutError.

    Return on a spurious wake-up: the caller looks again.

    Args:
        reason: the reason of the wait.
        over: the operation's own time is up.
    """
    try:
        if _core.on_scheduler_thread():
            checkpoint()
        if over:
            raise TimeoutError(f"{reason}: timed out")
    except TimeoutError as error:  # or DeadlineExceeded
        error.__traceback__ = None  # the user's line alone is shown
        raise


def offer_turn(may_raise: bool) -> None:
    """Let other goroutines have a turn if any are ready. The core calls it within operations that do not block.

    Args:
        may_raise: True if the operation can block, so that an interrupt or a deadline may end it.
    """
    if may_raise:
        checkpoint()
    scheduler.give_turn()
    if scheduler.current is scheduler.main and scheduler.on_lost is not None and _core.lost() is not None:
        scheduler.on_lost()  # the operation finds that the runtime has stopped
