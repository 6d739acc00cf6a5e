"""The items of a packed exception. Shared memory carries the plain tuple; readers use `Packed(*stored)`."""

from __future__ import annotations

from typing import Any

from goproc._record import Record


class Packed(Record):
    """An exception as plain builtins, as failure.pack() makes it."""

    # Bytes; a tuple of bytes and handles; None if there is none. Below the top: the number in that pickle.
    pickle: Any
    kind: str  # the name of its type
    text: str
    frames: str  # the frames of the traceback, as text
    cause: tuple[Any, ...] | None
    context: tuple[Any, ...] | None
    suppress_context: bool
    members: tuple[tuple[Any, ...], ...] | None  # the members of a group


ITEMS = len(Packed._fields)
