"""The messages between the host and the stations of a map."""

from __future__ import annotations

from typing import Any, NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._channel import Chan
    from goproc.rate import Limiter
    from goproc.sync import Atomic

# Kinds of messages; the last three are of the host itself.
DONE, FAILED, UNREADABLE, PART, UNREAD, WAKE, BROKEN = range(7)
IN_INIT, IN_EXIT = -1, -2  # values of Way.running in the place of a count
ENDED, INIT_FAILED, EXIT_FAILED, RECYCLED, NOT_READ = range(5)  # how a station ended


class Job(NamedTuple):
    """The part of a map that its stations know.

    Attributes:
        f: the function of the map; None on the way to a station, as are init and exit: see sent.py.
        name: of the function, to the user.
        title: the name of the goroutines that make the calls.
        starred: items are tuples of arguments.
        results: where lanes send.
        init: called before the first item, or None.
        exit: called with the state at the end, or None.
        limit: asked before each call, or None.
        timeout: seconds for a call, or None.
        threads: calls at once, each in a thread; 0: in goroutines.
        recycle: items after which the station ends, or None.
        memory: bytes of the process beyond which the station ends, or None.
        named: items come with their names in a checkpoint, and their results are sent with them.
        parted: results are iterables, of which the values are sent as they come.
    """

    f: Any
    name: str
    title: str
    starred: bool
    results: Chan[Any]
    init: Callable[[], Any] | None
    exit: Callable[[Any], object] | None
    limit: Limiter | None
    timeout: float | None
    threads: int
    recycle: int | None
    memory: int | None
    named: bool = False
    parted: bool = False


class Way(NamedTuple):
    """The objects that a lane shares with the host.

    Attributes:
        number: of the lane.
        chunks: numbers of chunks, with their items, which may be in an envelope: see Chunk.message().
        running: the count of the item whose call runs, from 1; 0 if none does; IN_INIT, IN_EXIT: init() or exit() runs.
        began: when that call began, in microseconds of the monotonic clock.
        goroutine: the id of the goroutine that makes the calls.
        credit: has a value for each part of a result that may be sent; None if results are not sent in parts.
    """

    number: int
    chunks: Chan[tuple[int, Any]]
    running: Atomic
    began: Atomic
    goroutine: Atomic
    credit: Chan[None] | None = None


class Done(NamedTuple):
    """The next items of a lane are finished.

    Attributes:
        values: their results: Parts where one of them may be unreadable, see results.py.
        work: seconds in which they ran.
        wait: seconds in which the lane had no item.
        slowest: the position of the slowest in `values`; -1: it was sent before.
        seconds: that this one took.
    """

    kind: int
    lane: int
    values: list[Any]
    work: float
    wait: float
    slowest: int
    seconds: float


class Part(NamedTuple):
    """Values of the next item of a lane, which goes on: Parts where one of them may be unreadable.

    The host gives a credit back when they have been handed on.
    """

    kind: int
    lane: int
    values: list[Any]


class Failed(NamedTuple):
    """The next item of a lane has failed: `error` is its exception, packed."""

    kind: int
    lane: int
    error: tuple[Any, ...]
    seconds: float
    wait: float


class Unreadable(NamedTuple):
    """The next chunk of a lane cannot be read in its process: `error` is the exception, packed."""

    kind: int
    lane: int
    error: tuple[Any, ...]


class End(NamedTuple):
    """The end of a station, as its goroutine returns it."""

    how: int
    error: tuple[Any, ...] | None = None
