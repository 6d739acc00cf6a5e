"""The bytes of a message: protocol 5, with large buffers out of band."""

from __future__ import annotations

import pickle

from goproc._pickling import pickler
from goproc._record import Record
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Buffer = memoryview | _core.Reference

OUT_OF_BAND = 16 * 1024


class Pickled(Record):
    """A pickle, and the contiguous buffers of 16 KiB and more, which are not in it.

    The buffers are views of the object's memory; References to buffers that shared memory holds already.
    """

    body: bytes
    buffers: list[Buffer]

    @property
    def bytes(self) -> int:
        return len(self.body) + sum([buffer.nbytes for buffer in self.buffers])


class Whole:
    """A value to be pickled with everything in it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def dump(obj: Any, kind: Callable[..., pickler.Pickler] = pickler.Pickler) -> tuple[bytes, list[Buffer]]:
    """Pickle `obj`; raise the errors of pickle."""
    sink = pickler.Sink()
    buffers: list[Buffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        reference = _core.reference(raw) if raw.nbytes >= _core.LARGE_BUFFER else None
        buffers.append(raw if reference is None else reference)
        return False

    made = kind(sink, 5, buffer_callback=keep)
    made.strong = None
    made.dump(obj)
    if made.has_weak:
        # This time with the objects of weak references, now that the other objects of the message are known.
        known = made.memo.copy()  # keeps the objects, so that their ids stay theirs
        sink.clear()
        buffers.clear()
        made = kind(sink, 5, buffer_callback=keep)
        made.strong = known
        made.dump(obj)
    return b"".join(sink), buffers
