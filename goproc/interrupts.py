"""Ctrl-C is never lost.

Python raises KeyboardInterrupt at whichever bytecode is next. If that belongs to a weakref callback or a __del__, the
exception is printed as ignored, and the program goes on as if nothing had been pressed; the import system runs such a
callback for every module. So Ctrl-C waits while goproc loads its modules and starts (`held`), and is sent once more
if it was dropped while the program ran (`Resent`).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # builtin, and loaded: `signal` would be a dozen imports, unprotected
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_PAUSE = 0.01  # seconds: whatever dropped the interrupt should be over by then; if not, there is a next time


class held:
    """``with held():`` a Ctrl-C waits for the end of the block; a second one does not.

    Only where Python's own handler is installed, and in the main thread, which is the only one that has handlers.
    """

    __slots__ = ("_came", "_holds")

    def __init__(self) -> None:
        self._came = self._holds = False

    def __enter__(self) -> held:
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            try:
                _signal.signal(_signal.SIGINT, self._hold)
                self._holds = True
            except ValueError:
                pass  # another thread
        return self

    def __exit__(self, *exc: object) -> None:
        if self._holds:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
            if self._came:
                raise KeyboardInterrupt

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True


class Resent:
    """Has a Ctrl-C sent once more that Python could not raise where it came.

    Args:
        handler: what answers SIGINT while this is installed.
    """

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._before = sys.unraisablehook
        sys.unraisablehook = self._hook

    def remove(self) -> None:
        """Put back the hook that was there, unless somebody has installed another one since."""
        if sys.unraisablehook == self._hook:
            sys.unraisablehook = self._before

    def _hook(self, unraisable: sys.UnraisableHookArgs) -> None:
        if (
            not isinstance(unraisable.exc_value, KeyboardInterrupt)
            or _signal.getsignal(_signal.SIGINT) is not self._handler
        ):
            self._before(unraisable)
            return
        import _thread

        try:
            _thread.start_new_thread(_send, ())
        except RuntimeError:  # no thread is to be had
            self._before(unraisable)


def _send() -> None:
    import threading
    from time import sleep

    sleep(_PAUSE)
    ident = threading.main_thread().ident
    if ident is not None:
        _signal.pthread_kill(ident, _signal.SIGINT)
