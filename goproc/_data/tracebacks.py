"""The tracebacks of exceptions that leave a map or a flow: the user's line, and no frames of goproc's behind it."""

from __future__ import annotations

from goproc._frames import is_own
from goproc.errors import GoprocError

_ON_PURPOSE = (GoprocError, OSError, ValueError)  # what goproc raises to tell the user something


def cut(exc: BaseException, told: bool = False) -> None:
    """Cut goproc's frames off the outer end of an exception's traceback.

    The caller raises it again by a bare ``raise``, which adds no frame: the line of the user's code that has called goproc
    is next. Frames of the user's behind those of goproc, as of an iterable, stay. So do all frames of an exception that
    nobody has raised on purpose, which a report of a defect needs.

    Args:
        exc: the exception.
        told: True for the exception of a function of the user's, with notes that tell where it was raised.
    """
    rest = exc.__traceback__
    while rest is not None and is_own(rest.tb_frame):
        rest = rest.tb_next
    if rest is not None or told or isinstance(exc, _ON_PURPOSE) or not isinstance(exc, Exception):
        exc.__traceback__ = rest
