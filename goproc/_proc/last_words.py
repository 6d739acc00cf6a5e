"""Reports on standard error: no reader holds up the program or its end.

A pipe may be full and have no reader at work: a write would wait for ever, and the program with it. So goproc's own
reports, and all text that is written after the end of the program was claimed, go out within some seconds, or are lost.
The write does not wait for another process or thread either that is in the middle of a line.
"""

from __future__ import annotations

import sys

from goproc._proc import line_output, stdio
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_LOCK_SECONDS = 0.3  # a line that has a reader is out by then


class _LastLines(line_output.Lines):
    """The standard error stream of a process after limit()."""

    __slots__ = ()

    def _emit(self, data: bytes) -> None:
        _say(data, self.locked)


def _say(data: bytes, locks: bool) -> None:
    locked = locks and line_output.lock_soon(_LOCK_SECONDS)
    try:
        _core.say(data)
    finally:
        if locked:
            _core.output_unlock()


def limit() -> None:
    """From now on, let no write to standard error wait for long, and none to standard output for another write."""
    line_output.wait_no_longer(_LOCK_SECONDS)
    for lines in line_output.active:
        if lines.fd == 2:
            lines.__class__ = _LastLines


def write(stream: TextIO, text: str) -> None:
    """Write a report to the stream that stands for standard error.

    Raises:
        OSError, ValueError: the stream cannot be written to.
    """
    if not _leads_to_descriptor(stream):
        stream.write(text)
        stream.flush()
        return
    locks = any(lines.fd == 2 and lines.locked for lines in line_output.active)
    _say(text.encode(stream.encoding, "backslashreplace"), locks)


def _leads_to_descriptor(stream: TextIO) -> bool:
    """True for Python's or goproc's stream of descriptor 2; others are the program's."""
    return (stream is sys.__stderr__ or isinstance(stream, stdio.TextStream)) and stream.fileno() == 2
