"""select: the first of several operations. (Not select.py: a submodule of the function's name would hide it.)

The operation is in the C core (goproc/shm/chan/select.c); this file finds the channels of other objects that can be
cases.
"""

from __future__ import annotations

from goproc.shm._core import Selected, Selector, default, select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Selected", "Selector", "default", "select"]


def case_of(obj: Any) -> Any:
    """Return the channel of a case that is neither a channel nor a method of one: a timer's, a context's.

    Returns:
        None if it is no case.
    """
    kind = type(obj)
    case = getattr(kind, "__goproc_case__", None)
    if case is not None:
        return case(obj)
    if all(hasattr(kind, name) for name in ("done", "err", "deadline", "value")):
        # a context, also one of the program's own making
        return obj.done()
    return None
