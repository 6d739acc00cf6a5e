"""The bytes of a message: protocol 5, with large buffers out of band."""

from __future__ import annotations

import pickle
from typing import NamedTuple

from goproc._pickling import pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OUT_OF_BAND = 16 * 1024


class Pickled(NamedTuple):
    """A pickle, and the contiguous buffers of 16 KiB and more, which are not in it but views of the object's memory."""

    body: bytes
    buffers: list[memoryview]

    @property
    def bytes(self) -> int:
        return len(self.body) + sum([buffer.nbytes for buffer in self.buffers])


class Whole:
    """A value that is to be pickled with everything in it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def dump(obj: Any, kind: Callable[..., pickler.Pickler] = pickler.Pickler) -> tuple[bytes, list[memoryview]]:
    """Pickle `obj`; raise whatever pickle raises."""
    sink = pickler.Sink()
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    kind(sink, 5, buffer_callback=keep).dump(obj)
    return b"".join(sink), buffers
