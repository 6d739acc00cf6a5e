"""Ctrl-C while goproc loads and starts: KeyboardInterrupt waits until the start is over.

Python raises KeyboardInterrupt at the next bytecode. If that belongs to a weakref callback or a __del__, the exception
is printed as ignored, and the program goes on as if nothing had been pressed; the import system runs such a callback
for every module. Once the runtime runs, sigint.py answers Ctrl-C.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # builtin, and loaded: `signal` would be a dozen imports, unprotected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


class held:
    """``with held():`` a first Ctrl-C waits for the end of the block; a second one does not.

    This takes effect only in the main thread, the only one with signal handlers, and in place of Python's own handler.
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
                pass  # another thread than main
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
