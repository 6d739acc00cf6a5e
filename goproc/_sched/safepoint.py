"""Where a goroutine may be left between two bytecodes, at the end of its time slice, and where Ctrl-C may be raised.

A goroutine that is left in a library may hold a lock that belongs to the whole thread (logging's, the import system's),
and the next one would walk through it, or stop on it for ever. So not where any module on its stack knows locks; most of
what computes knows none (json, csv, re, statistics, NumPy). Not within goproc itself either, nor in what goproc called,
or while a message is pickled. A native lock of the program's own may be held: who then blocks on it is interrupted in
turn, and the holder goes on.
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

_OWN = {"scheduler": "scheduler", "tool": "tool"}  # by the marks of _frames.py

# By file name: "user", "goproc", "tool" (of goproc), "scheduler", "library", or "lockless": a library that knows no locks
_kinds: dict[str, str] = {}


def is_safepoint(frame: FrameType | None, bottom: CodeType) -> bool:
    """Tell whether a goroutine may be left where it is: in the program's own code, or in a lockless library it called.

    Args:
        frame: the innermost one.
        bottom: what every goroutine's stack begins with; main's has none.
    """
    innermost = True  # but for lockless libraries
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
    """Tell whether a signal's handler may raise where it is: in code of the program, or in a library that it called.

    Not in goproc's own, which would lose count of what it has begun, nor in a library that goproc called.
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
            return "library"  # it may still import some
        kind = "library" if any(map(_is_lock, list(frame.f_globals.values()))) else "lockless"
    else:
        kind = "user"
    _kinds[name] = kind
    return kind


def _is_lock(value: Any) -> bool:
    """True for a lock, and for an object of the modules that make locks."""
    if value is threading or value is _thread:
        return True
    if not isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        value = type(value)
    return value.__module__ in ("threading", "_thread")
