"""The threads of a notebook's kernel, which serve the kernel and wake no goroutine while a cell waits.

A kernel has a thread for each of its sockets, one that looks whether its parent lives, and one that saves the history. They
poll, so each looks like a thread that could wake a goroutine. The report of a deadlock in a cell would never come.
"""

from __future__ import annotations

import sys
import threading

from goproc.shm import _core

_PACKAGES = frozenset({"ipykernel", "IPython"})
_ignored: list[int] = []


def ignore_kernel() -> bool:
    """Have the search for deadlocks ignore the threads of the kernel. Return False if others than before are ignored now."""
    if "ipykernel" not in sys.modules:
        return True
    before = _ignored[:]
    _ignored[:] = sorted(thread.native_id or 0 for thread in threading.enumerate() if _is_of_kernel(thread))
    if _ignored == before:
        return True
    _core.ignore_threads(_ignored)
    return False


def forget() -> None:
    """The runtime has stopped: the next one starts with no thread ignored."""
    _ignored.clear()


def _is_of_kernel(thread: threading.Thread) -> bool:
    """Return True if the class of a thread, or the function that a plain thread runs, is one of the kernel's."""
    home = type(thread).__module__
    if home == "threading":
        home = getattr(getattr(thread, "_target", None), "__module__", None) or ""
    return home.partition(".")[0] in _PACKAGES
