"""The tracebacks of exceptions that leave goproc: the user's line, and no frames of goproc's behind it.

``from goproc import go`` imports this file, so it imports next to nothing. The modules that it needs are loaded with the
rest of the runtime.
"""

from __future__ import annotations

import sys

__goproc_frames__ = "tool"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def cut(exc: BaseException, told: bool = False) -> None:
    """Cut goproc's frames off the outer end of an exception's traceback.

    The caller raises it again by a bare ``raise``, which adds no frame: the line of the user's code that has called goproc
    is next. Frames of the user's behind those of goproc, as of an iterable, stay. So do all frames of an exception that
    no statement has raised, which a report of a defect needs.

    Args:
        exc: the exception.
        told: True for the exception of a function of the user's, with notes that tell where it was raised.
    """
    if "goproc._wiring" not in sys.modules:
        return  # the runtime could not be loaded, for want of descriptors perhaps: no further module is read
    from goproc._frames import is_own
    from goproc._raised import set_traceback

    rest = last = exc.__traceback__
    while rest is not None and is_own(rest.tb_frame):
        last, rest = rest, rest.tb_next
    if rest is not None or told or is_told(exc, last):
        set_traceback(exc, rest)


class _UserLine:
    """A block whose exceptions show the line that has called the function around the block, and none of goproc's."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            cut(exc)


user_line = _UserLine()


def is_told(exc: BaseException, last: TracebackType | None) -> bool:
    """Return True if goproc tells the user something by an exception: it is no defect of goproc's.

    Args:
        exc: the exception.
        last: its innermost frame, which is one of goproc's.
    """
    from goproc.errors import GoprocError

    if isinstance(exc, AssertionError):
        return False
    if isinstance(exc, (GoprocError, OSError)) or not isinstance(exc, Exception):
        return True
    from opcode import opmap

    return last is not None and last.tb_frame.f_code.co_code[last.tb_lasti] == opmap["RAISE_VARARGS"]
