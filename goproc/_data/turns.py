"""The turns of maps in a process that makes calls for several.

A call of a map has its process to itself. While it runs, the process is reserved: it begins no goroutine but those that
the call itself has started there. Several maps in one process take turns, a chunk at a time.

A call that waits for others could wait for ever if these needed its process. So it lends the process: at once when it
waits for a map of its own, and after LEND_SECONDS when it waits in any other operation that only others can end. A call
that sleeps, or that runs in a thread, keeps its process.
"""

from __future__ import annotations

from collections import deque
from threading import get_ident
from time import monotonic

from goproc._sched import scheduler, waits
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._sched.g import G

LEND_SECONDS = 0.1
_KEEPS = ("sleep", "blocking call")  # reasons to wait for which a call keeps its process


class Turn:
    """The turn of one map in this process.

    Attributes:
        map: whose it is.
        goroutines: that make calls.
    """

    __slots__ = ("goroutines", "map")

    def __init__(self, map: object, g: G) -> None:
        self.map = map
        self.goroutines = {g}


_turn: Turn | None = None  # of the calls that run; None: there are none, or they have lent the process
_waiting: deque[G] = deque()
threads: set[int] = set()  # numbers of the threads in which calls run


def begin(map: object) -> Turn:
    """Wait until the running goroutine may make calls for a map, and reserve the process."""
    global _turn
    g = scheduler.current
    if _turn is not None and _turn.map is map:
        _turn.goroutines.add(g)
        return _turn
    while _turn is not None:
        _waiting.append(g)
        try:
            waits.pause("turn of a map")
        except BaseException:
            if g not in _waiting:  # the turn was given to this goroutine, which does not take it
                _give_to_next()
            raise
        finally:
            if g in _waiting:
                _waiting.remove(g)
    _turn = Turn(map, g)
    _core.reserve(True)
    scheduler.on_idle = _before_sleep
    return _turn


def end(turn: Turn) -> None:
    """The running goroutine makes no more calls in this turn."""
    turn.goroutines.discard(scheduler.current)
    if turn is _turn and not turn.goroutines:
        _give_up()


def _give_up() -> None:
    global _turn
    _turn = None
    _core.reserve(False)
    scheduler.on_idle = None
    _give_to_next()


def _give_to_next() -> None:
    if _turn is None and _waiting:
        waits.resume(_waiting.popleft())


def lend() -> None:
    """A call is about to wait for a map of its own: lend the process to it. From any thread."""
    if _turn is None:
        return
    if not _core.on_scheduler_thread():
        if get_ident() in threads:
            scheduler.post(_lend_now)
    elif scheduler.current in _turn.goroutines:
        _give_up()


def _lend_now() -> None:
    if _turn is not None:
        _give_up()


def _before_sleep(until: float | None) -> float | None:
    """The process is about to sleep while calls wait: lend it to others if they have waited long."""
    turn = _turn
    if turn is None or any(not g.parked or g.reason in _KEEPS for g in turn.goroutines):
        return until
    due = max((g.since for g in turn.goroutines), default=0.0) + LEND_SECONDS
    now = monotonic()
    if due > now:
        return due if until is None else min(due, until)
    _give_up()
    return now
