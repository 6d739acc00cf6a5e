"""The time that processes have waited for a CPU. On a busy machine a limit of some seconds must not count it.

The kernel adds a wait to a thread's figure when the thread gets its CPU. So a thread that waits right now is found by
its state and by figures that stand still.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

_LOOK = 0.1
PAUSE = 0.2  # between two looks: the waits of a process that comes and goes in between are lost


class Thread(NamedTuple):
    ran: int  # ns on a CPU
    waited: int  # ns ready to run, without a CPU
    ready: bool  # on a CPU or about to be


def with_children(pids: Iterable[int]) -> set[int]:
    """Return the processes and their descendants: one that is about to end has no environment to be known by any more."""
    found, todo = set(), list(pids)
    while todo:
        pid = todo.pop()
        if pid in found:
            continue
        found.add(pid)
        try:
            for tid in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{tid}/children") as file:
                    todo += map(int, file.read().split())
        except OSError:  # it has ended, or the kernel does not list them
            pass
    return found


def threads(pids: Iterable[int]) -> dict[str, Thread]:
    """Return the threads of the processes and of their descendants, by the folders in which /proc has them."""
    found = {}
    for pid in with_children(pids):
        try:
            folders = [f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]
        except OSError:  # it has ended
            continue
        for folder in folders:
            try:
                with open(f"{folder}/schedstat") as file:
                    ran, waited, _ = map(int, file.read().split())
                with open(f"{folder}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
            except (OSError, ValueError):  # the thread has ended, or the kernel does not count
                continue
            found[folder] = Thread(ran, waited, state == "R")
    return found


class Patience:
    """A limit in which the time without a CPU does not count.

    Args:
        pids: returns the processes that are waited for.
        seconds: the limit.
        longest: the limit in which all time counts.
    """

    def __init__(self, pids: Callable[[], Iterable[int]], seconds: float, longest: float) -> None:
        self._pids = pids
        self._seconds = seconds
        self._longest = max(seconds, longest)
        self._begun = time.monotonic()
        self._last: dict[str, Thread] | None = None
        self._waited = 0  # ns

    def is_over(self) -> bool:
        """Return True if the limit has passed. To be called again and again: each call looks at the processes."""
        self._look()
        passed = time.monotonic() - self._begun
        if passed >= self._longest:
            return True
        return passed - self._waited / 1e9 >= self._seconds and not self._one_waits_now()

    def _look(self) -> None:
        now = threads(self._pids())
        if self._last is not None:
            for folder, thread in now.items():
                before = self._last.get(folder)
                self._waited += thread.waited - (before.waited if before else 0)
        self._last = now

    def _one_waits_now(self) -> bool:
        before = self._last or {}
        time.sleep(_LOOK)
        self._look()
        now = self._last or {}
        return any(thread.ready and before.get(folder) == thread for folder, thread in now.items())
