"""Items of a flow or a channel that cannot be read where they arrive: each is a failure of the stage or the map that takes it.

Every branch of a tee() has stages of its own, which decide about an item that cannot be sent. So a NotSent goes through the
tee() in its place, and reading that raises the error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc._data.ends import short
from goproc._data.results import unreadable
from goproc._pickling import failure
from goproc._pickling.salvage import path_of
from goproc.errors import ChanClosed, PickleError, RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READS = "goproc._pickling."  # the modules that read messages
UNKNOWN = "<an item that cannot be read>"  # stands in its place


class Unread(NamedTuple):
    """An item that cannot be read.

    Attributes:
        error: the exception for it.
        text: its repr(), shortened, if that is known.
    """

    error: Exception
    text: str | None = None


class _Refused(Exception):
    """Raised by reading a NotSent."""


class NotSent:
    """Stands for an item that cannot be sent.

    Args:
        item: the item.
        error: names the path to the part that is to blame.
    """

    def __init__(self, item: Any, error: Exception) -> None:
        self._text = short(item)
        self._error = error

    def __reduce__(self) -> Any:
        return _refuse, (self._text, failure.pack(self._error))


def _refuse(text: str, error: tuple[Any, ...]) -> None:
    raise _Refused(text, error)


def unread(exc: Exception, reader: str, what: str = "the item", inside: int = 0) -> Unread | None:
    """Return the Unread for an item that could not be read; None if a receive was broken off by something else.

    Args:
        exc: raised by the receive.
        reader: the process, as in "the worker".
        what: the item, to the user.
        inside: of so many tuples and lists that the message has around the item.
    """
    if isinstance(exc, (ChanClosed, RuntimeStopped)) or not rose_in_reading(exc):
        return None
    if isinstance(exc, _Refused):
        text, packed = exc.args
        return Unread(failure.unpack(packed), text)  # type: ignore[arg-type]
    if isinstance(exc, PickleError):
        return Unread(exc)
    return Unread(unreadable(what, exc, reader, path_of(exc)[inside:]))


def rose_in_reading(exc: Exception) -> bool:
    """Return True if an exception comes from the reading of a message: a signal handler may have raised it as well."""
    trace = exc.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith(_READS):
            return True
        trace = trace.tb_next
    return False


def about_unread(exc: Exception, stage: str | None, what: str = "the item") -> Exception:
    """Return the exception for a value that the process of the consumer could not receive; it names a stage.

    Args:
        exc: raised by the receive.
        stage: the name of the stage, or None.
        what: the value, to the user.
    """
    refused = unread(exc, "the caller", what)
    if refused is None:
        return exc
    if stage is not None:
        refused.error.add_note(f"in the stage {stage!r} of the flow")
    return refused.error


def readable(values: Iterator[Any], stage: str) -> Iterator[Any]:
    """Yield the values of an edge. The exception for one that this process cannot read names the stage that takes it."""
    try:
        # `yield from` would close the channel together with this generator.
        for value in values:  # noqa: UP028
            yield value
    except Exception as exc:
        error = about_unread(exc, stage)
        if error is exc:
            raise
        raise error from error.__cause__
