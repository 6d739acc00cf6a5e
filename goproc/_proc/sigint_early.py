"""Ctrl-C before the runtime runs: it waits while goproc starts, and ends a program of `goproc run` in one line.

Python raises KeyboardInterrupt at the next bytecode. If that belongs to a weakref callback or a __del__, the exception
is printed as ignored, and the program goes on as if nothing had been pressed; the import system runs such a callback
for every module. After the start, sigint.py answers Ctrl-C.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # builtin, and loaded: `signal` would be a dozen imports, unprotected
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

LINE = "goproc: interrupted (Ctrl-C)\n"


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


def end_in_one_line() -> None:
    """Have an uncaught Ctrl-C end the program with one line and status 130, also before the runtime runs.

    For programs of `goproc run`. The runtime has a hook of its own, see main_exit.py. A hook of the program's stays.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], exc: BaseException, tb: TracebackType | None) -> None:
    called_by_python = sys._getframe().f_back is None
    goes_on = hasattr(sys, "ps1") or bool(sys.flags.inspect)
    if kind is not KeyboardInterrupt or not called_by_python or goes_on:
        sys.__excepthook__(kind, exc, tb)
        return
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    if sys.stderr is not None:
        sys.stderr.write(LINE)
    raise SystemExit(130)
