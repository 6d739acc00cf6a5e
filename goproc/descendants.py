"""Programs that goroutines of a worker have started: none of them outlives a program that Ctrl-C has ended."""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BY_THEMSELVES = 0.1  # seconds: most have got SIGINT from the terminal
_AT_SIGINT = 0.4
_HELPERS = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")  # they end with the worker


class Process(NamedTuple):
    """A process, and its start: by both it is known again."""

    pid: int
    start: str


class _Entry(NamedTuple):
    parent: int
    state: str
    start: str


def find(*pids: int) -> list[Process]:
    """Return the processes that descend from some processes and have not ended, each one before its children."""
    entries = {int(name): entry for name in os.listdir("/proc") if name.isdigit() and (entry := _entry(name))}
    found: list[Process] = []
    parents = set(pids)
    while parents:
        children = {pid for pid, entry in entries.items() if entry.parent in parents}
        found += [Process(pid, entries[pid].start) for pid in children if entries[pid].state not in "ZX"]
        parents = children - set(pids)
    return [process for process in found if not _is_helper(process.pid)]


def find_of_stopped(pid: int) -> list[Process]:
    """Stop a process, so that it starts no others, and return those that descend from it."""
    _send(pid, signal.SIGSTOP)
    return find(pid)


def end(processes: list[Process]) -> None:
    """End processes, by SIGINT if that does it.

    A parent gets a signal before its children, so that it does not go on to the next one when a child ends.
    """
    _wait(lambda: not any(map(_lives, processes)), _BY_THEMSELVES)
    for process in filter(_lives, processes):
        _send(process.pid, signal.SIGINT)
    _wait(lambda: not any(map(_lives, processes)), _AT_SIGINT)
    for process in _stop(processes):
        _send(process.pid, signal.SIGKILL)


def _stop(processes: list[Process]) -> list[Process]:
    """Stop those that still live and what they have started meanwhile, and return all."""
    stopped: list[Process] = []
    new = list(filter(_lives, processes))
    while new:
        for process in new:
            _send(process.pid, signal.SIGSTOP)
        stopped += new
        new = [process for process in find(*[process.pid for process in new]) if process not in stopped]
    return stopped


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass


def _wait(until: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not until() and time.monotonic() < limit:
        time.sleep(0.005)


def _lives(process: Process) -> bool:
    entry = _entry(str(process.pid))
    return entry is not None and entry.start == process.start and entry.state not in "ZX"


def _entry(name: str) -> _Entry | None:
    try:
        with open(f"/proc/{name}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return _Entry(int(fields[1]), fields[0], fields[19])
    except (OSError, ValueError, IndexError):  # it has ended
        return None


def _is_helper(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
    except OSError:
        return False
    return any(name in words for name in _HELPERS)
