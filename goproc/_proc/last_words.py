"""Standard error of a program that ends: no reader holds up the end.

A pipe may be full and have no reader at work: a write would wait for ever, and the program with it. So text that is
written after the end of the program was claimed goes out within some seconds, or is lost. The write does not wait for
another process or thread either that is in the middle of a line.
"""

from __future__ import annotations

import sys
import time

from goproc._proc import line_output
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_LOCK_SECONDS = 0.3  # a line that has a reader is out by then
_PAUSE = 0.01

_limited = False


class _LastLines(line_output.Lines):
    """The standard error stream of a process after limit()."""

    __slots__ = ()

    def _emit(self, data: bytes) -> None:
        locked = self.locked and _lock_soon()
        try:
            _core.say(data)
        finally:
            if locked:
                _core.output_unlock()


def _lock_soon() -> bool:
    """Take the output lock; return False if it is not free soon."""
    for _ in range(int(_LOCK_SECONDS / _PAUSE)):
        locked = _core.output_lock(False)
        if locked is not None:
            return locked
        time.sleep(_PAUSE)
    return False


def limit() -> None:
    """From now on, let no write to standard error wait for long."""
    global _limited
    _limited = True
    for lines in line_output.active:
        if lines.fd == 2:
            lines.__class__ = _LastLines


def write(stream: TextIO, text: str) -> None:
    """Write to the stream that stands for standard error.

    Raises:
        OSError, ValueError: the stream cannot be written to.
    """
    if _limited and stream is sys.__stderr__ and stream.fileno() == 2:
        _core.say(text.encode(stream.encoding, "backslashreplace"))
    else:
        stream.write(text)
        stream.flush()
