"""A scheduler in a thread that none of the program's own code has: the host's, where a notebook or a loop keeps main."""

from __future__ import annotations

from greenlet import getcurrent

from goproc._sched import greenlets, scheduler
from goproc.shm import _core

__goproc_frames__ = "scheduler"


class _Left(BaseException):
    """The runtime stopped: ends run()."""


def leave() -> None:
    """Switch back to the caller of run(), as `end` of scheduler.start(). Other greenlets stay where they are."""
    if getcurrent() is greenlets.root:
        raise _Left
    greenlets.root.switch()


def is_used() -> bool:
    """True if goroutines run in a thread that runs no code of the program, so that main is another thread."""
    return scheduler.leave is leave


def run() -> None:
    """As scheduler.run_worker(), in a thread of the host; returns when the runtime stops."""
    try:
        while not _core.stopping():
            scheduler.scheduling = True
            scheduler.current.parked = True
            scheduler.schedule()
    except _Left:
        pass
