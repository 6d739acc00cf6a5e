"""The end of a map: by close(), by being dropped, by an exception."""

from __future__ import annotations

from time import monotonic
from typing import Any

from goproc._deaths import end_process
from goproc._select import Selector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._channel import Chan
    from goproc._goroutine import Goroutine

CLOSE_SECONDS = 1.0  # that a call has to end after close(); then its process is killed
_REPR = 200  # characters of an item in a note


def reap(stations: list[Goroutine[Any]], patience: float) -> None:
    """Wait until stations that were cancelled have ended. One that has not in time is killed with its process."""
    until = monotonic() + patience
    for handle in stations:
        try:
            handle.join(max(0.0, until - monotonic()))
        except TimeoutError:
            end_process(handle._proc)
        handle.exception()


def await_ends(live: list[Any], door: Chan[Any], until: float) -> None:
    """Wait until stations that were cancelled have ended; kill those that have not in time.

    Args:
        live: the handles of the stations.
        door: of the engine. The stations may be sending: their messages are dropped.
        until: the time.
    """
    while live and (left := until - monotonic()) > 0:
        try:
            index, _, _ = Selector(door, *live).select(left)
        except TimeoutError:
            break
        if index > 0:
            live.pop(index - 1).exception()
    reap(live, 0.0)


def short(item: Any) -> str:
    try:
        text = repr(item)
    except Exception as exc:
        text = f"<{type(item).__name__}, whose repr() raises {type(exc).__name__}>"
    return text if len(text) <= _REPR else text[: _REPR - 3] + "..."


def raisable(error: BaseException, of: str = "the function") -> BaseException:
    """Return what next() raises for an exception: not one that would end a loop or the program quietly.

    Args:
        error: the exception.
        of: the words for the part of the map that raised it.
    """
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    wrapped = RuntimeError(f"{of} of the map raised {type(error).__name__}: {error}")
    for note in getattr(error, "__notes__", ()):
        wrapped.add_note(note)
    wrapped.__cause__ = error
    return wrapped
