"""The watchdog of tests: it ends a process in which a test takes too long, with all that can be seen of it.

It is a plain thread: a hang must never look like a slow machine. Should the hung thread hold the GIL, no thread of Python
runs, and faulthandler's own timer ends the process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GRACE = 20.0  # seconds for a part of the report, before faulthandler ends the process
STATUS_HUNG = 70  # of a session that the watchdog has ended


class Watchdog:
    """Ends the process, with every stack, when a test takes too long.

    Attributes:
        stderr: the descriptor that the report goes to.
    """

    def __init__(self, stderr: int = 2) -> None:
        self.stderr = stderr
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._name = ""
        self._thread: threading.Thread | None = None

    def arm(self, name: str, seconds: float) -> None:
        """Bark after a time, unless disarm() or arm() is called before. Zero or less is no time limit."""
        if seconds <= 0:
            return
        with self._changed:
            self._name, self._deadline = name, time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="goproc watchdog", daemon=True)
                self._thread.start()
            self._changed.notify()
        self._bound(seconds + GRACE)

    def disarm(self) -> None:
        """End the time of the current test."""
        faulthandler.cancel_dump_traceback_later()
        with self._changed:
            self._deadline = None
            self._changed.notify()

    def reports(self) -> Iterable[Callable[[], None]]:
        """Return the parts of the report. A part that fails leaves the others as they are."""
        return self._threads, self._goroutines

    def kill_children(self) -> None:
        """Kill the processes that this one has started, directly or not."""
        import psutil

        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    def say(self, text: str) -> None:
        """Write a part of the report."""
        os.write(self.stderr, (text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))

    def _bound(self, seconds: float) -> None:
        """Have faulthandler end the process after a time, also while a thread keeps the GIL."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=self.stderr)

    def _watch(self) -> None:
        with self._changed:
            while self._deadline is None or time.monotonic() < self._deadline:
                self._changed.wait(None if self._deadline is None else self._deadline - time.monotonic())
        self._bark()

    def _bark(self) -> None:
        try:
            self.say(f"\n\n===== {self._name}: time is up =====")
            for report in self.reports():
                self._bound(GRACE)
                try:
                    report()
                except Exception:
                    self.say(traceback.format_exc())
        finally:
            self.kill_children()
            self.say("===== end of the report =====")
            os._exit(STATUS_HUNG)

    def _threads(self) -> None:
        self.say(f"\n-- threads of process {os.getpid()}")
        faulthandler.dump_traceback(file=self.stderr, all_threads=True)

    def _goroutines(self) -> None:
        import goproc
        from goproc.shm import _core

        if _core.attached():
            self.say(f"\n-- goroutines\n{goproc.dump()}")
