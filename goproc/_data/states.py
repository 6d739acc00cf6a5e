"""``worker_state()``: what init= of a map has returned in this process, for the calls of that map."""

from __future__ import annotations

import threading
from typing import Any

from goproc._public import public
from goproc._sched import scheduler
from goproc._tracebacks import ends_at_user
from goproc.shm import _core

_states: dict[object, Any] = {}  # by goroutine, or by the number of a thread


def enter(here: object, state: Any) -> None:
    """A goroutine, or a thread by its number, begins to make calls of a map."""
    _states[here] = state


def leave(here: object) -> None:
    """The goroutine or thread makes no more calls of its map."""
    _states.pop(here, None)


@public
@ends_at_user
def worker_state() -> Any:
    """Return the result of the map's ``init`` in this process. For the function of the map and the functions it calls.

    Raises:
        RuntimeError: the caller is not called by a map that has init=.
    """
    here = scheduler.current if _core.on_scheduler_thread() else threading.get_ident()
    try:
        return _states[here]
    except KeyError:
        raise RuntimeError(
            "worker_state() is what init= of a pmap has returned: here runs no call of such a map"
        ) from None
