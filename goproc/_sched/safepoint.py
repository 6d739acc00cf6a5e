"""The points between two bytecodes at which a goroutine may be left when its slice ends, or Ctrl-C may be raised.

A goroutine that is left inside a library may hold a lock that belongs to the whole thread (logging's, the import
system's): the next goroutine would walk through the lock, or wait for it for ever. So a goroutine is not left while a
module on its stack knows locks. Most modules that compute know none (json, csv, re, statistics, NumPy). Nor is it
left within goproc, in functions that goproc calls, or while a message is pickled. The program's own code may hold a
native lock: a goroutine that blocks on the lock is interrupted in turn, and the holder goes on.
"""

from __future__ import annotations

import _thread
import os
import threading
from types import BuiltinFunctionType, FunctionType

from goproc import _frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_OWN = {"scheduler": "scheduler", "tool": "tool"}  # kinds by the marks of _frames.py

# The kind of each file: "user", "goproc", "tool" (of goproc), "scheduler", "library", or "lockless", a library without
# locks.
_kinds: dict[str, str] = {}


def is_safepoint(frame: FrameType | None, bottom: CodeType) -> bool:
    """Return True if a goroutine may be left at `frame`: in the program's code, or in a lockless library under it.

    Args:
        frame: the innermost one.
        bottom: the frame at the bottom of every goroutine's stack; main's stack has none.
    """
    innermost = True  # frames of lockless libraries do not count
    while frame is not None:
        code = frame.f_code
        if code is bottom:
            return not innermost
        kind = _kinds.get(code.co_filename) or _kind(frame)
        if kind == "user":
            innermost = False
        elif kind != "lockless" and (innermost or kind not in ("goproc", "tool")):
            return False
        frame = frame.f_back
    return not innermost


def may_raise(frame: FrameType | None) -> bool:
    """Return True if a signal's handler may raise at `frame`: in the program's code, or in a library under it.

    In goproc's own code, or in a library that goproc calls, an exception could leave a step half done.
    """
    while frame is not None:
        kind = _kinds.get(frame.f_code.co_filename) or _kind(frame)
        if kind == "user":
            return True
        if kind in ("goproc", "scheduler"):
            return False
        frame = frame.f_back
    return True


def _kind(frame: FrameType) -> str:
    name = frame.f_code.co_filename
    if _frames.is_own(frame):
        kind = _OWN.get(_frames.mark(frame), "goproc")
    elif name.startswith((_LIBRARY, "<frozen ")) or any(part in name for part in _INSTALLED):
        if getattr(frame.f_globals.get("__spec__"), "_initializing", False):
            return "library"  # the module may still import a module with locks
        kind = "library" if any(map(_is_lock, list(frame.f_globals.values()))) else "lockless"
    else:
        kind = "user"
    _kinds[name] = kind
    return kind


def _is_lock(value: Any) -> bool:
    """Return True for a lock, and for an object of the modules that make locks."""
    if value is threading or value is _thread:
        return True
    if not isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        value = type(value)
    return value.__module__ in ("threading", "_thread")
