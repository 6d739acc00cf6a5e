"""Pickles that are not to become large, nor to take long."""

from __future__ import annotations

import sys

from goproc._pickling.pickler import Pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TooLarge(Exception):
    """The pickle has more bytes than it may have, or holds an object that may be large."""


class _Pickler(Pickler):
    """Refuses objects of installed libraries: a model or a table may be copied whole before a byte is written."""

    def reducer_override(self, obj: Any) -> Any:
        module = sys.modules.get(type(obj).__module__)
        if "-packages/" in (getattr(module, "__file__", None) or ""):
            raise TooLarge
        return super().reducer_override(obj)


class _Sink:
    """The file of a pickler that gives up on what is large."""

    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self._left = limit

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge
        self.parts.append(bytes(data))


def dump_bounded(obj: Any, limit: int) -> bytes:
    """Pickle an object as messages do, with nothing out of band.

    Raises:
        TooLarge: it has more than `limit` bytes, of which little more were pickled, or objects of installed libraries.
    """
    sink = _Sink(limit)
    _Pickler(sink, 5).dump(obj)
    return b"".join(sink.parts)
