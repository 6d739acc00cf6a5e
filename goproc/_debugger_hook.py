"""Keeps pdb, and other debuggers that are made with Python's bdb, in the frames of the program.

Below the function of a goroutine are frames of goproc. A debugger that goes on step by step would stop there when the
function has returned, and its `quit` would raise BdbQuit in the middle of the end of the goroutine. So no step ends in
goproc's code: one that begins with a call of goproc ends behind the call. A debugger that still goes step by step at the
end of a goroutine's function lets the process run, as it does at the end of a thread.

goproc/__init__.py loads this file as soon as the program imports bdb.
"""

from __future__ import annotations

import sys

from goproc import _import_hook, _isolation
from goproc._frames import is_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

_BOTTOM = "goproc._life"  # whose frames call the functions of goroutines
_GUEST = "_debugs_goproc"  # an attribute of a debugger: it was called from goproc's code, to debug that


def find(caller: Any) -> Any:
    """Find bdb as the other finders do, and learn when it is loaded.

    Args:
        caller: the finder of sys.meta_path that calls this function. It leaves sys.meta_path when bdb is loaded.
    """
    return _import_hook.find("bdb", caller, _meet)


def _meet(bdb: Any) -> None:
    stop_here, set_trace = bdb.Bdb.stop_here, bdb.Bdb.set_trace

    def stop_in_program(self: Any, frame: FrameType) -> Any:
        """Return True if the debugger stops at a frame: never at one of goproc's."""
        if not is_own(frame) or frame.f_code is _stop.__code__ or getattr(self, _GUEST, False):
            return stop_here(self, frame)
        if not self.stopframe:  # it goes step by step
            if frame.f_trace is not None and frame.f_globals["__name__"] == _BOTTOM:
                self.set_continue()
            elif frame.f_back is not None and not is_own(frame.f_back):
                self.set_next(frame.f_back)
        return False

    def set_trace_in_program(self: Any, frame: FrameType | None = None, *args: Any, **kwargs: Any) -> Any:
        """Start to debug from a frame, that of the caller by default."""
        frame = sys._getframe(1) if frame is None else frame
        if frame.f_globals.get("__name__") == _BOTTOM:
            return _stop(set_trace, self, *args, **kwargs)
        setattr(self, _GUEST, is_own(frame))
        return set_trace(self, frame, *args, **kwargs)

    bdb.Bdb.stop_here = stop_in_program
    bdb.Bdb.set_trace = set_trace_in_program


def _stop(set_trace: Callable[..., Any], debugger: Any, *args: Any, **kwargs: Any) -> None:
    """Stop in this frame: the function of the goroutine is that of the debugger, and there is no other frame."""
    set_trace(debugger, sys._getframe(), *args, **kwargs)
    return


_module = _isolation.loaded("bdb")
if _module is not None and hasattr(_module, "Bdb"):  # it is complete
    _meet(_module)
