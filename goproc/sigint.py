"""Ctrl-C while the runtime is there.

Python raises KeyboardInterrupt at whichever bytecode is next, in whichever goroutine runs: in the middle of goproc's own
bookkeeping, or in a __del__ that drops it. Neither may be.
"""

from __future__ import annotations

import signal
import sys

from goproc import scheduler
from goproc.safepoint import may_raise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from goproc.g import G

_FORCE = 5  # signals of ours in vain, about 0.5 s, after which what holds the process is interrupted wherever it is

thrown: BaseException | None = (
    None  # what interrupted a goroutine last, for main to have its turn: main knows already
)


class Delivery:
    """Answers SIGINT while the runtime is there: main is to hear of it, whoever runs, at a place where it does no harm.

    KeyboardInterrupt is raised where it comes if that is main, in the program's own code. Anywhere else main is
    interrupted as by cancel(), at its next operation that blocks; goroutines that compute make room at the end of their
    slice. As neither need happen, the signal is sent again and again until main has heard. From some time on what
    holds the process is itself interrupted, so that time.sleep() ends, say.

    Args:
        twice: called at the second Ctrl-C if main has not heard of the first. Does not return.
    """

    def __init__(self, twice: Callable[[], NoReturn]) -> None:
        self._twice = twice
        self._again = False  # the next signal is one of ours
        self._insisting = False
        self._tries = 0
        self._before: Any = None
        self._hook_before: Any = None

    def install(self) -> None:
        """In the main thread, where Python's own handler was."""
        self._before = signal.signal(signal.SIGINT, self.on_signal)
        self._hook_before = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable

    def installed(self) -> bool:
        return bool(signal.getsignal(signal.SIGINT) == self.on_signal)

    def remove(self) -> None:
        """Put back what was there, unless somebody has installed something else since."""
        if self.installed():
            signal.signal(signal.SIGINT, self._before)
        if sys.unraisablehook == self._on_unraisable:
            sys.unraisablehook = self._hook_before

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        global thrown
        again, self._again = self._again, False
        main = scheduler.main
        if again:
            if not _pending(main):
                return  # main has heard meanwhile
            self._tries += 1
        elif _pending(main):
            self._twice()
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
        import threading
        from time import sleep

        ident, pause = threading.main_thread().ident, 0.01
        try:
            while ident is not None and self.installed() and _pending(scheduler.main):
                sleep(pause)
                pause = min(2 * pause, 0.16)
                if _pending(scheduler.main):
                    self._again = True
                    signal.pthread_kill(ident, signal.SIGINT)
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
