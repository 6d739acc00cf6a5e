"""Where a goroutine may be left between two bytecodes, at the end of its time slice.

Not in library code: a goroutine suspended in there may hold a lock that belongs to the whole thread (logging's, the
import system's), and the next one would walk through it, or stop on it for ever. Not within the scheduler, or while a
message is pickled. A native lock of the program's own may be held: who then blocks on it is interrupted in turn, and the
holder goes on.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_SCHEDULER = _PACKAGE + "scheduler.py"
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_kinds: dict[str, str] = {}  # by file name: "user", "goproc", "scheduler" or "library"


def is_safepoint(frame: FrameType | None, bottom: CodeType) -> bool:
    """Tell whether a goroutine may be left where it is: in the program's own code, called by nothing else.

    Args:
        frame: the innermost one.
        bottom: what every goroutine's stack begins with; main's has none.
    """
    innermost = True
    while frame is not None:
        code = frame.f_code
        if code is bottom:
            return not innermost
        name = code.co_filename
        kind = _kinds.get(name) or _kinds.setdefault(name, _kind_of(name))
        if kind != "user" and (kind != "goproc" or innermost):
            return False
        innermost = False
        frame = frame.f_back
    return not innermost


def _kind_of(name: str) -> str:
    if name.startswith(_PACKAGE):
        return "scheduler" if name == _SCHEDULER else "goproc"
    if name.startswith((_LIBRARY, "<frozen ")) or any(part in name for part in _INSTALLED):
        return "library"
    return "user"
