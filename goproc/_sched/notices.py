"""The answers to nudges: requests that other processes and threads have of this one."""

from __future__ import annotations

import os
import sys

from goproc._sched import own_thread, scheduler
from goproc.errors import Cancelled, GoprocError, RuntimeStopped
from goproc.shm import _core

__goproc_frames__ = "scheduler"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def look_around() -> None:
    """Answer a nudge: look for cancelled goroutines, callbacks of other threads, a worker that did not start."""
    scheduler.retiring = _core.retiring(False)
    for ref, g in (*scheduler.started.items(), (scheduler.main.object, scheduler.main)):
        if ref and not g.cancelled and _core.task_cancelled(ref):
            g.cancelled = True  # once: a goroutine that cleans up may block
            scheduler.interrupt(g, Cancelled())
    while scheduler.posted:
        scheduler.posted.popleft()()
    if _core.lost() is not None:
        notice_loss()
    if _core.dump_wanted():
        answer_dump(sys._getframe())
    # A signal's handler may have made a goroutine ready since.
    if _core.take_asleep() and not scheduler.runq and scheduler.on_deadlock is not None:
        scheduler.on_deadlock()
    for look in scheduler.on_nudge:
        look()
    failed = _core.failed()
    if failed is not None and _core.proc() == 0 and scheduler.main.interrupt is None:
        proc, error = failed
        scheduler.interrupt(
            scheduler.main,
            GoprocError(
                f"proc {proc} of {_core.procs() - 1} could not be started: fork: {os.strerror(error)}; "
                f"use fewer (--procs, GOPROC_PROCS or runtime(procs=...)) or raise the limit on processes (ulimit -u)"
            ),
        )


def answer_dump(frame: FrameType | None) -> None:
    """Describe the goroutines of this process for the one that collects a dump."""
    if scheduler.on_dump is not None:
        scheduler.on_dump(frame)


def notice_loss() -> None:
    """Tell main, where it blocks next, that the runtime has ended by a panic or a death which this process survives."""
    if own_thread.is_used():
        if scheduler.on_lost is not None:
            scheduler.on_lost()
    elif not isinstance(scheduler.main.interrupt, RuntimeStopped):
        scheduler.interrupt(scheduler.main, RuntimeStopped(f"the goproc runtime ended: {_core.lost()}"))
