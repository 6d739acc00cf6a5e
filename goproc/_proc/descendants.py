"""Programs that goroutines of a worker have started: none of them outlives the program, except daemons.

A daemon is a process that was started to outlive its parent: it has a session of its own, or its parent has ended. (At
Ctrl-C a session of its own is no protection: shells and pools have one.)
"""

from __future__ import annotations

import os
import signal
import time

from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BY_THEMSELVES = 0.1  # seconds: most processes have got SIGINT from the terminal
_AT_SIGNAL = 0.4
_HELPERS = (b"resource_tracker", b"multiprocessing.forkserver")  # these end with the worker


class Process(Record):
    """A process, identified by its pid and the time of its start."""

    pid: int
    start: str


class _Entry(Record):
    parent: int
    state: str
    start: str
    session: int


def find(*pids: int, session: int | None = None) -> list[Process]:
    """Return the live descendants of processes, each of them before its own children.

    Args:
        pids: the ancestors.
        session: leave out processes of other sessions, and the descendants of those.
    """
    try:
        names = os.listdir("/proc")
    except OSError:  # no descriptor is left: the workers end all the same
        return []
    entries = {int(name): entry for name in names if name.isdigit() and (entry := _entry(name))}
    found: list[Process] = []
    parents = set(pids)
    while parents:
        children = {
            pid
            for pid, entry in entries.items()
            if entry.parent in parents and session in (None, entry.session)
        }
        found += [Process(pid, entries[pid].start) for pid in children if entries[pid].state not in "ZX"]
        parents = children - set(pids)
    return [process for process in found if not _is_helper(process.pid)]


def find_of_stopped(*pids: int, session: int | None = None) -> list[Process]:
    """Stop processes, so that they start no others, and return their descendants as find() does."""
    for pid in pids:
        _send(pid, signal.SIGSTOP)
    return find(*pids, session=session)


def any_child() -> bool:
    """Return True if this process has a child, alive or not waited for. Cost: one system call."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 if there is no such process."""
    entry = _entry(str(pid))
    return 0 if entry is None else entry.parent


def is_alive(pid: int) -> bool:
    """Return False if a process has ended, or has no thread but zombies."""
    entry = _entry(str(pid))
    return entry is not None and entry.state not in "ZX"


def end_interrupted(processes: list[Process]) -> None:
    """End processes because of Ctrl-C: by SIGINT, and by SIGKILL where they do not answer.

    A parent gets a signal before its children, so that it does not start its next child when one ends.
    """
    _wait(lambda: not any(map(_lives, processes)), _BY_THEMSELVES)
    for process in filter(_lives, processes):
        _send(process.pid, signal.SIGINT)
    _wait(lambda: not any(map(_lives, processes)), _AT_SIGNAL)
    kill(processes)


def end(processes: list[Process], session: int) -> None:
    """End processes, and their descendants in a session: by SIGTERM, and by SIGKILL where they do not answer."""
    stopped = _stop(processes, session)
    for process in stopped:
        _send(process.pid, signal.SIGTERM)
    for process in stopped:
        _send(process.pid, signal.SIGCONT)
    _wait(lambda: not any(map(_lives, stopped)), _AT_SIGNAL)
    kill(stopped, session)


def kill(processes: list[Process], session: int | None = None) -> None:
    """Kill processes and their descendants, in one session or in all."""
    for process in _stop(processes, session):
        _send(process.pid, signal.SIGKILL)


def _stop(processes: list[Process], session: int | None) -> list[Process]:
    """Stop the processes that still live and the ones that they have started meanwhile; return all of them."""
    stopped: list[Process] = []
    new = list(filter(_lives, processes))
    while new:
        for process in new:
            _send(process.pid, signal.SIGSTOP)
        stopped += new
        found = find(*[process.pid for process in new], session=session)
        new = [process for process in found if process not in stopped]
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
        return _Entry(int(fields[1]), fields[0], fields[19], int(fields[3]))
    except (OSError, ValueError, IndexError):  # the process has ended
        return None


def _is_helper(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
    except OSError:
        return False
    return any(name in words for name in _HELPERS)
