"""The reports that end the program: SIGQUIT, and the deadlock of all goroutines. Both have the text of a dump.

The host makes them. The detector in the core knows only goroutines: before the report of a deadlock this file looks for
others that may still wake one, the handlers of signals.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from time import monotonic

from goproc import _notebook
from goproc._dump import everything
from goproc._proc import fatal
from goproc._sched import own_thread, scheduler, slices, timers
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def on_host_quit(number: int, frame: FrameType | None) -> None:
    """Handle SIGQUIT in the host: write a dump and end the program."""
    from goproc._proc import line_output

    line_output.after_write(frame, lambda: _quit(frame))


def _quit(frame: FrameType | None) -> NoReturn:
    if not fatal.claim("SIGQUIT"):
        fatal.wait_for_the_end()
    _end("SIGQUIT: quit", frame)


def _end(title: str, frame: FrameType | None) -> NoReturn:
    try:
        text = everything(frame or sys._getframe())
    except Exception as exc:
        text = f"the goroutines cannot be shown: {type(exc).__name__}: {exc}\n"
    fatal.report(f"{title}\n\n{text}{_unread()}")
    fatal.flush()
    _core.set_survives(False)
    fatal.end(2)
    raise AssertionError("the end of the program returned")


def _unread() -> str:
    """Describe unread failures: the cause of a deadlock is often among them."""
    try:
        found = fatal.unread_failures()
        return "".join(
            [
                "\n" + fatal.describe_unread(id_, fatal.Failure.read(stored), site)
                for id_, stored, site in found
            ]
        )
    except Exception as exc:
        return f"\nfailures that nobody has read cannot be shown: {type(exc).__name__}: {exc}\n"


# -- deadlock ------------------------------------------------------------------------------------------------


def deadlock() -> bool:
    """Report that all goroutines of all processes are asleep, and end the program. The host's scheduler calls this.

    Returns:
        False if something that the detector does not see may still wake one; True at a prompt, where main is
        interrupted instead.
    """
    if not _core.others_asleep(False):
        return False  # a signal's handler has woken a goroutine: the process that is idle last looks again
    if veto() or not _notebook.ignore_kernel():
        timers.call_at(monotonic() + 1, _nothing)  # a pending timer holds off the detector until then
        return False
    if not _core.others_asleep(True) or scheduler.runq:
        return False
    alone = _core.main_gone() and _core.num_goroutine() == 0
    title = "no goroutines (main called runtime.Goexit)" if alone else "all goroutines are asleep"
    title = f"fatal error: {title} - deadlock!"
    if _core.survives() and not own_thread.is_used():
        scheduler.interrupt(
            scheduler.main, RuntimeError(f"{title}\n\n{everything(sys._getframe())}{_unread()}")
        )
        return True
    if not fatal.claim("deadlock"):
        fatal.wait_for_the_end()
    _end(title, sys._getframe())


def threads_asleep() -> None:
    """End the program with a report if main has returned and the threads of this process wait for ever.

    Returns if one of them may still go on, or a goroutine elsewhere may wake it.
    """
    if not _core.others_asleep(False) or veto() or not _core.others_asleep(True):
        return
    if not fatal.claim("deadlock"):
        fatal.wait_for_the_end()
    names = ", ".join([repr(t.name) for t in threading.enumerate() if t is not threading.current_thread()])
    _end(
        f"fatal error: all goroutines are asleep - deadlock!\n\nmain has returned; these threads wait for ever: {names}",
        sys._getframe(),
    )


def _nothing() -> None:
    pass


#: Handlers that no program has installed; the host adds its own.
own_handlers: list[object] = [
    on_host_quit,
    slices.on_slice_end,
    slices.on_asked,
    signal.default_int_handler,
]


def veto() -> bool:
    """Return True if a signal may still wake a goroutine: the program has a handler of its own, or a timer of signals.

    True also with GOPROC_DEADLOCK=0, for programs that are woken by something unknown to Python, such as a thread of C.
    """
    if os.environ.get("GOPROC_DEADLOCK") == "0":
        return True
    if any(
        signal.getitimer(which)[0]
        for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    ):
        return True
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if any(callable(h) and h not in own_handlers for h in handlers if not isinstance(h, signal.Handlers)):
        return True
    return any(_handles_signals(pid) for pid in _core.pids()[1:])


# : Signals for which each worker has handlers of goproc's. The handlers for faults are faulthandler's, which wake no
# goroutine.
_WORKERS_OWN = {signal.SIGCONT, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGURG} | {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
}


def _handles_signals(pid: int) -> bool:
    """Return True if the program has set a handler in this worker, as the kernel shows without waking the worker."""
    try:
        with open(f"/proc/{pid}/status") as file:
            caught = next((int(line.split()[1], 16) for line in file if line.startswith("SigCgt:")), 0)
    except OSError:
        return False
    return any(caught >> (number - 1) & 1 for number in signal.valid_signals() - _WORKERS_OWN)
