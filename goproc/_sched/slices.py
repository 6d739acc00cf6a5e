"""Time slices: a goroutine that keeps its process for more than 10 ms lets other goroutines of the process run.

A thread in C sees that a slice is over (monitor.c) and has a signal handler called here, between two bytecodes. The
handler switches to a goroutine that had started, has blocked, and is ready again, or to one of `go.local`, which
belongs to the process. No task begins: a goroutine that has begun and never blocks runs to its end before the next one
begins on its process, and the queued ones are left to other workers.

The handler leaves the running goroutine alone where a switch is not safe (safepoint.py), and while that goroutine has
changed state of the process (process_state.py).
"""

from __future__ import annotations

import os
import signal
import threading
from math import inf
from time import monotonic

from goproc._sched import checkpoints, notices, process_state, scheduler, timers
from goproc._sched.loops import SLICE
from goproc._sched.process_state import ProcessState
from goproc._sched.safepoint import is_safepoint, may_raise
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from goproc._sched.g import G

# Seconds after which a slice ends although the state of the process differs from the one that was noted. The change may
# come from an earlier short turn (see note_state); without this limit others would wait until the goroutine ends.
LONGEST = 10.0

_handler: Callable[[int, FrameType | None], None] | None = None  # the handler that start() has installed
_before: ProcessState | None = None  # the state of the process when it was last noted between two turns
# The goroutine that keeps the process because it has changed the state, and its ticket.
_kept: tuple[G, int] | None = None
_kept_since = 0.0


def start() -> None:
    """Begin to end slices in this thread. Only Python's main thread has signal handlers; elsewhere nothing happens.

    With GOPROC_PREEMPT=0 the handler answers requests for a dump, and no slice ends.
    """
    global _handler
    free = signal.getsignal(signal.SIGURG) in (signal.SIG_DFL, signal.SIG_IGN)
    if not free or threading.current_thread() is not threading.main_thread():
        return
    _handler = on_asked if os.environ.get("GOPROC_PREEMPT", "1") == "0" else on_slice_end
    signal.signal(signal.SIGURG, _handler)
    if _handler is on_slice_end:
        try:
            _core.start_monitor(signal.SIGURG)
        except OSError:
            pass  # no thread is to be had: goroutines keep the process until they block
        note_state()
        scheduler.between_turns = note_state
    _core.dump_ready(True)


def stop() -> None:
    """Undo start()."""
    global _handler, _before, _kept
    handler, _handler = _handler, None
    _before = _kept = None
    scheduler.between_turns = None
    if handler is not None:
        _core.dump_ready(False)
        _core.stop_monitor()
        if signal.getsignal(signal.SIGURG) is handler:
            signal.signal(signal.SIGURG, signal.SIG_DFL)


def on_asked(number: int, frame: FrameType | None) -> None:
    """Handle SIGURG with GOPROC_PREEMPT=0: answer a request for a dump, or note that the runtime has ended."""
    if _core.dump_wanted():
        notices.answer_dump(frame)
    if _core.lost() is not None:
        _meet_loss(frame)


def note_state() -> None:
    """Note the state of the process between two turns, to compare the state after a long turn with it.

    The scheduler calls it at the first switch after each tick of the kernel's clock (1 to 10 ms), so that the many
    short turns of a process cost nothing. If a short turn has changed the state, the next long turn is blamed for the
    change and keeps the process.
    """
    global _before
    _core.slice_noted()
    _before = process_state.read()


def on_slice_end(number: int, frame: FrameType | None) -> None:
    """Handle SIGURG: end the slice of the running goroutine if another is ready, and answer a request for a dump."""
    if _core.dump_wanted():
        notices.answer_dump(frame)
    if _core.lost() is not None:
        _meet_loss(frame)
        return
    if scheduler.scheduling or not _core.may_switch():
        _core.slice_end(None)
        return
    g = scheduler.current
    scheduler.scheduling = True
    try:
        if not is_safepoint(frame, scheduler.run_goroutines.__code__):
            _core.slice_end(None)
            return
        if g.whole:
            _core.slice_end(inf)
            return
        scheduler.poll()
        _core.running(g.id)  # poll() leaves the id unset
        if not scheduler.runq:
            _core.slice_end(timers.heap[0][0] if timers.heap else inf)
        elif not _keeps_process(g):
            _preempt(SLICE)
    finally:
        scheduler.scheduling = False
    if _core.lost() is not None:
        _meet_loss(frame)
    if g is scheduler.main and isinstance(g.interrupt, KeyboardInterrupt):
        checkpoints.raise_interrupt()  # Ctrl-C has interrupted main meanwhile, and main may not block for long


def _meet_loss(frame: FrameType | None) -> None:
    """Tell main that the runtime has ended by itself: now if main runs its own code, else where main blocks next."""
    here = scheduler.current is scheduler.main and not scheduler.main.parked
    here = here and not scheduler.scheduling and _core.may_switch() and may_raise(frame)
    if here and scheduler.on_lost is not None:
        scheduler.on_lost()
    else:
        notices.notice_loss()


def _keeps_process(g: G) -> bool:
    """Return True if the running goroutine has changed state of the process since its turn began."""
    global _kept, _kept_since
    if _before is None or process_state.read() == _before:
        _kept = None
        return False
    if _kept != (g, g.ticket):
        _kept, _kept_since = (g, g.ticket), monotonic()
    return monotonic() < _kept_since + LONGEST


def _preempt(seconds: float) -> None:
    """End the slice of the running goroutine: let ready goroutines run until none is left, or for a time.

    Args:
        seconds: the running goroutine is ready again after this time. Until then the others share the process.
    """
    g = scheduler.current
    g.ticket += 1
    g.since = monotonic()
    g.reason = "runnable"
    timers.add(g.since + seconds, g)
    never_gave = not g.gave
    scheduler.preempted[g] = g.ticket
    scheduler.unfinished += never_gave
    g.parked = True
    try:
        scheduler.schedule()
    finally:
        scheduler.preempted.pop(g, None)
        scheduler.unfinished -= never_gave
        _core.running(g.id)
