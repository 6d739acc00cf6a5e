"""The results of items on their way from a lane to the host, which may be unable to read some of them."""

from __future__ import annotations

from typing import Any

from goproc._data.job import DONE, UNREAD, Done
from goproc._pickling import messages
from goproc._pickling.salvage import Parts, Unread, gave_up, note_path, path_of
from goproc._raised import described
from goproc.errors import PickleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._pickling.salvage import Path


def parted(message: tuple[Any, ...], named: bool = False) -> list[tuple[Any, ...]]:
    """Return messages that tell the same as one of a lane: UNREAD tells of a result that could not be read.

    Args:
        message: of a lane.
        named: each result is in a pair with the name of its item in a checkpoint.
    """
    if message[0] != DONE or type(message[2]) is not Parts:
        return [message]
    done = Done(*message)
    if all(type(value) is not Unread for value in done.values):
        return [message]
    errors = [
        unreadable("the result", value.error, "the caller", value.path[named:])
        if type(value) is Unread
        else None
        for value in done.values
    ]
    return told_apart(done, errors)


def told_apart(done: Done, errors: list[PickleError | None]) -> list[tuple[Any, ...]]:
    """Return a message for each result: DONE, or UNREAD where there is an exception."""
    share = done.work / len(done.values)
    parts: list[tuple[Any, ...]] = []
    for position, (value, error) in enumerate(zip(done.values, errors, strict=True)):
        seconds = done.seconds if position == done.slowest else share
        if error is None:
            parts.append(Done(DONE, done.lane, [value], share, 0.0, 0, seconds))
        else:
            parts.append((UNREAD, done.lane, error, seconds))
    return parts


def unreadable(what: str, cause: BaseException, reader: str, path: Path | None = None) -> PickleError:
    """Return the exception for a value that a process cannot read.

    Args:
        what: the value, to the user.
        cause: raised by reading it.
        reader: the process, as in "the worker".
        path: to the part of the value that is to blame; None: as noted when this process read the value.
    """
    part = " -> ".join([what, *(path_of(cause) if path is None else path)])
    large = " (it is too large to look for the part that is to blame)" if gave_up(cause) else ""
    error = PickleError(f"{part} cannot be read by {reader}{large}: {described(cause)}")
    error.__cause__ = cause
    return error


messages.on_unreadable = note_path
