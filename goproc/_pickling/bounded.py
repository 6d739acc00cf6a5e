"""Pickles with a limit on their size and on the time that they take."""

from __future__ import annotations

import sys

from goproc._pickling.pickler import Pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TooLarge(Exception):
    """Raised if the pickle has more bytes than its limit, or holds an object that may be large."""


class _Pickler(Pickler):
    """Refuses objects of installed libraries: a model or a table might be copied whole before a byte is written."""

    def reducer_override(self, obj: Any) -> Any:
        module = sys.modules.get(type(obj).__module__)
        if "-packages/" in (getattr(module, "__file__", None) or ""):
            raise TooLarge
        return super().reducer_override(obj)


class _Sink:
    """The file of a pickler that gives up beyond a limit."""

    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self._left = limit

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge
        self.parts.append(bytes(data))


def dump_bounded(obj: Any, limit: int) -> bytes:
    """Pickle an object as messages do, with no buffer out of band.

    Raises:
        TooLarge: the pickle has more than `limit` bytes (few more are made), or objects of installed libraries.
    """
    sink = _Sink(limit)
    _Pickler(sink, 5).dump(obj)
    return b"".join(sink.parts)
