"""The kinds of goproc's own frames, and the rules for each kind.

A module, or its package, has a global ``__goproc_frames__`` that gives the kind of its frames:

    "scheduler"  the switch between goroutines: a stack may lie on it, and nothing is raised in it
    "machinery"  runs goroutines, or reports on them: stacks are shown without it
    "tool"       keeps no state between its steps: an exception may come there as in any library

A module without the mark is like any other of goproc's.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def is_own(frame: FrameType) -> bool:
    """True if the code of `frame` is in a file of goproc's."""
    return frame.f_code.co_filename.startswith(PACKAGE)


def mark(frame: FrameType) -> str:
    """Return the mark of the module that `frame` runs in, or of its package; "" if there is none."""
    found = frame.f_globals.get("__goproc_frames__")
    if found is None:
        package = sys.modules.get(frame.f_globals.get("__package__") or "")
        found = getattr(package, "__goproc_frames__", None)
    return found if isinstance(found, str) else ""
