"""Pickles that are not to become large."""

from __future__ import annotations

from goproc.pickling.pickler import Pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TooLarge(Exception):
    """The pickle has more bytes than it may have."""


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
        TooLarge: it has more than `limit` bytes. Little more than these was pickled.
    """
    sink = _Sink(limit)
    Pickler(sink, 5).dump(obj)
    return b"".join(sink.parts)
