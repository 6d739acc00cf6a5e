"""The end of main before Python waits for threads: goroutines run on while exit calls and threads need them."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from goproc import _last_reports, errors
from goproc._proc import main_exit
from goproc._sched import checkpoints, scheduler, waits
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def watch() -> None:
    """Have _at_end_of_main called before Python waits for threads and runs exit handlers."""
    global _end_watched, _end_call
    if not _end_watched:
        _end_watched = True
        try:
            threading._register_atexit(_at_end_of_main)  # type: ignore[attr-defined]
        except RuntimeError:
            return  # main has returned, and Python waits for the thread that uses goproc for the first time
        _end_call = threading._threading_atexits[-1]  # type: ignore[attr-defined]


_end_watched = False
_end_call: object = None  # the entry that Python keeps for _at_end_of_main


def _at_end_of_main() -> None:
    """Answer the end of main, before Python waits for the program's threads.

    Ctrl-C may have met another goroutine, and main has ended before it blocked: the interrupt must not be lost. A
    thread may be blocked in an operation that nothing can end any more: that is to be reported, and not waited for.

    Libraries end their threads in exit calls like this one: concurrent.futures wakes the idle threads of its pools and
    joins them. Python makes the calls in reverse order of registration, so the calls of libraries that were imported
    before the runtime started come after this one. A thread makes them here, because the threads that they join may
    need goroutines. Where Python starts no thread any more, goroutines run until none can go on, and then Python makes
    the calls.
    """
    if not _core.attached() or not _core.on_scheduler_thread():
        return
    pause, look, look_at = 0.001, 0.01, 0.0
    try:
        checkpoints.raise_interrupt()
        calls_made = _make_exit_calls()
        while any(not t.daemon and t is not threading.current_thread() for t in threading.enumerate()):
            if monotonic() >= look_at and scheduler.nothing_ready():
                if not calls_made and _core.others_asleep(False):
                    return
                if calls_made:
                    _last_reports.threads_asleep()
                look_at = monotonic() + look
                look = min(2 * look, 1.0)
            waits.sleep(pause)
            pause = min(2 * pause, 0.05)
    except KeyboardInterrupt:
        main_exit.end_interrupted()
    except errors.Cancelled:
        pass


def _make_exit_calls() -> bool:
    """Have a thread make the exit calls that Python would make after _at_end_of_main.

    Returns:
        False if Python starts no thread any more: 3.12.0 and 3.12.1. Then Python makes the calls itself.
    """
    registered: list[Any] = threading._threading_atexits  # type: ignore[attr-defined]
    ours = registered.index(_end_call)
    calls = registered[:ours][::-1]
    if calls:
        try:
            threading.Thread(target=_call_all, args=(calls,), name="goproc-exit-calls").start()
        except RuntimeError:
            return False
        registered[:ours] = [_do_nothing] * ours  # Python is iterating over the list: no index may change
    return True


def _call_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


def _do_nothing() -> None:
    pass
