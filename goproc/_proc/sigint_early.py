"""Ctrl-C while goproc loads and starts: it waits.

Python raises KeyboardInterrupt at whichever bytecode is next. If that belongs to a weakref callback or a __del__, the
exception is printed as ignored, and the program goes on as if nothing had been pressed; the import system runs such a
callback for every module. What comes after the start is in sigint.py.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # builtin, and loaded: `signal` would be a dozen imports, unprotected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


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
