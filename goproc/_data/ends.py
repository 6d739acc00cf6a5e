"""The end of a map: by close(), by being dropped, by an exception."""

from __future__ import annotations

from time import monotonic
from typing import Any

from goproc._deaths import end_process
from goproc._go import go
from goproc._raised import described
from goproc._select import Selector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._channel import Chan
    from goproc._goroutine import Goroutine

CLOSE_SECONDS = 1.0  # that a call has to end after close(); then its process is killed
_REPR = 200  # characters of an item in a note


def reap(stations: list[Goroutine[Any]], patience: float, calls: Callable[[Any], bool]) -> None:
    """Wait until stations that were cancelled have ended. One whose call has not in time is killed with its process.

    Args:
        stations: their handles.
        patience: seconds.
        calls: returns True for the handle of a station in which a call runs.
    """
    until = monotonic() + patience
    for handle in stations:
        try:
            handle.join(max(0.0, until - monotonic()))
        except TimeoutError:
            if calls(handle):
                end_process(handle._proc)
    for handle in stations:
        handle.exception()


def await_ends(live: list[Any], door: Chan[Any], until: float, calls: Callable[[Any], bool]) -> None:
    """Wait until stations that were cancelled have ended; kill those whose calls have not in time.

    A station that imports modules, to read its function or an item, cannot be cancelled meanwhile. It makes no call any
    more, so nobody waits for its end.

    Args:
        live: the handles of the stations.
        door: of the engine. The stations may be sending: their messages are dropped.
        until: the time.
        calls: returns True for the handle of a station in which a call runs.
    """
    while live and (left := until - monotonic()) > 0:
        try:
            index, _, _ = Selector(door, *live).select(left)
        except TimeoutError:
            break
        if index > 0:
            live.pop(index - 1).exception()
    importing = [handle for handle in live if not calls(handle)]
    read_later(importing)
    reap([handle for handle in live if handle not in importing], 0.0, calls)


def read_later(stations: list[Goroutine[Any]]) -> None:
    """Have a goroutine read how stations end that make no call any more: nobody else wants to hear of it."""
    if stations:
        go.local(reap, stations, 0.0, _never)


def _never(handle: Any) -> bool:
    return False


def short(item: Any) -> str:
    try:
        text = repr(item)
    except Exception as exc:
        text = f"<{type(item).__name__}, whose repr() raises {type(exc).__name__}>"
    return text if len(text) <= _REPR else text[: _REPR - 3] + "..."


def raisable(error: BaseException, of: str = "the function of the map") -> BaseException:
    """Return what next() raises for an exception: not one that would end a loop or the program quietly.

    Args:
        error: the exception.
        of: the words for what raised it.
    """
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    wrapped = RuntimeError(f"{of} raised {described(error)}")
    for note in getattr(error, "__notes__", ()):
        wrapped.add_note(note)
    wrapped.__cause__ = error
    return wrapped
