"""Garbage that holds shared memory: objects that refer to each other wait for Python's collector, which counts objects.

The collector knows nothing of the size of the arrays that they hold. So before an operation raises OutOfSharedMemory,
each process collects its garbage.
"""

from __future__ import annotations

import gc
from time import monotonic
from time import sleep as _thread_sleep

from goproc.shm import _core

_PAUSE = 0.002  # seconds between attempts, in which the other processes look
_PATIENCE = 0.5  # seconds that a process which computes, and does not look, is waited for
_LONGEST_REST = 1.0  # seconds

_answered = 0  # the latest request of another process for which this one has looked
_searching = False


class _Search:
    """A search of all processes, made for an operation that found the memory full.

    Attributes:
        began: time at which this process looked.
        request: number by which the other processes know the search; 0 until they are asked.
        complete: True if the other processes have looked, so that the next attempt is the last.
    """

    def __init__(self) -> None:
        self.began = monotonic()
        self.request = 0
        self.complete = False

    def ask(self) -> None:
        """Ask the other processes to look for garbage."""
        global _answered
        self.request = _answered = _core.full(True)

    def goes_on(self) -> bool:
        """Wait for the other processes. False if all have looked before the latest attempt, or the patience is over."""
        if self.complete:
            return False
        answer()  # to a process that searches at the same time
        _thread_sleep(_PAUSE)
        self.complete = _core.all_searched(self.request) or monotonic() - self.began > _PATIENCE
        return True


def _collect() -> None:
    global _searching
    _searching = True  # finalizers that run now, and find the memory full, begin no search
    try:
        gc.collect()
    finally:
        _searching = False


_search: _Search | None = None
_rested = 0.0  # no search begins before that time


def search(attempt: int) -> bool:
    """Look for garbage in this process, then have the others do so. Called by the core, whose heap is full.

    A search that finds nothing is followed by a rest of the same length. So operations that fail one after the other do
    not keep all processes busy with searches.

    Args:
        attempt: 0 for the first time, 1 for the second.

    Returns:
        True if the core is to try again.
    """
    global _search, _rested
    if attempt == 0:
        if _searching or monotonic() < _rested:
            return False
        _search = _Search()
        _collect()
        return True
    current = _search
    if current is None:  # the runtime has stopped
        return False
    if attempt == 1:
        current.ask()
    if current.goes_on():
        return True
    now = monotonic()
    _rested = now + min(now - current.began, _LONGEST_REST)
    return False


def forget() -> None:
    """Forget the rest after a search, as the runtime stops."""
    global _search, _answered, _rested
    _search, _answered, _rested = None, 0, 0.0


def answer() -> None:
    """Look for garbage if another process has found the memory full since the last time."""
    global _answered
    request = _core.full(False)
    if request != _answered:
        _answered = request
        _collect()
        _core.searched(request)
