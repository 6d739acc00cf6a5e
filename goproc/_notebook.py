"""The threads of a notebook's kernel, which serve the kernel and wake no goroutine while a cell waits.

A kernel has a thread for each of its sockets, one that looks whether its parent lives, and one that saves the history. They
poll, so each looks like a thread that could wake a goroutine. The report of a deadlock in a cell would never come.
"""

from __future__ import annotations

import sys
import threading

from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PACKAGES = frozenset({"ipykernel", "IPython"})
_ignored: list[int] = []
_observed = False  # the end of the kernel is waited for


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


def end_quietly_with(quiet: Callable[[], object]) -> None:
    """Call a function when the kernel shuts down, which sends SIGTERM to all of its descendants before it ends."""
    global _observed
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is not None and "ipykernel" in sys.modules and not _observed:
        _observed = True
        shell.observe(lambda change: change["new"] and quiet(), "exit_now")
