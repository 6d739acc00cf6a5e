"""Garbage that holds shared memory: objects that refer to each other wait for Python's collector, which counts objects.

The collector knows nothing of the size of the arrays that they hold. So before an operation raises OutOfSharedMemory, each
process collects its garbage.
"""

from __future__ import annotations

import gc
from time import monotonic
from time import sleep as _thread_sleep

from goproc.shm import _core

_ATTEMPTS = 100
_PAUSE = 0.002  # seconds between attempts, in which the other processes look
_REST = 1.0  # seconds without a search after one that found nothing

_answered = 0  # the latest request of another process that this one has seen
_rested = 0.0
_searching = False


def search(attempt: int) -> bool:
    """Look for garbage in this process, then have the others do so. Called by the core, whose heap is full.

    Args:
        attempt: 0 for the first time, 1 for the second.

    Returns:
        True if the core is to try again.
    """
    global _rested, _searching
    if attempt == 0:
        if _searching or monotonic() < _rested:
            return False
        _searching = True  # by finalizers
        try:
            gc.collect()
        finally:
            _searching = False
        return True
    if attempt == 1:
        _tell()
    if attempt > _ATTEMPTS:
        _rested = monotonic() + _REST
        return False
    _thread_sleep(_PAUSE)
    return True


def _tell() -> None:
    global _answered
    _answered = _core.full(True)


def answer() -> None:
    """Look for garbage if another process has found the memory full since the last time."""
    global _answered
    request = _core.full(False)
    if request != _answered:
        _answered = request
        gc.collect()
