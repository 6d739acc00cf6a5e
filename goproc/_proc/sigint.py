"""Ctrl-C while the runtime runs.

Python raises KeyboardInterrupt at the next bytecode, in the goroutine that runs: in the middle of goproc's own
bookkeeping, or in a __del__, which drops it. Neither must happen.

If main's thread comes to no bytecode at all, the core ends the program (shm/python/interrupt.c).
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from time import monotonic, sleep

from goproc._sched import scheduler, timers
from goproc._sched.safepoint import may_raise
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from goproc._sched.g import G

# After so many signals in vain, about 0.5 s, the code that keeps the process is interrupted at any point.
_FORCE = 5

# Workers begin no goroutine between Ctrl-C and the moment at which main uses goproc again. A worker ends this hold by
# itself: the program may have its own way to answer the signal.
HOLD = 1.5  # seconds from the last SIGINT
_HOLD_AGAIN = 0.4  # seconds between two signals that renew the hold
_HOLD_AFTER = 2.0  # seconds for which main may go on without goproc, once it has met KeyboardInterrupt

# The exception that interrupts another goroutine, so that main gets its turn: main has its own interrupt already
thrown: BaseException | None = None


class Delivery:
    """Answers SIGINT while the runtime runs: main meets KeyboardInterrupt, at a place where that does no harm.

    KeyboardInterrupt is raised at once if main runs, in the program's own code. Otherwise main is interrupted as by
    cancel(), at its next operation that blocks; goroutines that compute make room at the end of their slice. Since
    neither need happen, the signal is sent again and again until main has met the exception. After some time the code
    that keeps the process is itself interrupted, so that time.sleep() ends, say.

    Args:
        twice: called at the second Ctrl-C if main has not met the first. Does not return.
    """

    def __init__(self, twice: Callable[[], NoReturn]) -> None:
        self._twice = twice
        self._insisting = False
        self._tries = 0
        self._holding = False
        self.over = False  # True at the end of the program: workers are not released
        self._before: Any = None
        self._hook_before: Any = None

    def install(self) -> None:
        """Take the place of Python's own handler, or of asyncio.run()'s. In the main thread."""
        self._before = signal.signal(signal.SIGINT, self.on_signal)
        _core.interrupts_watch()
        self._hook_before = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable

    def installed(self) -> bool:
        return bool(signal.getsignal(signal.SIGINT) == self.on_signal)

    def remove(self) -> None:
        """Restore the former handler, unless the program has installed another one since."""
        _core.interrupts_leave()
        self.over = self._holding = False
        if self.installed():
            signal.signal(signal.SIGINT, _still_good(self._before))
        if sys.unraisablehook == self._on_unraisable:
            sys.unraisablehook = self._hook_before

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        global thrown
        pressed = _core.interrupts_take()
        main = scheduler.main
        if not pressed:
            if not _pending(main):
                return  # main has met the exception meanwhile
            self._tries += 1
        elif _pending(main):
            self._twice()
        else:
            self._hold_workers()
        here = scheduler.current is main and not main.parked
        if not scheduler.scheduling and (self._tries >= _FORCE or (here and may_raise(frame))):
            self._tries = 0
            if here:
                main.interrupt = None
                raise KeyboardInterrupt
            thrown = KeyboardInterrupt()
            raise thrown
        scheduler.interrupt(main, KeyboardInterrupt())
        self._insist()

    def hold_for_ever(self) -> None:
        """End the program's goroutines because of Ctrl-C: no worker begins another one."""
        self.over = True
        self._hold_workers()

    def _hold_workers(self) -> None:
        import _thread

        _signal_workers(signal.SIGINT)
        if self._holding:
            return
        self._holding = True
        scheduler.post(self._look_at_main)
        try:
            _thread.start_new_thread(self._keep_holding, ())
        except RuntimeError:  # no thread is to be had
            self._holding = False

    def _look_at_main(self) -> None:
        """Release the workers if main waits in an operation of goproc after it has met the exception."""
        main = scheduler.main
        if self.over or not self._holding:
            return
        if main.parked and main.reason != "runnable" and not _pending(main):
            self._holding = False
            _signal_workers(signal.SIGCONT)
        else:
            timers.call_at(monotonic() + 0.01, self._look_at_main)

    def _keep_holding(self) -> None:
        heard = 0.0
        while self._holding and (self.over or self.installed()):
            sleep(_HOLD_AGAIN)
            if not heard and not _pending(scheduler.main):
                heard = monotonic()
            if heard and monotonic() > heard + _HOLD_AFTER and not self.over:
                self._holding = False
                _signal_workers(signal.SIGCONT)
            elif self._holding:
                _signal_workers(signal.SIGINT)

    def _insist(self) -> None:
        import _thread

        if not self._insisting:
            self._insisting = True
            self._tries = 0
            try:
                _thread.start_new_thread(self._send, ())
            except RuntimeError:  # no thread is to be had
                self._insisting = False

    def _send(self) -> None:
        pause = 0.01
        try:
            while self.installed() and _pending(scheduler.main):
                sleep(pause)
                pause = min(2 * pause, 0.16)
                if _pending(scheduler.main):
                    _core.interrupts_repeat()
        finally:
            self._insisting = False

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt) or not self.installed():
            self._hook_before(unraisable)
            return
        if not _pending(scheduler.main):
            scheduler.interrupt(scheduler.main, KeyboardInterrupt())
        self._insist()


def _pending(main: G) -> bool:
    return isinstance(main.interrupt, KeyboardInterrupt)


def replaceable(handler: Any) -> bool:
    """Return True if Delivery may take the place of a handler: Python's own, or one of asyncio.run().

    asyncio.run()'s handler cancels the running task, and main does not notice that while it waits in an operation of
    goproc.
    """
    return handler is signal.default_int_handler or _runner(handler) is not None


def _runner(handler: Any) -> Any:
    """Return the asyncio.Runner that has installed a handler, or None."""
    method: Any = handler.func if isinstance(handler, partial) else None
    return method.__self__ if getattr(method, "__qualname__", "") == "Runner._on_sigint" else None


def _still_good(handler: Any) -> Any:
    """Return Python's own handler in place of that of a Runner which has ended."""
    runner = _runner(handler)
    if runner is not None and not (runner._loop is not None and runner._loop.is_running()):
        return signal.default_int_handler
    return handler


def _signal_workers(number: int) -> None:
    """Send a signal to all workers that have started."""
    pids = _core.pids() if _core.attached() else []
    for pid in pids[1:]:
        if pid:
            try:
                os.kill(pid, number)
            except OSError:
                pass
